"""The U-Net of DDPM (Ho et al. 2020, appendix B); the defaults are its CIFAR-10 network with 35.7M
parameters.
"""

from functools import partial
from typing import Annotated, Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxgen.calls import EVALUATION, Call
from jaxgen.conditions import UNCONDITIONAL, Condition, ConditionSpec
from jaxgen.errors import InputError
from jaxgen.networks.conv import Conv, ResidualBlock
from jaxgen.networks.layers import (
    REMAT,
    GroupNorm,
    TimeEmbedding,
    attention,
    fan_avg_uniform,
    from_patches,
    halvings,
    rematerialise,
    to_patches,
    with_images,
    zeros,
)
from jaxgen.ranges import Count, Fraction, Frequencies, Sizes, one_of


class Attention(nn.Module):
    """x + projection(attention(norm(x))) over all positions; the projection is zero at first."""

    heads: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        batch, height, width, channels = x.shape
        if channels % self.heads:
            raise InputError(
                f"unet: {self.heads} attention heads do not divide {channels} channels"
            )
        dense = partial(nn.Dense, channels, dtype=self.dtype)
        h = GroupNorm(dtype=self.dtype, name="norm")(x)
        split = (batch, height * width, self.heads, channels // self.heads)
        query, key, value = (
            dense(kernel_init=fan_avg_uniform, name=name)(h).reshape(split)
            for name in ("query", "key", "value")
        )
        h = attention(query, key, value).reshape(x.shape)
        return x + dense(kernel_init=zeros, name="out")(h)


class UNet(nn.Module):
    """Denoiser: residual blocks at each resolution on the way down and up, every activation of the
    way down kept as a skip, self-attention at the resolutions (heights) in `attention`. `remat`
    (False, True or "full", "dots": see layers.rematerialise) recomputes the blocks in the backward
    pass. `patch` > 1 works on squares of pixels, at a fraction of the cost. The output is zero at
    initialisation."""

    outputs: Count | None = None
    channels: Frequencies = 128
    multipliers: Sizes = (1, 2, 2, 2)
    blocks: Count = 2
    attention: tuple[Count, ...] = (16,)
    heads: Count = 1
    patch: Count = 1
    dropout: Fraction = 0.1
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
        outputs = self.outputs or x.shape[-1]
        x, rest, condition = with_images(x, self.conditions, condition)
        x = to_patches(x, self.patch, "unet")
        halvings(x.shape[1:3], len(self.multipliers) - 1, "unet")
        levels = [self.channels * m for m in self.multipliers]
        residual_block, attention_block = (
            rematerialise(b, self.remat) for b in (ResidualBlock, Attention)
        )
        conv = partial(Conv, kernel_size=(3, 3), dtype=self.dtype, kernel_init=fan_avg_uniform)
        embed = TimeEmbedding(4 * self.channels, self.channels, rest, self.dtype, name="embedding")
        embedding = embed(time, condition)

        def block(h, channels, name):
            h = residual_block(channels, self.dropout, self.dtype, call.train, name=name)(
                h, embedding, call.keys
            )
            return attend(h, name) if h.shape[1] in self.attention else h

        def attend(h, name):
            return attention_block(self.heads, self.dtype, name=f"{name}_attention")(h)

        h = conv(self.channels, name="in")(x)
        skips = [h]
        for level, channels in enumerate(levels):
            if level:
                h = conv(levels[level - 1], strides=(2, 2), name=f"down_{level}")(h)
                skips.append(h)
            for i in range(self.blocks):
                h = block(h, channels, f"down_{level}_{i}")
                skips.append(h)

        middle = partial(residual_block, levels[-1], self.dropout, self.dtype, call.train)
        h = middle(name="middle_0")(h, embedding, call.keys)
        h = middle(name="middle_1")(attend(h, "middle"), embedding, call.keys)

        for level in reversed(range(len(levels))):
            for i in range(self.blocks + 1):
                h = block(jnp.concatenate([h, skips.pop()], -1), levels[level], f"up_{level}_{i}")
            if level:
                h = conv(levels[level], upsample=True, name=f"up_{level}")(h)

        h = nn.silu(GroupNorm(dtype=self.dtype, name="norm_out")(h))
        h = conv(self.patch**2 * outputs, kernel_init=zeros, name="out")(h)
        return from_patches(h, self.patch).astype(jnp.float32)
