"""A data set of the Hugging Face library `datasets` as a source."""

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxgen import files
from jaxgen.data.decode import check_shape, decode_all, shape_of
from jaxgen.data.reader import Asked, Columns, Reader, in_chunks
from jaxgen.data.storage import reachable
from jaxgen.errors import InputError

# What each column is called in the wild, in order of preference
_NAMES = {
    "image": ("image", "img", "png", "jpg", "jpeg", "webp"),
    "label": ("label", "labels", "fine_label", "class", "cls"),
    "text": ("text", "caption", "prompt", "txt"),
}


def open_hf(where: str, asked: Asked) -> Reader:
    """Opens a data set by `datasets`; images are decoded when read, by the decoder of folders.

    Args:
      where: a folder, of Parquet files or as `save_to_disk` wrote it; or the name of a data set of
        the Hub, which that library downloads once.
      asked: the shape that every image must have or is resized to; None: as the first image.

    The column `image` (or `img`, ...) holds encoded images; `label` classes, integers from 0 or
    strings, which are numbered in sorted order over all splits; `text` or `caption` the texts.

    Raises: InputError: a missing package, no such data set, no column of images; and on reading, an
      image that cannot be decoded or has another size.
    """
    source = f"hf:{where}"
    check_shape(source, asked)
    splits = _load(source, where)
    features = next(iter(splits.values())).features
    used = {
        column: next(name for name in names if name in features)
        for column, names in _NAMES.items()
        if any(name in features for name in names)
    }
    if "image" not in used:
        raise InputError(
            f"{source}: has no column of images ({', '.join(_NAMES['image'])}), only "
            f"{', '.join(features)}"
        )
    import datasets

    with reachable(source):
        encoded = datasets.Image(decode=False)
        splits = {name: part.cast_column(used["image"], encoded) for name, part in splits.items()}
        numbers, num_classes = _classes(splits, used.get("label"))
        filled = [name for name, part in splits.items() if len(part)]
        if not filled:
            raise InputError(f"{source}: there is no example in it")
        name = f"{source}: example 0 of '{filled[0]}'"
        first = _content(name, splits[filled[0]][0][used["image"]])
    if not num_classes:
        used.pop("label", None)
    shape = tuple(asked.shape or shape_of(name, first))
    read = partial(_read, source, splits, used, numbers, shape, asked.resize)
    return Reader(
        {name: len(part) for name, part in splits.items()}, read, tuple(used), num_classes
    )


def _read(
    source: str,
    splits: dict[str, Any],
    used: dict[str, str],
    numbers: dict[str, int],
    shape: tuple[int, ...],
    resize: str,
    split: str,
    indices: np.ndarray,
    names: Sequence[str],
) -> Columns:
    wanted = {column: name for column, name in used.items() if column in names}
    with reachable(source):
        rows = splits[split].select_columns(list(wanted.values()))[indices.tolist()]
    columns = {}
    if "image" in wanted:
        images = columns["image"] = np.empty((len(indices), *shape), np.uint8)

        def name(row: int) -> str:
            return f"{source}: example {indices[row]} of '{split}'"

        def fill(chunk: slice) -> None:
            cells = rows[used["image"]][chunk]
            encoded = (_content(name(chunk.start + i), cell) for i, cell in enumerate(cells))
            images[chunk] = decode_all(encoded, lambda i: name(chunk.start + i), shape, resize)

        in_chunks(fill, len(indices))
    if "label" in wanted:
        labels = [numbers.get(label, label) for label in rows[used["label"]]]
        if None in labels:
            where = indices[labels.index(None)]
            raise InputError(f"{source}: example {where} of '{split}' has no label")
        columns["label"] = np.array(labels)
    if "text" in wanted:
        columns["text"] = np.array([str(text or "") for text in rows[used["text"]]], object)
    return columns


def _content(name: str, cell: Any) -> bytes:
    """The encoded image of a cell."""
    if not cell or not (cell["bytes"] or cell["path"]):
        raise InputError(f"{name} has no image")
    if cell["bytes"]:
        return cell["bytes"]
    try:
        with open(cell["path"], "rb") as stream:
            return stream.read()
    except OSError as error:
        raise InputError(f"{name} is the file {cell['path']}, which cannot be read") from error


def _classes(splits: dict[str, Any], column: str | None) -> tuple[dict[str, int], int]:
    """(the numbers of labels that are strings, how many classes there are); 0 without labels."""
    if column is None:
        return {}, 0
    feature = next(iter(splits.values())).features[column]
    if hasattr(feature, "num_classes"):
        return {}, feature.num_classes
    if not str(getattr(feature, "dtype", "")).startswith(("int", "uint", "string", "large_string")):
        return {}, 0
    used = {label for part in splits.values() for label in part.unique(column)} - {None}
    if any(isinstance(label, str) for label in used):
        return {label: i for i, label in enumerate(sorted(used))}, len(used)
    return {}, max(used, default=-1) + 1


def _load(source: str, where: str) -> dict[str, Any]:
    """The splits of a data set, none of whose examples is read yet."""
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f"{source}: needs the package datasets: pip install 'jaxgen[hf]'"
        ) from error
    folder = os.path.expanduser(where)
    if files.is_remote(where):
        raise InputError(
            f"{source}: hf reads names and folders of this machine; for images in a bucket take "
            f"folder:{where}"
        )
    if not os.path.isdir(folder) and where.startswith(("/", ".", "~")):
        raise InputError(f"{source}: there is no such folder")
    hidden = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with reachable(source):
            if {"dataset_dict.json", "state.json"} & set(_listed(folder)):
                loaded = datasets.load_from_disk(folder)
            else:
                loaded = datasets.load_dataset(folder if os.path.isdir(folder) else where)
    finally:
        if not hidden:
            datasets.enable_progress_bars()
    return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}


def _listed(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []
