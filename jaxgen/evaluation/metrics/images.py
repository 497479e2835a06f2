"""Metrics of pixels: errors and structural similarity of pairs of images with grey values from 0 to
255.
"""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Shaped

from jaxgen.errors import InputError
from jaxgen.evaluation.metrics import common
from jaxgen.evaluation.metrics.common import Estimate

__all__ = [
    "bits_per_dimension",
    "mean_squared_error",
    "ms_ssim",
    "pairwise_ms_ssim",
    "psnr",
    "ssim",
]

_ENTRIES = 2**20  # pixel values worked on at once
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, Wang et al. 2003, section 3.2
_BAND = 32  # window positions in one matrix product, where there are many

Images = Shaped[np.ndarray, "N H W C"]


def mean_squared_error(real: Images, generated: Images) -> Float[np.ndarray, "N"]:
    """Mean over pixels and channels of the squared difference of each pair of images, in squared
    grey levels.

    InputError, here and below: not [N, H, W, C], different shapes, values outside 0 to 255, floats
    that look like [0, 1]."""
    real, generated = _check_pair(real, generated)
    return _in_chunks(lambda a, b: np.mean((a - b) ** 2, axis=(1, 2, 3)), real, generated)


def psnr(real: Images, generated: Images) -> Float[np.ndarray, "N"]:
    """Peak signal to noise ratio of each pair of images, 10 log10(255^2 / MSE), in dB; infinite for
    identical images.
    """
    error = mean_squared_error(real, generated)
    with np.errstate(divide="ignore"):
        return 10.0 * np.log10(255.0**2 / error)


def ssim(real: Images, generated: Images) -> Float[np.ndarray, "N"]:
    """Structural similarity of each pair of images (Wang et al. 2004, eq. 13), the mean over
    windows and channels.

    Gaussian window of 11 x 11 with sigma 1.5, K1 = 0.01, K2 = 0.03, range 255, windows that lie
    inside the image. An image smaller than the window gets the largest odd window that fits, with
    the same sigma."""
    real, generated = _check_pair(real, generated)
    return _in_chunks(lambda a, b: _similarity(a, b)[0].mean(axis=1), real, generated)


def ms_ssim(
    real: Images, generated: Images, *, levels: int | None = None
) -> Float[np.ndarray, "N"]:
    """Multi-scale structural similarity of each pair of images (Wang et al. 2003, eq. 7), the mean
    over channels.

    Each scale halves the last by means of 2 x 2 pixels. levels: how many of the five scales; None:
    as many as hold the window of 11 x 11 (28 pixels: 2, 176 and more: 5), at least one, which is
    `ssim`. The published weights are divided by the sum of those used, so values with different
    levels do not compare. Similarities below 0 count as 0. InputError: more levels than fit."""
    real, generated = _check_pair(real, generated)
    weights = _weights(real.shape, levels)
    return _in_chunks(lambda a, b: _multi_scale(a, b, weights), real, generated)


def pairwise_ms_ssim(images: Images, *, num_pairs: int = 1000, seed: int = 0) -> Estimate:
    """Mean MS-SSIM of random pairs of different images of one set (Odena et al. 2017): lower is
    more diverse.

    std is the standard error of the mean over pairs, as if they shared no images. Pairs are drawn
    without replacement; a set with fewer pairs gives all of them. Odena et al. draw pairs within a
    class: pass one class at a time. InputError: fewer than 3 images."""
    images = _check("images", images)
    num_pairs = common.check_count("num_pairs", num_pairs, 2)
    count = len(images)
    if count < 3:
        raise InputError(f"images holds {count} images; this metric needs at least 3")
    total = count * (count - 1) // 2
    chosen = common.generator(seed).choice(total, min(num_pairs, total), replace=False)
    # Pair p is (row, column) below the diagonal, counted by rows: row r begins at r (r - 1) / 2.
    row = ((1.0 + np.sqrt(1.0 + 8.0 * chosen)) / 2.0).astype(np.int64)
    row -= row * (row - 1) // 2 > chosen  # the root may round up
    column = chosen - row * (row - 1) // 2
    weights = _weights(images.shape, None)
    values = _in_chunks(lambda a, b: _multi_scale(a, b, weights), images, images, (row, column))
    return Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))


def bits_per_dimension(
    nats: float | Float[np.ndarray, "..."], dimensions: int
) -> float | Float[np.ndarray, "..."]:
    """A negative log-likelihood in nats per image as bits per dimension: nats / (dimensions ln 2).

    dimensions: H W C. Nothing is added for scaled pixels: the density of x / 127.5 - 1 needs
    log2(127.5) more."""
    dimensions = common.check_count("dimensions", dimensions, 1)
    bits = np.asarray(nats, np.float64) / (dimensions * np.log(2.0))
    return float(bits) if bits.ndim == 0 else bits


def _check(name: str, images) -> np.ndarray:
    """Images with grey values from 0 to 255, as they are."""
    images = common.as_array(name, images)
    if images.ndim != 4 or images.size == 0:
        raise InputError(f"{name} must be images [N, H, W, C], not of shape {images.shape}")
    if images.dtype == np.uint8:
        return images
    common.check_finite(name, images)
    low, high = float(images.min()), float(images.max())
    if low < 0.0 or high > 255.0:
        raise InputError(
            f"{name} reach from {low:.4g} to {high:.4g}; expected grey values from 0 to 255: "
            f"quantise to uint8"
        )
    if images.dtype.kind != "i" and images.dtype.kind != "u" and 0.0 < high <= 1.0:
        raise InputError(
            f"{name} are floats up to {high:.4g}; expected 0 to 255: multiply by 255 or quantise "
            f"to uint8"
        )
    return images


def _check_pair(real, generated) -> tuple[np.ndarray, np.ndarray]:
    real, generated = _check("real", real), _check("generated", generated)
    if real.shape != generated.shape:
        raise InputError(
            f"real is {real.shape} and generated {generated.shape}: image i is compared with image "
            f"i"
        )
    return real, generated


def _in_chunks(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray],
    first: np.ndarray,
    second: np.ndarray,
    index=None,
) -> Float[np.ndarray, "N"]:
    """function of two float64 arrays of images [N, C, H, W] over chunks of pairs: i with i, or
    first[index[0]] with second[index[1]].
    """
    size = max(1, _ENTRIES // first[0].size)
    left, right = index if index is not None else (np.arange(len(first)),) * 2
    parts = [slice(i, i + size) for i in range(0, len(left), size)]

    def planes(images):
        return np.ascontiguousarray(np.moveaxis(images, 3, 1), np.float64)

    return np.concatenate([function(planes(first[left[p]]), planes(second[right[p]]))
                           for p in parts])  # fmt: skip


@functools.lru_cache(maxsize=64)
def _window(size: int, window: int) -> np.ndarray:
    """[size - window + 1, size]: each row weighs the pixels that lie in one position of a Gaussian
    window.
    """
    offset = np.arange(window) - window // 2
    weights = np.exp(-(offset**2) / (2.0 * _SIGMA**2))
    rows = np.zeros((size - window + 1, size))
    for i, row in enumerate(rows):
        row[i : i + window] = weights / weights.sum()
    return rows


def _blurred(images: np.ndarray, window: int) -> np.ndarray:
    """Gaussian means over all positions of a window inside images [..., H, W].

    Matrices of weights are nearly all zeros in large images, so that each product is for a few
    positions: all at once would cost the square of a side.
    """
    for _ in range(2):  # along H, then along W
        positions = images.shape[-2] - window + 1
        step = positions if positions <= 3 * _BAND else _BAND
        parts = []
        for start in range(0, positions, step):
            rows = images[..., start : min(start + step, positions) + window - 1, :]
            parts.append(np.matmul(_window(rows.shape[-2], window), rows))
        images = np.swapaxes(np.concatenate(parts, axis=-2), -1, -2)
    return images


def _similarity(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """SSIM of images [N, C, H, W], and its factor of contrast and structure alone (Wang et al.
    2004, eq. 13), means over windows [N, C].
    """
    side = min(a.shape[2:])
    window = min(_WINDOW, side - (side + 1) % 2)
    mean_a, mean_b = _blurred(a, window), _blurred(b, window)
    variances = _blurred(a * a + b * b, window) - mean_a**2 - mean_b**2
    covariance = _blurred(a * b, window) - mean_a * mean_b
    structure = (2.0 * covariance + _C2) / (variances + _C2)
    luminance = (2.0 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    return (luminance * structure).mean(axis=(2, 3)), structure.mean(axis=(2, 3))


def _weights(shape: tuple[int, ...], levels: int | None) -> np.ndarray:
    """Exponents of the scales to use."""
    side = min(shape[1:3])
    fit = max(1, sum(side >> level >= _WINDOW for level in range(len(_WEIGHTS))))
    if levels is not None and common.check_count("levels", levels, 1) > fit:
        raise InputError(
            f"levels={levels} is too many for images of {shape[1]} x {shape[2]}: at most {fit} fit"
        )
    weights = np.array(_WEIGHTS[: levels or fit])
    return weights / weights.sum()


def _multi_scale(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    product = np.ones(())
    for level, weight in enumerate(weights):
        whole, structure = _similarity(a, b)
        last = level == len(weights) - 1  # luminance counts at the coarsest scale alone
        product = product * np.maximum(whole if last else structure, 0.0) ** weight
        a, b = _halved(a), _halved(b)
    return product.mean(axis=1)


def _halved(images: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels of images [N, C, H, W]; an odd last row or column goes."""
    images = images[..., : images.shape[2] // 2 * 2, : images.shape[3] // 2 * 2]
    return 0.25 * (
        images[..., ::2, ::2]
        + images[..., 1::2, ::2]
        + images[..., ::2, 1::2]
        + images[..., 1::2, 1::2]
    )
