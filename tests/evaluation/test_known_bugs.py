"""Bugs that other tools really had: each row is what went wrong, and a test that fails for an
implementation with it.
"""

import io
import os
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxgen import data
from jaxgen.evaluation import features, metrics
from jaxgen.evaluation.features import inception, resize
from jaxgen.losses import likelihood
from tests.support import close


def normal(seed, rows, columns):
    return np.random.default_rng(seed).normal(size=(rows, columns))


def precision_and_recall_swapped():
    """A generator of one of two clusters is precise and forgets the other."""
    real = normal(0, 100, 2) + np.repeat([[0.0], [50.0]], 50, axis=0)
    found = metrics.precision_recall(real, normal(1, 100, 2))
    assert found.precision > 0.8
    assert found.recall < 0.6
    assert metrics.density_coverage(real, normal(1, 100, 2)).coverage < 0.6


def norm_over_one_axis():
    """Over rows, or over a part of the columns: (3, 4) lies at 5 from the origin, and 12 more make
    13.
    """
    assert metrics.nearest_distance([[3.0, 4.0, 12.0]], np.zeros((1, 3))) == pytest.approx([13.0])
    assert metrics.nearest_distance(np.zeros((7, 4)), np.ones((2, 4))) == pytest.approx([2.0] * 7)


def cancellation_hides_copies():
    """In float32, |a|^2 + |b|^2 - 2 a.b of points 1e4 from the origin is off by more than their
    distances.
    """
    points = (1e4 + normal(0, 60, 32)).astype(np.float32)
    assert not metrics.nearest_distance(points, points).any()
    assert metrics.copy_rate(points[:20], points) == 1.0
    assert metrics.precision_recall(points, points) == (1.0, 1.0)
    others = (1e4 + normal(1, 60, 32)).astype(np.float32)
    truth = np.linalg.norm(others[:, None].astype(float) - points[None].astype(float), axis=-1).min(
        axis=1
    )
    close(metrics.nearest_distance(others, points), truth, 1e4, dtype=np.float64, terms=32)
    assert metrics.training_side(points, points, others) == 1.0


def good_distance_of_copies():
    """Copies of the training set have a better Frechet distance than fresh samples; other numbers
    must tell.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (1200, 3, 3, 1), dtype=np.uint8)
    train, held_out, fresh = images[:400], images[400:800], images[800:]
    flat = {
        name: x.reshape(400, -1).astype(float)
        for name, x in (("train", train), ("held", held_out), ("fresh", fresh))
    }
    assert metrics.frechet_distance(flat["train"], flat["train"]) < metrics.frechet_distance(
        flat["train"], flat["fresh"]
    )
    assert metrics.training_side(flat["train"], flat["train"], flat["held"]) == 1.0
    assert metrics.distance_ratio(flat["train"], flat["train"], flat["held"]) == 0.0
    assert metrics.copy_rate(flat["train"], flat["train"]) == 1.0
    assert metrics.exact_copies(train, train) == 400
    assert metrics.training_side(flat["fresh"], flat["train"], flat["held"]) == pytest.approx(
        0.5, abs=0.1
    )
    assert metrics.copy_rate(flat["fresh"], flat["train"]) < 0.05
    assert metrics.exact_copies(fresh, train) == 0


def duplicates_in_training_hide_copies():
    """With every training image there twice, first and second neighbour of a copy are at the same
    distance, 0 / 0.
    """
    train = normal(0, 30, 5)
    assert metrics.copy_rate(train, np.concatenate([train, train])) == 1.0
    assert metrics.copy_rate(train + 1e-3, np.concatenate([train, train])) == 1.0


def diagonal_left_in():
    """k(x, x) is the largest entry of a row: with it the estimate for two sets of one distribution
    is not 0 on average.
    """
    rng = np.random.default_rng(0)
    values = [metrics.polynomial_mmd(*rng.normal(size=(2, 10, 6))) for _ in range(1000)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(1000)
    subsets = metrics.kernel_distance(
        *rng.normal(size=(2, 2000, 6)), num_subsets=400, subset_size=10
    )
    assert abs(subsets.mean) < 5 * subsets.std / np.sqrt(400)


def subsets_with_replacement():
    """A subset as large as its set is the set: each has the same value, that of all rows."""
    real, generated = normal(0, 50, 4), normal(1, 50, 4)
    found = metrics.kernel_distance(real, generated, num_subsets=5, subset_size=50)
    assert found.mean == pytest.approx(metrics.polynomial_mmd(real, generated), rel=1e-9)
    assert found.std < 1e-9


def one_subset_for_all():
    """A generator seeded anew for each subset draws the same rows every time: the spread would be
    0.
    """
    assert (
        metrics.kernel_distance(
            normal(0, 50, 4), normal(1, 50, 4), num_subsets=5, subset_size=20
        ).std
        > 1e-3
    )


def coverage_with_generated_radii():
    """One far generated point has a ball over all real ones, but no real ball holds a generated
    point.
    """
    real, generated = normal(0, 50, 2), 100.0 + normal(1, 50, 2)
    generated[:25] -= 300.0
    assert metrics.density_coverage(real, generated) == (0.0, 0.0)
    assert metrics.precision_recall(real, generated, k=30) == (0.0, 1.0)


def ties_inside():
    """With <= for <, points on the surface of a ball are inside it: on a line of integers, the next
    integer.
    """
    real, generated = np.arange(10.0)[:, None], np.array([[-1.0], [10.0], [-1.0]])
    assert metrics.precision_recall(real, generated, k=1).precision == 0.0
    assert metrics.density_coverage(real, generated, k=1) == (0.0, 0.0)
    assert metrics.precision_recall(0.1 * real, 0.1 * generated, k=1).precision == 0.0
    equal = np.ones((4, 1))
    assert metrics.training_side(equal, equal, equal) == 0.0


def neighbour_off_by_one():
    """The point itself is not its first neighbour: from 0, 1, 10 the first neighbours are at 1, 1
    and 9.
    """
    real = np.array([[0.0], [1.0], [10.0]])
    inside = metrics.precision_recall(real, np.array([[1.5], [18.0], [-0.5], [30.0]]), k=1)
    assert inside.precision == 0.75
    assert (
        metrics.density_coverage(real, np.array([[1.5], [18.0], [-0.5], [30.0]]), k=1).density
        == 1.0
    )


def splits_of_a_sorted_set():
    """Ten splits of a set sorted by class hold one class each: without a shuffle the score is 1 and
    not 10.
    """
    classes = np.repeat(np.arange(10), 100)
    assert metrics.inception_score(np.eye(10)[classes]).mean > 9.0


def logarithm_of_zero():
    """A certain classifier has probabilities of 0, and 0 log 0 is 0."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metrics.inception_score(np.eye(4), splits=1).mean == pytest.approx(4.0)
        assert metrics.modes(np.array([0, 0, 1]), 5).count == 2


def covariance_with_n():
    """Two points a and -a have the sample variance 2 a^2; with N for N - 1 it would be a^2."""
    points = np.array([[3.0], [-3.0]])
    assert metrics.moments(points).covariance[0, 0] == pytest.approx(18.0)
    assert metrics.frechet_distance(np.zeros((5, 1)), points) == pytest.approx(18.0)
    wide = np.concatenate([points, np.zeros((2, 4))], axis=1)  # fewer rows than columns
    assert metrics.frechet_distance(np.zeros((5, 5)), wide) == pytest.approx(18.0)
    assert metrics.frechet_distance(
        points, np.repeat([[4.0], [-4.0]], 50, axis=0)
    ) == pytest.approx((np.sqrt(18.0) - np.sqrt(1600 / 99)) ** 2)


def root_of_a_singular_product():
    """scipy's sqrtm gives complex or infinite roots for products without full rank; a ridge in
    their place adds a bias.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        low = normal(0, 40, 3) @ normal(1, 3, 30)
        for a, b in (
            (low, low),
            (normal(2, 8, 30), normal(2, 8, 30)),
            (np.ones((9, 4)), np.ones((9, 4))),
        ):
            assert 0.0 <= metrics.frechet_distance(a, b) < 1e-9
        assert metrics.frechet_distance(low, 2 * low) == pytest.approx(
            np.sum(low.mean(axis=0) ** 2) + np.sum(np.var(low, axis=0, ddof=1)), rel=1e-9
        )
        flat = np.concatenate([normal(3, 50, 2), np.zeros((50, 2))], axis=1)
        across = np.concatenate([np.zeros((50, 2)), normal(4, 50, 2)], axis=1)
        # nothing in common: the root is 0
        expected = sum(np.sum(np.var(x, axis=0, ddof=1)) for x in (flat, across))
        assert metrics.frechet_distance(
            flat - flat.mean(0), across - across.mean(0)
        ) == pytest.approx(expected, rel=1e-9)


def bytes_wrap_around():
    """uint8 differences modulo 256: 0 and 255 would be one grey level apart."""
    black, white = np.zeros((1, 12, 12, 1), np.uint8), np.full((1, 12, 12, 1), 255, np.uint8)
    assert metrics.mean_squared_error(black, white) == pytest.approx([255.0**2])
    assert metrics.ssim(black, white)[0] < 0.001


def unit_range_taken_for_grey_levels():
    """Images in [0, 1] with constants for 0 to 255 are all alike to SSIM: they must be refused."""
    images = np.random.default_rng(0).random((2, 12, 12, 1))
    with pytest.raises(ValueError, match="multiply by 255"):
        metrics.ssim(images, images[::-1])


def density_of_grey_levels():
    """A density may be as high as it likes on grey levels; of dequantised images it is never above
    their probability, so that bits per dimension stay positive (Theis et al. 2016)."""
    spike = likelihood.build("gaussian", scale=0.1 / 127.5)
    image = jnp.full((16, 8, 8, 1), 1.0 / 127.5)
    seen = spike.observe(image, jax.random.split(jax.random.key(0), 16))
    bits = -spike.log_prob(image, seen) / np.log(2.0) / 64 + np.log2(127.5)
    assert np.all(bits > 0.0)


def jpeg_samples():
    """Files that lose a little move a distance by more than its floor; those that jaxgen writes
    lose nothing.
    """
    images = data.load("digits", "train").images
    real = data.load("digits", "validation+test")
    extract = features.build(["classifier"], data.load("digits", "train"))[0].extract

    def through(kind, **options):
        def one(image):
            buffer = io.BytesIO()
            Image.fromarray(image[..., 0]).save(buffer, kind, **options)
            return np.asarray(Image.open(buffer))[..., None]

        return np.stack([one(image) for image in images])

    reference = extract(real.images).vectors
    plain, png, jpeg = (metrics.frechet_distance(reference, extract(x).vectors)
                        for x in (images, through("PNG"), through("JPEG", quality=50)))  # fmt: skip
    assert png == plain
    assert jpeg > 1.5 * plain


def wrong_resize():
    """Nearest neighbours, or a bilinear resize without Pillow's antialias, give other images."""
    images = jnp.asarray(np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 1)), jnp.float32)
    sizes = {
        mode: np.asarray(resize.resize(images, 16, mode))
        for mode in ("tf1_bilinear", "pytorch_bilinear", "pil_bicubic")
    }
    pillow = Image.fromarray(np.asarray(images)[0, ..., 0], "F").resize((16, 16), Image.BICUBIC)
    close(sizes["pil_bicubic"][0, ..., 0], np.asarray(pillow), 255.0, terms=8)
    # halving: TensorFlow 1 takes every second pixel, PyTorch the mean of four
    close(sizes["tf1_bilinear"], images[:, ::2, ::2])
    four = np.asarray(images).reshape(1, 16, 2, 16, 2, 1).mean(axis=(2, 4))
    close(sizes["pytorch_bilinear"], four)


def grey_images_in_one_channel():
    """The red channel alone is not a grey image: all three have to be filled."""
    weights = os.path.join(
        os.environ["JAXGEN_SHARED"], "weights", "fid_inception_2015_trunk_to_Mixed_7a.npz"
    )
    if not os.path.exists(weights):
        pytest.skip(f"needs the Inception trunk at {weights}")
    extract = inception.extractor(weights, 64).extract
    grey = data.load("digits", "train").images[:2]
    red = np.concatenate([grey, np.zeros_like(grey), np.zeros_like(grey)], axis=-1)
    found = extract(grey).vectors
    np.testing.assert_array_equal(found, extract(np.repeat(grey, 3, axis=-1)).vectors)
    assert np.abs(found - extract(red).vectors).max() > 0.1


BUGS = {
    "precision and recall swapped": precision_and_recall_swapped,
    "norm of a distance over one axis": norm_over_one_axis,
    "float32 cancellation hides exact copies far from the origin": cancellation_hides_copies,
    "copies of the training set reported as good": good_distance_of_copies,
    "duplicates in the training set hide copies": duplicates_in_training_hide_copies,
    "KID with the diagonal left in": diagonal_left_in,
    "KID over subsets with replacement": subsets_with_replacement,
    "KID over one and the same subset": one_subset_for_all,
    "coverage by the radii of generated points": coverage_with_generated_radii,
    "<= for < at ties": ties_inside,
    "a point as its own first neighbour": neighbour_off_by_one,
    "inception score of a sorted set without a shuffle": splits_of_a_sorted_set,
    "logarithm of a probability of 0": logarithm_of_zero,
    "covariance with N for N - 1": covariance_with_n,
    "complex or NaN root of a singular product": root_of_a_singular_product,
    "uint8 differences that wrap around": bytes_wrap_around,
    "images in [0, 1] measured as 0 to 255": unit_range_taken_for_grey_levels,
    "likelihood without dequantisation": density_of_grey_levels,
    "samples kept as JPEG": jpeg_samples,
    "another resize than the one named": wrong_resize,
    "grey images that are not tiled": grey_images_in_one_channel,
}


@pytest.mark.parametrize("description", BUGS)
def test_absent(description):
    BUGS[description]()
