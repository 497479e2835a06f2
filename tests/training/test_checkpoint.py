"""Checkpoints: what is kept, and what damage, a full disk and a broken state do to them."""

import gc
import json
import os
import random
import resource
import shutil
import sys
import threading

import jax
import ml_dtypes
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgen.errors import InputError, RetryError
from jaxgen.training import checkpoint, strays
from jaxgen.training import restore as restore_lib
from jaxgen.training.checksum import inspect
from jaxgen.training.state import TrainState


def a_state(step: int) -> TrainState:
    """Every kind of leaf: an optimiser's named tuples, empty parts, scalars, bfloat16, integers."""
    noise = np.random.default_rng(0).normal(size=(100, 100)).astype(np.float32)
    params = {
        "net": {
            "kernel": noise + step,
            "scale": np.float32(step),
            "half": noise[:5].astype(ml_dtypes.bfloat16),
        }
    }
    return TrainState(
        step=np.int32(step),
        key=np.array([7, 2**32 - 1], np.uint32),
        params=params,
        state={"net": {}},
        opt_state={"player": jax.tree.map(np.asarray, optax.adam(1e-3).init(params))},
        ema={},
        position=np.array([step, 3], np.int32),
        bad_step=np.int32(-1),
        frozen={},
    )


def save(workdir, steps, **options):
    checkpoints = checkpoint.open_folder(str(workdir), **options)
    for step in steps:
        checkpoints.save(jax.device_put(a_state(step)))
    checkpoints.close()


def restore(workdir, step=None, **options):
    """(state, notices), from the shapes alone, as the loop does it."""
    notices = []
    checkpoints = checkpoint.open_folder(str(workdir), report=notices.append, **options)
    try:
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), a_state(0))
        return checkpoints.restore(shapes, step), notices
    finally:
        checkpoints.close()


def assert_is(state, step):
    want = a_state(step)
    assert jax.tree.structure(state) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(want), jax.tree.leaves(state), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A run with the checkpoints 1, 2 and 3, to be copied."""
    workdir = tmp_path_factory.mktemp("three")
    save(workdir, (1, 2, 3))
    return workdir


@pytest.fixture
def damaged(three, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(three, workdir)
    return workdir


def data_file(workdir, step):
    files = (workdir / "checkpoints" / str(step)).rglob("d/*")
    return max(files, key=lambda path: path.stat().st_size)


@pytest.mark.slow
def test_what_is_kept(three, tmp_path):
    assert_is(restore(three, read_only=True)[0], 3)
    assert_is(restore(three, step=1, read_only=True)[0], 1)
    with pytest.raises(InputError, match="no checkpoint of step 4 .* there are 1, 2, 3"):
        restore(three, step=4, read_only=True)
    save(tmp_path, range(1, 7), keep=2, best_step=lambda: 3)
    assert checkpoint.steps_in(tmp_path / "checkpoints") == [3, 5, 6]


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match="train first"):
        restore(tmp_path, read_only=True)
    assert restore(tmp_path) == (None, [])


def divided(count, axis):
    """{leaf: sharding} that divides the large matrix along `axis` among `count` devices and copies
    the rest.
    """
    mesh = Mesh(np.asarray(jax.devices()[:count]), ("fsdp",))
    spec = {0: PartitionSpec("fsdp"), 1: PartitionSpec(None, "fsdp")}[axis]
    return jax.tree.map(
        lambda x: NamedSharding(mesh, spec if x.shape == (100, 100) else PartitionSpec()),
        a_state(0),
    )


def test_any_devices_may_restore(tmp_path):
    """A state divided among four devices comes back whole on one, and divided otherwise on two."""
    checkpoints = checkpoint.open_folder(str(tmp_path))
    checkpoints.save(jax.device_put(a_state(1), divided(4, 1)))
    checkpoints.close()
    state, _ = restore(tmp_path)
    assert_is(state, 1)
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(state)} == {1}
    target = divided(2, 0)
    checkpoints = checkpoint.open_folder(str(tmp_path), read_only=True)
    like = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), a_state(0), target
    )
    state = checkpoints.restore(like)
    checkpoints.close()
    assert_is(state, 1)
    assert jax.tree.leaves(jax.tree.map(lambda x: x.sharding, state)) == jax.tree.leaves(target)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "uint8", "int32", "bool"])
def test_the_checksum_sees_every_bit_and_no_devices(dtype):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 12, 5)) * 50
    x = x > 0 if dtype == "bool" else x.astype(dtype)
    mesh = Mesh(np.asarray(jax.devices()), ("fsdp",))
    whole = inspect({"x": x})[0]
    parts = inspect({"x": jax.device_put(x, NamedSharding(mesh, PartitionSpec("fsdp")))})[0]
    np.testing.assert_array_equal(whole, parts)
    bits = x.view(np.uint8).reshape(-1)
    for place in rng.integers(0, bits.size, 20):
        changed = bits.copy()
        changed[place] ^= 1 if dtype == "bool" else 1 << int(rng.integers(0, 8))
        assert inspect({"x": changed.view(x.dtype).reshape(x.shape)})[0] != whole
    assert inspect({"x": x[::-1]})[0] != whole


def _cut(path):
    os.truncate(path, path.stat().st_size // 2)


def _flip(path):
    # tensorstore itself does not notice
    data = bytearray(path.read_bytes())
    place = random.Random(0).randrange(len(data))
    path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])


DAMAGE = {
    "a changed bit": lambda step: _flip(data_file(step.parent.parent, 3)),
    "a truncated file": lambda step: _cut(data_file(step.parent.parent, 3)),
    "an empty file": lambda step: (step / "state" / "manifest.ocdbt").write_bytes(b""),
    "garbage": lambda step: (step / "state" / "_METADATA").write_bytes(os.urandom(60)),
    "a missing file": lambda step: data_file(step.parent.parent, 3).unlink(),
    "a missing folder": lambda step: shutil.rmtree(step / "state"),
    "an empty folder": lambda step: (shutil.rmtree(step), step.mkdir()),
    "another step's": lambda step: (shutil.rmtree(step), shutil.copytree(step.parent / "1", step)),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(damaged, what, capfd):
    DAMAGE[what](damaged / "checkpoints" / "3")
    state, notices = restore(damaged, read_only=True)
    assert_is(state, 2)
    assert len(notices) == 1 and notices[0].startswith("checkpoint 3 cannot be read (")
    assert notices[0].endswith("using step 2") and "\n" not in notices[0]
    assert checkpoint.steps_in(damaged / "checkpoints") == [1, 2, 3]

    state, notices = restore(damaged)
    assert_is(state, 2)
    assert len(notices) == 1 and str(damaged / "damaged_checkpoints" / "3") in notices[0]
    assert checkpoint.steps_in(damaged / "checkpoints") == [1, 2]
    save(damaged, (3, 4))  # the run comes to the step again
    assert_is(restore(damaged, step=3)[0], 3)
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_two_are_damaged(damaged):
    _cut(data_file(damaged, 3))
    _flip(data_file(damaged, 2))
    state, notices = restore(damaged)
    assert_is(state, 1)
    assert [n.split()[1] for n in notices] == ["3", "2"]
    assert sorted(os.listdir(damaged / "damaged_checkpoints")) == ["2", "3"]


@pytest.mark.slow
def test_all_are_damaged(damaged, capfd):
    for step in (1, 2, 3):
        _cut(data_file(damaged, step))
    with pytest.raises(
        InputError, match=r"no checkpoint in .* can be read \(3 tried; step 3: "
    ) as error:
        restore(damaged)
    assert "\n" not in str(error.value)
    assert checkpoint.steps_in(damaged / "checkpoints") == [
        1,
        2,
        3,
    ]  # nothing is moved where nothing can be read
    assert capfd.readouterr().err == ""


def test_half_written(damaged):
    """What a kill leaves behind: orbax's folder under its temporary name."""
    folder = damaged / "checkpoints"
    os.rename(folder / "3", folder / "3.orbax-checkpoint-tmp")
    state, notices = restore(damaged)
    assert_is(state, 2)
    assert notices == [] and sorted(os.listdir(folder)) == ["1", "2"]
    save(damaged, (3,))
    assert_is(restore(damaged)[0], 3)


@pytest.mark.slow
def test_another_shape_is_refused(three, capfd):
    checkpoints = checkpoint.open_folder(str(three), read_only=True)
    other = a_state(0)._replace(params={"net": {"kernel": np.zeros((100, 99), np.float32)}})
    with pytest.raises(InputError, match="no checkpoint in .* can be read"):
        checkpoints.restore(other)
    gc.collect()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_checkpoint_holds_nan(tmp_path, value):
    save(tmp_path, (1,))
    checkpoints = checkpoint.open_folder(str(tmp_path))
    state = a_state(2)
    state.params["net"]["half"][3, 3] = value
    with pytest.raises(
        InputError,
        match="params/net/half became NaN or infinite by step 2; .* checkpoint is step 1",
    ):
        checkpoints.save(state)
    checkpoints.close()
    assert checkpoint.steps_in(tmp_path / "checkpoints") == [1]


@pytest.fixture
def full_disk():
    """(start) -> None: from then on larger files cannot be written, and fail in the same places as
    on a full disk.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
@pytest.mark.parametrize("asks", ["check", "save", "close"])
def test_full_disk(tmp_path, full_disk, asks):
    checkpoints = checkpoint.open_folder(str(tmp_path), keep=1)
    checkpoints.save(a_state(1))
    while checkpoints.steps() != [1]:
        pass
    full_disk()
    checkpoints.save(a_state(2))  # in the background: it cannot know yet
    with pytest.raises(
        RetryError, match=r"\(File too large\); the last good checkpoint is step 1"
    ) as error:
        while asks == "check":
            checkpoints.check()
        checkpoints.close() if asks == "close" else checkpoints.save(a_state(3))
    assert "\n" not in str(error.value)
    assert_is(restore(tmp_path, read_only=True)[0], 1)


def test_full_disk_before_the_first(tmp_path, full_disk):
    checkpoints = checkpoint.open_folder(str(tmp_path))
    full_disk()
    checkpoints.save(a_state(1))
    with pytest.raises(RetryError, match="there is no checkpoint yet"):
        checkpoints.close()


def test_another_format_is_said_to_be_one(damaged):
    about = damaged / "checkpoints" / "3" / "_CHECKPOINT_METADATA"
    assert json.loads(about.read_text())["custom_metadata"] == {"format": 2}
    about.write_text(json.dumps({**json.loads(about.read_text()), "custom_metadata": {}}))
    with pytest.raises(InputError, match="checkpoint 3 in .* has format 1, of an earlier version"):
        restore(damaged)
    assert checkpoint.steps_in(damaged / "checkpoints") == [1, 2, 3]


def test_no_memory_is_not_a_damaged_checkpoint(damaged, monkeypatch):
    def full(*rest):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")

    monkeypatch.setattr(restore_lib, "_read", full)
    with pytest.raises(jax.errors.JaxRuntimeError, match="Out of memory"):
        restore(damaged)
    assert checkpoint.steps_in(damaged / "checkpoints") == [1, 2, 3]


def test_only_what_orbax_leaves_behind_is_dropped(monkeypatch):
    """Through all three doors; afterwards they are as before."""
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    monkeypatch.setattr(threading, "excepthook", seen.append)
    theirs = {}
    exec(compile("def fail():\n  raise ValueError('theirs')", "/lib/orbax/io.py", "exec"), theirs)

    class Loud:
        def __init__(self, work):
            self.work = work

        def __del__(self):
            self.work()

    def ours():
        raise ValueError("ours")

    def everywhere(work):
        Loud(work)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    with strays.dropped():
        everywhere(theirs["fail"])
        assert seen == []
        everywhere(ours)
        assert [str(event.exc_value) for event in seen] == ["ours", "ours"]
    everywhere(theirs["fail"])
    assert len(seen) == 4
