import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import families
from jaxgen.calls import Call
from jaxgen.config import default
from jaxgen.losses import objective
from jaxgen.losses.adversarial import r1
from tests.support import keys

SHAPE = (4, 4, 2)


def images(n):
    image = np.random.default_rng(0).integers(0, 256, (n, *SHAPE)) / 127.5 - 1
    return {"x": jnp.float32(image), "label": jnp.arange(n) % 3}


@functools.cache
def gan(classes=0):
    config = default()
    config.family, config.conditional = "adversarial", classes > 0
    config.data.update(image_shape=SHAPE, num_classes=classes)
    config.model.update(
        latent=5,
        generator=dict(name="mlp_decoder", hidden=(16,)),
        critic=dict(name="mlp_critic", hidden=(16, 8), spectral_norm=True),
    )
    family = families.build(config)
    return family, jax.jit(family.init)(jax.random.key(0), images(1))


@pytest.mark.slow
def test_latents_are_standard_normal():
    """Through a generator that copies its latent: tanh^-1 of the samples."""
    family, variables = gan()
    body = {
        "kernel": jnp.hstack([jnp.eye(5), -jnp.eye(5), jnp.zeros((5, 6))]),
        "bias": jnp.zeros(16),
    }
    copy = (
        jnp.zeros((16, 32))
        .at[jnp.arange(5), jnp.arange(5)]
        .set(0.5)
        .at[5 + jnp.arange(5), jnp.arange(5)]
        .set(-0.5)
    )
    generator = {"body": {"dense_0": body}, "out": {"kernel": copy, "bias": jnp.zeros(32)}}
    variables = {**variables, "params": {**variables["params"], "generator": generator}}
    z = (
        2
        * np.arctanh(np.float64(jax.jit(family.sample)(variables, keys(10_000)))).reshape(-1, 32)[
            :, :5
        ]
    )
    np.testing.assert_allclose(z.mean(0), 0, atol=0.05)
    np.testing.assert_allclose(np.cov(z.T), np.eye(5), atol=0.07)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [0, 3])
def test_outputs_hold_what_adversarial_terms_need_and_examples_do_not_mix(classes):
    family, variables = gan(classes)
    rows = objective.build(
        "m", {n: {} for n in ("critic", "adversarial", "r1", "r2", "gradient_penalty")}
    )
    # scores of a relativistic pair couple image i with sample i, nothing else
    rows += objective.build("m", {"paired": {"term": "critic", "loss": "relativistic"}})
    data = images(8)

    @jax.jit
    def values(batch, keys):
        return objective.evaluate(
            rows, family.forward(variables, batch, Call(True, keys))[0], len(keys)
        )

    every = values(data, keys(8))
    some = values(jax.tree.map(lambda x: x[3:6], data), keys(8)[3:6])
    for name, value in every.items():
        assert value.shape == (8,) and np.isfinite(value).all()
        np.testing.assert_allclose(some[name], value[3:6], rtol=2e-4, atol=1e-6)


@functools.partial(jax.jit, static_argnums=1)
def new_state(variables, train):
    return gan()[0].forward(variables, images(2), Call(train, keys(2)))[1]


@pytest.mark.slow
def test_spectral_state_moves_once_a_forward_in_training_and_never_else():
    _, variables = gan()
    trained, evaluated = new_state(variables, True), new_state(variables, False)
    pairs = zip(jax.tree.leaves(variables["state"]), jax.tree.leaves(trained), strict=True)
    # the score's vector has one entry: 1 or -1
    moved = [np.abs(a - b).max() > 1e-4 for a, b in pairs if a.size > 1]
    assert len(moved) == 2 and all(moved)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, variables["state"], evaluated))


def test_a_critic_with_spectral_norm_has_slope_one_at_most():
    family, variables = gan()
    for _ in range(20):  # power iterations
        variables = {**variables, "state": new_state(variables, True)}
    penalty = r1()
    squared = 2 * np.asarray(
        jax.jit(lambda v: penalty(family.forward(v, images(8), Call(False, keys(8)))[0]))(variables)
    )
    assert squared.max() <= 1.01 and squared.max() > 1e-4
