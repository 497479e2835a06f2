"""Image resizing as the FID tools do it, each mode a pair of matrix products.

A score depends on the resize (Parmar et al. 2022, "On Aliased Resizing and Surprising Subtleties in
GAN Evaluation"), so the mode belongs to a score's protocol. All modes are linear and separable: out
= R_rows x R_columns^T for each channel."""

from functools import lru_cache

import jax.numpy as jnp
import numpy as np
from jax.lax import Precision
from jaxtyping import Array, Float, Num

from jaxgen.errors import InputError, nearest


def _bilinear(low: np.ndarray, fraction: np.ndarray, size_in: int) -> np.ndarray:
    """Rows that weigh pixel `low` by 1 - fraction and the next one by fraction; beyond the edge
    stands the edge pixel.
    """
    result = np.zeros((len(low), size_in))
    rows = np.arange(len(low))
    np.add.at(result, (rows, np.minimum(low, size_in - 1)), 1 - fraction)
    np.add.at(result, (rows, np.minimum(low + 1, size_in - 1)), fraction)
    return result


def _tf1_bilinear(size_in: int, size_out: int) -> np.ndarray:
    """Output pixel i lies at i * in / out, not at the pixels' centres: tf.image.resize_bilinear of
    TensorFlow 1.
    """
    position = np.arange(size_out) * (size_in / size_out)
    low = np.floor(position).astype(int)
    return _bilinear(low, position - low, size_in)


def _pytorch_bilinear(size_in: int, size_out: int) -> np.ndarray:
    """Output pixel i lies at (i + 1/2) * in / out - 1/2, at least 0: F.interpolate with
    align_corners=False.
    """
    position = np.maximum((np.arange(size_out) + 0.5) * (size_in / size_out) - 0.5, 0.0)
    low = np.floor(position).astype(int)
    return _bilinear(low, position - low, size_in)


def _pil_bicubic(size_in: int, size_out: int) -> np.ndarray:
    """Keys' cubic kernel with a = -1/2, stretched by in / out when shrinking; its rows are cut at
    the edge and sum to one.
    """
    scale = size_in / size_out
    stretch = max(scale, 1.0)
    centre = (np.arange(size_out)[:, None] + 0.5) * scale
    t = np.abs(np.arange(size_in) + 0.5 - centre) / stretch
    near = (1.5 * t - 2.5) * t * t + 1.0
    far = ((-0.5 * t + 2.5) * t - 4.0) * t + 2.0
    weights = np.where(t < 1.0, near, np.where(t < 2.0, far, 0.0))
    # Pillow takes whole pixels whose centres are within the support, rounded; at its ends the
    # kernel is zero
    first = np.maximum(np.floor(centre - 2.0 * stretch + 0.5), 0)
    last = np.minimum(np.floor(centre + 2.0 * stretch + 0.5), size_in)
    index = np.arange(size_in)
    weights = np.where((index >= first) & (index < last), weights, 0.0)
    return weights / weights.sum(1, keepdims=True)


MODES = {
    "tf1_bilinear": _tf1_bilinear,
    "pytorch_bilinear": _pytorch_bilinear,
    "pil_bicubic": _pil_bicubic,
}


@lru_cache(maxsize=64)
def matrix(mode: str, size_in: int, size_out: int) -> Float[np.ndarray, "out in"]:
    """The float64 matrix that takes a row of `size_in` pixels to `size_out` pixels.

    mode: `tf1_bilinear` is TensorFlow 1's (neither aligned corners nor half-pixel centres), the
    standard of FID; `pytorch_bilinear` is F.interpolate's (half-pixel centres, no antialiasing);
    `pil_bicubic` is Pillow's antialiased bicubic. Raises InputError for another mode or a size
    below 1. The array is shared: it is read-only."""
    if mode not in MODES:
        raise InputError(f"there is no resize mode '{mode}': {nearest(str(mode), MODES)}")
    if size_in < 1 or size_out < 1:
        raise InputError(f"cannot resize {size_in} pixels to {size_out}: sizes are at least 1")
    result = MODES[mode](size_in, size_out)
    result.flags.writeable = False
    return result


def resize(images: Num[Array, "N H W C"], size: int, mode: str) -> Float[Array, "N size size C"]:
    """Images (grey values in any range) resized to squares in float32, without rounding or
    clipping; usable in `jit`.

    `pil_bicubic` equals Pillow on mode "F", channel by channel, as clean-fid calls it; it
    overshoots at edges (clean-fid then clips to 0..255). Raises InputError for an unknown mode."""
    rows, columns = (jnp.asarray(matrix(mode, n, size), jnp.float32) for n in images.shape[1:3])
    images = images.astype(jnp.float32)
    images = jnp.einsum("pw,nhwc->nhpc", columns, images, precision=Precision.HIGHEST)
    return jnp.einsum("oh,nhpc->nopc", rows, images, precision=Precision.HIGHEST)
