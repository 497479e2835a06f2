"""Sources that need no files: `digits`, `synthetic` and `stacked:<source>`."""

import math
import zlib
from collections.abc import Sequence
from functools import lru_cache, partial

import numpy as np

from jaxgen.data.decode import check_shape
from jaxgen.data.reader import Asked, Columns, Reader, in_memory
from jaxgen.data.sources import open_source
from jaxgen.errors import InputError

_SYNTHETIC_SIZE, _SYNTHETIC_CLASSES, _SYNTHETIC_STRIDE = 4096, 10, 61
_STACKED_SIZE = 25_600
_COLUMNS = ("image", "label")
_GREY = np.empty((0, 1))


def open_digits(where: str, asked: Asked) -> Reader:
    """scikit-learn's 8x8 scans of digits: half of them for training, a quarter for each of
    validation and test, with equal shares of every class."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    scans, labels = load_digits(return_X_y=True)
    images = np.round(scans * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)

    def halve(indices):
        return train_test_split(indices, test_size=0.5, stratify=labels[indices], random_state=0)

    train, rest = halve(np.arange(len(labels)))
    validation, test = halve(rest)
    splits = {"train": train, "validation": validation, "test": test}
    return in_memory(
        {
            name: {"image": images[chosen], "label": labels[chosen]}
            for name, chosen in splits.items()
        },
        num_classes=10,
    )


def open_synthetic(where: str, asked: Asked) -> Reader:
    """4,096 images of noise of `asked.shape` with random labels in 10 classes, in each of three
    splits. They cost no more than copying them: they time the computation without the input."""
    check_shape("synthetic", asked)
    if asked.shape is None:
        raise InputError("synthetic: needs image_shape, such as (32, 32, 3)")
    sizes = dict.fromkeys(("train", "validation", "test"), _SYNTHETIC_SIZE)
    return Reader(
        sizes, partial(_draw, tuple(asked.shape), tuple(sizes)), _COLUMNS, _SYNTHETIC_CLASSES
    )


def _draw(
    shape: tuple[int, ...],
    splits: tuple[str, ...],
    split: str,
    indices: np.ndarray,
    names: Sequence[str],
) -> Columns:
    """Image i is a window on one line of noise, which begins i strides from its start."""
    noise, labels = _noise(math.prod(shape), splits.index(split))
    windows = np.lib.stride_tricks.sliding_window_view(noise, math.prod(shape))
    images = windows[::_SYNTHETIC_STRIDE]
    columns = {"label": labels[indices]}
    if "image" in names:
        columns["image"] = images[indices].reshape(-1, *shape)
    return {name: columns[name] for name in _COLUMNS if name in names}


@lru_cache(maxsize=3)
def _noise(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    noise = random.integers(0, 256, size + _SYNTHETIC_STRIDE * (_SYNTHETIC_SIZE - 1), np.uint8)
    return noise, random.integers(0, _SYNTHETIC_CLASSES, _SYNTHETIC_SIZE)


def open_stacked(base: str, asked: Asked) -> Reader:
    """Triples of grey images as red, green and blue, drawn once and for all; labels count (a, b, c)
    as a K^2 + b K + c (the stacked MNIST of Metz et al. 2017, for K = 10). A split has 25,600 of
    them, or as many as its base if that is more."""
    reader = open_source(base, asked._replace(shape=None))
    triples = {
        split: np.random.default_rng(zlib.crc32(split.encode())).integers(
            0, size, (max(size, _STACKED_SIZE), 3)
        )
        for split, size in reader.sizes.items()
        if size
    }
    sizes = {split: len(chosen) for split, chosen in triples.items()}
    return Reader(sizes, partial(_stack, base, reader, triples), _COLUMNS, reader.num_classes**3)


def _stack(
    base: str,
    reader: Reader,
    triples: dict[str, np.ndarray],
    split: str,
    indices: np.ndarray,
    names: Sequence[str],
) -> Columns:
    # one reading of each, however often it is used
    needed, place = np.unique(triples[split][indices], return_inverse=True)
    place = place.reshape(-1, 3)
    columns = reader.read(split, needed, names)
    if not set(_COLUMNS) <= set(reader.columns) or columns.get("image", _GREY).shape[-1] != 1:
        raise InputError(f"stacked:{base}: needs grey images with labels")
    if "image" in columns:
        grey = columns["image"][..., 0]
        columns["image"] = np.stack([grey[place[:, i]] for i in range(3)], axis=-1)
    if "label" in columns:
        columns["label"] = columns["label"][place] @ (reader.num_classes ** np.array([2, 1, 0]))
    return {name: columns[name] for name in _COLUMNS if name in columns}
