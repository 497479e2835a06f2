import hashlib

import numpy as np
import pytest
from sklearn.datasets import load_digits

from jaxgen.data import Table, fingerprint, load
from jaxgen.errors import InputError


def rows(source):
    return [
        (image.tobytes(), int(label))
        for image, label in zip(source.images, source.labels, strict=True)
    ]


def test_digits_splits_are_complete_disjoint_and_stratified():
    train, validation, test = (load("digits", split) for split in ("train", "validation", "test"))
    scans, labels = load_digits(return_X_y=True)
    # The scans' 17 grey levels spread over 0..255, computed here with Python's integers.
    expected = [
        (bytes((int(v) * 510 + 16) // 32 for v in scan), label)
        for scan, label in zip(scans, labels, strict=True)
    ]
    assert sorted(rows(train) + rows(validation) + rows(test)) == sorted(expected)
    assert len(train.images) == 898 and abs(len(validation.images) - len(test.images)) <= 1

    counts = np.bincount(labels)
    for part, share in ((train, 2), (validation, 4), (test, 4)):
        assert np.abs(np.bincount(part.labels) - counts / share).max() <= 1
        assert part.images.shape[1:] == (8, 8, 1) and part.images.dtype == np.uint8
        assert part.labels.dtype == np.int32 and part.num_classes == 10


def test_a_split_expression_takes_the_same_examples_as_slicing():
    whole, test = load("digits", "train"), load("digits", "test")
    chosen = load("digits", "train[10:20]+test[:5]", image_shape=(8, 8, 1))
    assert rows(chosen) == rows(whole)[10:20] + rows(test)[:5]
    assert chosen.name == "digits train[10:20]+test[:5]"


def test_synthetic_is_fixed_noise():
    first, again = (load("synthetic", "train", image_shape=(4, 6, 3)) for _ in range(2))
    assert first.images.shape == (4096, 4, 6, 3) and np.array_equal(first.images, again.images)
    # Uniform on 0..255: mean 127.5, standard deviation 73.9; 295,000 values put the mean within 5 *
    # 73.9 / 543.
    assert (
        abs(first.images.mean() - 127.5) < 0.7
        and first.images.min() == 0
        and first.images.max() == 255
    )


def test_fingerprint_follows_the_content_only():
    source = load("digits", "test")
    images, labels = source.images, source.labels
    assert fingerprint(source) == fingerprint(Table("other", dict(source.columns), 10))
    changed = images.copy()
    changed[3, 2, 1, 0] ^= 1
    others = [
        Table("digits", {"image": changed, "label": labels}, 10),
        Table("digits", {"image": images, "label": np.roll(labels, 1)}, 10),
        Table("digits", {"image": images}),
        Table("digits", {"image": images.reshape(-1, 4, 16, 1), "label": labels}, 10),
    ]
    assert len({fingerprint(other) for other in [source, *others]}) == 5
    assert len(fingerprint(source)) == len(hashlib.sha256().hexdigest())


@pytest.mark.parametrize(
    "source, split, shape, message",
    [
        (
            "digit",
            "train",
            None,
            "unknown data source 'digit': write digits, synthetic, folder:<path>",
        ),
        ("digits:8", "train", None, "unknown data source 'digits:8'"),
        ("npz", "train", None, "unknown data source 'npz'"),
        (
            "digits",
            "valid",
            None,
            "digits: there is no split 'valid': the splits are train, validation, test",
        ),
        (
            "digits",
            "train[:900]",
            None,
            r"digits: split 'train\[:900\]' goes beyond the 898 examples",
        ),
        (
            "digits",
            "train",
            (28, 28, 1),
            r"digits train: .*shape \(8, 8, 1\), but image_shape is \(28, 28, 1\)",
        ),
        ("synthetic", "train", None, "synthetic: needs image_shape"),
    ],
)
def test_errors(source, split, shape, message):
    with pytest.raises(InputError, match=message):
        load(source, split, image_shape=shape)


def test_stacked_images_hold_three_labelled_digits_each():
    base, stacked = load("digits", "train"), load("stacked:digits", "train", image_shape=(8, 8, 3))
    known = dict(rows(base))
    assert stacked.num_classes == 1000 and len(stacked.images) == 25_600
    for image, label in zip(stacked.images[:200], stacked.labels[:200], strict=True):
        a, b, c = (known[np.ascontiguousarray(image[..., i : i + 1]).tobytes()] for i in range(3))
        assert label == 100 * a + 10 * b + c
    # 25,600 draws of 1,000 nearly equal classes: all appear, as Poisson counts of mean 25.6
    counts = np.bincount(stacked.labels, minlength=1000)
    assert counts.min() > 3 and counts.max() < 65
    part = load("stacked:digits", "train[100:120]")
    np.testing.assert_array_equal(part.images, stacked.images[100:120])
    test = load("stacked:digits", "test[:50]")
    train = {image.tobytes() for image in base.images[..., 0]}
    assert not any(np.ascontiguousarray(image[..., 0]).tobytes() in train for image in test.images)


def test_only_grey_labelled_images_can_be_stacked(tmp_path):
    np.savez(tmp_path / "grey.npz", images=np.zeros((4, 8, 8), np.uint8))
    with pytest.raises(InputError, match="grey images with labels"):
        load(f"stacked:npz:{tmp_path / 'grey.npz'}", "train")
    with pytest.raises(InputError, match="unknown data source"):
        load("stacked:", "train")
