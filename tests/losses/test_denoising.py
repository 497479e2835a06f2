import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.losses import denoising

RNG = np.random.default_rng(0)
PREDICTION, TARGET = RNG.normal(size=(2, 5, 4, 3, 2)).astype(np.float32)


def test_the_error_is_averaged_over_all_axes_but_the_batch_and_weighted_per_example():
    squared = np.float64(PREDICTION - TARGET) ** 2
    truth = np.array([row.mean() for row in squared])
    np.testing.assert_allclose(denoising.denoising_loss(PREDICTION, TARGET), truth, rtol=1e-5)
    weight = np.arange(5.0)
    np.testing.assert_allclose(
        denoising.denoising_loss(PREDICTION, TARGET, weight), weight * truth, rtol=1e-5
    )


def test_the_term_asks_the_wiring_for_the_weight():
    asked = []

    def weight(kind, gamma):
        asked.append((kind, gamma))
        return jnp.arange(5.0)

    outputs = {"prediction": PREDICTION, "target": TARGET, "weight": weight}
    value = denoising.TERMS["denoising"](weighting="min_snr", gamma=3.0)(outputs)
    assert asked == [("min_snr", 3.0)]
    np.testing.assert_allclose(
        value, np.arange(5.0) * ((PREDICTION - TARGET) ** 2).mean((1, 2, 3)), rtol=1e-5
    )


def test_the_variational_bound_is_computed_only_when_asked_for():
    outputs = {"variational_bound": lambda: jnp.arange(3.0)}
    np.testing.assert_array_equal(denoising.TERMS["variational_bound"]()(outputs), [0.0, 1.0, 2.0])
    with pytest.raises(KeyError):
        denoising.TERMS["variational_bound"]()({})
