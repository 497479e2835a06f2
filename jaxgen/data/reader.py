"""What all sources share: their examples, how they are read, and split expressions: `train[:5000]`,
`train[90%:]`, `a+b`.
"""

import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from jaxgen.errors import InputError

_CHUNK, _THREADS = 1024, 16


class Examples(NamedTuple):
    """Decoded examples: images uint8 [N, H, W, C], labels int [N] or None, one text per image or
    None.
    """

    images: np.ndarray
    labels: np.ndarray | None = None
    texts: tuple[str, ...] | None = None


class Reader(NamedTuple):
    """An opened source whose images are decoded when they are asked for, in any order. It can be
    pickled.

    Attributes:
      sizes: the number of examples of each base split.
      read: (base split, int [N]) -> the examples at these indices.
      num_classes: 0 without labels.
    """

    sizes: Mapping[str, int]
    read: Callable[[str, np.ndarray], Examples]
    num_classes: int


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
