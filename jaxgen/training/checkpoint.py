"""Checkpoints by orbax: asynchronous, the latest few and the best kept, and a restore that survives
a damaged one.

Orbax writes on disks and in gs:// by itself. For other buckets it writes into a temporary folder,
and each checkpoint is copied when it is complete."""

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import files
from jaxgen.errors import InputError, RetryError
from jaxgen.training import restore, strays
from jaxgen.training.checksum import inspect
from jaxgen.training.restore import FORMAT, one_line, steps_in, to_tree
from jaxgen.training.state import TrainState

NONE_YET = "there is no checkpoint yet"
DIVERGED = "lower the learning rate, clip gradients, or check the data"


def folder_of(workdir: str) -> str:
    """Where the checkpoints of a run are."""
    return files.absolute(os.path.join(workdir, "checkpoints"))


def _policy(kept: Callable[[list[int]], set[int | None]]):
    from orbax.checkpoint import checkpoint_managers

    class Kept(checkpoint_managers.PreservationPolicy):
        def should_preserve(self, checkpoints, *, context):
            chosen = kept([c.step for c in checkpoints])
            return [c.step in chosen for c in checkpoints]

    return Kept()


class _Writer:
    """Writes checkpoints into `folder` in the background, one at a time.

    kept: (steps there are) -> those that stay.
    """

    def __init__(self, folder: str, kept: Callable[[list[int]], set[int | None]]):
        import orbax.checkpoint as ocp

        native = restore.native(folder)
        if not native and jax.process_count() > 1:
            raise InputError(
                f"several processes cannot keep checkpoints in {folder}: give a --workdir in gs:// "
                "or on a disk that they share"
            )
        self.folder, self.kept = folder, kept
        self.staging: str | None = None
        self.copied: Future[None] | None = None
        self.scope = contextlib.ExitStack()
        self.scope.enter_context(strays.dropped())
        if not native:
            self.staging = self.scope.enter_context(files.temporary())
            self.pool = self.scope.enter_context(ThreadPoolExecutor(1))
        options = ocp.CheckpointManagerOptions(
            # a copy is finished before the next checkpoint begins
            preservation_policy=_policy((lambda steps: {steps[-1]}) if self.staging else kept),
            enable_async_checkpointing=True,
            cleanup_tmp_directories=True,
        )
        self.manager = ocp.CheckpointManager(self.staging or folder, options=options)

    def save(self, step: int, tree: dict[str, Any]) -> None:
        """Start to write `tree`; raises what went wrong with the one before."""
        import orbax.checkpoint as ocp

        self.wait()
        items = ocp.args.Composite(state=ocp.args.StandardSave(tree))
        if not self.manager.save(step, args=items, custom_metadata={"format": FORMAT}):
            raise RuntimeError(f"orbax refused step {step}")
        if self.staging:
            self.copied = self.pool.submit(self._copy, step)

    def _copy(self, step: int) -> None:
        assert self.staging
        self.manager.wait_until_finished()
        files.upload(os.path.join(self.staging, str(step)), os.path.join(self.folder, str(step)))
        steps = steps_in(self.folder)
        for old in sorted({*steps} - self.kept(steps)):
            place = os.path.join(self.folder, str(old))
            files.remove(os.path.join(place, files.MARK))  # from now on it is none
            files.remove(place)

    def busy(self) -> bool:
        """Whether something is being written."""
        return not self.copied.done() if self.copied else self.manager.is_saving_in_progress()

    def wait(self) -> None:
        """Until all is written; raises what went wrong."""
        if self.copied:
            self.copied.result()
        self.manager.wait_until_finished()

    def close(self) -> None:
        """Wait, and let go."""
        with self.scope:
            try:
                self.wait()
            finally:
                self.manager.close()


class Checkpoints:
    """The checkpoints of a run, from `open_folder`."""

    def __init__(self, workdir: str, writer: _Writer | None, report: Callable[[str], None]):
        self.workdir, self.folder = workdir, folder_of(workdir)
        self._writer: Any = writer
        self._report = report

    def steps(self) -> list[int]:
        """What is completely written, in order."""
        if self._writer:
            # orbax counts what it is still writing, so that has to be finished or to have failed
            with contextlib.suppress(Exception):
                self._writer.wait()
        return steps_in(self.folder)

    def last_good(self) -> str:
        """The newest of them, in words."""
        with contextlib.suppress(OSError):  # a bucket may have gone
            found = self.steps()
            return f"the last good checkpoint is step {found[-1]}" if found else NONE_YET
        return "the checkpoints cannot be listed"

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise RetryError(
                f"could not save a checkpoint in {self.folder} ({one_line(error)}); "
                f"{self.last_good()}"
            ) from error

    def check(self) -> None:
        """Raises RetryError when a save in the background has failed."""
        if not self._writer.busy():
            with self._saving():
                self._writer.wait()

    def save(self, state: TrainState) -> None:
        """Write `state` in the background.

        Raises InputError for a state that is not finite, and RetryError when an earlier one could
        not be written."""
        step = int(state.step)
        if step in steps_in(self.folder) or step in self._writer.manager.all_steps():
            return
        tree = to_tree(state)
        checksums, finite = map(np.asarray, inspect(tree))
        if not finite.all():
            path = jax.tree_util.tree_leaves_with_path(tree)[int(np.argmin(finite))][0]
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise InputError(
                f"{name} became NaN or infinite by step {step}; {self.last_good()}: {DIVERGED}"
            )
        if jax.default_backend() == "cpu":
            # orbax copies to the host before it returns, but on a CPU its copy is the memory that
            # the next step reuses
            tree = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))(tree)
        with self._saving():
            self._writer.save(step, {**tree, "checksum": checksums})

    def restore(self, like: TrainState, step: int | None = None) -> TrainState | None:
        """The state of `step`, or else the newest that can be read; None where there is none.

        `like` has the shapes and the shardings (none: one device): on however many devices it was
        written, each device reads its own part. A damaged checkpoint that was passed over is
        reported and, unless the folder is only read, moved aside. Raises InputError, see
        `restore.newest_readable`."""
        state, damaged = restore.newest_readable(self.folder, like, step)
        used = state and int(state.step)
        for bad, reason in damaged.items():
            moved = ""
            if self._writer:
                moved = f", moved it to {restore.set_aside(self.workdir, bad)}"
            self._report(f"checkpoint {bad} cannot be read ({reason}){moved}; using step {used}")
        if damaged and self._writer:
            self._writer.manager.reload()
        return state

    def close(self) -> None:
        """Wait for what is being written, raise RetryError if it could not be, and let go."""
        if self._writer:
            with self._saving():
                self._writer.close()


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
    go. Raises InputError where there is nothing to read."""
    folder = folder_of(workdir)
    if read_only and not files.isdir(folder):
        raise InputError(f"no checkpoints in {folder}: train first, or give another --workdir")
    writer = None
    if not read_only:
        writer = _Writer(folder, lambda steps: {best_step(), *steps[-keep:]})
    return Checkpoints(workdir, writer, report)
