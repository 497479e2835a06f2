"""Sources of examples by name: `digits`, `folder:<path>`, `points:<name>` and others.

A source has a few base splits; a split expression (see `reader`) chooses among their examples, with
one grammar for all sources. `load` reads them into memory, `open_records` reads those that are
asked for; there is one path for both."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxgen.data.decode import RESIZES
from jaxgen.data.reader import SPACES, Asked, Reader, in_memory, modelled, parse_split
from jaxgen.data.records import Records, Table
from jaxgen.errors import InputError, lookup, nearest

# What follows the colon
_FORMS = {
    "digits": "",
    "synthetic": "",
    "folder": "<path>",
    "npz": "<path>",
    "tfds": "<name>",
    "hf": "<folder or name>",
    "points": "<name>",
    "stacked": "<source>",
}
# Functions of what follows the colon and of what is `Asked`, to a `Reader`
OPENERS: dict[str, Any] = {
    "digits": "jaxgen.data.builtin:open_digits",
    "synthetic": "jaxgen.data.builtin:open_synthetic",
    "folder": "jaxgen.data.folder:open_folder",
    "npz": "jaxgen.data.npz:open_npz",
    "tfds": "jaxgen.data.tfds:open_tfds",
    "hf": "jaxgen.data.hf:open_hf",
    "points": "jaxgen.data.points:open_points",
    "stacked": "jaxgen.data.builtin:open_stacked",
}


def open_records(
    source: str,
    split: str,
    *,
    data_dir: str | None = None,
    image_shape: tuple[int, ...] | None = None,
    resize: str = "none",
) -> Records:
    """Opens one split of a source for access to any of its examples; only one of them is read to
    see that it fits.

    Args: source: one of
        - `digits`: scikit-learn's 8x8 scans;
        - `folder:<path>`: image files (see `open_folder`);
        - `npz:<path>`: arrays (see `open_npz`);
        - `tfds:<name>`: prepared on disk; nothing is downloaded, TensorFlow is not needed;
        - `hf:<folder or name>`: by the library `datasets` (see `open_hf`);
        - `points:<name>`: points in the plane (see `points`);
        - `stacked:<source>`: three random grey images of a source as the colours of one, for
          counting modes;
        - `synthetic`: 4,096 images of noise with random labels in 10 classes, for timing;
        - `package.module:attribute`: a source from outside: a function without arguments, to
          {split: {column: array}} or a `Reader`, or either of them itself.
      split: such as `train`, `train[:5000]`, `train[90%:]` or `validation+test`.
      data_dir: where `tfds` keeps its data sets; None is its own default.
      image_shape: [H, W, C] that the images must have, or [D] of points; files are converted to its
        channels and `synthetic` needs it.
      resize: what happens to image files of another size: "none" (an error), "crop" or "squash";
        see `decode`.

    Raises: InputError: an unknown source or split, an empty split, missing or unreadable data,
      examples of another shape, labels out of range.
    """
    shape = None if image_shape is None else tuple(image_shape)
    reader = open_source(source, Asked(data_dir, shape, resize))
    try:
        parts = parse_split(split, reader.sizes)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    name = f"{source} {split}"
    firsts = [reader.read(base, np.array(indices[:1]), reader.columns) for base, indices in parts]
    shapes = sorted({modelled(first).shape[1:] for first in firsts})
    if len(shapes) > 1:
        raise InputError(f"{name}: the parts hold images of different shapes: {shapes}")
    columns = {column: array[:0] for first in firsts for column, array in first.items()}
    for column in columns:
        if column != "text" and not all(column in first for first in firsts):
            raise InputError(
                f"{name}: one part has {column}s and another has none; load them separately"
            )
    if shape is not None and shapes[0] != shape:
        what = "points" if "point" in columns else "images"
        note = "" if resize == "none" else "; config.data.resize works on image files alone"
        raise InputError(
            f"{name}: the {what} have shape {shapes[0]}, but image_shape is {shape}{note}"
        )
    num_classes = reader.num_classes if "label" in columns else 0
    if "label" in columns:
        columns["label"] = columns["label"].astype(np.int32)
    return Records(name, num_classes, reader.notices, columns, reader, tuple(parts))


def load(
    source: str,
    split: str,
    *,
    data_dir: str | None = None,
    image_shape: tuple[int, ...] | None = None,
    resize: str = "none",
) -> Table:
    """Reads one split of a source into memory.

    Args and raises: as `open_records`, whose `everything` it is.
    """
    return open_records(
        source, split, data_dir=data_dir, image_shape=image_shape, resize=resize
    ).everything()


def splits(source: str, data_dir: str | None = None) -> tuple[str, ...]:
    """The names of a source's base splits. Raises InputError as `load` does."""
    return tuple(open_source(source, Asked(data_dir)).sizes)


def open_source(source: str, asked: Asked) -> Reader:
    """The source of that name with all its splits, see `open_records`."""
    if asked.resize not in RESIZES:
        raise InputError(
            f"config.data.resize '{asked.resize}' is unknown: {nearest(asked.resize, RESIZES)}"
        )
    kind, _, where = source.partition(":")
    if kind in OPENERS and bool(where) == bool(_FORMS[kind]):
        return lookup(OPENERS, "data source", kind)(where, asked)
    if kind in OPENERS or not re.fullmatch(r"[^\W\d][\w.]*:[^\W\d][\w.]*", source):
        forms = [f"{kind}:{form}" if form else kind for kind, form in _FORMS.items()]
        raise InputError(
            f"unknown data source '{source}': write {', '.join(forms)} or package.module:attribute"
        )
    found = lookup({}, "data source", source)
    found = found() if callable(found) else found
    return found if isinstance(found, Reader) else _from_columns(source, found)


def _from_columns(source: str, splits: Any) -> Reader:
    """A source from outside that gave its columns."""
    if not isinstance(splits, Mapping) or not splits:
        raise InputError(f"{source}: expected {{split: {{column: array}}}}, got {type(splits)}")
    columns, num_classes = {}, 0
    for split, given in splits.items():
        if not isinstance(given, Mapping) or not set(SPACES) & set(given):
            raise InputError(f"{source}: split '{split}' has neither a column image nor point")
        arrays = columns[split] = {name: np.asarray(array) for name, array in given.items()}
        if len({len(array) for array in arrays.values()}) > 1:
            raise InputError(f"{source}: the columns of split '{split}' differ in length")
        kinds = {"image": (np.uint8, 4), "point": (np.float32, 2)}
        for name, (dtype, rank) in kinds.items():
            if name in arrays and (arrays[name].dtype, arrays[name].ndim) != (dtype, rank):
                raise InputError(
                    f"{source}: '{name}' of split '{split}' is {arrays[name].dtype} of shape "
                    f"{arrays[name].shape}, expected {np.dtype(dtype)} with {rank} axes"
                )
        if "label" in arrays:
            if arrays["label"].dtype.kind not in "iu" or arrays["label"].ndim != 1:
                raise InputError(f"{source}: 'label' of split '{split}' must be integers [N]")
            num_classes = max(num_classes, int(arrays["label"].max(initial=-1)) + 1)
    return in_memory(columns, num_classes)
