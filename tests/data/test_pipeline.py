from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.data import Position, Table, batches, eval_batches, gather, index_batches, order
from jaxgen.errors import InputError


def numbered(size):
    """A source whose label is the example's index, written in its pixels too."""
    labels = np.arange(size, dtype=np.int32)
    images = np.broadcast_to(labels[:, None, None, None], (size, 2, 3, 1)).astype(np.uint8)
    return Table("numbered", {"image": images, "label": labels}, size)


def drawn(stream, count):
    return np.concatenate([batch["label"] for batch, _ in islice(stream, count)])


@pytest.mark.parametrize("batch_size", [1, 4, 7, 10, 13, 20, 33])
def test_every_epoch_is_a_permutation(batch_size):
    size, epochs = 10, 7
    order = drawn(batches(numbered(size), batch_size, seed=3), -(-size * epochs // batch_size))[
        : size * epochs
    ]
    order = order.reshape(epochs, size)
    assert np.array_equal(np.sort(order), np.tile(np.arange(size), (epochs, 1)))
    assert len({tuple(epoch) for epoch in order}) == epochs, "epochs differ"
    # The order of examples is a property of the seed, not of how it is cut into batches.
    assert np.array_equal(order.ravel(), drawn(batches(numbered(size), 1, seed=3), size * epochs))
    assert not np.array_equal(
        order.ravel(), drawn(batches(numbered(size), 1, seed=4), size * epochs)
    )


def test_batches_hold_the_images_of_their_labels():
    for batch, _ in islice(batches(numbered(10), 4, seed=0), 6):
        assert batch["image"].dtype == np.uint8 and batch["label"].dtype == np.int32
        assert np.array_equal(
            batch["image"], np.broadcast_to(batch["label"][:, None, None, None], (4, 2, 3, 1))
        )


def test_a_compiled_step_gathers_the_same_batches():
    source = numbered(10)
    arrays = {name: jnp.asarray(array) for name, array in source.arrays.items()}

    @jax.jit
    def step(position):
        indices, position = order.indices(position, 4, 10, seed=6)
        return gather(arrays, indices), position

    position = jnp.array([1, 3], jnp.int32)
    for expected, after in islice(batches(source, 4, seed=6, position=Position(1, 3)), 6):
        batch, position = step(position)
        assert batch.keys() == expected.keys() and tuple(position.tolist()) == after
        assert all(batch[name].dtype == expected[name].dtype for name in batch)
        assert all(np.array_equal(batch[name], expected[name]) for name in batch)


def test_unshuffled_batches_follow_the_source():
    assert drawn(batches(numbered(5), 4, seed=0, shuffle=False), 3).tolist() == [
        0,
        1,
        2,
        3,
        4,
        0,
        1,
        2,
        3,
        4,
        0,
        1,
    ]


def test_without_labels_a_batch_has_only_images():
    batch, _ = next(batches(Table("grey", {"image": numbered(5).images}), 4, seed=0))
    assert set(batch) == {"image"}


@pytest.mark.parametrize("size, batch_size", [(10, 4), (10, 5), (10, 10), (3, 8)])
def test_resuming_continues_with_the_same_batches(size, batch_size):
    source = numbered(size)
    run = list(islice(batches(source, batch_size, seed=1), 12))
    for stop in range(11):
        position = run[stop][1]
        assert 0 <= position.offset < size
        assert position.epoch * size + position.offset == (stop + 1) * batch_size, (
            "positions count the examples seen"
        )
        resumed = islice(batches(source, batch_size, seed=1, position=position), 11 - stop)
        for (batch, after), (expected, expected_after) in zip(
            resumed, run[stop + 1 :], strict=True
        ):
            assert np.array_equal(batch["label"], expected["label"]) and after == expected_after


@pytest.mark.parametrize("count", [1, 2, 4])
def test_processes_share_the_global_batch(count):
    source = numbered(10)
    streams = [
        batches(source, 8, seed=5, process_index=p, process_count=count) for p in range(count)
    ]
    for (expected, position), *parts in islice(
        zip(batches(source, 8, seed=5), *streams, strict=True), 5
    ):
        assert np.array_equal(
            np.concatenate([batch["label"] for batch, _ in parts]), expected["label"]
        )
        assert all(
            after == position and len(batch["label"]) == 8 // count for batch, after in parts
        )


def test_bad_streams_are_refused_before_the_first_batch():
    source = numbered(10)
    with pytest.raises(InputError, match="a batch of 8 cannot be divided among 3 processes"):
        batches(source, 8, seed=0, process_count=3)
    with pytest.raises(
        InputError, match=r"position \(epoch 2, offset 10\) is outside a data set of 10 examples"
    ):
        batches(source, 8, seed=0, position=Position(2, 10))
    with pytest.raises(InputError, match="seed must not be negative"):
        batches(source, 8, seed=-1)
    with pytest.raises(InputError, match="batch size must be at least 1"):
        index_batches(10, 0, seed=0)


@pytest.mark.parametrize("batch_size", [3, 5, 10, 16])
def test_one_evaluation_pass(batch_size):
    parts = list(eval_batches(numbered(10), batch_size))
    assert all(
        len(part["image"]) == len(part["label"]) == len(part["mask"]) == batch_size
        for part in parts
    )
    assert np.concatenate([part["label"][part["mask"]] for part in parts]).tolist() == list(
        range(10)
    )
