"""Checkpoints by orbax: asynchronous, the latest few and the best kept, and a restore that survives
a damaged one.
"""

import contextlib
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from jaxgen import distributed
from jaxgen.errors import InputError, RetryError
from jaxgen.training.state import TrainState

DIVERGED = "lower the learning rate, clip gradients, or check the data"


class Checkpoints(NamedTuple):
    """save: (state) -> None, in the background; raises InputError for a state that is not finite,
    and RetryError when an earlier one could not be written. check: raises RetryError when a save in
    the background has failed. restore: (like, step=None) -> state of `step`, or else the newest
    that can be read; None where there is none. `like` has the shapes and the shardings (none: one
    device): on however many devices it was written, each device reads its own part. steps: () ->
    what is completely on disk, in order. last_good: () -> the newest of them, in words. close: wait
    for what is being written, raise RetryError if it could not be, and let go."""

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
    """Steps with a checkpoint in `folder`, whatever its condition; orbax writes under another name
    until it is done.
    """
    return sorted(
        int(name)
        for name in (os.listdir(folder) if os.path.isdir(folder) else ())
        if name.isdecimal()
    )


def _policy(keep: int, best_step: Callable[[], int | None]):
    from orbax.checkpoint import checkpoint_managers

    class LatestAndBest(checkpoint_managers.PreservationPolicy):
        def should_preserve(self, checkpoints, *, context):
            chosen = {best_step(), *(c.step for c in checkpoints[-keep:])}
            return [c.step in chosen for c in checkpoints]

    return LatestAndBest()


def _words(x: jax.Array) -> jax.Array:
    """The bits of an array as uint32, 64-bit numbers as two of them along a new last axis."""
    if x.dtype.itemsize < 4:
        x = x.astype(jnp.uint8) if x.dtype == bool else x
        return jax.lax.bitcast_convert_type(
            x, {1: jnp.uint8, 2: jnp.uint16}[x.dtype.itemsize]
        ).astype(jnp.uint32)
    return jax.lax.bitcast_convert_type(x, jnp.uint32)


def _leaf_checksum(x: jax.Array) -> jax.Array:
    """Sum of the words, each times an odd number made of its place, modulo 2^32.

    No single changed word goes unseen, and the sum is the same however the array is divided among
    devices, each of which looks at its own part only."""
    words = _words(x)
    place = jnp.zeros(words.shape, jnp.uint32)
    for axis, side in enumerate(words.shape):
        place = place * jnp.uint32(side) + jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    place = (place ^ (place >> 15)) * jnp.uint32(0x2C1B3C6D)
    odd = ((place ^ (place >> 12)) * jnp.uint32(0x297A2D39)) | jnp.uint32(1)
    return jnp.sum(words * odd, dtype=jnp.uint32)


@jax.jit
def _inspect(tree) -> tuple[jax.Array, jax.Array]:
    """(checksum, whether it is finite) of each leaf: orbax does not notice changed bytes inside an
    array.
    """
    leaves = jax.tree.leaves(tree)
    finite = [
        jnp.all(jnp.isfinite(x)) if jnp.issubdtype(x.dtype, jnp.floating) else True for x in leaves
    ]
    return jnp.stack([_leaf_checksum(x) for x in leaves]), jnp.stack(
        [jnp.asarray(f) for f in finite]
    )


def _to_tree(state: TrainState) -> dict[str, Any]:
    """Orbax keeps what has leaves; empty parts come back from the state that restore is given."""
    return {k: v for k, v in state._asdict().items() if jax.tree.leaves(v)}


def _name_of(tree, index: int) -> str:
    path = jax.tree_util.tree_leaves_with_path(tree)[index][0]
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    cause = re.search(
        r"([^:]*) \[os_error_code=", text
    )  # all that matters of tensorstore's words for a full disk
    return (
        cause[1].strip()
        if cause
        else textwrap.shorten(f"{type(error).__name__}: {text}", 150, placeholder=" ...")
    )


def _drop_stragglers(event, *, hook=sys.unraisablehook) -> None:
    """When one array cannot be read or written, orbax leaves the event loop that the others report
    to, and each of them prints a traceback about that. The error itself is raised as usual."""
    if not (
        isinstance(event.exc_value, RuntimeError) and "Event loop is closed" in str(event.exc_value)
    ):
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

    keep: how many of the latest stay. best_step: the step that stays as well. report: where notices
    go."""
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
        return (
            f"the last good checkpoint is step {found[-1]}"
            if (found := steps())
            else "there is no checkpoint yet"
        )

    @contextlib.contextmanager
    def saving():
        try:
            yield
        except Exception as error:
            raise RetryError(
                f"could not save a checkpoint in {folder} ({_one_line(error)}); {last_good()}"
            ) from error

    def check():
        if not manager.is_saving_in_progress():
            with saving():
                manager.wait_until_finished()

    def save(state):
        if int(state.step) in manager.all_steps():
            return
        tree = _to_tree(state)
        checksums, finite = map(np.asarray, _inspect(tree))
        if not finite.all():
            name = _name_of(tree, int(np.argmin(finite)))
            raise InputError(
                f"{name} became NaN or infinite by step {int(state.step)}; {last_good()}: "
                f"{DIVERGED}"
            )
        if jax.default_backend() == "cpu":
            # orbax copies to the host before it returns, but on a CPU its copy is the memory that
            # the next step reuses
            tree = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))(tree)
        with saving():
            items = ocp.args.Composite(state=ocp.args.StandardSave({**tree, "checksum": checksums}))
            if not manager.save(int(state.step), args=items):
                raise RuntimeError(f"orbax refused step {int(state.step)}")

    def restore_step(step, like):
        here = SingleDeviceSharding(jax.local_devices()[0])
        target = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(
                x.shape, x.dtype, sharding=getattr(x, "sharding", None) or here
            ),
            _to_tree(like),
        )
        tree, error = None, None
        try:
            count = np.zeros(len(jax.tree.leaves(target)), np.uint32)
            # not manager.restore, where a process that can read its part waits for one that cannot
            with contextlib.closing(ocp.StandardCheckpointHandler()) as handler:
                wanted = ocp.args.StandardRestore({**target, "checksum": count})
                tree = handler.restore(manager.directory / str(step) / "state", args=wanted)
        except Exception as raised:
            error = raised
        if not distributed.all_agree(error is None):
            raise error or ValueError("another process could not read its part")
        if (
            np.asarray(_inspect({k: tree[k] for k in target})[0])
            != np.asarray(tree.pop("checksum"))
        ).any():
            raise ValueError("its bytes have changed since it was written")
        if int(tree["step"]) != step:
            raise ValueError(f"it says that it is step {int(tree['step'])}")
        return like._replace(**tree)

    def set_aside(step):
        """Out of the way, since the run will come to this step again; kept, since it may be of use."""
        place = os.path.join(workdir, "damaged_checkpoints", str(step))
        if distributed.is_main():
            shutil.rmtree(place, ignore_errors=True)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            shutil.move(os.path.join(folder, str(step)), place)
        distributed.all_agree(True)  # none looks before it is gone
        return place

    def restore(like, step=None):
        found, damaged = steps_in(folder), {}
        candidates = [each for each in reversed(found) if step in (None, each)]
        if found and not candidates:
            raise InputError(
                f"no checkpoint of step {step} in {folder}: there are {', '.join(map(str, found))}"
            )
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
                f"no checkpoint in {folder} can be read ({len(damaged)} tried; step {newest}: "
                f"{reason}); if the code "
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
