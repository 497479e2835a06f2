"""What holds for every source of examples: a new one is a row of `SOURCES`."""

import pickle
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from jaxgen.data import Position, batches, classes_without_images, load, open_records
from jaxgen.data.stream import stream
from jaxgen.errors import InputError
from tests.support import images

LABELS = np.arange(50) % 7


def outside():
    return {
        "train": {"image": images(1, 30, 4, 4, 1), "low": images(2, 30, 2, 2, 1)},
        "test": {"image": images(3, 12, 4, 4, 1), "low": images(4, 12, 2, 2, 1)},
    }


# name: (source, a part of it, its shape); {} is a folder made by `place`
SOURCES = {
    "digits": ("digits", "train[:300]+test[:9]", (8, 8, 1)),
    "synthetic": ("synthetic", "train[:100]", (16, 8, 3)),
    "stacked": ("stacked:digits", "train[:50]", (8, 8, 3)),
    "points": ("points:moons", "train[5:90]+test[:10]", (2,)),
    "folder": ("folder:{}/images", "train[2:]+test", (5, 4, 3)),
    "npz": ("npz:{}/plain.npz", "train[3:]+test", (4, 4, 1)),
    "compressed": ("npz:{}/packed.npz", "train", (4, 4, 1)),
    "hf": ("hf:{}/parquet", "train[1:]+test", (5, 4, 3)),
    "outside": ("tests.data.test_every_source:outside", "test+train", (4, 4, 1)),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the files that the sources need."""
    top = tmp_path_factory.mktemp("sources")
    for split, count in (("train", 30), ("test", 6)):
        for i, image in enumerate(images(count, count, 5, 4, 3)):
            path = top / "images" / split / f"{i % 3}" / f"{i:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    arrays = dict(train_images=images(0, 50, 4, 4, 1), train_labels=LABELS)
    arrays |= dict(test_images=images(1, 9, 4, 4, 1), test_labels=LABELS[:9])
    np.savez(top / "plain.npz", **arrays)
    np.savez_compressed(top / "packed.npz", **arrays)
    return top


def parquet(datasets, top):
    for split in ("train", "test"):
        files = sorted((top / "images" / split).rglob("*.png"))
        columns = {"image": [str(f) for f in files], "label": [int(f.parent.name) for f in files]}
        kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=3)}
        table = datasets.Dataset.from_dict(columns, datasets.Features(kinds))
        (top / "parquet").mkdir(exist_ok=True)
        table.to_parquet(top / "parquet" / f"{split}-00000-of-00001.parquet")


@pytest.fixture(params=SOURCES)
def source(request, place, monkeypatch):
    name, split, shape = SOURCES[request.param]
    if request.param == "hf":
        datasets = pytest.importorskip("datasets")
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", place / "cache")
        if not (place / "parquet").exists():
            parquet(datasets, place)
    return name.format(place), split, shape


def same(one, other):
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.dtype == other[name].dtype and np.array_equal(array, other[name])


@pytest.mark.slow
def test_records_are_the_table_in_any_order_and_another_process(source):
    name, split, shape = source
    table = load(name, split, image_shape=shape)
    records = pickle.loads(pickle.dumps(open_records(name, split, image_shape=shape)))
    assert (records.name, len(records), records.num_classes, records.shape, records.space) == (
        *(table.name, len(table), table.num_classes, shape, table.space),
    )
    assert table.shape == shape and table.space == ("points" if len(shape) == 1 else "pixels")
    assert table.images.dtype == (np.float32 if len(shape) == 1 else np.uint8)
    assert records.labelled == (table.labels is not None) and records.notices == ()
    assert records.nbytes == sum(array.nbytes for array in table.arrays.values())
    chosen = np.array([17, 3, 33, 3])
    same(records.batch(chosen), table[chosen].arrays)
    same(records[17], {k: array[17] for k, array in table.arrays.items()})
    if records.labelled:
        assert table.labels.dtype == np.int32
        same(records.batch(chosen, ("label",)), {"label": table.labels[chosen]})
        missing = set(range(records.num_classes)) - set(table.labels.tolist())
        assert classes_without_images(records) == sorted(missing)


def test_splits_are_disjoint_and_their_parts_complete(source):
    name, _, shape = source
    seen, total = [], 0
    for split in ("train", "test"):
        whole = load(name, split, image_shape=shape)
        cut = load(name, f"{split}[:30%]+{split}[30%:]", image_shape=shape)
        same(whole.columns, cut.columns)
        seen.append({row.tobytes() for row in whole.images})
        total += len(whole)
    if name != "stacked:digits":  # which draws the same triple twice now and then
        assert len(set().union(*seen)) == sum(map(len, seen)) == total


@pytest.mark.slow
def test_a_stream_has_the_batches_of_the_table(source):
    name, split, shape = source
    records, table = (f(name, split, image_shape=shape) for f in (open_records, load))
    position = Position(3, 20)
    with stream(records, 16, seed=2, position=position, workers=0) as streamed:
        expected = batches(table, 16, seed=2, position=position)
        for (batch, after), (other, other_after) in islice(zip(streamed, expected), 12):
            assert after == other_after
            same(batch, other)


def test_the_fingerprint_is_that_of_the_content(source, tmp_path):
    name, split, shape = source
    records, table = (f(name, split, image_shape=shape) for f in (open_records, load))
    assert records.fingerprint() == open_records(name, split, image_shape=shape).fingerprint()
    if table.space == "points" or "low" in table.columns:
        return
    labels = {} if table.labels is None else {"train_labels": table.labels}
    np.savez(tmp_path / "moved.npz", train_images=table.images, **labels, x_images=table.images)
    moved = f"npz:{tmp_path / 'moved.npz'}"
    assert open_records(moved, "train").fingerprint() == records.fingerprint()
    assert open_records(moved, "train[:10]+train[10:]").fingerprint() == records.fingerprint()
    others = [open_records(moved, "train[1:]"), open_records(moved, "train[:-1]")]
    assert records.fingerprint() not in [other.fingerprint() for other in others]


@pytest.mark.parametrize(
    "columns, message",
    [
        ({"label": LABELS}, "neither a column image nor point"),
        ({"image": np.zeros((50, 4, 4, 1))}, r"'image' of split 'train' is float64 of shape"),
        ({"image": images(0, 9, 4, 4, 1), "label": LABELS}, "differ in length"),
        ({"image": images(0, 50, 4, 4, 1), "label": LABELS / 2}, "must be integers"),
    ],
)
def test_a_source_from_outside_is_checked(monkeypatch, columns, message):
    monkeypatch.setitem(globals(), "bad", {"train": columns})
    with pytest.raises(InputError, match=message):
        load("tests.data.test_every_source:bad", "train")


def test_what_is_not_there_outside_is_said():
    for name, message in [
        ("tests.data.test_every_source:none", "has no 'none'"),
        ("tests.no_such:thing", "there is no module 'tests.no_such'"),
        ("tests.data.test_every_source:LABELS", "expected {split: {column: array}}"),
    ]:
        with pytest.raises(InputError, match=message):
            load(name, "train")
