import jax.numpy as jnp
import numpy as np
import scipy.stats as stats

from jaxgen.losses import perceptual

RNG = np.random.default_rng(0)
A = tuple(jnp.float32(RNG.normal(size=shape)) for shape in [(5, 7), (5, 4, 4, 2), (5, 3)])
B = tuple(jnp.float32(RNG.normal(size=x.shape)) for x in A)


def gaussian_distance(a, b):
    """-log N(a; b, 1) less its smallest value."""
    return (
        (stats.norm.logpdf(0.0) - stats.norm.logpdf(np.float64(a), np.float64(b)))
        .reshape(len(a), -1)
        .sum(1)
    )


def test_the_distance_is_a_unit_gaussians_negative_log_likelihood_in_feature_space():
    truth = sum(gaussian_distance(a, b) for a, b in zip(A, B, strict=True))
    np.testing.assert_allclose(perceptual.feature_distance(A, B), truth, rtol=1e-5)
    np.testing.assert_array_equal(perceptual.feature_distance(A, A), np.zeros(5))


def test_a_term_may_choose_its_layers():
    outputs = {"real_features": A, "reconstruction_features": B}
    every = perceptual.feature()(outputs)
    np.testing.assert_allclose(
        every, sum(gaussian_distance(a, b) for a, b in zip(A, B, strict=True)), rtol=1e-5
    )
    last = perceptual.feature(layers=(-1,))(outputs)
    np.testing.assert_allclose(last, gaussian_distance(A[2], B[2]), rtol=1e-5)


def test_pixels_are_compared_directly():
    outputs = {"real": A[1], "reconstruction": B[1]}
    np.testing.assert_allclose(
        perceptual.pixel()(outputs), gaussian_distance(A[1], B[1]), rtol=1e-5
    )
