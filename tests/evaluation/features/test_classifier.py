"""The pinned classifiers: their files, their judgement of real images, and a second computation in
float64 numpy.
"""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from jaxgen import data
from jaxgen.errors import InputError
from jaxgen.evaluation.features import classifier
from tests.support import close

TFDS = (
    Path(os.environ.get("JAXGEN_SHARED", Path(__file__).resolve().parents[4] / "shared"))
    / "data"
    / "tfds"
)
DATASETS = list(classifier.PINNED)
TERMS = 9 * 144  # of a sum in the widest convolution


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", "validation+test")


def noise(dataset, count, seed=0):
    return np.random.default_rng(seed).integers(
        0, 256, (count, *classifier.PINNED[dataset].shape), np.uint8
    )


def in_float64(dataset, images):
    """The network once more, by windows and sums: vectors and probabilities."""
    spec = classifier.PINNED[dataset]
    with np.load(os.path.join(classifier.FOLDER, f"{dataset}.npz")) as saved:
        weights = {name: value.astype(np.float64) for name, value in saved.items()}

    def convolve(x, kernel, stride=1, pad=0):
        x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], (1, 2))[
            :, ::stride, ::stride
        ]
        return np.einsum("nhwcij,ijco->nhwo", windows, kernel, optimize=True)

    def gelu(x):
        return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    x = gelu(convolve(images / 255, weights["0/kernel"], spec.stem[1]) + weights["0/bias"])
    for i, (_, halve) in enumerate(spec.layers, 1):
        x = convolve(x, weights[f"{i}/kernel"], pad=1) + weights[f"{i}/bias"]
        if halve:
            n, h, w, c = x.shape
            x = (
                x[:, : h // 2 * 2, : w // 2 * 2]
                .reshape(n, h // 2, 2, w // 2, 2, c)
                .max(axis=(2, 4))
            )
        x = gelu(x)
    vectors = x.mean(axis=(1, 2))
    scores = np.exp(vectors @ weights["logits/kernel"] + weights["logits/bias"])
    return vectors, scores / scores.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_file_has_the_recorded_hash(dataset):
    content = (Path(classifier.FOLDER) / f"{dataset}.npz").read_bytes()
    assert hashlib.sha256(content).hexdigest() == classifier.PINNED[dataset].sha256


def test_the_files_are_small():
    assert sum(path.stat().st_size for path in Path(classifier.FOLDER).glob("*.npz")) <= 1_500_000


@pytest.mark.slow
@pytest.mark.parametrize("dataset", DATASETS)
def test_features_are_those_of_a_second_computation(dataset):
    images = noise(dataset, 3)
    vectors, probabilities = in_float64(dataset, images)
    found = classifier.extractor(dataset, batch_size=4).extract(images)
    assert found.vectors.dtype == found.probabilities.dtype == np.float32
    close(found, (vectors, probabilities), dtype=np.float32, terms=TERMS)


def test_accuracy_on_real_digits_is_the_recorded_one(digits):
    probabilities = classifier.extractor("digits").extract(digits.images).probabilities
    right = probabilities.argmax(axis=1) == digits.labels
    assert right.mean() == pytest.approx(classifier.PINNED["digits"].accuracy, abs=1e-4)
    shares = np.bincount(probabilities.argmax(axis=1), minlength=10) / len(right)
    assert np.abs(shares - 0.1).max() < 0.01
    # a probability is one: of what it is sure about, about as much is right as it says
    assert right.mean() == pytest.approx(probabilities.max(axis=1).mean(), abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("dataset, right", [("mnist", 496), ("cifar10", 454)])
def test_accuracy_on_the_first_500_test_images(dataset, right):
    if not (TFDS / dataset).is_dir():
        pytest.skip(f"no {dataset} prepared in {TFDS} (set JAXGEN_SHARED)")
    pytest.importorskip("tensorflow_datasets")
    source = data.load(f"tfds:{dataset}", "test[:500]", data_dir=str(TFDS))
    probabilities = classifier.for_source(source.name).extract(source.images).probabilities
    assert np.sum(probabilities.argmax(axis=1) == source.labels) == right
    # the recorded accuracy, within four standard deviations of 500 draws
    recorded = classifier.PINNED[dataset].accuracy
    assert right / 500 == pytest.approx(recorded, abs=4 * np.sqrt(recorded * (1 - recorded) / 500))


def test_features_do_not_depend_on_the_batch(digits):
    images = digits.images[:50]
    whole = classifier.extractor("digits").extract(images)
    for batch_size in (1, 16):
        parts = classifier.extractor("digits", batch_size=batch_size).extract(images)
        close(parts, whole, terms=TERMS)
    among_others = classifier.extractor("digits").extract(
        np.concatenate([noise("digits", 30), images])
    )
    close(among_others.vectors[30:], whole.vectors, terms=TERMS)


def test_no_images_have_no_features():
    vectors, probabilities = classifier.extractor("digits").extract(noise("digits", 0))
    assert vectors.shape == (0, 64) and probabilities.shape == (0, 10)


def test_the_protocol_pins_the_weights():
    judge = classifier.extractor("digits")
    spec = classifier.PINNED["digits"]
    assert judge.name == "Digits64" and spec.sha256 in judge.protocol["weights"]
    assert (
        judge.protocol["test accuracy"] == spec.accuracy
        and judge.protocol["trained on"] == "digits train"
    )
    assert len({classifier.extractor(dataset).digest for dataset in DATASETS}) == len(DATASETS)


@pytest.mark.parametrize(
    "source, name",
    [
        ("digits train", "Digits64"),
        ("digits", "Digits64"),
        ("tfds:mnist train[:55000]", "MNIST128"),
        ("tfds:cifar10:3.0.2 test", "CIFAR128"),
        ("tfds:cifar100 train", None),
        ("folder:digits train", None),
        ("synthetic train", None),
        ("", None),
    ],
)
def test_a_source_finds_its_classifier(source, name):
    found = classifier.for_source(source)
    assert (found and found.name) == name


def test_stacked_modes_read_three_digits(digits):
    stacks = digits.images[:300].reshape(3, 100, 8, 8).transpose(1, 2, 3, 0)
    a, b, c = digits.labels[:300].reshape(3, 100)
    modes = classifier.stacked_modes(classifier.extractor("digits"), stacks)
    assert modes.shape == (100,)
    # three digits that are each read right as 98.5 % are: 95.6 %, less four standard deviations
    assert np.mean(modes == 100 * a + 10 * b + c) >= 0.87


def test_changed_or_missing_weights_are_refused(tmp_path, monkeypatch):
    content = bytearray((Path(classifier.FOLDER) / "digits.npz").read_bytes())
    content[-1] ^= 1
    monkeypatch.setattr(classifier, "FOLDER", str(tmp_path))
    with pytest.raises(InputError, match="cannot read .*digits.npz"):
        classifier._loaded.__wrapped__("digits")
    (tmp_path / "digits.npz").write_bytes(content)
    with pytest.raises(InputError, match="has sha256"):
        classifier._loaded.__wrapped__("digits")


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda judge: classifier.extractor("mnits"), "did you mean mnist"),
        (lambda judge: classifier.extractor("digits", batch_size=0), "batch_size is 0"),
        (lambda judge: judge.extract(noise("digits", 2) / np.float32(255)), "float32"),
        (
            lambda judge: judge.extract(noise("mnist", 2)),
            r"\(2, 28, 28, 1\), expected uint8 \[N, 8, 8, 1\]",
        ),
        (lambda judge: judge.extract(noise("digits", 2)[0]), "expected uint8"),
        (lambda judge: classifier.stacked_modes(judge, noise("digits", 2)), "three digits"),
        (lambda judge: classifier.stacked_modes(judge, noise("cifar10", 2)), "expected uint8"),
    ],
)
def test_what_cannot_be_used_is_one_clear_line(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call(classifier.extractor("digits"))
    assert "\n" not in str(caught.value)
