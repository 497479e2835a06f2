"""Every solver: order, network calls, draws, independence of the batch; a new one is a row."""

import functools
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.diffusion import sampler, solvers
from jaxgen.errors import InputError
from tests.diffusion.exact import EDM, LINEAR, MEAN, RECTIFIED, STD, denoiser, flow
from tests.support import close, keys, normal

SHAPE, GRID = (2, 3, 1), np.linspace(1, 0, 6)


def multistep():
    """DPM-Solver++(2M) (Lu et al. 2022, Algorithm 2): the history is the last prediction of x_0."""

    def coefficients(schedule, grid):
        alpha, sigma = schedule.alpha(grid), schedule.sigma(grid)
        with np.errstate(divide="ignore"):  # lambda is infinite at 0
            h = np.diff(np.log(alpha / np.abs(sigma)))
        # No history in the first step, and none in the step to 0.
        weight = np.append(0.0, np.where(np.isinf(h[1:]), 0.0, h[1:]) / (2 * h[:-1]))
        return sigma[1:] / sigma[:-1], alpha[1:] * -np.expm1(-h), weight

    def step(denoise, x, memory, now, keys):
        shrink, gain, weight = now.coefficients
        x0, _ = denoise(x, now.time)
        return shrink * x + gain * (x0 + weight * (x0 - memory)), x0

    return solvers.Solver(jnp.zeros_like, step, 1, coefficients)


ROWS = {**solvers.SOLVERS, "2m": multistep}
ORDERS = {"ddim": 1, "heun": 2, "2m": 2}
CALLS = {"ddim": 5, "ddpm": 5, "heun": 9, "2m": 5}
PATHS = {"linear": LINEAR, "rectified": RECTIFIED, "edm": EDM}


@functools.cache
def run(name, path="linear", count=3):
    """(trajectory from the first `count` of the keys, how often the network was called)."""
    called, denoise = [], denoiser(PATHS[path])

    def counted(x, t):
        jax.debug.callback(lambda: called.append(1))
        return denoise(x, t)

    whole = jax.jit(
        lambda k: sampler.sample(
            counted, ROWS[name](), k, SHAPE, PATHS[path], GRID, trajectory=True
        )
    )(keys(3)[:count])
    jax.effects_barrier()
    return jax.tree.map(np.asarray, whole), len(called)


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ORDERS)
def test_the_error_falls_with_the_order(name, path):
    """At a quarter of a grid that begins at time 0.9, from an x that the user gives."""
    x, errors = normal(0, 1, *SHAPE), []
    for steps in (32, 64):
        grid = np.linspace(0.9, 0, steps + 1)
        whole = jax.jit(
            lambda x, grid=grid: sampler.sample(
                denoiser(PATHS[path]), ROWS[name](), keys(1), SHAPE, PATHS[path], grid,
                initial=x, trajectory=True,
            )
        )(x)  # fmt: skip
        exact = flow(PATHS[path], x, 0.9, grid[3 * steps // 4])
        errors.append(np.abs(whole.x_t[3 * steps // 4] - exact).max())
    assert errors[1] < 0.02
    assert np.log2(errors[0] / errors[1]) == pytest.approx(ORDERS[name], abs=0.25)


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_network_calls_are_counted_exactly(name):
    assert run(name)[1] == ROWS[name]().nfe(len(GRID) - 1) == CALLS[name]


def primitives(jaxpr):
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from primitives(inner)


@pytest.mark.parametrize("name", ROWS)
def test_a_deterministic_solver_draws_nothing(name):
    x = jnp.zeros((2, *SHAPE))
    jaxpr = jax.make_jaxpr(
        lambda k: sampler.sample(denoiser(EDM), ROWS[name](), k, SHAPE, EDM, GRID, initial=x)
    )(keys(2))
    drawn = [p for p in primitives(jaxpr.jaxpr) if "random" in p or "threefry" in p]
    assert bool(drawn) == (name == "ddpm")


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_a_sample_depends_on_its_key_alone(name):
    many, alone = run(name)[0], run(name, count=1)[0]
    close(alone.x, many.x[:1], many.x_t)
    assert len(np.unique(many.x.round(4))) > 15  # repeated neither across samples nor pixels


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_a_trajectory_holds_what_the_network_saw_and_ends_in_the_sample(name):
    whole, _ = run(name)
    assert whole.x_t.shape == whole.x0.shape == (5, 3, *SHAPE)
    close(whole.x0[-1], whole.x, whole.x_t)
    for x_t, x0, time in zip(whole.x_t, whole.x0, GRID, strict=False):
        close(x0, denoiser(LINEAR)(x_t, time)[0], whole.x_t)
    plain = jax.jit(
        lambda k: sampler.sample(denoiser(LINEAR), ROWS[name](), k, SHAPE, LINEAR, GRID, unroll=5)
    )
    close(plain(keys(3)), whole.x, whole.x_t)


def test_ddim_is_eulers_step_on_the_straight_path():
    whole, _ = run("ddim", "rectified")
    velocity = (whole.x_t[:-1] - whole.x0[:-1]) / GRID[:4, None, None, None, None]
    close(whole.x_t[1:], whole.x_t[:-1] - 0.2 * velocity, whole.x_t)


def test_heun_is_algorithm_1_of_karras_et_al_on_their_path():
    """Written out in float64: d = (x - D(x, sigma)) / sigma; the last step is Euler's."""
    whole, _ = run("heun", "edm")
    x, sigmas = np.float64(whole.x_t[0]), 4 * GRID

    def slope(x, sigma):
        return (x - (MEAN + STD**2 * (x - MEAN) / (STD**2 + sigma**2))) / sigma

    for sigma, until in zip(sigmas[:-1], sigmas[1:], strict=True):
        d = slope(x, sigma)
        euler = x + (until - sigma) * d
        x = euler if until == 0 else x + (until - sigma) * (d + slope(euler, until)) / 2
    close(whole.x, x, whole.x_t)


@pytest.mark.parametrize("k", [2, 37, 500, 1000])
def test_the_posterior_is_bayes_rule(k):
    """q(x_{k-1} | x_k, x_0) as the product of its two factors, multiplied on a fine grid of
    x_{k-1}.
    """
    t, s = k / 1000, (k - 1) / 1000
    x0 = 0.7
    x_t = LINEAR.alpha(t) * x0 - 0.8 * LINEAR.sigma(t)
    beta = 1e-4 + (0.02 - 1e-4) * (k - 1) / 999
    mean_s, var_s = LINEAR.alpha(s) * x0, LINEAR.sigma(s) ** 2
    centre = mean_s + np.linspace(-1, 1, 400_001) * 12 * np.sqrt(var_s)
    log_p = -((centre - mean_s) ** 2) / (2 * var_s) - (x_t - np.sqrt(1 - beta) * centre) ** 2 / (
        2 * beta
    )
    p = np.exp(log_p - log_p.max())
    mean = (p * centre).sum() / p.sum()
    std = np.sqrt((p * (centre - mean) ** 2).sum() / p.sum())

    posterior, forward = solvers.posterior_std(LINEAR, np.array(t), np.array(s))
    assert posterior == pytest.approx(std, rel=1e-5)
    assert forward**2 == pytest.approx(beta, rel=1e-9)
    signal, direction, scale = solvers.ddim(1.0).coefficients(LINEAR, np.array([t, s, 0.0]))
    noise = (x_t - LINEAR.alpha(t) * x0) / LINEAR.sigma(t)
    assert signal[0] * x0 + direction[0] * noise == pytest.approx(mean, rel=1e-5, abs=1e-6)
    assert scale[0] == pytest.approx(std, rel=1e-5)
    # and the same mean by Ho et al. 2020, eq. 7
    ab_t, ab_s = LINEAR.alpha(t) ** 2, LINEAR.alpha(s) ** 2
    mu = np.sqrt(ab_s) * beta / (1 - ab_t) * x0 + np.sqrt(1 - beta) * (1 - ab_s) / (1 - ab_t) * x_t
    assert mu == pytest.approx(mean, rel=1e-5, abs=1e-6)


def test_both_variances_share_their_mean_and_end_without_noise():
    grid = np.arange(1000, -1, -1) / 1000
    small = solvers.ddim(1.0).coefficients(LINEAR, grid)
    large = solvers.ddim(1.0, "beta").coefficients(LINEAR, grid)
    np.testing.assert_array_equal(small[:2], large[:2])
    betas = np.linspace(1e-4, 0.02, 1000)[::-1]
    # 1 - alpha_bar cancels: beta_1 = 1e-4 keeps 12 of float64's 16 digits
    np.testing.assert_allclose(large[2][:-1], np.sqrt(betas)[:-1], rtol=1e-8)
    alpha_bar = np.cumprod(1 - betas[::-1])[::-1]
    tilde = betas[:-1] * (1 - alpha_bar[1:]) / (1 - alpha_bar[:-1])  # Ho et al. 2020, eq. 7
    np.testing.assert_allclose(small[2][:-1], np.sqrt(tilde), rtol=1e-8)
    assert small[2][-1] == large[2][-1] == small[1][-1] == 0 and small[0][-1] == 1


def test_a_solver_from_outside_is_named_by_its_place(monkeypatch):
    outside = types.ModuleType("outside")
    outside.multistep, outside.value, outside.wrong = multistep, multistep(), lambda: 3
    outside.scaled = lambda scale: multistep()._replace(calls=scale)
    monkeypatch.setitem(sys.modules, "outside", outside)
    assert solvers.build("outside:multistep").calls == 1
    assert solvers.build("outside:value") is outside.value
    assert solvers.build({"name": "outside:scaled", "scale": 2}).calls == 2
    assert solvers.build(outside.value) is outside.value
    for bad, message in (("outside:wrong", "not a Solver"), ("outside:no", "has no 'no'")):
        with pytest.raises(InputError, match=message):
            solvers.build(bad)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ddmi", {}, "did you mean ddpm or ddim"),
        (None, {}, "unknown solver 'None'"),
        ("heun", {"eta": 0.5}, "'heun' has no option 'eta'"),
        ("heun", {"variance": "beta"}, "'heun' has no option 'variance'"),
        ("ddim", {"variance": "betta"}, "did you mean beta"),
        *(("ddim", {"eta": eta}, "eta must be") for eta in (1.5, -0.1, np.nan, "1", None, True)),
    ],
)
def test_wrong_input_is_named(name, options, message):
    with pytest.raises(InputError, match=message):
        solvers.build(name, **options)
