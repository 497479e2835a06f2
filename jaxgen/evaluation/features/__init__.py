"""Feature extractors: `pixels` (PCA), `classifier` (small, pinned, ours), `inception` (the network
of the FID).
"""

from collections.abc import Sequence

from jaxgen import data
from jaxgen.errors import InputError, nearest
from jaxgen.evaluation.features import classifier, inception, pixels
from jaxgen.evaluation.features.base import Extractor, Features
from jaxgen.evaluation.features.cache import cached

NAMES = ("classifier", "pixels", "inception64", "inception192", "inception768", "inception2048")

__all__ = ["NAMES", "Extractor", "Features", "build", "cached"]


def build(
    names: Sequence[str], fit: data.Table, *, weights: str = "", resize: str = "tf1_bilinear"
) -> list[Extractor]:
    """The extractors of these names, in this order; for no names, what fits the data: the pinned
    classifier, where the data set has one, and pixels.

    fit: the images that pixels' components are fitted to, whose name also chooses the classifier.
    weights: the Inception file ("": $JAXGEN_INCEPTION). Raises InputError for an unknown name, a
    data set without a classifier, missing weights."""
    judge = classifier.for_source(fit.name)
    if not names:
        names = ("pixels",) if judge is None else ("classifier", "pixels")

    def one(name: str) -> Extractor:
        if name == "pixels":
            return pixels.extractor(fit.images, fit.name, data.fingerprint(fit))
        if name == "classifier":
            if judge is None:
                raise InputError(
                    f"features: no pinned classifier for {fit.name}; there are some for "
                    f"{classifier.KNOWN}"
                )
            return judge
        if name in NAMES:
            return inception.extractor(
                weights or None, int(name.removeprefix("inception")), resize=resize
            )
        raise InputError(f"features: there is no extractor '{name}': {nearest(name, NAMES)}")

    return [one(name) for name in names]
