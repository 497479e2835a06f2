"""The one place where random keys are made, folded and split, and what each example draws from its
own key: numbers that depend neither on a batch's size and place nor on JAX's global settings."""

import math
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt32

from jaxgen.errors import InputError

# The generator, by name: those that JAX_DEFAULT_PRNG_IMPL may ask for otherwise (rbg, unsafe_rbg)
# give an example other numbers in another batch.
GENERATOR = "threefry2x32"


def root(seed: int) -> Key[Array, ""]:
    """The key of `seed`: any integer from 0 to 2^64 - 1; InputError beyond.

    It is `jax.random.key(seed)` below 2^32. JAX itself would drop a larger seed's high word; here
    it is folded in."""
    if not 0 <= seed < 2**64:
        raise InputError(f"a seed must be an integer from 0 to 2^64 - 1, not {seed}")
    low, high = np.uint32(seed % 2**32), np.uint32(seed // 2**32)
    key = jax.random.key(low, impl=GENERATOR)
    return jax.random.fold_in(key, high) if high else key


def wrap(words: UInt32[Array, "*N 2"]) -> Key[Array, "*N"]:
    """The keys whose `jax.random.key_data` are `words`."""
    return jax.random.wrap_key_data(words, impl=GENERATOR)


def fold(keys: Key[Array, "*N"], value: int | Int[Array, ""]) -> Key[Array, "*N"]:
    """Every key folded with the same `value`, so that separate uses draw separate numbers."""

    def folded(key):
        return jax.random.fold_in(key, value)

    for _ in range(keys.ndim):
        folded = jax.vmap(folded)
    return folded(keys)


def named(keys: Key[Array, "*N"], name: str) -> Key[Array, "*N"]:
    """Every key folded with a name."""
    return fold(keys, zlib.crc32(name.encode()))


def of_examples(
    key: Key[Array, ""], first: int | Int[Array, ""], count: int
) -> Key[Array, "count"]:
    """The keys of examples first .. first + count - 1, each folded with its index: an example's
    noise depends neither on the devices nor on the batch."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, first + jnp.arange(count))


def normal(keys: Key[Array, "B"], shape: tuple[int, ...]) -> Float[Array, "B *shape"]:
    """Standard normal numbers for each key."""
    return _drawn(jax.random.normal, keys, shape)


def uniform(keys: Key[Array, "B"], shape: tuple[int, ...] = ()) -> Float[Array, "B *shape"]:
    """Uniform numbers in [0, 1) for each key."""
    return _drawn(jax.random.uniform, keys, shape)


def _drawn(draw, keys: Key[Array, "B"], shape: tuple[int, ...]) -> Float[Array, "B *shape"]:
    words = jax.random.key_data(keys)
    if words.shape[-1] != 2:  # another generator's: what it draws depends on the other keys
        keys = wrap(words[..., -2:])
    # drawn flat, which compiles and runs several times faster on a CPU
    flat = jax.vmap(lambda key: draw(key, (math.prod(shape),), jnp.float32))(keys)
    return flat.reshape(len(keys), *shape)
