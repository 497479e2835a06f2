"""Noise schedules, x_t = alpha(t) x_0 + sigma(t) noise with t = 0 the data and t = 1 the noise.

A schedule is evaluated in two places: on grids at trace time (NumPy, float64) and on traced times
(JAX, float32)."""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64

from jaxgen.errors import InputError, lookup
from jaxgen.ranges import NonNegative, Positive, at_least, at_most, call_with_options, check_number

MAX_STEPS = 1_000_000  # of a schedule and of a grid: they are tables in memory
Steps = Annotated[int, at_least(1), at_most(MAX_STEPS)]

Time = float | Float[np.ndarray, "..."] | Float[Array, "..."]


class Schedule(NamedTuple):
    """`alpha` and `sigma` map times in [0, 1] to coefficients, in float64 for NumPy times and the
    dtype of JAX arrays: `xp, time = namespace(time)` gives the library to write them with.

    `steps` is the number T of discrete steps (times k/T), or None if the schedule is continuous.

    The path of EDM, for example (Karras et al. 2022), up to sigma = 80:

        edm = Schedule("edm", lambda time: 1.0 + 0 * time, lambda time: 80 * time)
    """

    name: str
    alpha: Callable[[Time], Any]
    sigma: Callable[[Time], Any]
    steps: int | None = None


def build(name: str | Schedule = "", *, where: str = "", **options: Any) -> Schedule:
    """The schedule called `name`; where: the field of the config that describes it, for messages.

    - `linear` (steps=1000, start=1e-4, end=0.02, zero_terminal_snr=False): Ho et al. 2020, section
      4;
    - `cosine` (steps=1000, offset=0.008, zero_terminal_snr=False): Nichol & Dhariwal 2021, eq. 17,
      betas at most 0.999;
    - `cosine_continuous`: alpha = cos(pi t / 2), sigma = sin(pi t / 2);
    - `rectified`: alpha = 1 - t, sigma = t, the straight path of flow matching;
    - `betas` (betas, zero_terminal_snr=False): see `discrete`;
    - "package.module:attribute": a `Schedule`, or a function of options that returns one.

    `zero_terminal_snr` rescales the discrete ones by Algorithm 1 of Lin et al. 2024, so that
    alpha(1) = 0. A `Schedule` is returned as it is. Raises InputError for an unknown name or option
    and for a schedule that `check_schedule` refuses."""
    made = (
        name
        if isinstance(name, Schedule)
        else lookup(SCHEDULES, f"schedule of {where}" if where else "schedule", name)
    )
    function = (lambda: made) if isinstance(made, Schedule) else made
    return check_schedule(call_with_options(where or f"schedule '{name}'", function, options))


def check_schedule(schedule: Schedule) -> Schedule:
    """`schedule`, or an InputError where alpha and sigma are not finite numbers for NumPy and for
    traced times, or alpha / sigma does not fall.
    """
    if not isinstance(schedule, Schedule):
        raise InputError(f"a schedule must be a Schedule, not {type(schedule).__name__}")
    if schedule.steps is not None:
        check_number(
            f"steps of schedule '{schedule.name}'", schedule.steps, 1, MAX_STEPS, whole=True
        )
    times = np.linspace(0.0, 1.0, 5)
    wrong = f"schedule '{schedule.name}': alpha and sigma must"
    try:
        alpha, sigma = (np.asarray(f(times)) for f in (schedule.alpha, schedule.sigma))
        jax.eval_shape(lambda t: (schedule.alpha(t), schedule.sigma(t)), jnp.zeros(5))
    except (TypeError, ValueError) as error:  # JAX's errors of conversion are these
        raise InputError(
            f"{wrong} take NumPy and JAX times (see schedule.namespace): "
            f"{str(error).splitlines()[0]}"
        ) from None
    if not (alpha.dtype == sigma.dtype == np.float64 and alpha.shape == sigma.shape == (5,)):
        raise InputError(f"{wrong} give one float64 number for each NumPy time")
    with np.errstate(divide="ignore"):
        ratio = alpha / np.abs(sigma)  # -0.0 is 0
    if not (
        np.isfinite([alpha, sigma]).all() and (sigma >= 0).all() and (np.diff(ratio) < 0).all()
    ):
        raise InputError(f"{wrong} be finite, sigma >= 0, and alpha / sigma must fall with time")
    return schedule


def log_snr(schedule: Schedule, time: Time) -> Any:
    """log(alpha^2 / sigma^2) at `time`: falls with time; +inf at 0, -inf where alpha is zero."""
    xp, time = namespace(time)
    with np.errstate(divide="ignore"):
        return 2 * (xp.log(schedule.alpha(time)) - xp.log(schedule.sigma(time)))


def perturb(
    schedule: Schedule,
    x0: Float[Array, "B ..."],
    noise: Float[Array, "B ..."],
    time: Float[Array, "*B"],
) -> Float[Array, "B ..."]:
    """A draw of q(x_t | x_0): alpha x_0 + sigma noise. `time` is a scalar or one per example."""
    return expand(schedule.alpha(time), x0) * x0 + expand(schedule.sigma(time), x0) * noise


def expand(value: Any, like: Array) -> Array:
    """`value`, a scalar or one number per example, with trailing axes so that it broadcasts against
    `like`.
    """
    value = jnp.asarray(value)
    return value.reshape(value.shape + (1,) * (like.ndim - value.ndim)) if value.ndim else value


# Schedules


def _linear(
    *,
    steps: Steps = 1000,
    start: Positive = 1e-4,
    end: Positive = 0.02,
    zero_terminal_snr: bool = False,
) -> Schedule:
    if not start <= end < 1:
        raise InputError(f"schedule 'linear' needs start <= end < 1, got {start}, {end}")
    return discrete(
        np.linspace(start, end, steps), zero_terminal_snr=zero_terminal_snr, name="linear"
    )


def _cosine(
    *, steps: Steps = 1000, offset: NonNegative = 0.008, zero_terminal_snr: bool = False
) -> Schedule:
    alpha_bar = np.cos((np.arange(steps + 1) / steps + offset) / (1 + offset) * np.pi / 2) ** 2
    betas = np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999)
    return discrete(betas, zero_terminal_snr=zero_terminal_snr, name="cosine")


def _cosine_continuous() -> Schedule:
    def alpha(time: Time) -> Any:
        xp, time = namespace(time)
        # not cos(pi t / 2): that is not zero at 1 in floating point
        return xp.sin(np.pi / 2 * (1 - time))

    def sigma(time: Time) -> Any:
        xp, time = namespace(time)
        return xp.sin(np.pi / 2 * time)

    return Schedule("cosine_continuous", alpha, sigma, None)


def _rectified() -> Schedule:
    return Schedule(
        "rectified", lambda time: 1 - namespace(time)[1], lambda time: namespace(time)[1], None
    )


def discrete(betas: Any, *, zero_terminal_snr: bool = False, name: str = "betas") -> Schedule:
    """The variance-preserving schedule of T `betas`, alpha_bar(k/T) = prod_{i<=k} (1 - beta_i), and
    alpha_bar(0) = 1. Raises InputError unless they are numbers between 0 and 1.
    """
    try:
        betas = np.asarray(betas, np.float64)
    except (TypeError, ValueError):
        betas = np.zeros(0)
    if betas.ndim != 1 or not betas.size or not ((0 < betas) & (betas < 1)).all():
        raise InputError(f"schedule '{name}' needs a list of betas, each between 0 and 1")
    log_alpha_bar = np.append(0.0, np.cumsum(np.log1p(-betas)))
    if zero_terminal_snr:
        log_alpha_bar = _with_zero_terminal_snr(name, log_alpha_bar)

    def alpha(time: Time) -> Any:
        xp, time = namespace(time)
        return xp.exp(_interpolate(log_alpha_bar, time) / 2)

    def sigma(time: Time) -> Any:
        xp, time = namespace(time)
        # 1 - alpha_bar would lose float32's digits near 0
        return xp.sqrt(-xp.expm1(_interpolate(log_alpha_bar, time)))

    return Schedule(name, alpha, sigma, len(betas))


SCHEDULES = {
    "linear": _linear,
    "cosine": _cosine,
    "cosine_continuous": _cosine_continuous,
    "rectified": _rectified,
    "betas": discrete,
}


def _with_zero_terminal_snr(
    name: str, log_alpha_bar: Float64[np.ndarray, "knots"]
) -> Float64[np.ndarray, "knots"]:
    """Lin et al. 2024, Algorithm 1: shift and scale sqrt(alpha_bar) so that the last is 0 and the
    first is kept.
    """
    if len(log_alpha_bar) < 3:
        raise InputError(f"schedule {name!r} with zero_terminal_snr needs at least 2 steps")
    alpha = np.exp(log_alpha_bar[1:] / 2)
    alpha = (alpha - alpha[-1]) * (alpha[0] / (alpha[0] - alpha[-1]))
    with np.errstate(divide="ignore"):
        return np.append(0.0, 2 * np.log(alpha))


def _interpolate(log_alpha_bar: Float64[np.ndarray, "knots"], time: Time) -> Any:
    """log alpha_bar, linear in time between the steps; on a last interval that ends in -inf, alpha
    itself is linear.
    """
    xp, at = namespace(time)
    steps = len(log_alpha_bar) - 1
    slopes = np.append(log_alpha_bar[1:-1], log_alpha_bar[-1]) - log_alpha_bar[:-1]
    ends_in_zero = np.isinf(slopes[-1])
    slopes = np.where(np.isinf(slopes), 0.0, slopes)
    position = at * steps
    index = xp.clip(xp.floor(position), 0, steps - 1).astype(np.int32)
    fraction = position - index
    value = (
        xp.asarray(log_alpha_bar, at.dtype)[index] + fraction * xp.asarray(slopes, at.dtype)[index]
    )
    if ends_in_zero:
        with np.errstate(divide="ignore"):
            value = value + xp.where(index == steps - 1, 2 * xp.log1p(-fraction), 0.0)
    return value


def namespace(time: Time) -> tuple[Any, Any]:
    """(library, time) to evaluate a schedule with: JAX for (traced) JAX arrays, NumPy and float64
    for everything else.
    """
    return (jnp, time) if isinstance(time, jax.Array) else (np, np.asarray(time, np.float64))
