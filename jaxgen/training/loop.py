"""The training loop: it starts or resumes a run in a folder and carries it to its last step."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxgen import distributed
from jaxgen.training import dispatch, profiling, saved, step, stopping, system
from jaxgen.training import folder as folders
from jaxgen.training import hooks as hooks_lib
from jaxgen.training.folder import Folder
from jaxgen.training.hooks import Hook, Moment
from jaxgen.training.state import TrainState
from jaxgen.training.system import System

Report = Callable[[str], None]


class Result(NamedTuple):
    """Where a run stopped, and the signal that stopped it, if any."""

    state: TrainState
    signal: int | None


def train(
    config,
    workdir: str,
    *,
    progress: bool = True,
    report: Report = print,
    parameters: bool = True,
    profile: bool = False,
    hooks: Sequence[Hook] = (),
) -> Result:
    """Train the config's system in `workdir` up to config.train.steps, going on from its newest
    checkpoint.

    progress: a progress bar on standard error. report: where notices go. parameters: report a table
    of them at step 0, and what the compiled step costs. profile: write a trace of some steps.
    hooks: what else happens every so often. Raises InputError for input that cannot be used, and
    for numbers that are not finite; RetryError for a checkpoint or log that cannot be written, and
    for data that stop coming.
    """
    main = distributed.is_main()
    report = heard(report) if main else silence
    details = report if parameters else silence
    with distributed.together("the start"):
        built = system.build(config, workdir, report)
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        stopped = enter(stopping.stop_requests())
        folder = enter(folders.opened(config, workdir, built.described, built.shapes, report))
        last, state = config.train.steps, start(config, built, folder, report, details)
        first = done = int(state.step)
        costs: list[dispatch.Cost] = []
        steps = enter(compiled(config, built, folder, state, costs, details))
        trace = enter(profiling.trace(workdir if profile and main else None, report))
        record = enter(hooks_lib.recording(config, workdir, first, progress and main))
        habits = (*hooks_lib.standard(config, built, folder, record, costs), *hooks)
        habits = (*trace, hooks_lib.alarm(folder.checkpoints, habits), *habits)
        state = built.devices.enter(state)
        strides = hooks_lib.strides(first, last, config.train.steps_per_dispatch, habits)
        for call, count in enumerate(strides, 1):
            state, metrics = steps(state, count)
            before, done = done, done + count
            record.add(metrics, count)
            moment = Moment(call, before, done, last, state, metrics, stopped(done))
            record.pause(hooks_lib.run_due(habits, moment, built.devices.leave))
            if moment.stopping:
                break
    if first < last:
        folder.best.tell(report)
    return Result(built.devices.leave(state), stopped(done))


def silence(text: str) -> None:
    """Where notices go that nobody asked for."""


def heard(report: Report) -> Report:
    """`report`, whose reader may leave (`jaxgen train | head`) without ending the run."""

    def say(text: str) -> None:
        with contextlib.suppress(OSError):
            report(text)

    return say


def start(config, built: System, folder: Folder, report: Report, details: Report) -> TrainState:
    """The global state that the run begins from: the folder's newest, or a new one."""
    state = folder.state
    if state is None:
        state = saved.begin(built.devices.create(built.create), saved.pretrained(config))
        details(system.overview(state))
    elif int(state.step) < config.train.steps:
        report(f"resuming {folder.workdir} from step {int(state.step)}")
    hooks_lib.check_finite(state, folder.checkpoints)
    return state


@contextlib.contextmanager
def compiled(
    config, built: System, folder: Folder, state: TrainState, costs: list, details: Report
) -> Iterator[Callable]:
    """The train steps from `state` on, as `dispatch.build` makes them. What they cost is appended
    to `costs`, and written into the run's folder.
    """

    def tell(cost: dispatch.Cost) -> None:
        costs.append(cost)
        # over all devices, for evaluation
        written = {
            **cost._asdict(),
            "flops": cost.flops * built.devices.size,
            "examples": built.examples,
        }
        folder.write(folders.COST, written)
        details(cost.describe())

    position = np.asarray(state.position)
    feed = dispatch.open_feed(built.records, config, built.per_step, built.devices, position)
    with contextlib.closing(feed):
        one = step.build(config, built.family, built.players, built.devices)
        longest = config.train.steps_per_dispatch
        yield dispatch.build(one, feed, built.examples, longest, built.devices, tell)
