"""The one sampler: a single lax.scan over a grid of times, from noise to data."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxgen import draws
from jaxgen.diffusion.grids import check_grid
from jaxgen.diffusion.schedule import Schedule, check_schedule
from jaxgen.diffusion.solvers import Denoise, Now, Solver
from jaxgen.errors import InputError

INITIAL = 0  # folded into a sample's key for its initial noise


class Trajectory(NamedTuple):
    """The sample `x` at time 0, and at each time of the grid but the last what the network saw and
    thought.
    """

    x: Float[Array, "N *S"]
    x_t: Float[Array, "steps N *S"]
    x0: Float[Array, "steps N *S"]


def sample(
    denoise: Denoise,
    solver: Solver,
    keys: Key[Array, "N"],
    shape: tuple[int, ...],
    schedule: Schedule,
    grid: Float[np.ndarray, "times"],
    *,
    initial: Float[Array, "N *S"] | None = None,
    trajectory: bool = False,
    unroll: int | bool = 1,
) -> Float[Array, "N *S"] | Trajectory:
    """Samples of `shape`, one per key, by exactly `solver.nfe(len(grid) - 1)` calls of `denoise`.

    `initial` is x at `grid[0]`, by default sigma times normal noise; a grid that begins below time
    1 goes on from there (Meng et al. 2022, SDEdit). Sample i depends on keys[i] alone. Raises
    InputError for a grid that does not fall to 0 and an `initial` of another shape."""
    grid = check_grid(grid)
    check_schedule(schedule)
    if initial is None:
        initial = float(schedule.sigma(grid[0])) * draws.normal(draws.fold(keys, INITIAL), shape)
    elif np.shape(initial) != (len(keys), *shape):
        raise InputError(
            f"initial must be x at time {grid[0]:g} for each key, {(len(keys), *shape)}, not "
            f"{np.shape(initial)}"
        )

    def body(carry: tuple[Array, Any], now: Now) -> tuple[tuple[Array, Any], Any]:
        x, memory = carry
        thought = []

        def listened(x_t: Array, time: Array) -> tuple[Array, Array]:
            x0, noise = denoise(x_t, time)
            thought.append(x0)
            return x0, noise

        x_s, memory = solver.step(listened, x, memory, now, keys)
        return (x_s.astype(x.dtype), memory), (x, thought[0]) if trajectory else None

    x = jnp.asarray(initial, jnp.float32)
    carry = (x, solver.init(x))
    (x, _), history = jax.lax.scan(body, carry, _rows(solver, schedule, grid), unroll=unroll)
    return Trajectory(x, *history) if trajectory else x


def _rows(solver: Solver, schedule: Schedule, grid: np.ndarray) -> Now:
    """The scan's inputs, in float64 until they are the scan's float32."""
    last = np.arange(len(grid) - 1) == len(grid) - 2
    columns: Any = (grid[:-1], grid[1:], last, solver.coefficients(schedule, grid))
    place: Any = np.arange(len(grid) - 1)
    return jax.tree.map(
        lambda c: jnp.asarray(c, jnp.float32 if np.asarray(c).dtype == np.float64 else None),
        Now(place, *columns),
    )
