"""A trained model as a value: compiled functions on plain arrays."""

import jax
import numpy as np
import pytest

from jaxgen import families
from jaxgen.artefact import Artefact
from jaxgen.errors import InputError
from jaxgen.training import players as players_lib
from jaxgen.training import state as state_lib
from tests.support import close, images, normal
from tests.tiny import tiny


@pytest.fixture(scope="module")
def artefact():
    made = {}

    def make(name):
        if name not in made:
            config = tiny(name)
            family = families.build(config)
            players = players_lib.build(config, family)
            state = state_lib.init(config, family, players)
            made[name] = Artefact(config, family, state_lib.variables(state))
        return made[name]

    return make


@pytest.mark.slow
def test_samples_depend_on_the_seed_and_their_place_alone(artefact):
    model = artefact("vae")
    many = model.sample(9, seed=3)
    assert many.shape == (9, 8, 8, 1) and many.dtype == np.uint8
    assert np.abs(many - model.sample(9, seed=3, batch_size=4).astype(int)).max() <= 1
    np.testing.assert_array_equal(model.sample(2, seed=3, batch_size=9), many[:2])
    assert (model.sample(9, seed=4) != many).any()


@pytest.mark.slow
def test_codes_reconstructions_and_likelihoods_have_a_row_for_each_example(artefact):
    model, x = artefact("vae"), images(0, 5, 8, 8, 1)
    z = model.encode(x)
    assert z.shape == (5, 2) and model.decode(z).shape == x.shape
    assert model.decode(z).dtype == np.uint8
    one, more = model.log_prob(x), model.log_prob(x, num_samples=8)
    assert one.shape == (5,) and (one != more).all()


@pytest.mark.slow
def test_a_conditional_model_takes_one_label_or_one_for_each(artefact):
    model = artefact("gan")
    same = model.sample(4, label=2)
    np.testing.assert_array_equal(same, model.sample(4, condition={"label": np.full(4, 2)}))
    with pytest.raises(InputError, match="conditioned on 'label'"):
        model.decode(normal(0, 2, 4))
    z = normal(0, 2, 4)
    np.testing.assert_array_equal(model.decode(z, label=1), model.decode(z, label=[1, 1]))
    with pytest.raises(InputError, match="has no encode"):
        model.encode(images(0, 2, 8, 8, 1), label=0)


def test_denoise_splits_what_it_sees(artefact):
    model, x_t = artefact("diffusion"), normal(1, 3, 8, 8, 1)
    x0, noise = model.denoise(x_t, 0.5)
    path = model.family.path
    close(path.alpha(0.5) * x0 + path.sigma(0.5) * noise, x_t, 8.0, factor=64)


@pytest.mark.slow
def test_a_column_made_of_the_example_is_no_condition_to_give(artefact):
    model = artefact("diffusion_gan")
    with pytest.raises(InputError, match="conditioned on 'small'"):
        model.sample(2)
    small = normal(0, 2, 4, 4, 1)
    assert model.sample(2, condition={"label": np.zeros(2, int), "small": small}).shape[0] == 2


def test_the_digest_is_of_all_numbers(artefact):
    model = artefact("vae")
    again = Artefact(model.config, model.family, jax.tree.map(np.copy, model.variables))
    assert again.digest == model.digest and len(model.digest) == 64
    leaves, tree = jax.tree.flatten(model.variables)
    leaves[0] = leaves[0] + 1e-6
    other = Artefact(model.config, model.family, jax.tree.unflatten(tree, leaves))
    assert other.digest != model.digest


def test_it_prints_as_one_line(artefact):
    text = repr(artefact("vae"))
    assert text.startswith("Artefact(vae: ") and "\n" not in text


def test_examples_of_another_kind_are_one_line(artefact):
    with pytest.raises(InputError, match=r"expected uint8 of shape \(N, 8, 8, 1\)"):
        artefact("vae").encode(np.zeros((2, 8, 8, 1), np.float32))
