"""Draws against JAX's own generator and the uniform distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as stats
from jax.extend.random import threefry_2x32

from jaxgen import draws

KEYS = jax.random.split(jax.random.key(3), 4)


@pytest.mark.parametrize(
    "rounds, key, counter, expected",  # the known answers of Random123, kat_vectors
    [
        (13, (0, 0), (0, 0), (0x9D1C5EC6, 0x8BD50731)),
        (13, (0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0xFD36D048, 0x2D17272C)),
        (13, (0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xBA3E4725, 0xF27D669E)),
        (20, (0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        (20, (0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        (20, (0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_gives_the_known_answers(rounds, key, counter, expected):
    found = draws.threefry(*jnp.uint32(key), *jnp.uint32(counter), rounds)
    assert tuple(map(int, found)) == expected


def test_threefry_is_jaxs():
    words = np.random.default_rng(0).integers(0, 2**32, (4, 1000), dtype=np.uint32)
    key, counters = words[:2, 0], words[2:]
    expected = threefry_2x32(jnp.asarray(key), jnp.asarray(counters).ravel()).reshape(2, -1)
    np.testing.assert_array_equal(draws.threefry(*key, *counters, rounds=20), expected)


def test_uniform_numbers_are_uniform_and_independent():
    a = np.asarray(draws.uniform(KEYS, (100, 333), salt=7)).reshape(len(KEYS), -1)
    b = np.asarray(draws.uniform(KEYS, (100, 333), salt=8)).reshape(len(KEYS), -1)
    rows = np.concatenate([a, b])
    for row in rows:
        assert row.min() >= 0 and row.max() < 1
        assert stats.kstest(row, "uniform").pvalue > 1e-4
    # neighbours in either direction, other keys, other salts: no correlation
    pairs = [(a[0, 1:], a[0, :-1]), (a[0, 333:], a[0, :-333]), (a[0], a[1]), (a[0], b[0])]
    for first, second in pairs:
        assert abs(stats.pearsonr(first, second).statistic) < 5 / np.sqrt(len(first))


def test_an_example_draws_from_its_own_key():
    whole = draws.uniform(KEYS, (5, 3), salt=7)
    np.testing.assert_array_equal(draws.uniform(KEYS[2:3], (5, 3), salt=7)[0], whole[2])
    np.testing.assert_array_equal(draws.normal(KEYS[2:3], (5, 3))[0], draws.normal(KEYS, (5, 3))[2])
    assert len(np.unique(whole)) == whole.size


def test_uniform_takes_keys_of_all_of_jaxs_generators():
    for name in ("threefry2x32", "rbg", "unsafe_rbg"):
        keys = jax.random.split(jax.random.key(0, impl=name), 3)
        assert len(np.unique(draws.uniform(keys, (100,), salt=7))) > 290


def test_uniform_and_what_jax_draws_from_the_same_key_differ():
    ours = np.asarray(draws.uniform(KEYS, (1000,), salt=7))
    theirs = np.asarray(jax.vmap(lambda key: jax.random.uniform(key, (1000,)))(KEYS))
    assert np.isin(ours, np.floor(theirs * 2**24) / 2**24).mean() < 0.01
