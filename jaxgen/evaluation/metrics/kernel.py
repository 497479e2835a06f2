"""The kernel distance: squared maximum mean discrepancy with the cubic kernel (Binkowski et al.
2018).
"""

import numpy as np
from jaxtyping import Float

from jaxgen.errors import InputError
from jaxgen.evaluation.metrics import common
from jaxgen.evaluation.metrics.common import Estimate

_BLOCK = 2048  # rows and columns of a kernel matrix held at once


def polynomial_mmd(real: Float[np.ndarray, "N D"], generated: Float[np.ndarray, "M D"]) -> float:
    """The unbiased U-statistic of MMD^2 with k(x, y) = (x.y / D + 1)^3 over all rows (Binkowski et
    al. 2018, eq. 4).

    Means over all pairs of different rows within each set, minus twice the mean over pairs across;
    it can be negative. The kernel matrix exists only in blocks. InputError: fewer than 2 rows, NaN
    or infinity, different widths."""
    return _mmd(*common.check_pair(real, generated, 2))


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

    values = [_mmd(drawn(real), drawn(generated)) for _ in range(num_subsets)]
    return Estimate(float(np.mean(values)), float(np.std(values)))


def _mmd(real: np.ndarray, generated: np.ndarray) -> float:
    n, m = len(real), len(generated)
    across = sum(_cubes(a, b)[0] for a in _blocks(real) for b in _blocks(generated))
    return (
        _within(real) / (n * (n - 1)) + _within(generated) / (m * (m - 1)) - 2.0 * across / (n * m)
    )


def _within(rows: np.ndarray) -> float:
    """Sum of the kernel over pairs of different rows; blocks above the diagonal stand for those
    below.
    """
    total = 0.0
    for i, a in enumerate(_blocks(rows)):
        everything, diagonal = _cubes(a, a)
        total += everything - diagonal
        total += 2.0 * sum(_cubes(a, b)[0] for b in _blocks(rows[(i + 1) * _BLOCK :]))
    return total


def _blocks(rows: np.ndarray):
    """Blocks of rows in float64, divided by the root of the width so that their products are x.y /
    D.
    """
    for i in range(0, len(rows), _BLOCK):
        yield rows[i : i + _BLOCK] / np.sqrt(np.float64(rows.shape[1]))


def _cubes(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Sum and trace of the kernel matrix. For a = b numpy's product computes one half and mirrors
    it.
    """
    kernel = a @ b.T
    kernel += 1.0
    cubes = kernel * kernel
    cubes *= kernel
    return float(cubes.sum()), float(cubes.trace())
