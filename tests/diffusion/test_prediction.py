from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.diffusion import grids, prediction
from jaxgen.diffusion import schedule as schedules
from jaxgen.errors import InputError
from tests.support import close, normal, tolerance

SCHEDULES = {
    "linear": schedules.build("linear"),
    "cosine": schedules.build("cosine"),
    "linear_zero": schedules.build("linear", zero_terminal_snr=True),
    "cosine_zero": schedules.build("cosine", zero_terminal_snr=True),
    "cosine_continuous": schedules.build("cosine_continuous"),
    "rectified": schedules.build("rectified"),
}


def solvable(kind, schedule, grid):
    try:
        prediction.check(kind, schedule, grid)
    except InputError:
        return False
    return True


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("kind", prediction.KINDS)
def test_target_and_solve_are_inverse(name, kind):
    schedule = SCHEDULES[name]
    grid = grids.grid(schedule, "trailing", 5)
    ends_in_noise = schedule.alpha(1.0) == 0
    assert solvable(kind, schedule, grid) == (not (kind == "noise" and ends_in_noise))

    times = grid[:-1] if solvable(kind, schedule, grid) else grid[1:-1]
    x0, noise = normal(0, len(times), 4, 4, 3), normal(1, len(times), 4, 4, 3)
    alpha, sigma = (np.float32(f(times)) for f in (schedule.alpha, schedule.sigma))
    x_t, got_x0, got_noise = there_and_back(kind, x0, noise, alpha, sigma)
    # x_0 is what is left of x_t, divided by alpha: cosine's alpha(1) is 5e-5.
    allowed = tolerance(x_t) / (alpha.clip(1e-7) if kind == "noise" else alpha**0)
    assert (np.abs(got_x0 - x0).max((1, 2, 3)) < allowed).all()
    close(got_noise, noise, x_t)


@partial(jax.jit, static_argnums=0)
def there_and_back(kind, x0, noise, alpha, sigma):
    x_t = schedules.expand(alpha, x0) * x0 + schedules.expand(sigma, x0) * noise
    out = prediction.target(kind, x0, noise, alpha, sigma)
    return x_t, *prediction.solve(kind, x_t, out, alpha, sigma)


def test_velocity_is_the_path_derivative():
    schedule = SCHEDULES["rectified"]
    x0, noise = jnp.array([[0.3]]), jnp.array([[-1.2]])
    derivative = jax.jacfwd(lambda t: schedule.alpha(t) * x0 + schedule.sigma(t) * noise)(
        jnp.float32(0.4)
    )
    close(prediction.target("velocity", x0, noise, 0.6, 0.4), derivative)


def test_v_is_the_derivative_by_the_angle():
    # With alpha = cos(phi), sigma = sin(phi), v = d x_t / d phi (Salimans & Ho 2022, appendix D).
    x0, noise, phi = jnp.array([[0.3]]), jnp.array([[-1.2]]), jnp.float32(0.7)
    derivative = jax.jacfwd(lambda phi: jnp.cos(phi) * x0 + jnp.sin(phi) * noise)(phi)
    close(prediction.target("v", x0, noise, jnp.cos(phi), jnp.sin(phi)), derivative)


def test_score_of_a_gaussian_by_autodiff():
    # Data N(0, 1): E[noise | x_t] = sigma x_t / (alpha^2 + sigma^2), and p(x_t) is N(0, alpha^2 +
    # sigma^2).
    alpha, sigma, x = 0.8, 0.5, jnp.array([[0.9]])
    density = jax.grad(
        lambda x: jax.scipy.stats.norm.logpdf(x, scale=jnp.hypot(alpha, sigma)).sum()
    )(x)
    close(prediction.score(sigma * x / (alpha**2 + sigma**2), sigma), density)


def test_wrong_kind_is_named():
    with pytest.raises(InputError, match="velocity"):
        prediction.coefficients("velocty", 1.0, 0.0)
    with pytest.raises(InputError, match="t = 1"):
        prediction.check("noise", SCHEDULES["cosine_zero"], np.array([1.0, 0.0]))
