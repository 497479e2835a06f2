"""Sources of images by name: `digits`, `tfds:<name>`, `folder:<path>`, `npz:<path>`, `stacked:<source>` and `synthetic`.

A source has a few base splits; `load` reads a split expression (see `splits`) out of them, with one grammar for all
sources, and decodes only the examples that it asks for.
"""

import hashlib
import zlib
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from jaxgen.data.folder import open_folder
from jaxgen.data.npz import open_npz
from jaxgen.data.splits import Examples, Reader, parse_split
from jaxgen.data.tfds import open_tfds
from jaxgen.errors import InputError

_FORMS = "digits, synthetic, tfds:<name>, folder:<path>, npz:<path> or stacked:<source>"
_SYNTHETIC_SIZE, _SYNTHETIC_CLASSES = 4096, 10
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


def load(
    source: str, split: str, *, data_dir: str | None = None, image_shape: tuple[int, int, int] | None = None
) -> Source:
    """Reads one split of a source into memory.

    Args:
      source: `digits` (scikit-learn's 8x8 scans), `tfds:<name>` (prepared on disk; nothing is downloaded and TensorFlow
        is not needed), `folder:<path>` (see `open_folder`), `npz:<path>` (see `open_npz`), `stacked:<source>` (three
        random grey images of a source as the colours of one, for counting modes), or `synthetic` (4,096 images of noise
        with random labels in 10 classes, to time the computation without the input).
      split: such as `train`, `train[:5000]`, `train[90%:]` or `validation+test`.
      data_dir: where `tfds` keeps its data sets; None is its own default.
      image_shape: [H, W, C] that the images must have; `folder` converts to its channels and `synthetic` needs it.

    Raises:
      InputError: an unknown source or split, an empty split, missing or unreadable data, images of another shape,
        labels out of range.
    """
    reader = _open(source, data_dir, image_shape)
    try:
        parts = parse_split(split, reader.splits, reader.size)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    examples = _join([reader.read(name, indices) for name, indices in parts], f"{source} {split}")
    _check(examples, reader.num_classes, image_shape, f"{source} {split}")
    labels = None if examples.labels is None else examples.labels.astype(np.int32)
    num_classes = 0 if labels is None else reader.num_classes
    return Source(f"{source} {split}", examples.images, labels, examples.texts, num_classes)


def splits(source: str, data_dir: str | None = None) -> tuple[str, ...]:
    """The names of a source's base splits. Raises InputError as `load` does."""
    return _open(source, data_dir, None).splits


def fingerprint(source: Source) -> str:
    """SHA-256 (hex) of the images and labels with their shapes: equal for equal content, whatever its name."""
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


def _join(parts: list[Examples], name: str) -> Examples:
    """One set of examples from the parts of a split expression."""
    if len(parts) == 1:
        return parts[0]
    shapes = {part.images.shape[1:] for part in parts}
    if len(shapes) > 1:
        raise InputError(f"{name}: the parts hold images of different shapes: {sorted(shapes)}")
    if len({part.labels is None for part in parts}) > 1:
        raise InputError(f"{name}: one part has labels and another has none; load them separately")
    texts = [part.texts or ("",) * len(part.images) for part in parts]
    return Examples(
        images=np.concatenate([part.images for part in parts]),
        labels=None if parts[0].labels is None else np.concatenate([part.labels for part in parts]),
        texts=sum(texts, ()) if any(part.texts for part in parts) else None,
    )


def _check(examples: Examples, num_classes: int, image_shape: tuple[int, int, int] | None, name: str) -> None:
    shape = examples.images.shape[1:]
    if image_shape is not None and shape != tuple(image_shape):
        raise InputError(f"{name}: the images have shape {shape}, but image_shape is {tuple(image_shape)}")
    if examples.labels is not None:
        low, high = examples.labels.min(), examples.labels.max()
        if low < 0 or high >= num_classes:
            raise InputError(f"{name}: labels go from {low} to {high}, outside the {num_classes} classes from 0")


def _in_memory(splits: dict[str, Examples], num_classes: int) -> Reader:
    def read(name: str, indices: range) -> Examples:
        images, labels, _ = splits[name]
        chosen = slice(indices.start, indices.stop)
        return Examples(images[chosen], None if labels is None else labels[chosen])

    return Reader(tuple(splits), lambda name: len(splits[name].images), read, num_classes)


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
    return _in_memory({name: Examples(images[chosen], labels[chosen]) for name, chosen in splits.items()}, 10)


def _open_synthetic(image_shape: tuple[int, int, int] | None) -> Reader:
    if image_shape is None:
        raise InputError("synthetic: needs image_shape, such as (32, 32, 3)")

    def draw(seed: int) -> Examples:
        random = np.random.default_rng(seed)
        images = random.integers(0, 256, (_SYNTHETIC_SIZE, *image_shape), np.uint8)
        return Examples(images, random.integers(0, _SYNTHETIC_CLASSES, _SYNTHETIC_SIZE))

    splits = {name: draw(seed) for seed, name in enumerate(("train", "validation", "test"))}
    return _in_memory(splits, _SYNTHETIC_CLASSES)


def _open_stacked(base: str, data_dir: str | None) -> Reader:
    """Triples of grey images as red, green and blue, drawn once and for all; labels count (a, b, c) as a K^2 + b K + c
    (the stacked MNIST of Metz et al. 2017, for K = 10). A split has 25,600 of them, or as many as its base if that is more.
    """
    reader = _open(base, data_dir, None)

    def size(split: str) -> int:
        return max(reader.size(split), _STACKED_SIZE)

    @cache
    def everything(split: str) -> Examples:
        examples = reader.read(split, range(reader.size(split)))
        if examples.images.shape[-1] != 1 or examples.labels is None:
            raise InputError(f"stacked:{base}: needs grey images with labels")
        return examples

    def read(split: str, indices: range) -> Examples:
        images, labels, _ = everything(split)
        triples = np.random.default_rng(zlib.crc32(split.encode())).integers(0, len(images), (size(split), 3))
        triples = triples[indices.start : indices.stop]
        pictures = np.stack([images[triples[:, i], :, :, 0] for i in range(3)], axis=-1)
        return Examples(pictures, labels[triples] @ (reader.num_classes ** np.array([2, 1, 0])))

    return Reader(reader.splits, size, read, reader.num_classes**3)
