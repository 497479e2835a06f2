"""Fully connected networks on flattened images: encoder, decoder, critic, denoiser."""

import math
from functools import partial
from typing import Annotated, Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxgen.calls import EVALUATION, Call
from jaxgen.conditions import UNCONDITIONAL, Condition, ConditionSpec
from jaxgen.errors import InputError, nearest
from jaxgen.networks.layers import (
    ACTIVATIONS,
    Embedded,
    SpectralDense,
    TimeEmbedding,
    activation,
    zeros,
)
from jaxgen.ranges import Count, Frequencies, Whole, one_of

NORMS = {"none": None, "layer": nn.LayerNorm, "rms": nn.RMSNorm}


class MLP(nn.Module):
    """Dense layers, each followed by the norm and the activation; returns every layer's output
    (without any, its input).

    The condition enters as a vector added in the first layer, as if it were a part of the input.
    With `residual`, a layer as wide as its input is added to it."""

    hidden: tuple[int, ...]
    activation: Annotated[str, one_of(ACTIVATIONS)]
    norm: Annotated[str, one_of(NORMS)] = "none"
    residual: bool = False
    conditions: ConditionSpec = UNCONDITIONAL
    dtype: Any = jnp.float32
    dense: Any = nn.Dense

    @nn.compact
    def __call__(
        self, x: Float[Array, "B D"], condition: Condition | None
    ) -> tuple[Float[Array, "B F"], ...]:
        self.conditions.check(condition)
        if self.norm not in NORMS:
            raise InputError(f"unknown norm '{self.norm}' of an MLP: {nearest(self.norm, NORMS)}")
        act, norm = activation(self.activation), NORMS[self.norm]
        outputs = []
        for i, width in enumerate(self.hidden):
            h = self.dense(width, dtype=self.dtype, name=f"dense_{i}")(x)
            if i == 0 and self.conditions:
                h += Embedded(self.conditions, width, self.dtype, name="condition")(condition)
            if norm is not None:
                h = norm(dtype=self.dtype, name=f"norm_{i}")(h)
            h = act(h)
            x = x + h if self.residual and x.shape == h.shape else h
            outputs.append(x)
        return tuple(outputs) or (x,)


class MLPEncoder(nn.Module):
    """Image -> [B, outputs]."""

    outputs: Count
    hidden: tuple[Count, ...] = (300, 300)
    activation: Annotated[str, one_of(ACTIVATIONS)] = "relu"
    norm: Annotated[str, one_of(NORMS)] = "none"
    residual: bool = False
    conditions: ConditionSpec = UNCONDITIONAL
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        image: Float[Array, "B *S C"],
        condition: Condition | None = None,
        call: Call = EVALUATION,
    ) -> Float[Array, "B outputs"]:
        body = MLP(
            self.hidden,
            self.activation,
            self.norm,
            self.residual,
            self.conditions,
            self.dtype,
            name="body",
        )
        h = body(image.reshape(image.shape[0], -1), condition)[-1]
        return nn.Dense(self.outputs, dtype=self.dtype, name="out")(h).astype(jnp.float32)


class MLPDecoder(nn.Module):
    """Latent -> [B, *shape], without an output nonlinearity."""

    shape: tuple[int, ...]
    hidden: tuple[Count, ...] = (300, 300)
    activation: Annotated[str, one_of(ACTIVATIONS)] = "relu"
    norm: Annotated[str, one_of(NORMS)] = "none"
    residual: bool = False
    conditions: ConditionSpec = UNCONDITIONAL
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        latent: Float[Array, "B D"],
        condition: Condition | None = None,
        call: Call = EVALUATION,
    ) -> Float[Array, "B ..."]:
        body = MLP(
            self.hidden,
            self.activation,
            self.norm,
            self.residual,
            self.conditions,
            self.dtype,
            name="body",
        )
        h = body(latent, condition)[-1]
        image = nn.Dense(math.prod(self.shape), dtype=self.dtype, name="out")(h)
        return image.reshape(-1, *self.shape).astype(jnp.float32)


class MLPCritic(nn.Module):
    """Image -> (score, hidden activations); the condition enters by projection."""

    hidden: tuple[Count, ...] = (300, 300)
    activation: Annotated[str, one_of(ACTIVATIONS)] = "leaky_relu"
    norm: Annotated[str, one_of(NORMS)] = "none"
    residual: bool = False
    spectral_norm: bool = False
    conditions: ConditionSpec = UNCONDITIONAL
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        image: Float[Array, "B *S C"],
        condition: Condition | None = None,
        call: Call = EVALUATION,
    ) -> tuple[Float[Array, "B"], tuple[Array, ...]]:
        dense = partial(SpectralDense, train=call.train) if self.spectral_norm else nn.Dense
        body = MLP(
            self.hidden,
            self.activation,
            self.norm,
            self.residual,
            UNCONDITIONAL,
            self.dtype,
            dense,
            name="body",
        )
        features = body(image.reshape(image.shape[0], -1), None)
        score = projection_score(dense, features[-1], self.conditions, condition, self.dtype)
        return score, features


def projection_score(
    dense, h: Float[Array, "B F"], conditions: ConditionSpec, condition: Condition | None, dtype
) -> Float[Array, "B"]:
    """<w, h> + b, plus <V c, h> with a condition, in the caller's scope (Miyato & Koyama 2018)."""
    given = conditions.check(condition)
    score = dense(1, dtype=dtype, name="score")(h)[:, 0].astype(jnp.float32)
    if conditions:
        project = dense(h.shape[-1], use_bias=False, dtype=dtype, name="condition")
        rows = project(conditions.flat(given))
        score += jnp.sum(rows * h, -1, dtype=jnp.float32)
    return score


class MLPDenoiser(nn.Module):
    """Residual MLP conditioned on time and class by FiLM (Perez et al. 2018), zero at
    initialisation.

    A block is x + Dense(act(Dense(norm(x) * (1 + scale) + shift))); the second Dense starts at
    zero. The embedding that gives scale and shift is small, since on a flat image those projections
    would otherwise cost as much as the blocks."""

    outputs: Count | None = None
    width: Count = 512
    depth: Whole = 4
    expansion: Count = 1
    embedding: Frequencies = 128
    activation: Annotated[str, one_of(ACTIVATIONS)] = "silu"
    conditions: ConditionSpec = UNCONDITIONAL
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B *S C"],
        time: Float[Array, "B"],
        condition: Condition | None = None,
        call: Call = EVALUATION,
    ) -> Float[Array, "B *S outputs"]:
        act, dense = activation(self.activation), partial(nn.Dense, dtype=self.dtype)
        norm = partial(nn.LayerNorm, use_scale=False, use_bias=False, dtype=self.dtype)
        shape = (*x.shape[1:-1], self.outputs or x.shape[-1])

        embed = TimeEmbedding(
            self.embedding, self.embedding, self.conditions, self.dtype, name="embedding"
        )
        embedding = nn.silu(embed(time, condition))
        h = dense(self.width, name="in")(x.reshape(x.shape[0], -1))
        for i in range(self.depth):
            scale, shift = jnp.split(dense(2 * self.width, name=f"film_{i}")(embedding), 2, -1)
            r = norm(name=f"norm_{i}")(h) * (1 + scale) + shift
            r = act(dense(self.expansion * self.width, name=f"up_{i}")(r))
            h += dense(self.width, kernel_init=zeros, name=f"down_{i}")(r)
        out = dense(math.prod(shape), kernel_init=zeros, name="out")(norm(name="norm_out")(h))
        return out.reshape(-1, *shape).astype(jnp.float32)
