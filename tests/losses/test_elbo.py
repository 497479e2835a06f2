"""KL by quadrature; the bounds against the exact evidence of a conjugate Gaussian model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as stats

from jaxgen.losses import elbo

RNG = np.random.default_rng(0)
MEAN = RNG.normal(size=(4, 3)).astype(np.float32)
LOG_VARIANCE = RNG.normal(size=(4, 3)).astype(np.float32)


def kl_by_quadrature(mean, log_variance):
    std = np.exp(0.5 * np.float64(log_variance))[..., None]
    z = np.float64(mean)[..., None] + std * np.linspace(-12, 12, 20_001)
    q = stats.norm(np.float64(mean)[..., None], std)
    return np.trapezoid(q.pdf(z) * (q.logpdf(z) - stats.norm.logpdf(z)), z, axis=-1)


def test_kl_is_the_integral():
    truth = kl_by_quadrature(MEAN, LOG_VARIANCE).sum(-1)
    np.testing.assert_allclose(elbo.gaussian_kl(MEAN, LOG_VARIANCE), truth, rtol=1e-5)


@pytest.mark.slow
def test_free_bits_are_a_floor_per_dimension_without_gradient_below_it():
    truth = np.maximum(kl_by_quadrature(MEAN, LOG_VARIANCE), 0.5)
    assert (truth == 0.5).any() and (truth > 0.5).any()
    np.testing.assert_allclose(
        elbo.gaussian_kl(MEAN, LOG_VARIANCE, free_bits=0.5), truth.sum(-1), rtol=1e-5
    )
    slope = jax.grad(lambda m: elbo.gaussian_kl(m, LOG_VARIANCE, free_bits=0.5).sum())(
        jnp.asarray(MEAN)
    )
    np.testing.assert_allclose(slope, np.where(truth > 0.5, MEAN, 0.0), rtol=1e-6)


def test_log_densities_are_scipys():
    z = RNG.normal(size=(5, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(
        elbo.standard_normal_log_prob(z), stats.norm.logpdf(z).sum(-1), rtol=1e-5
    )
    truth = stats.norm.logpdf(np.float64(z), MEAN, np.exp(0.5 * np.float64(LOG_VARIANCE))).sum(-1)
    np.testing.assert_allclose(
        elbo.diagonal_gaussian_log_prob(z, MEAN, LOG_VARIANCE), truth, rtol=1e-4, atol=1e-4
    )


@pytest.mark.slow
def test_bound_of_constant_weights_and_of_huge_ones():
    assert elbo.importance_weighted_bound(jnp.full((7, 2), -3.0)) == pytest.approx(
        [-3.0, -3.0], abs=1e-6
    )
    log_weights = RNG.normal(size=(6, 3)) * 3
    truth = np.log(np.mean(np.exp(log_weights), 0))
    np.testing.assert_allclose(
        elbo.importance_weighted_bound(jnp.float32(log_weights - 5000)), truth - 5000, rtol=1e-6
    )


@pytest.mark.slow
def test_bound_rises_with_the_number_of_samples_to_the_evidence():
    """z ~ N(0, 1), x | z ~ N(z, 0.5^2): log p(x) = log N(x; 0, 1.25). The proposal is wrong on
    purpose.
    """
    x, noise = 0.7, 0.5
    q_mean, q_std = 0.2, 0.9
    evidence = stats.norm.logpdf(x, 0, np.sqrt(1 + noise**2))
    repeats = 1000

    def bound(count):
        z = q_mean + q_std * jax.random.normal(jax.random.key(count), (count, repeats, 1))
        mean, log_variance = jnp.full((1,), q_mean), jnp.full((1,), 2 * np.log(q_std))
        log_weights = (
            jax.scipy.stats.norm.logpdf(x, z[..., 0], noise)
            + elbo.standard_normal_log_prob(z)
            - elbo.diagonal_gaussian_log_prob(z, mean, log_variance)
        )
        return float(elbo.importance_weighted_bound(log_weights).mean())

    bounds = [bound(k) for k in (1, 2, 5, 20, 100)]
    assert (np.diff(bounds) > 0).all()
    assert bounds[-1] == pytest.approx(evidence, abs=0.01)
    # at K = 1 the gap is KL(q || p(z|x)), in closed form
    variance = 1 / (1 + 1 / noise**2)
    mean = variance * x / noise**2
    gap = 0.5 * (
        q_std**2 / variance + (q_mean - mean) ** 2 / variance - 1 - np.log(q_std**2 / variance)
    )
    assert bounds[0] == pytest.approx(evidence - gap, abs=0.1)


@pytest.mark.slow
def test_terms_are_to_be_minimised():
    log_weights = RNG.normal(size=(6, 4)).astype(np.float32)
    outputs = {
        "log_likelihood": jnp.arange(4.0),
        "posterior": (MEAN, LOG_VARIANCE),
        "log_weights": lambda count: jnp.asarray(log_weights[:count]),
    }
    np.testing.assert_array_equal(elbo.reconstruction()(outputs), -np.arange(4.0))
    np.testing.assert_allclose(
        elbo.kl()(outputs), kl_by_quadrature(MEAN, LOG_VARIANCE).sum(-1), rtol=1e-5
    )
    np.testing.assert_allclose(
        elbo.importance_weighted(num_samples=3)(outputs),
        -np.log(np.exp(log_weights[:3]).mean(0)),
        rtol=1e-5,
    )
