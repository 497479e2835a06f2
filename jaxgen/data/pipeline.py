"""Batches: an endless, resumable stream of shuffled uint8 images, and their preparation inside the compiled step.

Everything here reads arrays that are already in memory, where a batch costs tens of microseconds: a background thread
would cost more than it hides.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt8

from jaxgen.data.sources import Source
from jaxgen.errors import InputError

# Folded into an example's key, so that the flip does not share its random bits with the other uses of that key.
_FLIP = 0xF11B


class Position(NamedTuple):
    """Where the next example comes from: entry `offset` of the order of epoch `epoch`."""

    epoch: int
    offset: int


START = Position(0, 0)


def epoch_order(size: int, seed: int, epoch: int) -> Int[np.ndarray, " N"]:
    """The order of the `size` examples in one epoch: a permutation that depends on `seed` and `epoch` alone."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, epoch)))).permutation(size)


def index_batches(
    size: int, batch_size: int, *, seed: int, position: Position = START, shuffle: bool = True
) -> Iterator[tuple[Int[np.ndarray, " B"], Position]]:
    """Endless (example indices of the next batch, position after it), for gathering wherever the images live.

    Every epoch is an exact permutation of `range(size)`. Batches run on across the border of two epochs, so no example
    is dropped or repeated within an epoch, whatever the batch size (which may exceed `size`).

    Raises:
      InputError: a size below 1, a negative seed, or a position outside the data.
    """
    if size < 1 or batch_size < 1:
        raise InputError(f"data: batches need an example and a batch size from 1, got {size} and {batch_size}")
    if seed < 0:
        raise InputError(f"data: the seed must not be negative, got {seed}")
    epoch, offset = position
    if epoch < 0 or not 0 <= offset < size:
        raise InputError(
            f"data: position (epoch {epoch}, offset {offset}) is outside a data set of {size} examples; "
            "resume with the data set and split that the run began with"
        )
    return _index_batches(size, batch_size, seed, epoch, offset, shuffle)


def _index_batches(size, batch_size, seed, epoch, offset, shuffle):
    def order_of(epoch):
        return epoch_order(size, seed, epoch) if shuffle else np.arange(size)

    order = order_of(epoch)
    while True:
        pieces, missing = [], batch_size
        while missing:
            if offset == size:
                epoch, offset, order = epoch + 1, 0, order_of(epoch + 1)
            piece = order[offset : offset + missing]
            pieces.append(piece)
            offset += len(piece)
            missing -= len(piece)
        # A finished epoch is reported as the start of the next one, so that equal places have equal positions.
        after = Position(epoch, offset) if offset < size else Position(epoch + 1, 0)
        yield pieces[0] if len(pieces) == 1 else np.concatenate(pieces), after


def batches(
    source: Source,
    batch_size: int,
    *,
    seed: int,
    position: Position = START,
    shuffle: bool = True,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[tuple[dict[str, np.ndarray], Position]]:
    """Endless batches of `source`, each with the position after it, from which a new stream continues identically.

    Args:
      source: the examples.
      batch_size: B, over all processes.
      seed: of the shuffling; the order of an epoch depends on it and on the epoch's number alone.
      position: where to start, as yielded by an earlier stream.
      shuffle: False reads every epoch in the order of the source.
      process_index, process_count: process p of P gets rows [p * B / P, (p + 1) * B / P) of the global batch.

    Returns:
      An iterator of ({"image": uint8 [B / P, H, W, C], "label": int32 [B / P] if the source has labels}, Position).

    Raises:
      InputError: a batch size that the processes do not divide, or what `index_batches` refuses.
    """
    if batch_size % process_count:
        raise InputError(f"data: a batch of {batch_size} cannot be divided among {process_count} processes")
    local = batch_size // process_count
    rows = slice(process_index * local, (process_index + 1) * local)
    stream = index_batches(len(source.images), batch_size, seed=seed, position=position, shuffle=shuffle)
    return ((_gather(source, indices[rows]), after) for indices, after in stream)


def eval_batches(source: Source, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """One pass in the order of the source, for evaluation.

    Every batch has `batch_size` rows, so that one compiled function serves; "mask" (bool [B]) is False on the rows that
    fill up the last batch (they repeat the last example, so they are ordinary images).
    """
    size = len(source.images)
    for start in range(0, size, batch_size):
        indices = np.arange(start, start + batch_size)
        yield _gather(source, np.minimum(indices, size - 1)) | {"mask": indices < size}


def _gather(source: Source, indices: Int[np.ndarray, " B"]) -> dict[str, np.ndarray]:
    batch = {"image": source.images[indices]}
    return batch if source.labels is None else batch | {"label": source.labels[indices]}


def prepare(batch: Mapping[str, Any], keys: Key[Array, " B"], *, flip: bool) -> dict[str, Any]:
    """From the uint8 batch to what a network sees; belongs inside the compiled step.

    Args:
      batch: "image" uint8 [B, H, W, C]; every other entry passes through.
      keys: one key per example.
      flip: mirror each image left to right with probability 1/2, decided by its own key; False draws nothing.

    Returns:
      The batch with "image" float32 [B, H, W, C] in [-1, 1].
    """
    images = batch["image"].astype(jnp.float32) / 127.5 - 1
    if flip:
        mirrored = jax.vmap(lambda key: jax.random.bernoulli(jax.random.fold_in(key, _FLIP)))(keys)
        images = jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
    return {**batch, "image": images}


def to_uint8(images: Float[Array, "*B H W C"]) -> UInt8[Array, "*B H W C"]:
    """Images in [-1, 1] as uint8: `clip(round(127.5 * (x + 1)), 0, 255)`, the inverse of the scaling in `prepare`.

    NaN has no uint8 value and becomes an arbitrary one here: the caller checks for it before.
    """
    return jnp.clip(jnp.round(127.5 * (jnp.asarray(images, jnp.float32) + 1)), 0, 255).astype(jnp.uint8)
