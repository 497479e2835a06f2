"""Points in the plane whose distribution is known exactly, for looking at what a model learns.

Every set has mean 0 and variance 1 along both axes, and 10,000 points in each of its three splits,
which are drawn once and for all: a split's numbers depend on its name and the set's alone.
"""

import zlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float32, Int

from jaxgen.data.reader import Asked, Reader, in_memory
from jaxgen.errors import InputError, lookup

SIZE = 10_000
Drawn = tuple[Float[np.ndarray, "N 2"], Int[np.ndarray, " N"]]


def eight_gaussians(random: np.random.Generator, count: int) -> Drawn:
    """Eight normal distributions of equal weight around (1.4 cos(pi k / 4), 1.4 sin(pi k / 4)),
    each with the variance 0.02 along both axes; the label is k.

    A circle of radius 1.4 has the variance 1.4^2 / 2 = 0.98 along both axes.
    """
    label = random.integers(0, 8, count)
    angle = np.pi / 4 * label
    centre = 1.4 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return centre + np.sqrt(0.02) * random.standard_normal((count, 2)), label


def moons(random: np.random.Generator, count: int) -> Drawn:
    """Two interleaving half circles: with an angle a uniform in [0, pi], (cos a, sin a) for label 0
    and (1 - cos a, 1/2 - sin a) for label 1, each for half of the points; plus normal noise of
    standard deviation 0.1; minus the mean, (1/2, 1/4), and divided by the standard deviation of
    either axis, (0.76)^(1/2) and (0.5725 - 1/pi)^(1/2).
    """
    label = random.integers(0, 2, count)
    angle = np.pi * random.random(count)
    x, y = np.cos(angle), np.sin(angle)
    curve = np.stack([np.where(label, 1 - x, x), np.where(label, 0.5 - y, y)], axis=1)
    noisy = curve + 0.1 * random.standard_normal((count, 2))
    return (noisy - [0.5, 0.25]) / np.sqrt([0.76, 0.5725 - 1 / np.pi]), label


def checkerboard(random: np.random.Generator, count: int) -> Drawn:
    """Uniform on the 8 dark squares of a board of 4 x 4 that covers [-3^(1/2), 3^(1/2)]^2: square
    (i, j), counted from the lower left, is dark where i + j is even, and its label is
    2 i + floor(j / 2).
    """
    label = random.integers(0, 8, count)
    column = label // 2
    row = 2 * (label % 2) + column % 2
    place = np.stack([column, row], axis=1) + random.random((count, 2))
    return np.sqrt(3) * (place / 2 - 1), label


SETS: dict[str, Callable[[np.random.Generator, int], Drawn] | str] = {
    "eight_gaussians": eight_gaussians,
    "moons": moons,
    "checkerboard": checkerboard,
}


def draw(
    name: str, split: str, count: int
) -> tuple[Float32[np.ndarray, "N 2"], Int[np.ndarray, " N"]]:
    """`count` points of a set's split, and their labels."""
    random = np.random.default_rng([zlib.crc32(name.encode()), zlib.crc32(split.encode())])
    points, labels = lookup(SETS, "set of points", name)(random, count)
    return np.asarray(points, np.float32), np.asarray(labels, np.int32)


def open_points(name: str, asked: Asked) -> Reader:
    """A set of points as a source with the columns "point" float32 [N, 2] and "label" int [N].

    name: of `SETS`; or "package.module:attribute", a function from a generator of numpy and the
    number of points to (points [N, D], labels [N]).
    """
    if asked.resize != "none":
        raise InputError(f"points:{name}: points cannot be resized (config.data.resize)")
    splits = {}
    for split in ("train", "validation", "test"):
        points, labels = draw(name, split, SIZE)
        splits[split] = {"point": points, "label": labels}
    return in_memory(splits, max(int(columns["label"].max()) for columns in splits.values()) + 1)
