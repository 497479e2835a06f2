"""The operations of networks that have a fast form for CPUs (in `cpu`) beside the plain one here.

Both compute the same up to rounding. With JAXGEN_PLAIN_OPS=1 in the environment a CPU takes the
plain ones as well: whether a fast one is to blame for something is then quickly found out."""

import os

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen.networks import cpu


def on_cpu() -> bool:
    """Whether the fast forms are taken."""
    return jax.default_backend() == "cpu" and os.environ.get("JAXGEN_PLAIN_OPS", "0") in ("", "0")


def conv(
    x: Float[Array, "B H W I"], kernel: Float[Array, "h w I O"], strides: tuple[int, int] = (1, 1)
) -> Float[Array, "B high wide O"]:
    """The convolution with SAME padding, in the operands' dtype."""
    if on_cpu():
        return cpu.conv(x, kernel, strides)
    return jax.lax.conv_general_dilated(
        x, kernel, strides, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def conv_upsampled(
    x: Float[Array, "B H W I"], kernel: Float[Array, "3 3 I O"]
) -> Float[Array, "B 2*H 2*W O"]:
    """`conv` of the image with its sides doubled, in the image's dtype."""
    if on_cpu():
        return cpu.conv_upsampled(x, kernel)
    return conv(upsample(x), kernel.astype(x.dtype))


def upsample(x: Float[Array, "B H W C"]) -> Float[Array, "B 2*H 2*W C"]:
    """Nearest-neighbour up-sampling by two."""
    batch, height, width, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None, :], (batch, height, 2, width, 2, channels))
    return x.reshape(batch, 2 * height, 2 * width, channels)


def group_norm(
    x: Float[Array, "B *S C"],
    gain: Float[Array, "C"],
    bias: Float[Array, "C"],
    groups: int,
    epsilon: float,
) -> Float[Array, "B *S C"]:
    """gain (x - mean) / sqrt(variance + epsilon) + bias, mean and variance over the places and the
    channels of a group (Wu & He 2018); in float32."""
    if on_cpu():
        return cpu.group_norm(x, gain, bias, groups, epsilon)
    parts = x.astype(jnp.float32).reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
    mean = jnp.mean(parts, (1, 3), keepdims=True)
    variance = jnp.mean(jnp.square(parts), (1, 3), keepdims=True) - jnp.square(mean)
    normal = (parts - mean) * jax.lax.rsqrt(jnp.maximum(variance, 0.0) + epsilon)
    return normal.reshape(x.shape) * gain + bias
