"""Sliced Wasserstein distances against scipy's and closed forms, and the Gaussian kernel's MMD
against scikit-learn's kernel."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import pdist
from sklearn.metrics.pairwise import rbf_kernel

from jaxgen.errors import InputError
from jaxgen.evaluation import metrics
from jaxgen.evaluation.metrics import kernel, transport
from tests.support import close, normal


@pytest.mark.parametrize("sizes", [(40, 40), (40, 17), (1, 30)])
def test_each_projection_has_the_distance_of_scipy(sizes):
    a, b = (normal(i, size).astype(np.float64) + i for i, size in enumerate(sizes))
    exact = dict(dtype=np.float64, terms=40)
    close(transport._wasserstein(a, b), stats.wasserstein_distance(a, b), **exact)
    line = [metrics.sliced_wasserstein(x[:, None], y[:, None]) for x, y in ((a, b), (-a, -b))]
    close(line, [stats.wasserstein_distance(a, b)] * 2, **exact)


def test_a_shift_moves_every_projection_by_its_part():
    """Of a shift by m in the plane the mean over all directions is |m| 2 / pi."""
    points, shift = normal(0, 500, 2), np.float32([3.0, 4.0])
    found = metrics.sliced_wasserstein(points, points + shift, num_projections=4000)
    spread = 5 * np.sqrt(0.5 - (2 / np.pi) ** 2) / np.sqrt(4000)
    assert abs(found - 5 * 2 / np.pi) < 4 * spread
    assert metrics.sliced_wasserstein(points, points[::-1]) == 0.0


def test_directions_follow_from_the_seed_alone():
    a, b = normal(0, 50, 2), normal(1, 30, 2)
    assert metrics.sliced_wasserstein(a, b) == metrics.sliced_wasserstein(a, b, seed=0)
    assert metrics.sliced_wasserstein(a, b) != metrics.sliced_wasserstein(a, b, seed=1)


@pytest.mark.parametrize("block", [2048, 10])
def test_the_gaussian_kernel_is_that_of_scikit_learn(monkeypatch, block):
    monkeypatch.setattr(kernel, "_BLOCK", block)
    x, y = (z.astype(np.float64) for z in (normal(0, 37, 2), normal(1, 23, 2) + 0.5))
    gamma = 0.5 / np.median(pdist(x)) ** 2
    inner = [rbf_kernel(z, gamma=gamma) for z in (x, y)]
    within = [(k.sum() - len(k)) / (len(k) * (len(k) - 1)) for k in inner]
    expected = sum(within) - 2 * rbf_kernel(x, y, gamma=gamma).mean()
    close(metrics.gaussian_mmd(x, y), expected, 2.0, dtype=np.float64, terms=37)


def test_the_gaussian_estimate_is_unbiased_and_far_sets_differ_by_their_own_kernels():
    rng = np.random.default_rng(0)
    draws = [metrics.gaussian_mmd(*rng.normal(size=(2, 12, 2))) for _ in range(400)]
    assert abs(np.mean(draws)) < 4 * np.std(draws) / np.sqrt(400) and min(draws) < 0
    x = normal(0, 60, 2).astype(np.float64)
    gamma = 0.5 / np.median(pdist(x)) ** 2
    within = (rbf_kernel(x, gamma=gamma).sum() - 60) / (60 * 59)
    close(metrics.gaussian_mmd(x, x + 1e3), 2 * within, dtype=np.float64, factor=1e5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.sliced_wasserstein(np.zeros((0, 2)), np.zeros((3, 2))), "0 rows"),
        (lambda: metrics.sliced_wasserstein(np.eye(2), np.eye(3)), "one extractor"),
        (lambda: metrics.sliced_wasserstein(np.eye(2), [[np.nan, 0]]), "generated: row 0"),
        (lambda: metrics.sliced_wasserstein(np.eye(2), np.eye(2), num_projections=0), "integer"),
        (lambda: metrics.gaussian_mmd(np.zeros((9, 2)), np.eye(2)), "half of the pairs"),
        (lambda: metrics.gaussian_mmd(np.zeros((1, 2)), np.eye(2)), "at least 2"),
    ],
)
def test_bad_points_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
