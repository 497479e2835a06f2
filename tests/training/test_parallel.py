"""One device, eight devices under jit and eight under pmap; that they give the same numbers is in test_step."""

import jax
import numpy as np
import pytest

from jaxgen.errors import InputError
from jaxgen.training import loop, parallel

DEVICES = 8
STEPS = 4


def test_the_batch_is_really_split():
    batch = {"image": np.arange(16 * 4).reshape(16, 2, 2, 1), "label": np.arange(16)}
    stacked = {k: np.stack([v, v + 1]) for k, v in batch.items()}
    for mode in ("jit", "pmap"):
        way = parallel.build(mode, 16)
        for given, is_stacked in ((batch, False), (stacked, True)):
            label = way.split(given, is_stacked)["label"]
            if mode == "pmap":
                parts = list(label)
            else:
                parts = [shard.data for shard in sorted(label.addressable_shards, key=lambda s: s.index[-1].start)]
            assert len(parts) == DEVICES
            np.testing.assert_array_equal(np.concatenate(parts, axis=-1), given["label"])


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_a_state_survives_placing(mode):
    way = parallel.build(mode, 8)
    state = {"a": np.arange(3, dtype=np.float32), "b": np.int32(4), "c": ()}
    placed = way.place(state)
    assert all(len(leaf.sharding.device_set) == DEVICES for leaf in jax.tree.leaves(placed))
    single = way.single(placed)
    assert jax.tree.structure(single) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, single, state)


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_the_step_takes_over_its_state(mode):
    """No second copy of parameters and optimiser state in memory."""
    way = parallel.build(mode, 8)
    compiled = way.compile(lambda state, batch: (state + 1.0, {"loss": state.sum()}))
    before = way.place(np.zeros(5, np.float32))
    after, _ = compiled(before, way.split({"label": np.arange(8)}, False))
    assert before.is_deleted()
    np.testing.assert_array_equal(way.single(after), np.ones(5))


def test_a_run_changes_its_way_between_stops(tiny, tmp_path, monkeypatch):
    """Checkpoints of one way go on under another, and on other devices, with the same curve."""
    devices, curves = jax.devices(), []
    for i, ways in enumerate([[("jit", 8), ("jit", 8)], [("pmap", 8), ("jit", 1)], [("jit", 1), ("pmap", 8)]]):
        for (mode, count), steps in zip(ways, (2, STEPS), strict=True):
            monkeypatch.setattr(jax, "devices", lambda count=count: devices[:count])
            config = tiny("vae")
            config.parallel.mode = mode
            config.train.update(steps=steps, eval_every=STEPS, sample_every=STEPS)
            result = loop.train(config, str(tmp_path / str(i)), progress=False, report=lambda text: None)
        rows = loop.logging.read_metrics(str(tmp_path / str(i)))
        curves.append([[v for k, v in row.items() if k.endswith("loss")] for row in rows])
        assert int(result.state.step) == STEPS
    for curve in curves[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), curves[0], curve)


def test_bad_input():
    with pytest.raises(InputError, match="'pmpa' does not exist: did you mean pmap"):
        parallel.build("pmpa", 8)
    with pytest.raises(InputError, match="batch_size 12 .* 8 devices: use a multiple of 8"):
        parallel.build("jit", 12)
    with pytest.raises(InputError, match="2 micro-batch.* use a multiple of 16"):
        parallel.build("pmap", 24, 2)
