"""How many different things a set holds: Vendi score, classes, modes, inception score."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxgen.errors import InputError
from jaxgen.evaluation.metrics import common
from jaxgen.evaluation.metrics.common import Estimate

__all__ = [
    "Modes",
    "class_distance",
    "class_shares",
    "confident_share",
    "inception_score",
    "modes",
    "vendi_score",
]

_CHUNK = 8192  # rows in float64 at once
_CONFIDENT = 0.8


class Modes(NamedTuple):
    """count: different modes hit. kl: KL(shares of the modes || equal shares), in nats."""

    count: int  # type: ignore[assignment]  # tuples have a method of this name
    kl: float


def vendi_score(features: Float[np.ndarray, "N D"], *, order: float = 1.0) -> float:
    """The effective number of different rows under the cosine kernel (Friedman & Dieng 2023, eq.
    2), from 1 to N.

    exp of the Renyi entropy of `order` (1: Shannon's; inf: of the largest) of the eigenvalues of K
    / N with K_ij = x_i.x_j / (|x_i| |x_j|), computed by the smaller of K / N and the D x D matrix
    with the same eigenvalues. InputError: NaN or infinity, a row of zeros (it has no direction), a
    negative order, an empty set."""
    features = common.check_features("features", features)
    if not isinstance(order, (int, float, np.number)) or not order >= 0.0:
        raise InputError(f"order must be a number of at least 0, not {order!r}")
    count, width = features.shape
    # dividing by the largest entry keeps squares from overflowing or vanishing
    scale = np.abs(features).max(axis=1).astype(np.float64)
    if not scale.all():
        raise common.RowError(
            "features", int(np.argmin(scale)), "holds only zeros, so it has no direction"
        )

    def unit(rows):
        scaled = features[rows] / scale[rows, None]
        return scaled / np.linalg.norm(scaled, axis=1, keepdims=True)

    if count <= width:
        rows = unit(slice(None))
        gram = rows @ rows.T
    else:
        gram = np.zeros((width, width))
        for i in range(0, count, _CHUNK):
            rows = unit(slice(i, i + _CHUNK))
            gram += rows.T @ rows
    return _effective_number(np.linalg.eigvalsh(gram / count), order)


def _effective_number(shares: np.ndarray, order: float) -> float:
    """exp of the Renyi entropy of eigenvalues that sum to 1; those of the size of rounding errors
    count as 0.
    """
    shares = shares[shares > len(shares) * np.finfo(np.float64).eps * shares[-1]]
    if order == 1.0:
        return float(np.exp(-np.sum(shares * np.log(shares))))
    if np.isinf(order):
        return float(1.0 / shares.max())
    logs = order * np.log(shares)  # logsumexp, for orders at which the powers themselves vanish
    return float(np.exp((logs.max() + np.log(np.sum(np.exp(logs - logs.max())))) / (1.0 - order)))


def class_shares(classes: Int[np.ndarray, "N"], num_classes: int) -> Float[np.ndarray, "K"]:
    """Share of each class among predicted or true classes. InputError: none at all, or outside 0 to
    num_classes - 1.
    """
    num_classes = common.check_count("num_classes", num_classes, 1)
    classes = common.check_classes("classes", classes, num_classes)
    return np.bincount(classes, minlength=num_classes) / len(classes)


def class_distance(
    shares_real: Float[np.ndarray, "K"], shares_generated: Float[np.ndarray, "K"]
) -> float:
    """Total variation between two `class_shares`: half the sum of absolute differences, from 0
    (equal) to 1 (disjoint).

    InputError: shares that are negative, do not sum to 1 or differ in number.
    """
    real = common.check_distributions("shares_real", shares_real)
    generated = common.check_distributions("shares_generated", shares_generated)
    if real.ndim != 1 or real.shape != generated.shape:
        raise InputError(
            f"shares_real is {real.shape} and shares_generated {generated.shape}; both must be "
            f"[K], K classes"
        )
    return float(0.5 * np.sum(np.abs(real - generated)))


def modes(classes: Int[np.ndarray, "N"], num_modes: int) -> Modes:
    """How many of num_modes equally likely modes were hit, and KL(generated || uniform) in nats.

    The protocol of stacked MNIST (1,000 modes: the classes of three digits; Metz et al. 2017; Lin
    et al. 2018, PacGAN, there with 26,000 samples: both numbers depend on N). The KL reaches from 0
    to ln(num_modes). InputError: as `class_shares`."""
    shares = class_shares(classes, num_modes)
    hit = shares[shares > 0]
    return Modes(len(hit), float(max(0.0, np.sum(hit * np.log(hit * num_modes)))))


def inception_score(
    probabilities: Float[np.ndarray, "N K"], *, splits: int = 10, seed: int = 0
) -> Estimate:
    """exp(mean_x KL(p(y|x) || p(y))) (Salimans et al. 2016): mean and standard deviation over
    splits, from 1 to K.

    The rows are shuffled by `seed` and divided into `splits` parts, each with a p(y) of its own: in
    a set sorted by class the parts would lack classes. The logarithms are natural; 0 log 0 is 0;
    the standard deviation has N in its denominator. InputError: fewer rows than splits, rows that
    are negative or do not sum to 1."""
    probabilities = common.check_distributions("probabilities", probabilities)
    splits = common.check_count("splits", splits, 1)
    if probabilities.ndim != 2:
        raise InputError(
            f"probabilities must be an array [N, K], not of shape {probabilities.shape}"
        )
    if len(probabilities) < splits:
        raise InputError(
            f"probabilities has {len(probabilities)} rows, fewer than the {splits} splits: set "
            f"splits lower"
        )
    order = common.generator(seed).permutation(len(probabilities))
    scores = [np.exp(_information(probabilities[part])) for part in np.array_split(order, splits)]
    return Estimate(float(np.mean(scores)), float(np.std(scores)))


def _information(rows: np.ndarray) -> float:
    """Mean KL divergence of the rows from their mean: H(mean) - mean H, in nats."""

    def negative_entropy(p):
        return np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=-1)

    # float32 sums are off by 1e-7, which the difference would keep
    rows = rows / rows.sum(axis=1, keepdims=True)
    return float(negative_entropy(rows).mean() - negative_entropy(rows.mean(axis=0)))


def confident_share(probabilities: Float[np.ndarray, "N K"]) -> float:
    """Share of images whose most likely class has a probability above 0.8. InputError: rows that
    are no probabilities.
    """
    probabilities = common.check_distributions("probabilities", probabilities)
    if probabilities.ndim != 2:
        raise InputError(
            f"probabilities must be an array [N, K], not of shape {probabilities.shape}"
        )
    return float(np.mean(probabilities.max(axis=1) > _CONFIDENT))
