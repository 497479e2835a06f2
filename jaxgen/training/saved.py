"""What a run has saved: its config and the state of one of its checkpoints; and networks that
begin as those of another run."""

from typing import Any, NamedTuple

import jax

from jaxgen import config as config_lib
from jaxgen import families, files
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


def pretrained(config) -> dict[str, Any]:
    """{network: params} of `config.pretrained`: networks that begin as those of other runs.

    Each is {workdir, network (its own name), ema (the slowest; "none": the raw parameters)}; the
    workdir "none" leaves a network as it is drawn. Raises InputError where there is no such run, or
    it has no such network.
    """
    found = {}
    for network, source in config.pretrained.items():
        where, workdir = f"config.pretrained.{network}", files.expand(source.workdir)
        if workdir == "none":
            continue
        if not workdir:
            raise InputError(f"{where}.workdir is missing: the folder of the run to begin with")
        other, name, ema = read(workdir), source.get("network") or network, source.get("ema", "")
        params = state_lib.variables(other.state, ema)["params"]
        if name not in params:
            has = ", ".join(params)
            raise InputError(f"{where}: the run {workdir} has no network '{name}', only {has}")
        found[network] = params[name]
    return found


def begin(state: TrainState, weights: dict[str, Any]) -> TrainState:
    """`state` with these networks in place of its own, in its averages too, and where they live.

    Raises InputError for a network of another architecture.
    """

    def placed(tree):
        return {n: _like(n, old, weights[n]) if n in weights else old for n, old in tree.items()}

    return state._replace(
        params=placed(state.params),
        frozen=placed(state.frozen),
        ema={rate: placed(tree) for rate, tree in state.ema.items()},
    )


def _like(network: str, old, new) -> Any:
    def shapes(tree):
        return jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree)

    if shapes(old) != shapes(new):
        raise InputError(
            f"config.pretrained.{network}: the network of that run has another architecture"
        )
    return jax.tree.map(lambda a, b: jax.device_put(b, a.sharding).copy(), old, new)
