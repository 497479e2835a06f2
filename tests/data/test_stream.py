import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from jaxgen.data import Position, batches, load, open_records
from jaxgen.data.stream import stream
from jaxgen.errors import InputError, RetryError

ROOT = Path(__file__).resolve().parents[2]


def same(streamed, expected):
    for (batch, after), (expected_batch, expected_after) in zip(streamed, expected, strict=True):
        assert after == expected_after and batch.keys() == expected_batch.keys()
        for name, array in batch.items():
            assert array.dtype == expected_batch[name].dtype and np.array_equal(
                array, expected_batch[name]
            )


def test_processes_share_the_global_batch_and_a_stream_resumes():
    records, source = open_records("digits", "train"), load("digits", "train")
    for index in range(2):
        expected = batches(source, 100, seed=1, process_index=index, process_count=2)
        with stream(
            records, 100, seed=1, workers=0, process_index=index, process_count=2
        ) as streamed:
            same(islice(streamed, 12), islice(expected, 12))
            after = streamed.position
        with stream(
            records, 100, seed=1, workers=0, process_index=index, process_count=2, position=after
        ) as streamed:
            same(islice(streamed, 5), islice(expected, 5))
    assert list(streamed) == [], "a closed stream is at its end"


def test_without_shuffling():
    records, source = open_records("digits", "test[:20]"), load("digits", "test[:20]")
    with stream(records, 8, seed=0, shuffle=False, workers=0) as streamed:
        same(islice(streamed, 6), islice(batches(source, 8, seed=0, shuffle=False), 6))


def test_bad_streams_are_refused():
    records = open_records("digits", "train")
    for options, message in [
        (dict(workers=-1), "workers must not be negative"),
        (dict(process_count=3), "a batch of 8 cannot be divided among 3 processes"),
        (dict(position=Position(0, 898)), r"position \(epoch 0, offset 898\) is outside"),
        (dict(seed=-1), "seed must not be negative"),
    ]:
        with pytest.raises(InputError, match=message):
            stream(records, 8, **{"seed": 0, "workers": 0, **options})
    with pytest.raises(InputError, match="batch size must be at least 1"):
        stream(records, 0, seed=0)


@pytest.mark.parametrize(
    "error, expected",
    [(OSError(5, "Input/output error"), RetryError), (InputError("bad"), InputError)],
)
def test_what_fails_in_a_thread_is_raised_once(error, expected):
    def read(split, indices, names):
        raise error

    records = open_records("digits", "train")
    records = dataclasses.replace(records, _reader=records._reader._replace(read=read))
    streamed = stream(records, 8, seed=0, workers=0)
    with pytest.raises(expected) as caught:
        next(streamed)
    assert type(caught.value) is expected and "\n" not in str(caught.value)
    assert list(streamed) == []


def script(body, *arguments):
    """Starts a script without `if __name__ == "__main__"`, as a file would be run."""
    file = Path(arguments[0]) / "script.py"
    prelude = """
        import multiprocessing, os, signal, sys, time
        from itertools import islice
        print("script runs")
        from jaxgen.data import batches, load, open_records
        from jaxgen.data.stream import stream
        from jaxgen.errors import InputError, RetryError
    """
    file.write_text(textwrap.dedent(prelude) + textwrap.dedent(body))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, file],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def ended(process):
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    return out


@pytest.mark.slow
def test_workers_give_the_same_batches_and_a_killed_one_is_an_error(tmp_path):
    body = """
        source = load("digits", "train")
        streamed = stream(open_records("digits", "train"), 64, seed=0, workers=2)
        workers = multiprocessing.active_children()
        pairs = islice(zip(streamed, batches(source, 64, seed=0)), 30)
        for (batch, after), (expected, expected_after) in pairs:
            assert all((batch[name] == expected[name]).all() for name in ("image", "label"))
            assert after == expected_after == streamed.position
            assert type(batch["image"]).__name__ == "ndarray"
        # a group of processes may be told to stop as a whole, which its parent decides on
        for worker in workers:
            os.kill(worker.pid, signal.SIGTERM)
            os.kill(worker.pid, signal.SIGINT)
        _, after = next(streamed)
        os.kill(workers[0].pid, signal.SIGKILL)
        start = time.monotonic()
        try:
            for _, after in streamed:
                pass
        except RetryError as error:
            assert time.monotonic() - start < 20 and streamed.position == after
            assert f"epoch {after.epoch}, offset {after.offset}" in str(error), error
            assert "exit code -9" in str(error), error
            assert not multiprocessing.active_children()
            assert not any(worker.is_alive() for worker in workers)
            print("one error")
    """
    assert ended(script(body, tmp_path)).split("\n") == ["script runs", "one error", ""]


@pytest.mark.slow
def test_an_error_in_a_worker_and_what_a_worker_loads(tmp_path):
    body = """
        import dataclasses
        def read(split, indices, names):
            heavy = ("tensorflow", "tensorflow_datasets", "sklearn", "flax")
            loaded = [module for module in heavy if module in sys.modules]
            # grain imports JAX; no device may be started by it
            bridge = sys.modules.get("jax._src.xla_bridge")
            raise InputError(f"{loaded} {bool(bridge and bridge._backends)}")
        records = open_records("digits", "train")
        records = dataclasses.replace(records, _reader=records._reader._replace(read=read))
        streamed = stream(records, 8, seed=0, workers=1)
        try:
            next(streamed)
        except InputError as error:
            print(type(error).__name__, error, multiprocessing.active_children())
    """
    assert ended(script(body, tmp_path)) == "script runs\nInputError [] False []\n"


@pytest.mark.slow
def test_workers_do_not_outlive_their_parent(tmp_path):
    body = """
        records = open_records("synthetic", "train", image_shape=(64, 64, 3))
        streamed = stream(records, 64, seed=0, workers=2)
        [next(streamed) for _ in range(4)]
        print(*[worker.pid for worker in multiprocessing.active_children()], flush=True)
        time.sleep(60)
    """
    process = script(body, tmp_path)
    assert process.stdout.readline() == "script runs\n"
    workers = [int(number) for number in process.stdout.readline().split()]
    assert len(workers) == 2 and all(_alive(worker) for worker in workers)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 20
    while any(_alive(worker) for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_the_package_is_light():
    program = "import sys, jaxgen.data.stream, jaxgen.data.pipeline; print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert not {"jax", "grain", "sklearn", "PIL", "tensorflow_datasets"} & set(done.stdout.split())
