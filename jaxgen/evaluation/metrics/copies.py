"""Whether samples are copies: of training data, or of each other."""

import numpy as np
from jaxtyping import Float, UInt8

from jaxgen.errors import InputError
from jaxgen.evaluation.metrics import common
from jaxgen.evaluation.metrics.distances import digests, nearest

__all__ = [
    "copy_rate",
    "distance_ratio",
    "duplicates",
    "exact_copies",
    "training_side",
    "training_side_and_distance_ratio",
]

_SAME = 1e-6  # of the data's spread: as good as no distance, for features computed in float32


def training_side(
    generated: Float[np.ndarray, "N D"],
    train: Float[np.ndarray, "M D"],
    held_out: Float[np.ndarray, "M D"],
) -> float:
    """Share of the generated points nearer to a training point than to any held-out point (after
    Meehan et al. 2020).

    About 0.5 without memorisation, 1 for copies. As many training as held-out points must be given:
    the nearer of two sets is more often the larger. InputError: sets of different size or width,
    NaN or infinity, an empty set."""
    return training_side_and_distance_ratio(generated, train, held_out)[0]


def distance_ratio(
    generated: Float[np.ndarray, "N D"],
    train: Float[np.ndarray, "M D"],
    held_out: Float[np.ndarray, "M D"],
) -> float:
    """Median distance to the nearest training point, over the median distance to the nearest
    held-out point.

    1 is no memorisation, 0 copying. Infinite where half of the points lie on held-out ones alone,
    and 1 where they lie on both. InputError: as `training_side`."""
    return training_side_and_distance_ratio(generated, train, held_out)[1]


def training_side_and_distance_ratio(
    generated: Float[np.ndarray, "N D"],
    train: Float[np.ndarray, "M D"],
    held_out: Float[np.ndarray, "M D"],
) -> tuple[float, float]:
    """`training_side` and `distance_ratio`; each distance is computed once."""
    near, far = _both_sides(generated, train, held_out)
    return float(np.mean(near < far)), _ratio_of_medians(near, far)


def copy_rate(
    generated: Float[np.ndarray, "N D"], train: Float[np.ndarray, "M D"], *, ratio: float = 1 / 3
) -> float:
    """Share of the generated points with d1 / d2 < ratio: nearest over second nearest training
    point (Yoon et al. 2023).

    Training points that are there twice count once, and a point at no distance from a training
    point (below 1e-6 of the training set's spread) is a copy, whatever the second distance is: else
    duplicates in the training set would hide copies. InputError: fewer than 2 different training
    points, a ratio outside (0, 1), and as `precision_recall`."""
    generated, train = common.check_pair(generated, train, names=("generated", "train"))
    if not 0.0 < ratio < 1.0:
        raise InputError(f"ratio must lie between 0 and 1, not {ratio}")
    distinct = {key: i for i, key in enumerate(digests(train + 0.0))}  # + 0 makes -0 a 0
    if len(distinct) < 2:
        raise InputError("train has fewer than 2 different rows; this metric needs at least 2")
    if len(distinct) < len(train):
        train = train[sorted(distinct.values())]
    first, second = nearest(generated, train, 2).T
    spread = float(np.sqrt(np.sum(np.var(train, axis=0, dtype=np.float64))))
    return float(np.mean((first < ratio * second) | (first <= _SAME * spread)))


def exact_copies(samples: UInt8[np.ndarray, "N ..."], originals: UInt8[np.ndarray, "M ..."]) -> int:
    """How many of the uint8 `samples` are bit for bit one of the `originals`. InputError: not
    uint8, other shapes.
    """
    samples, originals = _bitwise("samples", samples), _bitwise("originals", originals)
    if samples.shape[1:] != originals.shape[1:]:
        raise InputError(
            f"samples are {samples.shape[1:]} and originals {originals.shape[1:]}: bring them to "
            f"one shape"
        )
    known = set(digests(originals))
    return sum(key in known for key in digests(samples))


def duplicates(samples: UInt8[np.ndarray, "N ..."]) -> int:
    """How many of the uint8 `samples` repeat an earlier one bit for bit: their number less that of
    different ones.
    """
    samples = _bitwise("samples", samples)
    return len(samples) - len(set(digests(samples)))


def _bitwise(name: str, images) -> np.ndarray:
    images = common.as_array(name, images)
    if images.dtype != np.uint8 or images.ndim < 2:
        raise InputError(
            f"{name} must be a uint8 array [N, ...], not {images.dtype} of shape {images.shape}: "
            f"quantise it"
        )
    if not len(images):
        raise InputError(f"{name} is empty")
    return images


def _both_sides(generated, train, held_out) -> tuple[np.ndarray, np.ndarray]:
    generated, train = common.check_pair(generated, train, names=("generated", "train"))
    _, held_out = common.check_pair(generated, held_out, names=("generated", "held_out"))
    if len(train) != len(held_out):
        raise InputError(
            f"train has {len(train)} rows and held_out {len(held_out)}: give as many of each"
        )
    return nearest(generated, train, 1)[:, 0], nearest(generated, held_out, 1)[:, 0]


def _ratio_of_medians(near: np.ndarray, far: np.ndarray) -> float:
    nearest, farthest = float(np.median(near)), float(np.median(far))
    if farthest == 0.0:
        return 1.0 if nearest == 0.0 else float("inf")
    return nearest / farthest
