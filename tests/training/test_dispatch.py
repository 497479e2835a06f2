"""K steps in one call: the same numbers, bits and memory as one by one, with nothing from the host
in between.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import data, programs
from jaxgen.data import order
from jaxgen.networks.ops import conv as convolve
from jaxgen.training import loop, state, step
from tests.support import close
from tests.training.conftest import DEVICES, Compiled


def assert_same(a, b):
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True
    ):
        np.testing.assert_array_equal(
            np.asarray(x), np.asarray(y), err_msg=jax.tree_util.keystr(path)
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["gan", *(pytest.param(name, marks=pytest.mark.slow) for name in ("vae", "diffusion"))]
)
def test_any_division_into_calls_ends_in_the_same_bits(compiled, name):
    system = compiled(name, "one device")
    whole, history = system.run(3, 3)
    parts, other = system.run(1, 2, 1, 2)
    assert_same(whole, parts)
    assert history == other


# pmap: as jit, but for the compiler's part
@pytest.mark.parametrize(
    "kind", ["one device", "jit", "fsdp", pytest.param("pmap", marks=pytest.mark.slow)]
)
@pytest.mark.slow
def test_calls_of_several_steps_are_single_steps(compiled, kind):
    """Against batches from the host, one step at a time, on one device; of the system with several
    batches a step.
    """
    system = compiled("gan", kind)
    final, history = system.run(3, 1)
    one = step.build(system.config, system.family, system.players)
    run, now = jax.jit(one), state.init(system.config, system.family, system.players)
    batches = data.batches(system.source, system.examples, seed=system.config.seed)
    for row, (batch, _) in zip(history, batches):
        batch = {k: v.reshape(system.per_step, -1, *v.shape[1:]) for k, v in batch.items()}
        now, metrics = run(now, batch)
        assert row.keys() == metrics.keys()
        # each loss is a mean of 16 terms, and four updates of three players carry roundings on
        close({k: np.float32(row[k]) for k in metrics}, metrics, 1.0, terms=16, factor=64)
    assert tuple(final.position) == order.advance(
        (0, 0), 4 * system.examples, len(system.source.images)
    )
    assert final.step == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[pytest.mark.slow] * (k == "pmap")) for k in DEVICES]
)
def test_nothing_comes_from_the_host_between_calls(compiled, kind):
    system = compiled("gan", kind)
    now, _ = system.steps(system.devices.enter(system.create()), 1)
    with jax.transfer_guard("disallow"):
        for count in (2, 1, 2):
            now, _ = system.steps(now, count)
    assert int(system.devices.leave(now).step) == 6


@pytest.mark.slow
def test_several_steps_need_the_memory_of_one(tiny):
    costs = []
    for longest in (1, 10):
        config = tiny("vae")
        config.model.encoder.hidden = config.model.decoder.hidden = (256, 256)
        config.train.steps_per_dispatch = longest
        system = Compiled("vae", "one device", config)
        system.run(1)
        costs += system.costs
    assert costs[1].bytes <= 1.1 * costs[0].bytes
    assert costs[1].flops == pytest.approx(costs[0].flops, rel=0.02)  # of one step
    assert costs[0].bytes > 3 * sum(x.nbytes for x in jax.tree.leaves(system.create().params))


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_streamed_batches_are_the_resident_ones(tiny, tmp_path, monkeypatch, count):
    """A run that streams is, bit by bit, the run that keeps its data on the device; also when it
    stops and goes on.
    """
    finals, devices = [], jax.devices()[:count]
    monkeypatch.setattr(jax, "devices", lambda: devices)
    for pipeline, stops in (("device", (5,)), ("stream", (2, 5))):
        config, workdir = tiny("gan"), str(tmp_path / pipeline)
        config.data.update(pipeline=pipeline, workers=0)
        for steps in stops:
            config.train.steps = steps
            result = loop.train(config, workdir, progress=False, report=lambda text: None)
        finals.append(jax.device_get(result.state))
    assert_same(*finals)


def test_what_does_not_fit_is_streamed(tiny):
    config = tiny("vae")
    for pipeline, limit, streamed in (
        ("auto", 160, False),
        ("auto", 159, True),
        ("device", 1, False),
        ("stream", 999, True),
    ):
        config.data.update(pipeline=pipeline, device_bytes=limit)
        assert data.streams(config, 160) == streamed


def test_peak_flops_are_known_by_the_kind_of_device():
    class Device:
        def __init__(self, kind):
            self.device_kind = kind

    peaks = {
        kind: programs.peak_flops(Device(kind))
        for kind in ("NVIDIA H100 80GB HBM3", "TPU v5 lite", "TPU v4", "cpu")
    }
    assert peaks == {
        "NVIDIA H100 80GB HBM3": 989e12,
        "TPU v5 lite": 197e12,
        "TPU v4": 275e12,
        "cpu": None,
    }


def test_convolutions_use_all_cores_and_compiled_functions_nest():
    x, kernel = jnp.ones((16, 28, 28, 32)), jnp.ones((3, 3, 32, 32))
    function = programs.jit(convolve)
    text = function.lower(x, kernel).compile().as_text()
    assert text.count(" convolution(") == 1 and "__ynn_fusion" not in text
    nested = jax.jit(lambda x: 2 * function(x, kernel))(x)
    close(nested, 2 * function(x, kernel), terms=9 * 32)
    constant = jax.jit(lambda y: y + function(np.asarray(x), np.asarray(kernel)))(0.0)
    close(constant, function(x, kernel), terms=9 * 32)
    assert jax.eval_shape(function, x, kernel).shape == x.shape


def test_a_matrix_product_takes_no_convolution_along():
    def block(x, kernel, matrix):
        return convolve(x, kernel) + x @ matrix

    arguments = jnp.ones((16, 28, 28, 32)), jnp.ones((3, 3, 32, 32)), jnp.ones((32, 32))
    text = programs.jit(block).lower(*arguments).compile().as_text()
    assert " convolution(" in text[text.index("\nENTRY") :], "by itself, not within a fusion"


def test_compiler_options_that_are_unknown_are_not_used(monkeypatch):
    monkeypatch.setattr(programs, "CPU_OPTIONS", {"xla_no_such_option": "1"})
    monkeypatch.setattr(programs, "_compiler_options", programs._compiler_options.__wrapped__)
    assert programs._compiler_options() == {}
    assert programs.jit(lambda x: x + 1)(1) == 2
