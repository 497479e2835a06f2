"""How a system, or anybody's samples, are measured: against which real images, beside which floor,
and what a record says.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import UInt8

from jaxgen import data
from jaxgen.errors import InputError
from jaxgen.evaluation import features as features_lib
from jaxgen.evaluation import likelihood, record, scores, speed
from jaxgen.evaluation.features import Extractor, classifier, pixels, support_vector
from jaxgen.families.base import Family, Variables
from jaxgen.sampling import balanced_labels, generate, sampler

GROUPS = 5  # of the jackknife over a single file of samples


class References(NamedTuple):
    """What samples are measured against.

    real: the reference images. floor: (real images, as many others as there are samples), or
    divisions of the reference where there are no others; floors: their scores, and the checks of
    held-out images, {id: mean, std, values}. size: images of a set of samples that enter a
    comparison of sets. train, held_out: where copies are looked for, against what; None where there
    is no training set. judge, modes: classifiers, or None. space: where distances to training
    images are measured."""

    name: str
    real: scores.View
    floor: tuple[tuple[scores.View, scores.View], ...]
    floors: dict[str, dict[str, Any]]
    size: int
    train: data.Table | None
    held_out: data.Table | None
    extractors: tuple[Extractor, ...]
    judge: Extractor | None
    modes: Extractor | None
    space: Extractor
    protocol: dict[str, Any]


def references(config, load_source: Callable[[Any, str], data.Table]) -> References:
    """The references of a config: its test split, or its training split where
    config.evaluation.split says so.

    For the 8x8 digits, validation and test are the reference together, and also train the judge.
    """
    spec, train = config.evaluation, load_source(config, "train")
    if spec.split not in ("test", "train"):
        raise InputError(f"config.evaluation.split must be test or train, not '{spec.split}'")
    seeds = list(spec.seeds)
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise InputError(
            f"config.evaluation.seeds must be different integers from 0, at least one, not "
            f"{tuple(seeds)}"
        )
    if config.data.source == "digits":
        config = config.copy_and_resolve_references()
        config.data.test = "validation+test"
    held_out = load_source(config, "test")
    judge = None
    if config.data.source == "digits":
        judge = support_vector.extractor(held_out.images, held_out.labels)
    real, other = (held_out, train) if spec.split == "test" else (train, held_out)
    return build(real, other, spec, train=train, held_out=held_out, judge=judge)


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
    if len(real.images) < 2 * scores.LEAST:
        raise InputError(
            f"{real.name}: has {len(real.images)} images; a reference needs at least "
            f"{2 * scores.LEAST}"
        )
    extractors = tuple(
        features_lib.build(spec.features, fit, weights=spec.inception, resize=spec.resize)
    )
    judge = judge or classifier.for_source(fit.name)
    stacked = fit.name.removeprefix("stacked:") if fit.name.startswith("stacked:") else ""
    modes = classifier.for_source(stacked) if stacked else None
    space = pixels.extractor(fit.images, fit.name, data.fingerprint(fit))
    every = {e.name: e for e in (*extractors, *([judge] if judge else []))}.values()

    def seen(images):
        return scores.view(images, list(every), keep=True)

    if judge is not None and real.labels is not None:
        empty = sorted(set(range(real.num_classes)) - set(real.labels.tolist()))
        if empty:
            raise InputError(
                f"{real.name}: has no image of class {empty[0]}, so classes cannot be compared: "
                f"take more images"
            )
    chosen = np.random.default_rng(0).permutation(len(real.images))[: spec.reference_images or None]
    reference, count = seen(real.images[np.sort(chosen)]), len(spec.seeds)
    if other is None:
        size = min(spec.num, len(reference.images))
        half = min(size, len(reference.images) // 2)
        order = [np.random.default_rng(i).permutation(len(reference.images)) for i in range(count)]
        floor = tuple((reference.take(o[half:]), reference.take(o[:half])) for o in order)
        told = f"{count} random divisions of the reference: {half} images against the others"
    else:
        size = min(spec.num, len(other.images))
        order = np.random.default_rng(0).permutation(len(other.images))
        parts = [
            order[i * size : (i + 1) * size] for i in range(max(1, min(count, len(order) // size)))
        ]
        floor = tuple((reference, seen(other.images[np.sort(part)])) for part in parts)
        told = (
            f"{len(parts)} disjoint set{'s' * (len(parts) > 1)} of {size} other real images, "
            f"{other.name}"
        )
    protocol = {
        "images": f"uint8 {real.images.shape[1:]}",
        "reference": f"{len(reference.images)} images, {real.name}",
        "floor": told,
        "images in a comparison of sets": size,
        "k": (
            f"{scores.K_PRECISION} for precision and recall, {scores.K_COVERAGE} for density and "
            f"coverage, strictly nearer"
        ),
        **{f"features {e.name}": {"sha256": e.digest[:16], **e.protocol} for e in every},
        **({"modes": {"classifier": modes.name, **modes.protocol}} if modes else {}),
    }
    each = [scores.set_scores(b, a, extractors, judge, modes) for a, b in floor]
    floors = {name: record.summary([found[name] for found in each]) for name in each[0]}
    if train is not None and held_out is not None:
        half = min(size, len(held_out.images) // 2)
        order = [np.random.default_rng(i).permutation(len(held_out.images)) for i in range(count)]
        parts = [(held_out.images[o[:half]], held_out.images[o[half:]]) for o in order]
        guards = [scores.guard_scores(images, train.images, rest, space) for images, rest in parts]
        floors |= {name: record.summary([found[name] for found in guards]) for name in guards[0]}
        protocol["floor of checks"] = (
            f"{count} random divisions of {held_out.name}: {half} images as samples, against the "
            f"rest"
        )
    return References(
        real.name,
        reference,
        floor,
        floors,
        size,
        train,
        held_out,
        extractors,
        judge,
        modes,
        space,
        protocol,
    )


def check_samples(
    sets: Mapping[str, np.ndarray], real: UInt8[np.ndarray, "N H W C"], num: int | None = None
) -> None:
    """Raises InputError unless `evaluate_samples` can measure these sets against such real images."""
    least = (
        scores.LEAST if len(sets) > 1 else math.ceil(scores.LEAST * GROUPS / (GROUPS - 1))
    )  # what a jackknife leaves
    for name, images in sets.items():
        check_images(images, real, name)
        if len(images) < least:
            raise InputError(
                f"{name}: has {len(images)} images; scores need at least {least}: sample more"
            )
        if len(images) < (num or 0):
            raise InputError(
                f"{name}: has {len(images)} images, fewer than --num={num}: sample more, or set it "
                f"lower"
            )


def check_images(images: np.ndarray, real: UInt8[np.ndarray, "N H W C"], where: str) -> None:
    """Raises InputError unless `images` are uint8 of the shape and the range of real ones."""
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        raise InputError(
            f"{where}: the images are {images.dtype}, expected uint8: quantise them as "
            f"np.round(255 * x)"
        )
    if images.shape[1:] != real.shape[1:]:
        raise InputError(
            f"{where}: the images are {images.shape[1:]}, the reference {real.shape[1:]}: bring "
            f"them to that shape"
        )
    if len(images) and images.max() == 1 < real.max():
        raise InputError(
            f"{where}: no pixel is above 1, so floats in [0, 1] were cast: save them as "
            f"np.round(255 * x)"
        )


def score_samples(images: UInt8[np.ndarray, "N H W C"], refs: References) -> dict[str, float]:
    """All scores of one set of images that need nothing but the images. Shares are fractions.

    As many of the images as the floor has are compared with the reference; all of them where a
    score says so."""
    check_images(images, refs.real.images, "samples")
    return _score(_seen(images, refs), refs, refs.size)


def _seen(images: np.ndarray, refs: References) -> scores.View:
    every = {e.name: e for e in (*refs.extractors, *([refs.judge] if refs.judge else []))}.values()
    return scores.view(images, list(every))


def _score(generated: scores.View, refs: References, size: int) -> dict[str, float]:
    found = scores.set_scores(
        generated.take(slice(size)), refs.real, refs.extractors, refs.judge, refs.modes
    )
    if len(generated.images) > size:
        found |= scores.whole_scores(generated, refs.real, refs.extractors)
    if refs.train is not None and refs.held_out is not None:
        found |= scores.guard_scores(
            generated.images, refs.train.images, refs.held_out.images, refs.space
        )
    return found


def against_floor(found: Mapping[str, Any], floor: Mapping[str, Any]) -> dict[str, Any]:
    """The scores, each with its multiple of its floor where that is positive beyond its own noise."""

    def times(name, value):
        beside = floor.get(name, {"mean": 0.0, "std": 0.0})
        return (
            {**value, "times_floor": value["mean"] / beside["mean"]}
            if beside["mean"] > beside["std"]
            else value
        )

    return {name: times(name, value) for name, value in found.items()}


def evaluate_samples(
    sets: Mapping[str, np.ndarray], refs: References, num: int | None = None
) -> dict[str, Any]:
    """The record of anybody's samples by the name of their file: several sets (seeds) give mean and
    standard deviation over them; a single one a standard deviation by the jackknife that leaves out
    a fifth of it.

    Files may be sorted by class: what is compared, and `num` images where not all are wanted, are
    drawn at random. Raises InputError as `check_samples`."""
    check_samples(sets, refs.real.images, num)
    views = [
        _seen(x[np.random.default_rng(0).permutation(len(x))[:num]], refs) for x in sets.values()
    ]
    each = [_score(view, refs, refs.size) for view in views]
    found = {
        name: record.summary([one[name] for one in each if name in one])
        for name in each[0] | each[-1]
    }
    spread = f"standard deviation over {len(sets)} sets"
    if len(sets) == 1:
        spread = f"jackknife that leaves out one of {GROUPS} parts of the samples"
        for name, values in _jackknife(views[0], refs).items():
            found[name]["std"] = math.sqrt(GROUPS - 1) * record.deviation(values, ddof=0)
    return {
        "scores": against_floor(found, refs.floors),
        "floors": refs.floors,
        "protocol": {
            "samples": [len(view.images) for view in views],
            "spread": spread,
            **refs.protocol,
        },
        "machine": record.machine(),
        "commit": record.commit(),
    }


def _jackknife(view: scores.View, refs: References) -> dict[str, np.ndarray]:
    """The scores without each of the parts; as many images less are compared, so that the rest are
    those of the whole.
    """
    index = np.arange(len(view.images))
    left = [index[index % GROUPS != part] for part in range(GROUPS)]
    each = [
        _score(view.take(keep), refs, round(refs.size * len(keep) / len(index))) for keep in left
    ]
    return {name: np.array([one[name] for one in each]) for name in each[0]}


def evaluate(
    config,
    family: Family,
    variables: Variables,
    refs: References,
    *,
    options: Mapping[str, Any],
    ema: str | None,
    progress: Callable[[int], None] = lambda count: None,
) -> tuple[dict[str, Any], dict[int, np.ndarray]]:
    """(record of all scores with their protocol, the samples by seed).

    ema: the rate of the average that `variables` are, for the record.
    """
    spec = config.evaluation
    classes = config.data.num_classes if config.conditional else 0
    run = sampler(family, options)
    labels = balanced_labels(spec.num, classes)
    kept = {}
    for seed in spec.seeds:
        kept[seed] = generate(run, variables, spec.num, seed=seed, batch_size=config.sample.batch_size, labels=labels,
                              progress=progress)  # fmt: skip
    per_seed = [score_samples(images, refs) for images in kept.values()]
    found = {name: record.summary([one[name] for one in per_seed]) for name in per_seed[0]}
    took = speed.sampling(family, variables, options, classes, config.sample.batch_size)
    found["latency_ms"] = record.summary([1000.0 * s for s in took.per_image])
    found["latency_one_ms"] = record.summary([1000.0 * s for s in took.one])
    source = refs.held_out or refs.train
    likely = likelihood.log_probability(config, family, variables, source)
    if likely is not None:
        found["nll"] = {
            "mean": likely["nats"],
            "std": likely["standard_error"],
            "values": [likely["nats"]],
        }
    for name, value in (likelihood.reconstruction(config, family, variables, source) or {}).items():
        found[name] = record.summary([value])
    return {
        "scores": against_floor(found, refs.floors),
        "floors": refs.floors,
        "log_prob": likely,
        "nfe": family.nfe(**options),
        "parameters": int(sum(np.prod(x.shape) for x in jax.tree.leaves(variables["params"]))),
        "cost": {
            "best_batch": took.best_batch,
            "ms_per_image_by_batch": {str(size): 1000.0 * s for size, s in took.by_batch.items()},
            "compile_seconds": took.compile_seconds,
            "sampling_memory_bytes": took.memory_bytes,
            "sampling_flops_per_image": took.flops_per_image,
        },
        "protocol": {
            "samples per seed": spec.num,
            "seeds": list(spec.seeds),
            "sampler": {**family.sample_options, **options},
            "guidance": options.get("guidance", "none"),
            "parameters": "raw" if ema is None else f"average of rate {ema}",
            "sampling batch size": config.sample.batch_size,
            **refs.protocol,
        },
        "machine": record.machine(),
        "commit": record.commit(),
    }, kept  # fmt: skip
