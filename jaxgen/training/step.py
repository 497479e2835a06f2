"""The one train step: each player takes gradients of its own loss with respect to its own networks."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxgen.data import prepare
from jaxgen.families.base import Family
from jaxgen.losses import objective
from jaxgen.training import players as players_lib
from jaxgen.training.players import Player
from jaxgen.training.state import TrainState

Batch = dict[str, Any]


def example_keys(key: jax.Array, batch_size: int, axis_name: str | None) -> jax.Array:
    """One key per example from its index in the global batch, so that noise does not depend on the devices."""
    offset = jax.lax.axis_index(axis_name) * batch_size if axis_name else 0
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(offset + jnp.arange(batch_size))


def player_gradients(
    family: Family, player: Player, state: TrainState, batch: Batch, keys: jax.Array, accumulate: int
) -> tuple[Any, dict[str, jax.Array], Any]:
    """(gradients, means of the loss and its terms, new non-gradient state) of one player on one prepared batch.

    With `accumulate` micro-batches, example i goes to micro-batch i mod `accumulate`, which moves nothing between devices.
    """
    own = {name: state.params[name] for name in player.networks}
    size = keys.shape[0] // accumulate

    def loss(own_params, non_gradient, batch, keys):
        variables = {"params": {**state.params, **own_params}, "state": non_gradient}
        outputs, new = family.forward(variables, batch, keys, True)
        total, means = objective.loss(player.rows, outputs, state.step, size)
        return total, ({"loss": total, **means}, new)

    gradient = jax.grad(loss, has_aux=True)
    if accumulate == 1:
        grads, (means, new) = gradient(own, state.state, batch, keys)
        return grads, means, new

    def add(carry, micro):
        grads, (means, new) = gradient(own, carry[2], *micro)
        return (*jax.tree.map(jnp.add, carry[:2], (grads, means)), new), None

    micro = jax.tree.map(
        lambda x: jnp.swapaxes(x.reshape(size, accumulate, *x.shape[1:]), 0, 1), (batch, keys)
    )
    zeros = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype),
        jax.eval_shape(lambda b, k: gradient(own, state.state, b, k), *jax.tree.map(lambda x: x[0], micro)),
    )
    # XLA on CPU runs the gradients of convolutions inside a loop far slower than unrolled
    unroll = accumulate if jax.default_backend() == "cpu" else 1
    (grads, means, new), _ = jax.lax.scan(add, (zeros[0], zeros[1][0], state.state), micro, unroll=unroll)
    return *jax.tree.map(lambda x: x / accumulate, (grads, means)), new


def update_ema(state: TrainState, params: dict[str, Any]) -> dict[str, Any]:
    """Each average moved towards `params`, with the warm-up min(rate, (1 + t) / (10 + t)) after t updates."""
    step = state.step.astype(jnp.float32)

    def move(rate, average):
        decay = jnp.minimum(float(rate), (1.0 + step) / (10.0 + step))
        return jax.tree.map(lambda a, p: a + (1.0 - decay) * (p - a), average, {k: params[k] for k in average})

    return {rate: move(rate, average) for rate, average in state.ema.items()}


def build(
    config, family: Family, players: dict[str, Player], axis_name: str | None = None
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """The train step `(state, batch) -> (state, metrics)`.

    batch: uint8 images and labels, [B, ...], or [n, B, ...] where some player makes n > 1 updates per step.
    metrics: float32 means by name, `<player>/loss`, `<player>/<term>` (before weighting), `<player>/learning_rate`.
    axis_name: the `pmap` axis; None under `jit`, where XLA sees the global batch.
    """
    accumulate, flip = config.train.accumulate, config.data.flip
    stacked = players_lib.batches_per_step(players) > 1

    def gradients(name: str, state: TrainState, batch: Batch, key: jax.Array):
        keys = example_keys(key, batch["image"].shape[0], axis_name)
        result = player_gradients(family, players[name], state, prepare(batch, keys, flip=flip), keys, accumulate)
        if axis_name is None:
            return result
        return *jax.lax.pmean(result[:2], axis_name), result[2]

    def apply(name: str, state: TrainState, grads) -> tuple[Any, Any]:
        own = {k: state.params[k] for k in players[name].networks}
        updates, opt_state = players[name].optimizer.update(grads, state.opt_state[name], own)
        return optax.apply_updates(own, updates), opt_state

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        start, metrics, uses = state, {}, 0
        for name, player in players.items():
            for update in range(player.updates):
                data = jax.tree.map(lambda x, i=update: x[i], batch) if stacked else batch
                use = 0 if config.simultaneous else uses
                seen = start if config.simultaneous else state
                grads, means, new = gradients(name, seen, data, jax.random.fold_in(key, use))
                own, opt_state = apply(name, state, grads)
                kept = {k: v for k, v in new.items() if k in player.networks}  # others' networks are left alone
                state = state._replace(
                    params={**state.params, **own},
                    opt_state={**state.opt_state, name: opt_state},
                    state={**state.state, **kept},
                )
                uses += 1
            metrics.update({f"{name}/{k}": v for k, v in means.items()})
            metrics[f"{name}/learning_rate"] = jnp.float32(player.learning_rate(state.step * player.updates))
        finite = jnp.all(jnp.stack([jnp.isfinite(metrics[f"{name}/loss"]) for name in players]))
        bad_step = jnp.where((state.bad_step < 0) & ~finite, state.step, state.bad_step)
        ema = update_ema(state, state.params)
        return state._replace(step=state.step + 1, ema=ema, bad_step=bad_step), metrics

    return train_step
