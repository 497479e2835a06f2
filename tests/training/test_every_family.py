"""What training promises for every family; a new one is a row of tests/tiny.py."""

import jax
import numpy as np
import pytest

from jaxgen.training import checkpoint, loop
from tests.support import close
from tests.tiny import SYSTEMS, tiny


def slow_but(usual, names):
    return [n if n == usual else pytest.param(n, marks=pytest.mark.slow) for n in names]


# vae_gan has state of the batch and late and lazy terms; diffusion_gan dropout and flips
@pytest.mark.parametrize("name", slow_but("vae_gan", SYSTEMS))
@pytest.mark.parametrize("kind", slow_but("jit", ["jit", "fsdp", "pmap"]))
def test_eight_devices_give_the_numbers_of_one_state_included(compiled, name, kind):
    one, eight = (compiled(name, each).run(3) for each in ("one device", kind))
    for a, b in zip(one[1], eight[1], strict=True):
        assert a.keys() == b.keys() and all(np.isfinite(x) for x in a.values())
        for term in a:
            close(b[term], a[term], 1.0, dtype="float32", factor=256)
    # Adam divides by the root of the second moment: rounding moves a parameter by a step at most.
    for part in ("params", "ema", "frozen"):
        pairs = zip(
            *(jax.tree.leaves(getattr(state, part)) for state in (one[0], eight[0])), strict=True
        )
        assert all(np.abs(a - b).max(initial=0) < 3 * 2e-3 for a, b in pairs)
    close(eight[0].state, one[0].state, 1.0, factor=2**10)
    assert eight[0].bad_step == -1 and eight[0].step == 3


def test_state_that_depends_on_the_batch_is_the_same_on_every_device(compiled):
    """A running mean of images, of which each device sees two of sixteen."""
    system = compiled("vae_gan", "jit")
    entered, _ = system.steps(system.devices.enter(system.create()), 3)
    for leaf in jax.tree.leaves(entered.state):
        first, *others = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(others) == 7 and all(np.array_equal(first, other) for other in others)
    # The truth: three steps of 0.9 mean + 0.1 batch, by the batches that were gathered.
    batches = [system.source.images[i] for i in indices(system, 3)]
    truth = np.zeros((8, 8, 1))
    for batch in batches:
        truth = 0.9 * truth + 0.1 * (batch / 127.5 - 1).mean(0)
    (mean,) = jax.tree.leaves(entered.state)
    close(np.asarray(mean), np.float32(truth), 1.0, terms=16)


def indices(system, steps):
    from jaxgen.data import order

    size = len(system.source)
    chosen, _ = order.indices(order.START, steps * system.examples, size, system.config.seed)
    return chosen.reshape(steps, -1)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "accumulate"), [("vae", 4), ("diffusion_gan", 2)])
def test_micro_batches_do_not_change_the_update(compiled, name, accumulate):
    """SGD, so that a parameter moves by its gradient."""

    def run(accumulate):
        config = tiny(name)
        config.train.update(accumulate=accumulate, steps_per_dispatch=1)
        for spec in config.players.values():
            spec.optimizer = dict(name="sgd", learning_rate=1e-3)
        return type(compiled(name, "one device"))(name, "one device", config).run(1)

    (state, (metrics,)), (other, (other_metrics,)) = run(1), run(accumulate)
    for term in metrics:
        close(other_metrics[term], metrics[term], 1.0, dtype="float32", factor=256)
    close(other.params, state.params, 1.0)


@pytest.mark.parametrize("name", slow_but("vae", SYSTEMS))
def test_a_run_that_is_stopped_ends_in_the_bits_of_one_that_was_not(name, tmp_path, one_device):
    def train(folder, steps):
        config = tiny(name)
        config.train.steps = steps
        return loop.train(
            config, str(tmp_path / folder), progress=False, report=lambda text: None
        ).state

    whole = train("whole", 8)
    train("parts", 3)
    assert checkpoint.steps_in(checkpoint.folder_of(str(tmp_path / "parts"))) == [3]
    parts = train("parts", 8)
    jax.tree.map(np.testing.assert_array_equal, parts, whole)
