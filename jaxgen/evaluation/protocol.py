"""What is measured of one trained system, and how: samples in, a JSON record with its protocol out."""

import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgen import data
from jaxgen.evaluation import metrics
from jaxgen.evaluation.judge import Judge, confident_share, support_vector_judge
from jaxgen.families.base import Family, Variables
from jaxgen.sampling import balanced_labels, generate, sample_keys, sampler

# What each score means, in the order of a table. `floor` is filled in by measurement.
SCORES = (
    dict(id="confident", name="confident share", corner="quality", higher_is_better=True, unit="%", digits=1,
         explain="Share of the samples that an outside classifier, trained on real images that no model has seen, "
         "assigns to a digit with a probability above 0.8."),
    dict(id="frechet", name="FD-pixels", corner="quality", higher_is_better=False, unit="", digits=2,
         explain="Fréchet distance between the Gaussians fitted to the pixels of the samples and of held-out real images."),
    dict(id="latency_ms", name="time per image", corner="speed", higher_is_better=False, unit="ms", digits=3,
         explain="Milliseconds per image when sampling in full batches, without compilation."),
    dict(id="latency_one_ms", name="time for one", corner="speed", higher_is_better=False, unit="ms", digits=2,
         explain="Milliseconds for one image in a batch of one, without compilation."),
    dict(id="coverage", name="coverage", corner="diversity", higher_is_better=True, unit="%", digits=1,
         explain="Share of held-out real images with a sample nearer than their fifth real neighbour (pixels, k=5)."),
    dict(id="smallest_class", name="smallest class", corner="diversity", higher_is_better=True, unit="%", digits=1,
         explain="Share of the samples in the class that the outside classifier sees least; a tenth would be even."),
    dict(id="copies", name="copies", corner="check", higher_is_better=False, unit="", digits=0,
         explain="Samples that are bit for bit a training image."),
    dict(id="train_side", name="training side", corner="check", higher_is_better=False, unit="%", digits=0,
         explain="Share of the samples that lie nearer to a training image than to any of as many held-out images: 50 would be "
         "no memorisation at all, 100 is copying."),
    dict(id="nll", name="negative log-likelihood", corner="check", higher_is_better=False, unit="nats", digits=2,
         explain="Upper bound on the negative log-likelihood of held-out images, in nats per image: of binarised or uint8 pixels, "
         "or of a density on [-1, 1], as the record says."),
)  # fmt: skip


class References(NamedTuple):
    """The real images that samples are measured against: the split models train on, and held-out images."""

    train: data.Source
    held_out: data.Source
    judge: Judge | None


def references(config, load_source: Callable[[Any, str], data.Source]) -> References:
    """train, test (with validation where the data are few enough for a judge), and the judge where there is one."""
    train = load_source(config, "train")
    if config.data.source != "digits":
        return References(train, load_source(config, "test"), None)
    spec = config.copy_and_resolve_references()
    spec.data.test = "validation+test"
    held_out = load_source(spec, "test")
    return References(train, held_out, support_vector_judge(held_out.images, held_out.labels))


def pixels(images: np.ndarray) -> np.ndarray:
    """Raw pixels in [0, 1] as features [N, D]."""
    return images.reshape(len(images), -1).astype(np.float64) / 255.0


def training_side(features: np.ndarray, refs: References) -> float:
    """Share of samples nearer to the training images than to as many held-out ones (after Meehan et al. 2020)."""
    count = min(len(refs.train.images), len(refs.held_out.images))
    train, held_out = (pixels(source.images[:count]) for source in (refs.train, refs.held_out))
    nearer = metrics.nearest_distance(features, train) < metrics.nearest_distance(features, held_out)
    return float(np.mean(nearer))


def score_samples(images: np.ndarray, refs: References) -> dict[str, float]:
    """All scores of one set of uint8 images that need nothing but the images."""
    features, real = pixels(images), pixels(refs.held_out.images)
    scores = {
        "train_side": 100.0 * training_side(features, refs),
        "frechet": metrics.frechet_distance(real, features),
        "coverage": 100.0 * metrics.density_coverage(real, features)[1],
        "copies": float(metrics.exact_copies(images, refs.train.images)),
    }
    if refs.judge is not None:
        probabilities = refs.judge.probabilities(images)
        shares = metrics.class_shares(probabilities.argmax(axis=1), refs.judge.num_classes)
        scores |= {"confident": 100.0 * confident_share(probabilities), "smallest_class": 100.0 * float(shares.min())}
    return scores


def floors(refs: References, num: int) -> dict[str, float]:
    """The same scores for real training images against the held-out ones, as many as there are up to `num`."""
    scores = score_samples(refs.train.images[:num], refs)
    return {name: value for name, value in scores.items() if name not in ("copies", "train_side")}


def summary(values: list[float]) -> dict[str, Any]:
    """Mean and standard deviation over seeds, and the values themselves."""
    return {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
            "values": values}  # fmt: skip


def _seconds(run: Callable[[], Any], repeats: int) -> list[float]:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    return times


def speed(family: Family, variables: Variables, options, num_classes: int, batch_size: int, repeats: int = 5):
    """(seconds per image in batches, seconds for one image), by repeats, without compilation and without key creation."""
    run = sampler(family, options)

    def per_image(size):
        keys, labels = jax.block_until_ready(sample_keys(0, 0, size)), balanced_labels(size, num_classes)
        seconds = _seconds(lambda: run(variables, keys, labels)[0], repeats + 1)[1:]  # the first call compiles
        return [s / size for s in seconds]

    return per_image(batch_size), per_image(1)


def log_probability(config, family: Family, variables: Variables, source: data.Source) -> dict[str, Any] | None:
    """Nats per held-out image, or None for a system without a likelihood or a config that does not ask for it."""
    count, options = config.evaluation.log_prob_images, dict(config.evaluation.log_prob)
    if family.log_prob is None or not count:
        return None
    source = source._replace(
        images=source.images[:count], labels=None if source.labels is None else source.labels[:count]
    )
    size, kinds = min(config.sample.batch_size, len(source.images)), {}

    @jax.jit
    def nats(batch, index):
        keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(index)
        with jax.default_matmul_precision("highest"):
            result = family.log_prob(variables, data.prepare(batch, keys, flip=False), keys, **options)
        kinds.update(kind=result.kind, of=result.of)
        return result.nats

    values = []
    for i, batch in enumerate(data.eval_batches(source, size)):
        mask = batch.pop("mask")
        values.append(np.asarray(nats(batch, np.arange(i * size, (i + 1) * size)))[mask])
    values = -np.concatenate(values).astype(np.float64)
    bits = float(values.mean() / np.log(2.0) / np.prod(source.images.shape[1:]))
    if kinds["of"] == "gaussian":  # a density of dequantised images: a grey level is 1/127.5 wide (Theis et al. 2016)
        bits += float(np.log2(127.5))
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    return {"nats": float(values.mean()), "standard_error": error, "bits_per_dimension": bits, "images": len(values),
            "options": options, **kinds}  # fmt: skip


def commit() -> str:
    """The source's git commit, with a + where files differ from it; "unknown" outside a repository."""
    folder = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    try:
        head = subprocess.run(["git", "-C", folder, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
        dirty = subprocess.run(["git", "-C", folder, "status", "--porcelain"], capture_output=True, text=True)
    except OSError:
        return "unknown"
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "") if head.returncode == 0 else "unknown"


def machine() -> dict[str, Any]:
    """Device and versions, for a record."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind if device.platform != "cpu" else f"CPU ({platform.machine()})",
        "devices": jax.device_count(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in ("jax", "flax", "optax", "numpy")},
    }


def evaluate(
    config,
    family: Family,
    variables: Variables,
    refs: References,
    *,
    options: Mapping[str, Any],
    ema: str | None,
    progress: Callable[[int], None] = lambda count: None,
) -> tuple[dict[str, Any], np.ndarray]:
    """(record of all scores with their protocol, the first seed's samples).

    ema: the rate of the average that `variables` are, for the record.
    """
    spec = config.evaluation
    classes = config.data.num_classes if config.conditional else 0
    run = sampler(family, options)
    labels = balanced_labels(spec.num, classes)
    per_seed, kept = [], None
    for seed in spec.seeds:
        images = generate(run, variables, spec.num, seed=seed, batch_size=config.sample.batch_size, labels=labels,
                          progress=progress)  # fmt: skip
        kept = images if kept is None else kept
        per_seed.append(score_samples(images, refs))
    scores = {name: summary([scores[name] for scores in per_seed]) for name in per_seed[0]}
    batched, single = speed(family, variables, options, classes, config.sample.batch_size)
    scores["latency_ms"] = summary([1000.0 * s for s in batched])
    scores["latency_one_ms"] = summary([1000.0 * s for s in single])
    likelihood = log_probability(config, family, variables, refs.held_out)
    if likelihood is not None:
        scores["nll"] = {"mean": likelihood["nats"], "std": likelihood["standard_error"], "values": [likelihood["nats"]]}
    record = {
        "scores": scores,
        "floors": floors(refs, spec.num),
        "log_prob": likelihood,
        "nfe": family.nfe(**options),
        "parameters": int(sum(np.prod(x.shape) for x in jax.tree.leaves(variables["params"]))),
        "protocol": {
            "samples per seed": spec.num,
            "seeds": list(spec.seeds),
            "sampler": {**family.sample_options, **options},
            "parameters": "raw" if ema is None else f"average of rate {ema}",
            "sampling batch size": config.sample.batch_size,
            "images": "uint8",
            "features": "raw pixels / 255",
            "reference": f"{len(refs.held_out.images)} held-out images, {refs.held_out.name}",
            "floor": f"{min(spec.num, len(refs.train.images))} training images in place of the samples",
            "judge": refs.judge.name if refs.judge else "none for this data set",
        },
        "machine": machine(),
        "commit": commit(),
    }
    return record, kept
