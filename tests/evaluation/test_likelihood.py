"""Likelihoods and reconstructions of held-out images, for models whose answer is known."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import config as config_lib
from jaxgen.evaluation import likelihood
from jaxgen.families import Family, LogProb
from jaxgen.training import load_source


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
    record = likelihood.log_probability(config, family, {}, load_source(config, "test"))
    assert record["bits_per_dimension"] == pytest.approx(np.log2(255.0), rel=1e-4)
    assert (record["images"], record["kind"]) == (4, "exact")


def test_reconstruction_of_a_model_that_adds_a_constant_has_its_square_as_error(config):
    """x + 6 / 127.5 in [-1, 1] is 6 grey levels brighter: an error of 36 where no pixel leaves the
    range.
    """

    def family(shift):
        return Family((), None, None, None, {}, None, encode=lambda v, batch, keys: batch["image"],
                      decode=lambda v, z, label: z + shift / 127.5)  # fmt: skip

    source = load_source(config, "test")
    source.columns["image"] = np.minimum(source.images, 200)
    found = likelihood.reconstruction(config, family(6.0), {}, source)
    assert found["mse"] == pytest.approx(36.0) and found["psnr"] == pytest.approx(
        20 * np.log10(255 / 6)
    )
    perfect = likelihood.reconstruction(config, family(0.0), {}, source)
    assert (
        perfect["mse"] == 0.0
        and perfect["ssim"] == pytest.approx(1.0)
        and np.isfinite(perfect["psnr"])
    )
    assert (
        likelihood.reconstruction(config, Family((), None, None, None, {}, None), {}, source)
        is None
    )
