"""Likelihoods and reconstructions of held-out images, for models whose answer is known."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import config as config_lib
from jaxgen import data
from jaxgen.artefact import Artefact
from jaxgen.evaluation import likelihood
from jaxgen.families import Data, Family, LogProb
from tests.support import close


def artefact(config, **functions) -> Artefact:
    """A model without networks."""
    family = Family("toy", (), Data((8, 8, 1)), None, None, None, **functions)
    return Artefact(config, family, {})


@pytest.fixture
def config():
    config = config_lib.default()
    config.data.update(source="digits", image_shape=(8, 8, 1), num_classes=10)
    config.evaluation.update(log_prob_images=4, num=50)
    return config


def test_bits_per_dimension_of_a_density_count_the_width_of_a_grey_level(config):
    """A uniform density 1/2 on [-1, 1] gives each of the 255 intervals between grey levels 1/255:
    log2(255) bits a pixel.
    """

    def log_prob(variables, batch, keys):
        return LogProb(jnp.full(len(keys), 64 * np.log(0.5)), "exact", "gaussian")

    model = artefact(config, log_prob=log_prob)
    record = likelihood.log_probability(model, data.load("digits", "test"))
    # log2(127.5) for the width of a level, in place of log2(255 / 2)
    close(record["bits_per_dimension"], np.log2(255.0), 64 * np.log(0.5))
    assert (record["images"], record["kind"]) == (4, "exact")


def test_reconstruction_of_a_model_that_adds_a_constant_has_its_square_as_error(config):
    """x + 6 / 127.5 in [-1, 1] is 6 grey levels brighter: an error of 36 where no pixel leaves the
    range.
    """

    def model(shift):
        return artefact(
            config,
            encode=lambda v, batch, keys: batch["x"],
            decode=lambda v, z, condition: z + shift / 127.5,
        )

    source = data.load("digits", "test")
    source.columns["image"] = np.minimum(source.images, 200)
    found = likelihood.reconstruction(model(6.0), source)
    close([found["mse"], found["psnr"]], [36.0, 20 * np.log10(255 / 6)])
    perfect = likelihood.reconstruction(model(0.0), source)
    assert perfect["mse"] == 0.0 and np.isfinite(perfect["psnr"])
    close(perfect["ssim"], 1.0)
    assert likelihood.reconstruction(artefact(config), source) == {}
