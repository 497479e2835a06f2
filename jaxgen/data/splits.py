"""Base splits and split expressions: `train`, `train[:5000]`, `train[90%:]`, `train[-100:]`, `validation+test`."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxgen.errors import InputError


class Examples(NamedTuple):
    """Decoded examples: images uint8 [N, H, W, C], labels int [N] or None, one text per image or None."""

    images: np.ndarray
    labels: np.ndarray | None = None
    texts: tuple[str, ...] | None = None


class Reader(NamedTuple):
    """An opened source whose images are not decoded yet.

    Attributes:
      splits: the names of the base splits.
      size: the number of examples of a base split.
      read: decodes the examples of a base split at the given indices.
      num_classes: 0 without labels.
    """

    splits: tuple[str, ...]
    size: Callable[[str], int]
    read: Callable[[str, range], Examples]
    num_classes: int


_PART = re.compile(r"(?P<name>[^\[\]+]+)(?:\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?")


def parse_split(split: str, names: Sequence[str], size: Callable[[str], int]) -> list[tuple[str, range]]:
    """The parts of a split expression as (base split, indices).

    A part is `name` or `name[start:stop]`; a bound counts examples or, with `%`, percent of them (rounded to the
    nearest example, so that `[:90%]` and `[90%:]` never overlap); a negative bound counts from the end. `+` joins.

    Raises:
      InputError: bad syntax, an unknown base split (the message offers those there are), a bound outside the split,
        or a part without examples.
    """
    return [_parse_part(part.strip(), names, size) for part in split.split("+")]


def _parse_part(part: str, names: Sequence[str], size: Callable[[str], int]) -> tuple[str, range]:
    match = _PART.fullmatch(part)
    if match is None:
        raise InputError(f"split '{part}' cannot be read: write it like train[:5000], train[90%:] or validation+test")
    name = match["name"]
    if name not in names:
        raise InputError(f"there is no split '{name}': the splits are {', '.join(names) or 'none'}")
    count = size(name)
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
