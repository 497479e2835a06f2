"""The one sampler: a single lax.scan over a grid of times, from noise to data."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxgen import draws
from jaxgen.diffusion.schedule import Schedule, known
from jaxgen.errors import InputError

# (x_t, t) -> (x_0, noise), both with the shape of x_t. The sampler calls it with a float32 scalar
# t.
Denoise = Callable[
    [Float[Array, "N H W C"], Float[Array, ""]],
    tuple[Float[Array, "N H W C"], Float[Array, "N H W C"]],
]

INITIAL, STEP = 0, 1  # the separate uses of a sample's key


class Trajectory(NamedTuple):
    """The sample `x` at time 0, and at each time of the grid but the last what the network saw and
    thought.
    """

    x: Float[Array, "N H W C"]
    x_t: Float[Array, "steps N H W C"]
    x0: Float[Array, "steps N H W C"]


class Steps(NamedTuple):
    """The scan's inputs, one row per step: x_s = signal x_0 + direction noise + scale z."""

    position: Array
    time: Array
    signal: Array
    direction: Array
    scale: Array


def sample(
    denoise: Denoise,
    keys: Key[Array, "N"],
    shape: tuple[int, ...],
    schedule: Schedule,
    grid: Float[np.ndarray, "steps+1"],
    *,
    eta: float = 0.0,
    variance: str = "posterior",
    initial: Float[Array, "N H W C"] | None = None,
    trajectory: bool = False,
    unroll: int | bool = 1,
) -> Float[Array, "N H W C"] | Trajectory:
    """Samples of `shape` (H, W, C), one per key, by exactly `len(grid) - 1` calls of `denoise`.

    A step from time t to s is x_s = alpha_s x_0 + sqrt(sigma_s^2 - c^2) noise + c z with c = eta
    times the standard deviation of q(x_s | x_t, x_0) (Song et al. 2021, eq. 12 and 16): `eta` = 0
    is DDIM, and draws nothing after the initial noise; `eta` = 1 is DDPM; on the path alpha = 1 -
    t, sigma = t, eta = 0 is Euler's step. `variance` = "beta" gives z the larger standard deviation
    eta sigma_{t|s} instead (sqrt(beta_t) on the full grid, Ho et al. 2020, section 3.2) and leaves
    the mean as it is; the last step adds no noise in either case.

    `initial` is x at `grid[0]`, by default sigma times normal noise. Sample i depends on keys[i]
    alone. Raises InputError for a grid that does not fall to 0, an eta outside [0, 1] or an unknown
    variance."""
    steps = _steps(schedule, np.asarray(grid, np.float64), float(eta), variance)
    if initial is None:
        initial = float(schedule.sigma(grid[0])) * draws.normal(fold_in(keys, INITIAL), shape)
    step_keys = fold_in(keys, STEP) if eta > 0 else None

    def step(x: Array, now: Steps) -> tuple[Array, tuple[Array, Array] | None]:
        x0, noise = denoise(x, now.time)
        x_s = now.signal * x0 + now.direction * noise
        if eta > 0:
            x_s = x_s + now.scale * draws.normal(fold_in(step_keys, now.position), shape)
        return x_s.astype(x.dtype), (x, x0) if trajectory else None

    x, history = jax.lax.scan(step, jnp.asarray(initial, jnp.float32), steps, unroll=unroll)
    return Trajectory(x, *history) if trajectory else x


def posterior_std(
    schedule: Schedule, time: np.ndarray, earlier: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations of q(x_s | x_t, x_0) and of q(x_t | x_s), for t = `time` and s =
    `earlier`, in float64.

    The second is sigma_{t|s}, with sigma_{t|s}^2 = sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2,
    which is beta_t between neighbours of a discrete schedule; the first is sigma_{t|s} sigma_s /
    sigma_t (Kingma et al. 2021, appendix A.2)."""
    ratio = schedule.alpha(time) / schedule.alpha(earlier)
    sigma_t, sigma_s = schedule.sigma(time), schedule.sigma(earlier)
    forward = np.sqrt(np.maximum(sigma_t**2 - ratio**2 * sigma_s**2, 0.0))
    return forward * sigma_s / sigma_t, forward


def _steps(
    schedule: Schedule, grid: Float[np.ndarray, "steps+1"], eta: float, variance: str
) -> Steps:
    """The coefficients of every step, in float64 until they are the scan's float32 inputs."""
    if (
        grid.ndim != 1
        or len(grid) < 2
        or grid[0] > 1
        or grid[-1] != 0
        or not (np.diff(grid) < 0).all()
    ):
        raise InputError(
            "the sampler's grid must be a decreasing array of times in [0, 1] that ends in 0"
        )
    if not 0 <= eta <= 1:
        raise InputError(f"eta must lie between 0 (DDIM) and 1 (DDPM), got {eta}")
    time, earlier = grid[:-1], grid[1:]
    posterior, forward = posterior_std(schedule, time, earlier)
    scale = eta * known({"posterior": posterior, "beta": forward}, "variance", variance)
    direction = np.sqrt(np.maximum(schedule.sigma(earlier) ** 2 - (eta * posterior) ** 2, 0.0))
    columns = (time, schedule.alpha(earlier), direction, np.append(scale[:-1], 0.0))
    return Steps(jnp.arange(len(time)), *(jnp.asarray(column, jnp.float32) for column in columns))


def fold_in(keys: Key[Array, "N"], value: int | Array) -> Key[Array, "N"]:
    """Every key folded with the same `value`."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, value)
