"""Metrics against scipy, brute force and closed forms."""

import numpy as np
import pytest
from scipy import linalg

from jaxgen.errors import InputError
from jaxgen.evaluation import metrics


def features(seed, rows, columns, scale=1.0, shift=0.0):
    rng = np.random.default_rng(seed)
    return shift + scale * rng.normal(size=(rows, columns)) @ rng.normal(size=(columns, columns))


def by_square_root(a, b):
    """The textbook formula with scipy's matrix square root."""
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(ca @ cb)
    return np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(ca + cb - 2 * root.real)


def test_frechet_distance_is_the_textbook_formula():
    a, b = features(0, 300, 12), features(1, 200, 12, 1.5, 0.3)
    assert metrics.frechet_distance(a, b) == pytest.approx(by_square_root(a, b), rel=1e-6)


def test_frechet_distance_of_aligned_gaussians_is_closed_form():
    base = features(0, 500, 6)
    assert metrics.frechet_distance(base, base + 2.0) == pytest.approx(6 * 4.0, rel=1e-9)
    center = base - base.mean(0)
    expected = (3.0 - 1.0) ** 2 * np.trace(np.cov(base, rowvar=False))
    assert metrics.frechet_distance(center, 3.0 * center) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_with_fewer_samples_than_features():
    """Padding both sets with copies of a constant column changes nothing; the two branches must agree."""
    a, b = features(0, 20, 10), features(1, 15, 10)
    wide = [np.concatenate([x, np.zeros((len(x), 30))], axis=1) for x in (a, b)]
    assert metrics.frechet_distance(*wide) == pytest.approx(metrics.frechet_distance(a, b), rel=1e-9)
    assert metrics.frechet_distance(a, a) == pytest.approx(0.0, abs=1e-9 * np.trace(np.cov(a, rowvar=False)))


def test_density_and_coverage_are_their_definitions():
    real, generated, k = features(0, 60, 3), features(0, 60, 3) + 0.4, 5
    distance = np.linalg.norm(real[:, None] - real[None], axis=-1)
    radius = np.sort(distance, axis=1)[:, k]  # entry 0 is the point itself
    inside = np.linalg.norm(generated[:, None] - real[None], axis=-1) < radius
    density, coverage = metrics.density_coverage(real, generated, k=k)
    assert density == pytest.approx(inside.sum() / (k * len(generated)), rel=1e-12)
    assert coverage == inside.any(axis=0).mean()


def test_collapse_costs_coverage_and_copies_have_it_all():
    real = features(0, 200, 4)
    assert metrics.density_coverage(real, np.repeat(real[:1], 200, axis=0))[1] < 0.1
    assert metrics.density_coverage(real, real)[1] == 1.0


def test_nearest_distance_sees_exact_copies_far_from_the_origin():
    points = 1e3 + features(0, 50, 8)
    queries = np.concatenate([points[7:8], points[:1] + 3e-3])
    nearest = metrics.nearest_distance(queries, points)
    assert nearest[0] < 1e-5
    assert nearest[1] == pytest.approx(np.sqrt(8) * 3e-3, rel=1e-4)


def test_exact_copies_are_counted():
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 1), dtype=np.uint8)
    off_by_one = images[3:4] ^ 1
    assert metrics.exact_copies(np.concatenate([images[2:4], off_by_one]), images) == 2


@pytest.mark.parametrize(
    ("real", "generated", "message"),
    [
        (np.zeros((5, 2)), np.zeros((5, 3)), "one extractor"),
        (np.zeros((1, 2)), np.zeros((5, 2)), "at least 2"),
        (np.zeros((5, 2, 2)), np.zeros((5, 2)), r"\[N, D\]"),
        (np.zeros((5, 2)), np.array([[0.0, 0.0], [np.nan, 0.0]]), "row 1"),
    ],
)
def test_bad_features_are_named(real, generated, message):
    with pytest.raises(InputError, match=message):
        metrics.frechet_distance(real, generated)
