"""Draws against JAX's own generator and the uniform distribution."""

import os
import subprocess
import sys
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as stats

from jaxgen import draws
from jaxgen.diffusion import sampler, schedule, solvers
from jaxgen.errors import InputError

ROOT = Path(__file__).resolve().parent.parent

KEYS = jax.random.split(jax.random.key(3), 4)


def test_uniform_numbers_are_uniform_and_independent():
    a = np.asarray(draws.uniform(KEYS, (100, 333))).reshape(len(KEYS), -1)
    b = np.asarray(draws.uniform(draws.fold(KEYS, 8), (100, 333))).reshape(len(KEYS), -1)
    rows = np.concatenate([a, b])
    for row in rows:
        assert row.min() >= 0 and row.max() < 1
        assert stats.kstest(row, "uniform").pvalue > 1e-4
    # neighbours in either direction, other keys, folded keys: no correlation
    pairs = [(a[0, 1:], a[0, :-1]), (a[0, 333:], a[0, :-333]), (a[0], a[1]), (a[0], b[0])]
    for first, second in pairs:
        assert abs(stats.pearsonr(first, second).statistic) < 5 / np.sqrt(len(first))


def test_an_example_draws_from_its_own_key():
    whole = draws.uniform(KEYS, (5, 3))
    np.testing.assert_array_equal(draws.uniform(KEYS[2:3], (5, 3))[0], whole[2])
    np.testing.assert_array_equal(draws.normal(KEYS[2:3], (5, 3))[0], draws.normal(KEYS, (5, 3))[2])
    assert len(np.unique(whole)) == whole.size


@pytest.mark.slow
@pytest.mark.parametrize("draw", [draws.normal, draws.uniform])
def test_keys_of_all_of_jaxs_generators_draw_by_themselves(draw):
    for name in ("threefry2x32", "rbg", "unsafe_rbg"):
        keys = jax.random.split(jax.random.key(0, impl=name), 3)
        whole = draw(keys, (100,))
        assert len(np.unique(whole)) > 290
        np.testing.assert_array_equal(draw(keys[1:2], (100,))[0], whole[1])


def test_a_root_is_jaxs_key_and_hears_all_64_bits_of_its_seed():
    for seed in (0, 7, 2**31, 2**32 - 1):
        assert draws.root(seed) == jax.random.key(np.uint32(seed))
    seeds = [0, 1, 2**32, 2**32 + 1, 2**33, 2**63, 2**64 - 1]
    assert len({tuple(map(int, jax.random.key_data(draws.root(s)))) for s in seeds}) == len(seeds)
    for seed in (-1, 2**64, 99999999999999999999):
        with pytest.raises(InputError, match="from 0 to 2"):
            draws.root(seed)


def test_keys_are_folded_as_by_jax():
    key, name = jax.random.key(5), "critic/real"
    salt = zlib.crc32(name.encode())
    assert salt > 2**31  # more than a signed integer of 32 bits holds
    for value in (0, 0xF11B, salt, jnp.int32(3)):
        expected = [jax.random.fold_in(k, value) for k in KEYS]
        assert np.all(draws.fold(KEYS, value) == jnp.stack(expected))
        assert draws.fold(key, value) == jax.random.fold_in(key, value)
        assert np.all(draws.fold(KEYS.reshape(2, 2), value).ravel() == jnp.stack(expected))
    assert np.all(draws.named(KEYS, name) == draws.fold(KEYS, salt))
    found = jax.jit(draws.of_examples, static_argnums=2)(key, 5, 3)
    assert np.all(found == jnp.stack([jax.random.fold_in(key, i) for i in (5, 6, 7)]))
    assert np.all(draws.wrap(jax.random.key_data(KEYS)) == KEYS)


def drawn_from_roots() -> list:
    """What a sampler and every function here draw; in batches of 16 and of 3."""
    keys = draws.of_examples(draws.root(3), 0, 16)

    def images(keys):
        def denoise(x, time):
            return 0.5 * x, x

        path, grid = schedule.build("cosine"), np.linspace(1, 0, 4)
        return sampler.sample(denoise, solvers.build("ddpm"), keys, (4, 4, 1), path, grid)

    whole = images(keys)
    np.testing.assert_array_equal(whole[:3], images(keys[:3]))
    numbers = whole, draws.normal(keys, (2,)), draws.uniform(keys, (2, 3))
    words = jax.random.key_data(draws.root(2**32)), jax.random.key_data(draws.root(0))
    return [np.asarray(x).ravel().tolist() for x in (*numbers, *words)]


@pytest.mark.slow
def test_jaxs_global_settings_change_no_number():
    program = "from tests.test_draws import drawn_from_roots; print(drawn_from_roots())"
    settings = {"JAX_DEFAULT_PRNG_IMPL": "rbg", "JAX_ENABLE_X64": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **settings}, cwd=ROOT,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{drawn_from_roots()}\n"
