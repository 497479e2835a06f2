"""A finished or running training run, opened from its folder for sampling and evaluation."""

import json
import os
from typing import NamedTuple

import jax
import numpy as np

from jaxgen import config as config_lib
from jaxgen import families
from jaxgen.errors import InputError
from jaxgen.families.base import Family, Variables
from jaxgen.training import checkpoint, logging, state
from jaxgen.training import players as players_lib


class Run(NamedTuple):
    """config: as saved beside the run. family: its wiring. variables and step: of the checkpoint.
    ema: the rate of the average that the variables are, or None for the raw parameters."""

    config: object
    family: Family
    variables: Variables
    step: int
    ema: str | None


def open_run(workdir: str, ema: str = "", step: int | None = None, config=None) -> Run:
    """The newest readable checkpoint in `workdir`, or the one of `step`.

    ema: a rate such as "0.999", "none" for the raw parameters, or "" for the slowest rate that the
    run has.
    config: in place of the saved one, from which it may differ in what a resumed run may change.
    Raises InputError when there is no run, no checkpoint, or no such average.
    """
    saved = config_lib.read(workdir)
    config = saved if config is None else config
    for name, (old, new) in config_lib.differences(saved, config).items():
        raise InputError(
            f"config.{name} is {old!r} in {workdir} and cannot be {new!r} without training again"
        )
    family = families.build(config)
    players = players_lib.build(config, family)
    like = jax.eval_shape(lambda: state.init(config, family, players))
    checkpoints = checkpoint.open_folder(workdir, read_only=True)
    restored = checkpoints.restore(like, step)
    checkpoints.close()
    if restored is None:
        raise InputError(f"no checkpoints in {workdir}: train first, or give another --workdir")
    rate = state.chosen_rate(restored, {"": "slowest", "none": None}.get(ema, ema))
    return Run(
        config, family, jax.device_put(state.variables(restored, rate)), int(restored.step), rate
    )


def training_seconds(workdir: str) -> float:
    """Wall-clock seconds of training so far, over all resumptions."""
    return max((row.get("seconds", 0.0) for row in logging.read_metrics(workdir)), default=0.0)


def training_cost(workdir: str) -> dict[str, float | None]:
    """{"training_flops_per_image", "training_images_per_second"}: by the run's cost.json (see
    training.loop), and the median over its log; None where a run has no such file or rows.
    """
    try:
        with open(os.path.join(workdir, "cost.json")) as file:
            cost = json.load(file)
        flops = cost["flops"] / cost["examples"]
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        flops = None
    rates = [
        row["images_per_second"]
        for row in logging.read_metrics(workdir)
        if "images_per_second" in row
    ]
    return {
        "training_flops_per_image": flops,
        "training_images_per_second": float(np.median(rates)) if rates else None,
    }
