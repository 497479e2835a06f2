"""Sources of images by name: `digits`, `tfds:<name>`, `folder:<path>`, `npz:<path>`,
`stacked:<source>` and `synthetic`.

A source has a few base splits; a split expression (see `reader`) chooses among their examples, with
one grammar for all sources. `load` reads them into memory, `open_records` reads those that are
asked for; there is one path for both."""

import dataclasses
import hashlib
import math
import zlib
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32, UInt8

from jaxgen.data.folder import open_folder
from jaxgen.data.npz import open_npz
from jaxgen.data.reader import Examples, Reader, parse_split, take
from jaxgen.data.tfds import open_tfds
from jaxgen.errors import InputError

_FORMS = "digits, synthetic, tfds:<name>, folder:<path>, npz:<path> or stacked:<source>"
_SYNTHETIC_SIZE, _SYNTHETIC_CLASSES, _SYNTHETIC_STRIDE = 4096, 10, 61
_STACKED_SIZE = 25_600


class Source(NamedTuple):
    """Examples in memory.

    Attributes:
      name: where they come from, e.g. "tfds:mnist train[:5000]".
      images: uint8 [N, H, W, C].
      labels: int32 [N] in [0, num_classes), or None.
      texts: a caption for each image, or None.
      num_classes: 0 without labels.
    """

    name: str
    images: UInt8[np.ndarray, "N H W C"]
    labels: Int32[np.ndarray, " N"] | None
    texts: tuple[str, ...] | None
    num_classes: int

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What batches are gathered from: {"image", "label" if there are labels}."""
        return (
            {"image": self.images}
            if self.labels is None
            else {"image": self.images, "label": self.labels}
        )


@dataclasses.dataclass(frozen=True)
class Records:
    """One split of a source, whose examples are read and decoded when they are asked for. It can be
    pickled.

    Attributes:
      name: where they come from, e.g. "tfds:mnist train[:5000]".
      image_shape: (H, W, C) of all images.
      num_classes: 0 without labels.
    """

    name: str
    image_shape: tuple[int, int, int]
    num_classes: int
    _reader: Reader
    _parts: tuple[tuple[str, range], ...]

    def __len__(self) -> int:
        return sum(len(indices) for _, indices in self._parts)

    @property
    def labelled(self) -> bool:
        """Whether they have labels."""
        return self.num_classes > 0

    @property
    def nbytes(self) -> int:
        """The memory that all images take."""
        return len(self) * math.prod(self.image_shape)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Example `index` as {"image": uint8 [H, W, C], "label": int32 if there are labels}."""
        return {name: array[0] for name, array in self.batch(np.array([index])).items()}

    def batch(self, indices: Int[np.ndarray, " B"]) -> dict[str, np.ndarray]:
        """The examples at these indices as {"image": uint8 [B, H, W, C], "label": int32 [B] if
        there are labels}.
        """
        images, labels, _ = self._read(indices)
        return {"image": images} if labels is None else {"image": images, "label": labels}

    def everything(self) -> Source:
        """All examples, in memory."""
        images, labels, texts = self._read(np.arange(len(self)))
        return Source(self.name, images, labels, texts, self.num_classes)

    def _read(self, indices: Int[np.ndarray, " B"]) -> Examples:
        pieces, rows, first = [], [], 0
        for name, part in self._parts:
            chosen = np.flatnonzero((indices >= first) & (indices < first + len(part)))
            if len(chosen):
                pieces.append(self._reader.read(name, indices[chosen] - first + part.start))
                rows.append(chosen)
            first += len(part)
        examples = _join(pieces, np.concatenate(rows))
        labels = examples.labels
        if labels is not None:
            labels = labels.astype(np.int32)
            if labels.min() < 0 or labels.max() >= self.num_classes:
                raise InputError(
                    f"{self.name}: labels go from {labels.min()} to {labels.max()}, "
                    f"outside the {self.num_classes} classes from 0"
                )
        return examples._replace(labels=labels)


def open_records(
    source: str,
    split: str,
    *,
    data_dir: str | None = None,
    image_shape: tuple[int, int, int] | None = None,
) -> Records:
    """Opens one split of a source for access to any of its examples; only one of them is read to
    see that it fits.

    Args: source: `digits` (scikit-learn's 8x8 scans), `tfds:<name>` (prepared on disk; nothing is
      downloaded and TensorFlow
        is not needed), `folder:<path>` (see `open_folder`), `npz:<path>` (see `open_npz`),
        `stacked:<source>` (three random grey images of a source as the colours of one, for counting
        modes), or `synthetic` (4,096 images of noise with random labels in 10 classes, which cost
        no more than copying them: they time the computation without the input).
      split: such as `train`, `train[:5000]`, `train[90%:]` or `validation+test`.
      data_dir: where `tfds` keeps its data sets; None is its own default.
      image_shape: [H, W, C] that the images must have; `folder` converts to its channels and
      `synthetic` needs it.

    Raises: InputError: an unknown source or split, an empty split, missing or unreadable data,
      images of another shape,
        labels out of range.
    """
    reader = _open(source, data_dir, image_shape)
    try:
        parts = parse_split(split, reader.sizes)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    name = f"{source} {split}"
    firsts = [reader.read(base, np.array(indices[:1])) for base, indices in parts]
    shapes = sorted({first.images.shape[1:] for first in firsts})
    if len(shapes) > 1:
        raise InputError(f"{name}: the parts hold images of different shapes: {shapes}")
    if len({first.labels is None for first in firsts}) > 1:
        raise InputError(f"{name}: one part has labels and another has none; load them separately")
    if image_shape is not None and shapes[0] != tuple(image_shape):
        raise InputError(
            f"{name}: the images have shape {shapes[0]}, but image_shape is {tuple(image_shape)}"
        )
    num_classes = 0 if firsts[0].labels is None else reader.num_classes
    return Records(name, shapes[0], num_classes, reader, tuple(parts))


def load(
    source: str,
    split: str,
    *,
    data_dir: str | None = None,
    image_shape: tuple[int, int, int] | None = None,
) -> Source:
    """Reads one split of a source into memory.

    Args and raises: as `open_records`, whose `everything` it is.
    """
    return open_records(source, split, data_dir=data_dir, image_shape=image_shape).everything()


def splits(source: str, data_dir: str | None = None) -> tuple[str, ...]:
    """The names of a source's base splits. Raises InputError as `load` does."""
    return tuple(_open(source, data_dir, None).sizes)


def fingerprint(source: Source) -> str:
    """SHA-256 (hex) of the images and labels with their shapes: equal for equal content, whatever
    its name.
    """
    digest = hashlib.sha256()
    for array in (source.images, source.labels):
        if array is not None:
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _open(source: str, data_dir: str | None, image_shape: tuple[int, int, int] | None) -> Reader:
    kind, _, where = source.partition(":")
    openers = {
        "digits": _open_digits,
        "synthetic": lambda: _open_synthetic(image_shape),
        "tfds": lambda: open_tfds(where, data_dir),
        "folder": lambda: open_folder(where, image_shape),
        "npz": lambda: open_npz(where),
        "stacked": lambda: _open_stacked(where, data_dir),
    }
    if kind not in openers or bool(where) != (kind in ("tfds", "folder", "npz", "stacked")):
        raise InputError(f"unknown data source '{source}': write {_FORMS}")
    return openers[kind]()


def _join(pieces: list[Examples], rows: Int[np.ndarray, " N"]) -> Examples:
    """One set of examples, where entry i of the pieces one after the other goes to row rows[i]."""
    if len(pieces) == 1:
        return pieces[0]
    place = np.argsort(rows)
    texts = sum((piece.texts or ("",) * len(piece.images) for piece in pieces), ())
    return Examples(
        images=np.concatenate([piece.images for piece in pieces])[place],
        labels=None
        if pieces[0].labels is None
        else np.concatenate([piece.labels for piece in pieces])[place],
        texts=tuple(texts[i] for i in place) if any(piece.texts for piece in pieces) else None,
    )


def _in_memory(splits: dict[str, Examples], num_classes: int) -> Reader:
    return Reader(
        {name: len(examples.images) for name, examples in splits.items()},
        partial(_read, splits),
        num_classes,
    )


def _read(splits: dict[str, Examples], name: str, indices: np.ndarray) -> Examples:
    images, labels, _ = splits[name]
    return Examples(take(images, indices), take(labels, indices))


def _open_digits() -> Reader:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    scans, labels = load_digits(return_X_y=True)
    images = np.round(scans * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)

    def halve(indices):
        return train_test_split(indices, test_size=0.5, stratify=labels[indices], random_state=0)

    train, rest = halve(np.arange(len(labels)))
    validation, test = halve(rest)
    splits = {"train": train, "validation": validation, "test": test}
    return _in_memory(
        {name: Examples(images[chosen], labels[chosen]) for name, chosen in splits.items()}, 10
    )


def _open_synthetic(image_shape: tuple[int, int, int] | None) -> Reader:
    if image_shape is None:
        raise InputError("synthetic: needs image_shape, such as (32, 32, 3)")

    sizes = dict.fromkeys(("train", "validation", "test"), _SYNTHETIC_SIZE)
    return Reader(sizes, partial(_draw, image_shape, tuple(sizes)), _SYNTHETIC_CLASSES)


def _draw(
    image_shape: tuple[int, int, int], splits: tuple[str, ...], split: str, indices: np.ndarray
) -> Examples:
    """Image i is a window on one line of noise, which begins i strides from its start."""
    noise, labels = _noise(math.prod(image_shape), splits.index(split))
    windows = np.lib.stride_tricks.sliding_window_view(noise, math.prod(image_shape))[
        ::_SYNTHETIC_STRIDE
    ]
    return Examples(windows[indices].reshape(-1, *image_shape), labels[indices])


@lru_cache(maxsize=3)
def _noise(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    noise = random.integers(0, 256, size + _SYNTHETIC_STRIDE * (_SYNTHETIC_SIZE - 1), np.uint8)
    return noise, random.integers(0, _SYNTHETIC_CLASSES, _SYNTHETIC_SIZE)


def _open_stacked(base: str, data_dir: str | None) -> Reader:
    """Triples of grey images as red, green and blue, drawn once and for all; labels count (a, b, c)
    as a K^2 + b K + c (the stacked MNIST of Metz et al. 2017, for K = 10). A split has 25,600 of
    them, or as many as its base if that is more."""
    reader = _open(base, data_dir, None)
    triples = {
        split: np.random.default_rng(zlib.crc32(split.encode())).integers(
            0, size, (max(size, _STACKED_SIZE), 3)
        )
        for split, size in reader.sizes.items()
        if size
    }
    sizes = {split: len(chosen) for split, chosen in triples.items()}
    return Reader(sizes, partial(_stack, base, reader, triples), reader.num_classes**3)


def _stack(
    base: str, reader: Reader, triples: dict[str, np.ndarray], split: str, indices: np.ndarray
) -> Examples:
    needed, place = np.unique(
        triples[split][indices], return_inverse=True
    )  # one reading of each, however often it is used
    images, labels, _ = reader.read(split, needed)
    if images.shape[-1] != 1 or labels is None:
        raise InputError(f"stacked:{base}: needs grey images with labels")
    place = place.reshape(-1, 3)
    pictures = np.stack([images[place[:, i], :, :, 0] for i in range(3)], axis=-1)
    return Examples(pictures, labels[place] @ (reader.num_classes ** np.array([2, 1, 0])))
