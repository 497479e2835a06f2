"""The one train state: everything that a resumed run needs, in one pytree."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, UInt32

from jaxgen import draws
from jaxgen.errors import InputError, nearest
from jaxgen.families.base import Family, Variables
from jaxgen.training.players import Player


class TrainState(NamedTuple):
    """What a step changes, and what it needs.

    Attributes:
      step: steps done.
      key: the root key's data.
      params, state: by network; the state is what gradients do not train.
      opt_state: by player.
      ema: {rate: params of the averaged networks}.
      position: (epoch, offset) of the next training example.
      bad_step: the first step whose loss was not finite, or -1.
      frozen: params of the networks that no player trains. They are part of the checkpoint, so that
        a run does not need the folder that they came from.
    """

    step: Int[Array, ""]
    key: UInt32[Array, "2"]
    params: dict[str, Any]
    state: dict[str, Any]
    opt_state: dict[str, Any]
    ema: dict[str, dict[str, Any]]
    position: Int[Array, "2"]
    bad_step: Int[Array, ""]
    frozen: dict[str, Any]


def ema_networks(config, family: Family, trained: tuple[str, ...]) -> tuple[str, ...]:
    """The networks whose parameters are averaged: those of `config.ema.networks`, or all trained.

    Raises InputError for a network that is not trained, and where the wiring reads an average that
    is not kept.
    """
    chosen = tuple(config.ema.networks) or trained
    for name in chosen:
        if name not in trained:
            what = "is frozen" if name in family.networks else nearest(name, trained)
            raise InputError(f"config.ema.networks names '{name}': {what}")
    for name in family.averages:
        if name not in chosen or not config.ema.rates:
            raise InputError(
                f"the wiring reads the average of '{name}': give config.ema.rates, and name it in "
                "config.ema.networks"
            )
    return chosen


def blank_batch(config, family: Family, batch_size: int = 1) -> dict[str, Array]:
    """A batch of the family's shapes as a wiring sees it, for initialisation and for shapes."""
    x = jnp.zeros((batch_size, *family.data.shape), jnp.float32)
    return {"x": x, **family.data.conditions.blank(batch_size)}


def initial(config, family: Family, players: dict[str, Player]) -> Callable[[], TrainState]:
    """A function that makes the state at step 0 from config.seed alone; the caller compiles it with
    the shardings that it wants."""
    key = draws.root(config.seed)
    trained = tuple(n for n in family.networks if any(n in p.networks for p in players.values()))
    averaged = ema_networks(config, family, trained)

    def create():
        batch = blank_batch(config, family)
        variables = family.init(draws.fold(key, 0), batch)
        params = {name: tree for name, tree in variables["params"].items() if name in trained}
        frozen = {name: tree for name, tree in variables["params"].items() if name not in trained}
        subset = {name: params[name] for name in averaged}
        return TrainState(
            step=jnp.int32(0),
            key=jax.random.key_data(key),
            params=params,
            state=dict(variables["state"]),
            opt_state={
                n: p.optimizer.init({k: params[k] for k in p.networks}) for n, p in players.items()
            },
            ema={str(rate): jax.tree.map(jnp.copy, subset) for rate in config.ema.rates},
            position=jnp.zeros(2, jnp.int32),
            bad_step=jnp.int32(-1),
            frozen=frozen,
        )

    return create


def init(config, family: Family, players: dict[str, Player]) -> TrainState:
    """The state at step 0 on one device."""
    return jax.jit(initial(config, family, players))()


def chosen_rate(state: TrainState, ema: str | float | None) -> str | None:
    """The rate that `ema` means: itself; for "slowest" or "" the slowest there is; None, the raw
    parameters, for None or "none".
    """
    ema = {"": "slowest", "none": None}.get(str(ema), ema)
    if ema is None or (ema == "slowest" and not state.ema):
        return None
    rate = max(state.ema, key=float) if ema == "slowest" else str(ema)
    if rate not in state.ema:
        raise InputError(
            f"no average of rate {rate} in this run: it has {', '.join(state.ema) or 'none'}"
        )
    return rate


def variables(
    state: TrainState, ema: str | float | None = "slowest", averages: tuple[str, ...] = ()
) -> Variables:
    """What a family's functions take.

    ema: as `chosen_rate` reads it. averages: networks
    whose slowest average is added as "<network>/average" (`Family.averages`).
    """
    rate, params = chosen_rate(state, ema), {**state.frozen, **state.params}
    if rate is not None:
        params |= state.ema[rate]
    if averages:
        slowest = state.ema[max(state.ema, key=float)]
        params |= {f"{name}/average": slowest[name] for name in averages}
    return {"params": params, "state": state.state}
