"""Squared maximum mean discrepancies: the kernel distance with the cubic kernel (Binkowski et al.
2018), and that of low-dimensional points with a Gaussian kernel (Gretton et al. 2012).
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from jaxgen.errors import InputError
from jaxgen.evaluation.metrics import common
from jaxgen.evaluation.metrics.common import Estimate

__all__ = ["gaussian_mmd", "kernel_distance", "polynomial_mmd"]

_BLOCK = 2048  # rows and columns of a kernel matrix held at once
_MEDIAN_OF = 2000  # rows whose distances give the width of the Gaussian kernel


def polynomial_mmd(real: Float[np.ndarray, "N D"], generated: Float[np.ndarray, "M D"]) -> float:
    """The unbiased U-statistic of MMD^2 with k(x, y) = (x.y / D + 1)^3 over all rows (Binkowski et
    al. 2018, eq. 4).

    Means over all pairs of different rows within each set, minus twice the mean over pairs across;
    it can be negative. The kernel matrix exists only in blocks. InputError: fewer than 2 rows, NaN
    or infinity, different widths."""
    real, generated = common.check_pair(real, generated, 2)
    return _mmd(real, generated, _cubic, np.sqrt(real.shape[1]))


def gaussian_mmd(
    real: Float[np.ndarray, "N D"], generated: Float[np.ndarray, "M D"], *, seed: int = 0
) -> float:
    """The unbiased U-statistic of MMD^2 with k(x, y) = exp(-|x - y|^2 / (2 s^2)) (Gretton et al.
    2012, eq. 3), at most 1 and about 0 for sets of one distribution, where it can be negative.

    s is the median distance between different real rows (of 2,000 drawn by `seed` where there are
    more), so values with one real set compare. InputError: as `polynomial_mmd`; more than half of
    the real rows alike.
    """
    from scipy.spatial.distance import pdist

    real, generated = common.check_pair(real, generated, 2)
    chosen = common.generator(seed).permutation(len(real))[:_MEDIAN_OF]
    width = float(np.median(pdist(real[np.sort(chosen)].astype(np.float64))))
    if width == 0.0:
        raise InputError(
            "real: more than half of the pairs of rows are alike: look at what made it"
        )
    return _mmd(real, generated, _gaussian, np.sqrt(2.0) * width)


def kernel_distance(
    real: Float[np.ndarray, "N D"],
    generated: Float[np.ndarray, "M D"],
    *,
    num_subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Mean and standard deviation (over the subsets, N in the denominator) of `polynomial_mmd` of
    random subsets.

    Each subset is drawn without replacement from its set. KID of Binkowski et al. 2018, there with
    100 subsets of 1,000. InputError: as `polynomial_mmd`; a subset larger than a set."""
    real, generated = common.check_pair(real, generated, 2)
    num_subsets = common.check_count("num_subsets", num_subsets, 1)
    subset_size = common.check_count("subset_size", subset_size, 2)
    fewest = min(len(real), len(generated))
    if subset_size > fewest:
        raise InputError(
            f"subset_size={subset_size} exceeds a set of {fewest} rows: set subset_size to at most "
            f"{fewest}"
        )
    rng = common.generator(seed)

    def drawn(rows):
        return rows[rng.choice(len(rows), subset_size, replace=False)]

    scale = np.sqrt(real.shape[1])
    values = [_mmd(drawn(real), drawn(generated), _cubic, scale) for _ in range(num_subsets)]
    return Estimate(float(np.mean(values)), float(np.std(values)))


def _mmd(real: np.ndarray, generated: np.ndarray, kernel: Callable, scale: float) -> float:
    """The U-statistic with kernel(blocks of rows / scale), which gives a matrix."""
    n, m = len(real), len(generated)
    across = sum(
        float(kernel(a, b).sum()) for a in _blocks(real, scale) for b in _blocks(generated, scale)
    )
    within = [_within(rows, kernel, scale) / (len(rows) * (len(rows) - 1))
              for rows in (real, generated)]  # fmt: skip
    return within[0] + within[1] - 2.0 * across / (n * m)


def _within(rows: np.ndarray, kernel: Callable, scale: float) -> float:
    """Sum of the kernel over pairs of different rows; blocks above the diagonal stand for those
    below.
    """
    total = 0.0
    for i, a in enumerate(_blocks(rows, scale)):
        block = kernel(a, a)
        total += float(block.sum()) - float(block.trace())
        later = _blocks(rows[(i + 1) * _BLOCK :], scale)
        total += 2.0 * sum(float(kernel(a, b).sum()) for b in later)
    return total


def _blocks(rows: np.ndarray, scale: float):
    """Blocks of rows in float64, divided by `scale`."""
    for i in range(0, len(rows), _BLOCK):
        yield rows[i : i + _BLOCK] / np.float64(scale)


def _cubic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(a.b + 1)^3. For a = b numpy's product computes one half and mirrors it."""
    kernel = a @ b.T
    kernel += 1.0
    cubes = kernel * kernel
    cubes *= kernel
    return cubes


def _gaussian(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """exp(-|a - b|^2), from the differences, which lose nothing where points lie far from 0."""
    squared = np.zeros((len(a), len(b)))
    for i in range(a.shape[1]):
        squared += np.subtract.outer(a[:, i], b[:, i]) ** 2
    return np.exp(-squared, out=squared)
