"""Principal components of pixels against scikit-learn's, and the cache of features."""

import dataclasses
import os

import numpy as np
import pytest
from sklearn.decomposition import PCA

from jaxgen import data
from jaxgen.errors import InputError
from jaxgen.evaluation.features import Extractor, build, cache, pixels
from tests.support import close, images


@pytest.fixture
def train():
    return data.load("digits", "train")


def distances(x):
    return np.linalg.norm(x[:, None] - x[None], axis=-1)


@pytest.mark.parametrize("dims", [5, 20])
@pytest.mark.parametrize("count", [898, 40])
def test_components_are_those_of_scikit_learn(train, monkeypatch, dims, count):
    """By the matrix of 64 pixels, and by that of 40 images, in pieces; signs are free."""
    monkeypatch.setattr(pixels, "_CHUNK", 1000)
    some = train.images[:count]
    ours = pixels.extractor(some, train.name, "", dims=dims)
    flat = some.reshape(count, -1) / 255.0
    fitted = PCA(dims, svd_solver="full").fit(flat)
    assert ours.name == f"PCA{dims}"
    found, theirs = ours.extract(some).vectors, fitted.transform(flat)
    gap = -np.diff(fitted.explained_variance_).max()  # rounding turns components that are near
    scale = fitted.explained_variance_[0] / gap
    close(np.abs(found), np.abs(theirs), scale, dtype=np.float64, terms=64)
    share = fitted.explained_variance_ratio_.sum()
    assert f"{dims} of 64, {100 * share:.1f} % of the variance" == ours.protocol["components"]


def test_there_are_no_more_components_than_images_differ_in():
    """Four images of 256 x 256 in colour differ in three directions; a matrix of their pixels would
    take 288 GiB."""
    four = images(0, 4, 256, 256, 3)
    mean, vectors, kept = pixels.components(four, 64)
    assert vectors.shape == (256 * 256 * 3, 3)
    close(vectors.T @ vectors, np.eye(3), dtype=np.float64, terms=len(vectors))
    close(kept, 1.0, dtype=np.float64, terms=len(vectors))
    assert pixels.components(np.repeat(images(0, 2, 4, 4, 3), 5, axis=0), 20).vectors.shape[1] == 1


def test_signs_are_those_of_the_largest_entries(train):
    for some in (train.images, train.images[:40]):
        vectors = pixels.components(some, 20).vectors
        largest = np.abs(vectors).argmax(axis=0)
        assert (vectors[largest, np.arange(20)] > 0).all()


def test_with_all_components_distances_are_those_of_the_images(train):
    test = data.load("digits", "test").images[:40]
    found = build(["pixels"], train)[0].extract(test).vectors
    expected = distances(test.reshape(40, -1) / 255.0)
    # of a point to itself: the root of a rounding error
    close(distances(found), expected, dtype=np.float64, terms=64)


def test_other_images_are_refused(train):
    extractor = pixels.extractor(train.images, train.name, "")
    for wrong in (np.zeros((3, 9, 8, 1), np.uint8), np.zeros((3, 8, 8, 1), np.float32)):
        with pytest.raises(InputError, match="the reference is uint8"):
            extractor.extract(wrong)


def test_an_unknown_extractor_and_a_missing_classifier_are_named(train):
    with pytest.raises(InputError, match="did you mean pixels"):
        build(["pixel"], train)
    with pytest.raises(InputError, match="extractor 'nowhere:x': there is no module"):
        build(["nowhere:x"], train)
    with pytest.raises(InputError, match="no pinned classifier for folder:x"):
        build(["classifier"], dataclasses.replace(train, name="folder:x"))


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
