"""The order of the examples: every epoch is a permutation that is computed entry by entry, from the
seed and the place.

Nothing is stored and nothing has to be replayed, so that the compiled train step, a notebook and
the worker processes of an input pipeline each find out on their own which example comes at which
place, and agree. The permutation is the swap-or-not shuffle (Hoang, Morris & Rogaway 2012, "An
enciphering scheme based on a card shuffle"): each round pairs index x with pivot - x mod N and
swaps the two or not by a random bit that both share, which is a bijection for any N."""

import hashlib
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32

from jaxgen.errors import InputError

ROUNDS = 32  # the statistics of the tests are those of random permutations from 24 rounds on
MAX_SIZE = 2**31 - 1
_GOLDEN = np.uint32(0x9E3779B9)


class Position(NamedTuple):
    """Where the next example comes from: entry `offset` of the order of epoch `epoch`."""

    epoch: Any
    offset: Any


START = Position(0, 0)


def check(size: int, seed: int, position: Any = START) -> None:
    """Raises InputError for a size below 1, a negative seed, or a (concrete) position outside the
    data.
    """
    if not 1 <= size <= MAX_SIZE:
        raise InputError(f"data: batches need from 1 to {MAX_SIZE} examples, got {size}")
    if seed < 0:
        raise InputError(f"data: the seed must not be negative, got {seed}")
    epoch, offset = (int(part) for part in position)
    if epoch < 0 or not 0 <= offset < size:
        raise InputError(
            f"data: position (epoch {epoch}, offset {offset}) is outside a data set of {size} "
            f"examples; "
            "resume with the data set and split that the run began with"
        )


def advance(position: Position, count: int, size: int) -> Position:
    """The position `count` examples later, in Python integers. A finished epoch is reported as the
    start of the next.
    """
    epochs, offset = divmod(int(position[1]) + count, size)
    return Position(int(position[0]) + epochs, offset)


def indices(
    position: Any, count: int, size: int, seed: int, shuffle: bool = True
) -> tuple[Int32[Any, " count"], Any]:
    """The next `count` examples and the position after them.

    Entry i is entry offset + i of the order of the position's epoch, which runs on into the epochs
    that follow. The order of an epoch is a permutation of `range(size)` that depends on the seed
    and the epoch alone.

    Args: position: (epoch, offset) as a `Position` or an int32 array [2]; of Python integers or
      numpy, which keeps JAX out of
        it, or of traced or concrete JAX arrays. The numbers are the same. It is not checked here:
        see `check`.
      count: how many; static. It may exceed `size`.
      size: N, the examples there are; static.
      seed: any integer from 0; static.
      shuffle: False leaves every epoch in the order 0, 1, ..., N - 1.

    Returns: (int32 [count], the position after, of the kind that was given). A finished epoch is
      reported as the start of the next, so that equal places have equal positions.
    """
    after: Any
    on_host = all(isinstance(part, int | np.generic | np.ndarray) for part in position)
    if on_host:
        xp, (epoch, offset) = np, position
        after = advance(position, count, size)
    else:
        import jax.numpy as xp  # type: ignore[no-redef]

        epoch, offset = (part.astype(np.uint32) for part in position)
        last = offset + np.uint32(count)
        after = Position(epoch + last // np.uint32(size), last % np.uint32(size))
        after = Position(*(part.astype(np.int32) for part in after))
    if not isinstance(position, Position):
        after = xp.array(after, np.int32)
    place = xp.arange(count, dtype=np.uint32) + xp.array([offset], np.uint32)
    later, entry = place // np.uint32(size), place % np.uint32(size)
    if shuffle and size > 1:  # XLA fails on the arithmetic modulo 1
        epochs = xp.arange((max(count, 1) + size - 2) // size + 1, dtype=np.uint32) + xp.array(
            [epoch], np.uint32
        )
        entry = _permute(entry, later, epochs, size, seed, xp)
    return entry.astype(np.int32), after


def _permute(index, later, epochs, size: int, seed: int, xp):
    """Entry `index` of the permutation of epoch `epochs[later]`; elementwise in uint32, so that XLA
    fuses all rounds.
    """
    first, second = _seed_words(seed)
    constants = second + _GOLDEN * np.arange(ROUNDS, dtype=np.uint32)
    keys = _mix(_mix(epochs + first) ^ constants[:, None])  # [rounds, epochs]
    pivots, keys = keys % np.uint32(size), _mix(keys ^ _GOLDEN)
    for pivot, key in zip(pivots, keys):
        if len(epochs) <= 2:  # selecting is faster than looking up
            pivot, key = (xp.where(later == 0, row[0], row[-1]) for row in (pivot, key))
        else:
            pivot, key = pivot[later], key[later]
        # modulo size: of the two values modulo 2^32, the one that did not wrap below zero
        partner = pivot - index
        partner = xp.minimum(partner, partner + np.uint32(size))
        swap = _mix(xp.maximum(index, partner) ^ key) & np.uint32(1)
        index = xp.where(swap == 1, partner, index)
    return index


def _mix(x):
    """The finaliser of MurmurHash3: a bijection of 32 bits in which every output bit depends on all
    input bits.
    """
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))


def _seed_words(seed: int):
    """Two words of a seed of any length, hashed so that neighbours have nothing in common."""
    return np.frombuffer(hashlib.blake2b(str(seed).encode(), digest_size=8).digest(), "<u4").astype(
        np.uint32
    )
