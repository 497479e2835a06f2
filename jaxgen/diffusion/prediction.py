"""What the network predicts. Every output is a combination a x_0 + b noise, so one 2x2 solve with
x_t gives both.
"""

from typing import Any

import numpy as np
from jaxtyping import Array, Float

from jaxgen.diffusion.schedule import Schedule, expand
from jaxgen.errors import InputError, lookup

KINDS = {
    "noise": lambda alpha, sigma: (0.0 * alpha, 1.0 + 0.0 * sigma),
    "x0": lambda alpha, sigma: (1.0 + 0.0 * alpha, 0.0 * sigma),
    "v": lambda alpha, sigma: (-sigma, alpha),
    "velocity": lambda alpha, sigma: (-1.0 + 0.0 * alpha, 1.0 + 0.0 * sigma),
}


def coefficients(kind: str, alpha: Any, sigma: Any) -> tuple[Any, Any]:
    """(a, b) such that the output of a network that predicts `kind` stands for a x_0 + b noise.

    `noise` (Ho et al. 2020), `x0`, `v` = alpha noise - sigma x_0 (Salimans & Ho 2022, appendix D),
    and `velocity` = noise - x_0, the time derivative of the path alpha = 1 - t, sigma = t (flow
    matching)."""
    return lookup(KINDS, "prediction", kind)(alpha, sigma)


def target(
    kind: str,
    x0: Float[Array, "B ..."],
    noise: Float[Array, "B ..."],
    alpha: Float[Array, "*B"],
    sigma: Float[Array, "*B"],
) -> Float[Array, "B ..."]:
    """What the network should put out; `alpha` and `sigma` are scalars or one per example."""
    a, b = coefficients(kind, expand(alpha, x0), expand(sigma, x0))
    return a * x0 + b * noise


def solve(
    kind: str,
    x_t: Float[Array, "B ..."],
    out: Float[Array, "B ..."],
    alpha: Float[Array, "*B"],
    sigma: Float[Array, "*B"],
) -> tuple[Float[Array, "B ..."], Float[Array, "B ..."]]:
    """(x_0, noise) from x_t = alpha x_0 + sigma noise and out = a x_0 + b noise, by Cramer's rule.

    Singular where the two equations are one: `noise` at alpha = 0, `x0` at sigma = 0; see `check`.
    """
    alpha, sigma = expand(alpha, x_t), expand(sigma, x_t)
    a, b = coefficients(kind, alpha, sigma)
    determinant = alpha * b - sigma * a
    return (b * x_t - sigma * out) / determinant, (alpha * out - a * x_t) / determinant


def check(kind: str, schedule: Schedule, grid: Float[np.ndarray, "times"]) -> None:
    """Raises InputError if `solve` is singular (to float32) at a time where the sampler will call
    the network.
    """
    alpha, sigma = schedule.alpha(grid[:-1]), schedule.sigma(grid[:-1])
    a, b = coefficients(kind, alpha, sigma)
    singular = np.abs(alpha * b - sigma * a) < 1e-6
    if singular.any():
        time = grid[:-1][singular][0]
        raise InputError(
            f"a network that predicts {kind!r} says nothing new at t = {time:g} of schedule "
            f"{schedule.name!r} "
            f"(alpha = {schedule.alpha(time):g}, sigma = {schedule.sigma(time):g}); predict 'v', "
            f"or change the schedule"
        )


def score(noise: Float[Array, "B ..."], sigma: Float[Array, "*B"]) -> Float[Array, "B ..."]:
    """The gradient of log p(x_t) that belongs to a predicted noise: -noise / sigma."""
    return -noise / expand(sigma, noise)
