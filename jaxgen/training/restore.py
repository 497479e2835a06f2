"""Reading checkpoints: the newest one that can be read, and what becomes of the others."""

import contextlib
import gc
import json
import os
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding

from jaxgen import distributed, files, troubles
from jaxgen.errors import InputError, RetryError
from jaxgen.training import strays
from jaxgen.training.checksum import inspect
from jaxgen.training.state import TrainState

FORMAT = 2  # of the saved state: raise it when a state of before cannot be read any more


def native(folder: str) -> bool:
    """Whether orbax itself reads and writes there: on disks and in gs://."""
    return not files.is_remote(folder) or folder.startswith("gs://")


def steps_in(folder: str) -> list[int]:
    """Steps with a checkpoint in `folder`, whatever its condition; orbax writes under another name
    until it is done, or in a bucket without its last file.
    """
    done = os.path.join("{}", files.MARK) if files.is_remote(folder) else "{}"
    return sorted(
        int(name)
        for name in files.listdir(folder)
        if name.isdecimal() and files.exists(os.path.join(folder, done.format(name)))
    )


def to_tree(state: TrainState) -> dict[str, Any]:
    """Orbax keeps what has leaves; empty parts come back from the state that restore is given."""
    return {k: v for k, v in state._asdict().items() if jax.tree.leaves(v)}


def one_line(error: BaseException) -> str:
    """What an error of orbax says, in one line; of a full disk all that matters."""
    text = " ".join(str(error).split())
    if cause := re.search(r"([^:]*) \[os_error_code=", text):
        return cause[1].strip()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return textwrap.shorten(f"{type(error).__name__}: {text}", 150, placeholder=" ...")


def _check_format(folder: str, step: int) -> None:
    """Raises InputError for a checkpoint of another format than this version writes."""
    try:
        about = json.loads(files.read(os.path.join(folder, str(step), "_CHECKPOINT_METADATA")))
        found = (about.get("custom_metadata") or {}).get("format", 1)
    except Exception:
        return  # it is damaged, which reading it will say
    if found != FORMAT:
        age = "an earlier" if found < FORMAT else "a later"
        raise InputError(
            f"checkpoint {step} in {folder} has format {found}, of {age} version of jaxgen; this "
            f"one reads format {FORMAT}: use that version, or train in another --workdir"
        )


@contextlib.contextmanager
def _local(folder: str, step: int) -> Iterator[str]:
    """Where orbax can read the checkpoint: its place, or a copy of it for as long as it takes."""
    if native(folder):
        yield os.path.join(folder, str(step))
        return
    with files.temporary() as copy:
        try:
            files.download(os.path.join(folder, str(step)), copy)
        except OSError as error:  # of the network, not of the checkpoint
            raise RetryError(
                f"could not read checkpoint {step} in {folder} ({one_line(error)})"
            ) from error
        yield copy


def _read(place: str, step: int, like: TrainState) -> TrainState:
    """The state saved in `place`. Raises anything where it cannot be read, in all processes."""
    import orbax.checkpoint as ocp
    from etils import epath

    here = SingleDeviceSharding(jax.local_devices()[0])
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(
            x.shape, x.dtype, sharding=getattr(x, "sharding", None) or here
        ),
        to_tree(like),
    )
    tree: dict[str, Any] = {}
    error = None
    try:
        count = np.zeros(len(jax.tree.leaves(target)), np.uint32)
        # not CheckpointManager.restore, where a process that can read its part waits for one that
        # cannot
        with contextlib.closing(ocp.StandardCheckpointHandler()) as handler:
            wanted = ocp.args.StandardRestore({**target, "checksum": count})
            tree = handler.restore(epath.Path(place) / "state", args=wanted)
    except Exception as raised:
        error = raised
    if not distributed.all_agree(error is None):
        raise error or ValueError("another process could not read its part")
    checksums = np.asarray(inspect({k: tree[k] for k in target})[0])
    if (checksums != np.asarray(tree.pop("checksum"))).any():
        raise ValueError("its bytes have changed since it was written")
    if int(tree["step"]) != step:
        raise ValueError(f"it says that it is step {int(tree['step'])}")
    return like._replace(**tree)


def newest_readable(
    folder: str, like: TrainState, step: int | None = None
) -> tuple[TrainState | None, dict[int, str]]:
    """(the newest state that can be read, or that of `step`; {damaged step: why} of those newer).

    `like` has the shapes and the shardings (none: one device). The state is None where there is no
    checkpoint. Raises InputError where none can be read, there is no such step, or the format is
    another one."""
    found = steps_in(folder)
    damaged: dict[int, str] = {}
    candidates = [each for each in reversed(found) if step in (None, each)]
    if found and not candidates:
        raise InputError(
            f"no checkpoint of step {step} in {folder}: there are {', '.join(map(str, found))}"
        )
    with strays.dropped():
        for each in candidates:
            _check_format(folder, each)
            with _local(folder, each) as place:
                try:
                    return _read(place, each, like), damaged
                except Exception as error:
                    if troubles.is_memory(error):
                        raise
                    damaged[each] = one_line(error)
            gc.collect()  # so that what it left behind speaks now
    if not damaged:
        return None, damaged
    newest, reason = next(iter(damaged.items()))
    raise InputError(
        f"no checkpoint in {folder} can be read ({len(damaged)} tried; step {newest}: {reason}); "
        "if the code has changed, go back to what it was, else start afresh in another --workdir"
    )


def set_aside(workdir: str, step: int) -> str:
    """Move a damaged checkpoint out of the way, since the run will come to this step again; returns
    its new place. It is kept, since it may be of use."""
    place = os.path.join(workdir, "damaged_checkpoints", str(step))
    if distributed.is_main():
        files.move(os.path.join(workdir, "checkpoints", str(step)), place)
    distributed.all_agree(True)  # none looks before it is gone
    return place
