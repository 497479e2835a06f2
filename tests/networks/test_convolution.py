"""The convolution is lax's, with all derivatives and under all transformations; and it stays in the
layout that is fast.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgen.networks import convolution
from jaxgen.networks.convolution import Conv, convolve

CASES = [  # image size, window, strides, inputs, outputs
    ((6, 6), (3, 3), (1, 1), 3, 4),
    ((7, 5), (3, 3), (2, 2), 2, 5),
    ((6, 8), (3, 3), (2, 2), 1, 2),
    ((5, 6), (1, 1), (1, 1), 4, 3),
    ((6, 5), (1, 1), (2, 2), 4, 3),
    ((7, 6), (4, 5), (1, 2), 2, 3),
    ((6, 7), (3, 3), (1, 1), 5, 2),
    ((6, 7), (4, 2), (1, 1), 5, 2),
]


def reference(x, kernel, strides):
    return jax.lax.conv_general_dilated(
        x, kernel, strides, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def operands(size, window, inputs, outputs, batch=2):
    draw = np.random.default_rng(0)
    shapes = (batch, *size, inputs), (*window, inputs, outputs)
    return tuple(jnp.asarray(draw.normal(size=shape), jnp.float32) for shape in shapes)


def close(ours, theirs, tolerance=1e-4):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), ours, theirs
    )


def derivatives(f, x, kernel):
    """Value, gradients, the gradients of a gradient penalty, and a forward-mode derivative."""

    def value(x, kernel):
        return jnp.sum(jnp.sin(f(x, kernel)))

    def penalty(x, kernel):
        return sum(jnp.sum(jnp.square(g)) for g in jax.grad(value, (0, 1))(x, kernel))

    tangent = jax.jvp(f, (x, kernel), (jnp.cos(x), jnp.cos(kernel)))[1]
    return (
        f(x, kernel),
        jax.grad(value, (0, 1))(x, kernel),
        jax.grad(penalty, (0, 1))(x, kernel),
        tangent,
    )


@pytest.mark.parametrize("size, window, strides, inputs, outputs", CASES)
def test_values_and_derivatives_are_laxs(size, window, strides, inputs, outputs):
    x, kernel = operands(size, window, inputs, outputs)
    ours, theirs = (
        jax.jit(partial(derivatives, lambda x, k, f=f: f(x, k, strides)))(x, kernel)
        for f in (convolve, reference)
    )
    close(ours, theirs)


def test_a_large_batch_is_summed_in_parts(monkeypatch):
    monkeypatch.setattr(convolution, "MANY_PLACES", 40)
    monkeypatch.setattr(convolution, "FEW_PLACES", 30)
    x, kernel = operands((3, 4), (3, 3), 2, 3, batch=24)
    parts = str(jax.make_jaxpr(jax.grad(lambda k: convolve(x, k).sum()))(kernel)).count(
        "convolution["
    )
    assert parts == 1 + 24 // 8
    close(
        *(
            jax.jit(jax.grad(lambda k, f=f: jnp.sin(f(x, k, (1, 1))).sum()))(kernel)
            for f in (convolve, reference)
        )
    )


@pytest.mark.parametrize(
    "transform", ["vmap images", "vmap kernels", "vmap both", "pmap", "checkpoint", "scan"]
)
def test_transformations(transform):
    x, kernel = operands((4, 4), (3, 3), 2, 2)

    def gradients(f, x, kernel):
        return jax.grad(lambda x, k: jnp.sin(f(x, k, (1, 1))).sum(), (0, 1))(x, kernel)

    def run(f):
        g = partial(gradients, f)
        xs, kernels = jnp.stack([x, x + 1], 1), jnp.stack([kernel, 2 * kernel], 2)
        if transform == "vmap images":
            return jax.vmap(g, (1, None))(xs, kernel)
        if transform == "vmap kernels":
            return jax.vmap(g, (None, 2))(x, kernels)
        if transform == "vmap both":
            return jax.vmap(g, (1, 2))(xs, kernels)
        if transform == "pmap":
            return jax.pmap(g)(x[None], kernel[None])
        if transform == "checkpoint":
            return jax.checkpoint(g)(x, kernel)
        return jax.lax.scan(
            lambda c, _: (jax.tree.map(lambda a, b: a + 0.1 * b, c, g(*c)), None),
            (x, kernel),
            None,
            2,
        )[0]

    close(run(convolve), run(reference))


def test_after_up_sampling_it_is_the_plain_convolution():
    ours, theirs = (
        jax.jit(partial(derivatives, f))(*operands((3, 4), (3, 3), 2, 3))
        for f in (
            convolution.convolve_upsampled,
            lambda x, k: reference(jnp.repeat(jnp.repeat(x, 2, 1), 2, 2), k, (1, 1)),
        )
    )
    close(ours, theirs)


@pytest.mark.parametrize("window, upsample", [(1, False), (3, False), (3, True)])
def test_a_tuple_is_its_concatenation(window, upsample):
    layer = Conv(4, (window, window), upsample=upsample)
    parts = tuple(jax.random.normal(jax.random.key(i), (2, 3, 5, i)) for i in (1, 3, 2))
    whole = jnp.concatenate(parts, -1)
    variables = layer.init(jax.random.key(0), parts)
    jax.tree.map(np.testing.assert_array_equal, layer.init(jax.random.key(0), whole), variables)
    close(layer.apply(variables, parts), layer.apply(variables, whole))


@pytest.mark.parametrize("dtype, tolerance", [(jnp.float32, 1e-5), (jnp.bfloat16, 0.05)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_the_layer_is_linens(dtype, tolerance, strides):
    x = jax.random.normal(jax.random.key(0), (2, 6, 7, 3))
    ours, theirs = (layer(4, (3, 3), strides=strides, dtype=dtype) for layer in (Conv, nn.Conv))
    variables = theirs.init(jax.random.key(1), x)
    jax.tree.map(np.testing.assert_array_equal, ours.init(jax.random.key(1), x), variables)
    y, z = ours.apply(variables, x), theirs.apply(variables, x)
    assert y.dtype == z.dtype == dtype
    np.testing.assert_allclose(
        y.astype(jnp.float32), z.astype(jnp.float32), rtol=tolerance, atol=tolerance
    )
    assert "bias" not in Conv(4, (1, 1), use_bias=False).init(jax.random.key(0), x)["params"]


def test_derivatives_stay_in_the_fast_layout():
    """What falls to another layout runs a hundred times slower inside a loop."""
    x, kernel = operands((4, 4), (3, 3), 2, 3)
    text = (
        jax.jit(partial(derivatives, lambda x, k: convolve(x, k, (2, 2))))
        .lower(x, kernel)
        .as_text()
    )
    convolutions = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    assert len(convolutions) >= 6
    assert all("[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]" in line for line in convolutions)


def test_elsewhere_it_is_laxs_own(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    jaxpr = jax.make_jaxpr(lambda x, k: convolve(x, k))(*operands((4, 4), (3, 3), 2, 3))
    assert [equation.primitive.name for equation in jaxpr.eqns] == ["conv_general_dilated"]
    upsampled, (x, kernel) = convolution.convolve_upsampled, operands((3, 4), (3, 3), 2, 3)
    text = str(jax.make_jaxpr(upsampled)(x, kernel))
    assert text.count("conv_general_dilated[") == 1
    plain = upsampled(x, kernel)
    monkeypatch.undo()
    close(upsampled(x, kernel), plain)
