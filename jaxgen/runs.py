"""A finished or running training run, opened from its folder for sampling and evaluation."""

import dataclasses
import json
import os

import jax
import numpy as np

from jaxgen import files
from jaxgen.artefact import Artefact
from jaxgen.training import logging, saved, state


@dataclasses.dataclass(frozen=True, repr=False)
class Run(Artefact):
    """A run's model. workdir, step: of the checkpoint. ema: the rate of the average that the
    variables are, or None for the raw parameters."""

    workdir: str = ""
    step: int = 0
    ema: str | None = None

    def __repr__(self) -> str:
        average = f"average of rate {self.ema}" if self.ema else "raw parameters"
        return f"{super().__repr__()[:-1]}; step {self.step} of {self.workdir}, {average})"


def open_run(workdir: str, ema: str | None = None, step: int | None = None, config=None) -> Run:
    """The newest readable checkpoint in `workdir`, or the one of `step`.

    ema: a rate such as "0.999", "none" for the raw parameters, "" for the slowest rate that the run
    has; None: as config.sample.ema says. config: in place of the saved one, from which it may
    differ in what no finished step depends on. Raises InputError when there is no run, no
    checkpoint, or no such average.
    """
    found = saved.read(workdir, step, config)
    ema = str(found.config.sample.ema if ema is None else ema)
    rate = state.chosen_rate(found.state, ema)
    variables = jax.device_put(state.variables(found.state, rate))
    return Run(
        found.config, found.family, variables, workdir=workdir, step=int(found.state.step), ema=rate
    )


def training_seconds(workdir: str) -> float:
    """Wall-clock seconds of training so far, over all resumptions."""
    return max((row.get("seconds", 0.0) for row in logging.read_metrics(workdir)), default=0.0)


def training_cost(workdir: str) -> dict[str, float | None]:
    """{"training_flops_per_image", "training_images_per_second"}: by the run's cost.json (see
    training.loop), and the median over its log; None where a run has no such file or rows.
    """
    try:
        cost = json.loads(files.read(os.path.join(workdir, "cost.json")))
        flops = cost["flops"] / cost["examples"]
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        flops = None
    rows = logging.read_metrics(workdir)
    rates = [row["images_per_second"] for row in rows if "images_per_second" in row]
    return {
        "training_flops_per_image": flops,
        "training_images_per_second": float(np.median(rates)) if rates else None,
    }
