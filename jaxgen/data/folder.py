"""A folder of image files as a source, with labels and captions where it has them."""

import os
import posixpath
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from jaxgen.data import metadata, storage
from jaxgen.data.decode import check_shape, decode_all, shape_of
from jaxgen.data.reader import Asked, Columns, Reader, in_chunks
from jaxgen.data.storage import content, reachable
from jaxgen.errors import InputError

_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "val", "valid", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".avif", ".apng", ".dib", ".jp2"),
}
# What is no example, and need not be mentioned
_KNOWN = {*_SUFFIXES, ".md", ".rst", ".html", ".pdf", ".py", ".sh", ".log", ".yaml", ""}


class _Found(NamedTuple):
    """Images and metadata, {name from the root: path}, and what is not read."""

    images: dict[str, str]
    metadata: dict[str, str]
    notices: tuple[str, ...]


def open_folder(path: str, asked: Asked) -> Reader:
    """Opens a folder; images are decoded when read.

    The subfolders `train`, `validation` (or `val`, `valid`, `dev`) and `test` are the splits; when
    there is none of them, the folder is `train`. Images are found at any depth, also in linked
    folders but not in hidden ones, and sorted by path. Labels and texts come from

    - a `metadata.jsonl` (one object a line), `metadata.csv` or `labels.csv` in the folder, in a
      split's or deeper, with `file_name` relative to its place, and `label` and `text`, either of
      which may be missing. An image without a text has the empty one, but labels are for all
      images of a split or for none;
    - or, where no metadata names an image of the split, its class folders: every image lies in
      `<class>/`, and there are two of them or more.

    Labels that are strings are numbered in their sorted order over all splits. What was not read is
    said in `Reader.notices`.

    Args: path: the folder; may be gs:// or s3://. asked.shape: [H, W, C] that every image must
      have, or is resized to by `asked.resize`; its C decides the mode they are converted to (see
      `decode`). None: as the first image.

    Raises: InputError: a missing folder, a bad line of metadata (file:line), and on reading an
      image that cannot be decoded or has another size (named).
    """
    source = f"folder:{path}"
    check_shape(source, asked)
    with reachable(source):
        root = os.path.expanduser(path).rstrip("/") or "/"
        folders = storage.folders(root)
        if folders is None:
            raise InputError(f"{source}: there is no such folder")
        prefixes = _split_folders(source, folders)
        found = _find(root, prefixes)
        splits = {
            split: tuple(name for name in sorted(found.images) if name.startswith(prefix))
            for split, prefix in prefixes.items()
        }
        known, num_classes = _labels_and_texts(source, found, splits, prefixes)
    if not found.images:
        raise InputError(
            f"{source}: there is no image in it ({' '.join(sorted(_SUFFIXES))})"
            + "".join(f"; not read: {notice}" for notice in found.notices)
        )
    files = {split: tuple(found.images[n] for n in names) for split, names in splits.items()}
    first = next(file for split in files.values() for file in split)
    shape = tuple(asked.shape or shape_of(first, content(first)))
    names = dict.fromkeys(name for columns in known.values() for name in columns)
    return Reader(
        sizes={split: len(names) for split, names in files.items()},
        read=partial(_read, files, known, shape, asked.resize),
        columns=("image", *names),
        num_classes=num_classes,
        notices=(f"{source}: not read: {'; '.join(found.notices)}",) if found.notices else (),
    )


def _read(
    files: dict[str, tuple[str, ...]],
    known: dict[str, Columns],
    shape: tuple[int, ...],
    resize: str,
    split: str,
    indices: np.ndarray,
    names: Sequence[str],
) -> Columns:
    columns = {name: known[split][name][indices] for name in names if name in known[split]}
    if "image" not in names:
        return columns
    images = np.empty((len(indices), *shape), np.uint8)

    def fill(chunk: slice) -> None:
        chosen = [files[split][index] for index in indices[chunk]]
        images[chunk] = decode_all(map(content, chosen), chosen.__getitem__, shape, resize)

    in_chunks(fill, len(indices))
    return {"image": images, **columns}


def _split_folders(source: str, folders: Sequence[str]) -> dict[str, str]:
    """{split: how the names of its images begin}."""
    found: dict[str, str] = {}
    for name in sorted(name for name in folders if name.lower() in _SPLITS):
        split = _SPLITS[name.lower()]
        if split in found:
            raise InputError(
                f"{source}: {found[split]} and {name}/ are both the split {split}; keep one of them"
            )
        found[split] = f"{name}/"
    return {split: found[split] for split in _SPLITS.values() if split in found} or {"train": ""}


def _find(root: str, prefixes: dict[str, str]) -> _Found:
    """The images and metadata of the splits, and what is not read."""
    files: dict[str, str] = {}
    links: list[str] = []

    def enter(folder: str, prefix: str, skip: Sequence[str] = ()) -> dict[str, str]:
        found = storage.walk(folder, skip)
        links.extend(prefix + name for name in found.links)
        return {prefix + name: path for name, path in found.files.items()}

    for prefix in prefixes.values():
        files |= enter(os.path.join(root, prefix).rstrip("/"), prefix)
    notices = []
    if "" not in prefixes.values():
        others = enter(root, "", [prefix.rstrip("/") for prefix in prefixes.values()])
        beside = [name for name in others if _suffix(name) in _SUFFIXES]
        if beside:
            notices.append(
                f"{len(beside)} images beside the split folders {', '.join(prefixes.values())}, "
                f"such as {min(beside)}"
            )
        # metadata in the root may be about any split, metadata farther down is about its neighbours
        known = {*beside, *(name for name in others if _is_metadata(name) and "/" in name)}
        files |= {name: path for name, path in others.items() if name not in known}
    kinds = Counter(_suffix(name) for name in files if not _is_metadata(name))
    kinds = [f"{n} {kind}" for kind, n in kinds.most_common() if kind not in _KNOWN]
    if kinds:
        notices.append(", ".join([*kinds[:6], *(["..."] if len(kinds) > 6 else [])]))
    if links:
        notices.append(
            f"{', '.join(links[:3])} (links that lead nowhere, or to folders that are read anyway)"
        )
    return _Found(
        images={name: path for name, path in files.items() if _suffix(name) in _SUFFIXES},
        metadata={name: path for name, path in files.items() if _is_metadata(name)},
        notices=tuple(notices),
    )


def _is_metadata(name: str) -> bool:
    return posixpath.basename(name).lower() in metadata.NAMES


def _suffix(name: str) -> str:
    """What the name of a file ends with; of one like README, "" for "nothing to look at"."""
    suffix = posixpath.splitext(name)[1].lower()
    return suffix or ("" if posixpath.basename(name).isupper() else "without a suffix")


def _labels_and_texts(
    source: str, found: _Found, splits: dict[str, tuple[str, ...]], prefixes: dict[str, str]
) -> tuple[dict[str, Columns], int]:
    """({split: columns "label" and "text" where there are any}, number of classes)."""
    keys = {name: metadata.key(name) for name in found.images}
    rows: dict[str, dict[str, Any]] = {}
    for name in sorted(found.metadata):
        file = found.metadata[name]
        more = metadata.read(file, content(file), posixpath.dirname(name), set(keys.values()))
        metadata.merge(rows, more, file)
    labels: dict[str, list | None] = {}
    texts = {}
    for split, names in splits.items():
        described = [rows.get(keys[name], {}) for name in names]
        values = [row.get("label") for row in described]
        texts[split] = [row.get("text") for row in described]
        labels[split] = None if all(value is None for value in values) else values
        if labels[split] and None in values:
            raise InputError(
                f"{', '.join(sorted(found.metadata.values()))}: {names[values.index(None)]} has no "
                "label although other images do; label all images of a split or none"
            )
    folders = {
        split: [name.removeprefix(prefixes[split]).split("/") for name in names]
        for split, names in splits.items()
        if not any(keys[name] in rows for name in names)
    }
    classes = {
        split: [parts[0] for parts in names]
        for split, names in folders.items()
        if names and all(len(parts) == 2 for parts in names)
    }
    if len({name for names in classes.values() for name in names}) > 1:
        labels.update(classes)
    return metadata.columns(source, labels, texts)
