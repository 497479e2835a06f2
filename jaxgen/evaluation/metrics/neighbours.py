"""Metrics of nearest neighbours: precision and recall, density and coverage."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxgen.evaluation.metrics import common
from jaxgen.evaluation.metrics.distances import (
    Points,
    digests,
    exact,
    nearest,
    points_around,
    squared_distances,
)

__all__ = [
    "DensityCoverage",
    "PrecisionRecall",
    "density_coverage",
    "nearest_distance",
    "precision_recall",
    "precision_recall_density_coverage",
]

# of squared lengths: more than matrix products make of a squared distance, for 4,096 features
_ROUNDING = 1e-12
_TIE = 1e-12  # of a squared radius: what is nearer to a ball's surface lies on it


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
    real, generated = (points_around(real, center), points_around(generated, center))
    around_real = dict(zip(wanted, _neighbour_balls(real, wanted)))
    if k_precision is not None:
        (around_generated,) = _neighbour_balls(generated, [k_precision])
    precise, recalled, hits = 0, np.zeros(len(real.rows), bool), np.zeros(len(real.rows), int)
    for rows, squared in squared_distances(generated, real):
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
    queries, points = common.check_pair(queries, points, names=("queries", "points"))
    return nearest(queries, points, 1)[:, 0]


def _neighbour_balls(points: Points, ks: list[int]) -> list[_Balls]:
    """For each k: the balls that reach from each point to its k-th nearest other point."""
    radii = np.zeros((len(ks), len(points.rows)))
    _, kind, repeats = np.unique(
        list(digests(points.given + 0.0)), return_inverse=True, return_counts=True
    )
    repeats = repeats[kind]
    for rows, squared in squared_distances(points, points):
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
    k: int, near: np.ndarray, squared: np.ndarray, index: np.ndarray, points: Points
) -> np.ndarray:
    """Exact squared distances from the points `index` to their k-th neighbours; `near` and
    `squared` [n, M] are rounded.
    """
    margin = 2.0 * _doubt(points.squares[index], near)
    below = squared < (near - margin)[:, None]
    row, j = np.nonzero((squared <= (near + margin)[:, None]) & ~below)
    found = exact(points, points, index[row], j)
    start = np.searchsorted(row, np.arange(len(index)))
    return found[np.lexsort((found, row))][start + k - below.sum(axis=1)]


def _inside(
    squared: np.ndarray,
    rows: slice,
    queries: Points,
    points: Points,
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
        exact(queries, points, i + rows.start, j) < balls.radii[i + rows.start if of_queries else j]
    )
    return inside
