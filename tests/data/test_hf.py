import io
import sys

import numpy as np
import pytest
from PIL import Image

from jaxgen.data import load
from jaxgen.errors import InputError
from tests.support import images

PIXELS = images(0, 6, 5, 4, 3)


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    module = pytest.importorskip("datasets")
    monkeypatch.setattr(module.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return module


def encoded(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png")
    return stream.getvalue()


def write(datasets, folder, **columns):
    """A Parquet file as other libraries write it, with images as bytes."""
    columns = {"image": [{"bytes": encoded(image), "path": None} for image in PIXELS]} | columns
    datasets.Dataset.from_dict(columns).to_parquet(folder / "train.parquet")
    return f"hf:{folder}"


@pytest.mark.parametrize(
    "labels, expected, count",
    [(list("cabcab"), [2, 0, 1, 2, 0, 1], 3), ([4, 0, 1, 2, 3, 1], [4, 0, 1, 2, 3, 1], 5)],
)
def test_labels_and_texts(datasets, tmp_path, labels, expected, count):
    texts = ["one", None, "three", "", "five", "six"]
    source = load(write(datasets, tmp_path, label=labels, caption=texts), "train")
    assert np.array_equal(source.images, PIXELS)
    assert source.labels.tolist() == expected and source.num_classes == count
    assert source.texts == tuple(text or "" for text in texts)


def test_what_save_to_disk_wrote(datasets, tmp_path):
    columns = {"img": [Image.fromarray(image) for image in PIXELS]}
    part = datasets.Dataset.from_dict(columns, datasets.Features({"img": datasets.Image()}))
    datasets.DatasetDict(train=part, test=part.select([1])).save_to_disk(tmp_path / "saved")
    test = load(f"hf:{tmp_path / 'saved'}", "test")
    assert np.array_equal(test.images, PIXELS[1:2]) and test.labels is None
    small = load(f"hf:{tmp_path / 'saved'}", "train", image_shape=(2, 2, 1), resize="crop")
    assert small.shape == (2, 2, 1)


def test_errors(datasets, tmp_path, monkeypatch):
    source = write(datasets, tmp_path)

    def fails(message, name=source, **options):
        with pytest.raises(InputError, match=message) as error:
            load(name, "train", **options)
        assert "\n" not in str(error.value)

    fails(r"example 0 of 'train': is 5x4 .*config\.data\.resize", image_shape=(8, 8, 3))
    (tmp_path / "bad").mkdir()
    cells = [{"bytes": b"not an image", "path": None}] * 6
    bad = write(datasets, tmp_path / "bad", image=cells)
    fails("example 0 of 'train': cannot be read as an image", bad)
    fails("hf:/no/such: there is no such folder", "hf:/no/such")
    datasets.Dataset.from_dict({"a": [1]}).to_parquet(tmp_path / "bad" / "train.parquet")
    fails("has no column of images .* only a", bad)
    monkeypatch.setitem(sys.modules, "datasets", None)
    fails(r"needs the package datasets: pip install 'jaxgen\[hf\]'")
