"""Batches gathered from arrays in memory: an endless, resumable stream in the order of `order`, and
one pass in sequence.

The same `order` and `gather` work inside a compiled step, on arrays that live on the device, and
give the same batches. A batch from memory costs tens of microseconds: a background thread would
cost more than it hides. For data that do not fit, see `stream`."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int

from jaxgen.data import order
from jaxgen.data.order import START, Position
from jaxgen.data.records import Table
from jaxgen.errors import InputError

_BLOCK = (
    4096  # indices that numpy finds at a time: one by one, its calls cost more than its arithmetic
)


def gather(arrays: Mapping[str, Any], indices: Int[Any, " B"]) -> dict[str, Any]:
    """The batch of these examples: {name: array[indices]} for [N, ...] arrays, numpy's on the host
    or JAX's anywhere.
    """

    def rows(array):
        # without a promise, XLA checks every index for being negative or beyond the end
        return (
            array[indices]
            if isinstance(array, np.ndarray)
            else array.at[indices].get(mode="promise_in_bounds")
        )

    return {name: rows(array) for name, array in arrays.items()}


def index_batches(
    size: int, batch_size: int, *, seed: int, position: Position = START, shuffle: bool = True
) -> Iterator[tuple[Int[np.ndarray, " B"], Position]]:
    """Endless (example indices of the next batch, position after it), for gathering wherever the
    images live.

    Every epoch is an exact permutation of `range(size)`. Batches run on across the border of two
    epochs, so no example is dropped or repeated within an epoch, whatever the batch size (which may
    exceed `size`).

    Raises:
      InputError: a size below 1, a negative seed, or a position outside the data.
    """
    if batch_size < 1:
        raise InputError(f"data: the batch size must be at least 1, got {batch_size}")
    order.check(size, seed, position)
    return _index_batches(
        size, batch_size, seed, Position(*(int(part) for part in position)), shuffle
    )


def _index_batches(size, batch_size, seed, position, shuffle):
    block = max(_BLOCK // batch_size, 1)
    while True:
        indices, _ = order.indices(position, block * batch_size, size, seed, shuffle)
        for chosen in indices.reshape(block, batch_size):
            position = order.advance(position, batch_size, size)
            yield chosen, position


def rows_of_process(batch_size: int, process_index: int, process_count: int) -> slice:
    """The rows of a global batch that a process holds. Raises InputError where the processes do not
    divide it.
    """
    if batch_size % process_count:
        raise InputError(
            f"data: a batch of {batch_size} cannot be divided among {process_count} processes"
        )
    local = batch_size // process_count
    return slice(process_index * local, (process_index + 1) * local)


def batches(
    source: Table,
    batch_size: int,
    *,
    seed: int,
    position: Position = START,
    shuffle: bool = True,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[tuple[dict[str, np.ndarray], Position]]:
    """Endless batches of `source`, each with the position after it, from which a new stream
    continues identically.

    Args: source: the examples. batch_size: B, over all processes. seed: of the shuffling; the order
      of an epoch depends on it and on the epoch's number alone. position: where to start, as
      yielded by an earlier stream. shuffle: False reads every epoch in the order of the source.
      process_index, process_count: process p of P gets rows [p * B / P, (p + 1) * B / P) of the
      global batch.

    Returns: An iterator of ({"image": uint8 [B / P, H, W, C], "label": int32 [B / P], ...},
      Position), with all columns of numbers that the source has.

    Raises:
      InputError: a batch size that the processes do not divide, or what `index_batches` refuses.
    """
    rows = rows_of_process(batch_size, process_index, process_count)
    stream = index_batches(len(source), batch_size, seed=seed, position=position, shuffle=shuffle)
    arrays = source.arrays
    return ((gather(arrays, indices[rows]), after) for indices, after in stream)


def eval_batches(source: Table, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """One pass in the order of the source, for evaluation.

    Every batch has `batch_size` rows, so that one compiled function serves; "mask" (bool [B]) is
    False on the rows that fill up the last batch (they repeat the last example, so they are
    ordinary images)."""
    size = len(source)
    for start in range(0, size, batch_size):
        indices = np.arange(start, start + batch_size)
        yield gather(source.arrays, np.minimum(indices, size - 1)) | {"mask": indices < size}
