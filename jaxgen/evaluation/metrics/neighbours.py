"""Metrics of nearest neighbours: precision and recall, density and coverage, and whether samples
are copies.
"""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from jaxgen.errors import InputError
from jaxgen.evaluation.metrics import common

__all__ = [
    "DensityCoverage",
    "PrecisionRecall",
    "copy_rate",
    "density_coverage",
    "distance_ratio",
    "duplicates",
    "exact_copies",
    "nearest_distance",
    "precision_recall",
    "precision_recall_density_coverage",
    "training_side",
    "training_side_and_distance_ratio",
]

_ENTRIES = 2**24  # of a distance matrix held at once: 128 MiB
# of squared lengths: more than matrix products make of a squared distance, for 4,096 features
_ROUNDING = 1e-12
_TIE = 1e-12  # of a squared radius: what is nearer to a ball's surface lies on it
_SAME = 1e-6  # of the data's spread: as good as no distance, for features computed in float32


class PrecisionRecall(NamedTuple):
    """precision: share of generated inside the real balls. recall: share of real inside the
    generated balls.
    """

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """density: mean number of real balls around a generated point, over k. coverage: share of real
    balls that are hit.
    """

    density: float
    coverage: float


class _Points(NamedTuple):
    """given [N, D]: rows as they came; rows: in float64, around some center; squares [N]: their
    squared lengths.
    """

    given: np.ndarray
    rows: np.ndarray
    squares: np.ndarray


class _Balls(NamedTuple):
    """radii [N]: squared, less what makes a tie. doubt [N]: a squared distance by matrix products
    nearer to them tells nothing.
    """

    radii: np.ndarray
    doubt: np.ndarray


def precision_recall(
    real: Float[np.ndarray, "N D"], generated: Float[np.ndarray, "M D"], *, k: int = 3
) -> PrecisionRecall:
    """Improved precision and recall (Kynkaanniemi et al. 2019, eq. 1 and 2).

    Every point has a ball that reaches to its k-th nearest other point of its own set. precision:
    share of generated points in some real ball; recall: share of real points in some generated
    ball. A point on a ball's surface is outside. InputError: k rows or fewer, NaN or infinity,
    different widths."""
    return _balls(real, generated, k_precision=common.check_count("k", k, 1))[0]


def density_coverage(
    real: Float[np.ndarray, "N D"], generated: Float[np.ndarray, "M D"], *, k: int = 5
) -> DensityCoverage:
    """Density and coverage (Naeem et al. 2020, eq. 5 and 7) over the balls of the real points
    alone.

    density: the mean number of balls around a generated point, over k; it can exceed 1. coverage:
    share of balls with a generated point in them. A point on a ball's surface is outside.
    InputError: as `precision_recall`."""
    return _balls(real, generated, k_density=common.check_count("k", k, 1))[1]


def precision_recall_density_coverage(
    real: Float[np.ndarray, "N D"],
    generated: Float[np.ndarray, "M D"],
    *,
    k_precision: int = 3,
    k_density: int = 5,
) -> tuple[PrecisionRecall, DensityCoverage]:
    """`precision_recall` with k_precision and `density_coverage` with k_density; each distance is
    computed once.
    """
    return _balls(real, generated, k_precision=k_precision, k_density=k_density)


def _balls(real, generated, *, k_precision: int | None = None, k_density: int | None = None):
    """(PrecisionRecall or None, DensityCoverage or None), for those k that are given."""
    real, generated = common.check_pair(real, generated)
    wanted = [
        common.check_neighbours("k", k, real, generated)
        for k in (k_precision, k_density)
        if k is not None
    ]
    center = real.mean(axis=0, dtype=np.float64)
    real, generated = _points(real, center), _points(generated, center)
    around_real = dict(zip(wanted, _neighbour_balls(real, wanted)))
    around_generated = (
        _neighbour_balls(generated, [k_precision])[0] if k_precision is not None else None
    )
    precise, recalled, hits = 0, np.zeros(len(real.rows), bool), np.zeros(len(real.rows), int)
    for rows, squared in _distances(generated, real):
        if k_precision is not None:
            precise += int(
                _inside(squared, rows, generated, real, around_real[k_precision]).any(axis=1).sum()
            )
            recalled |= _inside(
                squared, rows, generated, real, around_generated, of_queries=True
            ).any(axis=0)
        if k_density is not None:
            hits += _inside(squared, rows, generated, real, around_real[k_density]).sum(axis=0)
    count = len(generated.rows)
    first = (
        None if k_precision is None else PrecisionRecall(precise / count, float(recalled.mean()))
    )
    second = (
        None
        if k_density is None
        else DensityCoverage(float(hits.sum() / (k_density * count)), float((hits > 0).mean()))
    )
    return first, second


def nearest_distance(
    queries: Float[np.ndarray, "N D"], points: Float[np.ndarray, "M D"]
) -> Float[np.ndarray, "N"]:
    """Euclidean distance of each query to its nearest point; exactly 0 for a copy. InputError: as
    `precision_recall`.
    """
    return _nearest(*common.check_pair(queries, points, names=("queries", "points")), 1)[:, 0]


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
    distinct = {key: i for i, key in enumerate(_digests(train + 0.0))}  # + 0 makes -0 a 0
    if len(distinct) < 2:
        raise InputError("train has fewer than 2 different rows; this metric needs at least 2")
    if len(distinct) < len(train):
        train = train[sorted(distinct.values())]
    first, second = _nearest(generated, train, 2).T
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
    known = set(_digests(originals))
    return sum(key in known for key in _digests(samples))


def duplicates(samples: UInt8[np.ndarray, "N ..."]) -> int:
    """How many of the uint8 `samples` repeat an earlier one bit for bit: their number less that of
    different ones.
    """
    samples = _bitwise("samples", samples)
    return len(samples) - len(set(_digests(samples)))


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


def _digests(rows: np.ndarray) -> Iterator[bytes]:
    """128 bits of each row's bytes: equal for equal rows, and in practice only for them."""
    return (
        hashlib.blake2b(row.data, digest_size=16).digest() for row in np.ascontiguousarray(rows)
    )


def _both_sides(generated, train, held_out) -> tuple[np.ndarray, np.ndarray]:
    generated, train = common.check_pair(generated, train, names=("generated", "train"))
    _, held_out = common.check_pair(generated, held_out, names=("generated", "held_out"))
    if len(train) != len(held_out):
        raise InputError(
            f"train has {len(train)} rows and held_out {len(held_out)}: give as many of each"
        )
    return _nearest(generated, train, 1)[:, 0], _nearest(generated, held_out, 1)[:, 0]


def _ratio_of_medians(near: np.ndarray, far: np.ndarray) -> float:
    near, far = float(np.median(near)), float(np.median(far))
    if far == 0.0:
        return 1.0 if near == 0.0 else float("inf")
    return near / far


def _points(rows: np.ndarray, center: np.ndarray) -> _Points:
    centred = np.subtract(rows, center, dtype=np.float64)
    return _Points(rows, centred, np.einsum("nd,nd->n", centred, centred))


def _distances(queries: _Points, points: _Points) -> Iterator[tuple[slice, np.ndarray]]:
    """(rows, squared distances [rows, M]) in chunks, as |q|^2 + |p|^2 - 2 q.p, which is a matrix
    product.

    What cancels is about 1e-15 of the squared lengths: hence float64, lengths from a center within
    the data, and `_exact` for what that leaves in doubt."""
    size = max(1, _ENTRIES // len(points.rows))
    for i in range(0, len(queries.rows), size):
        rows = slice(i, i + size)
        squared = queries.rows[rows] @ points.rows.T
        squared *= -2.0
        squared += queries.squares[rows, None]
        squared += points.squares
        yield rows, np.maximum(squared, 0.0, out=squared)


def _exact(queries: _Points, points: _Points, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Squared distances of queries i and points j from their differences: equal distances come out
    equal, in any order.
    """
    found, size = np.empty(len(i)), max(1, _ENTRIES // 8 // queries.given.shape[1])
    for start in range(0, len(i), size):
        part = slice(start, start + size)
        difference = np.subtract(queries.given[i[part]], points.given[j[part]], dtype=np.float64)
        found[part] = np.einsum("nd,nd->n", difference, difference)
    return found


def _neighbour_balls(points: _Points, ks: list[int]) -> list[_Balls]:
    """For each k: the balls that reach from each point to its k-th nearest other point."""
    radii = np.zeros((len(ks), len(points.rows)))
    _, kind, repeats = np.unique(
        list(_digests(points.given + 0.0)), return_inverse=True, return_counts=True
    )
    repeats = repeats[kind]
    for rows, squared in _distances(points, points):
        smallest = np.partition(squared, sorted(set(ks)), axis=1)  # entry 0 is the point itself
        for k, found in zip(ks, radii):
            few = np.flatnonzero(repeats[rows] <= k)  # the others have k copies, and a radius of 0
            found[few + rows.start] = _exact_kth(
                k, smallest[few, k], squared[few], few + rows.start, points
            )
    return [_Balls(each * (1.0 - _TIE), _doubt(points.squares, each)) for each in radii]


def _doubt(squares: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Rounding errors of squared distances around `radii`: the other point's squared length is at
    most 2 squares + 2 radii.
    """
    return 4.0 * _ROUNDING * (squares + radii)


def _exact_kth(
    k: int, near: np.ndarray, squared: np.ndarray, index: np.ndarray, points: _Points
) -> np.ndarray:
    """Exact squared distances from the points `index` to their k-th neighbours; `near` and
    `squared` [n, M] are rounded.
    """
    margin = 2.0 * _doubt(points.squares[index], near)
    below = squared < (near - margin)[:, None]
    row, j = np.nonzero((squared <= (near + margin)[:, None]) & ~below)
    exact = _exact(points, points, index[row], j)
    start = np.searchsorted(row, np.arange(len(index)))
    return exact[np.lexsort((exact, row))][start + k - below.sum(axis=1)]


def _inside(
    squared: np.ndarray,
    rows: slice,
    queries: _Points,
    points: _Points,
    balls: _Balls,
    *,
    of_queries: bool = False,
) -> np.ndarray:
    """Whether the queries `rows` lie in the balls of the points, or the points in those of the
    queries [rows, M].
    """
    radii, doubt = (each[rows, None] if of_queries else each for each in balls)
    inside = squared < radii - doubt
    i, j = np.nonzero((squared <= radii + doubt) & ~inside & (radii > 0.0))
    inside[i, j] = (
        _exact(queries, points, i + rows.start, j)
        < balls.radii[i + rows.start if of_queries else j]
    )
    return inside


def _nearest(queries: np.ndarray, points: np.ndarray, k: int) -> Float[np.ndarray, "N k"]:
    """Distances to the k nearest points, smallest first. The matrix product finds them; their
    differences measure them.
    """
    center = points.mean(axis=0, dtype=np.float64)
    queries, points = _points(queries, center), _points(points, center)
    nearest = np.empty((len(queries.rows), k))
    for rows, squared in _distances(queries, points):
        for j in range(k):
            index = squared.argmin(axis=1)
            nearest[rows, j] = np.linalg.norm(queries.rows[rows] - points.rows[index], axis=1)
            squared[np.arange(len(index)), index] = np.inf
    return np.sort(nearest, axis=1)
