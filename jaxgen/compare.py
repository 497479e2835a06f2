"""Several systems side by side: train what is missing, evaluate, report."""

import hashlib
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

import jaxgen
from jaxgen import config as config_lib
from jaxgen import files, report, spaces
from jaxgen.errors import InputError
from jaxgen.evaluation import measure, record, reference, scores
from jaxgen.plain import plain
from jaxgen.runs import open_run, training_cost, training_seconds
from jaxgen.training import logging, train

GRID_PIXELS = 640  # of a grid of large images, which has at least 4 x 4 of them


class Stopped(Exception):
    """A signal ended the comparison. What was done is saved; the same call goes on from there."""

    def __init__(self, number: int):
        super().__init__(f"stopped by signal {number}")
        self.number = number


class Entry(NamedTuple):
    """A system of the experiment. path: its config file as the experiment names it. training: the
    folder of its run, which variants that differ in sampling alone share. value: on the
    experiment's axis, or None."""

    name: str
    path: str
    config: Any
    training: str
    value: float | None


def folder_name(name: str) -> str:
    """A system's name as a folder name."""
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in name.lower())


def find(path: str, experiment: str) -> str:
    """The config file `path`, or `path:mode`, from the folder of the file `experiment` upwards, and
    from the current folder. Raises InputError where there is none."""
    path = os.path.expanduser(path)
    places = [*Path(experiment).parents, Path.cwd()]
    for place in places:
        if os.path.isfile(place / config_lib.split_mode(path)[0]):
            return os.path.relpath(place / path)
    raise InputError(
        f"config file {path} does not exist: looked for it in {places[0]}, the folders above that, "
        f"and the current folder {places[-1]}"
    )


def load_systems(experiment) -> list[Entry]:
    """The experiment's systems, their overrides applied, all checked before any is trained."""
    config_lib.check_experiment(experiment)
    mode = f":{experiment.mode}" if experiment.mode else ""
    systems: list[Entry] = []
    for entry in experiment.systems:
        spec = config_lib.system(entry) if isinstance(entry, str) else entry
        config = config_lib.load(f"{find(spec['path'], experiment.file)}{mode}")
        for field, value in spec["overrides"].items():
            config_lib.override(config, field, value)
        if experiment.data_dir:
            config.data.data_dir = files.expand(experiment.data_dir)
        config_lib.check(config)
        config.name = spec["name"] or config.name
        same = [s.training for s in systems if not config_lib.differences(s.config, config)]
        folder = folder_name(config.name)
        if folder in [folder_name(s.name) for s in systems]:
            raise InputError(f"two systems of the experiment are called '{config.name}'")
        training = same[0] if same else folder
        systems.append(Entry(config.name, spec["path"], config, training, spec["value"]))
    if not systems:
        raise InputError("the experiment names no systems")
    for system in systems:
        if system.config.data.to_dict() != systems[0].config.data.to_dict():
            raise InputError(
                f"system '{system.name}' has other data than the first one: a comparison needs the "
                f"same"
            )
        system.config.evaluation = experiment.evaluation
    return systems


def curves(workdir: str) -> dict[str, list[list[float]]]:
    """A run's losses and terms over its steps; a term that is a player's whole loss is not
    repeated.
    """
    result: dict[str, list[list[float]]] = {}
    for row in logging.read_metrics(workdir):
        for name, value in row.items():
            if "/" in name and not name.endswith("learning_rate"):
                result.setdefault(name, []).append([row["step"], value])

    def repeats(name):
        loss = f"{name.rpartition('/')[0]}/loss"
        return name != loss and result.get(loss) == result[name]

    return {name: curve for name, curve in result.items() if not repeats(name)}


def write_grid(path: str, images: UInt8[np.ndarray, "N H W C"]) -> None:
    """The first images as a PNG: 100 of them, or fewer where they are large."""
    columns = min(10, max(4, GRID_PIXELS // max(images.shape[1:3])))
    logging.write_png(path, images[: columns**2])


def measured(
    system: Entry, refs: reference.References, folder: str, training: str, progress: bool
) -> dict[str, Any]:
    """The system's evaluation.json in `folder`, measured now unless the same code has measured the
    same before.
    """
    config, path = system.config, os.path.join(folder, "evaluation.json")
    run = open_run(training, config.sample.ema, config=config)
    asked = [
        run.step,
        config.sample.to_dict(),
        config.evaluation.to_dict(),
        refs.protocol,
        jaxgen.__version__,
        record.machine(),
    ]
    key, commit = (
        hashlib.sha256(json.dumps(asked, default=str).encode()).hexdigest(),
        record.commit(),
    )
    known = record.read(path)
    if known and known.get("key") == key and known["commit"] == commit and not commit.endswith("+"):
        return known
    total = config.evaluation.num * len(config.evaluation.seeds)
    with logging.progress_bar(total, 0, f"{system.name}: samples", progress, unit="image") as bar:
        found, images = measure.evaluate(
            run, refs, options=config.sample.options, ema=run.ema, progress=bar.update
        )
    found["cost"] |= training_cost(training)
    found = {**found, "step": run.step, "workdir": training, "key": key}
    record.keep_samples(images, os.path.join(folder, "samples"))
    shown = run.space.picture(images[config.evaluation.seeds[0]])
    write_grid(os.path.join(folder, "samples.png"), shown)
    record.write(found, path)
    return found


def run_system(
    system: Entry, refs: reference.References, workdir: str, progress: bool
) -> tuple[report.System, dict[str, Any]]:
    """Train (or go on training) one system and evaluate it: its part of the results, its record."""
    config, training = system.config, os.path.join(workdir, system.training)
    result = train(config, training, progress=progress, parameters=False)
    if result.signal is not None:
        raise Stopped(result.signal)
    folder = folder_name(system.name)
    found = plain(measured(system, refs, os.path.join(workdir, folder), training, progress))
    batches = config.train.steps * max(player.updates for player in config.players.values())
    part = report.System(
        name=system.name,
        config=system.path,
        workdir=training,
        parameters=found["parameters"],
        training={"steps": found["step"], "seconds": training_seconds(training),
                  "images": batches * config.train.batch_size},
        sampler=dict(config.sample.options),
        nfe=found["nfe"],
        cost=found["cost"],
        scores=report.estimates(found["scores"]),
        curves=plain(curves(training)),
        grid=os.path.join(folder, "samples.png"),
    )  # fmt: skip
    return part, found


def compare(
    experiment, workdir: str, *, require: Sequence[str] = (), progress: bool = True
) -> tuple[report.Results, str]:
    """Run the experiment in `workdir`: (results, path of report.html). Finished parts of an earlier
    call are kept.

    require: constraints such as "latency_ms<=5", by which the report picks from the Pareto front.
    Raises InputError for systems that cannot be compared, since all must share their data, and
    Stopped on a signal."""
    systems, workdir = load_systems(experiment), files.writable_folder(workdir)
    refs = reference.references(systems[0].config)
    described = report.score_values(scores.describe(refs.rows))
    required = {report.requirement(text, described).score.id for text in require}
    space = spaces.from_config(systems[0].config)
    write_grid(os.path.join(workdir, "real.png"), space.picture(refs.real.source))
    parts, records = zip(*(run_system(system, refs, workdir, progress) for system in systems))
    first = records[0]
    shared = {
        name: value
        for name, value in first["protocol"].items()
        if name not in ("sampler", "guidance", "parameters")
        and all(found["protocol"].get(name) == value for found in records)
    }
    present = required.union(*(part.scores for part in parts))
    floors = report.estimates(first["floors"])
    axis = experiment.axis
    results = report.Results(
        title=experiment.title,
        question=experiment.question,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command="jaxgen " + shlex.join(sys.argv[1:]),
        commit=first["commit"],
        machine=first["machine"],
        protocol=shared,
        systems=parts,
        scores=tuple(replace(s, floor=floors.get(s.id)) for s in described if s.id in present),
        requirements=tuple(require),
        reference_grid="real.png",
        axis=report.Axis(axis.name, tuple(s.value for s in systems), axis.log)
        if axis.name
        else None,
    )
    return results, report.write(results, workdir)
