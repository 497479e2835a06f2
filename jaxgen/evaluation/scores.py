"""What can be measured: a table with one row a score.

A row says what the score is called, what it means, what it is measured of, and how. A score of
features carries its extractor in its name ("FID-Inception768"). The first extractor that is used
gives the scores their short ids ("coverage"); those of the others end in the extractor's name
("coverage_pca64"). `config.evaluation.scores` adds rows from outside."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgen.errors import InputError, lookup, nearest
from jaxgen.evaluation import metrics
from jaxgen.evaluation.features import Extractor
from jaxgen.evaluation.metrics.common import RowError
from jaxgen.evaluation.sets import ALL_PAIRS, K_COVERAGE, K_PRECISION, Pair, some

_PAIR_PIXELS = 2**25  # pixels of all pairs of images whose similarity is measured

CORNERS = ("quality", "diversity", "speed", "check")
# what a score can be measured of: what its `measure` is given
OF = {
    "features": "Pair: an extractor's vectors [N, D]",
    "all features": "the same of all samples, where there are more of them than the floor has",
    "inception": "Pair: class probabilities of Inception2048",
    "all inception": "the same of all samples",
    "judge": "Pair: class probabilities [N, K] of the data's classifier",
    "modes": "Pair: the modes [N] of stacked digits",
    "images": "Pair: uint8 images [N, H, W, C]",
    "points": "Pair: points [N, D]",
    "guards": "Copies: samples beside training and held-out images",
    "model": "measure.Model: a trained system",
}


class Score(NamedTuple):
    """A row of the table.

    id, name, unit, digits (decimals), explain: for tables. corner: one of CORNERS. better: "higher"
    or "lower". of: what it is measured of, a key of OF. measure: of that, one number (a share as a
    fraction); of a model also a `record.summary` of repeats, or None where the model has none.
    main: whether the short table has it; for a score of features, for how many extractors. In id,
    name and explain, {extractor}, {FD} and {KD} stand for the extractor's name and the distances'
    initials."""

    id: str
    name: str
    corner: str
    unit: str
    digits: int
    better: str
    explain: str
    of: str
    measure: Callable[[Any], Any]
    main: int = 0


def _balls(pair: Pair):
    """(PrecisionRecall, DensityCoverage) of at most ALL_PAIRS rows of either side."""

    return metrics.precision_recall_density_coverage(
        some(pair.real), some(pair.generated), k_precision=K_PRECISION, k_density=K_COVERAGE
    )


def _kernel(pair: Pair) -> float:
    if max(len(pair.real), len(pair.generated)) <= ALL_PAIRS:  # less noise than subsets have
        return metrics.polynomial_mmd(pair.real, pair.generated)
    return metrics.kernel_distance(pair.real, pair.generated).mean


def _shares(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    real, generated = (
        metrics.class_shares(p.argmax(axis=1), p.shape[1]) for p in (pair.real, pair.generated)
    )
    return real, generated


def _frechet(pair: Pair) -> float:
    return metrics.frechet_distance(pair.real, pair.generated)


def _inception_score(pair: Pair) -> float:
    return metrics.inception_score(pair.generated).mean


def _similarity_of_pairs(pair: Pair) -> float:
    """Of fewer pairs where images are so large that each costs much."""
    pairs = min(1000, max(50, _PAIR_PIXELS // pair.generated[0].size))
    return metrics.pairwise_ms_ssim(pair.generated, num_pairs=pairs).mean


def _modes(pair: Pair) -> metrics.Modes:
    return metrics.modes(pair.generated, 1000)


_NEAR = f"with neighbours in {{extractor}} features (of at most {ALL_PAIRS:,} images a side)"

SCORES = (
    Score("confident", "confident share", "quality", "%", 1, "higher",
          "Share of the samples that the classifier {judge} assigns to a class with a probability "
          "above 0.8", "judge", lambda p: metrics.confident_share(p.generated), main=1),
    Score("classifier_score", "IS-{judge}", "quality", "", 2, "higher",
          "Inception score with the classifier {judge}: exp of the mean KL divergence between the "
          "classes of an image and of all", "judge",
          lambda p: metrics.inception_score(p.generated, splits=1).mean),
    Score("frechet", "{FD}-{extractor}", "quality", "", 2, "lower",
          "Fréchet distance between the Gaussians fitted to the {extractor} features of samples "
          "and of real images", "features", _frechet, main=2),
    Score("frechet_all", "{FD}-{extractor}, all samples", "quality", "", 2, "lower",
          "{FD}-{extractor} of all samples, more than the floor has, as published values count "
          "them", "all features", _frechet),
    Score("frechet_infinity", "{FD}∞-{extractor}", "quality", "", 2, "lower",
          "{FD}-{extractor} extrapolated to infinitely many samples", "features",
          lambda p: metrics.frechet_distance_infinity(p.real, p.generated)),
    Score("kernel", "{KD}-{extractor}", "quality", "", 4, "lower",
          "Squared maximum mean discrepancy with a cubic kernel in {extractor} features, unbiased: "
          f"over all pairs up to {ALL_PAIRS} images, else over 100 subsets of 1,000", "features",
          _kernel),
    Score("precision", f"precision-{{extractor}} k={K_PRECISION}", "quality", "%", 1, "higher",
          f"Share of samples nearer to some real image than its neighbour number {K_PRECISION}, "
          f"{_NEAR}", "features", lambda p: p.once(_balls)[0].precision),
    Score("density", f"density-{{extractor}} k={K_COVERAGE}", "quality", "", 2, "higher",
          f"Mean number of real images whose neighbour number {K_COVERAGE} is farther than the "
          f"sample, over k, {_NEAR}", "features", lambda p: p.once(_balls)[1].density),
    Score("coverage", f"coverage-{{extractor}} k={K_COVERAGE}", "diversity", "%", 1, "higher",
          "Share of real images with a sample nearer than their neighbour number "
          f"{K_COVERAGE}, {_NEAR}", "features", lambda p: p.once(_balls)[1].coverage, main=1),
    Score("recall", f"recall-{{extractor}} k={K_PRECISION}", "diversity", "%", 1, "higher",
          f"Share of real images nearer to some sample than its neighbour number {K_PRECISION}, "
          f"{_NEAR}", "features", lambda p: p.once(_balls)[0].recall),
    Score("vendi", "Vendi-{extractor}", "diversity", "", 1, "higher",
          "Effective number of different images by the eigenvalues of their cosine similarity in "
          "{extractor} features", "features", lambda p: metrics.vendi_score(p.generated)),
    Score("inception_score", "IS-Inception", "quality", "", 2, "higher",
          "Inception score, 10 splits", "inception", _inception_score),
    Score("inception_score_all", "IS-Inception, all samples", "quality", "", 2, "higher",
          "Inception score, 10 splits, of all samples, more than the floor has", "all inception",
          _inception_score),
    Score("smallest_class", "smallest class", "diversity", "%", 1, "higher",
          "Share of the samples in the class that the classifier {judge} sees least", "judge",
          lambda p: float(p.once(_shares)[1].min()), main=1),
    Score("class_distance", "class distance", "diversity", "%", 1, "lower",
          "Total variation between the shares of the classes, as the classifier {judge} sees them, "
          "in samples and in real images", "judge",
          lambda p: metrics.class_distance(*p.once(_shares))),
    Score("modes", "modes", "diversity", "", 0, "higher",
          "Modes of the stacked digits (three digits, one a colour channel) of which there is a "
          "sample", "modes", lambda p: float(p.once(_modes).count), main=1),
    Score("mode_kl", "mode KL", "diversity", "nats", 2, "lower",
          "KL divergence of the shares of the modes from equal shares", "modes",
          lambda p: p.once(_modes).kl, main=1),
    Score("ms_ssim", "MS-SSIM of pairs", "diversity", "", 3, "lower",
          "Mean multi-scale structural similarity of 1,000 random pairs of samples (170 of 256 x "
          "256 pixels in colour, 50 of the largest)", "images", _similarity_of_pairs),
    Score("sliced_wasserstein", "sliced Wasserstein", "quality", "", 3, "lower",
          "Mean Wasserstein-1 distance between samples and real points projected onto 128 random "
          "lines", "points", lambda p: metrics.sliced_wasserstein(p.real, p.generated), main=1),
    Score("mmd", "MMD²", "quality", "", 4, "lower",
          "Squared maximum mean discrepancy of the points, unbiased, with a Gaussian kernel as "
          "wide as the median distance between real points", "points",
          lambda p: metrics.gaussian_mmd(p.real, p.generated), main=1),
    Score("precision", f"precision k={K_PRECISION}", "quality", "%", 1, "higher",
          "Share of samples nearer to some real point than its neighbour number "
          f"{K_PRECISION}", "points", lambda p: p.once(_balls)[0].precision),
    Score("coverage", f"coverage k={K_COVERAGE}", "diversity", "%", 1, "higher",
          f"Share of real points with a sample nearer than their neighbour number {K_COVERAGE}: "
          "without one of eight equal modes 87.5 % at most", "points",
          lambda p: p.once(_balls)[1].coverage, main=1),
    Score("latency_ms", "time per image", "speed", "ms", 3, "lower",
          "Milliseconds per image in the batch size that is fastest, without compilation", "model",
          lambda m: m.milliseconds, main=1),
    Score("latency_one_ms", "time for one", "speed", "ms", 2, "lower",
          "Milliseconds for one image in a batch of one, without compilation", "model",
          lambda m: m.milliseconds_for_one, main=1),
    Score("copies", "copies", "check", "", 0, "lower",
          "Samples that are bit for bit a training image", "guards", lambda c: c.copies, main=1),
    Score("train_side", "training side", "check", "%", 0, "lower",
          "Share of the samples that lie nearer to a training image than to any of as many "
          "held-out images (pixels): 50 % would be no memorisation at all, 100 % is copying",
          "guards", lambda c: c.side_and_ratio[0], main=1),
    Score("distance_ratio", "distance ratio", "check", "", 2, "higher",
          "Median distance to the nearest training image over that to the nearest of as many "
          "held-out images (pixels): 1 is no memorisation, 0 is copying", "guards",
          lambda c: c.side_and_ratio[1]),
    Score("copy_rate", "copy rate", "check", "%", 1, "lower",
          "Share of the samples at less than a third of the distance to their nearest training "
          "image than to the second", "guards",
          lambda c: metrics.copy_rate(some(c.features), c.guards.trained)),
    Score("duplicates", "duplicates", "check", "", 0, "lower",
          "Samples that are bit for bit another sample", "guards", lambda c: c.duplicates),
    Score("nll", "negative log-likelihood", "check", "nats", 2, "lower",
          "Upper bound on the negative log-likelihood of held-out images, in nats per image: of "
          "binarised or uint8 pixels, or of a density on [-1, 1], as the record says", "model",
          lambda m: m.nats, main=1),
    Score("psnr", "PSNR", "check", "dB", 2, "higher",
          "Peak signal to noise ratio of reconstructed held-out images", "model",
          lambda m: m.reconstruction.get("psnr")),
    Score("ssim", "SSIM", "check", "", 3, "higher",
          "Structural similarity of held-out images and their reconstructions", "model",
          lambda m: m.reconstruction.get("ssim")),
    Score("mse", "MSE", "check", "", 1, "lower",
          "Mean squared error of reconstructed held-out images, in grey levels", "model",
          lambda m: m.reconstruction.get("mse")),
)  # fmt: skip

_FOR_EACH_EXTRACTOR = ("features", "all features", "inception", "all inception")


def table(
    extractors: Sequence[Extractor],
    judge: Extractor | None = None,
    modes: Extractor | None = None,
    *,
    space: str = "pixels",
    outside: Sequence[str] = (),
) -> tuple[Score, ...]:
    """The rows that apply, in the order of a table, those of features once for each extractor.

    outside: rows from elsewhere, as "package.module:attribute". Raises InputError for one that is
    no Score, and for two of one id."""
    absent = {"points"} if space == "pixels" else set(OF) - {"points", "guards", "model"}
    absent |= ({"judge"} if judge is None else set()) | ({"modes"} if modes is None else set())
    rows = [row for row in (*SCORES, *map(_outside, outside)) if row.of not in absent]
    found: list[Score] = []
    for each, group in itertools.groupby(rows, lambda row: row.of in _FOR_EACH_EXTRACTOR):
        same = list(group)
        if each:
            found += [_filled(row, e, i) for i, e in enumerate(extractors) for row in same]
        else:
            name = "" if judge is None else judge.name
            found += [_formatted(row, judge=name)._replace(main=bool(row.main)) for row in same]
    found = [row for row in found if row.of != "inception" and row.of != "all inception"]
    ids = [row.id for row in found]
    for id in ids:
        if ids.count(id) > 1:
            raise InputError(f"config.evaluation.scores: there are two scores of the id '{id}'")
    return tuple(found)


def _filled(row: Score, extractor: Extractor, place: int) -> Score:
    """A row for one extractor, the `place`-th of a comparison."""
    name, end = extractor.name, "" if place == 0 else f"_{extractor.name.lower()}"
    initials = ("FID", "KID") if name.startswith("Inception") else ("FD", "KD")
    if "inception" not in row.of:
        row = row._replace(id=f"{row.id}{end}", main=place < row.main, of=f"{row.of} {name}")
    elif name == "Inception2048":
        row = row._replace(main=False, of=f"{row.of} {name}")
    return _formatted(row, extractor=name, FD=initials[0], KD=initials[1])


def _formatted(row: Score, **values: str) -> Score:
    def fill(text):
        for key, value in values.items():
            text = text.replace(f"{{{key}}}", value)
        return text

    return row._replace(name=fill(row.name), explain=fill(row.explain))


def _outside(place: str) -> Score:
    row = lookup({}, "score", place)
    if not isinstance(row, Score):
        raise InputError(f"score '{place}' is a {type(row).__name__}, not an evaluation.Score")
    for what, value, known in (("of", row.of, OF), ("corner", row.corner, CORNERS),
                               ("better", row.better, ("higher", "lower"))):  # fmt: skip
        if value not in known:
            raise InputError(f"score '{place}': unknown {what} '{value}': {nearest(value, known)}")
    return row


def describe(rows: Iterable[Score]) -> list[dict[str, Any]]:
    """What each score means, for records and reports."""
    return [
        dict(id=row.id, name=row.name, corner=row.corner, higher_is_better=row.better == "higher",
             unit=row.unit, digits=row.digits, explain=row.explain, main=bool(row.main))
        for row in rows
    ]  # fmt: skip


def measure(rows: Iterable[Score], given: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of what is given, {Score.of: what it is measured of}; those of other things are
    left out.

    Raises InputError, naming set and image, where a metric cannot use one."""
    found = {}
    for row in rows:
        if row.of not in given:
            continue
        try:
            value = row.measure(given[row.of])
        except RowError as error:
            if not isinstance(given[row.of], Pair):
                raise
            place = given[row.of].place(error.argument, error.row)
            raise InputError(f"{place}: what {row.name} sees in it {error.reason}") from None
        if value is not None:
            found[row.id] = value
    return found
