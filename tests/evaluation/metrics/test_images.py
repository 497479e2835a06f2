"""Image metrics against closed forms, brute force and scikit-image."""

import itertools

import numpy as np
import pytest

from jaxgen.errors import InputError
from jaxgen.evaluation import metrics
from tests.support import close

EXACT = dict(dtype=np.float64, terms=121)  # pixels of a window


def pictures(seed, *shape):
    """Smooth random pictures, uint8, and the same with noise."""
    rng = np.random.default_rng(seed)
    n, h, w, c = shape
    rows, columns = np.arange(h)[:, None, None], np.arange(w)[None, :, None]
    phase, pace = rng.uniform(0, 6, (n, 1, 1, c)), rng.uniform(0.1, 0.5, (n, 1, 1, c))
    clean = 127 + 90 * np.sin(pace * rows + phase) * np.cos(0.2 * columns + phase)
    noisy = clean + rng.normal(0, 20, shape)
    return [np.clip(np.round(x), 0, 255).astype(np.uint8) for x in (clean, noisy)]


def window_by_window(a, b, window):
    """Wang et al.'s statistics of one grey picture, position by position: (mean of l c s, mean of c
    s).
    """
    offset = np.arange(window) - window // 2
    weights = np.exp(-(offset[:, None] ** 2 + offset[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    c1, c2, whole, structure = (0.01 * 255) ** 2, (0.03 * 255) ** 2, [], []
    for i, j in itertools.product(range(a.shape[0] - window + 1), range(a.shape[1] - window + 1)):
        x, y = (p[i : i + window, j : j + window].astype(float) for p in (a, b))
        mx, my = np.sum(weights * x), np.sum(weights * y)
        vx, vy = np.sum(weights * (x - mx) ** 2), np.sum(weights * (y - my) ** 2)
        cs = (2 * np.sum(weights * (x - mx) * (y - my)) + c2) / (vx + vy + c2)
        structure.append(cs)
        whole.append(cs * (2 * mx * my + c1) / (mx**2 + my**2 + c1))
    return np.mean(whole), np.mean(structure)


def test_error_and_ratio_are_closed_form():
    a = np.full((3, 4, 4, 2), 100, np.uint8)
    b = a.copy()
    b[1] += 5
    b[2, 0] += 10
    close(metrics.mean_squared_error(a, b), np.array([0, 25, 25]), **EXACT)
    close(metrics.psnr(a, b), np.array([np.inf, *[20 * np.log10(255 / 5)] * 2]), **EXACT)
    low, high = np.zeros((1, 2, 2, 1), np.uint8), np.full((1, 2, 2, 1), 255, np.uint8)
    assert metrics.psnr(low, high) == pytest.approx(0.0, abs=1e-12)  # uint8 must not wrap around


@pytest.mark.parametrize(
    ("size", "window"), [((8, 8), 7), ((7, 9), 7), ((11, 14), 11), ((16, 16), 11), ((1, 3), 1)]
)
def test_ssim_window_by_window(size, window):
    a, b = pictures(0, 2, *size, 2)
    expected = [
        np.mean([window_by_window(x[..., c], y[..., c], window)[0] for c in range(2)])
        for x, y in zip(a, b)
    ]
    # variances are differences of squares of grey levels, over at least C2
    expected, cancelled = np.array(expected), 255.0**2 / (0.03 * 255) ** 2
    close(metrics.ssim(a, b), expected, cancelled, **EXACT)
    close(metrics.ssim(a.astype(np.float32), b.astype(np.float64)), expected, cancelled, **EXACT)
    close(metrics.ssim(a, a), 1.0, cancelled, **EXACT)


def test_ssim_and_psnr_are_those_of_scikit_image():
    measure = pytest.importorskip("skimage.metrics")
    a, b = pictures(1, 3, 40, 33, 3)
    options = dict(
        data_range=255,
        channel_axis=-1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    theirs = [
        measure.structural_similarity(x.astype(float), y.astype(float), **options)
        for x, y in zip(a, b)
    ]
    assert metrics.ssim(a, b) == pytest.approx(theirs, rel=1e-6)  # its window is cut elsewhere
    ratio = [measure.peak_signal_noise_ratio(x, y, data_range=255) for x, y in zip(a, b)]
    close(metrics.psnr(a, b), np.array(ratio), **EXACT)


def halved(image):
    h, w = (s // 2 for s in image.shape)
    return np.array(
        [[image[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean() for j in range(w)] for i in range(h)]
    )


def test_ms_ssim_scale_by_scale():
    a, b = pictures(2, 2, 28, 31, 1)
    weights = np.array([0.0448, 0.2856]) / (0.0448 + 0.2856)
    for i, value in enumerate(metrics.ms_ssim(a, b)):
        x, y = a[i, ..., 0].astype(float), b[i, ..., 0].astype(float)
        fine, coarse = window_by_window(x, y, 11)[1], window_by_window(halved(x), halved(y), 11)[0]
        assert value == pytest.approx(fine ** weights[0] * coarse ** weights[1], rel=1e-9)
    close(metrics.ms_ssim(a, b, levels=1), metrics.ssim(a, b), **EXACT)
    close(metrics.ms_ssim(a, b, levels=2), metrics.ms_ssim(a, b), **EXACT)


def test_all_five_scales_of_a_large_picture():
    """Even greys differ in luminance alone, which counts at the coarsest scale, with the last of
    the weights.
    """
    a, b = (np.full((1, 176, 180, 3), grey, np.uint8) for grey in (60, 90))
    luminance = (2 * 60 * 90 + 2.55**2) / (60**2 + 90**2 + 2.55**2)
    weights = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    for levels in (2, 5):
        expected = luminance ** (weights[levels - 1] / sum(weights[:levels]))
        assert metrics.ms_ssim(a, b, levels=levels) == pytest.approx(expected, rel=1e-9)
    assert metrics.ms_ssim(a, b) == metrics.ms_ssim(a, b, levels=5)
    with pytest.raises(InputError, match="at most 4 fit"):
        metrics.ms_ssim(a[:, :175], a[:, :175], levels=5)


def test_opposite_pictures_have_no_similarity_and_no_nan():
    a = pictures(3, 2, 32, 32, 1)[0]
    assert metrics.ssim(a, 255 - a).max() < 0
    np.testing.assert_array_equal(metrics.ms_ssim(a, 255 - a), 0.0)


def test_pairs_are_all_pairs_of_different_images_where_they_fit():
    images = pictures(4, 6, 16, 16, 1)[1]
    pairs = list(itertools.combinations(range(6), 2))
    values = metrics.ms_ssim(images[[i for i, _ in pairs]], images[[j for _, j in pairs]])
    found = metrics.pairwise_ms_ssim(images)
    assert found == pytest.approx((values.mean(), values.std(ddof=1) / np.sqrt(15)), rel=1e-9)
    some = metrics.pairwise_ms_ssim(images, num_pairs=14, seed=1)  # one of the pairs is left out
    left_out = [(values.sum() - v) / 14 for v in values]
    assert min(abs(some.mean - x) for x in left_out) < 1e-12
    assert some == metrics.pairwise_ms_ssim(images, num_pairs=14, seed=1)


def test_collapse_raises_the_similarity_of_pairs():
    images = pictures(5, 20, 16, 16, 1)[1]
    assert metrics.pairwise_ms_ssim(np.repeat(images[:1], 20, axis=0)) == pytest.approx(
        (1.0, 0.0), abs=1e-12
    )
    assert metrics.pairwise_ms_ssim(images, num_pairs=50).mean < 0.7


def test_bits_per_dimension():
    """Equal odds of 256 values: 8 bits for each of the dimensions."""
    assert metrics.bits_per_dimension(3072 * np.log(256), 3072) == pytest.approx(8.0, rel=1e-12)
    close(metrics.bits_per_dimension(np.log([2.0, 4.0]), 1), np.array([1.0, 2.0]), **EXACT)


U = np.zeros((3, 8, 8, 1), np.uint8)
UNIT = np.full((3, 8, 8, 1), 0.5)
HOLE = np.where(np.arange(3)[:, None, None, None] == 2, np.nan, UNIT)


@pytest.mark.parametrize(
    "metric", [metrics.mean_squared_error, metrics.psnr, metrics.ssim, metrics.ms_ssim]
)
@pytest.mark.parametrize(
    ("real", "generated", "message"),
    [
        (UNIT, U, "real are floats up to 0.5.*multiply by 255"),
        (U, UNIT * -1, "generated reach from -0.5"),
        (U, UNIT * 600, "to 300"),
        (U, HOLE, "row 2"),
        (U, U[:2], "image i"),
        (U[0], U[0], r"\[N, H, W, C\]"),
        (U[:0], U[:0], r"\[N, H, W, C\]"),
    ],
)
def test_bad_images_are_named(metric, real, generated, message):
    with pytest.raises(InputError, match=message):
        metric(real, generated)


def test_bad_options_are_named():
    metrics.ssim(U, U.astype(float))  # all black floats are no [0, 1]
    for call, message in (
        (lambda: metrics.pairwise_ms_ssim(U[:2]), "at least 3"),
        (lambda: metrics.pairwise_ms_ssim(U, num_pairs=1), "num_pairs"),
        (lambda: metrics.pairwise_ms_ssim(UNIT), "multiply"),
        (lambda: metrics.ms_ssim(U, U, levels=2), "at most 1"),
        (lambda: metrics.ms_ssim(U, U, levels=0), "levels"),
        (lambda: metrics.bits_per_dimension(1.0, 0), "dimensions"),
    ):
        with pytest.raises(InputError, match=message):
            call()
