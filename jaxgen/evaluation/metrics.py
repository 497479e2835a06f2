"""Distances between sets of images: pure float64 numpy functions of feature arrays [N, D]."""

import numpy as np
from jaxtyping import Float, Int

from jaxgen.errors import InputError

_CHUNK = 1024  # rows of a distance matrix held at once


def _features(name: str, array, least: int) -> Float[np.ndarray, "N D"]:
    array = np.asarray(array, np.float64)
    if array.ndim != 2:
        raise InputError(f"{name} must be an array [N, D] of features, not of shape {array.shape}")
    if len(array) < least:
        raise InputError(f"{name} has {len(array)} rows; this metric needs at least {least}")
    if not np.isfinite(array).all():
        raise InputError(f"{name} holds NaN or infinity in row {int(np.argmin(np.isfinite(array).all(axis=1)))}")
    return array


def _pair(real, generated, least: int):
    real, generated = _features("real", real, least), _features("generated", generated, least)
    if real.shape[1] != generated.shape[1]:
        raise InputError(f"real has {real.shape[1]} features and generated {generated.shape[1]}: use one extractor")
    return real, generated


def frechet_distance(real: Float[np.ndarray, "N D"], generated: Float[np.ndarray, "M D"]) -> float:
    """|m_r - m_g|^2 + Tr(C_r + C_g - 2 (C_r C_g)^(1/2)) of Gaussians fitted to both sets (Heusel et al. 2017, eq. 6).

    The trace of the root is the sum of the singular values of A^T B for any factors C_r = A A^T and C_g = B B^T. With
    fewer rows than features the centred data are such factors; else the covariances' symmetric roots are.
    """
    real, generated = _pair(real, generated, 2)
    mean = np.sum((real.mean(axis=0) - generated.mean(axis=0)) ** 2)
    a = (real - real.mean(axis=0)) / np.sqrt(len(real) - 1)
    b = (generated - generated.mean(axis=0)) / np.sqrt(len(generated) - 1)
    traces = np.sum(a * a) + np.sum(b * b)
    if min(len(a), len(b)) < a.shape[1]:
        root = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    else:
        root = np.linalg.svd(_symmetric_root(a.T @ a) @ _symmetric_root(b.T @ b), compute_uv=False).sum()
    return float(mean + traces - 2.0 * root)


def _symmetric_root(covariance: Float[np.ndarray, "D D"]) -> Float[np.ndarray, "D D"]:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a_i - b_j|^2 [len(a), len(b)] as |a|^2 + |b|^2 - 2 a.b, a matrix product; in float64 and around b's mean, so that
    what cancels is about 1e-15 of the data's spread."""
    center = b.mean(axis=0)
    a, b = a - center, b - center
    squares = np.sum(a * a, axis=1)[:, None] + np.sum(b * b, axis=1)
    return np.maximum(squares - 2.0 * (a @ b.T), 0.0)


def nearest_distance(queries: Float[np.ndarray, "N D"], points: Float[np.ndarray, "M D"]) -> Float[np.ndarray, "N"]:
    """Euclidean distance of each query to its nearest point."""
    chunks = (queries[i : i + _CHUNK] for i in range(0, len(queries), _CHUNK))
    return np.sqrt(np.concatenate([_squared_distances(chunk, points).min(axis=1) for chunk in chunks]))


def _radii(points: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of each point to its k-th nearest other point."""
    chunks = (points[i : i + _CHUNK] for i in range(0, len(points), _CHUNK))
    return np.concatenate([np.partition(_squared_distances(chunk, points), k, axis=1)[:, k] for chunk in chunks])


def density_coverage(
    real: Float[np.ndarray, "N D"], generated: Float[np.ndarray, "M D"], *, k: int = 5
) -> tuple[float, float]:
    """(density, coverage) over the balls that reach from each real point to its k-th neighbour (Naeem et al. 2020, eq. 5
    and 7): the mean number of balls around a generated point over k, and the share of balls with a generated point in
    them. A point on a ball's surface is outside.
    """
    real, generated = _pair(real, generated, k + 1)
    radii = _radii(real, k)
    inside, covered = 0, np.zeros(len(real), bool)
    for i in range(0, len(generated), _CHUNK):
        hits = _squared_distances(generated[i : i + _CHUNK], real) < radii
        inside += int(hits.sum())
        covered |= hits.any(axis=0)
    return inside / (k * len(generated)), float(covered.mean())


def exact_copies(samples: np.ndarray, originals: np.ndarray) -> int:
    """How many of the uint8 `samples` are bit for bit one of the `originals`."""
    known = {image.tobytes() for image in np.ascontiguousarray(originals)}
    return sum(image.tobytes() in known for image in np.ascontiguousarray(samples))


def class_shares(classes: Int[np.ndarray, "N"], num_classes: int) -> Float[np.ndarray, "K"]:
    """Share of each class among predicted or true classes."""
    return np.bincount(classes, minlength=num_classes) / len(classes)
