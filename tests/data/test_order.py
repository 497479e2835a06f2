import subprocess
import sys
from collections import Counter
from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2

from jaxgen.data import order
from jaxgen.data.order import Position
from jaxgen.errors import InputError


def epochs(size, count, seed=0, first=0):
    """The orders of `count` epochs, one a row."""
    return order.indices((first, 0), size * count, size, seed)[0].reshape(count, size)


def check_uniform(values, bins):
    """Chi-square of `values` against equal shares of `bins`, two-sided, refused at 1 in 10^5."""
    counts, expected = np.bincount(values, minlength=bins), len(values) / bins
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert 5e-6 < chi2.cdf(statistic, bins - 1) < 1 - 5e-6


@pytest.mark.slow
@pytest.mark.parametrize(
    "size, count", [(1, 4), (2, 9), (3, 9), (7, 9), (898, 3), (60_000, 2), (2**20, 1)]
)
def test_every_epoch_is_a_permutation(size, count):
    rows = epochs(size, count, seed=7, first=1)
    assert rows.dtype == np.int32
    assert (np.sort(rows) == np.arange(size)).all()
    assert np.array_equal(rows[-1], order.indices((count, 0), size, size, 7)[0]), (
        "an epoch is its own, however reached"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "size, offset, count",
    [(1, 0, 3), (3, 2, 10), (10, 9, 1), (898, 890, 128), (60_000, 59_990, 300)],
)
def test_numpy_and_compiled_jax_give_the_same(size, offset, count):
    expected, after = order.indices(Position(5, offset), count, size, 3)
    compiled = jax.jit(lambda position: order.indices(position, count, size, 3))
    for position in (jnp.array([5, offset], jnp.int32), Position(jnp.int32(5), jnp.int32(offset))):
        got, got_after = compiled(position)
        assert got.dtype == jnp.int32 and np.array_equal(got, expected)
        assert isinstance(got_after, Position) == isinstance(position, Position)
        assert tuple(int(part) for part in got_after) == after
    array, array_after = order.indices(np.array([5, offset], np.int32), count, size, 3)
    assert (
        np.array_equal(array, expected)
        and array_after.dtype == np.int32
        and tuple(array_after) == after
    )


@pytest.mark.parametrize("size", [1, 2, 10, 898])
@pytest.mark.parametrize("shuffle", [True, False])
def test_cutting_a_count_anywhere_changes_nothing(size, shuffle):
    start = Position(2, size // 2)
    whole, after = order.indices(start, 25, size, 1, shuffle)
    for cut in range(26):
        first, middle = order.indices(start, cut, size, 1, shuffle)
        rest, end = order.indices(middle, 25 - cut, size, 1, shuffle)
        assert np.array_equal(np.concatenate([first, rest]), whole) and end == after
        assert 0 <= middle.offset < size and middle == order.advance(start, cut, size)
        assert (middle.epoch - 2) * size + middle.offset - start.offset == cut


def test_without_shuffling_the_order_is_that_of_the_data():
    assert order.indices((0, 3), 9, 5, 0, shuffle=False)[0].tolist() == [3, 4, 0, 1, 2, 3, 4, 0, 1]


def test_all_permutations_of_few_examples_are_equally_likely():
    for size in (2, 3, 4, 5):
        rows = epochs(size, 12_000, seed=size)
        numbers = {row: i for i, row in enumerate(permutations(range(size)))}
        check_uniform([numbers[tuple(row)] for row in rows.tolist()], len(numbers))


@pytest.mark.slow
@pytest.mark.parametrize("size", [10, 101, 898])
def test_places_neighbours_and_epochs_are_independent(size):
    rows = epochs(size, 4_000_000 // size // 4, seed=11)
    for place in (0, 1, size // 2, size - 1):
        check_uniform(rows[:, place], size)
    for one, other in ((0, 1), (3, 4), (0, size // 2), (0, size - 1)):
        check_uniform((rows[:, one] - rows[:, other]) % size - 1, size - 1)  # never equal
        check_uniform((rows[1:, one] - rows[:-1, other]) % size, size)  # from one epoch to the next
    # Ascents of a random permutation: mean (N - 1) / 2, variance (N + 1) / 12. Fixed points: mean
    # 1, variance 1.
    ascents, fixed = (np.diff(rows) > 0).sum(1), (rows == np.arange(size)).sum(1)
    few = 5 / np.sqrt(len(rows))
    assert abs(ascents.mean() - (size - 1) / 2) < few * np.sqrt((size + 1) / 12)
    assert abs(ascents.var() / ((size + 1) / 12) - 1) < few * np.sqrt(2)
    assert abs(fixed.mean() - 1) < few and abs(fixed.var() - 1) < 2 * few


def test_seeds_of_any_length_give_different_orders():
    seeds = [0, 1, 2, 2**31, 2**32, 2**32 + 1, 2**63, 10**40]
    assert len({epochs(50, 1, seed).tobytes() for seed in seeds}) == len(seeds)
    # neighbouring seeds share nothing: places where two permutations agree are Poisson with mean 1
    rows = np.concatenate([epochs(500, 1, seed) for seed in range(400)])
    agreements = (rows[1:] == rows[:-1]).sum(1)
    assert abs(agreements.mean() - 1) < 5 / np.sqrt(399) and max(Counter(agreements.tolist())) < 9


@pytest.mark.slow
def test_far_epochs_and_large_data_sets():
    size = 2**31 - 1
    entries, after = order.indices(Position(10**6, size - 3), 1000, size, 5)
    assert len(set(entries.tolist())) == 1000 and entries.min() >= 0 and after == (10**6 + 1, 997)
    assert np.array_equal(
        order.indices(jnp.array([10**6, size - 3], jnp.int32), 1000, size, 5)[0], entries
    )


@pytest.mark.parametrize(
    "size, seed, position, message",
    [
        (0, 0, (0, 0), "need from 1 to 2147483647 examples, got 0"),
        (2**31, 0, (0, 0), "examples, got 2147483648"),
        (10, -1, (0, 0), "seed must not be negative, got -1"),
        (10, 0, (2, 10), r"position \(epoch 2, offset 10\) is outside a data set of 10 examples"),
        (10, 0, np.array([-1, 0]), r"position \(epoch -1, offset 0\)"),
    ],
)
def test_what_has_no_order_is_refused(size, seed, position, message):
    with pytest.raises(InputError, match=message):
        order.check(size, seed, position)


def test_on_the_host_it_needs_no_jax():
    program = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('order', sys.argv[1])\n"
        "order = importlib.util.module_from_spec(spec); spec.loader.exec_module(order)\n"
        "order.indices(order.START, 10, 5, 0); assert 'jax' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, order.__file__],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
