"""A checksum of every array of a state, computed where the array lies.

Orbax does not notice changed bytes inside an array."""

import jax
import jax.numpy as jnp


def _words(x: jax.Array) -> jax.Array:
    """The bits of an array as uint32, 64-bit numbers as two of them along a new last axis."""
    if x.dtype.itemsize < 4:
        x = x.astype(jnp.uint8) if x.dtype == bool else x
        kind = {1: jnp.uint8, 2: jnp.uint16}[x.dtype.itemsize]
        return jax.lax.bitcast_convert_type(x, kind).astype(jnp.uint32)
    return jax.lax.bitcast_convert_type(x, jnp.uint32)


def _of_leaf(x: jax.Array) -> jax.Array:
    """Sum of the words, each times an odd number made of its place, modulo 2^32.

    No single changed word goes unseen, and the sum is the same however the array is divided among
    devices, each of which looks at its own part only."""
    words = _words(x)
    place = jnp.zeros(words.shape, jnp.uint32)
    for axis, side in enumerate(words.shape):
        place = place * jnp.uint32(side) + jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    place = (place ^ (place >> 15)) * jnp.uint32(0x2C1B3C6D)
    odd = ((place ^ (place >> 12)) * jnp.uint32(0x297A2D39)) | jnp.uint32(1)
    return jnp.sum(words * odd, dtype=jnp.uint32)


@jax.jit
def inspect(tree) -> tuple[jax.Array, jax.Array]:
    """(checksum uint32, whether it is finite) of each leaf, in the order of `jax.tree.leaves`."""
    leaves = jax.tree.leaves(tree)
    finite = [
        jnp.all(jnp.isfinite(x)) if jnp.issubdtype(x.dtype, jnp.floating) else jnp.asarray(True)
        for x in leaves
    ]
    return jnp.stack([_of_leaf(x) for x in leaves]), jnp.stack(finite)
