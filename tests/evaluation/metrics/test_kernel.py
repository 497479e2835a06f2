"""The kernel distance against its double sum and scikit-learn's kernel."""

import numpy as np
import pytest
from sklearn.metrics.pairwise import polynomial_kernel

from jaxgen.errors import InputError
from jaxgen.evaluation import metrics
from jaxgen.evaluation.metrics import kernel


def features(seed, rows, columns, shift=0.0):
    rng = np.random.default_rng(seed)
    return shift + rng.normal(size=(rows, columns))


def double_sum(x, y):
    """Pair by pair, as the definition of the U-statistic says."""

    def k(a, b):
        return (np.dot(a, b) / len(a) + 1.0) ** 3

    within = [
        np.mean([k(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j])
        for s in (x, y)
    ]
    return sum(within) - 2.0 * np.mean([k(a, b) for a in x for b in y])


def by_sklearn(x, y):
    options = dict(degree=3, gamma=None, coef0=1)
    inner = [polynomial_kernel(s, **options) for s in (x, y)]
    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in inner]
    return sum(within) - 2.0 * polynomial_kernel(x, y, **options).mean()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_the_double_sum(dtype):
    x, y = features(0, 23, 7).astype(dtype), features(1, 17, 7, 0.3).astype(dtype)
    expected = double_sum(x.astype(np.float64), y.astype(np.float64))
    assert metrics.polynomial_mmd(x, y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("block", [10, 64, 2048])
def test_blocks_change_nothing(monkeypatch, block):
    monkeypatch.setattr(kernel, "_BLOCK", block)
    x, y = features(0, 150, 20), features(1, 61, 20, 0.5)
    assert metrics.polynomial_mmd(x, y) == pytest.approx(by_sklearn(x, y), rel=1e-9)


def test_collapsed_and_rank_deficient_sets():
    x = features(0, 60, 20)
    for y in (
        np.repeat(x[:1], 50, axis=0),
        features(1, 60, 3) @ features(2, 3, 20),
        np.concatenate([x[:30]] * 2),
    ):
        assert metrics.polynomial_mmd(x, y) == pytest.approx(by_sklearn(x, y), rel=1e-6)


def test_it_is_unbiased():
    """Sets of one distribution: the mean over many draws is 0 within its standard error."""
    rng = np.random.default_rng(0)
    draws = [
        metrics.polynomial_mmd(rng.normal(size=(12, 4)), rng.normal(size=(12, 4)))
        for _ in range(2000)
    ]
    assert abs(np.mean(draws)) < 3.5 * np.std(draws) / np.sqrt(2000)
    assert min(draws) < 0


def test_subsets_estimate_the_whole():
    real, generated = features(0, 400, 8), features(1, 300, 8, 0.4)
    whole = metrics.polynomial_mmd(real, generated)
    found = metrics.kernel_distance(real, generated, num_subsets=50, subset_size=100)
    assert found.mean == pytest.approx(whole, abs=4 * found.std / np.sqrt(50))
    assert found.std > 0
    assert float(found) == found.mean
    assert found == metrics.kernel_distance(
        real, generated, num_subsets=50, subset_size=100, seed=0
    )
    assert found != metrics.kernel_distance(
        real, generated, num_subsets=50, subset_size=100, seed=1
    )


def test_the_spread_is_that_of_the_subsets():
    """Of two values a and b the standard deviation with N in the denominator is |a - b| / 2."""
    real, generated = features(0, 40, 3), features(1, 40, 3)
    one = metrics.kernel_distance(real, generated, num_subsets=1, subset_size=10)
    two = metrics.kernel_distance(real, generated, num_subsets=2, subset_size=10)
    assert one.std == 0.0
    assert two.std == pytest.approx(abs(two.mean - one.mean), rel=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subset_size": 41}, "subset_size=41 exceeds a set of 40"),
        ({"subset_size": 1}, "at least 2"),
        ({"num_subsets": 0, "subset_size": 5}, "num_subsets"),
        ({"subset_size": 2.5}, "integer"),
        ({"subset_size": 5, "seed": -1}, "seed must be an integer of at least 0"),
        ({"subset_size": 5, "seed": "a"}, "seed must be an integer of at least 0"),
        ({}, "set subset_size to at most 40"),
    ],
)
def test_bad_subsets_are_named(options, message):
    with pytest.raises(InputError, match=message):
        metrics.kernel_distance(features(0, 40, 3), features(1, 50, 3), **options)
