"""Raw pixels on their principal components: features that need no other network, and see what a
network may overlook.
"""

import hashlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from jaxgen.errors import InputError
from jaxgen.evaluation.features.base import Extractor, Features

_FITTED = 10_000  # images to fit to; more change a score by less than its spread
_VALUES = 2**26  # pixels to fit to: of large images fewer, but always a few for each component
_CHUNK = 2**22  # pixels in float64 at once
_RANK = 1e-10  # of the largest variance: components with less are rounding errors


class Components(NamedTuple):
    """mean [P] of the images; vectors [P, D]: unit and orthogonal, by falling variance, the largest
    entry of each positive; kept: share of the variance that they have."""

    mean: Float[np.ndarray, "P"]
    vectors: Float[np.ndarray, "P D"]
    kept: float


def components(images: UInt8[np.ndarray, "N H W C"], dims: int) -> Components:
    """The `dims` leading principal components of images / 255, or as many as there are: all pixels
    where there are no more than `dims`.

    By the smaller of the matrices [P, P] of pixels and [N, N] of images, which have the same
    variances: time grows with N P min(N, P).
    """
    from scipy.linalg import eigh

    flat = images.reshape(len(images), -1)
    (count, width), tiny = flat.shape, np.finfo(np.float64).tiny
    mean = np.concatenate([part.mean(axis=0) for _, part in _columns(flat)])
    by_pixels = width <= max(count, dims)
    if by_pixels:
        scatter = np.zeros((width, width))
        for i in range(0, count, max(1, _CHUNK // width)):
            rows = flat[i : i + max(1, _CHUNK // width)] / 255.0 - mean
            scatter += rows.T @ rows
    else:
        scatter = np.zeros((count, count))
        for place, part in _columns(flat):
            part -= mean[place]
            scatter += part @ part.T
    least = max(0, len(scatter) - dims)
    values, vectors = eigh(scatter, subset_by_index=[least, len(scatter) - 1])
    values, vectors = values[::-1], vectors[:, ::-1]
    total = float(np.trace(scatter))
    if width > dims:
        rank = max(1, int(np.sum(values > _RANK * values[0])))
        values, vectors = values[:rank], vectors[:, :rank]
    if not by_pixels:
        vectors = np.concatenate(
            [(part - mean[place]).T @ vectors for place, part in _columns(flat)]
        )
        vectors /= np.maximum(np.linalg.norm(vectors, axis=0), tiny)
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])]
    vectors = vectors * np.where(largest < 0, -1.0, 1.0)
    return Components(mean, vectors, float(values.sum() / max(total, tiny)))


def extractor(
    train: UInt8[np.ndarray, "N H W C"], name: str, fingerprint: str, *, dims: int = 64
) -> Extractor:
    """Pixels in [0, 1], centred and projected onto the `dims` leading principal components of the
    images `train`.

    Distances between projections are those between images but for what the components leave out;
    with no more than `dims` pixels an image keeps them all. name and fingerprint: of the training
    images, for the record."""
    shape = train.shape[1:]
    width = int(np.prod(shape))
    fitted = min(_FITTED, max(4 * dims, _VALUES // width))
    chosen = np.random.default_rng(0).permutation(len(train))[:fitted]
    mean, vectors, kept = components(train[np.sort(chosen)], dims)
    found = vectors.shape[1]

    def extract(images: UInt8[np.ndarray, "N H W C"]) -> Features:
        if images.dtype != np.uint8 or images.shape[1:] != shape:
            raise InputError(
                f"pixels: the images are {images.dtype} {images.shape[1:]}, the reference is uint8 "
                f"{shape}"
            )
        projected, size = np.empty((len(images), found)), max(1, _CHUNK // width)
        for i in range(0, len(images), size):
            rows = images[i : i + size].reshape(-1, width) / 255.0
            projected[i : i + size] = (rows - mean) @ vectors
        return Features(projected, None)

    settings = f"principal components {dims} {fitted} {fingerprint}"
    return Extractor(
        name=f"PCA{found}",
        extract=extract,
        digest=hashlib.sha256(settings.encode()).hexdigest(),
        protocol={
            "input": "pixels / 255",
            "components": f"{found} of {width}, {100 * kept:.1f} % of the variance",
            "fitted to": f"{len(chosen)} images of {name}",
        },
    )


def _columns(flat: UInt8[np.ndarray, "N P"]):
    """(slice, float64 [N, some]) over the pixels, in [0, 1]."""
    size = max(1, _CHUNK // len(flat))
    for i in range(0, flat.shape[1], size):
        place = slice(i, i + size)
        yield place, flat[:, place] / 255.0
