"""Faults that need a process of its own, or a command line: kill -9, two commands in one folder,
NaN, exit codes.
"""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import cli, data
from jaxgen import config as config_lib
from jaxgen.data import order
from jaxgen.errors import InputError
from jaxgen.losses import objective
from jaxgen.training import checkpoint, lock, logging, loop

TRAIN = """
import sys
from jaxgen import config, training
training.train(config.read(sys.argv[1]), sys.argv[2], progress=False, parameters=False)
"""


@contextlib.contextmanager
def another_process(config, folder, workdir):
    """A process that trains in `workdir`; it is killed at the end."""
    config_lib.write(config, str(folder))
    process = subprocess.Popen([sys.executable, "-c", TRAIN, str(folder), str(workdir)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_until(process, condition):
    """Wait for the condition as long as the process lives."""
    while not condition():
        assert process.poll() is None
        time.sleep(0.001)


def train(config, workdir):
    return loop.train(
        config, str(workdir), progress=False, report=lambda text: None, parameters=False
    )


@pytest.mark.slow
def test_killed_while_saving_and_guarded_until_then(tiny, tmp_path):
    config, workdir = tiny("gan"), tmp_path / "parts"
    config.train.steps = 100
    config.checkpoint.every = 1
    with another_process(config, tmp_path / "config", workdir) as process:
        checkpoints = workdir / "checkpoints"
        wait_until(process, lambda: len(checkpoint.steps_in(checkpoints)) >= 2)
        message = (
            f"^another process trains in .*parts \\(process {process.pid} on .*\\): wait "
            f"for "
            f"its end, or give another"
        )
        with pytest.raises(InputError, match=message):
            train(config, workdir)
        wait_until(process, lambda: any("tmp" in name for name in os.listdir(checkpoints)))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert 2 <= max(checkpoint.steps_in(checkpoints)) < 100
    config.checkpoint.every = 100
    whole, rest = train(config, tmp_path / "whole"), train(config, workdir)
    for a, b in zip(*(jax.tree.leaves(run.state) for run in (whole, rest)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [row["step"] for row in logging.read_metrics(str(workdir))] == list(range(1, 101))


def test_a_lock_is_let_go(tmp_path):
    with lock.hold(str(tmp_path)):
        with pytest.raises(InputError, match=f"process {os.getpid()} on"), lock.hold(str(tmp_path)):
            pass
        # the one that was refused has changed nothing
        with pytest.raises(InputError), lock.hold(str(tmp_path)):
            pass
    with lock.hold(str(tmp_path)):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EIO])
def test_file_systems_without_locks(tmp_path, monkeypatch, number):
    def flock(file, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    if number == errno.EIO:
        with pytest.raises(OSError, match="Input/output"), lock.hold(str(tmp_path)):
            pass
    else:
        with lock.hold(str(tmp_path)), lock.hold(str(tmp_path)):
            pass


@pytest.mark.slow
def test_nan_in_one_example_of_one_batch(tiny, tmp_path, monkeypatch):
    """It leaves all parameters finite and falls into the middle of a call of several steps."""
    config, at = tiny("vae"), 5
    source = data.from_config(config, "train").everything()
    chosen, _ = order.indices(np.zeros(2, np.int32), (at + 1) * 16, len(source.images), config.seed)
    image = source.images[np.asarray(chosen)[-3]] / np.float32(127.5) - 1

    def poisoned():
        return lambda outputs: jnp.where(
            jnp.all(jnp.abs(outputs["real"] - image) < 1e-3, axis=(1, 2, 3)), jnp.nan, 0.0
        )

    monkeypatch.setitem(objective.TERMS, "poisoned", poisoned)
    config.players.model.terms = {**config.players.model.terms.to_dict(), "poisoned": {}}
    config.train.update(log_every=100, steps=20)
    config.checkpoint.every = 4
    for _ in range(2):  # the same command says it again
        with pytest.raises(
            InputError,
            match=f"the loss became NaN or infinite at step {at}; .* checkpoint is step 4",
        ):
            train(config, tmp_path)
    assert checkpoint.steps_in(tmp_path / "checkpoints") == [4]


CONFIG = """
from jaxgen import config

def get_config():
    return config.read({folder!r})
"""


@pytest.fixture
def command(tiny, tmp_path):
    """The arguments of a command that trains a tiny system in tmp_path/run."""
    config_lib.write(tiny("vae"), str(tmp_path / "saved"))
    (tmp_path / "config.py").write_text(CONFIG.format(folder=str(tmp_path / "saved")))
    return ["train", f"--config={tmp_path}/config.py", f"--workdir={tmp_path}/run", "--noprogress"]


@pytest.mark.slow
def test_a_full_disk_asks_for_another_try(command, tmp_path, monkeypatch, capsys):
    def full(path, mode="r", *rest, **keywords):
        return open("/dev/full" if mode == "a" else path, mode, *rest, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(logging, "open", full, raising=False)
        assert cli.main(command) == os.EX_TEMPFAIL == 75
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in line
    assert cli.main(command) == 0


def test_a_folder_in_use_does_not(command, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    with lock.hold(str(tmp_path / "run")):
        assert cli.main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"jaxgen: error: another process trains in {tmp_path}/run (process ")
