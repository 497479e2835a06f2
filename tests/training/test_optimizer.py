"""Learning-rate schedules and optimisers against their formulae."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen.errors import InputError
from jaxgen.training import optimizer


def rates(steps, **options):
    schedule = optimizer.learning_rate(**options)
    return [float(schedule(step)) for step in steps]


def test_warm_up_is_linear_and_then_the_rate_is_constant():
    assert rates([0, 1, 5, 10, 99], peak=0.2, warmup=10, total_steps=100) == pytest.approx(
        [0, 0.02, 0.1, 0.2, 0.2]
    )
    assert rates([0, 50], peak=0.2, total_steps=100) == pytest.approx([0.2, 0.2])


def test_decays_run_from_the_end_of_the_warm_up_to_the_last_step():
    steps = np.array([10, 35, 60, 110])
    progress = (steps - 10) / 100
    cosine = 0.2 * (0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * progress)))
    common = dict(peak=0.2, warmup=10, end=0.1, total_steps=110)
    assert rates(steps, decay="cosine", **common) == pytest.approx(cosine, rel=1e-5)
    assert rates(steps, decay="linear", **common) == pytest.approx(
        0.2 * (1 - 0.9 * progress), rel=1e-5
    )
    assert rates([5], decay="cosine", **common) == pytest.approx([0.1])


def steps_of(options, gradients, start):
    transformation, _ = optimizer.build(options, 100)
    params = jnp.asarray(start)
    state = transformation.init(params)
    for gradient in gradients:
        updates, state = transformation.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
    return np.asarray(params)


def test_adam_is_algorithm_1_of_kingma_and_ba():
    gradients, start = np.random.default_rng(0).normal(size=(5, 3)), np.array([1.0, -2.0, 0.5])
    b1, b2, rate = 0.7, 0.9, 0.05
    x, m, v = start.copy(), np.zeros(3), np.zeros(3)
    for t, g in enumerate(gradients, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        x -= rate * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + 1e-8)
    ours = steps_of({"name": "adam", "learning_rate": rate, "b1": b1, "b2": b2}, gradients, start)
    np.testing.assert_allclose(ours, x, rtol=1e-5)


def test_weight_decay_is_decoupled():
    ours = steps_of(
        {"name": "adamw", "learning_rate": 0.1, "weight_decay": 0.5}, np.zeros((2, 1)), [1.0]
    )
    np.testing.assert_allclose(ours, (1 - 0.1 * 0.5) ** 2, rtol=1e-6)


def test_clipping_scales_the_whole_gradient_to_the_largest_norm():
    options = {"name": "sgd", "learning_rate": 1.0, "clip": 1.0}
    np.testing.assert_allclose(steps_of(options, [[3.0, 4.0]], [0.0, 0.0]), [-0.6, -0.8], rtol=1e-6)
    np.testing.assert_allclose(steps_of(options, [[0.3, 0.4]], [0.0, 0.0]), [-0.3, -0.4], rtol=1e-6)


def test_the_schedule_drives_the_optimiser():
    options = {"name": "sgd", "learning_rate": 1.0, "warmup": 2}
    np.testing.assert_allclose(
        steps_of(options, [[1.0]] * 4, [0.0]), -(0.0 + 0.5 + 1.0 + 1.0), rtol=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", optimizer.NAMES)
def test_every_optimiser_goes_downhill(name):
    transformation, _ = optimizer.build({"name": name, "learning_rate": 0.05}, 50)
    x = jnp.array([1.0, -2.0])
    state = transformation.init(x)
    for _ in range(4):
        updates, state = transformation.update(2 * x, state, x)
        x = optax.apply_updates(x, updates)
    assert float(jnp.sum(x**2)) < 5.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "addam", "learning_rate": 1.0}, "did you mean adam"),
        ({"name": "adam"}, "'adam' needs a learning_rate"),
        ({"name": "adam", "learning_rate": 1.0, "beta1": 0.5}, "optimizer has no option 'beta1'"),
        ({"name": "adam", "learning_rate": 1.0, "decay": "cosin"}, "did you mean cosine"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(InputError, match=message):
        optimizer.build(options, 10)
