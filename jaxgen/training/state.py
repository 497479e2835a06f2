"""The one train state: everything that a resumed run needs, in one pytree."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, UInt32

from jaxgen.errors import InputError
from jaxgen.families.base import Family, Variables, float_image
from jaxgen.training.players import Player


class TrainState(NamedTuple):
    """step: steps done. key: root key's data. params, state: by network. opt_state: by player. ema:
    {rate: params}. position: (epoch, offset) of the next training example. bad_step: the first step
    whose loss was not finite, or -1."""

    step: Int[Array, ""]
    key: UInt32[Array, "2"]
    params: dict[str, Any]
    state: dict[str, Any]
    opt_state: dict[str, Any]
    ema: dict[str, dict[str, Any]]
    position: Int[Array, "2"]
    bad_step: Int[Array, ""]


def ema_networks(config, family: Family) -> tuple[str, ...]:
    """The networks whose parameters are averaged."""
    chosen = tuple(config.ema.networks) or family.networks
    for name in chosen:
        if name not in family.networks:
            raise InputError(
                f"config.ema.networks names '{name}', but the wiring has "
                f"{', '.join(family.networks)}"
            )
    return chosen


def blank_batch(config, batch_size: int = 1) -> dict[str, Array]:
    """A batch of the config's shape, for initialisation."""
    batch = {"image": float_image(tuple(config.data.image_shape), batch_size)}
    return (
        {**batch, "label": jnp.zeros(batch_size, jnp.int32)} if config.data.num_classes else batch
    )


def initial(config, family: Family, players: dict[str, Player]) -> Callable[[], TrainState]:
    """A function that makes the state at step 0 from config.seed alone; to be compiled by who knows
    where it shall live.
    """
    key = jax.random.key(config.seed)
    averaged = ema_networks(config, family)

    def create():
        variables = family.init(jax.random.fold_in(key, 0), blank_batch(config))
        params = dict(variables["params"])
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
        )

    return create


def init(config, family: Family, players: dict[str, Player]) -> TrainState:
    """The state at step 0 on one device."""
    return jax.jit(initial(config, family, players))()


def chosen_rate(state: TrainState, ema: str | float | None) -> str | None:
    """The rate that `ema` means: itself, the slowest there is for "slowest", None for the raw
    parameters.
    """
    if ema is None or (ema == "slowest" and not state.ema):
        return None
    rate = max(state.ema, key=float) if ema == "slowest" else str(ema)
    if rate not in state.ema:
        raise InputError(
            f"no average of rate {rate} in this run: it has {', '.join(state.ema) or 'none'}"
        )
    return rate


def variables(state: TrainState, ema: str | float | None = "slowest") -> Variables:
    """What a family's functions take. `ema`: a rate, "slowest" for the largest there is, None for
    the raw parameters.
    """
    rate = chosen_rate(state, ema)
    if rate is None:
        return {"params": state.params, "state": state.state}
    return {"params": {**state.params, **state.ema[rate]}, "state": state.state}
