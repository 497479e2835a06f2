"""Features of reference images, computed once and kept on disk under the hash of the images and of
the extractor.
"""

import contextlib
import hashlib
import io
import os

import numpy as np
from jaxtyping import UInt8

from jaxgen import files
from jaxgen.evaluation.features.base import Extractor, Features


def folder() -> str:
    """Where features are kept: $JAXGEN_CACHE/features, or jaxgen/features in the user's cache."""
    return os.path.join(files.cache(), "features")


def cached(extractor: Extractor, images: UInt8[np.ndarray, "N H W C"]) -> Features:
    """`extractor.extract(images)`, from disk where it has been computed before. A damaged file is
    computed anew.
    """
    key = hashlib.sha256(f"{extractor.digest} {images.dtype} {images.shape} ".encode())
    key.update(np.ascontiguousarray(images).data)
    path = os.path.join(folder(), f"{extractor.name}-{key.hexdigest()[:32]}.npz")
    try:
        with np.load(io.BytesIO(files.read(path)), allow_pickle=False) as saved:
            return Features(
                saved["vectors"], saved["probabilities"] if "probabilities" in saved else None
            )
    except Exception:  # broken bytes raise many kinds of errors here
        features = extractor.extract(images)
    arrays = {name: value for name, value in features._asdict().items() if value is not None}
    with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
        files.replace(path, lambda file: np.savez(file, **arrays))
    return features
