"""Players: who trains which networks, on which terms, with which optimiser."""

from typing import NamedTuple

import optax

from jaxgen import ranges
from jaxgen.errors import InputError, nearest
from jaxgen.families.base import Family
from jaxgen.losses import objective
from jaxgen.ranges import Count, Section
from jaxgen.training import optimizer

TYPES = {  # of a player in the config
    "networks": tuple[str, ...],
    "optimizer": Section,
    "terms": Section,
    "updates": Count,
}


class Player(NamedTuple):
    """networks: the parameter sub-trees it owns. rows: its weighted loss terms. updates: per step,
    each on fresh data.
    """

    networks: tuple[str, ...]
    rows: tuple[objective.WeightedTerm, ...]
    optimizer: optax.GradientTransformation
    learning_rate: optax.Schedule
    updates: int


def build(config, family: Family) -> dict[str, Player]:
    """The config's players in their order of update.

    Raises InputError when a network is missing, trained twice or trained by nobody, and for bad
    terms or optimisers."""
    players: dict[str, Player] = {}
    owner: dict[str, str] = {}
    for name in tuple(config.order) or sorted(config.players):
        spec = config.players[name]
        for field in spec:
            if field not in TYPES:
                raise InputError(
                    f"config.players.{name} has no field '{field}': {nearest(field, TYPES)}"
                )
        for field, hint in TYPES.items():
            ranges.check(f"config.players.{name}.{field}", hint, spec[field])
        networks = spec.networks or (name,)
        for network in networks:
            if network not in family.networks:
                raise InputError(
                    f"config.players.{name}: no network '{network}': "
                    f"{nearest(network, family.networks)}"
                )
            if network in owner:
                raise InputError(
                    f"network '{network}' belongs to both players {owner[network]} and {name}"
                )
            owner[network] = name
        optimiser, schedule = optimizer.build(
            spec.optimizer, config.train.steps * spec.updates, f"config.players.{name}.optimizer"
        )
        players[name] = Player(
            networks, objective.build(name, spec.terms.to_dict()), optimiser, schedule, spec.updates
        )
    for network in family.networks:
        if network not in owner and network not in config.pretrained:
            raise InputError(
                f"no player trains the network '{network}': name it in some "
                "players.<player>.networks, or freeze it by config.pretrained"
            )
    for network in config.pretrained:
        if network not in family.networks:
            known = nearest(network, family.networks)
            raise InputError(f"config.pretrained names the network '{network}': {known}")
    if config.simultaneous and any(p.updates > 1 for p in players.values()):
        raise InputError("config.simultaneous needs updates = 1 for every player")
    return players


def batches_per_step(players: dict[str, Player]) -> int:
    """Batches of data that one train step consumes."""
    return max(p.updates for p in players.values())
