"""Metrics of neighbours against brute force and the authors' package."""

import numpy as np
import pytest

from jaxgen.errors import InputError
from jaxgen.evaluation import metrics
from jaxgen.evaluation.metrics import distances
from tests.support import close


def features(seed, rows, columns, shift=0.0):
    rng = np.random.default_rng(seed)
    return shift + rng.normal(size=(rows, columns)) @ rng.normal(size=(columns, columns))


def between(a, b):
    return np.linalg.norm(a[:, None] - b[None], axis=-1)


def by_definition(real, generated, k):
    """(precision, recall, density, coverage) from all distances."""
    # entry 0 is the point itself
    radius = [np.sort(between(x, x), axis=1)[:, k] for x in (real, generated)]
    across = between(generated, real)
    inside_real, inside_generated = across < radius[0][None], across < radius[1][:, None]
    return (
        inside_real.any(axis=1).mean(), inside_generated.any(axis=0).mean(),
        inside_real.sum() / (k * len(generated)), inside_real.any(axis=0).mean(),
    )  # fmt: skip


def sets(kind):
    real = features(0, 70, 5)
    if kind == "shifted":
        return real, features(1, 60, 5, 0.5)
    if kind == "collapsed":
        return real, np.repeat(real[:1] + 0.1, 40, axis=0) + 1e-3 * features(1, 40, 5)
    if kind == "copies":
        return real, real[:50]
    if kind == "rank 2":
        return features(0, 70, 2) @ features(3, 2, 5)[:, :5], features(1, 60, 5)
    if kind == "two far clusters":
        return real + 1e6 * (np.arange(70) < 30)[:, None], features(1, 60, 5) + 1e6 * (
            np.arange(60) < 20
        )[:, None]
    if kind == "heavy tails":
        return tuple(np.random.default_rng(seed).standard_cauchy((60, 5)) ** 3 for seed in (0, 1))
    if kind == "modes and noise":
        return np.repeat(real[:20], 4, axis=0), np.concatenate(
            [np.repeat(real[:2], 10, axis=0), real[:30] + 1e-9]
        )
    if kind == "integers":
        return tuple(np.random.default_rng(seed).integers(0, 3, (60, 5)) for seed in (0, 1))
    return 1e4 + real, 1e4 + features(1, 60, 5)  # far


KINDS = [
    "shifted",
    "collapsed",
    "copies",
    "rank 2",
    "far",
    "two far clusters",
    "heavy tails",
    "modes and noise",
    "integers",
]


def four(real, generated, k):
    return *metrics.precision_recall(real, generated, k=k), *metrics.density_coverage(
        real, generated, k=k
    )


@pytest.mark.parametrize("entries", [2**24, 200])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 3, 5])
def test_they_are_their_definitions(monkeypatch, kind, k, entries):
    monkeypatch.setattr(distances, "_ENTRIES", entries)
    real, generated = sets(kind)
    assert four(real, generated, k) == pytest.approx(by_definition(real, generated, k), rel=1e-12)


# it loses digits there
@pytest.mark.parametrize(
    "kind", sorted(set(KINDS) - {"far", "two far clusters", "modes and noise"})
)
def test_they_are_those_of_the_authors_package(kind):
    package = pytest.importorskip("prdc")
    real, generated = sets(kind)
    theirs = package.compute_prdc(real_features=real, fake_features=generated, nearest_k=4)
    ours = dict(zip(("precision", "recall", "density", "coverage"), four(real, generated, 4)))
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_both_at_once_are_each_alone():
    real, generated = sets("shifted")
    for k, j in ((3, 5), (4, 4), (6, 2)):
        both = metrics.precision_recall_density_coverage(
            real, generated, k_precision=k, k_density=j
        )
        assert both[0] == metrics.precision_recall(real, generated, k=k)
        assert both[1] == metrics.density_coverage(real, generated, k=j)


def test_collapse_costs_coverage_and_recall_and_copies_have_all():
    real = features(0, 200, 4)
    collapsed = np.repeat(real[:1], 200, axis=0)
    assert metrics.density_coverage(real, collapsed).coverage < 0.1
    assert metrics.precision_recall(real, collapsed) == (1.0, 0.0)
    assert metrics.density_coverage(real, real).coverage == 1.0
    assert metrics.precision_recall(real, real) == (1.0, 1.0)


def test_ties_are_outside_on_any_lattice():
    """Generated points lie on the surfaces of the balls exactly; rounding must not let some in."""
    side = np.stack(np.meshgrid(*[np.arange(5.0)] * 3), axis=-1).reshape(-1, 3)
    for scale in (1.0, 0.1, 1 / 3):
        real, generated = scale * side, scale * (side + [5.0, 0.0, 0.0])
        assert metrics.precision_recall(real, generated, k=1) == (0.0, 0.0)
        assert metrics.density_coverage(real, generated, k=1) == (0.0, 0.0)
    same = np.full((6, 3), 0.1)  # balls of radius 0 hold nothing, not even their center
    assert metrics.precision_recall(same, same) == (0.0, 0.0)


@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_nearest_distance_sees_exact_copies_far_from_the_origin(shift):
    points = shift + features(0, 50, 8)
    queries = np.concatenate([points[7:8], points[:1] + 3e-3])
    nearest = metrics.nearest_distance(queries, points)
    assert nearest[0] == 0.0
    assert nearest[1] == pytest.approx(np.sqrt(8) * 3e-3, rel=1e-6)
    others = features(1, 30, 8, shift)
    truth = between(others, points).min(axis=1)
    close(metrics.nearest_distance(others, points), truth, points, dtype=np.float64)


def test_training_side_and_ratio_are_their_definitions():
    generated, train, held_out = features(0, 40, 3), features(1, 30, 3), features(2, 30, 3)
    near, far = between(generated, train).min(axis=1), between(generated, held_out).min(axis=1)
    assert metrics.training_side(generated, train, held_out) == np.mean(near < far)
    assert metrics.distance_ratio(generated, train, held_out) == pytest.approx(
        np.median(near) / np.median(far), rel=1e-9
    )


def test_memorisation_shows_and_its_absence_too():
    rng = np.random.default_rng(0)
    fresh, train, held_out = rng.normal(size=(3, 1000, 4))
    assert metrics.training_side(fresh, train, held_out) == pytest.approx(0.5, abs=0.07)
    assert metrics.distance_ratio(fresh, train, held_out) == pytest.approx(1.0, abs=0.1)
    assert metrics.training_side(train, train, held_out) == 1.0
    assert metrics.distance_ratio(train, train, held_out) == 0.0
    assert metrics.distance_ratio(held_out, train, held_out) == np.inf
    assert metrics.distance_ratio(train, train, train) == 1.0


def test_copy_rate_is_its_definition():
    train = features(1, 60, 3)
    generated = np.concatenate([features(0, 40, 3), train[:10] + 0.01])
    first, second = np.sort(between(generated, train), axis=1)[:, :2].T
    for ratio in (1 / 3, 0.7):
        assert metrics.copy_rate(generated, train, ratio=ratio) == np.mean(first / second < ratio)
    assert metrics.copy_rate(generated[40:], train) > 0.8


@pytest.mark.parametrize("offset", [0.0, 1e-9, 1e-3])
def test_duplicates_in_the_training_set_do_not_hide_copies(offset):
    train = 50.0 + np.random.default_rng(0).normal(size=(40, 6))
    doubled = np.concatenate([train, train])
    assert metrics.copy_rate(train[:8] + offset, doubled) == 1.0
    nearly = np.concatenate([train, train + 1e-8])  # a sample between the two is as near to both
    assert metrics.copy_rate(train[:8] + 5e-9, nearly) == 1.0


def test_exact_copies_and_duplicates_are_counted():
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 1), dtype=np.uint8)
    off_by_one = images[3:4] ^ 1
    assert metrics.exact_copies(np.concatenate([images[2:4], off_by_one]), images) == 2
    assert metrics.exact_copies(images[:, ::-1], images) == 0
    assert metrics.duplicates(images) == 0
    assert metrics.duplicates(np.concatenate([images, off_by_one, images[:3], images[:1]])) == 4
    assert metrics.duplicates(np.repeat(images[:1], 7, axis=0)) == 6


X, NAN = np.zeros((5, 2)), np.array([[0.0, 0.0]] * 4 + [[np.nan, 0.0]])
IMAGES = np.zeros((2, 4, 4, 1), np.uint8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.precision_recall(X, X, k=5), "k=5 is too large for a set of 5"),
        (lambda: metrics.precision_recall(X, X, k=0), "k must be an integer"),
        (lambda: metrics.density_coverage(X, X[:3], k=3), "k=3 is too large for a set of 3"),
        (lambda: metrics.precision_recall_density_coverage(X, X), "too large"),
        (lambda: metrics.precision_recall(X, NAN, k=1), "generated.*row 4"),
        (lambda: metrics.density_coverage(X, X[:, :1], k=1), "one extractor"),
        (lambda: metrics.nearest_distance(X, X[:0]), "points has 0 rows"),
        (lambda: metrics.nearest_distance(NAN, X), "queries.*row 4"),
        (lambda: metrics.training_side(X, X, X[:4]), "as many of each"),
        (lambda: metrics.distance_ratio(X, X[:3], X), "as many of each"),
        (lambda: metrics.distance_ratio(X, X, X[:, :1]), "held_out 1"),
        (lambda: metrics.copy_rate(X, X), "fewer than 2 different"),
        (lambda: metrics.copy_rate(X, np.eye(2), ratio=1.5), "ratio"),
        (lambda: metrics.exact_copies(IMAGES / 255.0, IMAGES), "samples must be a uint8"),
        (lambda: metrics.exact_copies(IMAGES, IMAGES[:, :3]), "one shape"),
        (lambda: metrics.exact_copies(IMAGES, IMAGES[:0]), "originals is empty"),
        (lambda: metrics.duplicates(IMAGES[:0]), "empty"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
