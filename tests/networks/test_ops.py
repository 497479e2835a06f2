"""The fast form of every operation is the plain one, with all derivatives and under all
transformations; and the convolution stays in the layout that is fast."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgen.networks import cpu, ops
from jaxgen.networks.conv import Conv
from tests.support import close, normal


def conv_operands(size, window, inputs, outputs, batch=2):
    return normal(0, batch, *size, inputs), normal(1, *window, inputs, outputs)


def norm(groups):
    return lambda x, gain, bias: ops.group_norm(x, gain, bias, groups, 1e-6)


def conv(*strides):
    return lambda x, kernel: ops.conv(x, kernel, strides)


# name -> (operation, operands, numbers that a result adds up)
OPERATIONS = {
    "conv": (conv(1, 1), conv_operands((6, 6), (3, 3), 3, 4), 27),
    "strides": (conv(2, 2), conv_operands((7, 5), (3, 3), 2, 5), 18),
    "one channel": (conv(2, 2), conv_operands((6, 8), (3, 3), 1, 2), 9),
    "product": (conv(1, 1), conv_operands((5, 6), (1, 1), 4, 3), 4),
    "1x1 strides": (conv(2, 2), conv_operands((6, 5), (1, 1), 4, 3), 4),
    "even window": (conv(1, 2), conv_operands((7, 6), (4, 5), 2, 3), 40),
    "exchanged": (conv(1, 1), conv_operands((6, 7), (4, 2), 5, 2), 40),
    "up-sampled": (ops.conv_upsampled, conv_operands((3, 4), (3, 3), 2, 3), 18),
    "group norm": (norm(3), (normal(0, 3, 4, 5, 12) + 1, normal(1, 12), normal(2, 12)), 80),
    "one group": (norm(1), (normal(0, 2, 5, 4) + 1, normal(1, 4), normal(2, 4)), 20),
}


def results(f, *operands):
    """Value, gradients, gradients of a gradient penalty, forward mode, vmap, half precision."""
    every = tuple(range(len(operands)))

    def value(*operands):
        return jnp.sum(jnp.sin(f(*operands)))

    def penalty(*operands):
        return sum(jnp.sum(jnp.square(g)) for g in jax.grad(value, every)(*operands))

    x, *rest = operands
    stacked = jnp.stack([x, x + 1], 1)
    return {
        "value": f(*operands),
        "gradient": jax.grad(value, every)(*operands),
        "second gradient": jax.grad(penalty, every)(*operands),
        "forward": jax.jvp(f, operands, tuple(map(jnp.cos, operands)))[1],
        "vmap": jax.vmap(jax.grad(value), (1, *(None for _ in rest)))(stacked, *rest),
        "bfloat16": f(*(y.astype(jnp.bfloat16) for y in operands)),
    }


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_fast_form_is_the_plain_one(name, monkeypatch):
    f, operands, terms = OPERATIONS[name]
    operands = tuple(map(jnp.asarray, operands))
    fast = jax.jit(partial(results, f))(*operands)
    monkeypatch.setenv("JAXGEN_PLAIN_OPS", "1")
    plain = jax.jit(partial(results, lambda *operands: f(*operands)))(*operands)
    for what, value in fast.items():
        kinds = jax.tree.map(lambda x: x.dtype, (value, plain[what]))
        assert kinds[0] == kinds[1]
        # the gradients add up the places of all examples, each of the size of a product
        close(value, plain[what], *operands, terms=terms * operands[0].size // 2)


def gradients(x, kernel):
    return jax.grad(lambda x, k: jnp.sin(ops.conv(x, k)).sum(), (0, 1))(x, kernel)


@pytest.mark.slow
@pytest.mark.parametrize("transform", ["vmap kernels", "vmap both", "pmap", "checkpoint", "scan"])
def test_transformations(transform, monkeypatch):
    x, kernel = map(jnp.asarray, conv_operands((4, 4), (3, 3), 2, 2))

    def run():
        def g(x, kernel):  # traced anew
            return gradients(x, kernel)

        def step(carry, _):
            return jax.tree.map(lambda a, b: a + 0.1 * b, carry, g(*carry)), None

        xs, kernels = jnp.stack([x, x + 1], 1), jnp.stack([kernel, 2 * kernel], 2)
        return {
            "vmap kernels": lambda: jax.vmap(g, (None, 2))(x, kernels),
            "vmap both": lambda: jax.vmap(g, (1, 2))(xs, kernels),
            "pmap": lambda: jax.pmap(g)(x[None], kernel[None]),
            "checkpoint": lambda: jax.checkpoint(g)(x, kernel),
            "scan": lambda: jax.lax.scan(step, (x, kernel), None, 2)[0],
        }[transform]()

    fast = run()
    monkeypatch.setenv("JAXGEN_PLAIN_OPS", "1")
    close(fast, run(), x, kernel, terms=18 * 32)


def test_a_large_batch_is_summed_in_parts(monkeypatch):
    monkeypatch.setattr(cpu, "MANY_PLACES", 40)
    monkeypatch.setattr(cpu, "FEW_PLACES", 30)
    x, kernel = map(jnp.asarray, conv_operands((3, 4), (3, 3), 2, 3, batch=24))
    parts = str(jax.make_jaxpr(jax.grad(lambda k: ops.conv(x, k).sum()))(kernel))
    assert parts.count("convolution[") == 1 + 24 // 8
    fast = jax.jit(gradients)(x, kernel)
    monkeypatch.setenv("JAXGEN_PLAIN_OPS", "1")
    close(fast, jax.jit(lambda x, k: gradients(x, k))(x, kernel), x, kernel, terms=24 * 12 * 18)


def test_derivatives_stay_in_the_fast_layout():
    """What falls to another layout runs a hundred times slower inside a loop."""
    x, kernel = map(jnp.asarray, conv_operands((4, 4), (3, 3), 2, 3))

    def twice(x, kernel):
        value, pull = jax.vjp(gradients, x, kernel)
        return pull(value)

    text = jax.jit(twice).lower(x, kernel).as_text()
    convolutions = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    assert len(convolutions) >= 6
    assert all("[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]" in line for line in convolutions)


@pytest.mark.parametrize("plain", ["another backend", "asked for"])
def test_elsewhere_it_is_laxs_own(monkeypatch, plain):
    if plain == "asked for":
        monkeypatch.setenv("JAXGEN_PLAIN_OPS", "1")
    else:
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for f in (conv(1, 1), partial(ops.conv_upsampled)):
        text = str(jax.make_jaxpr(f)(*conv_operands((3, 4), (3, 3), 2, 3)))
        assert text.count("conv_general_dilated[") == 1 and "convolution[" not in text


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_the_layer_is_linens(dtype, strides):
    x = jnp.asarray(normal(0, 2, 6, 7, 3))
    ours, theirs = (layer(4, (3, 3), strides=strides, dtype=dtype) for layer in (Conv, nn.Conv))
    variables = theirs.init(jax.random.key(1), x)
    jax.tree.map(np.testing.assert_array_equal, ours.init(jax.random.key(1), x), variables)
    y, z = ours.apply(variables, x), theirs.apply(variables, x)
    assert y.dtype == z.dtype == dtype
    close(y, z, terms=27)
    assert "bias" not in Conv(4, (1, 1), use_bias=False).init(jax.random.key(0), x)["params"]
