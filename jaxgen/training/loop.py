"""The training loop: it starts or resumes a run in a folder and carries it to its last step."""

import contextlib
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import config as config_lib
from jaxgen import data, distributed, families, files, programs, troubles
from jaxgen.data import order
from jaxgen.errors import InputError, RetryError, call_with_options, nearest
from jaxgen.losses import objective
from jaxgen.sampling import balanced_labels, generate, sample_keys, sampler
from jaxgen.training import checkpoint, dispatch, lock, logging, parallel, profiling, step, stopping
from jaxgen.training import players as players_lib
from jaxgen.training import state as state_lib
from jaxgen.training.players import Player
from jaxgen.training.state import TrainState

GRID_SAMPLES = 64


class Result(NamedTuple):
    """Where a run stopped, and the signal that stopped it, if any."""

    state: TrainState
    signal: int | None


def open_source(config, split: str) -> data.Records:
    """The data of `config.data`'s split "train", "validation" or "test", checked against the config
    but not yet read.

    Raises InputError where shape or classes differ.
    """
    spec = config.data
    records = data.open_records(
        spec.source, spec[split], data_dir=spec.data_dir, image_shape=tuple(spec.image_shape)
    )
    if config.conditional and not records.labelled:
        raise InputError(f"config.conditional needs labels, and {spec.source} has none")
    if spec.num_classes and records.num_classes > spec.num_classes:
        raise InputError(
            f"{spec.source} has {records.num_classes} classes; config.data.num_classes says "
            f"{spec.num_classes}"
        )
    return records


def load_source(config, split: str) -> data.Source:
    """`open_source`, read into memory."""
    return open_source(config, split).everything()


def streams(pipeline: str, device_bytes: int, size: int) -> bool:
    """Whether images of `size` bytes are streamed under `config.data.pipeline`, or else kept on the
    devices.
    """
    return pipeline == "stream" or pipeline == "auto" and size > device_bytes


def open_feed(
    records: data.Records, config, per_step: int, way: parallel.Parallel, position
) -> dispatch.Feed:
    """What the train steps are fed from `position` on: `per_step` batches each."""
    order.check(len(records), config.seed, position)
    if not streams(config.data.pipeline, config.data.device_bytes, records.nbytes):
        return dispatch.resident(records.everything(), config, per_step, way)
    from jaxgen.data.stream import stream

    batches = stream(
        records, config.train.batch_size, seed=config.seed, position=position, workers=config.data.workers,
        process_index=jax.process_index(), process_count=jax.process_count(),
    )  # fmt: skip
    return dispatch.streamed(batches, len(records), per_step, config.train.steps_per_dispatch, way)


def validator(
    config, family, players: dict[str, Player], way: parallel.Parallel
) -> Callable[..., dict[str, float]]:
    """(variables, source) -> means over the source of every player's terms and loss, in evaluation
    mode.

    The noise of an example depends on its index alone and the weights are those of the last step,
    so that values of different steps compare."""
    last = config.train.steps

    @programs.jit
    def totals(variables, batch, index):
        keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(index)
        mask = batch.pop("mask").astype(jnp.float32)
        outputs, _ = family.forward(variables, data.prepare(batch, keys, flip=False), keys, False)
        sums = {}
        for name, player in players.items():
            values = objective.evaluate(player.rows, outputs, keys.shape[0])
            loss = sum(
                row.weight(last) * (last >= row.start) * values[row.name] for row in player.rows
            )
            sums.update(
                {f"{name}/{k}": jnp.sum(mask * v) for k, v in {"loss": loss, **values}.items()}
            )
        return sums

    def run(variables, source):
        size, sums = config.train.batch_size, []
        for i, batch in enumerate(data.eval_batches(source, size)):
            batch, index = jax.tree.map(way.rows, (batch, np.arange(i * size, (i + 1) * size)))
            sums.append(totals(variables, batch, index))
        sums = jax.device_get(sums)
        return {
            f"validation/{k}": float(sum(s[k] for s in sums)) / len(source.images) for k in sums[0]
        }

    return run


def check_same_run(config, workdir: str, report: Callable[[str], None]) -> None:
    """Raises InputError when `workdir` holds checkpoints of another config; reports what a change
    of length means.
    """
    if not checkpoint.steps_in(checkpoint.folder_of(workdir)):
        return  # there is nothing to go on from: whatever an earlier attempt left is overwritten
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
            f"learning rate of "
            f"{', '.join(decays)} decays over all steps, so this is not the run that had "
            f"{config.train.steps} from the start"
        )
    if changed:
        name, (old, new) = next(iter(changed.items()))
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise InputError(
            f"{workdir} holds a run of another config: config.{name} was {old!r} and is now "
            f"{new!r}{more}; "
            "give another --workdir, or the old values"
        )


def make_folder(workdir: str) -> None:
    """Create the run's folder; raises InputError where that cannot be."""
    files.writable_folder(workdir)


def check_best(config, players: dict[str, Player]) -> None:
    """Raises InputError when config.checkpoint.best is nothing that validation measures."""
    best = config.checkpoint.best
    terms = {name: ("loss", *(row.name for row in player.rows)) for name, player in players.items()}
    measured = [f"validation/{name}/{term}" for name in players for term in terms[name]]
    if best and best not in measured:
        raise InputError(
            f"config.checkpoint.best '{best}' is not measured: {nearest(best, measured)}"
        )
    if best and not config.train.eval_every:
        raise InputError("config.checkpoint.best needs validation: set config.train.eval_every")


def check_finite(state: TrainState, checkpoints: checkpoint.Checkpoints) -> None:
    """Raises InputError when a loss was not finite at some step so far."""
    bad = int(state.bad_step)
    if bad >= 0:
        raise InputError(
            f"the loss became NaN or infinite at step {bad}; {checkpoints.last_good()}: "
            f"{checkpoint.DIVERGED}"
        )


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
    except (RuntimeError, MemoryError) as error:
        if known := troubles.explained(error, checkpoints.last_good()):
            raise known from error
        raise


def overview(state: TrainState) -> str:
    """A table of all parameters (clu)."""
    from clu import parameter_overview

    table = parameter_overview.get_parameter_overview(state.params, include_stats=False)
    return re.sub(
        r"(\d)\.0\b", r"\1", table
    )  # a parameter without axes turns its totals into floats


def describe(metrics: dict[str, float], players: dict[str, Player]) -> str:
    """Losses for the progress bar."""
    return " ".join(
        f"{name if len(players) > 1 else 'loss'} {metrics[f'{name}/loss']:.4g}" for name in players
    )


def check_sampling(
    config, family: families.Family, players: dict[str, Player], draw: Callable[..., Any]
) -> None:
    """Raises InputError for sampling and likelihood options that would fail only when they are
    used, after training.
    """
    shapes = jax.eval_shape(lambda: state_lib.variables(state_lib.init(config, family, players)))
    labels = balanced_labels(1, config.data.num_classes if config.conditional else 0)
    jax.eval_shape(lambda v: draw(v, sample_keys(0, 0, 1), labels), shapes)
    if family.log_prob is not None and config.evaluation.log_prob_images:
        batch, keys = state_lib.blank_batch(config), sample_keys(0, 0, 1)
        options = dict(config.evaluation.log_prob)

        def nats(v):
            return call_with_options(
                "config.evaluation.log_prob", family.log_prob, options, v, batch, keys
            ).nats

        jax.eval_shape(nats, shapes)


class System(NamedTuple):
    """What a config asks for. validation: None where it asks for none. draw: samples for the grids."""

    family: families.Family
    players: dict[str, Player]
    way: parallel.Parallel
    records: data.Records
    validation: data.Source | None
    draw: Callable[..., Any]


def build(config, workdir: str, report: Callable[[str], None]) -> System:
    """The config's system. Raises InputError for whatever can be known to be wrong before the run
    is touched.
    """
    config_lib.check(config)
    check_same_run(config, workdir, report)
    family = families.build(config)
    players = players_lib.build(config, family)
    check_best(config, players)
    way = parallel.from_config(config)
    draw = sampler(family, config.sample.options)
    check_sampling(config, family, players, draw)
    make_folder(workdir)
    records = open_source(config, "train")
    validation = load_source(config, "validation") if config.train.eval_every else None
    return System(family, players, way, records, validation, draw)


def best_so_far(
    name: str, rows: list[dict[str, Any]], steps: list[int]
) -> tuple[float, int | None]:
    """(smallest value of the metric `name`, its step) among the steps that have a checkpoint, as
    process 0 reads them.
    """
    scored = [(row[name], row["step"]) for row in rows if name in row and row["step"] in steps]
    found = min((pair for pair in scored if math.isfinite(pair[0])), default=(math.inf, -1))
    value, step = distributed.of_main(np.array(found, np.float64))
    return float(value), int(step) if step >= 0 else None


def describe_cost(cost: dispatch.Cost) -> str:
    """What compiling took, and what a step takes."""
    return (
        f"compiled in {cost.seconds:.1f} s: {cost.flops / 1e9:.3g} GFLOP a step and at most "
        f"{cost.bytes / 2**20:.3g} MiB on each device"
    )


def train(
    config,
    workdir: str,
    *,
    progress: bool = True,
    report: Callable[[str], None] = print,
    parameters: bool = True,
    profile: bool = False,
) -> Result:
    """Train the config's system in `workdir` up to config.train.steps, going on from its newest
    checkpoint.

    progress: a progress bar on standard error. report: where notices go. parameters: report a table
    of them at step 0, and what the compiled step costs. profile: write a trace of some steps.
    Raises InputError for input that cannot be used, or a loss or parameter that is not finite, and
    RetryError for a checkpoint or log that cannot be written or data that stop coming."""
    main = distributed.is_main()
    report = report if main else lambda text: None
    with distributed.together("the start"):
        family, players, way, records, validation, draw = build(config, workdir, report)
    create = state_lib.initial(config, family, players)
    shapes = way.with_shardings(jax.eval_shape(create))
    name, best = config.checkpoint.best, (math.inf, None)
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock.hold(workdir))
        checkpoints = checkpoint.open_folder(
            workdir, keep=config.checkpoint.keep, best_step=lambda: best[1], report=report
        )
        stopped = stack.enter_context(stopping.stop_requests())
        stack.enter_context(contextlib.closing(checkpoints))
        stack.enter_context(write_errors(workdir, checkpoints))
        if main:
            config_lib.write(config, workdir)
        state = checkpoints.restore(shapes)
        resumed = state is not None
        state = state if resumed else way.create(create)
        first, last = int(state.step), config.train.steps
        if parameters and not resumed:
            report(overview(state))
        if 0 < first < last:
            report(f"resuming {workdir} from step {first}")
        check_finite(state, checkpoints)
        per_step = players_lib.batches_per_step(players)
        longest = config.train.steps_per_dispatch
        feed = open_feed(records, config, per_step, way, np.asarray(state.position))
        stack.callback(feed.close)
        examples = per_step * config.train.batch_size
        steps = dispatch.build(
            step.build(config, family, players, way), feed, examples, longest, way
        )
        validate = validator(config, family, players, way)
        rows = logging.read_metrics(workdir)
        best = best_so_far(name, rows, checkpoints.steps())
        log = stack.enter_context(
            contextlib.closing(logging.open_log(workdir, first) if main else logging.SILENT)
        )
        bar = stack.enter_context(
            logging.progress_bar(last, first, config.name or config.family, progress and main)
        )
        trace = stack.enter_context(profiling.trace(workdir if profile and main else None, report))
        state, done, pending, cost = (
            way.enter(state),
            first,
            logging.Pending(first, config.train.log_every),
            None,
        )
        start = pending.since - max((row.get("seconds", 0.0) for row in rows), default=0.0)

        breaks = config.train.eval_every, config.train.sample_every, config.checkpoint.every

        def due(every: int) -> bool:
            return bool(every) and (done % every == 0 or done == last)

        while done < last:
            count = min(longest, last - done, *(every - done % every for every in breaks if every))
            loaded = feed.load(count)
            if cost is None:
                cost = steps.compile(state, loaded, count)
                if parameters:
                    report(describe_cost(cost))
            state, metrics = steps.run(state, loaded, count)
            done += count
            pending.add(metrics, count)
            bar.update(count)
            trace(state)
            stop, improved = stopped(done), False
            logs, evaluates = pending.due(last), due(config.train.eval_every)
            samples, saves = due(config.train.sample_every), due(config.checkpoint.every)
            if not (logs or evaluates or samples or saves or stop):
                continue
            single = way.leave(state)
            check_finite(single, checkpoints)
            checkpoints.check()
            now = time.perf_counter()
            if logs:
                rate = pending.rate(now)
                speed = {"images_per_second": rate * examples, "seconds": now - start}
                if peak := programs.peak_flops():
                    speed["mfu"] = rate * cost.flops / peak
                for at, means in pending.rows(last):
                    log.scalars(at, {**means, **speed})
                bar.set_postfix_str(
                    f"{describe(means, players)}, {rate * examples:.0f} images/s", refresh=False
                )
            if evaluates:
                validated = validate(state_lib.variables(single), validation)
                log.scalars(done, validated)
                improved = validated.get(name, math.inf) < best[0]
                best = (validated[name], done) if improved else best
            if saves or improved or stop:
                checkpoints.save(single)
            if samples:
                labels = balanced_labels(
                    GRID_SAMPLES, config.data.num_classes if config.conditional else 0
                )
                images = generate(
                    draw, state_lib.variables(single), GRID_SAMPLES,
                    seed=0, batch_size=GRID_SAMPLES, labels=labels, place=way.rows,
                )  # fmt: skip
                log.images(done, "samples", images)
            pending.pause(time.perf_counter() - now)  # images/s are of training alone
            if stop:
                break
    if best[1] is not None and first < last:
        report(
            f"best {name} is {best[0]:.5g}, of step {best[1]} (jaxgen sample "
            f"--checkpoint={best[1]})"
        )
    return Result(way.leave(state), stopped(done))
