import numpy as np
import pytest

from jaxgen.data import load
from jaxgen.errors import InputError

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 4, 5, 3), np.uint8)
LABELS = np.arange(12) % 4


@pytest.fixture
def archive(tmp_path):
    def write(**arrays):
        np.savez(tmp_path / "data.npz", **arrays)
        return f"npz:{tmp_path / 'data.npz'}"

    return write


def fails(source, message, split="train"):
    with pytest.raises(InputError, match=message) as error:
        load(source, split)
    assert "data.npz" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "arrays",
    [
        {"train_images": IMAGES, "train_labels": LABELS, "test_images": IMAGES[:2]},
        {"images": IMAGES, "labels": LABELS},
        {"arr_0": IMAGES, "arr_1": LABELS.astype(np.uint8)},
    ],
)
def test_names(archive, arrays):
    source = load(archive(**arrays), "train[2:9]", image_shape=(4, 5, 3))
    assert np.array_equal(source.images, IMAGES[2:9]) and np.array_equal(source.labels, LABELS[2:9])
    assert source.labels.dtype == np.int32 and source.num_classes == 4


def test_labels_are_optional(archive):
    source = load(archive(images=IMAGES), "train")
    assert source.labels is None and source.num_classes == 0
    # numpy's second array is labels only if it can be.
    assert load(archive(arr_0=IMAGES, arr_1=np.zeros((12, 2))), "train").labels is None


def test_classes_are_counted_over_all_splits(archive):
    source = archive(
        train_images=IMAGES,
        train_labels=LABELS,
        test_images=IMAGES[:2],
        test_labels=np.array([7, 0]),
    )
    assert load(source, "train").num_classes == load(source, "test").num_classes == 8


def test_grey_images_get_their_channel(archive):
    assert load(archive(images=IMAGES[..., 0]), "train").images.shape == (12, 4, 5, 1)


def test_errors(archive):
    fails(
        archive(images=(IMAGES / 255).astype(np.float32)),
        r"images is float32 in \[0, 1\], expected uint8 .*np\.round\(255",
    )
    fails(
        archive(images=IMAGES.transpose(0, 3, 1, 2)),
        r"images has shape \(12, 3, 4, 5\), expected \(N, H, W\)",
    )
    fails(archive(pictures=IMAGES), "expected arrays named <split>_images .* found pictures")
    fails(archive(images=IMAGES, labels=LABELS[:5]), "12 images but 5 labels")
    fails(archive(images=IMAGES, labels=np.eye(12)), r"labels is float64 of shape \(12, 12\)")
    fails(
        archive(images=IMAGES, labels=LABELS - 1), "labels go from -1 to 2, outside the 3 classes"
    )
    fails(archive(images=IMAGES[:0]), "split 'train' is empty")
    fails(
        archive(train_images=IMAGES, test_images=IMAGES),
        "no split 'val': the splits are train, test",
        "val",
    )
    fails(archive(a_images=IMAGES, b_images=IMAGES[:, :2]), "images of different shapes", "a+b")
    fails(
        archive(a_images=IMAGES, a_labels=LABELS, b_images=IMAGES),
        "one part has labels and another has none",
        "a+b",
    )
    # would need pickle
    fails(archive(images=np.array([{}, {}], dtype=object)), "'images' cannot be read")


def test_damaged_files(archive, tmp_path):
    file = tmp_path / "data.npz"
    fails(f"npz:{file}", "there is no such file")
    source = archive(images=IMAGES)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    fails(source, "cannot be read as an npz archive")
    file.write_bytes(whole[:300] + bytes(50) + whole[350:])
    fails(source, "'images' cannot be read .*CRC")
    file.write_bytes(b"")
    fails(source, "cannot be read as an npz archive")
    np.save(file.open("wb"), IMAGES)
    fails(source, "cannot be read as an npz archive")
