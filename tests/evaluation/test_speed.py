"""What sampling costs, for samplers whose cost is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import config
from jaxgen.artefact import Artefact
from jaxgen.evaluation import speed
from jaxgen.families import Data, Family
from tests.support import close

SIZE = 32


def matrices(count):
    """A sampler of `count` products with a [1024, 1024] matrix in a loop."""

    def sample(variables, keys, label):
        x = jax.vmap(lambda key: jax.random.uniform(key, (SIZE * SIZE,)))(keys)
        x, _ = jax.lax.scan(lambda x, _: (jnp.tanh(x @ variables["w"]), None), x, length=count)
        return x.reshape(-1, SIZE, SIZE, 1)

    return Family("toy", (), Data((SIZE, SIZE, 1)), None, None, sample, {}, lambda: count)


def timed(count, variables, batch_size, repeats):
    c = config.default()
    c.sample.batch_size = batch_size
    model = Artefact(c, matrices(count), variables)
    return speed.sampling(model, {}, lambda num: None, repeats)


@pytest.mark.slow
def test_flops_memory_and_batches_of_matrix_products():
    variables = {"w": jnp.full((SIZE**2, SIZE**2), 1e-3)}
    found = timed(4, variables, batch_size=16, repeats=2)
    # beside the products stand the random numbers and the quantisation, a few operations a pixel
    assert found.flops_per_image == pytest.approx(4 * 2 * SIZE**4, rel=0.05)
    assert sorted(found.by_batch) == [1, 4, 16]
    assert found.by_batch[found.best_batch] == min(found.by_batch.values())
    assert len(found.per_image) == len(found.one) == 2
    close(found.by_batch[1], np.mean(found.one))
    assert found.memory_bytes > 4 * SIZE**4
    assert found.compile_seconds > 0.0


def test_compile_seconds_do_not_come_from_the_persistent_cache(monkeypatch):
    seen = []
    lowered = jax.stages.Lowered.compile

    def compile(self, *arguments, **keywords):
        seen.append(jax.config.jax_enable_compilation_cache)
        return lowered(self, *arguments, **keywords)

    monkeypatch.setattr(jax.stages.Lowered, "compile", compile)
    timed(1, {"w": jnp.eye(SIZE**2)}, batch_size=1, repeats=1)
    assert seen == [False] and jax.config.jax_enable_compilation_cache
