"""What is measured of a set of images: the scores' names and meaning, and the scores of one set
against real images.

A score of features carries its extractor in its name ("FID-Inception768"). The first extractor of a
comparison gives the scores their short ids ("coverage"); those of the others end in the extractor's
name ("coverage_pca64")."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from jaxgen.errors import InputError
from jaxgen.evaluation import metrics
from jaxgen.evaluation.features import Extractor, Features, cached
from jaxgen.evaluation.features.classifier import stacked_modes

K_PRECISION, K_COVERAGE = 3, 5
LEAST = K_COVERAGE + 1  # images in a set, so that each has so many neighbours
_ALL_PAIRS = 10_000  # up to so many images the kernel distance is over all pairs, which has less noise than subsets


class View(NamedTuple):
    """A set of images with what each extractor sees in them, by the extractor's name."""

    images: UInt8[np.ndarray, "N H W C"]
    features: Mapping[str, Features]

    def take(self, index: np.ndarray | slice) -> "View":
        features = {
            name: Features(
                f.vectors[index], None if f.probabilities is None else f.probabilities[index]
            )
            for name, f in self.features.items()
        }
        return View(self.images[index], features)


def view(
    images: UInt8[np.ndarray, "N H W C"], extractors: Sequence[Extractor], *, keep: bool = False
) -> View:
    """`images` through all extractors, each once; keep: also on disk, for reference images."""
    extract = cached if keep else lambda extractor, images: extractor.extract(images)
    return View(images, {extractor.name: extract(extractor, images) for extractor in extractors})


def _score(id, name, corner, better, unit, digits, explain, main=False) -> dict[str, Any]:
    return dict(id=id, name=name, corner=corner, higher_is_better=better == "higher", unit=unit, digits=digits,
                explain=explain, main=main)  # fmt: skip


def describe(extractors: Sequence[Extractor], judge: Extractor | None) -> list[dict[str, Any]]:
    """What each score means, in the order of a table; main scores are those of the short table and
    of the reading.
    """
    rows = []
    if judge is not None:
        by = f"the classifier {judge.name}"
        rows += [
            _score("confident", "confident share", "quality", "higher", "%", 1,
                   f"Share of the samples that {by} assigns to a class with a probability above 0.8", main=True),
            _score("classifier_score", f"IS-{judge.name}", "quality", "higher", "", 2,
                   f"Inception score with {by}: exp of the mean KL divergence between the classes "
                   f"of an image and of all"),
        ]  # fmt: skip
    for i, (end, extractor) in enumerate(_ends(extractors)):
        rows += _extractor_scores(extractor, end, main=i < 2)
    if judge is not None:
        rows += [
            _score("smallest_class", "smallest class", "diversity", "higher", "%", 1,
                   f"Share of the samples in the class that {by} sees least", main=True),
            _score("class_distance", "class distance", "diversity", "lower", "%", 1,
                   f"Total variation between the shares of the classes, as {by} sees them, in "
                   f"samples and in real images"),
        ]  # fmt: skip
    return rows + list(_OTHERS)


def _extractor_scores(extractor: Extractor, end: str, main: bool) -> list[dict[str, Any]]:
    name = extractor.name
    initial = "FID" if name.startswith("Inception") else "FD"
    kernel = "KID" if name.startswith("Inception") else "KD"
    near = f"with neighbours in {name} features"
    rows = [
        _score(f"frechet{end}", f"{initial}-{name}", "quality", "lower", "", 2,
               f"Fréchet distance between the Gaussians fitted to the {name} features of samples "
               f"and of real images", main),
        _score(f"frechet_all{end}", f"{initial}-{name}, all samples", "quality", "lower", "", 2,
               f"{initial}-{name} of all samples, more than the floor has, as published values "
               f"count them"),
        _score(f"frechet_infinity{end}", f"{initial}∞-{name}", "quality", "lower", "", 2,
               f"{initial}-{name} extrapolated to infinitely many samples"),
        _score(f"kernel{end}", f"{kernel}-{name}", "quality", "lower", "", 4,
               f"Squared maximum mean discrepancy with a cubic kernel in {name} features, "
               f"unbiased: over all pairs "
               f"up to {_ALL_PAIRS} images, else over 100 subsets of 1,000"),
        _score(f"precision{end}", f"precision-{name} k={K_PRECISION}", "quality", "higher", "%", 1,
               f"Share of samples nearer to some real image than its neighbour number "
               f"{K_PRECISION}, {near}"),
        _score(f"density{end}", f"density-{name} k={K_COVERAGE}", "quality", "higher", "", 2,
               f"Mean number of real images whose neighbour number {K_COVERAGE} is farther than "
               f"the sample, over k, {near}"),
        _score(f"coverage{end}", f"coverage-{name} k={K_COVERAGE}", "diversity", "higher", "%", 1,
               f"Share of real images with a sample nearer than their neighbour number "
               f"{K_COVERAGE}, {near}", main and not end),
        _score(f"recall{end}", f"recall-{name} k={K_PRECISION}", "diversity", "higher", "%", 1,
               f"Share of real images nearer to some sample than its neighbour number "
               f"{K_PRECISION}, {near}"),
        _score(f"vendi{end}", f"Vendi-{name}", "diversity", "higher", "", 1,
               f"Effective number of different images by the eigenvalues of their cosine "
               f"similarity in {name} features"),
    ]  # fmt: skip
    if name == "Inception2048":
        rows += [
            _score("inception_score", "IS-Inception", "quality", "higher", "", 2, "Inception score, 10 splits"),
            _score("inception_score_all", "IS-Inception, all samples", "quality", "higher", "", 2,
                   "Inception score, 10 splits, of all samples, more than the floor has"),
        ]  # fmt: skip
    return rows


_OTHERS = (
    _score("modes", "modes", "diversity", "higher", "", 0,
           "Modes of the stacked digits (three digits, one a colour channel) of which there is a "
           "sample", main=True),
    _score("mode_kl", "mode KL", "diversity", "lower", "nats", 2,
           "KL divergence of the shares of the modes from equal shares", main=True),
    _score("ms_ssim", "MS-SSIM of pairs", "diversity", "lower", "", 3,
           "Mean multi-scale structural similarity of 1,000 random pairs of samples"),
    _score("latency_ms", "time per image", "speed", "lower", "ms", 3,
           "Milliseconds per image in the batch size that is fastest, without compilation", main=True),
    _score("latency_one_ms", "time for one", "speed", "lower", "ms", 2,
           "Milliseconds for one image in a batch of one, without compilation", main=True),
    _score("copies", "copies", "check", "lower", "", 0, "Samples that are bit for bit a training "
                                                        "image", main=True),
    _score("train_side", "training side", "check", "lower", "%", 0,
           "Share of the samples that lie nearer to a training image than to any of as many "
           "held-out images (pixels): 50 % "
           "would be no memorisation at all, 100 % is copying", main=True),
    _score("distance_ratio", "distance ratio", "check", "higher", "", 2,
           "Median distance to the nearest training image over that to the nearest of as many "
           "held-out images (pixels): 1 "
           "is no memorisation, 0 is copying"),
    _score("copy_rate", "copy rate", "check", "lower", "%", 1,
           "Share of the samples at less than a third of the distance to their nearest training "
           "image than to the second"),
    _score("duplicates", "duplicates", "check", "lower", "", 0, "Samples that are bit for bit "
                                                                "another sample"),
    _score("nll", "negative log-likelihood", "check", "lower", "nats", 2,
           "Upper bound on the negative log-likelihood of held-out images, in nats per image: of "
           "binarised or uint8 pixels, "
           "or of a density on [-1, 1], as the record says", main=True),
    _score("psnr", "PSNR", "check", "higher", "dB", 2, "Peak signal to noise ratio of "
                                                       "reconstructed held-out images"),
    _score("ssim", "SSIM", "check", "higher", "", 3, "Structural similarity of held-out images and "
                                                     "their reconstructions"),
    _score("mse", "MSE", "check", "lower", "", 1, "Mean squared error of reconstructed held-out "
                                                  "images, in grey levels"),
)  # fmt: skip


def set_scores(
    generated: View,
    real: View,
    extractors: Sequence[Extractor],
    judge: Extractor | None,
    modes: Extractor | None,
) -> dict[str, float]:
    """All scores of a set of images against real ones that need nothing but both. Shares are
    fractions.
    """
    scores = {}
    for end, extractor in _ends(extractors):
        found = feature_scores(
            real.features[extractor.name].vectors, generated.features[extractor.name].vectors
        )
        scores |= {f"{name}{end}": value for name, value in found.items()}
        if extractor.name == "Inception2048":
            scores["inception_score"] = metrics.inception_score(
                generated.features[extractor.name].probabilities
            ).mean
    if judge is not None:
        probabilities, reals = (
            generated.features[judge.name].probabilities,
            real.features[judge.name].probabilities,
        )
        shares, expected = (
            metrics.class_shares(p.argmax(axis=1), p.shape[1]) for p in (probabilities, reals)
        )
        scores |= {
            "confident": metrics.confident_share(probabilities),
            "classifier_score": metrics.inception_score(probabilities, splits=1).mean,
            "smallest_class": float(shares.min()),
            "class_distance": metrics.class_distance(expected, shares),
        }
    if modes is not None:
        hit = metrics.modes(stacked_modes(modes, generated.images), 1000)
        scores |= {"modes": float(hit.count), "mode_kl": hit.kl}
    scores["ms_ssim"] = metrics.pairwise_ms_ssim(generated.images).mean
    return scores


def whole_scores(generated: View, real: View, extractors: Sequence[Extractor]) -> dict[str, float]:
    """The scores of more images than there are for a floor, whose value published results give for
    all of them.
    """
    scores = {}
    for end, extractor in _ends(extractors):
        vectors, probabilities = generated.features[extractor.name]
        scores[f"frechet_all{end}"] = metrics.frechet_distance(
            real.features[extractor.name].vectors, vectors
        )
        if extractor.name == "Inception2048":
            scores["inception_score_all"] = metrics.inception_score(probabilities).mean
    return scores


def _ends(extractors: Sequence[Extractor]) -> list[tuple[str, Extractor]]:
    """What the ids of an extractor's scores end in."""
    return [
        ("" if i == 0 else f"_{extractor.name.lower()}", extractor)
        for i, extractor in enumerate(extractors)
    ]


def feature_scores(real: np.ndarray, generated: np.ndarray) -> dict[str, float]:
    """The scores of one extractor's features."""
    least = min(len(real), len(generated))
    if least < LEAST:
        raise InputError(
            f"scores need at least {LEAST} images on either side, not {least}: take more samples "
            f"or real images"
        )
    pr, dc = metrics.precision_recall_density_coverage(
        real, generated, k_precision=K_PRECISION, k_density=K_COVERAGE
    )
    few = max(len(real), len(generated)) <= _ALL_PAIRS
    kernel = (
        metrics.polynomial_mmd(real, generated)
        if few
        else metrics.kernel_distance(real, generated).mean
    )
    return {
        "frechet": metrics.frechet_distance(real, generated),
        "frechet_infinity": metrics.frechet_distance_infinity(real, generated),
        "kernel": kernel,
        "precision": pr.precision,
        "density": dc.density,
        "coverage": dc.coverage,
        "recall": pr.recall,
        "vendi": metrics.vendi_score(generated),
    }


def guard_scores(
    images: np.ndarray, train: np.ndarray, held_out: np.ndarray, space: Extractor
) -> dict[str, float]:
    """Scores that guard the comparison: whether the samples are copies, of the training images or
    of each other.

    space: the extractor in whose features distances are measured; as many training as held-out
    images are compared."""
    count = min(len(train), len(held_out))
    chosen = [np.random.default_rng(0).permutation(len(x))[:count] for x in (train, held_out)]
    near, far = (cached(space, x[np.sort(i)]).vectors for x, i in zip((train, held_out), chosen))
    features = space.extract(images).vectors
    return {
        "copies": float(metrics.exact_copies(images, train)),
        "duplicates": float(metrics.duplicates(images)),
        "train_side": metrics.training_side(features, near, far),
        "distance_ratio": metrics.distance_ratio(features, near, far),
        "copy_rate": metrics.copy_rate(features, cached(space, train).vectors),
    }
