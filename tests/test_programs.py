"""Compiled functions have the whole face of jax.jit's, and FLOPs are counted as they are run."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import families, programs, sampling
from jaxgen.families.base import Data, Family
from jaxgen.networks import ops
from jaxgen.training import players, state, step
from tests.support import close, keys, normal
from tests.tiny import tiny

MATRIX = np.float32(0.1 * np.eye(4) + 0.05)


@programs.jit
def double(x):
    """Twice."""
    return 2 * jnp.sin(x)


def test_a_compiled_function_has_the_face_of_jaxs_own():
    x, theirs = jnp.arange(3.0), jax.jit(lambda x: 2 * jnp.sin(x))
    assert isinstance(double, jax.stages.Wrapped)
    for name in ("trace", "lower", "eval_shape", "clear_cache", "__wrapped__", "__name__"):
        assert hasattr(double, name), name
    assert double.__name__ == "double" and double.__doc__ == "Twice."
    assert double.eval_shape(x) == theirs.eval_shape(x)
    assert double.trace(x).jaxpr.in_avals == theirs.trace(x).jaxpr.in_avals
    np.testing.assert_array_equal(double.trace(x).lower().compile()(x), double(x))
    np.testing.assert_array_equal(double.lower(x).compile()(x), double(x))
    double.clear_cache()
    close(double.__wrapped__(x), double(x))


def test_compiled_functions_nest_in_every_transformation():
    x = jnp.linspace(0.1, 0.9, 3)
    expected = 2 * np.cos(np.linspace(0.1, 0.9, 3))
    once = jax.grad(lambda x: double(x).sum())
    for nested in (once, jax.jit(once), programs.jit(once), jax.vmap(jax.grad(double))):
        close(nested(x), np.float32(expected))
    close(jax.jit(double)(x), double(x))
    assert jax.eval_shape(double, x).shape == (3,)


def test_options_reach_the_compiled_function_and_methods_bind():
    class Scaled:
        factor = 3

        @programs.jit
        def of(self, x):
            return self.factor * x

    power = programs.jit(lambda x, n: x**n, static_argnames="n")
    assert power(jnp.float32(3), n=2) == 9 and power.trace(1.0, n=1).jaxpr
    jax.tree_util.register_static(Scaled)
    assert Scaled().of(2) == 6


def products(count, guided=False):
    """A sampler of `count` products in a loop; guided, it sees twice the rows."""

    def sample(variables, keys, condition):
        def step(x, _):
            rows = jnp.concatenate([x, x]) if guided else x
            return jnp.split(jnp.tanh(rows @ MATRIX), 2)[0] if guided else jnp.tanh(
                x @ MATRIX
            ), None

        x = jax.vmap(lambda key: jax.random.uniform(key, (4,), jnp.float32))(keys)
        x, _ = jax.lax.scan(step, x, length=count)
        return x.reshape(-1, 2, 2, 1)

    return Family("test", (), Data((2, 2, 1)), None, None, sample)


def test_a_sampler_can_be_exported():
    from jaxgen.spaces import PIXELS

    run = sampling.sampler(products(3), {}, PIXELS)
    exported = jax.export.export(run)({}, keys(2), None)
    np.testing.assert_array_equal(exported.call({}, keys(2), None)[0], run({}, keys(2), None)[0])


def test_flops_of_a_product_and_of_loops_of_it():
    m, k, n = 3, 4, 5
    x, y = normal(0, m, k), normal(1, k, n)
    assert programs.flops(jnp.matmul, x, y) == 2 * m * k * n
    batched = jax.ShapeDtypeStruct((7, m, k), "float32"), jax.ShapeDtypeStruct((7, k, n), "float32")
    assert programs.flops(jax.vmap(jnp.matmul), *batched) == 7 * 2 * m * k * n

    def loop(x, times):
        return jax.lax.fori_loop(0, times, lambda i, x: x @ MATRIX, x)

    once = 2 * m * 4 * 4
    assert programs.flops(lambda x: loop(x, 6), x) == 6 * once
    assert programs.flops(loop, x, jnp.int32(6)) == once  # nobody knows how often
    assert programs.flops(jax.jit(jax.checkpoint(lambda x: loop(x, 2))), x) == 2 * once
    branches = [lambda x: x, lambda x: x @ MATRIX, lambda x: loop(x, 3)]
    assert programs.flops(lambda i, x: jax.lax.switch(i, branches, x), jnp.int32(0), x) == 3 * once


def test_flops_of_the_elementwise_and_of_what_only_moves():
    x = normal(0, 4, 6)
    assert programs.flops(lambda x: jnp.exp(x) + 1, x) == 2 * x.size
    assert programs.flops(lambda x: x.sum(0), x) == x.size
    assert programs.flops(lambda x: jnp.roll(x.T, 1).reshape(-1)[::-1], x) == 0
    assert programs.flops(lambda x: x + 1, jnp.arange(5)) == 0


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_flops_of_a_convolution_and_its_gradients_are_xlas(strides, monkeypatch):
    """Of a program without loops XLA's own analysis is right."""
    x, kernel = jnp.ones((2, 8, 6, 8)), jnp.ones((3, 3, 8, 16))

    def function(x, kernel):
        return jax.grad(lambda x, k: jnp.sum(ops.conv(x, k, strides) ** 2), (0, 1))(x, kernel)

    fast = programs.flops(function, x, kernel)
    monkeypatch.setenv("JAXGEN_PLAIN_OPS", "1")

    def plain(x, kernel):
        return function(x, kernel)

    assert fast == pytest.approx(programs.flops(plain, x, kernel), rel=0.02)
    assert fast == pytest.approx(jax.jit(plain).lower(x, kernel).cost_analysis()["flops"], rel=0.03)


def test_flops_of_a_guided_sampler_are_twice_the_unguided_ones():
    def flops(family):
        return programs.flops(jax.jit(family.sample), {}, keys(8), None)

    assert flops(products(50, guided=True)) == pytest.approx(2 * flops(products(50)), rel=0.03)
    assert flops(products(50)) == pytest.approx(5 * flops(products(10)), rel=0.05)


def test_flops_of_what_is_divided_are_one_devices():
    x = jnp.ones((2, 3, 4))
    assert programs.flops(jax.pmap(lambda x: x @ MATRIX), x) == 2 * 3 * 4 * 4


def test_flops_of_a_step_do_not_depend_on_how_its_batch_is_divided():
    def flops(accumulate):
        config = tiny("vae")
        config.train.accumulate = accumulate
        family = families.build(config)
        table = players.build(config, family)
        like = jax.eval_shape(lambda: state.init(config, family, table))
        batch = {"image": jax.ShapeDtypeStruct((16, 8, 8, 1), "uint8")}
        return programs.flops(step.build(config, family, table), like, batch)

    # beside it stand the sums of the gradients
    assert flops(1) <= flops(4) == pytest.approx(flops(1), rel=0.1)
