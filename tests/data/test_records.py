import dataclasses

import numpy as np
import pytest

from jaxgen.data import check_classes, classes_without_images, open_records
from jaxgen.errors import InputError
from tests.support import images

COUNT = 3000


@pytest.fixture
def archive(tmp_path):
    def records(labels, split="train"):
        arrays = {} if labels is None else {"labels": np.asarray(labels)}
        np.savez(tmp_path / "d.npz", images=images(0, COUNT, 2, 2, 1), **arrays)
        return open_records(f"npz:{tmp_path / 'd.npz'}", split)

    return records


def test_classes_without_images_by_counting(archive):
    labels = np.random.default_rng(0).integers(0, 40, COUNT)
    labels[labels == 7] = 8
    assert classes_without_images(archive(labels)) == [7]
    assert classes_without_images(archive(labels), 43) == [7, 40, 41, 42]
    labels[-1] = 60  # the last of all examples is the only one of its class
    assert classes_without_images(archive(labels)) == [7, *range(40, 60)]
    assert classes_without_images(archive(None)) == []


def test_no_image_is_decoded_and_no_more_labels_are_read_than_needed(archive):
    records, seen = archive(np.arange(COUNT) % 10), []

    def read(split, indices, names):
        seen.append((len(indices), names))
        return {"label": indices % 10}

    sizes = {"train": 10**7}
    reader = records._reader._replace(sizes=sizes, read=read)
    records = dataclasses.replace(records, _reader=reader, _parts=(("train", range(10**7)),))
    assert classes_without_images(records) == []
    assert sum(count for count, _ in seen) < 20_000 and {names for _, names in seen} == {("label",)}


@pytest.mark.parametrize(
    "labels, num_classes, message",
    [
        ([1, 2, 3], 3, "labels are 1 to 3, .* is 3: no example has class 0; number the 3 classes"),
        ([1, 2, 3], 4, "no example has class 0; number the 3 classes from 0 without gaps"),
        ([1, 2, 3], 10, r"no example has class 0, 4, 5, 6, 7, \.\.\.; number the 3 classes"),
        ([0, 1, 2], 10, r"class 3, 4, .*; set config\.data\.num_classes=3, or config\.conditional"),
        ([0, 1, 4], 5, "labels are 0 to 1, 4, .*no example has class 2, 3; number the 3"),
        ([0, 1, 2], 2, r"there is a class 2; set config\.data\.num_classes=3"),
    ],
)
def test_classes_that_no_image_has_are_refused(archive, labels, num_classes, message):
    with pytest.raises(InputError, match=message) as error:
        check_classes(archive(np.array(labels)[np.arange(COUNT) % 3]), num_classes)
    assert "\n" not in str(error.value) and "d.npz train" in str(error.value)


def test_classes_that_fit_are_taken_and_labels_are_needed(archive):
    check_classes(archive(np.arange(COUNT) % 3), 3)
    with pytest.raises(InputError, match="config.conditional needs labels, and npz.* has none"):
        check_classes(archive(None), 3)


def test_a_fingerprint_reads_256_examples_whatever_there_are(archive):
    records = archive(np.arange(COUNT) % 3)
    seen = []

    def read(split, indices, names):
        seen.extend(indices.tolist())
        return records._reader.read(split, indices, names)

    watched = dataclasses.replace(records, _reader=records._reader._replace(read=read))
    assert watched.fingerprint() == records.fingerprint()
    assert len(seen) == len(set(seen)) == 256 and (seen[0], seen[-1]) == (0, COUNT - 1)
    assert max(np.diff(seen)) - min(np.diff(seen)) <= 1
    found = records.fingerprint()
    assert archive(np.arange(COUNT) % 3 + 1).fingerprint() != found
    assert archive(None).fingerprint() != found
