"""Sets of images (or points) as scores see them: with what extractors make of them, side by side
with real ones, and beside the training images that they may be copies of."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from jaxgen import data
from jaxgen.errors import InputError
from jaxgen.evaluation import metrics
from jaxgen.evaluation.features import Extractor, Features, cached
from jaxgen.evaluation.features.classifier import stacked_modes

K_PRECISION, K_COVERAGE = 3, 5
LEAST = K_COVERAGE + 1  # images in a set, so that each has so many neighbours
ALL_PAIRS = 10_000  # images up to which all pairs are compared; of larger sets, random subsets


def examples(source: data.Table) -> Shaped[np.ndarray, "N ..."]:
    """What is modelled of a source: its images, or its points."""
    return source.arrays["point" if "point" in source.arrays else "image"]


class View(NamedTuple):
    """Some images (or points) of a set, with what each extractor sees in them, by its name.

    name: of the set; index [N]: which of its images these are, for messages.
    """

    name: str
    source: Shaped[np.ndarray, "M ..."]
    index: np.ndarray  # type: ignore[assignment]  # tuples have a method of this name
    features: Mapping[str, Features]

    @property
    def count(self) -> int:  # type: ignore[override]
        return len(self.index)

    @property
    def images(self) -> Shaped[np.ndarray, "N ..."]:
        return self.source[self.index]

    def take(self, rows: np.ndarray | slice) -> "View":
        features = {name: seen.take(rows) for name, seen in self.features.items()}
        return View(self.name, self.source, self.index[rows], features)


def some(rows: Shaped[np.ndarray, "N ..."]) -> Shaped[np.ndarray, "M ..."]:
    """The rows, or ALL_PAIRS of them at random where there are more: what is compared pair by pair
    costs the square of their number."""
    if len(rows) <= ALL_PAIRS:
        return rows
    return rows[np.sort(np.random.default_rng(0).permutation(len(rows))[:ALL_PAIRS])]


def view(
    name: str,
    source: np.ndarray,
    extractors: Iterable[Extractor],
    index: np.ndarray | None = None,
    *,
    keep: bool = False,
) -> View:
    """The images `index` of a set (None: all) through all extractors, each once; keep: also on
    disk, for reference images. Raises InputError, naming the set, for images that an extractor
    refuses.
    """
    images = source if index is None else source[index]
    index = np.arange(len(source)) if index is None else index
    try:
        features = {
            extractor.name: cached(extractor, images) if keep else extractor.extract(images)
            for extractor in extractors
        }
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    return View(name, source, index, features)


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """Two sets as a score sees them: `real` and `generated` arrays, made when first asked for."""

    sides: tuple[View, View]
    see: Callable[[View], np.ndarray]

    @cached_property
    def real(self) -> np.ndarray:
        return self.see(self.sides[0])

    @cached_property
    def generated(self) -> np.ndarray:
        return self.see(self.sides[1])

    @cached_property
    def _known(self) -> dict[Callable, Any]:
        return {}

    def once(self, function: Callable[["Pair"], Any]) -> Any:
        """function(self), computed once for all scores that share it."""
        if function not in self._known:
            self._known[function] = function(self)
        return self._known[function]

    def place(self, argument: str, row: int) -> str:
        """Which image of which set a row of an argument is."""
        side = self.sides[argument != "real"]
        return f"{side.name}: image {side.index[row]}"


def pairs(
    real: View,
    generated: View,
    extractors: Iterable[Extractor],
    judge: Extractor | None = None,
    modes: Extractor | None = None,
    *,
    whole: bool = False,
) -> dict[str, Pair]:
    """What scores of two sets are measured of, by `Score.of`; whole: all samples, for scores that
    say so. Raises InputError where a set is too small."""
    for side in (real, generated):
        if side.count < LEAST:
            raise InputError(
                f"{side.name}: scores need at least {LEAST} images on either side, not "
                f"{side.count}: take more samples or real images"
            )
    sides, end = (real, generated), "all " if whole else ""

    def pair(see):
        return Pair(sides, see)

    found = {}
    for name in [e.name for e in extractors]:
        found[f"{end}features {name}"] = pair(lambda v, name=name: v.features[name].vectors)
        found[f"{end}inception {name}"] = pair(lambda v, name=name: v.features[name].probabilities)
    if whole:
        return found
    if judge is not None:
        found["judge"] = pair(lambda v: v.features[judge.name].probabilities)
    if modes is not None:
        found["modes"] = pair(lambda v: stacked_modes(modes, v.images))
    return found | {"images": pair(lambda v: v.images), "points": pair(lambda v: v.images)}


@dataclasses.dataclass(frozen=True, eq=False)
class Guards:
    """Where copies are looked for: real images that a model was trained on, and some that it never
    saw. space: the extractor in whose features distances are measured."""

    train: data.Table
    held_out: data.Table
    space: Extractor

    @cached_property
    def trained(self) -> Float[np.ndarray, "N D"]:
        """Features of all training images."""
        return cached(self.space, examples(self.train)).vectors

    @cached_property
    def unseen(self) -> Float[np.ndarray, "M D"]:
        """Features of all held-out images."""
        return cached(self.space, examples(self.held_out)).vectors

    def among(self, rows: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Features of as many training as held-out images (at most ALL_PAIRS), drawn at random.

        rows: the held-out images that may be drawn; None: all."""
        unseen = self.unseen if rows is None else self.unseen[rows]
        count = min(len(self.trained), len(unseen), ALL_PAIRS)
        trained, unseen = (
            x[np.sort(np.random.default_rng(0).permutation(len(x))[:count])]
            for x in (self.trained, unseen)
        )
        return trained, unseen


@dataclasses.dataclass(frozen=True, eq=False)
class Copies:
    """Samples beside what they may be copies of. images: uint8, or float32 points; features: in the
    guards' space; near, far: features of as many training as held-out images."""

    images: Shaped[np.ndarray, "N ..."]
    features: Float[np.ndarray, "N D"]
    guards: Guards
    near: Float[np.ndarray, "M D"]
    far: Float[np.ndarray, "M D"]

    @cached_property
    def side_and_ratio(self) -> tuple[float, float]:
        return metrics.training_side_and_distance_ratio(some(self.features), self.near, self.far)

    @property
    def copies(self) -> float:
        return float(metrics.exact_copies(_bytes(self.images), _bytes(examples(self.guards.train))))

    @property
    def duplicates(self) -> float:
        return float(metrics.duplicates(_bytes(self.images)))


def _bytes(rows: np.ndarray) -> np.ndarray:
    return rows if rows.dtype == np.uint8 else np.ascontiguousarray(rows).view(np.uint8)
