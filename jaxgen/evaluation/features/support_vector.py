"""An outside opinion on digits: a classifier of other origin than this library, trained on images
no model has seen.
"""

import hashlib
import warnings

import numpy as np
from jaxtyping import UInt8

from jaxgen.errors import InputError
from jaxgen.evaluation.features.base import Extractor, Features


def extractor(images: UInt8[np.ndarray, "N H W C"], labels: np.ndarray) -> Extractor:
    """scikit-learn's SVC(gamma=0.001, probability=True) on pixel values 0 to 16, its own setting
    for its digits.

    Its vectors are the class probabilities too. Raises InputError for more than 5,000 images.
    """
    from sklearn.svm import SVC

    if len(images) > 5000:
        raise InputError("the support vector judge is for small data sets (at most 5,000 images)")

    def flat(x):
        return x.reshape(len(x), -1).astype(np.float64) * (16.0 / 255.0)

    with warnings.catch_warnings():
        # `probability` goes in scikit-learn 1.11; setup.cfg stays below
        warnings.simplefilter("ignore", FutureWarning)
        model = SVC(gamma=0.001, probability=True, random_state=0).fit(flat(images), labels)

    def extract(x: UInt8[np.ndarray, "N H W C"]) -> Features:
        probabilities = model.predict_proba(flat(x))
        return Features(probabilities, probabilities)

    settings = hashlib.sha256(b"SVC gamma=0.001" + np.ascontiguousarray(images).data)
    settings.update(np.ascontiguousarray(labels).data)
    protocol = {
        "classifier": "SVC(gamma=0.001, probability=True)",
        "trained on": f"{len(images)} held-out real images",
    }
    return Extractor("SVC", extract, settings.hexdigest(), protocol)
