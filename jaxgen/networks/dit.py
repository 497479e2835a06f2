"""The diffusion transformer with adaLN-Zero (Peebles & Xie 2023)."""

import re
from functools import partial
from typing import Annotated, Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Key

from jaxgen.calls import EVALUATION, Call
from jaxgen.conditions import UNCONDITIONAL, Condition, ConditionSpec
from jaxgen.errors import InputError
from jaxgen.networks.layers import (
    REMAT,
    Dropout,
    TimeEmbedding,
    attention,
    fan_avg_uniform,
    from_patches,
    rematerialise,
    to_patches,
    with_images,
    zeros,
)
from jaxgen.ranges import Count, Fraction, Positive, Whole, multiple_of, one_of

SIZES = {  # table 1 of the paper
    "S": {"width": 384, "depth": 12, "heads": 6},
    "B": {"width": 768, "depth": 12, "heads": 12},
    "L": {"width": 1024, "depth": 24, "heads": 16},
    "XL": {"width": 1152, "depth": 28, "heads": 16},
}


def dit_size(name: str) -> dict[str, int]:
    """The paper's sizes: "XL/2" -> {"patch": 2, "width": 1152, "depth": 28, "heads": 16}; S, B, L,
    XL, any patch.
    """
    match = re.fullmatch(r"([A-Z]+)/([1-9]\d*)", name)
    if not match or match[1] not in SIZES:
        raise InputError(
            f"unknown DiT size {name!r}; write one of {', '.join(SIZES)} and the patch, as in 'B/2'"
        )
    return {"patch": int(match[2])} | SIZES[match[1]]


def position_embedding(height: int, width: int, dim: int) -> Float[np.ndarray, "L dim"]:
    """Fixed 2-D sine-cosine embedding of a grid, rows first: half of `dim` for each of the two
    coordinates.
    """
    frequencies = 10_000.0 ** (-np.arange(dim // 4) / (dim // 4))
    rows, columns = np.mgrid[:height, :width].reshape(2, -1, 1) * frequencies
    return np.concatenate(
        [np.sin(columns), np.cos(columns), np.sin(rows), np.cos(rows)], -1
    ).astype(np.float32)


def modulate(
    x: Float[Array, "B L D"], shift: Float[Array, "B D"], scale: Float[Array, "B D"]
) -> Float[Array, "B L D"]:
    return x * (1 + scale[:, None]) + shift[:, None]


class Block(nn.Module):
    """Attention and MLP, each x + gate * branch(norm(x) * (1 + scale) + shift); the gates are zero
    at first.
    """

    heads: int
    mlp_ratio: float
    dropout: float
    dtype: Any
    train: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "B L D"], condition: Float[Array, "B D"], keys: Key[Array, "B"] | None
    ) -> Float[Array, "B L D"]:
        batch, length, width = x.shape
        dense = partial(nn.Dense, dtype=self.dtype, kernel_init=fan_avg_uniform)
        norm = partial(nn.LayerNorm, use_scale=False, use_bias=False, dtype=self.dtype)
        modulation = nn.Dense(6 * width, dtype=self.dtype, kernel_init=zeros, name="modulation")(
            condition
        )
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = jnp.split(modulation, 6, -1)

        h = dense(3 * width, name="qkv")(modulate(norm(name="norm_attention")(x), shift_a, scale_a))
        split = (batch, length, self.heads, width // self.heads)
        query, key, value = (part.reshape(split) for part in jnp.split(h, 3, -1))
        h = attention(query, key, value).reshape(batch, length, width)
        h = Dropout(self.dropout, self.train, name="dropout_attention")(
            dense(width, name="projection")(h), keys
        )
        x += gate_a[:, None] * h

        h = dense(int(self.mlp_ratio * width), name="up")(
            modulate(norm(name="norm_mlp")(x), shift_m, scale_m)
        )
        h = dense(width, name="down")(nn.gelu(h))
        h = Dropout(self.dropout, self.train, name="dropout_mlp")(h, keys)
        return x + gate_m[:, None] * h


class DiT(nn.Module):
    """Denoiser: patches of `patch` x `patch` pixels as tokens, conditioned on time and class by
    adaLN-Zero.

    The output is zero at initialisation. `remat` (False, True or "full", "dots": see
    layers.rematerialise) recomputes the blocks in the backward pass."""

    patch: Count
    width: Annotated[Count, multiple_of(4)]
    depth: Whole
    heads: Count
    outputs: Count | None = None
    mlp_ratio: Positive = 4.0
    dropout: Fraction = 0.0
    conditions: ConditionSpec = UNCONDITIONAL
    remat: bool | Annotated[str, one_of(REMAT)] = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B H W C"],
        time: Float[Array, "B"],
        condition: Condition | None = None,
        call: Call = EVALUATION,
    ) -> Float[Array, "B H W outputs"]:
        p, outputs = self.patch, self.outputs or x.shape[-1]
        x, rest, condition = with_images(x, self.conditions, condition)
        patches = to_patches(x, p, "dit")
        if self.width % 4 or self.width % self.heads:
            raise InputError(
                f"dit: width={self.width} must be a multiple of 4 and of heads={self.heads}"
            )
        batch, rows, columns, _ = patches.shape
        tokens = patches.reshape(batch, rows * columns, -1)
        h = nn.Dense(self.width, dtype=self.dtype, kernel_init=fan_avg_uniform, name="in")(tokens)
        h += jnp.asarray(position_embedding(rows, columns, self.width), self.dtype)

        embed = TimeEmbedding(self.width, 256, rest, self.dtype, name="embedding")
        embedding = nn.silu(embed(time, condition))
        block = rematerialise(Block, self.remat)
        for i in range(self.depth):
            layer = block(
                self.heads, self.mlp_ratio, self.dropout, self.dtype, call.train, name=f"block_{i}"
            )
            h = layer(h, embedding, call.keys)

        dense = partial(nn.Dense, dtype=self.dtype, kernel_init=zeros)
        shift, scale = jnp.split(dense(2 * self.width, name="modulation")(embedding), 2, -1)
        norm = nn.LayerNorm(use_scale=False, use_bias=False, dtype=self.dtype, name="norm_out")
        h = dense(p * p * outputs, name="out")(modulate(norm(h), shift, scale))
        return from_patches(h.reshape(batch, rows, columns, -1), p).astype(jnp.float32)
