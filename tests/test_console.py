"""The terminal's side: readers that leave, and interrupts at any time."""

import io
import os
import signal
import subprocess
import sys
import time

import pytest

from jaxgen import console

VAE = "--config=configs/digits/vae.py:smoke"


def test_a_patient_stream_remembers_what_it_lost():
    with open("/dev/full", "w") as full:
        stream = console.Patient(full)
        print("a" * 100_000, file=stream, flush=True)
        print("b", file=stream)
        assert stream.lost.strerror == "No space left on device"
        full = stream.stream
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    kept = console.Patient(io.StringIO())
    print("a", file=kept)
    assert kept.getvalue() == "a\n" and kept.lost is None


@pytest.mark.slow
@pytest.mark.parametrize("where", ["/dev/full", "a reader that left"])
def test_training_outlives_its_reader(where, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-m", "jaxgen", "train", VAE, f"--workdir={tmp_path}", "--noprogress"],
        stdout=subprocess.PIPE if where != "/dev/full" else open(where, "w"),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        if process.stdout:
            process.stdout.close()
        error = process.stderr.read()
    assert process.returncode == 0
    assert ("standard output could not be written" in error) == (where == "/dev/full")
    assert (tmp_path / "checkpoints" / "4").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_early_interrupt_is_never_lost(number, tmp_path):
    """At ever later moments of the imports, which take seconds."""
    for i in range(24):
        process = subprocess.Popen(
            [sys.executable, "-m", "jaxgen", "sample", f"--workdir={tmp_path}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(0.8 + 0.05 * i)
        alive = process.poll() is None
        process.send_signal(number)
        _, error = process.communicate()
        if alive and process.returncode != 2:  # there is no run, which it may have said by then
            # on a busy machine Python itself may still be starting, which is not ours to mend
            assert process.returncode in (128 + number, -number) and "Traceback" not in error
