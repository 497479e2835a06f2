"""Diversity against closed forms, scipy and the authors' package."""

import numpy as np
import pytest
from scipy import stats

from jaxgen.errors import InputError
from jaxgen.evaluation import metrics


def by_definition(features, order):
    """The Renyi entropy from all N eigenvalues of the kernel matrix."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    shares = np.linalg.eigvalsh(unit @ unit.T / len(unit))
    shares = shares[shares > 1e-13]
    if order == 1:
        return np.exp(stats.entropy(shares))
    return 1 / shares.max() if order == np.inf else np.sum(shares**order) ** (1 / (1 - order))


@pytest.mark.parametrize("order", [0.5, 1, 2, np.inf])
@pytest.mark.parametrize("shape", [(30, 8), (8, 30), (20, 20)])
def test_vendi_score_is_its_definition(shape, order):
    features = np.random.default_rng(0).normal(size=shape) + 0.5
    assert metrics.vendi_score(features, order=order) == pytest.approx(
        by_definition(features, order), rel=1e-6
    )
    single = features.astype(np.float32)
    assert metrics.vendi_score(single, order=order) == pytest.approx(
        by_definition(single.astype(float), order), rel=1e-6
    )


@pytest.mark.parametrize("order", [1, 2, np.inf])
def test_vendi_score_is_that_of_the_authors_package(order):
    vendi = pytest.importorskip("vendi_score.vendi")
    rng = np.random.default_rng(0)
    for features in (
        rng.normal(size=(40, 6)),
        rng.normal(size=(6, 40)),
        np.repeat(rng.normal(size=(3, 5)), 7, axis=0),
    ):
        theirs = vendi.score_dual(features, q="inf" if order == np.inf else order, normalize=True)
        assert metrics.vendi_score(features, order=order) == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("order", [0, 0.1, 1, 2, 1000, np.inf])
def test_vendi_score_counts_orthogonal_groups(order):
    assert metrics.vendi_score(np.eye(7) * 3.0, order=order) == pytest.approx(7.0, rel=1e-9)
    assert metrics.vendi_score(np.repeat(np.eye(7)[:4], 5, axis=0), order=order) == pytest.approx(
        4.0, rel=1e-9
    )
    assert metrics.vendi_score(np.tile([[1.0, 2.0]], (9, 1)), order=order) == pytest.approx(
        1.0, rel=1e-9
    )
    assert metrics.vendi_score(np.array([[1e-200, 0], [0, 1e200]]), order=order) == pytest.approx(
        2.0, rel=1e-9
    )


def test_class_shares_and_their_distance():
    shares = metrics.class_shares(np.array([0, 2, 2, 2]), 4)
    np.testing.assert_array_equal(shares, [0.25, 0, 0.75, 0])
    assert metrics.class_distance(shares, shares) == 0.0
    assert metrics.class_distance(shares, [0, 0.5, 0, 0.5]) == 1.0
    assert metrics.class_distance(shares, [0.25] * 4) == pytest.approx(0.5)


def test_modes_of_even_collapsed_and_random_sets():
    assert metrics.modes(np.tile(np.arange(1000), 3), 1000) == pytest.approx((1000, 0.0), abs=1e-9)
    collapsed = metrics.modes(np.full(50, 7), 1000)
    assert collapsed == pytest.approx((1, np.log(1000)), rel=1e-12)
    classes = np.random.default_rng(0).zipf(1.5, 500) % 20
    counts = np.bincount(classes, minlength=20)
    found = metrics.modes(classes, 20)
    assert found.count == np.count_nonzero(counts)
    assert found.kl == pytest.approx(stats.entropy(counts, np.ones(20)), rel=1e-9)


def test_inception_score_of_known_sets():
    sharp = np.eye(10)[np.arange(1000) % 10]
    assert metrics.inception_score(sharp, splits=1) == pytest.approx((10.0, 0.0), rel=1e-9)
    assert metrics.inception_score(np.full((50, 10), 0.1)) == pytest.approx((1.0, 0.0), abs=1e-9)
    assert metrics.inception_score(np.tile(sharp[:1], (50, 1))) == pytest.approx(
        (1.0, 0.0), abs=1e-9
    )


def test_inception_score_is_its_definition():
    probabilities = np.random.default_rng(0).dirichlet(np.full(6, 0.2), 101)
    probabilities[3] = np.eye(6)[2]

    def direct(p):
        return np.exp(np.mean([stats.entropy(row, p.mean(axis=0)) for row in p]))

    whole = metrics.inception_score(probabilities, splits=1)
    assert whole.mean == pytest.approx(direct(probabilities), rel=1e-9)
    single = metrics.inception_score(probabilities.astype(np.float32), splits=1)
    assert single.mean == pytest.approx(whole.mean, rel=1e-6)
    order = np.random.default_rng(5).permutation(101)
    parts = [direct(probabilities[part]) for part in np.array_split(order, 4)]
    found = metrics.inception_score(probabilities, splits=4, seed=5)
    assert found == pytest.approx((np.mean(parts), np.std(parts)), rel=1e-9)
    assert float(found) == found.mean


def test_confident_share():
    assert (
        metrics.confident_share(np.array([[0.9, 0.1], [0.8, 0.2], [0.5, 0.5], [0.1, 0.9]])) == 0.5
    )


P = np.full((4, 2), 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.vendi_score(np.zeros((0, 3))), "0 rows"),
        (lambda: metrics.vendi_score([[1.0, 0.0], [0.0, 0.0]]), "row 1 holds only zeros"),
        (lambda: metrics.vendi_score(np.eye(2), order=-1), "order"),
        (lambda: metrics.vendi_score([[1.0], [np.inf]]), "row 1"),
        (lambda: metrics.class_shares(np.array([], int), 3), "empty"),
        (lambda: metrics.class_shares(np.array([0, 3]), 3), "outside 0 to 2"),
        (lambda: metrics.class_shares(np.array([-1, 2]), 3), "outside 0 to 2"),
        (lambda: metrics.class_shares(np.array([0.0, 1.0]), 3), "integers"),
        (lambda: metrics.modes(np.array([5]), 5), "outside"),
        (lambda: metrics.class_distance([0.5, 0.5], [1.0]), r"both must be \[K\]"),
        (lambda: metrics.class_distance([5.0, 5.0], [0.5, 0.5]), "sums to 10"),
        (lambda: metrics.inception_score(P, splits=5), "4 rows, fewer than the 5 splits"),
        (lambda: metrics.inception_score(P * 2, splits=1), "row 0 sums to 2"),
        (lambda: metrics.inception_score(P + [[0.7, -0.7]], splits=1), "row 0 is negative"),
        (lambda: metrics.inception_score(P * np.nan, splits=1), "NaN"),
        (lambda: metrics.inception_score(P[:0], splits=1), "empty"),
        (lambda: metrics.inception_score(P[0], splits=1), r"\[N, K\]"),
        (lambda: metrics.confident_share(P[:0]), "empty"),
        (lambda: metrics.confident_share(P * 3), "not to 1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
