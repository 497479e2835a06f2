"""Points against the distributions that their docstrings state."""

import numpy as np
import pytest

from jaxgen.data import load
from jaxgen.data.points import SETS, draw
from jaxgen.errors import InputError

COUNT = 200_000


@pytest.mark.parametrize("name", SETS)
def test_mean_and_variance(name):
    points, labels = draw(name, "train", COUNT)
    assert points.dtype == np.float32 and points.shape == (COUNT, 2) and labels.shape == (COUNT,)
    # of 200,000 numbers of variance 1: within 5 standard errors
    assert np.abs(points.mean(axis=0)).max() < 5 / COUNT**0.5
    assert np.abs(points.var(axis=0) - 1).max() < 5 * (2 / COUNT) ** 0.5
    counts = np.bincount(labels)
    assert np.abs(counts / COUNT - 1 / len(counts)).max() < 5 * (0.25 / COUNT) ** 0.5


def test_gaussians_lie_around_eight_points_of_a_circle():
    points, labels = draw("eight_gaussians", "train", COUNT)
    for k in range(8):
        rest = points[labels == k] - 1.4 * np.array([np.cos(np.pi * k / 4), np.sin(np.pi * k / 4)])
        assert np.abs(rest.mean(axis=0)).max() < 5 * (0.02 / (COUNT / 8)) ** 0.5
        assert np.abs(rest.var(axis=0) / 0.02 - 1).max() < 5 * (2 / (COUNT / 8)) ** 0.5


def test_moons_are_half_circles():
    points, labels = draw("moons", "train", COUNT)
    x, y = (points * np.sqrt([0.76, 0.5725 - 1 / np.pi]) + [0.5, 0.25]).T
    radius = np.where(labels == 0, np.hypot(x, y), np.hypot(x - 1, y - 0.5))
    # noise of deviation 0.1 moves a circle of radius 1 out by 0.1^2 / 2
    assert abs(radius.mean() - 1.005) < 0.001 and abs(radius.std() - 0.1) < 0.001
    assert (np.where(labels == 0, y, 0.5 - y) > -0.5).all()


def test_the_checkerboard_is_uniform_on_its_dark_squares():
    points, labels = draw("checkerboard", "train", COUNT)
    i, j = np.floor((points / np.sqrt(3) + 1) * 2).astype(int).clip(0, 3).T
    assert ((i + j) % 2 == 0).all() and np.array_equal(labels, 2 * i + j // 2)
    inside = (points / np.sqrt(3) + 1) * 2 % 1
    assert np.abs(np.histogram(inside, 10, (0, 1))[0] / (2 * COUNT) - 0.1).max() < 0.002


def test_splits_differ_and_stay():
    train, test = load("points:moons", "train"), load("points:moons", "test[:10]")
    assert (
        len(train) == 10_000 and train.num_classes == 2 and train.images is train.columns["point"]
    )
    assert np.array_equal(train.images, load("points:moons", "train").images)
    assert not np.isin(test.images, train.images).all()


def test_names(tmp_path):
    outside = load("points:tests.data.test_points:diagonal", "train[:5]")
    assert np.array_equal(outside.images[:, 0], outside.images[:, 1]) and outside.shape == (2,)
    for source, options, message in [
        ("points:moon", {}, "unknown set of points 'moon': did you mean moons"),
        ("points", {}, "unknown data source 'points'"),
        (
            "points:moons",
            {"image_shape": (3,)},
            r"points have shape \(2,\), but image_shape is \(3",
        ),
        ("points:moons", {"resize": "crop"}, "points cannot be resized"),
    ]:
        with pytest.raises(InputError, match=message):
            load(source, "train", **options)


def diagonal(random, count):
    x = random.standard_normal(count)
    return np.stack([x, x], axis=1), np.zeros(count, int)
