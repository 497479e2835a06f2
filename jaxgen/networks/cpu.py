"""Operations of networks that XLA's CPU backend runs faster in another form than the plain one.

`ops` holds the plain forms and chooses; each function here has the signature and the result of its
namesake there. experiments/benchmark_ops.py measures what each of them gives to a training step.

XLA's CPU backend has a fast convolution for one layout only: images NHWC, kernels HWIO. It rewrites
other layouts into that one, but not inside a loop, where they fall to code that is a hundred times
slower; and the gradients that JAX derives are in other layouts. So the convolution here is a
primitive of its own, which computes what `lax.conv_general_dilated` does and whose derivatives, to
any order, are convolutions in the fast layout again."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

LAYOUT = ("NHWC", "HWIO", "NHWC")
NO_PADDING, ONE = ((0, 0), (0, 0)), (1, 1)
# XLA sums a kernel's gradient over many places (batch x rows x columns) several times slower than
# over a few thousand at a time
MANY_PLACES, FEW_PLACES, VECTOR = 8192, 4096, 8


def conv(
    x: Float[Array, "B H W I"], kernel: Float[Array, "h w I O"], strides: tuple[int, int] = (1, 1)
) -> Float[Array, "B high wide O"]:
    padding = tuple(jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, "SAME"))
    return _bind(x, kernel, strides, padding, ONE, ONE)


def conv_upsampled(
    x: Float[Array, "B H W I"], kernel: Float[Array, "3 3 I O"]
) -> Float[Array, "B 2*H 2*W O"]:
    """By 4/9 of the multiplications.

    Of the three rows of the kernel, two fall on the same row of the small image: which two depends
    on the output's row, even or odd. So each of the four kinds of output (even or odd row, even or
    odd column) is a 2x2 convolution of the small image."""
    batch, height, width, _ = x.shape

    def folded(kernel, odd, axis):
        first, second, third = jnp.split(kernel, 3, axis)
        return jnp.concatenate([first + second, third] if odd else [first, second + third], axis)

    def outputs(row, column):
        padding = ((1 - row, row), (1 - column, column))
        quarter = folded(folded(kernel, row, 0), column, 1).astype(x.dtype)
        return _bind(x, quarter, ONE, padding, ONE, ONE)

    rows = [jnp.stack([outputs(row, column) for column in (0, 1)], 3) for row in (0, 1)]
    return jnp.stack(rows, 2).reshape(batch, 2 * height, 2 * width, -1)


def group_norm(
    x: Float[Array, "B *S C"],
    gain: Float[Array, "C"],
    bias: Float[Array, "C"],
    groups: int,
    epsilon: float,
) -> Float[Array, "B *S C"]:
    """By sums over each channel, and one scale and shift for each channel: one pass to read and one
    to write, and no reshape of the activations."""
    x, spatial, channels = x.astype(jnp.float32), tuple(range(1, x.ndim - 1)), x.shape[-1]
    group = np.arange(channels) * groups // channels
    average = np.float32(group[:, None] == group) * np.float32(groups / channels)

    def group_mean(x):
        # as a matrix product, whose result XLA stores: means it would compute again for every pixel
        return jnp.dot(jnp.mean(x, spatial), average, precision="highest")

    # The squares first: the gradient then ends in a sum of two arrays, which XLA stores once. One
    # that ends in a broadcast number it would compute again wherever it is used, such as in the
    # transposes of a convolution's gradient.
    squares, mean = group_mean(jnp.square(x)), group_mean(x)
    variance = jnp.maximum(squares - jnp.square(mean), 0.0)
    scale = jax.lax.rsqrt(variance + epsilon) * gain
    shift = bias - mean * scale
    per_channel = (-1, *(1 for _ in spatial), channels)
    return x * scale.reshape(per_channel) + shift.reshape(per_channel)


# The primitive. Its parameters are those of lax.conv_general_dilated.

convolution_p = Primitive("convolution")


def _bind(x, kernel, strides, padding, lhs_dilation, rhs_dilation):
    return convolution_p.bind(
        x, kernel, strides=tuple(strides), padding=tuple(padding), lhs_dilation=tuple(lhs_dilation),
        rhs_dilation=tuple(rhs_dilation),
    )  # fmt: skip


def _lax(x, kernel, *, strides, padding, lhs_dilation=ONE, rhs_dilation=ONE):
    if _is_product(kernel.shape, strides, padding, lhs_dilation):
        return x @ kernel[0, 0]
    return jax.lax.conv_general_dilated(
        x, kernel, strides, padding, lhs_dilation, rhs_dilation, dimension_numbers=LAYOUT
    )


def _is_product(kernel_shape, strides, padding, lhs_dilation) -> bool:
    """Whether every pixel's channels are multiplied by one matrix, and that is all."""
    return kernel_shape[:2] == strides == lhs_dilation == ONE and padding == NO_PADDING


def _shape(x, kernel, **parameters):
    out = jax.eval_shape(partial(_lax, **parameters), x, kernel)
    return ShapedArray(out.shape, out.dtype)


def _extent(size: int, dilation: int) -> int:
    return (size - 1) * dilation + 1


def _extents(x_shape, kernel_shape, out_shape, strides, lhs_dilation, rhs_dilation):
    """(image, window, output) with their holes along each spatial dimension."""
    for d in range(2):
        yield (
            _extent(x_shape[1 + d], lhs_dilation[d]),
            _extent(kernel_shape[d], rhs_dilation[d]),
            _extent(out_shape[1 + d], strides[d]),
        )


def _image_gradient(g, x, kernel, *, strides, padding, lhs_dilation, rhs_dilation):
    """The cotangent of x: g convolved with the reversed kernel, inputs and outputs exchanged."""
    extents = _extents(x.aval.shape, kernel.shape, g.shape, strides, lhs_dilation, rhs_dilation)
    pads = []
    for (image, window, out), (low, _) in zip(extents, padding, strict=True):
        before = window - 1 - low
        pads.append((before, image + window - 1 - out - before))
    flipped = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
    return _bind(g, flipped, lhs_dilation, pads, strides, rhs_dilation)


def _kernel_gradient(g, x, kernel, *, strides, padding, lhs_dilation, rhs_dilation):
    """The cotangent of the kernel: x, its channels as the batch, convolved with g as the kernel; or
    the other way round, as XLA is faster with more channels in the kernel."""
    inputs, outputs = kernel.aval.shape[2:]
    if _is_product(kernel.aval.shape, strides, padding, lhs_dilation):
        return jnp.einsum("no,ni->io", g.reshape(-1, outputs), x.reshape(-1, inputs))[None, None]
    exchange = inputs > outputs and strides == lhs_dilation == rhs_dilation == ONE
    extents = _extents(x.shape, kernel.aval.shape, g.shape, strides, lhs_dilation, rhs_dilation)
    pads = [
        (window - 1 - low, low + image - out) if exchange else (low, window - 1 - low + out - image)
        for (image, window, out), (low, _) in zip(extents, padding, strict=True)
    ]

    def of(x, g):
        image, window = (g, x) if exchange else (x, g)
        image, window = jnp.transpose(image, (3, 1, 2, 0)), jnp.transpose(window, (1, 2, 0, 3))
        return _bind(image, window, rhs_dilation, pads, lhs_dilation, strides)

    size = _chunk(x.shape[0], math.prod(g.shape[1:3]))
    total = sum(of(x[i : i + size], g[i : i + size]) for i in range(0, x.shape[0], size))
    return (
        jnp.transpose(total[:, ::-1, ::-1], (1, 2, 3, 0))
        if exchange
        else jnp.transpose(total, (1, 2, 0, 3))
    )


def _chunk(batch: int, places: int) -> int:
    """Examples at a time for a kernel's gradient: all, or a divisor of the batch of no fewer than a
    vector register holds.
    """
    if batch * places <= MANY_PLACES:
        return batch
    divisors = [n for n in range(1, batch + 1) if batch % n == 0]
    return max(n for n in divisors if n * places <= FEW_PLACES or n <= VECTOR)


def _batched(operands, dims, **parameters):
    """vmap: over images only, they join the batch; else what lax does."""
    (x, kernel), (dim, kernel_dim) = operands, dims
    if kernel_dim is not None:
        return jax.vmap(partial(_lax, **parameters), dims)(x, kernel), 0
    x = jnp.moveaxis(x, dim, 0)
    y = convolution_p.bind(x.reshape(-1, *x.shape[2:]), kernel, **parameters)
    return y.reshape(*x.shape[:2], *y.shape[1:]), 0


convolution_p.def_impl(_lax)
convolution_p.def_abstract_eval(_shape)
ad.defbilinear(convolution_p, _image_gradient, _kernel_gradient)
batching.primitive_batchers[convolution_p] = _batched
mlir.register_lowering(convolution_p, mlir.lower_fun(_lax, multiple_results=False))
