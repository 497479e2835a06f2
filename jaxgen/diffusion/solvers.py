"""Solvers: how one step along the path goes from x_t to x_s, with the calls of the denoiser that it
needs. The sampler scans over the steps; grids and guidance know nothing of solvers.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Float64, Int, Key

from jaxgen import draws
from jaxgen.diffusion.schedule import Schedule
from jaxgen.errors import InputError, lookup, nearest
from jaxgen.ranges import call_with_options, check_number

# (x_t, t) -> (x_0, noise), both with the shape of x_t; t is a float32 scalar.
Denoise = Callable[
    [Float[Array, "N *S"], Float[Array, ""]], tuple[Float[Array, "N *S"], Float[Array, "N *S"]]
]

STEP = 1  # folded into a sample's key for the noise of its steps


class Now(NamedTuple):
    """What a step knows of its place: a row of the scan's inputs.

    position: 0 at the noise. time, until: the times t and s of the step. last: whether s = 0.
    coefficients: the row of the solver's own table."""

    position: Int[Array, ""]
    time: Float[Array, ""]
    until: Float[Array, ""]
    last: Bool[Array, ""]
    coefficients: Any


class Ends(NamedTuple):
    """alpha and sigma at both ends of a step, from t to s."""

    alpha_t: Any
    sigma_t: Any
    alpha_s: Any
    sigma_s: Any


def ends(schedule: Schedule, grid: Float64[np.ndarray, "times"]) -> Ends:
    """The plainest table of coefficients, one row per step."""
    alpha, sigma = schedule.alpha(grid), schedule.sigma(grid)
    return Ends(alpha[:-1], sigma[:-1], alpha[1:], sigma[1:])


class Solver(NamedTuple):
    """A rule for one step, with its history.

    init: x -> memory, a tree of arrays that the scan carries ((): none).
    step: (denoise, x, memory, now, keys) -> (x, memory) at the next time. It calls
        `denoise(x, now.time)` first, outside of any control flow. `keys` are the samples' own:
        `step_noise` draws from them.
    calls: how often a step calls the network, exactly.
    coefficients: (schedule, grid) -> tree of arrays [steps, ...] in float64; a step finds its row,
        in float32, as `now.coefficients`.
    last_calls: the calls of the step to time 0, where they are others.

    Euler's step, for example, which is DDIM:

        def step(denoise, x, memory, now, keys):
            x0, noise = denoise(x, now.time)
            return now.coefficients.alpha_s * x0 + now.coefficients.sigma_s * noise, memory

        euler = Solver(init=lambda x: (), step=step, calls=1)
    """

    init: Callable[..., Any]
    step: Callable[..., tuple[Array, Any]]
    calls: int
    coefficients: Callable[[Schedule, np.ndarray], Any] = ends
    last_calls: int | None = None

    def nfe(self, steps: int) -> int:
        """Network calls on a grid of so many steps, exactly."""
        last = self.calls if self.last_calls is None else self.last_calls
        return self.calls * (steps - 1) + last


def build(solver: str | Mapping[str, Any] | Solver, **options: Any) -> Solver:
    """The solver that `solver` names: an entry of SOLVERS, "package.module:attribute" (a `Solver`
    or a function of options that returns one), {name, **options}, or a `Solver` itself.

    Raises InputError for an unknown name or option."""
    name: Any = solver
    if isinstance(solver, Mapping):
        options = {**solver, **options}
        name = options.pop("name", None)
    made = name if isinstance(name, Solver) else lookup(SOLVERS, "solver", name)
    what = f"solver '{'given' if made is name else name}'"
    function = (lambda: made) if isinstance(made, Solver) else made
    built = call_with_options(what, function, options)
    if not isinstance(built, Solver):
        raise InputError(f"{what} gives {type(built).__name__}, not a Solver")
    check_number(f"{what}: calls", built.calls, 1, whole=True)
    return built


def ddim(eta: float = 0.0, variance: str = "posterior") -> Solver:
    """x_s = alpha_s x_0 + sqrt(sigma_s^2 - c^2) noise + c z, with c = eta times the standard
    deviation of q(x_s | x_t, x_0) (Song et al. 2021, eq. 12 and 16). One call a step.

    `eta` = 0 is DDIM, which draws nothing, and on the path alpha = 1 - t, sigma = t Euler's step;
    `eta` = 1 is DDPM. `variance` = "beta" gives z the larger standard deviation eta sigma_{t|s}
    instead (sqrt(beta_t) on the full grid, Ho et al. 2020, section 3.2) and leaves the mean as it
    is; the last step adds no noise in either case. Raises InputError for an eta outside [0, 1] and
    an unknown variance."""
    check_number("eta", eta, 0, 1)
    if variance not in ("posterior", "beta"):
        raise InputError(
            f"unknown variance '{variance}': {nearest(str(variance), ('posterior', 'beta'))}"
        )

    def coefficients(schedule: Schedule, grid: np.ndarray) -> tuple[Any, Any, Any]:
        time, earlier = grid[:-1], grid[1:]
        posterior, forward = posterior_std(schedule, time, earlier)
        scale = eta * (posterior if variance == "posterior" else forward)
        direction = np.sqrt(np.maximum(schedule.sigma(earlier) ** 2 - (eta * posterior) ** 2, 0.0))
        return schedule.alpha(earlier), direction, np.append(scale[:-1], 0.0)

    def step(denoise: Denoise, x: Array, memory: Any, now: Now, keys: Array) -> tuple[Array, Any]:
        signal, direction, scale = now.coefficients
        x0, noise = denoise(x, now.time)
        x_s = signal * x0 + direction * noise
        if eta > 0:
            x_s = x_s + scale * step_noise(keys, now, x.shape[1:])
        return x_s, memory

    return Solver(lambda x: (), step, 1, coefficients)


def heun() -> Solver:
    """The trapezoidal rule for dx = x_0 dalpha + noise dsigma, of second order; no noise.

    x_s = x_t + (alpha_s - alpha_t) (x_0 + x_0') / 2 + (sigma_s - sigma_t) (noise + noise') / 2,
    where the second prediction is made at DDIM's x_s. With alpha = 1 it is Algorithm 1 of Karras et
    al. 2022, on the path alpha = 1 - t, sigma = t Heun's method for the velocity. Two calls a step,
    but one in the last, which is DDIM's: 2 steps - 1 in all."""

    def step(denoise: Denoise, x: Array, memory: Any, now: Now, keys: Array) -> tuple[Array, Any]:
        c = now.coefficients
        x0, noise = denoise(x, now.time)
        predicted = c.alpha_s * x0 + c.sigma_s * noise

        def corrected() -> Array:
            x0_s, noise_s = denoise(predicted, now.until)
            change = (c.alpha_s - c.alpha_t) * (x0_s - x0) + (c.sigma_s - c.sigma_t) * (
                noise_s - noise
            )
            return predicted + change / 2

        return jax.lax.cond(now.last, lambda: predicted, corrected), memory

    return Solver(lambda x: (), step, 2, last_calls=1)


SOLVERS = {"ddim": ddim, "ddpm": partial(ddim, eta=1.0), "heun": heun}


def posterior_std(
    schedule: Schedule, time: Float64[np.ndarray, "*n"], earlier: Float64[np.ndarray, "*n"]
) -> tuple[Float64[np.ndarray, "*n"], Float64[np.ndarray, "*n"]]:
    """Standard deviations of q(x_s | x_t, x_0) and of q(x_t | x_s), for t = `time` and s =
    `earlier`, in float64.

    The second is sigma_{t|s}, with sigma_{t|s}^2 = sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2,
    which is beta_t between neighbours of a discrete schedule; the first is sigma_{t|s} sigma_s /
    sigma_t (Kingma et al. 2021, appendix A.2)."""
    ratio = schedule.alpha(time) / schedule.alpha(earlier)
    sigma_t, sigma_s = schedule.sigma(time), schedule.sigma(earlier)
    forward = np.sqrt(np.maximum(sigma_t**2 - ratio**2 * sigma_s**2, 0.0))
    return forward * sigma_s / sigma_t, forward


def step_noise(keys: Key[Array, "N"], now: Now, shape: tuple[int, ...]) -> Float[Array, "N *shape"]:
    """Standard normal noise of this step, for each sample from its own key."""
    return draws.normal(draws.fold(draws.fold(keys, STEP), now.position), shape)
