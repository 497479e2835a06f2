"""A finished or running training run, opened from its folder for sampling and evaluation."""

from typing import NamedTuple

import jax

from jaxgen import config as config_lib
from jaxgen import families
from jaxgen.errors import InputError
from jaxgen.families.base import Family, Variables
from jaxgen.training import checkpoint, state
from jaxgen.training import players as players_lib


class Run(NamedTuple):
    """config: as saved beside the run. family: its wiring. variables and step: of the checkpoint. ema: the rate of the
    average that the variables are, or None for the raw parameters."""

    config: object
    family: Family
    variables: Variables
    step: int
    ema: str | None


def open_run(workdir: str, ema: str = "", step: int | None = None, config=None) -> Run:
    """The newest readable checkpoint in `workdir`, or the one of `step`.

    ema: a rate such as "0.999", "none" for the raw parameters, or "" for the slowest rate that the run has.
    config: in place of the saved one, from which it may differ in what a resumed run may change.
    Raises InputError when there is no run, no checkpoint, or no such average.
    """
    saved = config_lib.read(workdir)
    config = saved if config is None else config
    for name, (old, new) in config_lib.differences(saved, config).items():
        raise InputError(f"config.{name} is {old!r} in {workdir} and cannot be {new!r} without training again")
    family = families.build(config)
    players = players_lib.build(config, family)
    like = jax.eval_shape(lambda: state.init(config, family, players))
    checkpoints = checkpoint.open_folder(workdir, read_only=True)
    restored = checkpoints.restore(like, step)
    checkpoints.close()
    if restored is None:
        raise InputError(f"no checkpoints in {workdir}: train first, or give another --workdir")
    rate = state.chosen_rate(restored, {"": "slowest", "none": None}.get(ema, ema))
    return Run(config, family, jax.device_put(state.variables(restored, rate)), int(restored.step), rate)
