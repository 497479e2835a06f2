"""K steps in one call: the same numbers, bits and memory as one by one, with nothing from the host
in between.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import data, families, programs
from jaxgen.data import order
from jaxgen.networks.convolution import convolve
from jaxgen.training import dispatch, loop, parallel, players, state, step

WAYS = {
    "one device": parallel.one_device,
    "jit": parallel.build,
    "fsdp": lambda: parallel.build(fsdp=4, min_size=64),
    "pmap": lambda: parallel.build("pmap"),
}


def assert_same(a, b):
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True
    ):
        np.testing.assert_array_equal(
            np.asarray(x), np.asarray(y), err_msg=jax.tree_util.keystr(path)
        )


class Setup:
    """A tiny system, its data on the devices, and its train step in calls of up to `longest`."""

    def __init__(self, config, way, longest):
        self.family = families.build(config)
        table = players.build(config, self.family)
        per_step = players.batches_per_step(table)
        self.source, self.way, self.examples = (
            loop.load_source(config, "train"),
            way,
            per_step * config.train.batch_size,
        )
        self.feed = dispatch.resident(self.source, config, per_step, way)
        self.state = way.enter(way.create(state.initial(config, self.family, table)))
        self.step, self.per_step = step.build(config, self.family, table, way), per_step
        self.calls = dispatch.build(self.step, self.feed, self.examples, longest, way)

    def run(self, *counts):
        """(state, metrics of each step) after calls of so many steps."""
        history = []
        for count in counts:
            self.state, metrics = self.calls.run(self.state, self.feed.load(count), count)
            history += [{k: float(v[i]) for k, v in metrics.items()} for i in range(count)]
        return jax.device_get(self.way.leave(self.state)), history


@pytest.mark.parametrize("name", ["vae", "gan", pytest.param("diffusion", marks=pytest.mark.slow)])
def test_any_division_into_calls_ends_in_the_same_bits(tiny, name):
    whole, history = Setup(tiny(name), parallel.one_device(), 5).run(5, 5)
    parts, other = Setup(tiny(name), parallel.one_device(), 5).run(1, 3, 2, 4)
    assert_same(whole, parts)
    assert history == other


# "one device": as in the test before; pmap: as jit, but for the compiler's part
@pytest.mark.parametrize(
    "way",
    ["jit", "fsdp", *(pytest.param(way, marks=pytest.mark.slow) for way in ("one device", "pmap"))],
)
def test_calls_of_several_steps_are_single_steps(tiny, way):
    """Against batches from the host, one step at a time, on one device; of the system with several
    batches a step.
    """
    config = tiny("gan")
    setup = Setup(config, WAYS[way](), 3)
    final, history = setup.run(3, 1)
    table = players.build(config, setup.family)
    run, now = (
        jax.jit(step.build(config, setup.family, table)),
        state.init(config, setup.family, table),
    )
    batches = data.batches(setup.source, setup.examples, seed=config.seed)
    for row, (batch, _) in zip(history, batches):
        if setup.per_step > 1:
            batch = {k: v.reshape(setup.per_step, -1, *v.shape[1:]) for k, v in batch.items()}
        now, metrics = run(now, batch)
        assert row == pytest.approx({k: float(v) for k, v in metrics.items()}, rel=1e-5, abs=1e-6)
    assert tuple(final.position) == order.advance(
        (0, 0), 4 * setup.examples, len(setup.source.images)
    )
    assert final.step == 4


@pytest.mark.parametrize("way", WAYS)
def test_nothing_comes_from_the_host_between_calls(tiny, way):
    setup = Setup(tiny("vae"), WAYS[way](), 2)
    setup.calls.compile(setup.state, setup.feed.load(2), 2)
    with jax.transfer_guard("disallow"):
        for count in (2, 1, 2):
            setup.state, _ = setup.calls.run(setup.state, setup.feed.load(count), count)
    assert int(setup.way.leave(setup.state).step) == 5


def test_several_steps_need_the_memory_of_one(tiny):
    config = tiny("vae")
    config.model.encoder.hidden = config.model.decoder.hidden = (512, 512)
    one, ten = (Setup(config, parallel.one_device(), longest) for longest in (1, 10))
    costs = [s.calls.compile(s.state, s.feed.load(1), 1) for s in (one, ten)]
    assert costs[1].bytes <= 1.1 * costs[0].bytes
    assert costs[1].flops == pytest.approx(costs[0].flops, rel=0.02)  # of one step
    assert costs[0].bytes > 3 * sum(x.nbytes for x in jax.tree.leaves(one.state.params))


def test_streamed_batches_are_the_resident_ones(tiny, tmp_path):
    """A run that streams is, bit by bit, the run that keeps its data on the device; also when it
    stops and goes on.
    """
    finals = []
    for pipeline, stops in (("device", (8,)), ("stream", (8,)), ("stream", (3, 8))):
        config, workdir = tiny("gan"), str(tmp_path / f"{pipeline}{len(stops)}")
        config.data.update(pipeline=pipeline, workers=0)
        config.train.steps_per_dispatch = 3
        for steps in stops:
            config.train.steps = steps
            result = loop.train(config, workdir, progress=False, report=lambda text: None)
        finals.append(jax.device_get(result.state))
    assert_same(finals[0], finals[1])
    assert_same(finals[0], finals[2])


def test_what_does_not_fit_is_streamed():
    for pipeline, limit, streamed in (
        ("auto", 160, False),
        ("auto", 159, True),
        ("device", 1, False),
        ("stream", 999, True),
    ):
        assert loop.streams(pipeline, limit, 160) == streamed


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
    np.testing.assert_allclose(nested, 2 * function(x, kernel), rtol=1e-5)
    constant = jax.jit(lambda y: y + function(np.asarray(x), np.asarray(kernel)))(0.0)
    np.testing.assert_allclose(constant, function(x, kernel), rtol=1e-5)
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
