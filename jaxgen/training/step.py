"""The one train step: each player differentiates its own loss with respect to its own networks."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxgen import draws, spaces
from jaxgen.calls import Call, Mean, local_mean
from jaxgen.families.base import Family, Variables
from jaxgen.losses import objective
from jaxgen.training import parallel
from jaxgen.training import players as players_lib
from jaxgen.training.parallel import Parallel
from jaxgen.training.players import Player
from jaxgen.training.state import TrainState
from jaxgen.training.state import variables as variables_of

Batch = dict[str, Any]


def example_keys(key: jax.Array, batch_size: int, first: jax.Array | int = 0) -> jax.Array:
    """One key per example from its index in the global batch, so that noise does not depend on the
    devices.

    first: the index of the first of these examples.
    """
    return draws.of_examples(key, first, batch_size)


def player_gradients(
    family: Family,
    player: Player,
    variables: Variables,
    step: jax.Array,
    batch: Batch,
    keys: jax.Array,
    accumulate: int,
    whole: Callable[[Any], Any] = lambda params: params,
    mean: Mean = local_mean,
) -> tuple[Any, dict[str, jax.Array], Any]:
    """(gradients, means of the loss and its terms, new non-gradient state) of one player on one
    prepared batch.

    whole: the parts of the parameters that a device keeps -> what the networks take.
    mean: over the global batch (its micro-batch), for terms and states that couple its examples.
    With `accumulate` micro-batches, example i goes to micro-batch i mod `accumulate`, which moves
    nothing between devices."""
    own = {name: variables["params"][name] for name in player.networks}
    others = {name: tree for name, tree in variables["params"].items() if name not in own}
    size = keys.shape[0] // accumulate

    def loss(own_params, non_gradient, batch, keys):
        params = {**others, **own_params}
        seen = {"params": whole(params), "state": non_gradient}
        outputs, new = family.forward(seen, batch, Call(True, keys, mean))
        total, means = objective.loss(player.rows, outputs, step, size, mean)
        return total, ({"loss": total, **means}, new)

    gradient = jax.grad(loss, has_aux=True)
    if accumulate == 1:
        grads, (means, new) = gradient(own, variables["state"], batch, keys)
        return grads, means, new

    def add(carry, micro):
        grads, (means, new) = gradient(own, carry[2], *micro)
        return (*jax.tree.map(jnp.add, carry[:2], (grads, means)), new), None

    micro = jax.tree.map(
        lambda x: jnp.swapaxes(x.reshape(size, accumulate, *x.shape[1:]), 0, 1), (batch, keys)
    )
    zeros = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype),
        jax.eval_shape(
            lambda b, k: gradient(own, variables["state"], b, k),
            *jax.tree.map(lambda x: x[0], micro),
        ),
    )
    (grads, means, new), _ = jax.lax.scan(add, (zeros[0], zeros[1][0], variables["state"]), micro)
    return *jax.tree.map(lambda x: x / accumulate, (grads, means)), new


def update_ema(state: TrainState, params: dict[str, Any]) -> dict[str, Any]:
    """Each average moved towards `params`, with the warm-up min(rate, (1 + t) / (10 + t)) after t
    updates.
    """
    step = state.step.astype(jnp.float32)

    def move(rate, average):
        # 1 - rate in float64: near 1 float32 is too coarse for the rate
        share = jnp.maximum(jnp.float32(1.0 - float(rate)), 9.0 / (10.0 + step))
        new = {network: params[network] for network in average}
        return jax.tree.map(lambda a, p: a + share * (p - a), average, new)

    return {rate: move(rate, average) for rate, average in state.ema.items()}


def updated(name: str, player: Player, state: TrainState, grads) -> tuple[Any, Any]:
    """(the player's new parameters, its optimiser's new state)."""
    own = {k: state.params[k] for k in player.networks}
    updates, opt_state = player.optimizer.update(grads, state.opt_state[name], own)
    return optax.apply_updates(own, updates), opt_state


def build(
    config, family: Family, players: dict[str, Player], devices: Parallel | None = None
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """The train step `(state, batch) -> (state, metrics)`.

    batch: uint8 images and labels, [B, ...], or [n, B, ...] where some player makes n > 1 updates
    per step.
    metrics: float32 means by name, `<player>/loss`, `<player>/<term>` (before weighting),
    `<player>/learning_rate`.
    devices: those it runs on; by default one, as in a notebook.
    """
    accumulate, space = config.train.accumulate, spaces.from_config(config)
    stacked = players_lib.batches_per_step(players) > 1
    devices = parallel.one_device() if devices is None else devices

    def gradients(name: str, state: TrainState, batch: Batch, key: jax.Array):
        def of_rows(params, shared, batch, whole):
            non_gradient, step, key = shared
            rows = batch[space.column].shape[0]
            keys = example_keys(key, rows, devices.index() * rows)
            batch = space.enter(batch, keys, augment=True)
            seen = {"params": params, "state": non_gradient}
            return player_gradients(
                family, players[name], seen, step, batch, keys, accumulate, whole, devices.mean
            )

        params = variables_of(state, None, family.averages)["params"]
        run = devices.gradients(of_rows, players[name].networks, family.recomputed)
        return run(params, (state.state, state.step, key), batch)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        key = draws.fold(draws.wrap(state.key), state.step)
        start, metrics, uses = state, {}, 0
        for name, player in players.items():
            for update in range(player.updates):
                data = jax.tree.map(lambda x, i=update: x[i], batch) if stacked else batch
                use = 0 if config.simultaneous else uses
                seen = start if config.simultaneous else state
                grads, means, new = gradients(name, seen, data, draws.fold(key, use))
                own, opt_state = updated(name, player, state, grads)
                # others' networks are left alone
                kept = {k: v for k, v in new.items() if k in player.networks}
                state = state._replace(
                    params={**state.params, **own},
                    opt_state={**state.opt_state, name: opt_state},
                    state={**state.state, **kept},
                )
                uses += 1
            metrics.update({f"{name}/{k}": v for k, v in means.items()})
            metrics[f"{name}/learning_rate"] = jnp.float32(
                player.learning_rate(state.step * player.updates)
            )
        finite = jnp.all(jnp.stack([jnp.isfinite(metrics[f"{name}/loss"]) for name in players]))
        bad_step = jnp.where((state.bad_step < 0) & ~finite, state.step, state.bad_step)
        ema = update_ema(state, state.params)
        return state._replace(step=state.step + 1, ema=ema, bad_step=bad_step), metrics

    return train_step
