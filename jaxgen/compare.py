"""Several systems side by side: train what is missing, evaluate, report."""

import json
import os
import shlex
import sys
from datetime import UTC, datetime
from typing import Any

import numpy as np

from jaxgen import config as config_lib
from jaxgen.errors import InputError
from jaxgen.evaluation import protocol, report
from jaxgen.runs import open_run
from jaxgen.training import load_source, logging, train

GRID_SAMPLES = 100


class Stopped(Exception):
    """A signal ended the comparison; what was done is saved, and the same call goes on from there."""

    def __init__(self, number: int):
        super().__init__(f"stopped by signal {number}")
        self.number = number


def folder_name(name: str) -> str:
    """A system's name as a folder name."""
    return "".join(c if c.isalnum() else "_" for c in name.lower())


def load_systems(experiment) -> dict[str, Any]:
    """{folder name: config} of the experiment's systems, its overrides applied, all checked before any is trained."""
    mode = f":{experiment.mode}" if experiment.mode else ""
    systems = {}
    for path in experiment.systems:
        config = config_lib.load(f"{path}{mode}", {})
        for field, value in experiment.overrides.items():
            config_lib.override(config, field, value)
        config_lib.check(config)
        name = folder_name(config.name)
        if name in systems:
            raise InputError(f"two systems of the experiment are called '{config.name}'")
        systems[name] = config
    if not systems:
        raise InputError("the experiment names no systems")
    return systems


def curves(workdir: str) -> dict[str, list[list[float]]]:
    """A run's losses and terms over its steps; a term that is a player's whole loss is not repeated."""
    result: dict[str, list[list[float]]] = {}
    for row in logging.read_metrics(workdir):
        for name, value in row.items():
            if "/" in name and not name.endswith("learning_rate"):
                result.setdefault(name, []).append([row["step"], value])

    def repeats(name):
        loss = f"{name.rpartition('/')[0]}/loss"
        return name != loss and result.get(loss) == result[name]

    return {name: curve for name, curve in result.items() if not repeats(name)}


def training_seconds(workdir: str) -> float:
    """Wall-clock seconds of training so far, over all resumptions."""
    return max((row.get("seconds", 0.0) for row in logging.read_metrics(workdir)), default=0.0)


def run_system(config, workdir: str, refs, experiment_folder: str, progress: bool) -> dict[str, Any]:
    """Train (or go on training) one system, evaluate it, and return its part of the results."""
    result = train(config, workdir, progress=progress, parameters=False)
    if result.signal is not None:
        raise Stopped(result.signal)
    run = open_run(workdir)
    total = config.evaluation.num * len(config.evaluation.seeds)
    with logging.progress_bar(total, 0, f"{config.name}: samples", progress, unit="image") as bar:
        record, images = protocol.evaluate(
            config, run.family, run.variables, refs, options=config.sample.options, ema=run.ema, progress=bar.update
        )
    write_record({**record, "step": run.step, "workdir": workdir}, os.path.join(workdir, "evaluation.json"))
    np.savez_compressed(os.path.join(workdir, "samples.npz"), arr_0=images)
    grid = os.path.join("grids", f"{os.path.basename(workdir)}.png")
    logging.write_png(os.path.join(experiment_folder, grid), images[:GRID_SAMPLES])
    batches = config.train.steps * max(player.updates for player in config.players.values())
    return {
        "name": config.name,
        "workdir": workdir,
        "parameters": record["parameters"],
        "training": {"steps": run.step, "seconds": training_seconds(workdir), "images": batches * config.train.batch_size},
        "sampler": dict(config.sample.options),
        "nfe": record["nfe"],
        "scores": record["scores"],
        "curves": curves(workdir),
        "grid": grid,
        "record": record,
    }


def write_record(record: dict[str, Any], path: str) -> None:
    """A record as JSON, atomically."""
    with open(f"{path}.tmp", "w") as file:
        json.dump(record, file, indent=2, default=float)
        file.write("\n")
    os.replace(f"{path}.tmp", path)


def compare(experiment, workdir: str, *, progress: bool = True) -> tuple[dict[str, Any], str]:
    """Run the experiment in `workdir`: (results, path of report.html). Finished parts of an earlier call are kept.

    Raises InputError for systems that cannot be compared, since all must share their data, and Stopped on a signal.
    """
    systems = load_systems(experiment)
    first = next(iter(systems.values()))
    for name, config in systems.items():
        if config.data.to_dict() != first.data.to_dict():
            raise InputError(f"system '{name}' has other data than the first one: a comparison needs the same")
        config.evaluation = experiment.evaluation
    refs = protocol.references(first, load_source)
    os.makedirs(workdir, exist_ok=True)
    real = os.path.join("grids", "real.png")
    logging.write_png(os.path.join(workdir, real), refs.held_out.images[:GRID_SAMPLES])
    parts = []
    for path, (name, config) in zip(experiment.systems, systems.items(), strict=True):
        part = run_system(config, os.path.join(workdir, name), refs, workdir, progress)
        parts.append({**part, "config": path})
    record = parts[0]["record"]
    per_system = {"sampler", "sampling batch size"}
    measured = {name for part in parts for name in part["scores"]}
    results = {
        "title": experiment.title,
        "question": experiment.question,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "jaxgen " + shlex.join(sys.argv[1:]),
        "commit": record["commit"],
        "machine": record["machine"],
        "protocol": {k: v for k, v in record["protocol"].items() if k not in per_system},
        "systems": [{k: v for k, v in part.items() if k != "record"} for part in parts],
        "scores": [
            {**score, "floor": record["floors"].get(score["id"])} for score in protocol.SCORES if score["id"] in measured
        ],
        "reference_grid": real,
    }
    return results, report.write(results, workdir)
