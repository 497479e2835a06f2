"""What happens every so often while a system trains: each habit is a value, a `Hook`.

def shout(moment):
    print(moment.step, moment.means["model/loss"])

train(config, workdir, hooks=(Hook(every=100, run=shout),))
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgen import distributed, programs, spaces
from jaxgen.errors import InputError
from jaxgen.sampling import conditions, generate, rows_of
from jaxgen.training import checkpoint, logging
from jaxgen.training.checkpoint import Checkpoints
from jaxgen.training.dispatch import Cost
from jaxgen.training.folder import Folder
from jaxgen.training.players import Player
from jaxgen.training.state import TrainState, variables
from jaxgen.training.system import System
from jaxgen.training.validation import validator

GRID_SAMPLES = 64


class Moment(NamedTuple):
    """What a hook sees after a call of the compiled steps.

    call: the number of the call in this process, from 1. before, step: steps done before the call
    and after it. last: the run's last step. state: the global state; its memory belongs to the next
    call, so a hook that keeps some of it makes a copy. metrics: float32 [at least step - before]
    each, on the device. stopping: the signal that asks to stop, if any. improved: whether
    validation has just found the best values so far.
    """

    call: int
    before: int
    step: int
    last: int
    state: TrainState
    metrics: Mapping[str, Any]
    stopping: int | None = None
    improved: bool = False

    @property
    def means(self) -> dict[str, float]:
        """Means of the metrics over the steps of the call."""
        count = self.step - self.before
        return {name: float(np.mean(x[:count])) for name, x in jax.device_get(self.metrics).items()}


class Hook(NamedTuple):
    """A habit of the loop.

    every: it is due at each `every`-th step and at the last one; 0: never for that reason.
    run: (moment) -> None, or the moment that later hooks see. It runs in every process.
    exact: a call of the compiled steps ends at each step that is due; else the call may run past
    it. when: another reason to be due.
    """

    every: int
    run: Callable[[Moment], Moment | None]
    exact: bool = True
    when: Callable[[Moment], bool] = lambda moment: False

    def due(self, moment: Moment) -> bool:
        passed = self.every and moment.step // self.every > moment.before // self.every
        return bool(passed or self.every and moment.step == moment.last) or self.when(moment)


def strides(first: int, last: int, longest: int, hooks: Sequence[Hook]) -> Iterator[int]:
    """The steps of each call from step `first` to `last`: at most `longest`, and no further than
    the next step at which an exact hook is due.
    """
    breaks = [hook.every for hook in hooks if hook.exact and hook.every]
    while first < last:
        count = min(longest, last - first, *(every - first % every for every in breaks))
        yield count
        first += count


def run_due(
    hooks: Sequence[Hook], moment: Moment, leave: Callable[[TrainState], TrainState]
) -> float:
    """Run the hooks that are due, in their order. Returns the seconds that they took, in which no
    step was computed. leave: (state as the steps have it) -> global state.
    """
    if not any(hook.due(moment) for hook in hooks):
        return 0.0
    moment = moment._replace(state=leave(jax.block_until_ready(moment.state)))
    since = time.perf_counter()
    for hook in hooks:
        if hook.due(moment):
            moment = hook.run(moment) or moment
    return time.perf_counter() - since


def alarm(checkpoints: Checkpoints, hooks: Sequence[Hook]) -> Hook:
    """Before any of `hooks` runs: the losses are still finite, and the last save has not failed."""

    def run(moment: Moment) -> None:
        check_finite(moment.state, checkpoints)
        checkpoints.check()

    return Hook(0, run, when=lambda moment: any(hook.due(moment) for hook in hooks))


def check_finite(state: TrainState, checkpoints: Checkpoints) -> None:
    """Raises InputError when a loss was not finite at some step so far."""
    if int(state.bad_step) >= 0:
        raise diverged("the loss", int(state.bad_step), checkpoints)


def diverged(what: str, step: int, checkpoints: Checkpoints) -> InputError:
    """The error that ends a run whose numbers are not finite."""
    return InputError(
        f"{what} became NaN or infinite at step {step}; {checkpoints.last_good()}: "
        f"{checkpoint.DIVERGED}"
    )


class Record(NamedTuple):
    """What a run writes while it trains, and the metrics that are not written yet."""

    pending: logging.Pending
    log: logging.Log
    bar: Any

    def add(self, metrics: Mapping[str, Any], count: int) -> None:
        """The first `count` entries of each metric are those of the next `count` steps."""
        self.pending.add(metrics, count)
        self.bar.update(count)

    def pause(self, seconds: float) -> None:
        """Exclude `seconds` from the measured speed."""
        self.pending.pause(seconds)


@contextlib.contextmanager
def recording(config, workdir: str, first: int, progress: bool) -> Iterator[Record]:
    """The log from step `first` on, in the main process, with a progress bar where `progress`."""
    name, last = config.name or config.family, config.train.steps
    main = distributed.is_main()
    with (
        contextlib.closing(logging.open_log(workdir, first) if main else logging.SILENT) as log,
        logging.progress_bar(last, first, name, progress) as bar,
    ):
        yield Record(logging.Pending(first, config.train.log_every), log, bar)


def standard(
    config, built: System, folder: Folder, record: Record, costs: Sequence[Cost]
) -> tuple[Hook, ...]:
    """The habits of every run, in their order: what is wrong is found before it is saved.

    costs: of the compiled steps, once there are any.
    """
    log = record.log
    validate = validator(config, built.family, built.players, built.devices)
    seconds = max((row.get("seconds", 0.0) for row in folder.rows), default=0.0)
    return (
        rows(record, built.examples, seconds, costs, built.players),
        validation(config.train.eval_every, validate, built, folder, log),
        saving(config.checkpoint.every, folder.checkpoints, log),
        grids(config, built, log),
    )


def rows(
    record: Record,
    examples: int,
    seconds: float,
    costs: Sequence[Cost],
    players: Mapping[str, Player],
) -> Hook:
    """Rows of the log: means of the metrics since the row before, and the speed.

    examples: of a step. seconds: that the run has taken before this process.
    """
    pending, start = record.pending, record.pending.since - seconds

    def run(moment: Moment) -> None:
        now = time.perf_counter()
        rate = pending.rate(now)
        speed = {"images_per_second": rate * examples, "seconds": now - start}
        if peak := programs.peak_flops():
            speed["mfu"] = rate * costs[0].flops / peak
        for step, means in pending.rows(moment.last):
            record.log.scalars(step, {**means, **speed})
        losses = " ".join(
            f"{name if len(players) > 1 else 'loss'} {means[f'{name}/loss']:.4g}"
            for name in players
        )
        record.bar.set_postfix_str(f"{losses}, {rate * examples:.0f} images/s", refresh=False)

    return Hook(pending.every, run, exact=False)


def validation(
    every: int,
    validate: Callable[..., dict[str, float]],
    built: System,
    folder: Folder,
    log: logging.Log,
) -> Hook:
    """Validation on the held-out data. Values that are not finite end the run, unwritten."""

    def run(moment: Moment) -> Moment:
        seen = variables(moment.state, averages=built.family.averages)
        values = validate(seen, built.held_out)
        for name, value in values.items():
            if not math.isfinite(value):
                raise diverged(name, moment.step, folder.checkpoints)
        log.scalars(moment.step, values)
        return moment._replace(improved=folder.best.update(values, moment.step))

    return Hook(every, run)


def saving(every: int, checkpoints: Checkpoints, log: logging.Log) -> Hook:
    """Checkpoints; also of the best step, and of the last one before a stop. The log goes first: a
    resumed run writes no row of a step that is done.
    """

    def run(moment: Moment) -> None:
        log.flush()
        checkpoints.save(moment.state)

    return Hook(every, run, when=lambda moment: bool(moment.improved or moment.stopping))


def grids(config, built: System, log: logging.Log) -> Hook:
    """A grid of samples: of the classes in turn, or of whatever else held-out examples give as the
    condition.
    """
    spec, space = built.family.data.conditions, spaces.from_config(config)

    def run(moment: Moment) -> None:
        rows = rows_of(config, spec, built.held_out, GRID_SAMPLES)
        samples = generate(
            built.draw, variables(moment.state, config.sample.ema, built.family.averages),
            GRID_SAMPLES, seed=0, batch_size=GRID_SAMPLES,
            condition=conditions(spec, GRID_SAMPLES, rows=rows),
            place=built.devices.rows,
        )  # fmt: skip
        log.images(moment.step, "samples", space.picture(samples))

    return Hook(config.train.sample_every, run)
