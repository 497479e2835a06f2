"""How state and batch lie on eight devices, and what crosses between them; that the numbers are
those of one is in test_step.
"""

import collections
import re

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxgen import families
from jaxgen.config import load
from jaxgen.errors import InputError
from jaxgen.training import dispatch, loop, parallel, players, state, step

DEVICES = 8
STEPS = 4


def test_the_batch_is_really_split():
    batch = {"image": np.arange(16 * 4).reshape(16, 2, 2, 1), "label": np.arange(16)}
    stacked = {k: np.stack([v, v + 1]) for k, v in batch.items()}
    for mode in ("jit", "pmap"):
        way = parallel.build(mode)
        for given, axes in ((batch, 0), (stacked, 1)):
            label = way.split(given, axes)["label"]
            if mode == "pmap":
                parts = list(label)
            else:
                parts = [
                    shard.data
                    for shard in sorted(label.addressable_shards, key=lambda s: s.index[-1].start)
                ]
            assert len(parts) == DEVICES
            np.testing.assert_array_equal(np.concatenate(parts, axis=-1), given["label"])


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_a_state_survives_entering(mode):
    way = parallel.build(mode)
    before = {"a": np.arange(3, dtype=np.float32), "b": np.int32(4), "c": ()}
    entered = way.enter(before)
    assert all(len(leaf.sharding.device_set) == DEVICES for leaf in jax.tree.leaves(entered))
    after = way.leave(entered)
    assert jax.tree.structure(after) == jax.tree.structure(before)
    jax.tree.map(np.testing.assert_array_equal, after, before)


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_the_step_takes_over_its_state(mode):
    """No second copy of parameters and optimiser state in memory."""
    way = parallel.build(mode)
    compiled = way.compile(lambda state, batch: (state + 1.0, {"loss": state.sum()}))
    before = way.enter(np.zeros(5, np.float32))
    after, _ = compiled(before, way.split({"label": np.arange(8)}))
    assert before.is_deleted()
    np.testing.assert_array_equal(way.leave(after), np.ones(5))


def test_what_is_divided():
    way = parallel.build(
        fsdp=4, min_size=64, rules=(("embedding", ("fsdp", None)), ("head", (None,)))
    )
    shapes = {
        "a/kernel": (16, 32),
        "a/bias": (32,),
        "odd": (9, 33),
        "embedding": (4, 2),
        "head/kernel": (64, 64),
        "tall": (64, 6),
    }
    found = {name: way.spec(f"params/{name}", shape) for name, shape in shapes.items()}
    none = PartitionSpec()
    assert found == {
        "a/kernel": PartitionSpec(None, "fsdp"), "a/bias": none, "odd": none, "embedding": PartitionSpec("fsdp", None),
        "head/kernel": PartitionSpec(None), "tall": PartitionSpec("fsdp", None),
    }  # fmt: skip
    assert way.spec("opt_state/player/0/mu/embedding", (3,)) == none
    with pytest.raises(InputError, match=r"'embedding' divides params/embedding of shape \(3, 2\)"):
        way.spec("params/embedding", (3, 2))


def of_system(tiny, name, way):
    config = tiny(name)
    family = families.build(config)
    table = players.build(config, family)
    return config, family, table, way.create(state.initial(config, family, table))


@pytest.mark.parametrize("name", ["vae", "gan", "diffusion"])
def test_averages_and_optimiser_are_divided_like_their_parameters(tiny, name):
    way = parallel.build(fsdp=-1, min_size=64)
    now = of_system(tiny, name, way)[-1]
    specs = {leaf.shape: leaf.sharding.spec for leaf in jax.tree.leaves(now.params)}
    assert any(any(spec) for spec in specs.values())
    for part in (now.params, now.ema, now.opt_state):
        for leaf in jax.tree.leaves(part):
            assert leaf.sharding.spec == specs.get(leaf.shape, PartitionSpec())
            if any(leaf.sharding.spec):
                assert leaf.addressable_shards[0].data.size == leaf.size // DEVICES


COLLECTIVES = re.compile(
    r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|collective-broadcast)(?:-start)?\("
)


def traffic(tiny, name, way, longest=1):
    """Collectives in the compiled program that trains on a data set kept on the devices."""
    config, family, table, now = of_system(tiny, name, way)
    per_step = players.batches_per_step(table)
    source = loop.load_source(config, "train")
    feed = dispatch.resident(source, config, per_step, way)
    trained = step.build(config, family, table, way)
    run = way.compile(dispatch.several_steps(trained, feed, per_step * 16, longest))
    text = (
        run.lower(way.enter(now), feed.load(longest), way.replicate(np.int32(longest)))
        .compile()
        .as_text()
    )
    return collections.Counter(COLLECTIVES.findall(text)), sum(
        player.updates for player in table.values()
    )


@pytest.mark.parametrize("mode", ["jit", "pmap"])
@pytest.mark.parametrize("name", ["vae", "gan", "diffusion"])
def test_one_all_reduce_per_update_and_nothing_else(tiny, name, mode):
    """Also where the steps gather their batches from data on the devices, K steps in a loop."""
    found, updates = traffic(tiny, name, parallel.build(mode), longest=4)
    assert found == {"all-reduce": updates}


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_one_all_reduce_also_of_more_arrays_than_xla_takes_into_one(mode):
    way, draw = parallel.build(mode), np.random.default_rng(0)
    shapes = [(3,), (), (2, 5), (1,)] * 75  # 300 arrays; XLA's limit is 256
    grads = [np.float32(draw.normal(size=(DEVICES, *shape))) for shape in shapes]
    specs = [PartitionSpec()] * len(shapes)
    if mode == "jit":
        rows, everywhere = way.batch_spec(), PartitionSpec()
        run = jax.jit(
            way.per_device(
                lambda x: way.mean([g[0] for g in x], specs), in_specs=(rows,), out_specs=everywhere
            )
        )
    else:
        run = jax.pmap(lambda x: way.mean(x, specs), axis_name=parallel.BATCH)
    text = run.lower(grads).compile().as_text()
    assert collections.Counter(COLLECTIVES.findall(text)) == {"all-reduce": 1}
    for given, found in zip(grads, run(grads), strict=True):
        found = found[0] if mode == "pmap" else found
        np.testing.assert_allclose(found, given.mean(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["vae", "gan", "diffusion"])
def test_divided_parameters_are_gathered_and_gradients_scattered(tiny, name):
    """Whole parameters and whole gradients cross once each; the rest (small leaves, means) goes in
    one all-reduce.
    """
    found, updates = traffic(tiny, name, parallel.build(fsdp=-1, min_size=64))
    assert set(found) == {"all-gather", "reduce-scatter", "all-reduce"}
    assert found["all-reduce"] == updates


def gathered_and_scattered(config):
    """(times that the step as written gathers, and scatters, a parameter; number of divided
    parameters by network, players).
    """
    config.parallel.update(fsdp=-1, fsdp_min_size=64)
    family = families.build(config)
    table, way = players.build(config, family), parallel.from_config(config)
    shapes = way.with_shardings(jax.eval_shape(state.initial(config, family, table)))
    rows = (players.batches_per_step(table), 16) if players.batches_per_step(table) > 1 else (16,)
    batch = {
        "image": jax.ShapeDtypeStruct((*rows, 8, 8, 1), "uint8"),
        "label": jax.ShapeDtypeStruct(rows, "int32"),
    }
    text = way.compile(step.build(config, family, table, way)).lower(shapes, batch).as_text()
    is_spec = lambda x: isinstance(x, PartitionSpec)  # noqa: E731
    divided = jax.tree.map(
        lambda spec: int(any(spec)), way.specs(shapes.params, "params/"), is_leaf=is_spec
    )
    return (
        text.count("stablehlo.all_gather"),
        text.count("stablehlo.reduce_scatter"),
        divided,
        table,
    )


@pytest.mark.parametrize("remat, times", [("none", 1), ("full", 2), ("dots", 2)])
def test_rematerialised_blocks_gather_their_parameters_again(tiny, remat, times):
    config = tiny("diffusion")
    config.model.denoiser = dict(name="dit", patch=4, width=16, depth=2, heads=2, remat=remat)
    gathered, scattered, divided, _ = gathered_and_scattered(config)
    counts = {name: sum(jax.tree.leaves(tree)) for name, tree in divided["denoiser"].items()}
    blocks = sum(count for name, count in counts.items() if name.startswith("block"))
    assert blocks and gathered == sum(counts.values()) + (times - 1) * blocks
    assert scattered == sum(counts.values())


@pytest.mark.parametrize("name", ["vae", "gan", "vae_gan"])
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
def test_a_run_changes_its_way_between_stops(tiny, tmp_path, monkeypatch):
    """Checkpoints of one way go on under another, and on other devices, with the same curve."""
    devices, curves = jax.devices(), []
    ways = [
        [("jit", 8, 1), ("jit", 1, 1)],
        [("jit", 4, 4), ("pmap", 8, 1)],
        [("pmap", 8, 1), ("jit", 8, 2)],
    ]
    for i, parts in enumerate(ways):
        for (mode, count, fsdp), steps in zip(parts, (2, STEPS), strict=True):
            monkeypatch.setattr(jax, "devices", lambda count=count: devices[:count])
            config = tiny("vae")
            config.parallel.update(mode=mode, fsdp=fsdp, fsdp_min_size=64)
            config.train.update(steps=steps, eval_every=STEPS, sample_every=STEPS)
            result = loop.train(
                config, str(tmp_path / str(i)), progress=False, report=lambda text: None
            )
        rows = loop.logging.read_metrics(str(tmp_path / str(i)))
        curves.append([[v for k, v in row.items() if k.endswith("loss")] for row in rows])
        assert int(result.state.step) == STEPS
    for curve in curves[1:]:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), curves[0], curve
        )


def test_bad_input(tiny):
    with pytest.raises(InputError, match="'pmpa' does not exist: did you mean pmap"):
        parallel.build("pmpa")
    with pytest.raises(InputError, match="fsdp = 3 does not divide 8 devices"):
        parallel.build(fsdp=3)
    with pytest.raises(InputError, match="fsdp needs .*mode = 'jit'"):
        parallel.build("pmap", fsdp=2)
    with pytest.raises(InputError, match="names the axis 'data'"):
        parallel.build(fsdp=2, rules=(("kernel", ("data",)),))
    with pytest.raises(InputError, match=r"'\(' is no regular expression"):
        parallel.build(fsdp=2, rules=(("(", (None,)),))
    config = tiny("vae")
    config.train.batch_size = 12
    with pytest.raises(InputError, match="batch_size 12 .* 8 devices: use a multiple of 8"):
        parallel.from_config(config)
    config.train.update(batch_size=24, accumulate=2)
    with pytest.raises(InputError, match="2 micro-batch.* use a multiple of 16"):
        parallel.from_config(config)
