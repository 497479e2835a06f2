"""An outside opinion on samples: a classifier of other origin than this library, trained on images no model has seen."""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from jaxgen.errors import InputError

CONFIDENT = 0.8


class Judge(NamedTuple):
    """name: for the protocol. probabilities: uint8 images -> [N, classes]. num_classes."""

    name: str
    probabilities: Callable[[np.ndarray], np.ndarray]
    num_classes: int


def support_vector_judge(images: UInt8[np.ndarray, "N H W C"], labels: np.ndarray) -> Judge:
    """scikit-learn's SVC(gamma=0.001, probability=True) on pixel values 0 to 16, its own setting for its digits."""
    from sklearn.svm import SVC

    if len(images) > 5000:
        raise InputError("the support vector judge is for small data sets (at most 5,000 images)")

    def flat(x):
        return x.reshape(len(x), -1).astype(np.float64) * (16.0 / 255.0)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # `probability` goes in scikit-learn 1.11; setup.cfg stays below
        model = SVC(gamma=0.001, probability=True, random_state=0).fit(flat(images), labels)
    name = f"SVC(gamma=0.001, probability=True) trained on {len(images)} held-out real images"
    return Judge(name, lambda x: model.predict_proba(flat(x)), int(labels.max()) + 1)


def confident_share(probabilities: Float[np.ndarray, "N K"]) -> float:
    """Share of images whose most likely class has a probability above 0.8."""
    return float(np.mean(probabilities.max(axis=1) > CONFIDENT))
