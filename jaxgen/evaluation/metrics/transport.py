"""Optimal transport between sets of low-dimensional points, by their projections onto lines."""

import numpy as np
from jaxtyping import Float

from jaxgen.evaluation.metrics import common

__all__ = ["sliced_wasserstein"]


def sliced_wasserstein(
    real: Float[np.ndarray, "N D"],
    generated: Float[np.ndarray, "M D"],
    *,
    num_projections: int = 128,
    seed: int = 0,
) -> float:
    """The mean over random directions of the Wasserstein-1 distance between the projections of both
    sets onto them (Rabin et al. 2012; Bonneel et al. 2015, with p = 1), in the unit of the points.

    Each distance is exact: the area between the two cumulative distributions. Directions are
    uniform on the sphere; `seed` and D alone decide them. InputError: an empty set, NaN or
    infinity, different widths.
    """
    real, generated = common.check_pair(real, generated)
    count = common.check_count("num_projections", num_projections, 1)
    directions = common.generator(seed).normal(size=(count, real.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    real, generated = (x.astype(np.float64) for x in (real, generated))
    return float(np.mean([_wasserstein(real @ v, generated @ v) for v in directions]))


def _wasserstein(a: np.ndarray, b: np.ndarray) -> float:
    """The Wasserstein-1 distance of two sets of numbers of any sizes."""
    a, b = np.sort(a), np.sort(b)
    if len(a) == len(b):
        return float(np.mean(np.abs(a - b)))
    values = np.sort(np.concatenate([a, b]))
    shares = [np.searchsorted(x, values[:-1], side="right") / len(x) for x in (a, b)]
    return float(np.sum(np.abs(shares[0] - shares[1]) * np.diff(values)))
