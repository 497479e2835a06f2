"""Guidance and thresholding: pure wrappers of a network or of a `denoise` function. The sampler
does not know them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxgen.diffusion.schedule import Schedule, expand
from jaxgen.diffusion.solvers import Denoise
from jaxgen.errors import InputError
from jaxgen.ranges import check_number


def classifier_free(
    network: Callable[[Array, Array, Any], Array],
    condition: PyTree[Array],
    null: PyTree,
    weight: float | Float[Array, ""],
    interval: tuple[float, float] | None = None,
) -> Callable[[Float[Array, "N H W C"], Array], Float[Array, "N H W C"]]:
    """(x_t, t) -> null + weight (conditional - null), by one call of `network(x_t, t, condition)`
    on 2N examples.

    Ho & Salimans 2022, with the weight counted so that 0 is unconditional and 1 conditional.
    `condition` has one row per example (labels [N], embeddings [N, ...], or a tree of them); `null`
    is what replaces it: a label or array that broadcasts to it, or a tree of such. At times outside
    of `interval` = (low, high) the weight is 1 (Kynkaanniemi et al. 2024). Raises InputError for a
    weight that is not finite and an interval that is none."""
    check(weight, interval)

    def with_null(rows: Array, value: Any) -> Array:
        return jnp.concatenate([rows, jnp.broadcast_to(jnp.asarray(value, rows.dtype), rows.shape)])

    both = jax.tree.map(with_null, condition, null)

    def guided(x_t: Array, time: Array) -> Array:
        times = jnp.concatenate([time, time]) if jnp.ndim(time) else time
        conditional, unconditional = jnp.split(network(jnp.concatenate([x_t, x_t]), times, both), 2)
        strength = weight
        if interval is not None:
            inside = (interval[0] <= time) & (time <= interval[1])
            strength = expand(jnp.where(inside, weight, 1.0), x_t)
        return unconditional + strength * (conditional - unconditional)

    return guided


def check(weight: float | Array, interval: Any = None) -> None:
    """Raises InputError unless `weight` is a finite number (or traced) and `interval` None or two
    times, low <= high.
    """
    if not isinstance(weight, jax.Array):
        check_number("guidance", weight)
    if interval is not None:
        if not isinstance(interval, tuple | list) or len(interval) != 2:
            raise InputError(f"guidance_interval must be two times (low, high), not {interval!r}")
        check_number("guidance_interval's low", interval[0], 0, 1)
        check_number("guidance_interval's high", interval[1], interval[0], 1)


def clip(denoise: Denoise, schedule: Schedule, low: float = -1.0, high: float = 1.0) -> Denoise:
    """`denoise` with x_0 clipped to [low, high], and the noise that x_t and this x_0 imply."""
    check_number("clip: low", low)
    check_number("clip: high", high, low, above=True)
    return _with_x0(denoise, schedule, lambda x0: jnp.clip(x0, low, high))


def dynamic_threshold(denoise: Denoise, schedule: Schedule, percentile: float = 99.5) -> Denoise:
    """`denoise` with x_0 clipped to [-s, s] and divided by s, s = max(1, `percentile` of |x_0|) of
    each example.

    Saharia et al. 2022, section 2.3. Raises InputError for a percentile outside (1, 100]: it is in
    percent."""
    what = "dynamic_threshold: percentile (in percent: 99.5, say)"
    check_number(what, percentile, 1, 100, above=True)

    def threshold(x0: Array) -> Array:
        limit = jnp.percentile(
            jnp.abs(x0), percentile, axis=tuple(range(1, x0.ndim)), keepdims=True
        )
        limit = jnp.maximum(limit, 1.0)
        return jnp.clip(x0, -limit, limit) / limit

    return _with_x0(denoise, schedule, threshold)


def _with_x0(denoise: Denoise, schedule: Schedule, change: Callable[[Array], Array]) -> Denoise:
    def changed(x_t: Array, time: Array) -> tuple[Array, Array]:
        x0 = change(denoise(x_t, time)[0])
        noise = (x_t - expand(schedule.alpha(time), x_t) * x0) / expand(schedule.sigma(time), x_t)
        return x0, noise

    return changed
