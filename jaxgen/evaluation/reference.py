"""Against what samples are measured: real images, the floor beside them, and the images that copies
are looked for among."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxgen import config as config_lib
from jaxgen import data
from jaxgen.errors import InputError
from jaxgen.evaluation import features as features_lib
from jaxgen.evaluation import record, scores
from jaxgen.evaluation.features import Extractor, Features, classifier, pixels, support_vector
from jaxgen.evaluation.scores import Score
from jaxgen.evaluation.sets import (
    K_COVERAGE,
    K_PRECISION,
    LEAST,
    Copies,
    Guards,
    View,
    examples,
    pairs,
    view,
)

# Distances between points are those of their coordinates.
POINTS = Extractor("points", lambda x: Features(np.asarray(x, np.float32), None), "points", {})


class Floor(NamedTuple):
    """The scores of real images that stand in the place of samples.

    scores: {id: mean, std, values}. size: images of a set of samples that enter a comparison of
    sets. text: what was compared."""

    scores: dict[str, dict[str, Any]]
    size: int
    text: str


class References(NamedTuple):
    """What samples are measured against.

    real: the reference images. guards: where copies are looked for; None without a training set.
    unseen: examples that a model's likelihood and reconstructions are measured on.
    judge, modes: classifiers, or None. rows: the scores that apply. protocol: for records."""

    real: View
    floor: Floor
    guards: Guards | None
    unseen: data.Table
    extractors: tuple[Extractor, ...]
    judge: Extractor | None
    modes: Extractor | None
    rows: tuple[Score, ...]
    protocol: dict[str, Any]

    @property
    def space(self) -> str:
        """ "pixels", or "points" for vectors of float32."""
        return space_of(self.real.source)

    def see(self, name: str, images: np.ndarray, index: np.ndarray | None = None) -> View:
        """Samples (those of `index`) through all extractors."""
        return view(name, images, _every(self.extractors, self.judge, self.guards), index)


def space_of(array: np.ndarray) -> str:
    return "points" if array.ndim == 2 and array.dtype != np.uint8 else "pixels"


def references(config) -> References:
    """The references of a config: its test split, or its training split where
    config.evaluation.split says so.

    For the 8x8 digits, validation and test are the reference together, and also train the judge.
    """
    spec, digits = config.evaluation, config.data.source == "digits"
    config_lib.check_fields(config, "evaluation.")
    if digits:
        config = config.copy_and_resolve_references()
        config.data.test = "validation+test"
    train = data.from_config(config, "train").everything()
    held_out = _held_out(config)
    judge = None
    if digits and held_out is not None:
        judge = support_vector.extractor(held_out.images, held_out.labels)
    real, other = (held_out, train) if spec.split == "test" else (train, held_out)
    return build(real, other, spec, train=train, held_out=held_out, judge=judge)


def _held_out(config) -> data.Table | None:
    """The test split; None where there is none and samples are measured against training data."""
    try:
        return data.from_config(config, "test").everything()
    except InputError:
        if config.evaluation.split == "test":
            raise
        return None


def build(
    real: data.Table,
    other: data.Table | None,
    spec,
    *,
    train: data.Table | None = None,
    held_out: data.Table | None = None,
    judge: Extractor | None = None,
) -> References:
    """References of the images `real`, and a floor of the images `other` (None: of halves of
    `real`).

    spec: as config.evaluation. judge: a classifier (default: the data set's pinned one).
    """
    fit = train or other or real
    judge = judge or classifier.for_source(fit.name)
    modes = classifier.for_source(fit.name.removeprefix("stacked:"))
    modes = modes if fit.name.startswith("stacked:") else None
    _check(real, judge)
    space = space_of(examples(real))
    extractors: tuple[Extractor, ...] = ()
    guards = None
    if space == "pixels" or spec.features:
        extractors = tuple(
            features_lib.build(spec.features, fit, weights=spec.inception, resize=spec.resize)
        )
    if train is not None and held_out is not None:
        guards = Guards(train, held_out, _distances(space, extractors, fit))
    rows = scores.table(extractors, judge, modes, space=space, outside=spec.scores)
    every = _every(extractors, judge, guards)
    source = examples(real)
    chosen = np.random.default_rng(0).permutation(len(source))[: spec.reference_images or None]
    reference = view(real.name, source, every, np.sort(chosen), keep=True)
    size, text, sides = _floor(reference, other, spec, every)
    each = [scores.measure(rows, pairs(a, b, extractors, judge, modes)) for a, b in sides]
    floors = _summed(each)
    protocol = {
        "images": f"{source.dtype} {source.shape[1:]}",
        "reference": f"{reference.count} images, {real.name}",
        "floor": text,
        "images in a comparison of sets": size,
        "k": (
            f"{K_PRECISION} for precision and recall, {K_COVERAGE} for density and coverage, "
            f"strictly nearer"
        ),
        **{
            f"features {e.name}": {"sha256": e.digest[:16], **e.protocol}
            for e in _every(extractors, judge, None)
        },
        **({"modes": {"classifier": modes.name, **modes.protocol}} if modes else {}),
    }
    if guards is not None:
        checks, protocol["floor of checks"] = _floor_of_checks(guards, rows, size, len(spec.seeds))
        floors |= checks
    floor = Floor(floors, size, text)
    unseen = held_out or other or real
    return References(reference, floor, guards, unseen, extractors, judge, modes, rows, protocol)


def _summed(each: list[dict[str, float]]) -> dict[str, dict[str, Any]]:
    return {name: record.summary([found[name] for found in each]) for name in each[0]}


def _check(real: data.Table, judge: Extractor | None) -> None:
    """Raises InputError for real images that nothing can be measured against."""
    images = examples(real)
    if len(images) < 2 * LEAST:
        raise InputError(
            f"{real.name}: has {len(images)} images; a reference needs at least {2 * LEAST}"
        )
    if all(np.array_equal(image, images[0]) for image in images):
        raise InputError(
            f"{real.name}: all {len(images)} images are the same as image 0, so nothing can be "
            f"measured against them: take real images"
        )
    if judge is not None and real.labels is not None:
        empty = sorted(set(range(real.num_classes)) - set(real.labels.tolist()))
        if empty:
            raise InputError(
                f"{real.name}: has no image of class {empty[0]}, so classes cannot be compared: "
                f"take more images"
            )


def _distances(space: str, extractors: tuple[Extractor, ...], fit: data.Table) -> Extractor:
    """The extractor in whose features distances to training images are measured."""
    if space == "points":
        return POINTS
    fitted = [e for e in extractors if e.name.startswith("PCA")]
    return fitted[0] if fitted else pixels.extractor(fit.images, fit.name, data.fingerprint(fit))


def _every(extractors, judge: Extractor | None, guards: Guards | None) -> list[Extractor]:
    """Each extractor once."""
    more = [*([judge] if judge else []), *([guards.space] if guards else [])]
    return list({e.name: e for e in (*extractors, *more)}.values())


def _floor(
    reference: View, other: data.Table | None, spec, every: list[Extractor]
) -> tuple[int, str, Iterator[tuple[View, View]]]:
    """(size, what is compared, pairs of sets of real images): the reference beside other real
    images, or divisions of the reference where there are no others."""
    count = len(spec.seeds)
    if other is None:
        size = min(spec.num, reference.count)
        half = min(size, reference.count // 2)
        orders = [np.random.default_rng(i).permutation(reference.count) for i in range(count)]
        sides = ((reference.take(o[half:]), reference.take(o[:half])) for o in orders)
        text = f"{count} random divisions of the reference: {half} images against the others"
        return size, text, sides
    images = examples(other)
    size = min(spec.num, len(images))
    order = np.random.default_rng(0).permutation(len(images))
    parts = disjoint(order, size, count)
    sides = (
        (reference, view(other.name, images, every, np.sort(part), keep=True)) for part in parts
    )
    plural = "s" * (len(parts) > 1)
    text = f"{len(parts)} disjoint set{plural} of {size} other real images, {other.name}"
    return size, text, sides


def disjoint(order: np.ndarray, size: int, count: int) -> list[np.ndarray]:
    """Up to `count` parts of `size` that share nothing; at least one."""
    return [order[i * size :][:size] for i in range(max(1, min(count, len(order) // size)))]


def _floor_of_checks(
    guards: Guards, rows: tuple[Score, ...], size: int, count: int
) -> tuple[dict[str, dict[str, Any]], str]:
    """The checks of held-out images in the place of samples, and what was compared."""
    images = examples(guards.held_out)
    half = min(size, len(images) // 2)
    order = [np.random.default_rng(i).permutation(len(images)) for i in range(count)]
    each = []
    for o in order:
        near, far = guards.among(o[half:])
        copies = Copies(images[o[:half]], guards.unseen[o[:half]], guards, near, far)
        each.append(scores.measure(rows, {"guards": copies}))
    text = (
        f"{count} random divisions of {guards.held_out.name}: {half} images as samples, against "
        f"the rest"
    )
    return _summed(each), text
