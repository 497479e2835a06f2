"""Who calls for several processes, and what is said where they cannot be."""

import subprocess
import sys

import numpy as np
import pytest

from jaxgen import distributed
from jaxgen.distributed import Flags
from jaxgen.errors import InputError

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}
TPU = {"libtpu": "installed"}


@pytest.mark.parametrize(
    "surroundings, several",
    [
        ({}, False),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({**SLURM, "SLURM_NTASKS": "1"}, False),
        ({**SLURM, "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "8"}, True),
        # an interactive shell
        ({**SLURM, "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8"}, False),  # in the batch script itself
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, False),  # no TPU here
        ({**TPU, "TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({**TPU, "TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({**TPU, "TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, True),
        ({**TPU, "TPU_WORKER_HOSTNAMES": "a,b", "JAX_PLATFORMS": "cpu"}, False),
        ({**TPU, "TPU_SKIP_MDS_QUERY": "1"}, False),  # no chips: nobody is asked
        ({**TPU, "worker-network-endpoints": "one:0:10.0.0.1"}, False),
        ({**TPU, "worker-network-endpoints": "10.0.0.1,10.0.0.2"}, True),
        (
            {
                **TPU,
                "worker-network-endpoints": "10.0.0.1",
                "tpu-env": "A: 'b'\nMEGASCALE_NUM_SLICES: '2'\n",
            },
            True,
        ),
        ({**TPU, "GCE_METADATA_IP": "127.0.0.1:9"}, False),  # a server that does not answer
    ],
)
def test_what_calls_for_several_processes(surroundings, several, monkeypatch):
    for name in list(distributed.os.environ):
        if name.startswith(("SLURM", "OMPI", "TPU", "MEGASCALE", "JAX_PLATFORMS")):
            monkeypatch.delenv(name)
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(
        distributed.importlib.util,
        "find_spec",
        lambda name: "libtpu" if name in surroundings else None,
    )
    if "GCE_METADATA_IP" not in surroundings:
        monkeypatch.setattr(distributed, "_metadata", surroundings.get)
    joined = []
    monkeypatch.setattr(
        distributed.jax.distributed, "initialize", lambda **arguments: joined.append(arguments)
    )
    monkeypatch.setattr(distributed, "_found_each_other", distributed.threading.Event())
    assert distributed.initialize(Flags()) == several == bool(joined)
    if joined:
        assert joined[0]["coordinator_address"] is None, "JAX finds out"


def test_flags_alone_decide_where_they_are_given(monkeypatch):
    joined = []
    monkeypatch.setattr(
        distributed.jax.distributed, "initialize", lambda **arguments: joined.append(arguments)
    )
    monkeypatch.setattr(distributed, "_found_each_other", distributed.threading.Event())
    assert not distributed.initialize(Flags("host:1", 1, 0)) and not joined
    assert distributed.initialize(Flags("[::1]:8476", 2, 1))
    assert joined[0]["cluster_detection_method"] == "deactivate" and joined[0]["process_id"] == 1


@pytest.mark.parametrize(
    "flags, message",
    [
        (Flags("host:1", 2), "--process_id is missing: .* go together"),
        (Flags(num_processes=2), "--coordinator and --process_id is missing"),
        (Flags("host", 2, 0), "--coordinator=host is not HOST:PORT"),
        (Flags("host:65536", 2, 0), "port from 1 to 65535"),
        (Flags("http://host:80", 2, 0), "is not HOST:PORT"),
        (Flags("host:1", 0, 0), "--num_processes=0 must be at least 1"),
        (Flags("host:1", 2, 2), "--process_id=2 is not from 0 to 1"),
    ],
)
def test_flags_that_make_no_sense(flags, message):
    with pytest.raises(InputError, match=message):
        distributed.initialize(flags)


@pytest.mark.slow
def test_nobody_answers():
    """In time, in one line, with the exit code for what may work the next time."""
    flags = [
        "--coordinator=localhost:1",
        "--num_processes=2",
        "--process_id=1",
        "--coordinator_timeout=2",
    ]
    command = [
        sys.executable,
        "-m",
        "jaxgen",
        "train",
        "--config=configs/digits/vae.py",
        "--workdir=never",
        *flags,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 75
    assert "did not find each other within 2 s at localhost:1" in line


def test_alone_everybody_agrees():
    assert distributed.all_agree(True) and not distributed.all_agree(False)
    assert distributed.of_main(np.array([0.1, 3.0])).tolist() == [0.1, 3.0]
    with pytest.raises(InputError, match="mine"), distributed.together("it"):
        raise InputError("mine")
    assert distributed.leave(2) == 2
