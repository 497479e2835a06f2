"""A finished or running training run, opened from its folder for sampling and evaluation."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import config as config_lib
from jaxgen import families, programs
from jaxgen.errors import InputError
from jaxgen.families.base import Family, Variables
from jaxgen.training import checkpoint, logging, state, step
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

    ema: a rate such as "0.999", "none" for the raw parameters, or "" for config.sample.ema.
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
    ema = ema or config.sample.ema
    rate = state.chosen_rate(restored, {"": "slowest", "none": None}.get(ema, ema))
    return Run(
        config, family, jax.device_put(state.variables(restored, rate)), int(restored.step), rate
    )


def training_seconds(workdir: str) -> float:
    """Wall-clock seconds of training so far, over all resumptions."""
    return max((row.get("seconds", 0.0) for row in logging.read_metrics(workdir)), default=0.0)


def training_cost(run: Run, workdir: str) -> dict[str, float | None]:
    """{"training_flops_per_image", "training_images_per_second"}: as XLA counts the step; the
    median over the run's log.
    """
    config, players = run.config, players_lib.build(run.config, run.family)
    like = jax.eval_shape(lambda: state.init(config, run.family, players))
    images = config.train.batch_size * players_lib.batches_per_step(players)
    leading = (
        (images,)
        if images == config.train.batch_size
        else (images // config.train.batch_size, config.train.batch_size)
    )
    batch = {"image": jax.ShapeDtypeStruct((*leading, *config.data.image_shape), jnp.uint8)}
    if config.data.num_classes:
        batch["label"] = jax.ShapeDtypeStruct(leading, jnp.int32)
    compiled = (
        programs.jit(step.build(config, run.family, players), donate_argnums=0)
        .lower(like, batch)
        .compile()
    )
    rates = [
        row["images_per_second"]
        for row in logging.read_metrics(workdir)
        if "images_per_second" in row
    ]
    return {
        "training_flops_per_image": programs.flops(compiled) / images,
        "training_images_per_second": float(np.median(rates)) if rates else None,
    }
