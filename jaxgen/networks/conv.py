"""Convolutional networks: the residual block, encoder, decoder (= generator) and critic."""

import math
from functools import partial
from typing import Annotated, Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

from jaxgen.calls import EVALUATION, Call
from jaxgen.conditions import UNCONDITIONAL, Condition, ConditionSpec
from jaxgen.networks import ops
from jaxgen.networks.layers import (
    ACTIVATIONS,
    Dropout,
    Embedded,
    GroupNorm,
    SpectralConv,
    SpectralDense,
    activation,
    average_pool,
    fan_avg_uniform,
    halvings,
    with_images,
    zeros,
)
from jaxgen.networks.mlp import projection_score
from jaxgen.ranges import Count, Fraction, Sizes, one_of


class Conv(nn.Module):
    """`nn.Conv` with SAME padding: the same parameters and the same result.

    `upsample` doubles the image's sides before (nearest neighbour; 3x3 kernels without strides).
    """

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    use_bias: bool = True
    upsample: bool = False
    dtype: Any = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B high wide O"]:
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        x = x.astype(self.dtype)
        if self.upsample:
            y = ops.conv_upsampled(x, kernel)
        else:
            y = ops.conv(x, kernel.astype(self.dtype), self.strides)
        if self.use_bias:
            y += self.param("bias", zeros, (self.features,), jnp.float32).astype(self.dtype)
        return y


class ResidualBlock(nn.Module):
    """x + conv(dropout(silu(norm(conv(silu(norm(x))) + Dense(silu(embedding)))))), the last
    convolution zero at first.

    The block of DDPM (Ho et al. 2020, appendix B); a 1x1 convolution is the shortcut where the
    channels change."""

    channels: int
    dropout: Fraction = 0.0
    dtype: Any = jnp.float32
    train: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B H W I"],
        embedding: Float[Array, "B E"] | None,
        keys: Key[Array, "B"] | None,
    ) -> Float[Array, "B H W C"]:
        conv = partial(Conv, self.channels, dtype=self.dtype)
        dense = partial(nn.Dense, dtype=self.dtype, kernel_init=fan_avg_uniform)
        h = nn.silu(GroupNorm(dtype=self.dtype, name="norm_in")(x))
        h = conv((3, 3), kernel_init=fan_avg_uniform, name="conv_in")(h)
        if embedding is not None:
            h += dense(self.channels, name="embedding")(nn.silu(embedding))[:, None, None, :]
        h = nn.silu(GroupNorm(dtype=self.dtype, name="norm_out")(h))
        h = Dropout(self.dropout, self.train, name="dropout")(h, keys)
        h = conv((3, 3), kernel_init=zeros, name="conv_out")(h)
        if x.shape[-1] != self.channels:
            x = conv((1, 1), kernel_init=fan_avg_uniform, name="shortcut")(x)
        return x + h


class ConvEncoder(nn.Module):
    """Image -> [B, outputs]: residual blocks at each of len(channels) resolutions (high to low),
    then one Dense.
    """

    outputs: Count
    channels: Sizes = (32, 64, 128)
    blocks: Count = 1
    dropout: Fraction = 0.0
    conditions: ConditionSpec = UNCONDITIONAL
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        image: Float[Array, "B H W C"],
        condition: Condition | None = None,
        call: Call = EVALUATION,
    ) -> Float[Array, "B outputs"]:
        halvings(image.shape[1:3], len(self.channels) - 1, "conv_encoder")
        conv = partial(Conv, kernel_size=(3, 3), dtype=self.dtype)
        image, rest, condition = with_images(image, self.conditions, condition)
        embedding = Embedded(rest, self.channels[-1], self.dtype, name="condition")(condition)
        h = conv(self.channels[0], name="in")(image)
        for level, channels in enumerate(self.channels):
            if level:
                h = conv(channels, strides=(2, 2), name=f"down_{level}")(h)
            for i in range(self.blocks):
                block = ResidualBlock(
                    channels, self.dropout, self.dtype, call.train, name=f"block_{level}_{i}"
                )
                h = block(h, embedding, call.keys)
        h = nn.silu(GroupNorm(dtype=self.dtype, name="norm_out")(h))
        h = h.reshape(h.shape[0], -1)
        return nn.Dense(self.outputs, dtype=self.dtype, name="out")(h).astype(jnp.float32)


class ConvDecoder(nn.Module):
    """Latent -> [B, H, W, outputs], the encoder's mirror: one Dense to the lowest resolution, then
    blocks and nearest up-sampling. `channels` run from the high to the low resolution as in the
    encoder; no output nonlinearity."""

    shape: tuple[int, int, int]
    channels: Sizes = (32, 64, 128)
    blocks: Count = 1
    dropout: Fraction = 0.0
    conditions: ConditionSpec = UNCONDITIONAL
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        latent: Float[Array, "B D"],
        condition: Condition | None = None,
        call: Call = EVALUATION,
    ) -> Float[Array, "B H W outputs"]:
        conv = partial(Conv, kernel_size=(3, 3), dtype=self.dtype)
        embed = Embedded(self.conditions, self.channels[-1], self.dtype, name="condition")
        embedding = embed(condition)
        low = (*halvings(self.shape[:2], len(self.channels) - 1, "conv_decoder"), self.channels[-1])
        h = nn.Dense(math.prod(low), dtype=self.dtype, name="in")(latent).reshape(-1, *low)
        for level in reversed(range(len(self.channels))):
            for i in range(self.blocks):
                block = ResidualBlock(
                    self.channels[level],
                    self.dropout,
                    self.dtype,
                    call.train,
                    name=f"block_{level}_{i}",
                )
                h = block(h, embedding, call.keys)
            if level:
                h = conv(self.channels[level - 1], upsample=True, name=f"up_{level}")(h)
        h = nn.silu(GroupNorm(dtype=self.dtype, name="norm_out")(h))
        return conv(self.shape[2], name="out")(h).astype(jnp.float32)


class ConvCritic(nn.Module):
    """Image -> (score, activations of each stage): residual blocks, a 2x2 mean between stages, two
    Dense layers.

    There is no normalisation, so that a gradient penalty means what it says; the residual sums are
    divided by sqrt(2) to keep their variance (Karras et al. 2020). A condition enters by projection
    (Miyato & Koyama 2018)."""

    channels: Sizes = (32, 64, 128)
    blocks: Count = 1
    activation: Annotated[str, one_of(ACTIVATIONS)] = "leaky_relu"
    spectral_norm: bool = False
    conditions: ConditionSpec = UNCONDITIONAL
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        image: Float[Array, "B H W C"],
        condition: Condition | None = None,
        call: Call = EVALUATION,
    ) -> tuple[Float[Array, "B"], tuple[Array, ...]]:
        halvings(image.shape[1:3], len(self.channels) - 1, "conv_critic")
        act = activation(self.activation)
        image, rest, condition = with_images(image, self.conditions, condition)
        kind = partial(SpectralConv, train=call.train) if self.spectral_norm else Conv
        conv = partial(kind, dtype=self.dtype)
        dense = partial(SpectralDense, train=call.train) if self.spectral_norm else nn.Dense

        h = conv(self.channels[0], (3, 3), name="in")(image)
        features = []
        for level, channels in enumerate(self.channels):
            if level:
                h = average_pool(h)
            for i in range(self.blocks):
                name = f"{level}_{i}"
                r = conv(channels, (3, 3), name=f"conv_in_{name}")(act(h))
                r = conv(channels, (3, 3), name=f"conv_out_{name}")(act(r))
                if h.shape[-1] != channels:
                    h = conv(channels, (1, 1), use_bias=False, name=f"shortcut_{name}")(h)
                h = (h + r) / math.sqrt(2)
            features.append(h)
        h = act(h).reshape(h.shape[0], -1)
        h = act(dense(self.channels[-1], dtype=self.dtype, name="dense")(h))
        return projection_score(dense, h, rest, condition, self.dtype), tuple(features)
