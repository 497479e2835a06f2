"""References, floors and what is measured of a set of samples."""

import json

import numpy as np
import pytest
from scipy import linalg

from jaxgen import config as config_lib
from jaxgen import data
from jaxgen.errors import InputError
from jaxgen.evaluation import measure, record, reference
from tests.support import close, images


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


def spec(**fields):
    return digits_config(**{"num": 100, "seeds": (0,), **fields}).evaluation


def source(images, name="npz:x train", labels=None, num_classes=0):
    columns = {"point" if images.ndim == 2 else "image": images}
    if labels is not None:
        columns["label"] = labels
    return data.Table(name, columns, num_classes)


@pytest.fixture(scope="module")
def refs(cache):
    return reference.references(digits_config(seeds=(0, 1)))


@pytest.mark.slow
def test_real_digits_score_as_published_for_this_classifier(refs):
    """The share of one real half that the judge of the other is sure of is about 0.89 to 0.93,
    depending on the halves.
    """
    floor = refs.floor.scores
    assert 0.88 < floor["confident"]["mean"] < 0.95
    assert floor["smallest_class"]["mean"] > 0.09
    assert floor["copies"]["mean"] == 0  # no digit was scanned twice


def test_real_images_that_no_model_has_seen_pass_the_checks(refs):
    """Held-out images lie on the training side as often as chance has it, whose spread over 449
    images is 2.4 %.
    """
    floor = refs.floor.scores
    assert abs(floor["train_side"]["mean"] - 0.5) < 0.1 and floor["train_side"]["std"] < 0.1
    assert abs(floor["distance_ratio"]["mean"] - 1.0) < 0.05
    assert floor["copy_rate"]["mean"] < 0.01 and floor["duplicates"]["mean"] == 0
    assert "449 images" in refs.protocol["floor of checks"]


def test_the_floor_has_the_size_of_the_samples_and_shares_no_image_with_the_reference(refs):
    # of the 1,000 samples asked for, as many as there are other real images
    assert refs.floor.size == 898 == len(refs.guards.train.images) and refs.real.count == 899
    real = {image.tobytes() for image in refs.real.images}
    assert not any(image.tobytes() in real for image in refs.guards.train.images)


@pytest.mark.slow
def test_floors_of_a_large_set_are_disjoint_draws():
    parts = reference.disjoint(np.random.default_rng(0).permutation(898), 200, 3)
    assert [len(part) for part in parts] == [200] * 3 and len(set(np.concatenate(parts))) == 600
    assert len(reference.disjoint(np.arange(898), 500, 3)) == 1
    refs = reference.references(digits_config(num=40, seeds=(0, 1)))
    assert refs.floor.scores["frechet"]["std"] > 0 and "2 disjoint sets of 40" in refs.floor.text


def test_the_training_split_can_be_the_reference():
    refs = reference.references(digits_config(split="train", num=20, seeds=(0,)))
    assert refs.real.count == 898 and "digits train" in refs.protocol["reference"]
    with pytest.raises(InputError, match=r"evaluation\.split"):
        reference.references(digits_config(split="validation"))


def test_without_other_images_the_floor_is_half_against_half():
    real = data.load("digits", "test")
    refs = reference.build(real, None, spec(num=1000))
    assert "225 images against the others" in refs.floor.text
    assert refs.guards is None and "copies" not in measure.score_samples(real.images[:40], refs)


def test_noise_copies_and_collapse_are_told_apart(refs):
    train, held_out = refs.guards.train.images, refs.guards.held_out.images
    noise = measure.score_samples(images(0, 200, 8, 8, 1), refs)
    assert noise["confident"] < 0.2 and noise["coverage"] < 0.2
    assert noise["copies"] == 0 and noise["precision_pca64"] < 0.2
    copies = measure.score_samples(train[:200], refs)
    assert copies["copies"] == 200 and copies["train_side"] == 1.0
    assert copies["copy_rate"] == 1.0 and copies["distance_ratio"] < 1e-9
    seen = measure.score_samples(held_out[:200], refs)
    assert seen["train_side"] == 0.0 and seen["copies"] == 0 and seen["duplicates"] == 0
    collapsed = measure.score_samples(np.repeat(held_out[:1], 200, axis=0), refs)
    assert collapsed["smallest_class"] == 0.0 and collapsed["coverage"] < 0.05
    assert collapsed["duplicates"] == 199 and collapsed["class_distance"] > 0.8
    close(collapsed["vendi"], 1.0)
    close(collapsed["ms_ssim"], 1.0)


def test_a_judge_never_saw_what_models_train_on(refs):
    train = {image.tobytes() for image in refs.guards.train.images}
    assert not any(image.tobytes() in train for image in refs.guards.held_out.images)


def test_a_single_file_has_the_spread_of_a_binomial():
    """The share of a yes or no over n images has the standard deviation sqrt(p (1 - p) / n), which
    the jackknife estimates.
    """
    real, other = data.load("digits", "validation+test[:100]"), data.load("digits", "train")
    refs = reference.build(real, other, spec(num=898))
    found = measure.evaluate_samples({"a.npz": other.images}, refs)["scores"]["confident"]
    p = found["mean"]
    assert found["std"] == pytest.approx(np.sqrt(p * (1 - p) / len(other.images)), rel=0.75)


def test_several_files_have_the_spread_of_their_scores(refs):
    train = refs.guards.train.images
    sets = [train[:60], train[300:360]]
    made = measure.evaluate_samples({"a.npz": sets[0], "b.npz": sets[1]}, refs)
    each = [measure.score_samples(images, refs)["frechet"] for images in sets]
    score = made["scores"]["frechet"]
    close(score["mean"], np.mean(each))
    close(score["std"], np.std(each, ddof=1), each)
    close(score["times_floor"], np.mean(each) / made["floors"]["frechet"]["mean"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((50, 8, 8, 1)), "float64 from 0 to 0, expected uint8"),
        (np.full((50, 8, 8, 1), -0.5), r"expected uint8: .*127\.5 \* \(x \+ 1\)"),
        (np.zeros((50, 28, 28, 1), np.uint8), r"\(28, 28, 1\).*bring them to that shape"),
        (np.zeros((50, 8, 8), np.uint8), r"add the axis of channels, as images\[\.\.\., None\]"),
        (np.zeros((50, 8, 8, 4), np.uint8), r"drop their fourth channel \(alpha\)"),
        (np.zeros((4, 8, 8, 1), np.uint8), "at least 6"),
        (np.ones((50, 8, 8, 1), np.uint8), r"floats in \[0, 1\] were cast"),
    ],
)
def test_images_that_cannot_be_scored_are_named(refs, given, message):
    with pytest.raises(InputError, match=f"samples: .*{message}"):
        measure.score_samples(given, refs)


@pytest.mark.parametrize("seeds", [(), (0, 0), (1, -1), (0, 2**64)])
def test_seeds_that_give_no_spread_are_refused(seeds):
    with pytest.raises(InputError, match=r"config\.evaluation\.seeds"):
        reference.references(digits_config(seeds=seeds))


@pytest.mark.parametrize(
    ("sets", "num", "message"),
    [
        ({"a.npz": 7}, None, "a.npz: has 7 images; scores need at least 8"),
        ({"a.npz": 8, "b.npz": 5}, None, "b.npz: has 5 images; scores need at least 6"),
        ({"a.npz": 20}, 21, "a.npz: has 20 images, fewer than --num=21"),
    ],
)
def test_files_with_too_few_images_are_named(refs, sets, num, message):
    train = refs.guards.train.images
    with pytest.raises(InputError, match=message):
        measure.evaluate_samples({name: train[:n] for name, n in sets.items()}, refs, num)


def test_a_reference_of_one_image_again_and_again_is_named():
    black = source(np.zeros((20, 8, 8, 1), np.uint8), "npz:black.npz test")
    with pytest.raises(InputError, match=r"npz:black.npz test: all 20 images are the same"):
        reference.build(black, None, spec())


def test_a_file_sorted_by_class_is_compared_like_any_other():
    """Where there are fewer real images for a floor than samples, those compared are drawn from all
    classes.
    """
    train = data.load("digits", "train")
    by_class = train.images[np.argsort(train.labels, kind="stable")]
    real, other = data.load("digits", "validation+test"), data.load("digits", "train[:150]")
    refs = reference.build(real, other, spec(num=1000))
    assert refs.floor.size == 150
    made = measure.evaluate_samples({"sorted.npz": by_class}, refs)["scores"]
    assert made["smallest_class"]["mean"] > 0.03 and made["class_distance"]["mean"] < 0.2


def test_all_samples_enter_the_scores_that_say_so():
    """The Frechet distance of published results: every sample against every reference image, here
    by scipy.
    """
    real, other, samples = (
        data.load("digits", split) for split in ("validation+test", "train[:80]", "train[:400]")
    )
    refs = reference.build(real, other, spec(num=1000))
    made = measure.evaluate_samples({"a.npz": samples.images}, refs)
    assert made["protocol"]["images in a comparison of sets"] == 80
    a, b = (refs.extractors[1].extract(x.images).vectors for x in (real, samples))
    root = np.sqrt(np.maximum(linalg.eigvals(np.cov(a.T) @ np.cov(b.T)).real, 0.0)).sum()
    traces = np.trace(np.cov(a.T) + np.cov(b.T))
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + traces - 2 * root
    score = made["scores"]["frechet_all_pca64"]
    assert score["mean"] == pytest.approx(expected, rel=1e-5)  # of a root of rounding errors
    assert 0 < score["std"] < score["mean"] < made["scores"]["frechet_pca64"]["mean"]
    assert "times_floor" not in score
    assert not any("_all" in name for name in measure.score_samples(samples.images[:80], refs))


def test_images_of_64_pixels_in_colour_are_measured():
    """A matrix [pixels, pixels] of them would have 151 million entries."""
    real, train = source(images(0, 20, 64, 64, 3)), source(images(1, 20, 64, 64, 3))
    refs = reference.build(real, train, spec(), train=train, held_out=real)
    assert [e.name for e in refs.extractors] == ["PCA19"]
    found = measure.score_samples(train.images, refs)
    assert found["copies"] == 20 and found["train_side"] == 1.0


def test_points_have_fitting_scores_and_no_scores_of_images():
    """A sample that lacks one of eight modes covers seven eighths of them."""
    rng = np.random.default_rng(0)

    def gaussians(count, modes=8):
        angle = 2 * np.pi * rng.integers(0, modes, count) / 8
        centres = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return np.float32(4 * centres + 0.2 * rng.normal(size=(count, 2)))

    real, train = (source(gaussians(400), f"points:gaussians {s}") for s in ("test", "train"))
    refs = reference.build(real, train, spec(num=400), train=train, held_out=real)
    assert refs.space == "points" and refs.extractors == () and "ms_ssim" not in refs.floor.scores
    good, part = (
        measure.score_samples(gaussians(400), refs),
        measure.score_samples(gaussians(400, modes=7), refs),
    )
    assert {"sliced_wasserstein", "mmd", "precision", "coverage"} <= set(good)
    assert good["copies"] == 0 and 0.3 < good["train_side"] < 0.7
    assert good["coverage"] > 0.95 and 0.8 < part["coverage"] < 0.9
    assert part["sliced_wasserstein"] > 2 * good["sliced_wasserstein"]
    assert part["mmd"] > 0.005 > abs(good["mmd"])
    assert measure.score_samples(train.images, refs)["copies"] == 400
    with pytest.raises(InputError, match="point 3 holds NaN"):
        measure.score_samples(np.float32([[0, 0]] * 3 + [[0, np.nan]] + [[0, 0]] * 9), refs)


def test_a_record_is_strict_json(tmp_path):
    """Samples that are held-out images are infinitely nearer to them than to training images."""
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
    found = record.summary([1.0, 3.0])
    assert found["mean"] == 2.0 and found["values"] == [1.0, 3.0]
    close(found["std"], np.sqrt(2.0), dtype=np.float64)
