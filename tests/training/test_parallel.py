"""How state and batch lie on eight devices, and what crosses between them; that the numbers are
those of one is in test_step.
"""

import collections
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxgen import families
from jaxgen.config import load
from jaxgen.errors import InputError
from jaxgen.training import logging, loop, parallel, players, state, step
from jaxgen.training.parallel import rules
from tests.support import close, normal

DEVICES = 8
STEPS = 4
MODES = pytest.mark.parametrize("mode", ["jit", "pmap"])


@MODES
def test_the_batch_is_really_split(mode):
    batch = {"image": np.arange(16 * 4).reshape(16, 2, 2, 1), "label": np.arange(16)}
    stacked = {k: np.stack([v, v + 1]) for k, v in batch.items()}
    devices = parallel.build(mode)
    for given, axes in ((batch, 0), (stacked, 1)):
        label = devices.split(given, axes)["label"]
        if mode == "pmap":
            parts = list(label)
        else:
            shards = sorted(label.addressable_shards, key=lambda s: s.index[-1].start)
            parts = [shard.data for shard in shards]
        assert len(parts) == DEVICES
        np.testing.assert_array_equal(np.concatenate(parts, axis=-1), given["label"])


@MODES
def test_a_state_survives_entering(mode):
    devices = parallel.build(mode)
    before = {"a": np.arange(3, dtype=np.float32), "b": np.int32(4), "c": ()}
    entered = devices.enter(before)
    assert all(len(leaf.sharding.device_set) == DEVICES for leaf in jax.tree.leaves(entered))
    after = devices.leave(entered)
    assert jax.tree.structure(after) == jax.tree.structure(before)
    jax.tree.map(np.testing.assert_array_equal, after, before)


@MODES
def test_the_step_takes_over_its_state(mode):
    """No second copy of parameters and optimiser state in memory."""
    devices = parallel.build(mode)
    compiled = devices.compile(lambda state, batch: (state + 1.0, {"loss": state.sum()}))
    before = devices.enter(np.zeros(5, np.float32))
    after, _ = compiled(before, devices.split({"label": np.arange(8)}))
    assert before.is_deleted()
    np.testing.assert_array_equal(devices.leave(after), np.ones(5))


RULES = (("embedding", ("fsdp", None)), ("head", (None,)))


@pytest.mark.parametrize(
    "path, shape, divided",
    [
        ("params/a/kernel", (16, 32), (None, "fsdp")),  # the largest side
        ("params/tall", (64, 6), ("fsdp", None)),
        ("params/a/bias", (32,), ()),  # too small
        ("params/odd", (9, 33), ()),  # no side that 4 divides
        ("params/embedding", (4, 2), ("fsdp", None)),  # a rule, however small
        ("params/head/kernel", (64, 64), (None,)),  # a rule that leaves it whole
        ("opt_state/player/0/mu/embedding", (3,), ()),  # not of the parameter's shape
        ("ema/0.9/a/kernel", (16, 32), (None, "fsdp")),
    ],
)
def test_what_is_divided(path, shape, divided):
    assert rules.spec(path, shape, RULES, 4, 64) == PartitionSpec(*divided)
    assert rules.spec(path, shape, RULES, 1, 64) == PartitionSpec()


def test_frozen_parameters_are_divided_like_trained_ones():
    shapes = {"teacher": jax.ShapeDtypeStruct((8, 8), "float32")}
    rule = (("^params/teacher", ("fsdp",)),)
    frozen, trained = (rules.specs(shapes, p, rule, 4, 999) for p in ("frozen/", "params/"))
    assert frozen == trained == {"teacher": PartitionSpec("fsdp")}


@pytest.mark.parametrize("name", ["gan"])
def test_averages_and_optimiser_are_divided_like_their_parameters(compiled, name):
    now = compiled(name, "fsdp").create()
    specs = {leaf.shape: leaf.sharding.spec for leaf in jax.tree.leaves(now.params)}
    assert any(any(spec) for spec in specs.values())
    for part in (now.params, now.ema, now.opt_state):
        for leaf in jax.tree.leaves(part):
            assert leaf.sharding.spec == specs.get(leaf.shape, PartitionSpec())
            if any(leaf.sharding.spec):
                assert leaf.addressable_shards[0].data.size == leaf.size // DEVICES


KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|collective-broadcast"
COLLECTIVES = re.compile(rf" ({KINDS})(?:-start)?\(")


def traffic(text):
    """How often each kind of collective stands in a compiled program."""
    return collections.Counter(COLLECTIVES.findall(text))


def updates(system):
    return sum(player.updates for player in system.players.values())


def slow_but(*usual):
    names = [(name, kind) for name in ("vae", "gan", "diffusion") for kind in ("jit", "pmap")]
    marks = lambda pair: [] if pair in usual else [pytest.mark.slow]  # noqa: E731
    return [pytest.param(*pair, marks=marks(pair)) for pair in names]


@pytest.mark.parametrize("name, kind", slow_but(("gan", "jit"), ("vae", "pmap")))
def test_one_all_reduce_per_update_and_nothing_else(compiled, name, kind):
    """Also where the steps gather their batches from data on the devices, K steps in a loop."""
    system = compiled(name, kind)
    assert traffic(system.text()) == {"all-reduce": updates(system)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["gan", *(pytest.param(name, marks=pytest.mark.slow) for name in ("vae", "diffusion"))]
)
def test_divided_parameters_are_gathered_and_gradients_scattered(compiled, name):
    """Whole parameters and whole gradients cross once each; the rest (small leaves, means) goes in
    one all-reduce.
    """
    system = compiled(name, "fsdp")
    found = traffic(system.text())
    assert set(found) == {"all-gather", "reduce-scatter", "all-reduce"}
    assert found["all-reduce"] == updates(system)


def on_devices(mode, params, of_rows, rows):
    """(what `Parallel.gradients` finds on eight devices, the compiled program)."""
    devices = parallel.build(mode)
    run = devices.gradients(lambda *arguments: of_rows(devices, *arguments), tuple(params))
    compiled = devices.compile(lambda params, batch: (params, run(params, (), batch)))
    arguments = devices.enter(params), devices.split({"x": rows})
    text = compiled.lower(*arguments).compile().as_text()
    return compiled(*arguments)[1], text


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["jit", pytest.param("pmap", marks=pytest.mark.slow)])
def test_one_all_reduce_also_of_more_arrays_than_xla_takes_into_one(mode):
    shapes = [(3,), (), (2, 5), (1,)] * 75  # 300 arrays; XLA's limit is 256
    params = {"net": [normal(i, *shape) for i, shape in enumerate(shapes)]}
    x = normal(0, 2 * DEVICES)

    def of_rows(devices, params, shared, batch, whole):
        scale = batch["x"].mean()
        return jax.tree.map(lambda p: p * scale, params), {"loss": scale}, {}

    (grads, means, _), text = on_devices(mode, params, of_rows, x)
    assert traffic(text) == {"all-reduce": 1}
    if mode == "pmap":
        grads, means = jax.tree.map(lambda x: x[0], (grads, means))
    expected = jax.tree.map(lambda p: np.float32(p * x.astype(np.float64).mean()), params)
    close(grads, expected, *params["net"], terms=2 * DEVICES)
    close(means["loss"], np.float32(x.astype(np.float64).mean()), 1.0, terms=2 * DEVICES)


@MODES
def test_a_mean_over_the_global_batch_is_the_same_on_every_device(mode):
    """What state that depends on the batch is made of (`Call.mean`)."""
    x = normal(1, 2 * DEVICES, 3)

    def of_rows(devices, params, shared, batch, whole):
        return params, {}, {"mean": devices.mean(batch["x"])}

    (_, _, new), _ = on_devices(mode, {"net": jnp.zeros(1)}, of_rows, x)
    held = [np.asarray(s.data).reshape(3) for s in new["mean"].addressable_shards]
    assert len(held) == DEVICES and all(np.array_equal(held[0], each) for each in held)
    close(held[0], np.float32(x.astype(np.float64).mean(0)), x, terms=2 * DEVICES)


def gathered_and_scattered(config):
    """(times that the step as written gathers, and scatters, a parameter; number of divided
    parameters by network, players).
    """
    config.parallel.update(fsdp=-1, fsdp_min_size=64)
    family = families.build(config)
    table, devices = players.build(config, family), parallel.from_config(config)
    shapes = devices.with_shardings(jax.eval_shape(state.initial(config, family, table)))
    rows = (players.batches_per_step(table), 16) if players.batches_per_step(table) > 1 else (16,)
    batch = {
        "image": jax.ShapeDtypeStruct((*rows, 8, 8, 1), "uint8"),
        "label": jax.ShapeDtypeStruct(rows, "int32"),
    }
    trained = step.build(config, family, table, devices)
    text = devices.compile(trained).lower(shapes, batch).as_text()
    divided = jax.tree.map(lambda leaf: int(any(leaf.sharding.spec)), shapes.params)
    return (
        text.count("stablehlo.all_gather"),
        text.count("stablehlo.reduce_scatter"),
        divided,
        table,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "remat, times", [("none", 1), ("full", 2), pytest.param("dots", 2, marks=pytest.mark.slow)]
)
def test_rematerialised_blocks_gather_their_parameters_again(tiny, remat, times):
    config = tiny("diffusion")
    config.model.denoiser = dict(name="dit", patch=4, width=16, depth=2, heads=2, remat=remat)
    gathered, scattered, divided, _ = gathered_and_scattered(config)
    counts = {name: sum(jax.tree.leaves(tree)) for name, tree in divided["denoiser"].items()}
    blocks = sum(count for name, count in counts.items() if name.startswith("block"))
    assert blocks and gathered == sum(counts.values()) + (times - 1) * blocks
    assert scattered == sum(counts.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param("vae", marks=pytest.mark.slow), "gan", "vae_gan"])
def test_a_network_used_several_times_in_a_step_is_gathered_once(tiny, name):
    settings = load("configs/digits/vae_gan.py") if name == "vae_gan" else tiny(name)
    gathered, scattered, divided, table = gathered_and_scattered(settings)
    counts = {network: sum(jax.tree.leaves(tree)) for network, tree in divided.items()}
    updates = {player: table[player].updates for player in table}
    # fewer gathers where a player needs no whole network, as an encoder not the critic's last layer
    own = {player: sum(counts[network] for network in table[player].networks) for player in table}
    assert all(own.values()) and scattered == sum(own[player] * updates[player] for player in table)
    assert scattered <= gathered <= sum(counts.values()) * sum(updates.values())


@pytest.mark.slow
def test_a_run_changes_its_devices_between_stops(tiny, tmp_path, monkeypatch):
    """Checkpoints of one mode go on under another, and on other devices, with the same curve."""
    devices, curves = jax.devices(), []
    modes = [
        [("jit", 8, 1), ("jit", 1, 1)],
        [("jit", 4, 4), ("pmap", 8, 1)],
        [("pmap", 8, 1), ("jit", 8, 2)],
    ]
    for i, parts in enumerate(modes):
        for (mode, count, fsdp), steps in zip(parts, (2, STEPS), strict=True):
            monkeypatch.setattr(jax, "devices", lambda count=count: devices[:count])
            config = tiny("vae")
            config.parallel.update(mode=mode, fsdp=fsdp, fsdp_min_size=64)
            config.train.update(steps=steps, eval_every=STEPS, sample_every=STEPS)
            result = loop.train(
                config, str(tmp_path / str(i)), progress=False, report=lambda text: None
            )
        rows = logging.read_metrics(str(tmp_path / str(i)))
        curves.append([[v for k, v in row.items() if k.endswith("loss")] for row in rows])
        assert int(result.state.step) == STEPS
    for curve in curves[1:]:
        close(*(jax.tree.map(np.float32, each) for each in (curve, curves[0])), terms=64)


def test_bad_input(tiny):
    with pytest.raises(InputError, match="unknown config.parallel.mode 'pmpa': did you mean pmap"):
        parallel.build("pmpa")
    with pytest.raises(InputError, match="fsdp = 3 does not divide 8 devices"):
        parallel.build(fsdp=3)
    with pytest.raises(InputError, match="fsdp needs .*mode = 'jit'"):
        parallel.build("pmap", fsdp=2)
    with pytest.raises(InputError, match="names the axis 'data'"):
        parallel.build(fsdp=2, rules=(("kernel", ("data",)),))
    for rule in ("a", ("a",), ("a", "fsdp"), ("a", 1, 2), (1, ("fsdp",))):
        with pytest.raises(InputError, match="is not a pair of a regular expression"):
            parallel.build(fsdp=2, rules=(rule,))
    with pytest.raises(InputError, match="divides two dimensions"):
        parallel.build(fsdp=2, rules=(("kernel", ("fsdp", "fsdp")),))
    with pytest.raises(InputError, match=r"'embedding' divides params/embedding of shape \(3, 2\)"):
        rules.spec("params/embedding", (3, 2), RULES, 4, 64)
    with pytest.raises(InputError, match=r"'\(' is no regular expression"):
        parallel.build(fsdp=2, rules=(("(", (None,)),))
    config = tiny("vae")
    config.train.batch_size = 12
    with pytest.raises(InputError, match="batch_size 12 .* 8 devices: use a multiple of 8"):
        parallel.from_config(config)
    config.train.update(batch_size=24, accumulate=2)
    with pytest.raises(InputError, match="2 micro-batch.* use a multiple of 16"):
        parallel.from_config(config)
