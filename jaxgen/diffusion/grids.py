"""Grids of times for the sampler: float64 at trace time, indexed by position."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64

from jaxgen.diffusion.schedule import MAX_STEPS, Schedule, log_snr
from jaxgen.errors import InputError, lookup
from jaxgen.ranges import call_with_options, check_number


def grid(
    schedule: Schedule, kind: Any, steps: int | None = None, **options: Any
) -> Float64[np.ndarray, "times"]:
    """Decreasing times for `steps` steps, ending in exactly 0.

    - `leading`, `trailing`, `linspace`: Lin et al. 2024, table 2, on the times k/T of a discrete
      schedule; on a continuous one `trailing` and `linspace` are both the uniform grid from 1 to 0,
      and `leading` does not exist;
    - `log_snr` (low, high): uniform in log SNR from time high to time low, then 0;
    - `karras` (rho=7, low, high): Karras et al. 2022, eq. 5, in the noise-to-signal ratio sigma /
      alpha;
    - `shifted` (shift=3): Esser et al. 2024, eq. 23: uniform times whose sigma / alpha is then
      multiplied by `shift`;
    - "package.module:attribute": a function (schedule, steps, **options) -> all times but the 0;
    - {name, **options}: one of these with options;
    - an array of all times, the 0 included; it knows its number of steps.

    `low` and `high` default to the first and last times with a finite SNR: 1/T (1/1000 if
    continuous), and 1 or, where alpha(1) = 0, one such step before 1. Raises InputError for an
    unknown kind or option, and for a number of steps that the schedule does not have."""
    if isinstance(kind, Mapping):
        options = {**kind, **options}
        kind = options.pop("name", None)
    if not isinstance(kind, str):
        times = check_grid(kind)
        if steps not in (None, len(times) - 1) or options:
            raise InputError(
                f"the grid has {len(times)} times, which are {len(times) - 1} steps; steps={steps} "
                f"and options {options} do not go with it"
            )
        return times
    times_of = lookup(GRIDS, "grid", kind)
    check_number(f"grid '{kind}': steps", steps, 1, MAX_STEPS, whole=True)
    times = call_with_options(f"grid '{kind}'", times_of, options, schedule, steps)
    return check_grid(np.append(times, 0.0), f"grid '{kind}' with {steps} steps and {options}")


def check_grid(times: Any, what: str = "the grid") -> Float64[np.ndarray, "times"]:
    """`times` as float64, or an InputError where they do not fall within [0, 1] to 0."""
    try:
        grid = np.asarray(times, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{what} must be an array of times, not {times!r}") from None
    if grid.ndim != 1 or len(grid) < 2 or not grid[0] <= 1 or grid[-1] != 0:
        raise InputError(f"{what} must hold at least two times in [0, 1] that end in 0")
    if not (np.diff(grid) < 0).all():
        raise InputError(f"{what} must be strictly decreasing (try fewer steps)")
    return grid


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
    schedule: Schedule, steps: int, *, low: float | None = None, high: float | None = None
) -> Float64[np.ndarray, "steps"]:
    low, high = _ends(schedule, low, high)
    times = _time_at(schedule, np.linspace(log_snr(schedule, high), log_snr(schedule, low), steps))
    times[0] = high
    return times


def _karras(
    schedule: Schedule,
    steps: int,
    *,
    rho: float = 7.0,
    low: float | None = None,
    high: float | None = None,
) -> Float64[np.ndarray, "steps"]:
    check_number("grid 'karras': rho", rho, 0, above=True)
    low, high = _ends(schedule, low, high)
    first, last = (np.exp(-log_snr(schedule, time) / 2) ** (1 / rho) for time in (high, low))
    times = _time_at(schedule, -2 * rho * np.log(np.linspace(first, last, steps)))
    times[0] = high
    return times


def _shifted(schedule: Schedule, steps: int, *, shift: float = 3.0) -> Float64[np.ndarray, "steps"]:
    check_number("grid 'shifted': shift", shift, 1)
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
    assert schedule.steps
    if steps > schedule.steps:
        raise InputError(
            f"a grid of {steps} steps is longer than the {schedule.steps} steps of "
            f"{schedule.name!r}"
        )
    return schedule.steps


def _ends(schedule: Schedule, low: float | None, high: float | None) -> tuple[float, float]:
    margin = 1 / (schedule.steps or 1000)
    for what, time in (("low", low), ("high", high)):
        if time is not None:
            check_number(f"a grid's {what}", time, 0, 1, above=True)
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
