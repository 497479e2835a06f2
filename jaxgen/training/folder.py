"""A run's folder: whether it can be this run's, and holding it while the run goes on."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from jaxgen import config as config_lib
from jaxgen import data, distributed
from jaxgen.errors import InputError, RetryError
from jaxgen.training import checkpoint, lock, logging
from jaxgen.training.state import TrainState
from jaxgen.training.validation import Best

DATA, COST = "data.json", "cost.json"


class Folder(NamedTuple):
    """A run's folder, held: no other process trains in it.

    state: of the newest checkpoint that can be read; None at the start. rows: of the log so far.
    best: the best step so far, whose checkpoint is kept.
    """

    workdir: str
    checkpoints: checkpoint.Checkpoints
    state: TrainState | None
    rows: list[dict[str, Any]]
    best: Best

    def write(self, name: str, values: dict[str, Any]) -> None:
        """Save `values` as a JSON file of the folder, atomically."""
        if distributed.is_main():
            _write(os.path.join(self.workdir, name), values)


def make(workdir: str) -> None:
    """Create the run's folder; raises InputError where that cannot be."""
    try:
        os.makedirs(workdir, exist_ok=True)
    except OSError as error:
        why = "it is a file" if os.path.isfile(workdir) else error.strerror
        raise InputError(f"{workdir} cannot be the folder of a run: {why}") from error
    if not os.access(workdir, os.W_OK | os.X_OK):
        raise InputError(f"{workdir} cannot be the folder of a run: no permission to write in it")


def check_same_run(config, workdir: str, report: Callable[[str], None]) -> None:
    """Raises InputError when `workdir` holds checkpoints of another config; reports what a change
    of length means.
    """
    if not _started(workdir):
        return
    saved = config_lib.read(workdir)
    changed = config_lib.differences(saved, config)
    decays = [
        name
        for name, player in config.players.items()
        if player.optimizer.get("decay", "constant") != "constant"
    ]
    if saved.train.steps != config.train.steps and decays and not changed:
        report(
            f"config.train.steps was {saved.train.steps} and is now {config.train.steps}: the "
            f"learning rate of {', '.join(decays)} decays over all steps, so this is not the run "
            f"that had {config.train.steps} from the start"
        )
    if changed:
        name, (old, new) = next(iter(changed.items()))
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise InputError(
            f"{workdir} holds a run of another config: config.{name} was {old!r} and is now "
            f"{new!r}{more}; give another --workdir, or the old values"
        )


def check_same_data(described: dict[str, Any], workdir: str) -> None:
    """Raises InputError when the run in `workdir` trained on other data. Where they lie, and what
    the config calls them, may have changed.
    """
    path = os.path.join(workdir, DATA)
    if not (_started(workdir) and os.path.exists(path)):
        return
    try:
        with open(path) as file:
            saved = json.load(file)
        same = saved["fingerprint"] == described["fingerprint"]
    except (ValueError, KeyError, TypeError):
        return  # nothing that could be compared
    if not same:
        old, new = (f"{each['examples']} examples of {each['name']}" for each in (saved, described))
        raise InputError(
            f"{workdir} holds a run on other data: it was trained on {old}, and {new} "
            f"differ from them; give another --workdir, or the data that it began with"
        )


def describe_data(records: data.Records) -> dict[str, Any]:
    """What the training data are, for `check_same_data`."""
    return {
        "name": records.name,
        "examples": len(records),
        "shape": list(records.shape),
        "classes": records.num_classes,
        "fingerprint": records.fingerprint(),
    }


@contextlib.contextmanager
def opened(
    config, workdir: str, described: dict[str, Any], like, report: Callable[[str], None]
) -> Iterator[Folder]:
    """Hold the run's folder, with the newest state of the shapes and shardings `like`.

    described: the training data, see `describe_data`. Raises InputError where another process
    trains there, and RetryError for what cannot be written.
    """
    best = Best(config.checkpoint.best)
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock.hold(workdir))
        checkpoints = checkpoint.open_folder(
            workdir, keep=config.checkpoint.keep, best_step=lambda: best.step, report=report
        )
        stack.enter_context(contextlib.closing(checkpoints))
        stack.enter_context(write_errors(workdir, checkpoints))
        if distributed.is_main():
            config_lib.write(config, workdir)
            _write(os.path.join(workdir, DATA), described)
        state, rows = checkpoints.restore(like), logging.read_metrics(workdir)
        best.recall(rows, checkpoints.steps())
        yield Folder(workdir, checkpoints, state, rows, best)


@contextlib.contextmanager
def write_errors(workdir: str, checkpoints: checkpoint.Checkpoints) -> Iterator[None]:
    """A full disk ends in a RetryError that says what is safe."""
    try:
        yield
    except OSError as error:
        where, why = error.filename or workdir, error.strerror or error
        raise RetryError(
            f"could not write to {where} ({why}); {checkpoints.last_good()}"
        ) from error


def _started(workdir: str) -> bool:
    """Whether there is a checkpoint to go on from; without one, whatever an earlier attempt left is
    overwritten.
    """
    return bool(checkpoint.steps_in(checkpoint.folder_of(workdir)))


def _write(path: str, values: dict[str, Any]) -> None:
    with open(f"{path}.tmp", "w") as file:
        json.dump(values, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{path}.tmp", path)
