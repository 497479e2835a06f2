"""References, floors and what is measured of a set of samples."""

import json

import numpy as np
import pytest
from scipy import linalg

from jaxgen import config as config_lib
from jaxgen import data
from jaxgen.errors import InputError
from jaxgen.evaluation import protocol, record
from jaxgen.training import load_source


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def digits_config(**evaluation):
    config = config_lib.default()
    config.data.update(source="digits", image_shape=(8, 8, 1), num_classes=10)
    config.evaluation.update(evaluation)
    return config


@pytest.fixture(scope="module")
def refs(cache):
    return protocol.references(digits_config(), load_source)


def test_real_digits_score_as_published_for_this_classifier(refs):
    """The share of one real half that the judge of the other is sure of is about 0.89 to 0.93,
    depending on the halves.
    """
    floor = refs.floors
    assert 0.88 < floor["confident"]["mean"] < 0.95
    assert floor["smallest_class"]["mean"] > 0.09
    assert floor["copies"]["mean"] == 0  # no digit was scanned twice


def test_real_images_that_no_model_has_seen_pass_the_checks(refs):
    """Held-out images lie on the training side as often as chance has it, whose spread over 449
    images is 2.4 %.
    """
    floor = refs.floors
    assert abs(floor["train_side"]["mean"] - 0.5) < 0.1 and floor["train_side"]["std"] < 0.1
    assert abs(floor["distance_ratio"]["mean"] - 1.0) < 0.05
    assert floor["copy_rate"]["mean"] < 0.01 and floor["duplicates"]["mean"] == 0
    assert "449 images" in refs.protocol["floor of checks"]


def test_the_floor_has_the_size_of_the_samples_and_shares_no_image_with_the_reference(refs):
    assert (
        refs.size == 898 == len(refs.train.images)
    )  # of the 1,000 samples asked for, as many as there are other real images
    reference = {image.tobytes() for image in refs.real.images}
    for real, other in refs.floor:
        assert len(other.images) == refs.size and len(real.images) == 899
        assert not any(image.tobytes() in reference for image in other.images)


def test_floors_of_a_large_set_are_disjoint_draws():
    config = digits_config(num=200)
    refs = protocol.references(config, load_source)
    drawn = [{image.tobytes() for image in other.images} for _, other in refs.floor]
    assert len(drawn) == 3 and not drawn[0] & drawn[1] and not drawn[1] & drawn[2]
    assert all(
        score["std"] > 0 for name, score in refs.floors.items() if name.startswith("frechet")
    )


def test_the_training_split_can_be_the_reference():
    refs = protocol.references(digits_config(split="train"), load_source)
    assert len(refs.real.images) == 898 and "digits train" in refs.protocol["reference"]
    with pytest.raises(InputError, match=r"evaluation\.split"):
        protocol.references(digits_config(split="validation"), load_source)


def test_without_other_images_the_floor_is_half_against_half():
    real = data.load("digits", "test")
    refs = protocol.build(real, None, config_lib.default().evaluation)
    for rest, half in refs.floor:
        assert (len(half.images), len(rest.images)) == (225, 225)
    assert refs.train is None and "copies" not in protocol.score_samples(real.images[:100], refs)


def test_noise_copies_and_collapse_are_told_apart(refs):
    rng = np.random.default_rng(0)
    noise = protocol.score_samples(rng.integers(0, 256, (200, 8, 8, 1), dtype=np.uint8), refs)
    assert (
        noise["confident"] < 0.2
        and noise["coverage"] < 0.2
        and noise["copies"] == 0
        and noise["precision_pca64"] < 0.2
    )
    copies = protocol.score_samples(refs.train.images[:200], refs)
    assert copies["copies"] == 200 and copies["train_side"] == 1.0
    assert copies["copy_rate"] == 1.0 and copies["distance_ratio"] == 0.0
    held_out = protocol.score_samples(refs.held_out.images[:200], refs)
    assert held_out["train_side"] == 0.0 and held_out["copies"] == 0 and held_out["duplicates"] == 0
    collapsed = protocol.score_samples(np.repeat(refs.held_out.images[:1], 200, axis=0), refs)
    assert (
        collapsed["smallest_class"] == 0.0
        and collapsed["coverage"] < 0.05
        and collapsed["duplicates"] > 0
    )
    assert (
        collapsed["class_distance"] > 0.8
        and collapsed["vendi"] == pytest.approx(1.0)
        and collapsed["ms_ssim"] == 1.0
    )


def test_a_judge_never_saw_what_models_train_on(refs):
    train = {image.tobytes() for image in refs.train.images}
    assert not any(image.tobytes() in train for image in refs.held_out.images)


def test_a_single_file_has_the_spread_of_a_binomial(refs):
    """The share of a yes or no over n images has the standard deviation sqrt(p (1 - p) / n), which
    the jackknife estimates.
    """
    images = refs.train.images
    found = protocol.evaluate_samples({"a.npz": images}, refs)["scores"]["confident"]
    p = found["mean"]
    assert found["std"] == pytest.approx(np.sqrt(p * (1 - p) / len(images)), rel=0.75)


def test_several_files_have_the_spread_of_their_scores(refs):
    sets = [refs.train.images[:300], refs.train.images[300:600]]
    made = protocol.evaluate_samples({"a.npz": sets[0], "b.npz": sets[1]}, refs)
    each = [protocol.score_samples(images, refs)["frechet"] for images in sets]
    assert made["scores"]["frechet"]["mean"] == pytest.approx(np.mean(each))
    assert made["scores"]["frechet"]["std"] == pytest.approx(np.std(each, ddof=1))
    floor = made["floors"]["frechet"]["mean"]
    assert made["scores"]["frechet"]["times_floor"] == pytest.approx(np.mean(each) / floor)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((50, 8, 8, 1)), "float64, expected uint8"),
        (np.zeros((50, 28, 28, 1), np.uint8), r"\(28, 28, 1\)"),
        (np.zeros((4, 8, 8, 1), np.uint8), "at least 6"),
        (np.ones((50, 8, 8, 1), np.uint8), r"floats in \[0, 1\] were cast"),
    ],
)
def test_images_that_cannot_be_scored_are_named(refs, images, message):
    with pytest.raises(InputError, match=message):
        protocol.score_samples(images, refs)


@pytest.mark.parametrize("seeds", [(), (0, 0), (1, -1)])
def test_seeds_that_give_no_spread_are_refused(seeds):
    with pytest.raises(InputError, match=r"evaluation\.seeds must be different integers"):
        protocol.references(digits_config(seeds=seeds), load_source)


@pytest.mark.parametrize(
    ("sets", "num", "message"),
    [
        ({"a.npz": 7}, None, "a.npz: has 7 images; scores need at least 8"),
        ({"a.npz": 8, "b.npz": 5}, None, "b.npz: has 5 images; scores need at least 6"),
        ({"a.npz": 20}, 21, "a.npz: has 20 images, fewer than --num=21"),
    ],
)
def test_files_with_too_few_images_are_named(refs, sets, num, message):
    with pytest.raises(InputError, match=message):
        protocol.evaluate_samples(
            {name: refs.train.images[:n] for name, n in sets.items()}, refs, num
        )


def test_a_file_sorted_by_class_is_compared_like_any_other():
    """Where there are fewer real images for a floor than samples, those compared are drawn from all
    classes.
    """
    train = data.load("digits", "train")
    by_class = train.images[np.argsort(train.labels, kind="stable")]
    real, other = data.load("digits", "validation+test"), data.load("digits", "train[:200]")
    refs = protocol.build(real, other, config_lib.default().evaluation, train=other, held_out=real)
    assert refs.size == 200
    made = protocol.evaluate_samples({"sorted.npz": by_class}, refs)["scores"]
    assert made["smallest_class"]["mean"] > 0.04 and made["class_distance"]["mean"] < 0.15


def test_all_samples_enter_the_scores_that_say_so():
    """The Frechet distance of published results: every sample against every reference image, here
    by scipy.
    """
    real, other, samples = (
        data.load("digits", split) for split in ("validation+test", "train[:100]", "train")
    )
    refs = protocol.build(real, other, config_lib.default().evaluation, train=other, held_out=real)
    made = protocol.evaluate_samples({"a.npz": samples.images}, refs)
    assert made["protocol"]["images in a comparison of sets"] == 100
    a, b = (refs.extractors[1].extract(x.images).vectors for x in (real, samples))
    root = np.sqrt(
        np.maximum(linalg.eigvals(np.cov(a.T) @ np.cov(b.T)).real, 0.0)
    ).sum()  # of its trace
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(np.cov(a.T) + np.cov(b.T)) - 2 * root
    score = made["scores"]["frechet_all_pca64"]
    assert score["mean"] == pytest.approx(expected, rel=1e-6)
    assert 0 < score["std"] < score["mean"] < made["scores"]["frechet_pca64"]["mean"]
    assert "times_floor" not in score
    assert not any("_all" in name for name in protocol.score_samples(samples.images[:100], refs))


def test_a_record_is_strict_json(tmp_path):
    """Samples that are held-out images are infinitely nearer to them than to the training images."""
    summed = record.summary([np.inf, np.inf])
    record.write({"scores": {"distance_ratio": summed}, "n": np.int64(3)}, str(tmp_path / "a.json"))

    def fail(name):
        raise AssertionError(f"{name} is no JSON")

    read = json.loads((tmp_path / "a.json").read_text(), parse_constant=fail)
    assert read == {
        "scores": {"distance_ratio": {"mean": None, "std": None, "values": [None, None]}},
        "n": 3,
    }


def test_summary_is_mean_and_sample_standard_deviation():
    assert record.summary([1.0, 3.0]) == {
        "mean": 2.0,
        "std": pytest.approx(np.sqrt(2.0)),
        "values": [1.0, 3.0],
    }
