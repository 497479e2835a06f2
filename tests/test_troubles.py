"""What the machine refuses is one true line."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxgen import troubles
from jaxgen.errors import InputError, RetryError

VAE = "--config=configs/digits/vae.py:smoke"


def command(*arguments, stdout=subprocess.PIPE, **environment):
    """A finished process of the command line, with text in stderr."""
    return subprocess.run(
        [sys.executable, "-m", "jaxgen", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, "XLA_FLAGS": "", **environment},
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(
    "error",
    [
        jax.errors.JaxRuntimeError(
            "RESOURCE_EXHAUSTED: Out of memory allocating 151008864440 bytes."
        ),
        MemoryError("std::bad_alloc"),
        np._core._exceptions._ArrayMemoryError((49152, 49152), np.dtype("float64")),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_memory(error):
    found = troubles.explained(error, "the last good checkpoint is step 4")
    assert type(found) is InputError and "batch size" in str(found) and "\n" not in str(found)
    assert str(found).endswith("; the last good checkpoint is step 4")
    assert ("141 GiB" in str(found)) == ("151008864440" in str(error))
    assert ("18.0 GiB" in str(found)) == ("18.0 GiB" in str(error))


def test_real_memory():
    """XLA's own words, from an array that no machine has room for."""
    with pytest.raises(Exception) as error:
        jax.block_until_ready(jax.jit(lambda: jax.numpy.zeros(2**50, "uint8"))())
    assert "1.05e+06 GiB were asked for" in str(troubles.explained(error.value))


def test_kinds():
    assert isinstance(troubles.explained(OSError(28, "No space left on device")), RetryError)
    assert type(troubles.explained(OSError(13, "Permission denied", "/a"))) is InputError
    busy = RuntimeError("Unable to initialize backend 'tpu': The TPU is already in use by 7")
    assert isinstance(troubles.explained(busy), RetryError)
    cuda = ImportError("libcudart.so.13: cannot open shared object file: No such file")
    assert "libcudart" in str(troubles.explained(cuda))
    for fault in (RuntimeError("a bug"), AssertionError("a bug"), ZeroDivisionError()):
        assert troubles.explained(fault) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "platforms",
    ["cuda", "nonsense", *(pytest.param(p, marks=pytest.mark.slow) for p in ("tpu", ","))],
)
def test_a_backend_that_is_not_there(platforms, tmp_path):
    done = command("train", VAE, f"--workdir={tmp_path}", "--noprogress", JAX_PLATFORMS=platforms)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith(f"jaxgen: error: JAX_PLATFORMS={platforms}: there is no backend '")


@pytest.mark.slow
def test_a_batch_that_does_not_fit(tmp_path):
    done = command(
        "train", VAE, f"--workdir={tmp_path}", "--noprogress", "--config.train.batch_size=800000000"
    )
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith("jaxgen: error: out of memory (") and "config.train.batch_size" in line
