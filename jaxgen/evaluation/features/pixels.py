"""Raw pixels on their principal components: features that need no other network, and see what a
network may overlook.
"""

import hashlib

import numpy as np
from jaxtyping import UInt8

from jaxgen.errors import InputError
from jaxgen.evaluation.features.base import Extractor, Features

_FITTED = (
    10_000  # images that the components are fitted to; more change a score by less than its spread
)
_BATCH = 4096


def extractor(
    train: UInt8[np.ndarray, "N H W C"], name: str, fingerprint: str, *, dims: int = 64
) -> Extractor:
    """Pixels in [0, 1], centred and projected onto the `dims` leading principal components of the
    images `train`.

    Distances between projections are those between images but for what the components leave out;
    with no more than `dims` pixels an image keeps them all. name and fingerprint: of the training
    images, for the record."""
    shape = train.shape[1:]
    chosen = np.random.default_rng(0).permutation(len(train))[:_FITTED]
    pixels = _flat(train[np.sort(chosen)])
    mean = pixels.mean(axis=0)
    centred = pixels - mean
    values, vectors = np.linalg.eigh(centred.T @ centred)
    dims = min(dims, len(mean))
    components = vectors[:, ::-1][:, :dims]
    kept = float(values[::-1][:dims].sum() / max(values.sum(), np.finfo(float).tiny))

    def extract(images: UInt8[np.ndarray, "N H W C"]) -> Features:
        if images.dtype != np.uint8 or images.shape[1:] != shape:
            raise InputError(
                f"pixels: the images are {images.dtype} {images.shape[1:]}, the reference is uint8 "
                f"{shape}"
            )
        parts = [
            (_flat(images[i : i + _BATCH]) - mean) @ components
            for i in range(0, len(images), _BATCH)
        ]
        return Features(np.concatenate(parts), None)

    settings = f"pca {dims} {_FITTED} {fingerprint}"
    return Extractor(
        name=f"PCA{dims}",
        extract=extract,
        digest=hashlib.sha256(settings.encode()).hexdigest(),
        protocol={"input": "pixels / 255", "components": (f"{dims} of {len(mean)}, "
                                                          f"{100 * kept:.1f} "
                                                         f"% of the variance"),
                  "fitted to": f"{len(pixels)} images of {name}"},
    )  # fmt: skip


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float64) / 255.0
