"""Observation models against SciPy; the discretised logistic as a law over 256 levels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as stats

from jaxgen.errors import InputError
from jaxgen.losses import likelihood

SHAPE = (3, 4, 4, 2)
LEVELS = np.arange(256) / 127.5 - 1.0


def random(seed, shape=SHAPE, scale=1.0):
    return (scale * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def keys(n, seed=0):
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(jnp.arange(n))


def per_example(x):
    return x.reshape(x.shape[0], -1).sum(-1)


def test_bernoulli_is_scipys():
    logits, x = random(0, scale=3), (random(1) > 0).astype(np.float32)
    truth = per_example(stats.bernoulli.logpmf(x, 1 / (1 + np.exp(-logits.astype(np.float64)))))
    np.testing.assert_allclose(likelihood.bernoulli_log_prob(logits, x), truth, rtol=1e-5)


def test_gaussian_is_scipys():
    mean, log_scale, x = random(0), random(1), random(2)
    truth = per_example(
        stats.norm.logpdf(x.astype(np.float64), mean, np.exp(log_scale.astype(np.float64)))
    )
    np.testing.assert_allclose(likelihood.gaussian_log_prob(mean, log_scale, x), truth, rtol=1e-5)


def each_level(mean, log_scale):
    """log mass of all 256 levels of one pixel."""
    mean, log_scale = np.broadcast_arrays(np.float32(mean), np.float32(log_scale))
    row = jax.vmap(
        lambda x: likelihood.discretized_logistic_log_prob(mean[:, None], log_scale[:, None], x)
    )
    # [256, pixels]
    return row(jnp.broadcast_to(jnp.float32(LEVELS)[:, None, None], (256, mean.size, 1)))


@pytest.mark.slow
def test_discretized_logistic_sums_to_one():
    rng = np.random.default_rng(0)
    mean = np.concatenate(
        [rng.uniform(-1.2, 1.2, 50), [-1.0, 1.0, 0.0, -20.0, 20.0, 0.3, 0.3, 1.0]]
    )
    log_scale = np.concatenate(
        [rng.uniform(-7, 2, 50), [-7.0, -7.0, 6.0, -7.0, -1.0, -7.0, -30.0, 10.0]]
    )
    mass = np.exp(np.asarray(each_level(mean, log_scale), np.float64)).sum(0)
    np.testing.assert_allclose(mass, 1.0, atol=2e-4)


@pytest.mark.slow
def test_discretized_logistic_is_scipys_difference_of_distribution_functions():
    rng = np.random.default_rng(1)
    mean, log_scale = rng.uniform(-1, 1, 20), rng.uniform(-4, 1, 20)
    edges = np.concatenate([[-np.inf], LEVELS[1:] - 1 / 255, [np.inf]])
    cdf = stats.logistic.cdf(edges[:, None], mean, np.exp(log_scale))
    mass = np.diff(cdf, axis=0)
    stable = mass > 1e-8  # the difference of two float64 near 1 has lost the rest
    ours = np.asarray(each_level(mean, log_scale))
    np.testing.assert_allclose(ours[stable], np.log(mass[stable]), atol=2e-3)
    assert stable.mean() > 0.5


@pytest.mark.slow
def test_values_and_gradients_are_finite_at_extremes():
    grid = np.meshgrid([-1e3, -1.0, 0.0, 1.0, 1e3], [-1e3, -7.0, 0.0, 40.0], [-1.0, 1 / 255, 1.0])
    # an example for each combination
    mean, log_scale, x = (jnp.float32(g.reshape(-1, 1, 1, 1)) for g in grid)

    def check(function, *arguments):
        values, pull = jax.vjp(function, *arguments)
        for number in (values, *pull(jnp.ones_like(values))):
            assert np.isfinite(number).all()

    check(lambda m, s: likelihood.discretized_logistic_log_prob(m, s, x), mean, log_scale)
    check(lambda m, s: likelihood.gaussian_log_prob(m, s, x), mean, log_scale)
    check(lambda logits: likelihood.bernoulli_log_prob(logits, 0.5 * (x + 1)), mean)


@pytest.mark.slow
def test_dynamic_binarisation_has_the_grey_value_as_its_probability_and_depends_on_the_key_alone():
    model = likelihood.build("bernoulli")
    image = jnp.broadcast_to(jnp.linspace(-1, 1, 5)[:, None], (4000, 1, 5, 1))
    x = model.observe(image, keys(4000))
    assert set(np.unique(x)) == {0.0, 1.0}
    # 5 standard errors
    np.testing.assert_allclose(x.mean((0, 1, 3)), np.linspace(0, 1, 5), atol=0.04)
    np.testing.assert_array_equal(model.observe(image[5:7], keys(4000)[5:7]), x[5:7])
    threshold = likelihood.build("bernoulli", binarization="threshold")
    np.testing.assert_array_equal(threshold.observe(image, None)[0, 0, :, 0], [0, 0, 0, 1, 1])
    np.testing.assert_allclose(model.mean(jnp.zeros((1, 1, 1, 1))), 0.0)


def test_gaussian_dequantises_by_one_grey_level_centred_on_the_pixel():
    noise = (
        np.asarray(likelihood.build("gaussian").observe(jnp.zeros((20_000, 1, 1, 1)), keys(20_000)))
        * 127.5
    )
    assert np.abs(noise).max() <= 0.5
    assert stats.kstest(noise.ravel(), stats.uniform(-0.5, 1).cdf).pvalue > 1e-3


def test_a_dequantised_density_bounds_the_probability_of_the_grey_level():
    """E log p(x + u) + log(bin) <= log P(level), nearly equal for a wide density (Theis et al.
    2016, section 3.1).
    """
    x, mean, scale = 0.2, 0.25, 0.05
    model = likelihood.build("gaussian", scale=scale, squash=False)
    seen = model.observe(jnp.full((4000, 1, 1, 1), x), keys(4000))
    ours = float(np.mean(model.log_prob(jnp.full((4000, 1, 1, 1), mean), seen))) + np.log(1 / 127.5)
    exact = np.log(np.diff(stats.norm.cdf([x - 1 / 255, x + 1 / 255], mean, scale))[0])
    assert ours == pytest.approx(exact, abs=0.01)


def test_channels_hold_mean_then_log_scale_and_the_mean_image_is_clipped():
    outputs = jnp.concatenate([jnp.float32(random(0)), jnp.float32(random(1))], -1)
    for name, options in {"gaussian": {"squash": False}, "discretized_logistic": {}}.items():
        model = likelihood.build(name, scale="pixel", **options)
        assert (model.channels, model.global_scale) == (2, False)
        np.testing.assert_array_equal(model.mean(outputs), np.clip(random(0), -1, 1))
        function = getattr(likelihood, f"{name}_log_prob")
        x = jnp.clip(random(2), -1, 1)
        np.testing.assert_array_equal(model.log_prob(outputs, x), function(random(0), random(1), x))


@pytest.mark.parametrize("squash", [True, False])
def test_a_gaussian_of_fixed_scale_takes_the_mean_alone_through_tanh_unless_told_not_to(squash):
    fixed = likelihood.build("gaussian", scale=0.5, squash=squash)
    assert fixed.channels == 1
    mean = np.tanh(random(0).astype(np.float64)) if squash else random(0)
    truth = per_example(stats.norm.logpdf(random(2).astype(np.float64), mean, 0.5))
    np.testing.assert_allclose(fixed.log_prob(random(0), random(2)), truth, rtol=1e-5)
    np.testing.assert_allclose(fixed.mean(random(0)), np.clip(mean, -1, 1), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gausian", {}, "did you mean gaussian"),
        ("gaussian", {"scle": 1}, "did you mean scale"),
        ("gaussian", {"scale": -1.0}, "a number above 0"),
        ("gaussian", {"scale": "image"}, "global or pixel"),
        ("discretized_logistic", {"scale": 0.1}, "global or pixel"),
        ("bernoulli", {"binarization": "dynamik"}, "dynamic"),
    ],
)
def test_bad_options_are_named(name, options, message):
    with pytest.raises(InputError, match=message):
        likelihood.build(name, **options)
