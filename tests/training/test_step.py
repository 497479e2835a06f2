"""The one train step against hand computation on a toy game; test_every_family has the rest."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from jaxgen import draws, families
from jaxgen.config import default
from jaxgen.families.base import Data, Family
from jaxgen.losses.objective import WeightedTerm
from jaxgen.training import players, state, step
from jaxgen.training.players import Player
from tests.support import images
from tests.tiny import tiny

# A toy game of two numbers a and b. Everything that a step does to them can be computed by hand.


def toy_forward(variables, batch, call):
    outputs = {"image": batch["x"].mean((1, 2, 3)), "noise": draws.normal(call.keys, ())}
    return {**variables["params"], **outputs}, {
        name: count + 1 for name, count in variables["state"].items()
    }


def toy_init(key, batch):
    return {
        "params": {"a": jnp.float32(1.0), "b": jnp.float32(2.0)},
        "state": {"a": jnp.int32(0), "b": jnp.int32(0)},
    }


TOY = Family("toy", ("a", "b"), Data((2, 2, 1)), toy_init, toy_forward, None)


def ones(outputs):
    return jnp.ones_like(outputs["image"])


def toy_player(network, term, optimizer=None, updates=1):
    row = WeightedTerm("term", term, lambda step: jnp.float32(1.0), 0, 1)
    return Player(
        (network,), (row,), optimizer or optax.sgd(0.1), optax.constant_schedule(0.1), updates
    )


def toy_config(**changes):
    config = default()
    config.data.image_shape = (2, 2, 1)
    config.ema.rates = ()
    for name, value in changes.items():
        config[name] = value
    return config


def toy_batch(levels):
    return {
        "image": np.broadcast_to(
            np.uint8(levels)[..., None, None, None], (*np.shape(levels), 2, 2, 1)
        )
    }


def toy_run(table, batches, **changes):
    """States and metrics after each step; `table` is {player: Player} in its order."""
    config = toy_config(**changes)
    now = state.init(config, TOY, table)
    run, history = jax.jit(step.build(config, TOY, table)), []
    for batch in batches:
        now, metrics = run(now, batch)
        history.append((now, metrics))
    return history


def product_game():
    """a minimises a b and b minimises -a b."""
    return {
        "a": toy_player("a", lambda o: o["a"] * o["b"] * ones(o)),
        "b": toy_player("b", lambda o: -o["a"] * o["b"] * ones(o)),
    }


def test_players_update_one_after_the_other_in_the_given_order():
    game, batch = product_game(), toy_batch([0, 0])
    ((now, metrics),) = toy_run(game, [batch])
    a = 1.0 - 0.1 * 2.0
    assert (now.params["a"], now.params["b"]) == pytest.approx((a, 2.0 + 0.1 * a))
    truth = {"a/loss": 2.0, "a/term": 2.0, "b/loss": -2 * a, "b/term": -2 * a}
    assert {k: float(v) for k, v in metrics.items()} == pytest.approx(
        {**truth, "a/learning_rate": 0.1, "b/learning_rate": 0.1}
    )
    ((now, _),) = toy_run({"b": game["b"], "a": game["a"]}, [batch])
    assert (now.params["a"], now.params["b"]) == pytest.approx((1.0 - 0.1 * 2.1, 2.1))


def test_simultaneous_players_see_the_same_parameters_and_noise():
    ((now, metrics),) = toy_run(product_game(), [toy_batch([0, 0])], simultaneous=True)
    assert (now.params["a"], now.params["b"]) == pytest.approx((0.8, 2.1))
    assert (metrics["a/loss"], metrics["b/loss"]) == pytest.approx((2.0, -2.0))
    assert {name: int(count) for name, count in now.state.items()} == {"a": 1, "b": 1}

    noisy = {n: toy_player(n, lambda o, n=n: o[n] * o["noise"]) for n in ("a", "b")}
    for simultaneous in (True, False):
        ((now, _),) = toy_run(noisy, [toy_batch([0, 0])], simultaneous=simultaneous)
        moves = float(now.params["a"]) - 1.0, float(now.params["b"]) - 2.0
        assert (moves[0] == pytest.approx(moves[1], abs=1e-6)) == simultaneous


def test_an_update_is_optax_on_the_gradient_of_the_batchs_mean():
    """(a - image)^2 with Adam and clipping, five steps."""
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.1))
    table = {"a": toy_player("a", lambda o: jnp.square(o["a"] - o["image"]), optimizer),
             "b": toy_player("b", ones)}  # fmt: skip
    levels = np.random.default_rng(0).integers(0, 256, (5, 4))
    history = toy_run(table, [toy_batch(row) for row in levels])
    a, optimizer_state = jnp.float32(1.0), optimizer.init(jnp.float32(1.0))
    for row, (now, metrics) in zip(levels, history, strict=True):
        image = row / 127.5 - 1
        assert metrics["a/loss"] == pytest.approx(np.mean((float(a) - image) ** 2), rel=1e-5)
        updates, optimizer_state = optimizer.update(
            jnp.float32(np.mean(2 * (float(a) - image))), optimizer_state
        )
        a = optax.apply_updates(a, updates)
        assert now.params["a"] == pytest.approx(float(a), rel=1e-5)
        assert now.params["b"] == 2.0  # its loss has no gradient
    assert int(history[-1][0].step) == 5


def test_a_player_that_updates_several_times_does_so_on_fresh_data_and_noise():
    table = {
        "a": toy_player("a", lambda o: o["a"] * o["image"], updates=3),
        "b": toy_player("b", lambda o: o["b"] * o["image"]),
    }
    levels = np.array([[0, 0], [255, 255], [204, 255]])  # images -1, 1, and 0.6 and 1
    ((now, _),) = toy_run(table, [toy_batch(levels)])
    assert now.params["a"] == pytest.approx(1.0 - 0.1 * (-1.0 + 1.0 + 0.8))
    assert now.params["b"] == pytest.approx(2.0 - 0.1 * -1.0)  # the first batch only

    # with a's gradient = noise: a moves from 1 by -0.1 (first + last), and the metric is (1 - 0.1
    # first) last
    noisy = {**table, "a": toy_player("a", lambda o: o["a"] * o["noise"], updates=2)}
    ((now, metrics),) = toy_run(noisy, [toy_batch(levels[:2])])
    total, metric = (1.0 - float(now.params["a"])) / 0.1, float(metrics["a/loss"])
    # it would be, were first = last
    assert metric != pytest.approx((1 - 0.1 * total / 2) * total / 2, rel=1e-3)


def test_noise_is_new_every_step_and_belongs_to_the_example():
    table = {n: toy_player(n, lambda o, n=n: o["noise"] + 0 * o[n]) for n in ("a", "b")}
    losses = [float(m["a/loss"]) for _, m in toy_run(table, [toy_batch([0] * 4)] * 3)]
    assert len(set(losses)) == 3
    assert [float(m["a/loss"]) for _, m in toy_run(table, [toy_batch([0] * 4)] * 3)] == losses
    assert [
        float(m["a/loss"]) for _, m in toy_run(table, [toy_batch([0] * 4)] * 3, seed=1)
    ] != losses


def test_averages_follow_their_recursion_with_warm_up():
    steps, rates = 30, (0.99, 0.5)
    table = {"a": toy_player("a", lambda o: -o["a"] * ones(o)), "b": toy_player("b", ones)}
    config_ema = ConfigDict(dict(rates=rates, networks=("a",)))
    history = toy_run(table, [toy_batch([0])] * steps, ema=config_ema)
    expected = {rate: 1.0 for rate in rates}
    for t, (now, _) in enumerate(history):
        a = 1.0 + 0.1 * (t + 1)
        for rate in rates:
            decay = min(rate, (1 + t) / (10 + t))
            expected[rate] = decay * expected[rate] + (1 - decay) * a
            assert now.ema[str(rate)]["a"] == pytest.approx(expected[rate], rel=1e-5)
        assert set(now.ema["0.5"]) == {"a"}
        # the slowest, in whatever order they are named
        assert state.variables(now)["params"]["a"] == now.ema["0.99"]["a"]
    now = history[-1][0]
    assert state.variables(now)["params"]["b"] == now.params["b"]  # not averaged
    assert state.variables(now, ema=0.99)["params"]["a"] == now.ema["0.99"]["a"]
    assert state.variables(now, ema=None)["params"]["a"] == now.params["a"]
    with pytest.raises(ValueError, match="no average of rate 0.9 .*0.5, 0.99"):
        state.variables(now, ema=0.9)


@pytest.mark.parametrize("player_name", ["a", "b"])
def test_the_first_bad_step_is_recorded(player_name):
    """The loss is NaN on white images."""

    def term(outputs, name):
        return jnp.where(outputs["image"] > 0.99, jnp.nan, 1.0) + 0 * outputs[name]

    table = {
        n: toy_player(n, lambda o, n=n: term(o, n) if n == player_name else ones(o))
        for n in ("a", "b")
    }
    batches = [toy_batch(row) for row in ([0, 0], [0, 9], [255, 0], [0, 0], [255, 255])]
    assert [int(now.bad_step) for now, _ in toy_run(table, batches)] == [-1, -1, 2, 2, 2]


@pytest.mark.slow
def test_accumulation_averages_gradients_and_metrics_and_carries_the_state():
    table = {
        "a": toy_player("a", lambda o: jnp.square(o["a"] - o["image"]) * (1 + o["noise"])),
        "b": toy_player("b", ones),
    }
    runs = []
    for accumulate in (1, 2, 4):
        train = default().train
        train.accumulate = accumulate
        ((now, metrics),) = toy_run(table, [toy_batch(np.arange(8) * 30)], train=train)
        runs.append((float(now.params["a"]), float(metrics["a/loss"])))
        # a network's state moves with its own player's passes, not with the other's
        assert {name: int(count) for name, count in now.state.items()} == {
            "a": accumulate,
            "b": accumulate,
        }
    assert runs[1] == pytest.approx(runs[0], rel=1e-6) and runs[2] == pytest.approx(
        runs[0], rel=1e-6
    )


@pytest.mark.slow
def test_a_player_changes_its_own_networks_only():
    """Three players, each with a learning rate at one of three steps only."""
    config = tiny("vae_gan")
    family = families.build(config)
    table = players.build(config, family)
    for turn, name in enumerate(table):
        rate = lambda count, turn=turn: jnp.where(count == turn, 1e-3, 0.0)  # noqa: E731
        table[name] = table[name]._replace(optimizer=optax.sgd(rate))
    now, run = state.init(config, family, table), jax.jit(step.build(config, family, table))
    for seed, mover in enumerate(table):
        after, _ = run(now, {"image": images(seed, 16, 8, 8, 1)})
        for name in family.networks:
            pairs = zip(
                jax.tree.leaves(now.params[name]), jax.tree.leaves(after.params[name]), strict=True
            )
            changed = [not np.array_equal(a, b) for a, b in pairs]
            assert any(changed) == (name == mover)
        now = after
