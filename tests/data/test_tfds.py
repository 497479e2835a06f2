import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from jaxgen.data import batches, load, open_records
from jaxgen.data.stream import stream
from jaxgen.errors import InputError

SHARED = Path(os.environ.get("JAXGEN_SHARED", Path(__file__).resolve().parents[3] / "shared"))
DATA_DIR = str(SHARED / "data" / "tfds")


@pytest.fixture
def prepared():
    if not Path(DATA_DIR).is_dir():
        pytest.skip(f"no data sets prepared in {DATA_DIR} (set JAXGEN_SHARED)")
    pytest.importorskip("tensorflow_datasets")
    return DATA_DIR


def test_mnist_first_labels_and_mean(prepared):
    source = load("tfds:mnist", "test[:2000]", data_dir=prepared, image_shape=(28, 28, 1))
    assert source.images.shape == (2000, 28, 28, 1) and source.images.dtype == np.uint8
    assert source.labels.dtype == np.int32 and source.num_classes == 10 and source.texts is None
    # MNIST's published pixel mean is 0.1307, and every digit is about a tenth of it.
    assert abs(source.images.mean() / 255 - 0.1307) < 0.005
    assert np.bincount(source.labels, minlength=10).min() > 0.07 * 2000
    later = load("tfds:mnist", "test[1990:2000]", data_dir=prepared)
    assert np.array_equal(later.images, source.images[1990:]) and np.array_equal(
        later.labels, source.labels[1990:]
    )


def test_cifar10_needs_no_tensorflow(prepared):
    program = (
        "import sys; from jaxgen.data import load;"
        f"s = load('tfds:cifar10', 'train[:100]+test[-50:]', data_dir={prepared!r});"
        "assert s.images.shape == (150, 32, 32, 3) and s.num_classes == 10;"
        "assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "OpenCV" not in done.stderr


def test_cifar10_streams_as_it_loads(prepared):
    source = load("tfds:cifar10", "test[:300]", data_dir=prepared)
    records = open_records("tfds:cifar10", "test[:300]", data_dir=prepared)
    assert (len(records), records.shape, records.labelled) == (300, (32, 32, 3), True)
    with stream(records, 64, seed=0, workers=0) as streamed:
        for (batch, after), (expected, expected_after) in islice(
            zip(streamed, batches(source, 64, seed=0)), 10
        ):
            assert after == expected_after
            assert np.array_equal(batch["image"], expected["image"]) and np.array_equal(
                batch["label"], expected["label"]
            )


def test_images_are_those_that_tfds_decodes(prepared):
    import tensorflow_datasets as tfds

    rows = tfds.data_source("cifar10", data_dir=prepared, split="test").__getitems__(
        list(range(40, 90))
    )
    source = load("tfds:cifar10", "test[40:90]", data_dir=prepared)
    assert np.array_equal(source.images, [row["image"] for row in rows])
    assert source.labels.tolist() == [row["label"] for row in rows]


def test_errors(prepared, tmp_path):
    def fails(name, message, split="train", **options):
        with pytest.raises(InputError, match=message) as error:
            load(f"tfds:{name}", split, **({"data_dir": prepared} | options))
        assert "\n" not in str(error.value)

    fails("mnits", "no such data set: did you mean mnist")
    fails("mnist", "no split 'validation': the splits are train, test", split="validation")
    fails("mnist", "goes beyond the 60000 examples", split="train[:60001]")
    fails(
        "mnist",
        r"shape \(28, 28, 1\), but image_shape is \(8, 8, 1\)",
        split="test[:1]",
        image_shape=(8, 8, 1),
    )
    fails(
        "mnist",
        f"not prepared as array records in {tmp_path};.* tfds build mnist .*--data_dir={tmp_path}",
        data_dir=str(tmp_path),
    )


@pytest.mark.parametrize("module", ["tensorflow_datasets", "importlib_resources"])
def test_a_missing_package_is_named(monkeypatch, tmp_path, module):
    # Python's own error for a module that is set to None carries the name, as for one that is not
    # installed.
    monkeypatch.setitem(sys.modules, module, None)
    if module == "importlib_resources":
        (tmp_path / "tensorflow_datasets.py").write_text("import importlib_resources")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "tensorflow_datasets", raising=False)
    with pytest.raises(
        InputError, match=rf"tfds:mnist: needs the package {module}: pip install 'jaxgen\[data\]'"
    ):
        load("tfds:mnist", "train")
