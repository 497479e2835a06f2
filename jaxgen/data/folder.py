"""A folder of image files, with optional labels and captions in a `metadata.jsonl`, as a source."""

import io
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.data.png import decode_plain
from jaxgen.data.reader import Examples, Reader, in_chunks
from jaxgen.errors import InputError
from jaxgen.files import fetched

_SPLITS = ("train", "validation", "test")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class _Listing(NamedTuple):
    """One split: its image files in sorted order and, where the metadata has them, their labels and
    texts.
    """

    files: tuple[str, ...]
    labels: tuple[int | str, ...] | None
    texts: tuple[str, ...] | None


def open_folder(path: str, image_shape: Sequence[int] | None) -> Reader:
    """Opens a folder; images are decoded when read.

    The subfolders `train`, `validation` and `test` are the splits; when there is none of them, the
    folder is `train`. Files are found at any depth and sorted by path. A `metadata.jsonl` in a
    split's folder has one object a line with `file_name` (relative to that folder) and optionally
    `text` and `label`. String labels are numbered in their sorted order over all splits; an image
    without a text has the empty one, but labels are for all images or for none.

    Args: path: the folder. image_shape: [H, W, C] that every image must have; C = 1, 3 or 4 also
      decides the mode they are converted to
        (transparency is composited on white unless C = 4). None: as the first image.

    Raises: InputError: a missing folder, a bad line of metadata (file:line), and on reading an
      image that cannot be decoded
        or has another size (named).
    """
    root = Path(fetched(path))
    if not root.is_dir():
        raise InputError(f"folder:{path}: there is no such folder")
    folders = {name: root / name for name in _SPLITS if (root / name).is_dir()} or {"train": root}
    listings = {name: _list(folder) for name, folder in folders.items()}
    files = [file for listing in listings.values() for file in listing.files]
    if not files:
        raise InputError(f"folder:{path}: there is no image in it ({' '.join(_SUFFIXES)})")
    height, width, channels = image_shape or _shape_of(files[0])
    if channels not in _MODES:
        raise InputError(
            f"folder:{path}: images have 1, 3 or 4 channels, not {channels} (image_shape)"
        )
    numbers = _class_numbers(listings, path)

    sizes = {name: len(listing.files) for name, listing in listings.items()}
    read = partial(_read, listings, numbers, (height, width, channels))
    return Reader(sizes, read, max(numbers.values(), default=-1) + 1)


def _read(
    listings: dict[str, _Listing],
    numbers: dict[int | str, int],
    shape,
    name: str,
    indices: np.ndarray,
) -> Examples:
    listing = listings[name]
    images = np.empty((len(indices), *shape), np.uint8)

    def decode(chunk: slice) -> None:
        for row in range(chunk.start, chunk.stop):
            images[row] = _decode(listing.files[indices[row]], *shape)

    in_chunks(decode, len(indices))
    labels = listing.labels and np.array([numbers[listing.labels[index]] for index in indices])
    texts = listing.texts and tuple(listing.texts[index] for index in indices)
    return Examples(images, labels, texts)


def _list(folder: Path) -> _Listing:
    files = (
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in _SUFFIXES and not file.name.startswith(".")
    )
    paths = {file.relative_to(folder).as_posix(): file for file in files}
    names = sorted(paths)
    rows = _metadata(folder / "metadata.jsonl", paths)
    labels = [rows.get(name, {}).get("label") for name in names]
    texts = [rows.get(name, {}).get("text") for name in names]
    labelled = any(label is not None for label in labels)
    if labelled and None in labels:
        raise InputError(
            f"{folder / 'metadata.jsonl'}: {names[labels.index(None)]} has no label although other "
            f"images do; "
            "label all images of a split or none"
        )
    return _Listing(
        files=tuple(str(paths[name]) for name in names),
        labels=tuple(labels) if labelled else None,
        texts=tuple(text or "" for text in texts)
        if any(text is not None for text in texts)
        else None,
    )


def _metadata(file: Path, images: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """The lines of a metadata file by image; empty when the file does not exist."""
    if not file.exists():
        return {}
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: is not UTF-8 text ({error})") from error
    rows = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            problem = _row_problem(row, images, rows)
        except json.JSONDecodeError as error:
            problem = f"is not JSON ({error})"
        if problem:
            raise InputError(f"{file}:{number}: {problem}")
        rows[row["file_name"]] = row
    return rows


def _row_problem(row: Any, images: dict[str, Path], rows: dict[str, Any]) -> str | None:
    if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
        return 'expected an object like {"file_name": "a.png", "text": "...", "label": 0}'
    name, label = row["file_name"], row.get("label")
    if name not in images:
        return f"names '{name}', but there is no such image in {' '.join(_SUFFIXES)}"
    if name in rows:
        return f"names '{name}' a second time"
    if not isinstance(row.get("text", ""), str | None):
        return f"the text of '{name}' must be a string"
    if (
        isinstance(label, bool)
        or not isinstance(label, str | int | None)
        or (isinstance(label, int) and label < 0)
    ):
        return (
            f"the label of '{name}' must be a string or an integer from 0, got {json.dumps(label)}"
        )
    return None


def _class_numbers(listings: dict[str, _Listing], path: str) -> dict[int | str, int]:
    """Class numbers by label: integers are their own, strings are counted in sorted order over all
    splits.
    """
    labels = {label for listing in listings.values() for label in listing.labels or ()}
    if len({type(label) for label in labels}) > 1:
        raise InputError(
            f"folder:{path}: labels must be all strings or all integers in all metadata.jsonl"
        )
    if any(isinstance(label, str) for label in labels):
        return {label: number for number, label in enumerate(sorted(labels))}
    return {label: label for label in labels}


def _open(file: str, data: bytes | None = None):
    """The decoded image, upright, of a file or of what is in it."""
    from PIL import Image, ImageOps

    try:
        with Image.open(file if data is None else io.BytesIO(data)) as image:
            return ImageOps.exif_transpose(image)
    except Exception as error:  # a decoder fed with broken bytes raises many kinds of errors
        raise InputError(
            f"{file}: cannot be read as an image ({error}); repair or remove it"
        ) from error


def _shape_of(file: str) -> tuple[int, int, int]:
    image = _open(file)
    if image.has_transparency_data:
        channels = 4
    else:
        channels = 1 if image.mode in ("1", "L") else 3
    return image.height, image.width, channels


def _decode(file: str, height: int, width: int, channels: int) -> np.ndarray:
    from PIL import Image

    try:
        data = Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from error
    pixels = decode_plain(data, (height, width, channels))
    if pixels is not None:
        return np.frombuffer(pixels, np.uint8).reshape(height, width, channels)
    image = _open(file, data)
    if image.mode.startswith(("I", "F")):
        raise InputError(
            f"{file}: has more than 8 bits a channel (mode {image.mode}); convert it to 8 bits"
        )
    if (image.height, image.width) != (height, width):
        raise InputError(
            f"{file}: is {image.height}x{image.width} (height x width), expected {height}x{width}"
        )
    if image.has_transparency_data and channels != 4:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert(_MODES[channels])).reshape(height, width, channels)
