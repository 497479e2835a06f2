"""What tests share: keys, images, and tolerances that follow from scale and precision."""

import jax
import jax.numpy as jnp
import numpy as np


def keys(count: int, seed: int = 0) -> jax.Array:
    """One key per example."""
    return jax.random.split(jax.random.key(seed), count)


def normal(seed: int, *shape: int, scale: float = 1.0) -> np.ndarray:
    """Float32 normal numbers that do not depend on JAX."""
    return np.float32(scale * np.random.default_rng(seed).normal(size=shape))


def images(seed: int, *shape: int) -> np.ndarray:
    """Uint8 noise of `shape`, such as 16, 8, 8, 1."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def tolerance(*operands, terms: int = 1, dtype=None, factor: float = 16.0) -> float:
    """The absolute error that rounding may leave in any order of summation, on any processor.

    operands: arrays or numbers of the size of what is added up: the largest of them sets the scale.
    terms: how many such numbers are added up; rounding errors grow with its root.
    dtype: the precision of the arithmetic; None: the coarsest that an operand has, at least float32
    where JAX computed it. factor: roundings along the way, elementary functions included.
    """
    arrays = [np.asarray(x) for x in jax.tree.leaves(operands)]
    kinds = (
        [jnp.dtype(dtype)]
        if dtype is not None
        else [x.dtype for x in arrays if jnp.issubdtype(x.dtype, jnp.floating) and x.ndim]
    )
    epsilon = max(
        (float(jnp.finfo(kind).eps) for kind in kinds), default=float(jnp.finfo("float32").eps)
    )
    finite = [np.abs(x[np.isfinite(x)]) for x in (np.asarray(a, np.float64) for a in arrays)]
    scale = max((float(x.max()) for x in finite if x.size), default=0.0)
    return factor * epsilon * scale * max(1.0, terms) ** 0.5


def close(actual, expected, *operands, terms: int = 1, dtype=None, factor: float = 16.0) -> None:
    """Asserts that trees of arrays are equal up to rounding: see `tolerance`.

    Every leaf is compared at the scale of its own largest number, or of `operands` where larger
    numbers cancelled on the way to it. NaN and infinity must be in the same places.
    """
    pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    for got, wanted in pairs:
        allowed = tolerance(got, wanted, *operands, terms=terms, dtype=dtype, factor=factor)
        np.testing.assert_allclose(
            np.asarray(got, np.float64), np.asarray(wanted, np.float64), rtol=0, atol=allowed
        )
