"""Checkpoints by orbax: asynchronous, the latest few and the best kept, and a restore that survives a damaged one."""

import contextlib
import os
import re
import shutil
import sys
import textwrap
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.errors import InputError
from jaxgen.training.state import TrainState

DIVERGED = "lower the learning rate, clip gradients, or check the data"


class Checkpoints(NamedTuple):
    """save: (state) -> None, in the background; raises InputError for a state that is not finite, or when an earlier
    one could not be written. check: raises InputError when a save in the background has failed. restore:
    (like, step=None) -> state as host arrays, of `step` or else the newest that can be read; None where there is none.
    steps: () -> what is completely on disk, in order. last_good: () -> the newest of them, in words. close: wait for
    what is being written, raise InputError if it could not be, and let go.
    """

    save: Callable[[TrainState], None]
    check: Callable[[], None]
    restore: Callable[..., TrainState | None]
    steps: Callable[[], list[int]]
    last_good: Callable[[], str]
    close: Callable[[], None]


def folder_of(workdir: str) -> str:
    """Where the checkpoints of a run are."""
    return os.path.abspath(os.path.join(workdir, "checkpoints"))


def steps_in(folder: str) -> list[int]:
    """Steps with a checkpoint in `folder`, whatever its condition; orbax writes under another name until it is done."""
    return sorted(int(name) for name in (os.listdir(folder) if os.path.isdir(folder) else ()) if name.isdecimal())


def _policy(keep: int, best_step: Callable[[], int | None]):
    from orbax.checkpoint import checkpoint_managers

    class LatestAndBest(checkpoint_managers.PreservationPolicy):
        def should_preserve(self, checkpoints, *, context):
            chosen = {best_step(), *(c.step for c in checkpoints[-keep:])}
            return [c.step in chosen for c in checkpoints]

    return LatestAndBest()


def _checksum(tree) -> np.uint32:
    """CRC-32 over all leaves: orbax does not notice changed bytes inside an array."""
    crc = 0
    for leaf in jax.tree.leaves(tree):
        crc = zlib.crc32(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8), crc)
    return np.uint32(crc)


def _to_tree(state: TrainState) -> dict[str, Any]:
    """Orbax keeps what has leaves; empty parts come back from the state that restore is given."""
    return {k: v for k, v in state._asdict().items() if jax.tree.leaves(v)}


def _not_finite(tree) -> str | None:
    """The name of a leaf that holds NaN or infinity."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.issubdtype(leaf.dtype, jnp.floating) and not np.isfinite(leaf).all():
            return jax.tree_util.keystr(path, simple=True, separator="/")
    return None


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    cause = re.search(r"([^:]*) \[os_error_code=", text)  # all that matters of tensorstore's words for a full disk
    return cause[1].strip() if cause else textwrap.shorten(f"{type(error).__name__}: {text}", 150, placeholder=" ...")


def _drop_stragglers(event, *, hook=sys.unraisablehook) -> None:
    """When one array cannot be read or written, orbax leaves the event loop that the others report to, and each of them
    prints a traceback about that. The error itself is raised as usual.
    """
    if not (isinstance(event.exc_value, RuntimeError) and "Event loop is closed" in str(event.exc_value)):
        hook(event)


def open_folder(
    workdir: str,
    *,
    keep: int = 3,
    best_step: Callable[[], int | None] = lambda: None,
    read_only: bool = False,
    report: Callable[[str], None] = print,
) -> Checkpoints:
    """The checkpoints of a run in `workdir`/checkpoints.

    keep: how many of the latest stay. best_step: the step that stays as well. report: where notices go.
    """
    import orbax.checkpoint as ocp

    sys.unraisablehook = _drop_stragglers
    folder = folder_of(workdir)
    if read_only and not os.path.isdir(folder):
        raise InputError(f"no checkpoints in {folder}: train first, or give another --workdir")
    options = ocp.CheckpointManagerOptions(
        preservation_policy=_policy(keep, best_step),
        enable_async_checkpointing=not read_only,
        cleanup_tmp_directories=not read_only,
        create=not read_only,
        read_only=read_only,
    )
    manager = ocp.CheckpointManager(folder, options=options)

    def steps():
        # orbax counts what it is still writing, so that has to be finished or to have failed
        with contextlib.suppress(Exception):
            manager.wait_until_finished()
        return steps_in(folder)

    def last_good():
        return f"the last good checkpoint is step {found[-1]}" if (found := steps()) else "there is no checkpoint yet"

    @contextlib.contextmanager
    def saving():
        try:
            yield
        except Exception as error:
            raise InputError(f"could not save a checkpoint in {folder} ({_one_line(error)}); {last_good()}") from error

    def check():
        if not manager.is_saving_in_progress():
            with saving():
                manager.wait_until_finished()

    def save(state):
        if int(state.step) in manager.all_steps():
            return
        # the train step reuses the state's memory at once, so the copy has to be finished here
        tree = jax.tree.map(np.array, _to_tree(state))
        if name := _not_finite(tree):
            raise InputError(f"{name} became NaN or infinite by step {int(state.step)}; {last_good()}: {DIVERGED}")
        with saving():
            items = ocp.args.Composite(state=ocp.args.StandardSave({**tree, "checksum": _checksum(tree)}))
            if not manager.save(int(state.step), args=items):
                raise RuntimeError(f"orbax refused step {int(state.step)}")

    def restore_step(step, like):
        target = {**_to_tree(like), "checksum": np.uint32(0)}
        # host arrays, on however many devices it was written
        target = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), target)
        tree = manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target)))["state"]
        if tree.pop("checksum") != _checksum(tree):
            raise ValueError("its bytes have changed since it was written")
        if int(tree["step"]) != step:
            raise ValueError(f"it says that it is step {int(tree['step'])}")
        return like._replace(**tree)

    def set_aside(step):
        """Out of the way, since the run will come to this step again; kept, since it may be of use."""
        place = os.path.join(workdir, "damaged_checkpoints", str(step))
        shutil.rmtree(place, ignore_errors=True)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        shutil.move(os.path.join(folder, str(step)), place)
        return place

    def restore(like, step=None):
        found, damaged = steps_in(folder), {}
        candidates = [each for each in reversed(found) if step in (None, each)]
        if found and not candidates:
            raise InputError(f"no checkpoint of step {step} in {folder}: there are {', '.join(map(str, found))}")
        for each in candidates:
            try:
                state = restore_step(each, like)
                break
            except Exception as error:
                damaged[each] = _one_line(error)
        else:
            if not damaged:
                return None
            newest, reason = next(iter(damaged.items()))
            raise InputError(
                f"no checkpoint in {folder} can be read ({len(damaged)} tried; step {newest}: {reason}); if the code "
                "has changed, go back to what it was, else start afresh in another --workdir"
            )
        for bad, reason in damaged.items():
            moved = "" if read_only else f", moved it to {set_aside(bad)}"
            report(f"checkpoint {bad} cannot be read ({reason}){moved}; using step {each}")
        if damaged and not read_only:
            manager.reload()
        return state

    def close():
        with saving():
            manager.close()

    return Checkpoints(save, check, restore, steps, last_good, close)
