"""Principal components of pixels against scikit-learn's, and the cache of features."""

import os

import numpy as np
import pytest
from sklearn.decomposition import PCA

from jaxgen import data
from jaxgen.errors import InputError
from jaxgen.evaluation.features import Extractor, build, cache, pixels


@pytest.fixture
def train():
    return data.load("digits", "train")


def distances(x):
    return np.linalg.norm(x[:, None] - x[None], axis=-1)


@pytest.mark.parametrize("dims", [5, 20])
def test_components_are_those_of_scikit_learn(train, dims):
    ours = pixels.extractor(train.images, train.name, "", dims=dims)
    flat = train.images.reshape(len(train.images), -1) / 255.0
    theirs = PCA(dims, svd_solver="full").fit(flat).transform(flat)
    assert ours.name == f"PCA{dims}"
    found = ours.extract(train.images).vectors
    np.testing.assert_allclose(
        np.abs(found), np.abs(theirs), atol=1e-9
    )  # a component's sign is nobody's business


def test_with_all_components_distances_are_those_of_the_images(train):
    test = data.load("digits", "test").images[:40]
    found = build(["pixels"], train)[0].extract(test).vectors
    np.testing.assert_allclose(distances(found), distances(test.reshape(40, -1) / 255.0), atol=1e-9)


def test_other_images_are_refused(train):
    extractor = pixels.extractor(train.images, train.name, "")
    for wrong in (np.zeros((3, 9, 8, 1), np.uint8), np.zeros((3, 8, 8, 1), np.float32)):
        with pytest.raises(InputError, match="the reference is uint8"):
            extractor.extract(wrong)


def test_an_unknown_extractor_and_a_missing_classifier_are_named(train):
    with pytest.raises(InputError, match="did you mean pixels"):
        build(["pixel"], train)
    with pytest.raises(InputError, match="no pinned classifier for folder:x"):
        build(["classifier"], train._replace(name="folder:x"))


def test_features_are_kept_by_content(train, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path))
    calls = []
    inner = pixels.extractor(train.images, train.name, "")

    def extract(images):
        calls.append(len(images))
        return inner.extract(images)

    extractor, images = inner._replace(extract=extract), train.images[:30]
    first = cache.cached(extractor, images)
    again = cache.cached(extractor, images.copy())
    np.testing.assert_array_equal(first.vectors, again.vectors)
    assert calls == [30] and again.probabilities is None
    cache.cached(extractor, images[::-1])  # other content
    cache.cached(extractor._replace(digest="other"), images)  # another extractor
    assert calls == [30] * 3
    for name in os.listdir(tmp_path / "features"):
        (tmp_path / "features" / name).write_bytes(b"PK broken")
    np.testing.assert_array_equal(cache.cached(extractor, images).vectors, first.vectors)
    assert calls == [30] * 4
    assert isinstance(extractor, Extractor) and not [
        n for n in os.listdir(tmp_path / "features") if "partial" in n
    ]
