"""Likelihoods and reconstructions of held-out images, for models whose answer is known."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import config as config_lib
from jaxgen import data
from jaxgen.evaluation import likelihood
from jaxgen.families import Family, LogProb
from tests.support import close


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

    family = Family((), None, None, None, {}, None, log_prob=log_prob)
    record = likelihood.log_probability(config, family, {}, data.load("digits", "test"))
    # log2(127.5) for the width of a level, in place of log2(255 / 2)
    close(record["bits_per_dimension"], np.log2(255.0), 64 * np.log(0.5))
    assert (record["images"], record["kind"]) == (4, "exact")


def test_reconstruction_of_a_model_that_adds_a_constant_has_its_square_as_error(config):
    """x + 6 / 127.5 in [-1, 1] is 6 grey levels brighter: an error of 36 where no pixel leaves the
    range.
    """

    def family(shift):
        return Family((), None, None, None, {}, None, encode=lambda v, batch, keys: batch["image"],
                      decode=lambda v, z, label: z + shift / 127.5)  # fmt: skip

    source = data.load("digits", "test")
    source = source._replace(images=np.minimum(source.images, 200))
    found = likelihood.reconstruction(config, family(6.0), {}, source)
    close([found["mse"], found["psnr"]], [36.0, 20 * np.log10(255 / 6)])
    perfect = likelihood.reconstruction(config, family(0.0), {}, source)
    assert perfect["mse"] == 0.0 and np.isfinite(perfect["psnr"])
    close(perfect["ssim"], 1.0)
    no_encoder = Family((), None, None, None, {}, None)
    assert likelihood.reconstruction(config, no_encoder, {}, source) == {}
