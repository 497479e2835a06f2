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
    """config: as saved beside the run. family: its wiring. variables: of the checkpoint. step: of the checkpoint."""

    config: object
    family: Family
    variables: Variables
    step: int


def open_run(workdir: str, ema: str = "", step: int | None = None) -> Run:
    """The newest readable checkpoint in `workdir`, or the one of `step`.

    ema: a rate such as "0.999", "none" for the raw parameters, or "" for the first rate that the run has.
    Raises InputError when there is no run, no checkpoint, or no such average.
    """
    config = config_lib.read(workdir)
    family = families.build(config)
    players = players_lib.build(config, family)
    like = jax.eval_shape(lambda: state.init(config, family, players))
    checkpoints = checkpoint.open_folder(workdir, read_only=True)
    restored = checkpoints.restore(like, step)
    checkpoints.close()
    if restored is None:
        raise InputError(f"no checkpoints in {workdir}: train first, or give another --workdir")
    chosen = state.variables(restored, {"": "first", "none": None}.get(ema, ema))
    return Run(config, family, jax.device_put(chosen), int(restored.step))
