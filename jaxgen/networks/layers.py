"""Layers that several networks share: normalisation, dropout, attention, time embedding, spectral
normalisation; and rematerialisation."""

import itertools
import zlib
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
from jaxgen.networks.convolution import convolve


def silu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x sigmoid(x); on a CPU to about 1e-6, so that nothing is left of it below -16."""
    return _silu(x) if jax.default_backend() == "cpu" else nn.silu(x)


@jax.checkpoint
def _silu(x):
    # A CPU reads an array from memory more slowly than it computes it again. And its tanh is one
    # fraction, where a sigmoid is an exponential and a division. In float32, as the sum cancels for
    # a negative x.
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (wide * (0.5 + 0.5 * jnp.tanh(0.5 * wide))).astype(x.dtype)


ACTIVATIONS = {
    "tanh": jnp.tanh,
    "relu": nn.relu,
    "gelu": nn.gelu,
    "silu": silu,
    "leaky_relu": partial(nn.leaky_relu, negative_slope=0.2),
    "softplus": nn.softplus,
}

fan_avg_uniform = nn.initializers.variance_scaling(
    1.0, "fan_avg", "uniform"
)  # Ho et al. 2020, Peebles & Xie 2023
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
        self.conditions.check(condition)
        vectors = []
        for kind in self.conditions.kinds:
            x = condition[kind.name]
            if kind.classes:
                rows = nn.Embed(kind.classes + 1, self.features, dtype=self.dtype, name=kind.name)
                vectors.append(rows(x))
            else:
                dense = nn.Dense(self.features, use_bias=False, dtype=self.dtype, name=kind.name)
                vectors.append(dense(x.reshape(x.shape[0], -1)))
        return sum(vectors[1:], vectors[0]) if vectors else None


def with_images(
    x: Float[Array, "B H W C"], conditions: ConditionSpec, condition: Condition | None
) -> tuple[Float[Array, "B H W C+K"], ConditionSpec, Condition | None]:
    """(`x` with the condition's images as further channels, brought to its size, and the rest of
    the condition for `Embedded`)."""
    conditions.check(condition)
    images, rest = conditions.split()
    if not images:
        return x, conditions, condition
    size = x.shape[1:3]
    channels = [
        jax.image.resize(condition[n], (x.shape[0], *size, condition[n].shape[-1]), "nearest")
        for n in images.names
    ]
    x = jnp.concatenate([x, *(c.astype(x.dtype) for c in channels)], -1)
    return x, rest, {name: condition[name] for name in rest.names}


def halvings(size: tuple[int, ...], count: int, where: str) -> tuple[int, ...]:
    """`size` halved `count` times; InputError if a side is odd on the way."""
    if any(side % 2**count for side in size):
        raise InputError(f"{where} halves the image {count} times, but its size "
                         f"{'x'.join(map(str, size))} is not a "
                         f"multiple of {2**count}; use fewer resolutions or another size")  # fmt: skip
    return tuple(side // 2**count for side in size)


def to_patches(
    x: Float[Array, "B H W C"], patch: int, where: str
) -> Float[Array, "B H/p W/p p*p*C"]:
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


def from_patches(h: Float[Array, "B h w p*p*C"], patch: int) -> Float[Array, "B h*p w*p C"]:
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
    """Group normalisation (Wu & He 2018) of [B, ..., C], with the parameters and the result of
    linen's.

    Mean and variance of a group come from per-channel sums, and the normalisation is one scale and
    shift per channel: one pass to read and one to write, and no reshape of the activations, which
    is several times faster on a CPU. A tuple of arrays whose channels follow one another is
    normalised as their concatenation, and stays a tuple."""

    groups: int | None = None  # None: group_count(channels)
    epsilon: float = 1e-6
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B *S C"] | tuple[Float[Array, "B *S _"], ...]
    ) -> Float[Array, "B *S C"] | tuple[Float[Array, "B *S _"], ...]:
        # in float32 whatever x is: E[x^2] - E[x]^2 cancels
        parts = [part.astype(jnp.float32) for part in (x if isinstance(x, tuple) else (x,))]
        ends, spatial = (
            list(itertools.accumulate(part.shape[-1] for part in parts)),
            tuple(range(1, parts[0].ndim - 1)),
        )
        channels = ends[-1]
        groups = self.groups or group_count(channels)
        gain = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        bias = self.param("bias", zeros, (channels,), jnp.float32)

        # The squares first: the gradient then ends in a sum of two arrays, which XLA on a CPU
        # stores once. One that ends in a broadcast number it would compute again wherever it is
        # used, such as in the transposes of a convolution's gradient.
        squares = jnp.concatenate([jnp.mean(jnp.square(part), spatial) for part in parts], -1)
        means = jnp.concatenate([jnp.mean(part, spatial) for part in parts], -1)
        mean = group_mean(means, groups)
        variance = jnp.maximum(group_mean(squares, groups) - jnp.square(mean), 0.0)
        scale = jax.lax.rsqrt(variance + self.epsilon) * gain
        shift = bias - mean * scale

        def normalise(part, scale, shift):
            per_channel = (-1,) + (1,) * len(spatial) + (part.shape[-1],)
            return (part * scale.reshape(per_channel) + shift.reshape(per_channel)).astype(
                self.dtype
            )

        scales, shifts = (jnp.split(m, ends[:-1], -1) for m in (scale, shift))
        normalised = tuple(map(normalise, parts, scales, shifts))
        return normalised if isinstance(x, tuple) else normalised[0]


def group_mean(x: Float[Array, "B C"], groups: int) -> Float[Array, "B C"]:
    """Each channel's group's mean."""
    channels = x.shape[-1]
    if jax.default_backend() == "cpu":
        # as a matrix product, whose result XLA stores: means it would compute again for every pixel
        group = np.arange(channels) * groups // channels
        average = np.float32(group[:, None] == group) * np.float32(groups / channels)
        return jnp.dot(x, average, precision="highest")
    return jnp.repeat(
        jnp.mean(x.reshape(-1, groups, channels // groups), -1), channels // groups, -1
    )


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
        kept = (
            draws.uniform(keys, x.shape[1:], salt=zlib.crc32("/".join(self.path).encode()))
            >= self.rate
        )
        return jnp.where(kept, x / (1 - self.rate), 0).astype(x.dtype)


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
    name = {False: "none", True: "full"}.get(remat, remat)
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
        embedding = dense(name="time_out")(silu(embedding))
        rest = Embedded(self.conditions, self.features, self.dtype, name="condition")(condition)
        return embedding if rest is None else embedding + rest


def average_pool(x: Float[Array, "B 2*H 2*W C"]) -> Float[Array, "B H W C"]:
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
        return unit(jax.random.normal(module.make_rng("params"), (kernel.shape[-1],)))

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
        y = convolve(x.astype(self.dtype), kernel)
        if self.use_bias:
            y += self.param("bias", zeros, (self.features,), jnp.float32).astype(self.dtype)
        return y
