"""Distances between rows: by matrix products, and exactly where those leave a doubt."""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

_ENTRIES = 2**24  # of a distance matrix held at once: 128 MiB


class Points(NamedTuple):
    """given [N, D]: rows as they came; rows: in float64, around some center; squares [N]: their
    squared lengths.
    """

    given: np.ndarray
    rows: np.ndarray
    squares: np.ndarray


def points_around(rows: np.ndarray, center: np.ndarray) -> Points:
    centred = np.subtract(rows, center, dtype=np.float64)
    return Points(rows, centred, np.einsum("nd,nd->n", centred, centred))


def squared_distances(queries: Points, points: Points) -> Iterator[tuple[slice, np.ndarray]]:
    """(rows, squared distances [rows, M]) in chunks, as |q|^2 + |p|^2 - 2 q.p, which is a matrix
    product.

    What cancels is about 1e-15 of the squared lengths: hence float64, lengths from a center within
    the data, and `exact` for what that leaves in doubt."""
    size = max(1, _ENTRIES // len(points.rows))
    for i in range(0, len(queries.rows), size):
        rows = slice(i, i + size)
        squared = queries.rows[rows] @ points.rows.T
        squared *= -2.0
        squared += queries.squares[rows, None]
        squared += points.squares
        yield rows, np.maximum(squared, 0.0, out=squared)


def exact(queries: Points, points: Points, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Squared distances of queries i and points j from their differences: equal distances come out
    equal, in any order.
    """
    found, size = np.empty(len(i)), max(1, _ENTRIES // 8 // queries.given.shape[1])
    for start in range(0, len(i), size):
        part = slice(start, start + size)
        difference = np.subtract(queries.given[i[part]], points.given[j[part]], dtype=np.float64)
        found[part] = np.einsum("nd,nd->n", difference, difference)
    return found


def nearest(queries: np.ndarray, points: np.ndarray, k: int) -> Float[np.ndarray, "N k"]:
    """Distances to the k nearest points, smallest first. The matrix product finds them; their
    differences measure them.
    """
    center = points.mean(axis=0, dtype=np.float64)
    a, b = points_around(queries, center), points_around(points, center)
    found = np.empty((len(queries), k))
    for rows, squared in squared_distances(a, b):
        for j in range(k):
            index = squared.argmin(axis=1)
            found[rows, j] = np.linalg.norm(a.rows[rows] - b.rows[index], axis=1)
            squared[np.arange(len(index)), index] = np.inf
    return np.sort(found, axis=1)


def digests(rows: np.ndarray) -> Iterator[bytes]:
    """128 bits of each row's bytes: equal for equal rows, and in practice only for them."""
    return (
        hashlib.blake2b(row.data, digest_size=16).digest() for row in np.ascontiguousarray(rows)
    )
