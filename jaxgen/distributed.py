"""Several processes that train one system: how they find each other, agree, and leave.

Who calls for several processes, in this order:

- the flags --coordinator, --num_processes and --process_id (one process on each host, which takes
  all of its devices);
- Open MPI: OMPI_COMM_WORLD_SIZE above 1;
- SLURM: a step of `srun` with more than one task (SLURM_STEP_NODELIST, SLURM_NTASKS,
  SLURM_STEP_NUM_TASKS);
- Cloud TPU: more than one host in TPU_PROCESS_ADDRESSES or TPU_WORKER_HOSTNAMES, more than one
  slice in MEGASCALE_NUM_SLICES or, where none of these is set, more than one host in the answer of
  the VM's metadata server.

Then `jax.distributed.initialize` finds out the rest by itself. It is not called otherwise, since it
waits for other processes wherever it believes to be in a cluster, such as in an interactive shell
of SLURM or on a single TPU host."""

import contextlib
import importlib.util
import os
import queue
import re
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from jaxgen.errors import InputError, RetryError

TIMEOUT = 300  # seconds to wait for the other processes at the start
HEARTBEAT_TIMEOUT = 60  # seconds without a sign of life after which the others give a process up
_found_each_other = threading.Event()
# seconds that process 0, through which the others hear of each other, outlives a failed one
LAST_WORDS = 3.0


class Flags(NamedTuple):
    """What the command line says: HOST:PORT of process 0, how many processes there are, and which
    of them this is.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    timeout: int = TIMEOUT


def initialize(flags: Flags) -> bool:
    """Join the other processes, where there are any; returns whether there are.

    Has to run before anything asks JAX for its devices. Raises InputError for flags that make no
    sense, and RetryError where the processes do not find each other in time."""
    given = check(flags)
    if given and flags.num_processes == 1 or not given and not _several_by_environment():
        return False
    # with the flags, nothing of the surroundings may interfere; without them, they say everything
    arguments = (
        {**flags._asdict(), "cluster_detection_method": "deactivate"} if given else flags._asdict()
    )
    arguments["coordinator_address"] = arguments.pop("coordinator")
    del arguments["timeout"]
    # JAX would end the process, and not in one line, so it is given more time than it gets
    arguments["initialization_timeout"] = flags.timeout + 60
    errors: queue.Queue[Exception | None] = queue.Queue()

    def join():
        try:
            jax.distributed.initialize(**arguments, heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT)
            errors.put(None)
        except Exception as error:
            errors.put(error)

    threading.Thread(target=join, daemon=True).start()
    try:
        error = errors.get(timeout=flags.timeout)
    except queue.Empty:
        error = TimeoutError("no answer")
    if error:
        where = f" at {flags.coordinator}" if flags.coordinator else ""
        raise RetryError(
            f"the processes did not find each other within {flags.timeout} s{where} "
            f"({_reason(error)}): does process 0 run, "
            "can this host reach it, and do all name the same --coordinator=HOST:PORT "
            "--num_processes=N?"
        ) from error
    _found_each_other.set()
    return True


def check(flags: Flags) -> bool:
    """Whether the flags ask for several processes. Raises InputError where they contradict each
    other.
    """
    named = {
        f"--{name}": getattr(flags, name) for name in ("coordinator", "num_processes", "process_id")
    }
    missing = [name for name, value in named.items() if value is None]
    if len(missing) == 3:
        return False
    if missing:
        several = "--coordinator=HOST:PORT --num_processes=N --process_id=I"
        raise InputError(f"{' and '.join(missing)} is missing: {several} go together")
    assert flags.coordinator and flags.num_processes is not None and flags.process_id is not None
    match = re.fullmatch(r"([^\s:/]+|\[[0-9A-Fa-f:.%\w]+\]):(\d+)", flags.coordinator)
    if not match or not 0 < int(match[2]) < 2**16:
        raise InputError(
            f"--coordinator={flags.coordinator} is not HOST:PORT with a port from 1 to 65535"
        )
    if flags.num_processes < 1:
        raise InputError(f"--num_processes={flags.num_processes} must be at least 1")
    if not 0 <= flags.process_id < flags.num_processes:
        raise InputError(
            f"--process_id={flags.process_id} is not from 0 to {flags.num_processes - 1} "
            f"(--num_processes - 1)"
        )
    return True


def _several_by_environment() -> bool:
    def number(name: str, default: int) -> int:
        return int(value) if (value := os.environ.get(name, "")).isdecimal() else default

    if number("OMPI_COMM_WORLD_SIZE", 1) > 1:
        return True
    if {"SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID"} <= set(os.environ):
        # an interactive shell is a step of one task in a job that has more of them
        tasks = number("SLURM_NTASKS", 1)
        return min(tasks, number("SLURM_STEP_NUM_TASKS", tasks)) > 1
    return _tpu_hosts() > 1


def _tpu_hosts() -> int:
    """Hosts of all TPU slices that train together; 0 where there is no TPU."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if (
        importlib.util.find_spec("libtpu") is None
        or platforms
        and "tpu" not in platforms.split(",")
    ):
        return 0
    named = os.environ.get("TPU_PROCESS_ADDRESSES", os.environ.get("TPU_WORKER_HOSTNAMES"))
    if (
        named is None
        and (path := os.environ.get("TPU_PROCESS_ADDRESSES_PATH"))
        and os.path.exists(path)
    ):
        with open(path) as file:
            named = file.read()
    slices = os.environ.get("MEGASCALE_NUM_SLICES", "")
    # JAX sets TPU_SKIP_MDS_QUERY on import where it finds no TPU chips
    if (
        named is None
        and "TPU_SKIP_MDS_QUERY" not in os.environ
        and (named := _metadata("worker-network-endpoints"))
    ):
        found = re.search(r"MEGASCALE_NUM_SLICES: *'?(\d+)", _metadata("tpu-env") or "")
        slices = slices or (found[1] if found else "")
    hosts = [host for host in (named or "").split(",") if host.strip()]
    return len(hosts) * (int(slices) if slices.isdecimal() else 1)


def _metadata(key: str) -> str | None:
    """What the metadata server of a Google Cloud VM says; None where there is none or it does not
    know.
    """
    host = os.environ.get("GCE_METADATA_IP", "metadata.google.internal")
    url = f"http://{host}/computeMetadata/v1/instance/attributes/{key}"
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    # it is beside the VM, behind no proxy
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.suppress(OSError), direct.open(request, timeout=2.0) as answer:
        return answer.read().decode()
    return None


def _reason(error: BaseException) -> str:
    """The first sentence of an error of JAX's services, which go on for paragraphs."""
    return re.split(r"\n|\. |Additional GRPC", str(error))[0].strip()


def is_main() -> bool:
    """Whether this process is the one that reports and writes."""
    return jax.process_index() == 0


def all_agree(here: bool) -> bool:
    """Whether it is so in every process. All of them have to ask."""
    if jax.process_count() == 1:
        return here
    from jax.experimental import multihost_utils

    return bool(np.all(multihost_utils.process_allgather(np.array(here))))


def of_main(values: np.ndarray) -> np.ndarray:
    """Process 0's numbers, to the bit, in every process. All of them have to ask, with the same
    shape and type.
    """
    if jax.process_count() == 1:
        return values
    from jax.experimental import multihost_utils

    # without 64-bit types in JAX, only bytes arrive as they are
    return (
        multihost_utils.broadcast_one_to_all(np.frombuffer(values.tobytes(), np.uint8))
        .view(values.dtype)
        .reshape(values.shape)
    )


@contextlib.contextmanager
def together(what: str) -> Iterator[None]:
    """Where this fails with an InputError in some process, it fails in all of them, instead of
    leaving them waiting.
    """
    error = None
    try:
        yield
    except InputError as raised:
        error = raised
    final = isinstance(error, InputError) and not isinstance(error, RetryError)
    ok, none_final = all_agree(error is None), all_agree(not final)
    if not ok:
        kind = RetryError if none_final else InputError
        raise error or kind(f"{what} failed in another process, which says why")


def leave(code: int) -> int:
    """The exit code of a process that is done. One that failed among several ends here, at once: it
    must neither wait for the others to finish, as JAX would, nor have them wait for it."""
    if code in (0, 128 + signal.SIGTERM) or not jax.distributed.is_initialized():
        return code
    sys.stdout.flush()
    sys.stderr.flush()
    if _found_each_other.is_set() and is_main():
        time.sleep(LAST_WORDS)  # the others fail by themselves, each with the exit code that fits
    os._exit(code)
