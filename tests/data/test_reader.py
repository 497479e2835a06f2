import pytest

from jaxgen.data.reader import parse_split
from jaxgen.errors import InputError

SIZES = {"train": 1001, "test": 10, "empty": 0}


def parse(split):
    return [(name, (r.start, r.stop)) for name, r in parse_split(split, SIZES)]


@pytest.mark.parametrize(
    "split, parts",
    [
        ("train", [("train", (0, 1001))]),
        ("train[:500]", [("train", (0, 500))]),
        ("train[500:]", [("train", (500, 1001))]),
        ("train[3:7]", [("train", (3, 7))]),
        ("test[-3:]", [("test", (7, 10))]),
        ("test[:-3]", [("test", (0, 7))]),
        ("test[90%:]", [("test", (9, 10))]),
        ("test[-20%:90%]", [("test", (8, 9))]),
        ("train + test[:1]", [("train", (0, 1001)), ("test", (0, 1))]),
    ],
)
def test_grammar(split, parts):
    assert parse(split) == parts


def test_percentages_partition_a_split_whose_size_they_do_not_divide():
    chosen = []
    for percent in range(0, 100, 7):
        (_, (start, stop)), *_ = parse(f"train[{percent}%:{min(percent + 7, 100)}%]")
        chosen += range(start, stop)
    assert chosen == list(range(1001))


@pytest.mark.parametrize(
    "split, message",
    [
        ("valid", "no split 'valid': the splits are train, test, empty"),
        ("train[:1002]", r"'train\[:1002\]' goes beyond the 1001 examples"),
        ("test[-11:]", "goes beyond the 10 examples"),
        ("test[:101%]", "goes beyond the 10 examples"),
        ("train[5:5]", r"'train\[5:5\]' is empty"),
        ("train[7:3]", "is empty"),
        ("empty", "'empty' is empty: 'empty' has 0 examples"),
        ("train[:5", r"'train\[:5' cannot be read"),
        ("train[a:]", "cannot be read"),
        ("train+", "'' cannot be read"),
    ],
)
def test_what_cannot_be_selected_is_named(split, message):
    with pytest.raises(InputError, match=message):
        parse(split)
