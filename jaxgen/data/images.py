"""Pixels on the way into the networks and out of them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt8

# Folded into an example's key, so that the flip does not share its random bits with the other uses
# of that key.
_FLIP = 0xF11B


def prepare(batch: Mapping[str, Any], keys: Key[Array, " B"], *, flip: bool) -> dict[str, Any]:
    """From the uint8 batch to what a network sees; belongs inside the compiled step.

    Args: batch: "image" uint8 [B, H, W, C]; every other entry passes through. keys: one key per
      example. flip: mirror each image left to right with probability 1/2, decided by its own key;
      False draws nothing.

    Returns:
      The batch with "image" float32 [B, H, W, C] in [-1, 1].
    """
    images = batch["image"].astype(jnp.float32) / 127.5 - 1
    if flip:
        mirrored = jax.vmap(lambda key: jax.random.bernoulli(jax.random.fold_in(key, _FLIP)))(keys)
        images = jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
    return {**batch, "image": images}


def to_uint8(images: Float[Array, "*B H W C"]) -> UInt8[Array, "*B H W C"]:
    """Images in [-1, 1] as uint8: `clip(round(127.5 * (x + 1)), 0, 255)`, the inverse of the
    scaling in `prepare`.

    NaN has no uint8 value and becomes an arbitrary one here: the caller checks for it before.
    """
    return jnp.clip(jnp.round(127.5 * (jnp.asarray(images, jnp.float32) + 1)), 0, 255).astype(
        jnp.uint8
    )
