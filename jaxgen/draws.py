"""Random numbers that each example draws from its own key, so that a batch's size or place changes
none of them.

(`normal` is JAX's own, which keeps this for its usual keys, but not for those of the generators rbg
and unsafe_rbg.)"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt32

ROTATIONS, PARITY = (13, 15, 26, 6, 17, 29, 16, 24), 0x1BD11BDA


def uniform(keys: Key[Array, "B"], shape: tuple[int, ...], salt: int) -> Float[Array, "B *shape"]:
    """Multiples of 2^-24 in [0, 1) for each key; others for each `salt` below 2^32.

    Nothing but elementwise operations, which a compiler merges with what uses the numbers.
    `jax.random` on a CPU is a loop through memory instead, which takes several times as long."""
    words = jax.random.key_data(keys)[
        :, -2:
    ]  # all of a key of JAX's usual generator, enough of the others' longer ones
    key_0, key_1 = (words[:, i].reshape(-1, *(1 for _ in shape)) for i in (0, 1))
    place = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(1, *shape)
    # What JAX itself draws from the key is unrelated: it has 20 rounds, and 0 in place of the salt.
    bits, _ = threefry(key_0, key_1, jnp.uint32(salt), place, rounds=13)
    return (bits >> 8).astype(jnp.float32) * 2.0**-24


def threefry(
    key_0: UInt32[Array, "..."], key_1: UInt32[Array, "..."],
    x_0: UInt32[Array, "..."], x_1: UInt32[Array, "..."], rounds: int,
) -> tuple[UInt32[Array, "..."], UInt32[Array, "..."]]:  # fmt: skip
    """Threefry-2x32 (Salmon et al. 2011, section 3.3): two words enciphered with a key of two
    words.

    JAX's own generator is the one of 20 rounds. That of 13 is the authors' faster one, good enough
    to drop or to dither."""
    keys = (key_0, key_1, key_0 ^ key_1 ^ jnp.uint32(PARITY))
    x_0, x_1 = x_0 + key_0, x_1 + key_1
    for done in range(1, rounds + 1):
        rotation = ROTATIONS[(done - 1) % 8]
        x_0 = x_0 + x_1
        x_1 = x_0 ^ ((x_1 << rotation) | (x_1 >> (32 - rotation)))
        if done % 4 == 0:
            turn = done // 4
            x_0, x_1 = x_0 + keys[turn % 3], x_1 + keys[(turn + 1) % 3] + jnp.uint32(turn)
    return x_0, x_1


def normal(keys: Key[Array, "B"], shape: tuple[int, ...]) -> Float[Array, "B *shape"]:
    """Standard normal numbers for each key."""
    # drawn flat, which compiles and runs several times faster on a CPU
    return jax.vmap(lambda key: jax.random.normal(key, (math.prod(shape),)))(keys).reshape(
        len(keys), *shape
    )
