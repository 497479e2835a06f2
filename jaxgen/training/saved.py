"""What a run has saved: its config and the state of one of its checkpoints; and networks that
begin as those of another run."""

from typing import Any, NamedTuple

import jax

from jaxgen import config as config_lib
from jaxgen import families
from jaxgen.errors import InputError
from jaxgen.families.base import Family
from jaxgen.training import checkpoint
from jaxgen.training import players as players_lib
from jaxgen.training import state as state_lib
from jaxgen.training.state import TrainState


class Saved(NamedTuple):
    """config: in force. family: its wiring. state: of the checkpoint, on one device."""

    config: Any
    family: Family
    state: TrainState


def read(workdir: str, step: int | None = None, config=None) -> Saved:
    """The newest readable checkpoint in `workdir`, or the one of `step`.

    config: in place of the saved one, from which it may differ in what no finished step depends on.
    Raises InputError when there is no run or no checkpoint.
    """
    saved = config_lib.read(workdir)
    config = saved if config is None else config
    for name, (old, new) in config_lib.differences(saved, config).items():
        raise InputError(
            f"config.{name} is {old!r} in {workdir} and cannot be {new!r} without training again"
        )
    family = families.build(config)
    players = players_lib.build(config, family)
    like = jax.eval_shape(lambda: state_lib.init(config, family, players))
    checkpoints = checkpoint.open_folder(workdir, read_only=True)
    try:
        state = checkpoints.restore(like, step)
    finally:
        checkpoints.close()
    if state is None:
        raise InputError(f"no checkpoints in {workdir}: train first, or give another --workdir")
    return Saved(config, family, state)


def begin(config, state: TrainState) -> TrainState:
    """`state` whose networks of `config.pretrained` have the weights of other runs, those in
    averages too.

    Each is {workdir, network (its own name), ema (the slowest; "none": the raw parameters)}.
    Raises InputError where a run has no such network, or one of another shape.
    """
    for network, source in config.pretrained.items():
        weights = _weights(f"config.pretrained.{network}", network, source)
        new = {}
        for part, tree in (("params", state.params), ("frozen", state.frozen)):
            if network in tree:
                new[part] = {**tree, network: _placed(network, tree[network], weights, source)}
        new["ema"] = {
            rate: {**tree, network: _placed(network, tree[network], weights, source)}
            if network in tree
            else tree
            for rate, tree in state.ema.items()
        }
        state = state._replace(**new)
    return state


def _weights(where: str, network: str, source) -> Any:
    if not source.get("workdir"):
        raise InputError(f"{where}.workdir is missing: the folder of the run that it comes from")
    saved, name = read(source.workdir), source.get("network", network)
    ema = source.get("ema", "")
    rate = {"": "slowest", "none": None}.get(ema, ema)
    params = state_lib.variables(saved.state, rate)["params"]
    if name not in params:
        has = ", ".join(params)
        raise InputError(f"{where}: the run {source.workdir} has no network '{name}', only {has}")
    return params[name]


def _placed(network: str, old, new, source) -> Any:
    """`new` where `old` lives, if they have the same shapes."""
    shapes = lambda tree: jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree)  # noqa: E731
    if jax.tree.structure(old) != jax.tree.structure(new) or shapes(old) != shapes(new):
        raise InputError(
            f"config.pretrained.{network}: the network of {source.workdir} has another architecture"
        )
    return jax.tree.map(lambda a, b: jax.device_put(b, a.sharding).copy(), old, new)
