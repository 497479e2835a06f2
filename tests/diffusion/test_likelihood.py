from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

from jaxgen.diffusion import likelihood
from jaxgen.diffusion import schedule as schedules
from jaxgen.errors import InputError
from tests.diffusion.exact import LINEAR, denoiser
from tests.support import close, keys

LEVELS = np.arange(256) / 127.5 - 1
MEAN, STD = 0.1, 0.2


log_probability = jax.jit(likelihood.discretised_gaussian)


@pytest.mark.parametrize("std", [0.002, 0.01, 0.3])
@pytest.mark.parametrize("mean", [-3.0, -1.0, -0.3, 0.0039, 0.9, 2.0])
def test_discretised_gaussian_sums_to_one_and_matches_scipy(mean, std):
    log_p = np.float64(log_probability(np.float32(LEVELS), mean, std))
    assert np.exp(log_p).sum() == pytest.approx(1, abs=2e-4)
    # float64 reference from the side where no digits are lost
    lower, upper = (LEVELS - 1 / 255 - mean) / std, (LEVELS + 1 / 255 - mean) / std
    lower[0], upper[-1] = -np.inf, np.inf
    flip = lower + upper > 0
    lower, upper = np.where(flip, -upper, lower), np.where(flip, -lower, upper)
    exact = stats.norm.logcdf(upper) + np.log1p(
        -np.exp(stats.norm.logcdf(lower) - stats.norm.logcdf(upper))
    )
    np.testing.assert_allclose(log_p, exact, rtol=2e-4, atol=2e-3)


def test_discretised_gaussian_has_finite_gradients_everywhere():
    x = jnp.asarray(LEVELS, jnp.float32)
    means = jnp.array([-30.0, -1.0, 0.0, 1.0, 30.0])[:, None] + 0 * x
    gradient = jax.jit(jax.grad(lambda m: likelihood.discretised_gaussian(x, m, 0.01).sum()))(means)
    assert jnp.isfinite(gradient).all()


@pytest.mark.slow
@pytest.mark.parametrize("k", [2, 100, 1000])
def test_terms_are_the_kl_between_the_two_gaussians(k):
    """KL of N(mu(x_t, x_0), v) and N(mu(x_t, x0_hat), v), by Ho et al. 2020, eq. 7, in float64."""
    betas = np.linspace(1e-4, 0.02, 1000)
    alpha_bar = np.append(1.0, np.cumprod(1 - betas))
    beta, ab_t, ab_s = betas[k - 1], alpha_bar[k], alpha_bar[k - 1]
    x0, x0_hat = np.array([[0.1, -0.7]]), np.array([[0.3, -0.2]])
    shift = np.sqrt(ab_s) * beta / (1 - ab_t) * (x0 - x0_hat)
    expected = (shift**2).sum() / (2 * beta * (1 - ab_s) / (1 - ab_t))
    got = likelihood.vlb_term(jnp.asarray(x0), jnp.asarray(x0_hat), jnp.array([k]), LINEAR)
    assert float(got[0]) == pytest.approx(expected, rel=1e-4)


def test_prior_kl_by_quadrature():
    x0 = 0.8
    mean, std = LINEAR.alpha(1.0) * x0, LINEAR.sigma(1.0)
    x = np.linspace(-12, 12, 200_001)
    q = stats.norm.pdf(x, mean, std)
    expected = (q * (stats.norm.logpdf(x, mean, std) - stats.norm.logpdf(x))).sum() * (x[1] - x[0])
    got = likelihood.prior_kl(jnp.array([[x0]]), LINEAR)
    assert float(got[0]) == pytest.approx(expected, rel=1e-3)
    zero = schedules.build("linear", zero_terminal_snr=True)
    assert float(likelihood.prior_kl(jnp.array([[x0]]), zero)[0]) == 0


def even_schedule():
    """1000 steps even in log SNR from 9 to -9: a discretisation fine enough for the bound to be
    nearly tight.
    """

    def log_snr(t):
        return 9 - 18 * (t - 0.001) / 0.999

    return schedules.Schedule(
        "even",
        lambda t: (jax.nn.sigmoid if isinstance(t, jax.Array) else expit)(log_snr(t)) ** 0.5,
        lambda t: (jax.nn.sigmoid if isinstance(t, jax.Array) else expit)(-log_snr(t)) ** 0.5,
        1000,
    )


def exact_bound(schedule):
    """The bound's expectation per dimension, in float64: x_0 given x_t has variance STD^2 / (1 +
    STD^2 SNR).
    """
    time = np.arange(1, 1001) / 1000
    alpha, sigma = schedule.alpha(time), schedule.sigma(time)
    snr = (alpha / sigma) ** 2
    error = STD**2 / (1 + STD**2 * snr)
    denoising = ((snr[:-1] - snr[1:]) / 2 * error[1:]).sum()
    prior = (alpha[-1] ** 2 * (MEAN**2 + STD**2) + sigma[-1] ** 2 - 1 - np.log(sigma[-1] ** 2)) / 2
    residual, mass = (
        np.linspace(-6, 6, 2001) * np.sqrt(error[0]),
        stats.norm.pdf(np.linspace(-6, 6, 2001)) * 12 / 2000,
    )
    upper, lower = (stats.norm.cdf((residual + sign / 255) / sigma[0]) for sign in (1, -1))
    return denoising + prior - (mass * np.log(upper - lower)).sum()


@pytest.mark.slow
@pytest.mark.parametrize("schedule", [LINEAR, even_schedule()], ids=lambda s: s.name)
def test_the_bound_on_gaussian_data_is_its_closed_form_and_above_the_evidence(schedule):
    count = 512
    raw = np.clip(
        np.round((np.random.default_rng(0).normal(MEAN, STD, (count, 1, 2, 1)) + 1) * 127.5), 0, 255
    )
    x0 = jnp.asarray(raw / 127.5 - 1, jnp.float32)
    bound = jax.jit(
        lambda x: likelihood.negative_elbo(denoiser(schedule, MEAN, STD), schedule, x, keys(count))
    )(x0)
    upper, lower = ((raw + shift) / 127.5 - 1 for shift in (0.5, -0.5))
    evidence = -np.log(stats.norm.cdf(upper, MEAN, STD) - stats.norm.cdf(lower, MEAN, STD)).sum(
        (1, 2, 3)
    )
    gap = (np.asarray(bound) - evidence) / 2
    entropy = np.log(STD * 127.5) + np.log(2 * np.pi * np.e) / 2
    error = gap.std() / np.sqrt(count)
    assert gap.mean() > 0
    exact = exact_bound(schedule) - entropy
    assert gap.mean() == pytest.approx(exact, abs=4 * error + 0.005)
    # Ho et al.'s schedules double the noise in their first steps, which costs about half a nat;
    # even ones cost little.
    assert exact < (0.06 if schedule.name == "even" else 0.6)


@pytest.mark.slow
def test_estimates_are_unbiased():
    """The exact sum, the stratified and the single-time estimate share their expectation."""
    schedule = schedules.build("linear", steps=10, end=0.4)
    count = 2048
    x0 = jnp.broadcast_to(
        jnp.asarray(LEVELS[[40, 200]], jnp.float32).reshape(1, 1, 2, 1), (count, 1, 2, 1)
    )
    denoise = denoiser(schedule, MEAN, STD)

    @partial(jax.jit, static_argnums=(0, 1))
    def bound(seed, num_times):
        return likelihood.negative_elbo(
            denoise, schedule, x0, keys(count, seed), num_times=num_times
        )

    @jax.jit
    def single():
        time = jnp.asarray(np.random.default_rng(0).integers(1, 11, count) / 10, jnp.float32)
        noise = jax.random.normal(jax.random.key(5), x0.shape)
        predicted, _ = denoise(schedules.perturb(schedule, x0, noise, time), time)
        return likelihood.vlb_estimate(x0, predicted, time, schedule)

    exact = bound(0, None)
    estimates = {"one time": single(), "four times": bound(1, 4)}
    spread = {}
    for name, values in estimates.items():
        spread[name] = float(values.std()) / np.sqrt(count)
        noise_of_both = np.hypot(spread[name], float(exact.std()) / np.sqrt(count))
        assert abs(float(values.mean() - exact.mean())) < 4 * noise_of_both, name
    # strata do better than four independent times
    assert spread["four times"] < spread["one time"] / 2


@pytest.mark.slow
def test_an_estimate_depends_on_its_key_alone():
    x0 = jnp.asarray(LEVELS[[3, 90, 250]], jnp.float32).reshape(3, 1, 1, 1)
    run = jax.jit(
        lambda x, k: likelihood.negative_elbo(
            denoiser(LINEAR, MEAN, STD), LINEAR, x, k, num_times=4
        )
    )
    many, alone = run(x0, keys(3)), run(x0[1:2], keys(3)[1:2])
    close(many[1:2], alone, terms=1000)  # each estimate stands for 1000 steps


def test_wrong_input_is_named():
    x0 = jnp.zeros((1, 1, 1, 1))
    with pytest.raises(InputError, match="discrete"):
        likelihood.negative_elbo(lambda x, t: (x, x), schedules.build("rectified"), x0, keys(1))
    for wrong in (1001, 0, 2.5, np.nan, "9"):
        with pytest.raises(InputError, match="num_times must be"):
            likelihood.negative_elbo(lambda x, t: (x, x), LINEAR, x0, keys(1), num_times=wrong)
