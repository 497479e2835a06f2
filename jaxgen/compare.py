"""Several systems side by side: train what is missing, evaluate, report."""

import hashlib
import json
import os
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import jaxgen
from jaxgen import config as config_lib
from jaxgen.errors import InputError
from jaxgen.evaluation import protocol, ranking, record, report, scores
from jaxgen.runs import open_run, training_cost, training_seconds
from jaxgen.training import load_source, logging, train

GRID_SAMPLES = 100


class Stopped(Exception):
    """A signal ended the comparison; what was done is saved, and the same call goes on from there."""

    def __init__(self, number: int):
        super().__init__(f"stopped by signal {number}")
        self.number = number


class System(NamedTuple):
    """One row of the comparison. path: its config file. training: the folder of its run, which
    variants that differ in sampling alone share. value: on the experiment's axis, or None."""

    name: str
    path: str
    config: Any
    training: str
    value: float | None


def folder_name(name: str) -> str:
    """A system's name as a folder name."""
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in name.lower())


def load_systems(experiment) -> list[System]:
    """The experiment's systems, their overrides applied, all checked before any is trained."""
    config_lib.check_experiment(experiment)
    mode = f":{experiment.mode}" if experiment.mode else ""
    systems: list[System] = []
    for entry in experiment.systems:
        spec = config_lib.system(entry) if isinstance(entry, str) else entry
        config = config_lib.load(f"{config_lib.find(spec['path'], experiment.folder)}{mode}")
        for field, value in spec["overrides"].items():
            config_lib.override(config, field, value)
        if experiment.data_dir:
            config.data.data_dir = experiment.data_dir
        config_lib.check(config)
        config.name = spec["name"] or config.name
        same = [s.training for s in systems if not config_lib.differences(s.config, config)]
        folder = folder_name(config.name)
        if folder in [folder_name(s.name) for s in systems]:
            raise InputError(f"two systems of the experiment are called '{config.name}'")
        systems.append(
            System(config.name, spec["path"], config, same[0] if same else folder, spec["value"])
        )
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


def measured(
    system: System, refs: protocol.References, folder: str, training: str, progress: bool
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
    os.makedirs(folder, exist_ok=True)
    total = config.evaluation.num * len(config.evaluation.seeds)
    with logging.progress_bar(total, 0, f"{system.name}: samples", progress, unit="image") as bar:
        found, images = protocol.evaluate(
            config,
            run.family,
            run.variables,
            refs,
            options=config.sample.options,
            ema=run.ema,
            progress=bar.update,
        )
    found["cost"] |= training_cost(run, training)
    found = {**found, "step": run.step, "workdir": training, "key": key}
    record.keep_samples(images, folder)
    logging.write_png(
        os.path.join(folder, "samples.png"), images[config.evaluation.seeds[0]][:GRID_SAMPLES]
    )
    record.write(found, path)
    return found


def run_system(
    system: System, refs: protocol.References, workdir: str, progress: bool
) -> dict[str, Any]:
    """Train (or go on training) one system, evaluate it, and return its part of the results."""
    config, training = system.config, os.path.join(workdir, system.training)
    result = train(config, training, progress=progress, parameters=False)
    if result.signal is not None:
        raise Stopped(result.signal)
    folder = os.path.join(workdir, folder_name(system.name))
    found = measured(system, refs, folder, training, progress)
    batches = config.train.steps * max(player.updates for player in config.players.values())
    return {
        "name": system.name,
        "config": system.path,
        "workdir": training,
        "parameters": found["parameters"],
        "training": {"steps": found["step"], "seconds": training_seconds(training),
                     "images": batches * config.train.batch_size},
        "sampler": dict(config.sample.options),
        "nfe": found["nfe"],
        "cost": found["cost"],
        "scores": found["scores"],
        "curves": curves(training),
        "grid": os.path.join(folder_name(system.name), "samples.png"),
        "record": found,
    }  # fmt: skip


def compare(
    experiment, workdir: str, *, require: Sequence[str] = (), progress: bool = True
) -> tuple[dict[str, Any], str]:
    """Run the experiment in `workdir`: (results, path of report.html). Finished parts of an earlier
    call are kept.

    require: constraints such as "latency_ms<=5", by which the report picks from the Pareto front.
    Raises InputError for systems that cannot be compared, since all must share their data, and
    Stopped on a signal."""
    systems = load_systems(experiment)
    refs = protocol.references(systems[0].config, load_source)
    described = scores.describe(refs.extractors, refs.judge)
    required = {ranking.requirement(text, described)[0] for text in require}
    os.makedirs(workdir, exist_ok=True)
    logging.write_png(os.path.join(workdir, "real.png"), refs.real.images[:GRID_SAMPLES])
    parts = [run_system(system, refs, workdir, progress) for system in systems]
    first = parts[0]["record"]
    per_system = {name for part in parts for name, value in part["record"]["protocol"].items()
                  if value != first["protocol"].get(name)} | {"sampler", "guidance", "parameters"}  # fmt: skip
    present = required | {name for part in parts for name in part["scores"]}
    results = {
        "title": experiment.title,
        "question": experiment.question,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "jaxgen " + shlex.join(sys.argv[1:]),
        "commit": first["commit"],
        "machine": first["machine"],
        "protocol": {k: v for k, v in first["protocol"].items() if k not in per_system},
        "systems": [{k: v for k, v in part.items() if k != "record"} for part in parts],
        "scores": [
            {**score, "floor": first["floors"].get(score["id"])}
            for score in described
            if score["id"] in present
        ],
        "requirements": list(require),
        "reference_grid": "real.png",
    }
    if experiment.axis.name:
        results["axis"] = {
            **experiment.axis.to_dict(),
            "values": [system.value for system in systems],
        }
    return results, report.write(results, workdir)
