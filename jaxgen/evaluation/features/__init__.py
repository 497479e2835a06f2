"""Feature extractors: `pixels` (PCA), `classifier` (small, pinned, ours), `inception` (the network
of the FID).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from jaxgen import data
from jaxgen.errors import InputError, lookup
from jaxgen.evaluation.features import classifier, inception, pixels
from jaxgen.evaluation.features.base import Extractor, Features
from jaxgen.evaluation.features.cache import cached

NAMES = ("classifier", "pixels", *(f"inception{layer}" for layer in inception.LAYERS))

__all__ = ["NAMES", "Extractor", "Features", "build", "cached"]


def build(
    names: Sequence[str], fit: data.Table, *, weights: str = "", resize: str = "tf1_bilinear"
) -> list[Extractor]:
    """The extractors of these names, in this order; for no names, what fits the data: the pinned
    classifier, where the data set has one, and pixels.

    names: of NAMES, or "package.module:attribute" for an Extractor, or a function from `fit` to
    one. fit: the images that pixels' components are fitted to, whose name also chooses the
    classifier. weights: the Inception file ("": $JAXGEN_INCEPTION). Raises InputError for an
    unknown name, a data set without a classifier, missing weights."""
    judge = classifier.for_source(fit.name)
    if not names:
        names = ("pixels",) if judge is None else ("classifier", "pixels")

    def by_classifier(fit):
        if judge is None:
            raise InputError(
                f"features: no pinned classifier for {fit.name}; there are some for "
                f"{classifier.KNOWN}"
            )
        return judge

    def by_inception(layer, fit):
        return inception.extractor(weights or None, layer, resize=resize)

    table: dict[str, Any] = {
        "classifier": by_classifier,
        "pixels": lambda fit: pixels.extractor(fit.images, fit.name, data.fingerprint(fit)),
    }
    for layer in inception.LAYERS:
        table[f"inception{layer}"] = partial(by_inception, layer)
    found = [lookup(table, "extractor", name) for name in names]
    return [each if isinstance(each, Extractor) else each(fit) for each in found]
