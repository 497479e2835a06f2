"""One split of a source: `Records` read its examples when they are asked for, a `Table` holds them
in memory.
"""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Int32

from jaxgen.data.reader import SPACES, Columns, Reader, modelled
from jaxgen.errors import InputError

_SAMPLED = 256  # examples that a fingerprint looks at
_GLANCE = 8192  # labels that are read at a time in search of a class


def _numeric(columns: Columns) -> Columns:
    return {name: array for name, array in columns.items() if array.dtype.kind in "biuf"}


@dataclasses.dataclass(frozen=True)
class Table:
    """Examples in memory.

    Attributes:
      name: where they come from, e.g. "tfds:mnist train[:5000]".
      columns: "image" uint8 [N, H, W, C] or "point" float32 [N, D]; "label" int32 [N] in
        [0, num_classes); "text", strings [N]; and whatever else the source has. The last ones may
        be missing.
      num_classes: 0 without labels.
    """

    name: str
    columns: Columns
    num_classes: int = 0

    def __len__(self) -> int:
        return len(modelled(self.columns))

    def __getitem__(self, rows) -> "Table":
        """The examples of a slice or of an array of indices."""
        chosen = {name: array[rows] for name, array in self.columns.items()}
        return dataclasses.replace(self, columns=chosen)

    @property
    def arrays(self) -> Columns:
        """The columns of numbers, which batches are gathered from."""
        return _numeric(self.columns)

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W, C) of the images, or (D,) of the points."""
        return modelled(self.columns).shape[1:]

    @property
    def space(self) -> str:
        """What the model learns: "pixels" or "points"."""
        return _space(self.columns)

    @property
    def images(self) -> np.ndarray:
        """The column that the model learns: images, or points where there are none."""
        return modelled(self.columns)

    @property
    def labels(self) -> Int32[np.ndarray, " N"] | None:
        """The column of labels, or None."""
        return self.columns.get("label")

    @property
    def texts(self) -> tuple[str, ...] | None:
        """The column of texts, or None."""
        return tuple(self.columns["text"]) if "text" in self.columns else None


@dataclasses.dataclass(frozen=True)
class Records:
    """One split of a source, whose examples are read and decoded when they are asked for. It can be
    pickled.

    Attributes:
      name: where they come from, e.g. "tfds:mnist train[:5000]".
      num_classes: 0 without labels.
      notices: lines on what the source holds and was not read.
    """

    name: str
    num_classes: int
    notices: tuple[str, ...]
    _empty: Columns  # no example of each column: their shapes and types
    _reader: Reader
    _parts: tuple[tuple[str, range], ...]

    def __len__(self) -> int:
        return sum(len(indices) for _, indices in self._parts)

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W, C) of all images, or (D,) of all points."""
        return modelled(self._empty).shape[1:]

    @property
    def space(self) -> str:
        """What a model learns: "pixels" or "points"."""
        return _space(self._empty)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of all columns."""
        return tuple(self._empty)

    @property
    def labelled(self) -> bool:
        """Whether they have labels."""
        return self.num_classes > 0

    @property
    def nbytes(self) -> int:
        """The memory that all columns of numbers take."""
        like = _numeric(self._empty).values()
        return len(self) * sum(a.dtype.itemsize * int(np.prod(a.shape[1:])) for a in like)

    def __getitem__(self, index: int) -> Columns:
        """Example `index` of the columns of numbers: {"image": uint8 [H, W, C], ...}."""
        return {name: array[0] for name, array in self.batch(np.array([index])).items()}

    def batch(self, indices: Int[np.ndarray, " B"], names: Sequence[str] | None = None) -> Columns:
        """The examples at these indices by column: {"image": uint8 [B, H, W, C], "label": int32
        [B], ...}.

        names: the columns to read; None: those of numbers, all but texts.
        """
        return self._read(indices, tuple(_numeric(self._empty)) if names is None else names)

    def everything(self) -> Table:
        """All columns of all examples, in memory."""
        columns = self._read(np.arange(len(self)), tuple(self._empty))
        return Table(self.name, columns, self.num_classes)

    def fingerprint(self) -> str:
        """SHA-256 (hex) of what the data are: the number of examples, and the content of 256 of
        them, evenly spread, or of all if there are no more.

        Equal for equal examples in the same order, wherever and in whatever format they lie and
        however the split is written. It costs the reading of those examples, however many there
        are.
        """
        count = len(self)
        chosen = np.unique(np.linspace(0, count - 1, min(count, _SAMPLED)).round().astype(int))
        columns = self._read(chosen, tuple(self._empty))
        digest = hashlib.sha256(f"{count}".encode())
        for name in sorted(columns):
            array = columns[name]
            if array.dtype.kind in "OU":
                _add(digest, name, np.array([len(text) for text in array]))
                digest.update("".join(array).encode())
            else:
                _add(digest, name, array)
        return digest.hexdigest()

    def _read(self, indices: Int[np.ndarray, " B"], names: Sequence[str]) -> Columns:
        pieces, rows, first = [], [], 0
        for split, part in self._parts:
            chosen = np.flatnonzero((indices >= first) & (indices < first + len(part)))
            if len(chosen):
                pieces.append(self._reader.read(split, indices[chosen] - first + part.start, names))
                rows.append(chosen)
            first += len(part)
        columns = _join(pieces, np.concatenate(rows), names)
        if "label" in columns:
            labels = columns["label"]
            if labels.min() < 0 or labels.max() >= self.num_classes:
                raise InputError(
                    f"{self.name}: labels go from {labels.min()} to {labels.max()}, "
                    f"outside the {self.num_classes} classes from 0"
                )
            columns["label"] = labels.astype(np.int32)
        return columns


def _space(columns: Columns) -> str:
    return next(SPACES[name] for name in ("point", "image") if name in columns)


def _add(digest, name: str, array: np.ndarray) -> None:
    digest.update(f"{name}{array.dtype}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)


def _join(pieces: list[Columns], rows: Int[np.ndarray, " N"], names: Sequence[str]) -> Columns:
    """One set of columns, where entry i of the pieces one after the other goes to row rows[i]; a
    piece without texts has empty ones.
    """
    if len(pieces) == 1:
        return pieces[0]
    place = np.argsort(rows)
    sizes = [len(next(iter(piece.values()))) if piece else 0 for piece in pieces]
    return {
        name: np.concatenate(
            [piece.get(name, np.full(size, "", object)) for piece, size in zip(pieces, sizes)]
        )[place]
        for name in names
        if any(name in piece for piece in pieces)
    }


def fingerprint(source: Table) -> str:
    """SHA-256 (hex) of all columns of numbers with their shapes: equal for equal content, whatever
    its name.
    """
    digest = hashlib.sha256()
    for array in source.arrays.values():
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def classes_without_images(records: Records, num_classes: int | None = None) -> list[int]:
    """Which of `num_classes` classes (None: those of the records) no example has; [] without
    labels.

    Only labels are read, spread over the records, and no more than it takes to meet every class.
    """
    if not records.labelled:
        return []
    missing = set(range(num_classes or records.num_classes))
    stride = -(-len(records) // _GLANCE)
    for first in range(stride):
        indices = np.arange(first, len(records), stride)
        missing -= set(records.batch(indices, ("label",))["label"].tolist())
        if not missing:
            break
    return sorted(missing)


def check_classes(records: Records, num_classes: int) -> None:
    """Raises InputError where a model that is conditioned on `num_classes` classes would have to
    learn one that no example has, or does not know one that there is.
    """
    if not records.labelled:
        raise InputError(f"config.conditional needs labels, and {records.name} has none")
    missing = classes_without_images(records, max(num_classes, records.num_classes))
    used = sorted(set(range(max(num_classes, records.num_classes))) - set(missing))
    beyond = [label for label in used if label >= num_classes]
    missing = [label for label in missing if label < num_classes]
    if not missing and not beyond:
        return
    shown = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
    problem = f"no example has class {shown}" if missing else f"there is a class {beyond[0]}"
    if used == list(range(len(used))):
        remedy = f"set config.data.num_classes={len(used)}"
    else:
        remedy = (
            f"number the {len(used)} classes from 0 without gaps and set config.data.num_classes="
            f"{len(used)}"
        )
    raise InputError(
        f"{records.name}: its labels are {_ranges(used)}, but config.data.num_classes is "
        f"{num_classes}: {problem}; {remedy}, or config.conditional=False"
    )


def _ranges(numbers: Sequence[int]) -> str:
    """Sorted integers such as [1, 2, 3, 7] as "1 to 3, 7"."""
    starts = [i for i in range(len(numbers)) if not i or numbers[i] != numbers[i - 1] + 1]
    runs = [numbers[a:b] for a, b in zip(starts, [*starts[1:], len(numbers)])]
    shown = [f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    return ", ".join([*shown[:4], *(["..."] if len(shown) > 4 else [])])
