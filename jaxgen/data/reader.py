"""What all sources share: columns of examples, how they are read, and split expressions:
`train[:5000]`, `train[90%:]`, `a+b`.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from jaxgen.errors import InputError

# Examples by column: "image" uint8 [N, H, W, C] or "point" float32 [N, D], which is what a model
# learns; "label" int [N]; "text", strings [N]; and whatever else a source has.
Columns = dict[str, np.ndarray]
SPACES = {"image": "pixels", "point": "points"}  # by the column that is modelled
_CHUNK, _THREADS = 1024, 16


class Asked(NamedTuple):
    """What the caller of `open_records` wants, beside the source's name; see there."""

    data_dir: str | None = None
    shape: tuple[int, ...] | None = None
    resize: str = "none"


class Reader(NamedTuple):
    """An opened source, whose examples are decoded when they are asked for, in any order. It can be
    pickled.

    Attributes:
      sizes: the number of examples of each base split.
      read: (base split, int [N], names of columns) -> those of the columns that the split has, for
        the examples at these indices. It decodes no image where "image" is not among the names.
      columns: the names of all columns.
      num_classes: 0 without labels.
      notices: lines on what the source holds and was not read.
    """

    sizes: Mapping[str, int]
    read: Callable[[str, np.ndarray, Sequence[str]], Columns]
    columns: tuple[str, ...]
    num_classes: int = 0
    notices: tuple[str, ...] = ()


def in_memory(splits: Mapping[str, Columns], num_classes: int = 0) -> Reader:
    """A reader of columns that are in memory: {split: columns}."""
    sizes = {name: len(modelled(columns)) for name, columns in splits.items()}
    names = dict.fromkeys(name for columns in splits.values() for name in columns)
    return Reader(sizes, partial(_take_columns, dict(splits)), tuple(names), num_classes)


def _take_columns(splits, split: str, indices: np.ndarray, names: Sequence[str]) -> Columns:
    return {name: take(splits[split][name], indices) for name in names if name in splits[split]}


def modelled(columns: Mapping[str, Any]) -> Any:
    """The column that a model learns."""
    return columns["point" if "point" in columns else "image"]


def take(array: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """These entries of an array, in memory; not copied where they are consecutive and it is there
    already.
    """
    if len(indices) and not isinstance(array, np.memmap) and (np.diff(indices) == 1).all():
        return array[indices[0] : indices[-1] + 1]
    return np.asarray(array[indices])


def in_chunks(decode: Callable[[slice], None], count: int) -> None:
    """Calls `decode` for slices that cover `range(count)`; with threads where that is many
    (decoders leave the lock of Python to others). A batch is one slice: in a pipeline, whoever asks
    for it has threads or processes of its own."""
    chunks = [slice(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
    if len(chunks) == 1:
        return decode(chunks[0])
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as threads:
        list(threads.map(decode, chunks))


_PART = re.compile(r"(?P<name>[^\[\]+]+)(?:\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?")


def parse_split(split: str, sizes: Mapping[str, int]) -> list[tuple[str, range]]:
    """The parts of a split expression as (base split, indices).

    A part is `name` or `name[start:stop]`; a bound counts examples or, with `%`, percent of them
    (rounded to the nearest example, so that `[:90%]` and `[90%:]` never overlap); a negative bound
    counts from the end. `+` joins.

    Raises: InputError: bad syntax, an unknown base split (the message offers those there are), a
      bound outside the split,
        or a part without examples.
    """
    return [_parse_part(part.strip(), sizes) for part in split.split("+")]


def _parse_part(part: str, sizes: Mapping[str, int]) -> tuple[str, range]:
    match = _PART.fullmatch(part)
    if match is None:
        raise InputError(
            f"split '{part}' cannot be read: write it like train[:5000], train[90%:] or "
            f"validation+test"
        )
    name = match["name"]
    if name not in sizes:
        raise InputError(f"there is no split '{name}': the splits are {', '.join(sizes) or 'none'}")
    count = sizes[name]
    start = _bound(match["start"] or "0", count, part)
    stop = _bound(match["stop"] or "100%", count, part)
    if start >= stop:
        raise InputError(f"split '{part}' is empty: '{name}' has {count} examples")
    return name, range(start, stop)


def _bound(text: str, count: int, part: str) -> int:
    value = int(text.rstrip("%"))
    if abs(value) > (100 if text.endswith("%") else count):
        raise InputError(f"split '{part}' goes beyond the {count} examples there are")
    if text.endswith("%"):
        value = (abs(value) * count + 50) // 100 * (-1 if value < 0 else 1)
    return value + count if text.startswith("-") else value
