"""The one scan: what DDPM's samples are distributed like, and what a grid and an x may be."""

from functools import partial

import jax
import numpy as np
import pytest

from jaxgen.diffusion import grids, sampler, solvers
from jaxgen.diffusion import schedule as schedules
from jaxgen.errors import InputError
from tests.diffusion.exact import LINEAR, MEAN, STD, denoiser
from tests.support import keys, normal


@partial(jax.jit, static_argnums=(0, 2, 3), static_argnames="grid")
def draw(solver, keys, shape, schedule=LINEAR, *, grid, initial=None):
    """Samples of Gaussian data."""
    return sampler.sample(
        denoiser(schedule), solver, keys, shape, schedule, np.array(grid), initial=initial
    )


@pytest.mark.slow
def test_ddpm_reproduces_the_data():
    grid = grids.grid(LINEAR, "trailing", 1000)
    x = draw(solvers.ddim(1.0), keys(8), (20, 20, 1), grid=tuple(grid))
    values = np.asarray(x).ravel()  # 3200 independent draws
    assert abs(values.mean() - MEAN) < 4 * STD / np.sqrt(values.size)
    assert abs(values.std() / STD - 1) < 4 / np.sqrt(2 * values.size) + 0.01
    kurtosis = ((values - values.mean()) ** 4).mean() / values.var() ** 2
    assert abs(kurtosis - 3) < 4 * np.sqrt(24 / values.size)


@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_ancestral_sampling_has_the_variance_that_the_recursion_predicts(variance):
    """Each step is affine in x, so the variance after a coarse grid follows in float64, step by
    step.
    """
    grid = grids.grid(LINEAR, "trailing", 20)
    var, mean = LINEAR.sigma(1.0) ** 2, 0.0
    for t, s in zip(grid[:-1], grid[1:], strict=True):
        a_t, s_t, a_s, s_s = LINEAR.alpha(t), LINEAR.sigma(t), LINEAR.alpha(s), LINEAR.sigma(s)
        beta = 1 - a_t**2 / a_s**2
        tilde = beta * s_s**2 / s_t**2
        gain = a_t * STD**2 / (a_t**2 * STD**2 + s_t**2)  # of E[x_0 | x_t]
        coefficient = np.sqrt(1 - beta) * s_s**2 / s_t**2
        slope = a_s * beta / s_t**2 * gain + coefficient
        offset = a_s * beta / s_t**2 * (MEAN - gain * a_t * MEAN)
        added = 0.0 if s == 0 else {"posterior": tilde, "beta": beta}[variance]
        mean, var = slope * mean + offset, slope**2 * var + added
    solver = solvers.ddim(1.0, variance)
    x = np.asarray(draw(solver, keys(16), (32, 32, 1), grid=tuple(grid)))
    assert float(x.mean()) == pytest.approx(mean, abs=4 * np.sqrt(var / x.size))
    assert float(x.var()) == pytest.approx(var, rel=4 * np.sqrt(2 / x.size))


@pytest.mark.slow
@pytest.mark.parametrize("name", solvers.SOLVERS)
def test_zero_terminal_snr_starts_from_pure_noise(name):
    schedule = schedules.build("linear", zero_terminal_snr=True)
    grid = grids.grid(schedule, "trailing", 50)
    x = draw(solvers.build(name), keys(4), (16, 16, 1), schedule, grid=tuple(grid))
    assert float(x.mean()) == pytest.approx(MEAN, abs=0.05)


def test_a_grid_may_begin_at_an_image_with_noise():
    """From time 0.1 on, what is left of an image is what its noise hides: x_0 given x_t."""
    grid = grids.grid(LINEAR, "trailing", 100)[90:]
    x0 = normal(0, 64, 4, 4, 1, scale=STD) + MEAN
    noise = normal(1, *x0.shape)
    x_t = np.float32(LINEAR.alpha(grid[0]) * x0 + LINEAR.sigma(grid[0]) * noise)
    arguments = (solvers.ddim(1.0), keys(64), (4, 4, 1))
    again = draw(*arguments, grid=tuple(grid), initial=x_t)
    kept = np.corrcoef(np.ravel(again), x0.ravel())[0, 1]
    # both are draws of x_0 given x_t: correlated by its share of the variance
    share = 1 - LINEAR.sigma(0.1) ** 2 / (LINEAR.alpha(0.1) ** 2 * STD**2 + LINEAR.sigma(0.1) ** 2)
    assert kept == pytest.approx(share, abs=5 * (1 - share**2) / np.sqrt(x0.size) + 0.02)
    with pytest.raises(InputError, match="initial must be x at time 0.1"):
        draw(*arguments, grid=tuple(grid), initial=x_t[:3])


def test_wrong_grids_are_named():
    arguments = (denoiser(LINEAR), solvers.ddim(), keys(1), (2, 2, 1), LINEAR)
    grid = grids.grid(LINEAR, "trailing", 4)
    for bad in (grid[::-1], grid[:-1], [0.0], [np.nan, 0.0], "trailing", [[1.0, 0.0]], [1.5, 0.0]):
        with pytest.raises(InputError, match="grid"):
            sampler.sample(*arguments, bad)
