"""Measuring a trained system, or anybody's samples, against references."""

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Shaped

from jaxgen import data
from jaxgen.artefact import Artefact
from jaxgen.errors import InputError
from jaxgen.evaluation import likelihood, record, scores, speed
from jaxgen.evaluation.reference import References, space_of
from jaxgen.evaluation.sets import LEAST, Copies, View, pairs
from jaxgen.sampling import conditions, generate, rows_of, sampler

GROUPS = 5  # of the jackknife over a single file of samples


class Model:
    """A trained system as scores of a model see it; what costs something is done when asked for.

    artefact: what it is. options: of its sampler. source: held-out examples."""

    def __init__(self, artefact: Artefact, options: Mapping[str, Any], source: data.Table):
        self.artefact, self.options, self.source = artefact, dict(options), source

    def condition(self, num: int) -> dict[str, np.ndarray] | None:
        """What `num` samples are conditioned on: the classes in turn, rows of held-out data."""
        config, spec = self.artefact.config, self.artefact.family.data.conditions
        return conditions(spec, num, rows=rows_of(config, spec, self.source, num))

    @cached_property
    def speed(self) -> speed.Speed:
        return speed.sampling(self.artefact, self.options, self.condition)

    @property
    def milliseconds(self) -> dict[str, Any]:
        return record.summary([1000.0 * s for s in self.speed.per_image])

    @property
    def milliseconds_for_one(self) -> dict[str, Any]:
        return record.summary([1000.0 * s for s in self.speed.one])

    @cached_property
    def log_prob(self) -> dict[str, Any] | None:
        return likelihood.log_probability(self.artefact, self.source)

    @property
    def nats(self) -> dict[str, Any] | None:
        found = self.log_prob
        return found and {
            "mean": found["nats"], "std": found["standard_error"], "values": [found["nats"]]
        }  # fmt: skip

    @cached_property
    def reconstruction(self) -> dict[str, float]:
        return likelihood.reconstruction(self.artefact, self.source)


def check_samples(
    sets: Mapping[str, np.ndarray], real: Shaped[np.ndarray, "N ..."], num: int | None = None
) -> None:
    """Raises InputError unless `evaluate_samples` can measure the sets against such real images."""
    # a jackknife leaves out a part of a single set
    least = LEAST if len(sets) > 1 else math.ceil(LEAST * GROUPS / (GROUPS - 1))
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


def check_images(images: np.ndarray, real: Shaped[np.ndarray, "N ..."], where: str) -> None:
    """Raises InputError unless `images` are of the type, the shape and the range of real ones."""
    points, shape, wanted = space_of(real) == "points", np.shape(images)[1:], real.shape[1:]
    if not isinstance(images, np.ndarray) or images.dtype.kind not in "uif":
        kind = images.dtype if isinstance(images, np.ndarray) else type(images).__name__
        raise InputError(f"{where}: expected an array of numbers, not {kind}")
    if shape != wanted:
        fix = "bring them to that shape"
        if len(shape) == 3 == len(wanted) and shape[-1] == 4 and wanted[-1] != 4:
            fix = "drop their fourth channel (alpha), as images[..., :3]"
        elif (*shape, 1) == wanted:
            fix = "add the axis of channels, as images[..., None]"
        raise InputError(f"{where}: the images are {shape}, the reference {wanted}: {fix}")
    if points:
        if not np.isfinite(images).all():
            row = int(np.argmin(np.isfinite(images).all(axis=1)))
            raise InputError(f"{where}: point {row} holds NaN or infinity: look at what made it")
        return
    if images.dtype != np.uint8:
        low, high = (float(f(images)) if images.size else 0.0 for f in (np.min, np.max))
        fix = "images.astype(np.uint8)" if high > 1 else "np.round(255 * x)"
        fix = "np.clip(np.round(127.5 * (x + 1)), 0, 255)" if -1 <= low < 0 and high <= 1 else fix
        raise InputError(
            f"{where}: the images are {images.dtype} from {low:.4g} to {high:.4g}, expected uint8: "
            f"save them as {fix}"
        )
    if len(images) and images.max() == 1 < real.max():
        raise InputError(
            f"{where}: no pixel is above 1, so floats in [0, 1] were cast: save them as "
            f"np.round(255 * x)"
        )


def score_samples(images: Shaped[np.ndarray, "N ..."], refs: References) -> dict[str, float]:
    """All scores of one set of images that need nothing but the images. Shares are fractions.

    As many of the images as the floor has are compared with the reference; all of them where a
    score says so."""
    check_images(images, refs.real.source, "samples")
    return _score(refs.see("samples", images), refs, refs.floor.size)


def _score(generated: View, refs: References, size: int) -> dict[str, float]:
    given: dict[str, Any] = pairs(
        refs.real, generated.take(slice(size)), refs.extractors, refs.judge, refs.modes
    )
    if generated.count > size:
        given |= pairs(refs.real, generated, refs.extractors, whole=True)
    if refs.guards is not None:
        vectors = generated.features[refs.guards.space.name].vectors
        given["guards"] = Copies(generated.images, vectors, refs.guards, *refs.guards.among())
    return scores.measure(refs.rows, given)


def against_floor(found: Mapping[str, Any], floor: Mapping[str, Any]) -> dict[str, Any]:
    """The scores, with the multiple of the floor where that is positive beyond its own noise."""

    def times(name, value):
        beside = floor.get(name, {"mean": 0.0, "std": 0.0})
        if beside["mean"] <= beside["std"]:
            return value
        return {**value, "times_floor": value["mean"] / beside["mean"]}

    return {name: times(name, value) for name, value in found.items()}


def evaluate_samples(
    sets: Mapping[str, np.ndarray], refs: References, num: int | None = None
) -> dict[str, Any]:
    """The record of anybody's samples by the name of their file: several sets (seeds) give mean and
    standard deviation over them; a single one a standard deviation by the jackknife that leaves out
    a fifth of it.

    Files may be sorted by class: what is compared, and `num` images where not all are wanted, are
    drawn at random. Raises InputError as `check_samples`."""
    check_samples(sets, refs.real.source, num)
    views = [
        refs.see(name, x, np.random.default_rng(0).permutation(len(x))[:num])
        for name, x in sets.items()
    ]
    each = [_score(view, refs, refs.floor.size) for view in views]
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
        "scores": against_floor(found, refs.floor.scores),
        "floors": refs.floor.scores,
        "protocol": {"samples": [view.count for view in views], "spread": spread, **refs.protocol},
        "machine": record.machine(),
        "commit": record.commit(),
    }


def _jackknife(view: View, refs: References) -> dict[str, np.ndarray]:
    """The scores without each of the parts; as many images less are compared, so that the rest are
    those of the whole.
    """
    index = np.arange(view.count)
    left = [index[index % GROUPS != part] for part in range(GROUPS)]
    size = refs.floor.size
    each = [_score(view.take(keep), refs, round(size * len(keep) / view.count)) for keep in left]
    return {name: np.array([one[name] for one in each]) for name in each[0]}


def evaluate(
    artefact: Artefact,
    refs: References,
    *,
    options: Mapping[str, Any],
    ema: str | None,
    progress: Callable[[int], None] = lambda count: None,
) -> tuple[dict[str, Any], dict[int, np.ndarray]]:
    """(record of all scores with their protocol, the samples by seed).

    options: of the sampler. ema: the rate of the average that the variables are, for the record.
    """
    config, family = artefact.config, artefact.family
    spec, size = config.evaluation, config.sample.batch_size
    model = Model(artefact, options, refs.unseen)
    run, condition = sampler(family, options, artefact.space), model.condition(spec.num)
    kept = {
        seed: generate(
            run,
            artefact.variables,
            spec.num,
            seed=seed,
            batch_size=size,
            condition=condition,
            progress=progress,
        )
        for seed in spec.seeds
    }
    per_seed = [score_samples(images, refs) for images in kept.values()]
    found = {name: record.summary([one[name] for one in per_seed]) for name in per_seed[0]}
    for name, value in scores.measure(refs.rows, {"model": model}).items():
        found[name] = dict(value) if isinstance(value, Mapping) else record.summary([value])
    took = model.speed
    return {
        "scores": against_floor(found, refs.floor.scores),
        "floors": refs.floor.scores,
        "log_prob": model.log_prob,
        "nfe": family.nfe(**options),
        "parameters": artefact.parameters,
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
            "sampling batch size": size,
            **refs.protocol,
        },
        "machine": record.machine(),
        "commit": record.commit(),
    }, kept  # fmt: skip
