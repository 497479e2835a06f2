"""The Frechet distance between Gaussians fitted to two sets of features, and its limit for
infinitely many samples.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxgen.errors import InputError
from jaxgen.evaluation.metrics import common

__all__ = [
    "Moments",
    "frechet_distance",
    "frechet_distance_infinity",
    "frechet_distance_of_moments",
    "moments",
]

_CHUNK = 8192  # rows in float64 at once
_SMALL = 512  # up to this size singular values cost next to nothing
_EPSILON = np.finfo(np.float64).eps


class Moments(NamedTuple):
    """count: rows, for the record. mean [D]. covariance [D, D], with N - 1 in the denominator."""

    count: int  # type: ignore[assignment]  # tuples have a method of this name
    mean: Float[np.ndarray, "D"]
    covariance: Float[np.ndarray, "D D"]


class _Gaussian(NamedTuple):
    """mean [D]; factor A [D, R] with covariance A A^T; trace of the covariance."""

    mean: np.ndarray
    factor: np.ndarray
    trace: float


def moments(features: Float[np.ndarray, "N D"]) -> Moments:
    """Mean and unbiased covariance in float64. InputError: fewer than 2 rows, NaN or infinity."""
    return _moments(common.check_features("features", features, 2))


def frechet_distance(real: Float[np.ndarray, "N D"], generated: Float[np.ndarray, "M D"]) -> float:
    """|m_r - m_g|^2 + Tr(C_r + C_g - 2 (C_r C_g)^(1/2)) of Gaussians fitted to both sets (Heusel et
    al. 2017, eq. 6).

    The trace of the root is the sum of the singular values of A^T B for any factors C_r = A A^T and
    C_g = B B^T. With no more rows than features the centred rows are such a factor; else the
    covariance's pivoted Cholesky factor is, which a covariance without full rank has too. In
    squared units of the features. InputError: fewer than 2 rows, NaN or infinity, different widths.
    """
    real, generated = common.check_pair(real, generated, 2)
    return _distance(_fit(real), _fit(generated))


def frechet_distance_of_moments(real: Moments, generated: Moments) -> float:
    """`frechet_distance` from means and covariances, such as other tools publish as mu and sigma.

    InputError: shapes that do not fit, NaN or infinity, a covariance that is not symmetric positive
    semi-definite."""
    first, second = (
        _fit_moments(name, given) for name, given in (("real", real), ("generated", generated))
    )
    if len(first.mean) != len(second.mean):
        raise InputError(
            f"real has {len(first.mean)} features and generated {len(second.mean)}: use one "
            f"extractor"
        )
    return _distance(first, second)


def frechet_distance_infinity(
    real: Float[np.ndarray, "N D"],
    generated: Float[np.ndarray, "M D"],
    *,
    num_points: int = 15,
    seed: int = 0,
) -> float:
    """The Frechet distance extrapolated to infinitely many generated samples (Chong & Forsyth 2020,
    section 4).

    The distance of M samples is too large by about c / M. Subsets without replacement of
    `num_points` sizes, evenly spaced from M / 10 to M, give distances; a line in 1 / M is fitted by
    least squares and read at 1 / M = 0. The bias that the finite *real* set brings stays: compare
    only values with the same real set. The line is a good fit where M / 10 is well above D; the
    value may be negative by the noise of the fit. InputError: as `frechet_distance`; fewer than 3
    generated rows; fewer than 2 points."""
    real, generated = common.check_pair(real, generated, 2)
    num_points = common.check_count("num_points", num_points, 2)
    count = len(generated)
    if count < 3:
        raise InputError(f"generated has {count} rows; this metric needs at least 3")
    sizes = np.unique(np.linspace(max(2, count // 10), count, num_points).astype(int))
    rng, against = common.generator(seed), _fit(real)
    subsets = (
        generated if n == count else generated[np.sort(rng.choice(count, n, replace=False))]
        for n in sizes
    )
    distances = [_distance(against, _fit(subset)) for subset in subsets]
    return float(np.polynomial.polynomial.polyfit(1.0 / sizes, distances, 1)[0])


def _moments(features: np.ndarray) -> Moments:
    count, width = features.shape
    mean, scatter = features.mean(axis=0, dtype=np.float64), np.zeros((width, width))
    for i in range(0, count, _CHUNK):
        rows = np.subtract(features[i : i + _CHUNK], mean, dtype=np.float64)
        scatter += rows.T @ rows
    scatter /= count - 1
    return Moments(count, mean, scatter)


def _fit(features: np.ndarray) -> _Gaussian:
    if len(features) > features.shape[1]:
        fitted = _moments(features)
        return _Gaussian(
            fitted.mean, _cholesky(fitted.covariance), float(np.trace(fitted.covariance))
        )
    mean = features.mean(axis=0, dtype=np.float64)
    rows = np.subtract(features, mean, dtype=np.float64)
    rows /= np.sqrt(len(features) - 1)
    return _Gaussian(mean, rows.T, float(np.vdot(rows, rows)))


def _fit_moments(name: str, given: Moments) -> _Gaussian:
    mean = common.as_array(f"{name}.mean", given.mean).astype(np.float64)
    covariance = common.as_array(f"{name}.covariance", given.covariance).astype(np.float64)
    if mean.ndim != 1 or not len(mean) or covariance.shape != (len(mean), len(mean)):
        raise InputError(
            f"{name} has a mean {mean.shape} and a covariance {covariance.shape}; they must be [D] "
            f"and [D, D]"
        )
    common.check_finite(f"{name}.mean", mean)
    common.check_finite(f"{name}.covariance", covariance)
    factor = _cholesky(covariance)
    allowed = 1e-5 * np.abs(covariance).max()  # published statistics may have been float32
    if np.abs(covariance - factor @ factor.T).max() > allowed:
        raise InputError(
            f"{name}.covariance is not symmetric positive semi-definite: is it a covariance [D, D]?"
        )
    return _Gaussian(mean, factor, float(np.trace(covariance)))


def _cholesky(covariance: np.ndarray) -> np.ndarray:
    """A [D, rank] with covariance = A A^T, by Cholesky's method with pivoting; what is below
    rounding error is left out.
    """
    from scipy.linalg import lapack

    packed, order, rank, _ = lapack.dpstrf(covariance, lower=1)
    if covariance.max() <= 0:  # LAPACK calls the rank of a zero matrix 1 or 0, by version
        rank = 0
    factor = np.empty((len(covariance), rank))
    factor[order - 1] = np.tril(packed[:, :rank])
    return factor


def _distance(real: _Gaussian, generated: _Gaussian) -> float:
    mean = np.sum((real.mean - generated.mean) ** 2)
    root = _nuclear_norm(real.factor.T @ generated.factor)
    # rounding alone can make it negative
    return max(0.0, float(mean + real.trace + generated.trace - 2.0 * root))


def _nuclear_norm(matrix: np.ndarray) -> float:
    """The sum of the singular values.

    A large matrix has them from the eigenvalues of its smaller Gram matrix, three times faster,
    where the root does not magnify their rounding error, about 10 epsilon of the largest, to more
    than 1e-8 of the sum."""
    if not matrix.any():
        return 0.0
    if min(matrix.shape) > _SMALL:
        matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
        values = np.linalg.eigvalsh(matrix @ matrix.T)
        error = 10.0 * _EPSILON * values[-1]
        roots = np.sqrt(np.maximum(values, error))
        if error * np.sum(1.0 / roots) <= 1e-8 * roots.sum():
            return float(roots.sum())
    return float(np.linalg.svd(matrix, compute_uv=False).sum())
