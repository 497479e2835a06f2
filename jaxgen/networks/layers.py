"""Layers that several networks share: normalisation, dropout, attention, time embedding, spectral
normalisation; and rematerialisation."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Key

from jaxgen import draws
from jaxgen.conditions import UNCONDITIONAL, Condition, ConditionSpec
from jaxgen.errors import InputError, nearest
from jaxgen.networks import ops

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": nn.relu,
    "gelu": nn.gelu,
    "silu": nn.silu,
    "leaky_relu": partial(nn.leaky_relu, negative_slope=0.2),
    "softplus": nn.softplus,
}

# Ho et al. 2020, Peebles & Xie 2023
fan_avg_uniform = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
zeros = nn.initializers.zeros


def activation(name: str) -> Callable[[Array], Array]:
    """The elementwise function `name` (tanh, relu, gelu, silu, leaky_relu, softplus); InputError
    otherwise.
    """
    if name not in ACTIVATIONS:
        raise InputError(f"unknown activation '{name}': {nearest(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]


class Embedded(nn.Module):
    """A condition as one vector: a row for each class (the last one is the null's) plus a linear
    map of everything else, flattened. None for an unconditional network."""

    conditions: ConditionSpec
    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, condition: Condition | None) -> Float[Array, "B F"] | None:
        given = self.conditions.check(condition)
        vectors = []
        for kind in self.conditions.kinds:
            x = given[kind.name]
            if kind.classes:
                rows = nn.Embed(kind.classes + 1, self.features, dtype=self.dtype, name=kind.name)
                vectors.append(rows(x))
            else:
                dense = nn.Dense(self.features, use_bias=False, dtype=self.dtype, name=kind.name)
                vectors.append(dense(x.reshape(x.shape[0], -1)))
        return sum(vectors[1:], vectors[0]) if vectors else None


def with_images(
    x: Float[Array, "B H W C"], conditions: ConditionSpec, condition: Condition | None
) -> tuple[Float[Array, "B H W K"], ConditionSpec, Condition | None]:
    """(`x` with the condition's images as further channels, brought to its size, and the rest of
    the condition for `Embedded`)."""
    given = conditions.check(condition)
    images, rest = conditions.split()
    if not images:
        return x, conditions, condition
    size = x.shape[1:3]
    channels = [
        jax.image.resize(given[n], (x.shape[0], *size, given[n].shape[-1]), "nearest")
        for n in images.names
    ]
    x = jnp.concatenate([x, *(c.astype(x.dtype) for c in channels)], -1)
    return x, rest, {name: given[name] for name in rest.names}


def halvings(size: tuple[int, ...], count: int, where: str) -> tuple[int, ...]:
    """`size` halved `count` times; InputError if a side is odd on the way."""
    if any(side % 2**count for side in size):
        raise InputError(
            f"{where} halves the image {count} times, but its size {'x'.join(map(str, size))} is "
            f"not a multiple of {2**count}; use fewer resolutions or another size"
        )
    return tuple(side // 2**count for side in size)


def to_patches(x: Float[Array, "B H W C"], patch: int, where: str) -> Float[Array, "B h w P"]:
    """Each `patch` x `patch` square of pixels as one place with all their channels (space to
    depth).
    """
    batch, height, width, channels = x.shape
    if height % patch or width % patch:
        raise InputError(f"{where}: patch={patch} does not divide the image size {height}x{width}")
    x = x.reshape(batch, height // patch, patch, width // patch, patch, channels).transpose(
        0, 1, 3, 2, 4, 5
    )
    return x.reshape(batch, height // patch, width // patch, patch * patch * channels)


def from_patches(h: Float[Array, "B h w P"], patch: int) -> Float[Array, "B H W C"]:
    """The inverse of `to_patches`."""
    batch, rows, columns, _ = h.shape
    h = h.reshape(batch, rows, columns, patch, patch, -1).transpose(0, 1, 3, 2, 4, 5)
    return h.reshape(batch, rows * patch, columns * patch, -1)


def group_count(channels: int) -> int:
    """At most 32 groups of at least 4 channels (the largest such count that divides `channels`).

    It is 32 from 128 channels on, as in DDPM. Groups of one channel would subtract any constant
    that was added to the channel, which is how the residual blocks receive time and class: narrow
    networks would not see them."""
    return max(n for n in range(1, max(1, min(32, channels // 4)) + 1) if channels % n == 0)


class GroupNorm(nn.Module):
    """linen's group normalisation of [B, ..., C]: the same parameters, the same result."""

    groups: int | None = None  # None: group_count(channels)
    epsilon: float = 1e-6
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B *S C"]) -> Float[Array, "B *S C"]:
        channels = x.shape[-1]
        gain = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        bias = self.param("bias", zeros, (channels,), jnp.float32)
        groups = self.groups or group_count(channels)
        return ops.group_norm(x, gain, bias, groups, self.epsilon).astype(self.dtype)


class Dropout(nn.Module):
    """Dropout whose mask depends on the example's own key and the layer's place in the network, on
    nothing else.
    """

    rate: float
    train: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "B ..."], keys: Key[Array, "B"] | None
    ) -> Float[Array, "B ..."]:
        if not 0 <= self.rate < 1:
            raise InputError(f"dropout={self.rate} is not a probability below 1")
        if not self.train or self.rate == 0:
            return x
        if keys is None:
            raise InputError(f"dropout={self.rate} needs `keys`, one per example, when train=True")
        uniform = draws.uniform(draws.named(keys, "/".join(self.path)), x.shape[1:])
        return jnp.where(uniform >= self.rate, x / (1 - self.rate), 0).astype(x.dtype)


def attention(
    query: Float[Array, "B L heads size"],
    key: Float[Array, "B L heads size"],
    value: Float[Array, "B L heads size"],
) -> Float[Array, "B L heads size"]:
    """softmax(query key^T / sqrt(size)) value; by cuDNN's flash attention where it takes the GPU,
    the type and the size.
    """
    size, half = query.shape[-1], query.dtype in (jnp.bfloat16, jnp.float16)
    flash = half and size % 8 == 0 and size <= 128 and _has_flash_attention()
    return jax.nn.dot_product_attention(
        query, key, value, implementation="cudnn" if flash else None
    )


def _has_flash_attention() -> bool:
    """Whether this is an NVIDIA GPU of the Ampere generation or later."""
    device = jax.devices()[0]
    return (
        "cuda" in device.client.platform_version
        and int(device.compute_capability.split(".")[0]) >= 8
    )


REMAT = {  # name -> what the backward pass finds saved
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": lambda primitive, *_, **__: (
        primitive.name in ("dot_general", "conv_general_dilated", "convolution")
    ),
}


def is_rematerialised(options: Mapping[str, Any]) -> bool:
    """Whether a network of these options recomputes activations in its backward pass."""
    return options.get("remat", "none") not in (False, "none")


def rematerialise(block: type[nn.Module], remat: bool | str) -> type[nn.Module]:
    """`block` whose backward pass recomputes its activations: none (False), all of them ("full" or
    True), or what lies between matrix products and convolutions ("dots"). InputError for another
    name."""
    name = ("full" if remat else "none") if isinstance(remat, bool) else remat
    if name not in REMAT:
        raise InputError(f"unknown remat '{remat}': {nearest(str(remat), REMAT)}")
    return block if name == "none" else nn.remat(block, policy=REMAT[name])


def sinusoidal_embedding(
    time: Float[Array, "B"], dim: int, max_period: float = 10_000, scale: float = 1000
) -> Float[Array, "B dim"]:
    """[sin(w_i scale time), cos(w_i scale time)] with w_i geometric from 1 to 1/max_period.

    The transformer's position embedding as DDPM uses it; time in [0, 1] becomes DDPM's [0, 1000] by
    `scale`."""
    if dim < 4 or dim % 2:
        raise InputError(f"a sinusoidal embedding needs an even size of at least 4, got {dim}")
    frequencies = np.exp(-np.log(max_period) * np.arange(dim // 2) / (dim // 2 - 1)).astype(
        np.float32
    )
    angles = scale * time.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)


class TimeEmbedding(nn.Module):
    """sinusoidal -> Dense -> silu -> Dense, plus the embedded condition."""

    features: int
    frequencies: int
    conditions: ConditionSpec = UNCONDITIONAL
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, time: Float[Array, "B"], condition: Condition | None) -> Float[Array, "B F"]:
        dense = partial(nn.Dense, self.features, dtype=self.dtype, kernel_init=fan_avg_uniform)
        embedding = dense(name="time_in")(sinusoidal_embedding(time, self.frequencies))
        embedding = dense(name="time_out")(nn.silu(embedding))
        rest = Embedded(self.conditions, self.features, self.dtype, name="condition")(condition)
        return embedding if rest is None else embedding + rest


def average_pool(x: Float[Array, "B H W C"]) -> Float[Array, "B H//2 W//2 C"]:
    """Mean of each 2x2 square."""
    batch, height, width, channels = x.shape
    return jnp.mean(x.reshape(batch, height // 2, 2, width // 2, 2, channels), (2, 4))


def spectral_normalize(
    module: nn.Module, kernel: Float[Array, "... F"], train: bool
) -> Float[Array, "... F"]:
    """kernel / sigma(kernel), sigma by one power iteration from the stored vector u (Miyato et al.
    2018, algorithm 1).

    u is a variable of `module` in the collection "spectral"; it advances only when training and
    when the caller made the collection mutable, so that a penalty's or another player's pass
    through the critic leaves it alone."""
    matrix = kernel.reshape(-1, kernel.shape[-1])

    def unit(x):
        return x / (jnp.linalg.norm(x) + 1e-12)

    def initial():
        return unit(jax.random.normal(module.make_rng("params"), kernel.shape[-1:], jnp.float32))

    u = module.variable("spectral", "u", initial)
    # the gradient of sigma takes u and v as constants (their eq. 9)
    constant = jax.lax.stop_gradient(matrix)
    v = unit(constant @ u.value)
    following = unit(v @ constant)
    if train and module.is_mutable_collection("spectral") and not module.is_initializing():
        u.value = following
    sigma = v @ matrix @ following
    return kernel / jnp.maximum(sigma, 1e-12)


class SpectralDense(nn.Module):
    """nn.Dense with a spectrally normalised kernel."""

    features: int
    use_bias: bool = True
    dtype: Any = jnp.float32
    train: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B I"]) -> Float[Array, "B F"]:
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, jnp.float32)
        kernel = spectral_normalize(self, kernel, self.train)
        y = x.astype(self.dtype) @ kernel.astype(self.dtype)
        if self.use_bias:
            y += self.param("bias", zeros, (self.features,), jnp.float32).astype(self.dtype)
        return y


class SpectralConv(nn.Module):
    """nn.Conv (stride one, SAME padding), its kernel spectrally normalised as a matrix (window x
    inputs, outputs).
    """

    features: int
    kernel_size: tuple[int, int]
    use_bias: bool = True
    dtype: Any = jnp.float32
    train: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B H W F"]:
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, jnp.float32)
        kernel = spectral_normalize(self, kernel, self.train).astype(self.dtype)
        y = ops.conv(x.astype(self.dtype), kernel)
        if self.use_bias:
            y += self.param("bias", zeros, (self.features,), jnp.float32).astype(self.dtype)
        return y
