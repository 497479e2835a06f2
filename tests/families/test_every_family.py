"""What every family promises; a new one is a row of tests/tiny.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import families, sampling, spaces
from jaxgen.calls import Call
from jaxgen.errors import InputError
from jaxgen.losses import objective
from jaxgen.training import players as players_lib
from jaxgen.training import state as state_lib
from tests.support import close, images, keys
from tests.tiny import SYSTEMS, tiny

every_family = pytest.mark.parametrize("name", SYSTEMS)


@functools.cache
def system(name):
    """(config, family, players, variables away from their initial values, a batch of 8)."""
    config = tiny(name)
    family = families.build(config)
    players = players_lib.build(config, family)

    @jax.jit
    def create():
        variables = state_lib.variables(state_lib.initial(config, family, players)())
        leaves, tree = jax.tree.flatten(variables["params"])
        noise = [0.1 * jax.random.normal(jax.random.key(i), x.shape) for i, x in enumerate(leaves)]
        return {**variables, "params": tree.unflatten([a + b for a, b in zip(leaves, noise)])}

    data = {"image": images(0, 8, 8, 8, 1), "label": np.arange(8, dtype=np.int32)}
    batch = jax.jit(spaces.from_config(config).enter)(data, keys(8))
    return config, family, players, create(), batch


def options(config):
    return dict(config.sample.options)


@every_family
def test_sample_i_depends_on_its_key_and_its_condition_alone(name):
    config, family, _, variables, batch = system(name)
    condition, k = family.data.conditions.of(batch), keys(8)

    @jax.jit
    def draw(k, condition):
        return family.sample(variables, k, condition, **options(config))

    every = draw(k, condition)
    assert every.shape == (8, *family.data.shape) and np.isfinite(every).all()
    for part in (slice(2, 5), slice(6, 7)):
        some = draw(k[part], jax.tree.map(lambda x, part=part: x[part], condition))
        close(some, every[part], factor=2**8)
    if condition:
        other = jax.tree.map(lambda x: jnp.roll(x, 1, 0), condition)
        assert np.abs(draw(k, other) - every).max(axis=(1, 2, 3)).min() > 1e-4


@every_family
def test_terms_are_finite_and_an_examples_terms_do_not_depend_on_its_batch(name):
    _, family, players, variables, batch = system(name)

    @jax.jit
    def values(batch, k):
        outputs, _ = family.forward(variables, batch, Call(True, k))
        rows = [row for player in players.values() for row in player.rows]
        return objective.evaluate(rows, outputs, len(k))

    k = keys(8)
    every = values(batch, k)
    some = values(jax.tree.map(lambda x: x[3:6], batch), k[3:6])
    for term, value in every.items():
        assert value.shape == (8,) and np.isfinite(value).all(), term
        close(some[term], value[3:6], factor=2**10)


@every_family
def test_a_model_takes_exactly_its_conditions(name):
    _, family, _, variables, batch = system(name)
    condition = family.data.conditions.of(batch)
    bare = {"x": batch["x"]}
    if condition:
        for call in (
            lambda: family.sample(variables, keys(8)),
            lambda: family.forward(variables, bare, Call(True, keys(8))),
        ):
            with pytest.raises(InputError, match="conditioned on '.*none was given"):
                call()
    with pytest.raises(InputError, match="not 'mood'"):
        family.sample(variables, keys(8), {**(condition or {}), "mood": jnp.zeros(8)})


@pytest.mark.slow
@every_family
def test_nfe_counts_the_networks_evaluations_exactly(name, monkeypatch):
    config, family, _, variables, batch = system(name)
    evaluated, apply = [], families.base.Net.__call__

    def counted(net, variables, x, *inputs, **keywords):
        jax.debug.callback(lambda: evaluated.append(len(x)))
        return apply(net, variables, x, *inputs, **keywords)

    monkeypatch.setattr(families.base.Net, "__call__", counted)
    condition = jax.tree.map(lambda x: x[:2], family.data.conditions.of(batch))
    family.sample(variables, keys(2), condition, **options(config))
    jax.effects_barrier()
    assert sum(evaluated) == 2 * family.nfe(**options(config))


@every_family
def test_latents_have_a_row_for_each_example_and_decode_to_examples(name):
    _, family, _, variables, batch = system(name)
    if family.encode is None:
        pytest.skip("it has no encoder")
    z = jax.jit(family.encode)(variables, batch, keys(8))
    assert z.ndim == 2 and len(z) == 8
    x = jax.jit(family.decode)(variables, z, family.data.conditions.of(batch))
    assert x.shape == batch["x"].shape and np.abs(x).max() <= 1


@pytest.mark.slow
@every_family
def test_log_prob_says_what_it_is(name):
    config, family, _, variables, batch = system(name)
    if family.log_prob is None:
        pytest.skip("it has no likelihood")
    few = {"num_times": 2} if family.path is not None else {}
    found = family.log_prob(variables, batch, keys(8), **few)
    assert found.kind in ("exact", "lower bound") and found.nats.shape == (8,)
    assert np.isfinite(found.nats).all()


@pytest.mark.slow
@every_family
def test_denoise_gives_an_image_and_a_noise_that_make_up_what_it_saw(name):
    _, family, _, variables, batch = system(name)
    if family.denoise is None:
        pytest.skip("it has no path")
    time = jnp.linspace(0.2, 0.8, 8)
    condition, x_t = family.data.conditions.of(batch), batch["x"]
    x0, noise = jax.jit(family.denoise)(variables, x_t, time, condition)
    alpha, sigma = (f(time)[:, None, None, None] for f in (family.path.alpha, family.path.sigma))
    assert np.abs(x0).max() <= 1
    close(alpha * x0 + sigma * noise, x_t, factor=2**6)


@every_family
def test_a_family_prints_as_one_line(name):
    text = repr(system(name)[1])
    assert "\n" not in text and len(text) < 200 and all(n in text for n in system(name)[1].networks)


def test_conditions_of_samples_are_the_classes_in_turn_and_rows_of_data():
    config, family, *_ = system("diffusion_gan")
    spec = family.data.conditions
    rows = {"small": np.random.default_rng(0).normal(size=(3, 4, 4, 1))}
    found = sampling.conditions(spec, 12, rows=rows)
    assert found["label"].tolist() == [*range(10), 0, 1]
    np.testing.assert_array_equal(found["small"][3:6], rows["small"])
    assert sampling.conditions(spec, 2, label=7, rows=rows)["label"].tolist() == [7, 7]
    with pytest.raises(InputError, match="conditioned on 'small'"):
        sampling.conditions(spec, 2)
    with pytest.raises(InputError, match="classes are 0 to 9"):
        sampling.conditions(spec, 2, label=10, rows=rows)
