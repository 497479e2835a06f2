"""What a feature extractor is: uint8 images in, one vector (and perhaps class probabilities) per
image out.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Float, UInt8
from numpy import ndarray


class Features(NamedTuple):
    """vectors: one per image. probabilities: of each class, or None for an extractor that is no
    classifier.
    """

    vectors: Float[ndarray, "N D"]
    probabilities: Float[ndarray, "N K"] | None

    def take(self, rows: ndarray | slice) -> "Features":
        """Those of some images."""
        some = None if self.probabilities is None else self.probabilities[rows]
        return Features(self.vectors[rows], some)


class Extractor(NamedTuple):
    """A pinned function from images to features.

    name: with its layer or size, as scores carry it: "Inception768" in "FID-Inception768", "PCA64",
    "MNIST128".
    extract: uint8 images [N,H,W,C] -> Features; it streams in batches of its own and does not
    depend on batch mates.
    digest: SHA-256 (hex) of the weights and settings: equal digests give equal features.
    protocol: what a record says of it (weights' hash, layer, resize, test accuracy, ...).
    """

    name: str
    extract: Callable[[UInt8[ndarray, "N H W C"]], Features]
    digest: str
    protocol: dict[str, Any]
