"""What the metrics share: the result type of repeated measurements, and the checks of what comes
in.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxgen.errors import InputError

_CHUNK = 4096  # rows looked at together
_LARGEST = float(np.finfo(np.float32).max)  # its sixth power, a kernel's largest, is a float64
_SUM_TOLERANCE = 1e-3  # probabilities may come from float32 or bfloat16 networks


class RowError(InputError):
    """A row of an argument that a metric cannot use.

    argument: its name. row: the first such row. reason: what is wrong with it, and what to do.
    """

    def __init__(self, argument: str, row: int, reason: str):
        super().__init__(f"{argument}: row {row} {reason}")
        self.argument, self.row, self.reason = argument, row, reason


class Estimate(NamedTuple):
    """mean and std of a repeated measurement; each function says over what, and by which formula.
    `float()` is the mean.
    """

    mean: float
    std: float

    def __float__(self) -> float:
        return self.mean


def as_array(name: str, values) -> np.ndarray:
    """`values` as a real numpy array."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise InputError(f"{name} must be one array, but its rows differ in length") from None
    if array.dtype.kind in "biuf":
        return array
    try:
        if array.dtype.kind == "V":  # bfloat16 and its kin, which numpy itself does not know
            return array.astype(np.float32)
    except (TypeError, ValueError):
        pass
    raise InputError(f"{name} must hold real numbers, not {array.dtype}")


def check_features(name: str, values, least: int = 1) -> Float[np.ndarray, "N D"]:
    """`values` as a float array [N, D]. float32 stays float32: callers convert the rows they
    compute with.

    Raises InputError for another shape, fewer than `least` rows, no columns, and NaN or infinity
    (naming the row)."""
    array = as_array(name, values)
    if array.ndim != 2:
        raise InputError(
            f"{name} must be an array [N, D] of features, not of shape {array.shape}: "
            f"reshape(len(x), -1) flattens"
        )
    if len(array) < least:
        raise InputError(f"{name} has {len(array)} rows; this metric needs at least {least}")
    if array.shape[1] == 0:
        raise InputError(f"{name} has rows without a single feature")
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    check_finite(name, array)
    return array


def check_finite(name: str, array: Shaped[np.ndarray, "N ..."]) -> None:
    """Raises InputError naming the first row with NaN or infinity."""
    for i in range(0, len(array), _CHUNK):
        good = np.isfinite(array[i : i + _CHUNK])
        if not good.all():
            row = i + int(np.argmin(good.reshape(len(good), -1).all(axis=1)))
            raise RowError(name, row, "holds NaN or infinity: look at what made it")


def check_pair(real, generated, least: int = 1, names: tuple[str, str] = ("real", "generated")):
    """Two sets of features of the same width, none so large that its distance to others would
    overflow.
    """
    first, second = (
        check_features(names[0], real, least),
        check_features(names[1], generated, least),
    )
    for name, features in zip(names, (first, second)):
        if features.dtype != np.float32 and max(features.max(), -features.min()) > _LARGEST:
            raise InputError(
                f"{name} reach beyond {_LARGEST:.1e}, where distances overflow: scale both sets "
                f"down"
            )
    if first.shape[1] != second.shape[1]:
        raise InputError(
            f"{names[0]} has {first.shape[1]} features and {names[1]} {second.shape[1]}: use one "
            f"extractor"
        )
    return first, second


def check_count(name: str, value, least: int) -> int:
    """`value` as an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"{name} must be an integer of at least {least}, not {value!r}")
    return int(value)


def generator(seed) -> np.random.Generator:
    """numpy's generator for a seed that is an integer from 0."""
    return np.random.default_rng(check_count("seed", seed, 0))


def check_neighbours(name: str, k, real, generated) -> int:
    """`k` where both sets have a k-th neighbour beside the point itself."""
    k, fewest = check_count(name, k, 1), min(len(real), len(generated))
    if k >= fewest:
        raise InputError(
            f"{name}={k} is too large for a set of {fewest} rows: it needs at least {k + 1}"
        )
    return k


def check_distributions(name: str, values) -> Float[np.ndarray, "*N K"]:
    """Probabilities along the last axis, in float64: finite, none negative, sums of 1."""
    array = as_array(name, values).astype(np.float64)
    if array.ndim == 0 or array.size == 0:
        raise InputError(f"{name} is empty")
    rows = array.reshape(-1, array.shape[-1])
    check_finite(name, rows)
    if rows.min() < 0:
        row = int(np.argmax((rows < 0).any(axis=1)))
        raise RowError(name, row, "is negative somewhere: pass probabilities, not logits")
    sums = rows.sum(axis=1)
    bad = np.abs(sums - 1.0) > _SUM_TOLERANCE
    if bad.any():
        row = int(np.argmax(bad))
        raise RowError(
            name,
            row,
            f"sums to {sums[row]:.4g}, not to 1: pass probabilities, not logits or counts",
        )
    return array


def check_classes(name: str, values, num_classes: int) -> Int[np.ndarray, "N"]:
    """Class indices from 0 to num_classes - 1; at least one."""
    array = as_array(name, values)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(
            f"{name} must be an array [N] of integers, not {array.dtype} of shape {array.shape}"
        )
    if not len(array):
        raise InputError(f"{name} is empty")
    if array.min() < 0 or array.max() >= num_classes:
        raise InputError(
            f"{name} reach from {array.min()} to {array.max()}, outside 0 to {num_classes - 1}"
        )
    return array
