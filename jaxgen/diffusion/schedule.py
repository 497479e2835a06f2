"""Noise schedules, x_t = alpha(t) x_0 + sigma(t) noise with t = 0 the data and t = 1 the noise, and
grids of times.

A schedule is evaluated in two places: on grids at trace time (NumPy, float64) and on traced times
(JAX, float32)."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64

from jaxgen.errors import InputError, call_with_options, nearest
from jaxgen.ranges import NonNegative, Positive, Probability, at_least, at_most

Steps = Annotated[int, at_least(1), at_most(10**6)]

Time = float | Float[np.ndarray, "..."] | Float[Array, "..."]


class Schedule(NamedTuple):
    """`alpha` and `sigma` map times in [0, 1] to coefficients, in float64 for NumPy times and the
    dtype of JAX arrays.

    `steps` is the number T of discrete steps (times k/T), or None if the schedule is continuous.
    """

    name: str
    alpha: Callable[[Time], Any]
    sigma: Callable[[Time], Any]
    steps: int | None


def build(name: str = "", *, where: str = "", **options: Any) -> Schedule:
    """The schedule called `name`; where: the field of the config that describes it, for messages.

    - `linear` (steps=1000, start=1e-4, end=0.02, zero_terminal_snr=False): Ho et al. 2020, section
      4;
    - `cosine` (steps=1000, offset=0.008, zero_terminal_snr=False): Nichol & Dhariwal 2021, eq. 17,
      betas at most 0.999;
    - `cosine_continuous`: alpha = cos(pi t / 2), sigma = sin(pi t / 2);
    - `rectified`: alpha = 1 - t, sigma = t, the straight path of flow matching.

    `zero_terminal_snr` rescales the discrete ones by Algorithm 1 of Lin et al. 2024, so that
    alpha(1) = 0. Raises InputError for an unknown name or option."""
    factory = known(SCHEDULES, f"schedule of {where}" if where else "schedule", name)
    return call_with_options(where or f"schedule '{name}'", factory, options)


def log_snr(schedule: Schedule, time: Time) -> Any:
    """log(alpha^2 / sigma^2) at `time`: falls with time; +inf at 0, and -inf where alpha is zero."""
    xp, time = _namespace(time)
    with np.errstate(divide="ignore"):
        return 2 * (xp.log(schedule.alpha(time)) - xp.log(schedule.sigma(time)))


def grid(
    schedule: Schedule, kind: str, steps: int, **options: Any
) -> Float64[np.ndarray, "steps+1"]:
    """Decreasing times for `steps` network calls, ending in exactly 0.

    - `leading`, `trailing`, `linspace`: Lin et al. 2024, table 2, on the times k/T of a discrete
      schedule; on a continuous one `trailing` and `linspace` are both the uniform grid from 1 to 0,
      and `leading` does not exist;
    - `log_snr` (low, high): uniform in log SNR from time high to time low, then 0;
    - `karras` (rho=7, low, high): Karras et al. 2022, eq. 5, in the noise-to-signal ratio sigma /
      alpha;
    - `shifted` (shift=3): Esser et al. 2024, eq. 23: uniform times whose sigma / alpha is then
      multiplied by `shift`.

    `low` and `high` default to the first and last times with a finite SNR: 1/T (1/1000 if
    continuous), and 1 or, where alpha(1) = 0, one such step before 1. Raises InputError for an
    unknown kind or option, and for a number of steps that the schedule does not have."""
    times_of = known(GRIDS, "grid", kind)
    if steps < 1:
        raise InputError(f"grid {kind!r}: steps must be at least 1, got {steps}")
    times = np.append(call_with_options(f"grid '{kind}'", times_of, options, schedule, steps), 0.0)
    if not (np.diff(times) < 0).all():
        raise InputError(
            f"grid {kind!r} with {steps} steps and options {options} is not decreasing; use fewer "
            f"steps"
        )
    return times


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


def known(table: Mapping[str, Any], what: str, name: str) -> Any:
    """`table[name]`, or an InputError that offers the nearest names."""
    if name not in table:
        raise InputError(f"unknown {what} '{name}': {nearest(str(name), table)}")
    return table[name]


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
    return _discrete("linear", np.linspace(start, end, steps), zero_terminal_snr)


def _cosine(
    *, steps: Steps = 1000, offset: NonNegative = 0.008, zero_terminal_snr: bool = False
) -> Schedule:
    alpha_bar = np.cos((np.arange(steps + 1) / steps + offset) / (1 + offset) * np.pi / 2) ** 2
    return _discrete(
        "cosine", np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999), zero_terminal_snr
    )


def _cosine_continuous() -> Schedule:
    def alpha(time: Time) -> Any:
        xp, time = _namespace(time)
        return xp.sin(
            np.pi / 2 * (1 - time)
        )  # not cos(pi t / 2): that is not zero at 1 in floating point

    def sigma(time: Time) -> Any:
        xp, time = _namespace(time)
        return xp.sin(np.pi / 2 * time)

    return Schedule("cosine_continuous", alpha, sigma, None)


def _rectified() -> Schedule:
    return Schedule(
        "rectified", lambda time: 1 - _namespace(time)[1], lambda time: _namespace(time)[1], None
    )


SCHEDULES = {
    "linear": _linear,
    "cosine": _cosine,
    "cosine_continuous": _cosine_continuous,
    "rectified": _rectified,
}


def _discrete(name: str, betas: Float64[np.ndarray, "T"], zero_terminal_snr: bool) -> Schedule:
    """The variance-preserving schedule with alpha_bar(k/T) = prod_{i<=k} (1 - beta_i), and
    alpha_bar(0) = 1.
    """
    log_alpha_bar = np.append(0.0, np.cumsum(np.log1p(-betas)))
    if zero_terminal_snr:
        log_alpha_bar = _with_zero_terminal_snr(name, log_alpha_bar)

    def alpha(time: Time) -> Any:
        xp, time = _namespace(time)
        return xp.exp(_interpolate(log_alpha_bar, time) / 2)

    def sigma(time: Time) -> Any:
        xp, time = _namespace(time)
        return xp.sqrt(
            -xp.expm1(_interpolate(log_alpha_bar, time))
        )  # 1 - alpha_bar would lose float32's digits near 0

    return Schedule(name, alpha, sigma, len(betas))


def _with_zero_terminal_snr(
    name: str, log_alpha_bar: Float64[np.ndarray, "T+1"]
) -> Float64[np.ndarray, "T+1"]:
    """Lin et al. 2024, Algorithm 1: shift and scale sqrt(alpha_bar) so that the last is 0 and the
    first is kept.
    """
    if len(log_alpha_bar) < 3:
        raise InputError(f"schedule {name!r} with zero_terminal_snr needs at least 2 steps")
    alpha = np.exp(log_alpha_bar[1:] / 2)
    alpha = (alpha - alpha[-1]) * (alpha[0] / (alpha[0] - alpha[-1]))
    with np.errstate(divide="ignore"):
        return np.append(0.0, 2 * np.log(alpha))


def _interpolate(log_alpha_bar: Float64[np.ndarray, "T+1"], time: Time) -> Any:
    """log alpha_bar, linear in time between the steps; on a last interval that ends in -inf, alpha
    itself is linear.
    """
    xp, time = _namespace(time)
    steps = len(log_alpha_bar) - 1
    slopes = np.append(log_alpha_bar[1:-1], log_alpha_bar[-1]) - log_alpha_bar[:-1]
    ends_in_zero = np.isinf(slopes[-1])
    slopes = np.where(np.isinf(slopes), 0.0, slopes)
    position = time * steps
    index = xp.clip(xp.floor(position), 0, steps - 1).astype(np.int32)
    fraction = position - index
    value = (
        xp.asarray(log_alpha_bar, time.dtype)[index]
        + fraction * xp.asarray(slopes, time.dtype)[index]
    )
    if ends_in_zero:
        with np.errstate(divide="ignore"):
            value = value + xp.where(index == steps - 1, 2 * xp.log1p(-fraction), 0.0)
    return value


def _namespace(time: Time) -> tuple[Any, Any]:
    """JAX for (traced) JAX arrays; NumPy and float64 for everything else."""
    return (jnp, time) if isinstance(time, jax.Array) else (np, np.asarray(time, np.float64))


# Grids: each gives `steps` decreasing times above 0


def _leading(schedule: Schedule, steps: int) -> Float64[np.ndarray, "steps"]:
    if schedule.steps is None:
        raise InputError(
            f"grid 'leading' needs a discrete schedule, not {schedule.name!r}; use 'trailing'"
        )
    total = _total(schedule, steps)
    return (1 + np.arange(steps)[::-1] * (total // steps)) / total


def _trailing(schedule: Schedule, steps: int) -> Float64[np.ndarray, "steps"]:
    if schedule.steps is None:
        return _uniform(steps)
    total = _total(schedule, steps)
    return np.round(total - np.arange(steps) * (total / steps)) / total


def _linspace(schedule: Schedule, steps: int) -> Float64[np.ndarray, "steps"]:
    if schedule.steps is None:
        return _uniform(steps)
    total = _total(schedule, steps)
    return np.round(np.linspace(total, 1, steps)) / total


def _log_snr(
    schedule: Schedule,
    steps: int,
    *,
    low: Probability | None = None,
    high: Probability | None = None,
) -> Float64[np.ndarray, "steps"]:
    low, high = _ends(schedule, low, high)
    times = _time_at(schedule, np.linspace(log_snr(schedule, high), log_snr(schedule, low), steps))
    times[0] = high
    return times


def _karras(
    schedule: Schedule,
    steps: int,
    *,
    rho: Positive = 7.0,
    low: Probability | None = None,
    high: Probability | None = None,
) -> Float64[np.ndarray, "steps"]:
    low, high = _ends(schedule, low, high)
    first, last = (np.exp(-log_snr(schedule, time) / 2) ** (1 / rho) for time in (high, low))
    times = _time_at(schedule, -2 * rho * np.log(np.linspace(first, last, steps)))
    times[0] = high
    return times


def _shifted(
    schedule: Schedule, steps: int, *, shift: Annotated[float, at_least(1)] = 3.0
) -> Float64[np.ndarray, "steps"]:
    # Where alpha(1) > 0 the ratio cannot grow beyond that of time 1, so the uniform times start
    # where it just fits.
    start = _time_at(schedule, log_snr(schedule, np.ones(1)) + 2 * np.log(shift))
    times = _time_at(schedule, log_snr(schedule, start * _uniform(steps)) - 2 * np.log(shift))
    times[0] = 1.0
    return times


GRIDS = {
    "leading": _leading,
    "trailing": _trailing,
    "linspace": _linspace,
    "log_snr": _log_snr,
    "karras": _karras,
    "shifted": _shifted,
}


def _uniform(steps: int) -> Float64[np.ndarray, "steps"]:
    return np.linspace(1.0, 0.0, steps + 1)[:-1]


def _total(schedule: Schedule, steps: int) -> int:
    if steps > schedule.steps:
        raise InputError(
            f"a grid of {steps} steps is longer than the {schedule.steps} steps of "
            f"{schedule.name!r}"
        )
    return schedule.steps


def _ends(schedule: Schedule, low: float | None, high: float | None) -> tuple[float, float]:
    margin = 1 / (schedule.steps or 1000)
    low = margin if low is None else low
    high = (1.0 if schedule.alpha(1.0) > 0 else 1 - margin) if high is None else high
    if not (0 < low < high <= 1 and schedule.alpha(high) > 0):
        raise InputError(
            f"a grid on {schedule.name!r} needs 0 < low < high <= 1 and alpha(high) > 0: {low}, "
            f"{high}"
        )
    return low, high


def _time_at(schedule: Schedule, target: Float64[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
    """The times with log SNR `target`, by bisection (100 halvings: exact to the last float64
    digit).
    """
    low, high = np.zeros_like(target), np.ones_like(target)
    for _ in range(100):
        middle = (low + high) / 2
        too_early = log_snr(schedule, middle) > target
        low, high = np.where(too_early, middle, low), np.where(too_early, high, middle)
    return high
