"""The digits' judge and what is measured of a set of samples."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import config as config_lib
from jaxgen.evaluation import protocol
from jaxgen.families import Family, LogProb
from jaxgen.training import load_source


@pytest.fixture(scope="module")
def refs():
    config = config_lib.default()
    config.data.update(source="digits", image_shape=(8, 8, 1), num_classes=10)
    return protocol.references(config, load_source)


def test_real_digits_score_as_published_for_this_classifier(refs):
    """The share of one real half that the judge of the other is sure of is about 0.89 to 0.93, depending on the halves."""
    floor = protocol.floors(refs, 1000)
    assert 88.0 < floor["confident"] < 95.0
    assert floor["smallest_class"] > 9.0
    assert "copies" not in floor


def test_noise_copies_and_collapse_are_told_apart(refs):
    rng = np.random.default_rng(0)
    noise = protocol.score_samples(rng.integers(0, 256, (200, 8, 8, 1), dtype=np.uint8), refs)
    assert noise["confident"] < 20.0 and noise["coverage"] < 20.0 and noise["copies"] == 0
    copies = protocol.score_samples(refs.train.images[:200], refs)
    assert copies["copies"] == 200 and copies["train_side"] == 100.0
    held_out = protocol.score_samples(refs.held_out.images[:200], refs)
    assert held_out["train_side"] == 0.0 and held_out["copies"] == 0
    collapsed = protocol.score_samples(np.repeat(refs.held_out.images[:1], 200, axis=0), refs)
    assert collapsed["smallest_class"] == 0.0 and collapsed["coverage"] < 5.0


def test_a_judge_never_saw_what_models_train_on(refs):
    train = {image.tobytes() for image in refs.train.images}
    assert not any(image.tobytes() in train for image in refs.held_out.images)


def test_summary_is_mean_and_sample_standard_deviation():
    assert protocol.summary([1.0, 3.0]) == {"mean": 2.0, "std": pytest.approx(np.sqrt(2.0)), "values": [1.0, 3.0]}


def test_bits_per_dimension_of_a_density_count_the_width_of_a_grey_level():
    """A uniform density 1/2 on [-1, 1] gives each of the 255 intervals between grey levels 1/255: log2(255) bits a pixel."""
    config = config_lib.default()
    config.data.update(source="digits", image_shape=(8, 8, 1), num_classes=10)
    config.evaluation.log_prob_images = 4
    source = load_source(config, "test")

    def log_prob(variables, batch, keys):
        return LogProb(jnp.full(len(keys), 64 * np.log(0.5)), "exact", "gaussian")

    family = Family((), None, None, None, {}, None, log_prob=log_prob)
    record = protocol.log_probability(config, family, {}, source)
    assert record["bits_per_dimension"] == pytest.approx(np.log2(255.0), rel=1e-4)
    assert (record["images"], record["kind"]) == (4, "exact")
