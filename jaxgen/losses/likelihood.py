"""Observation models p(x|z): what the decoder's output channels mean.

Each `Likelihood` says how many channels it needs per image channel and turns them into nats and
into a mean image."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxgen import draws
from jaxgen.errors import lookup
from jaxgen.ranges import Positive, call_with_options

# about an eighth of a grey level on [-1, 1]: below it a likelihood only rewards saturation
MIN_LOG_SCALE = -7.0


class Likelihood(NamedTuple):
    """An observation model.

    name: as in the config.
    channels: network output channels per image channel.
    global_scale: whether the last of them is one learned number for all pixels rather than a
    network output.
    observe: (image [B,H,W,C] in [-1,1], keys [B]) -> what is modelled, e.g. a dynamically binarised
    image.
    log_prob: (outputs [B,H,W,channels*C], observed [B,H,W,C]) -> nats [B].
    mean: (outputs) -> mean image in [-1,1].
    """

    name: str
    channels: int
    global_scale: bool
    observe: Callable[..., Any]
    log_prob: Callable[..., Any]
    mean: Callable[..., Any]


def flat(x: Float[Array, "..."], like: Float[Array, "B ..."]) -> Float[Array, "B P"]:
    """`x`, broadcast to `like`, as one row per example.

    XLA on CPU vectorises a loop over the last axis only, and that of grey images has length one: a
    training step of the VAE of experiments/benchmark.py takes 12 to 30 % longer without."""
    return jnp.broadcast_to(x, like.shape).reshape(like.shape[0], -1)


def bernoulli_log_prob(
    logits: Float[Array, "B ..."], x: Float[Array, "B ..."]
) -> Float[Array, "B"]:
    """log Bernoulli(x; sigmoid(logits)) summed over pixels, in nats, for x in [0, 1]."""
    logits, x = flat(logits, logits), flat(x, logits)
    return -jnp.sum(jax.nn.softplus(logits) - logits * x, axis=-1)


def gaussian_log_prob(
    mean: Float[Array, "B ..."], log_scale: Float[Array, "..."], x: Float[Array, "B ..."]
) -> Float[Array, "B"]:
    """log N(x; mean, exp(log_scale)^2) summed over pixels, in nats (a density on [-1, 1])."""
    log_scale = flat(jnp.maximum(log_scale, MIN_LOG_SCALE), mean)
    scaled = (flat(x, mean) - flat(mean, mean)) * jnp.exp(-log_scale)
    return -jnp.sum(0.5 * jnp.square(scaled) + log_scale + 0.5 * jnp.log(2 * jnp.pi), axis=-1)


def discretized_logistic_log_prob(
    mean: Float[Array, "B ..."], log_scale: Float[Array, "..."], x: Float[Array, "B ..."]
) -> Float[Array, "B"]:
    """log mass that a logistic puts on x's grey level, summed over pixels, in nats.

    x lies on the 256 levels k/127.5 - 1; the outermost two bins reach to infinity (Salimans et al.
    2017, eq. 2)."""
    inverse = flat(jnp.exp(-jnp.maximum(log_scale, MIN_LOG_SCALE)), mean)
    x, mean = flat(x, mean), flat(mean, mean)
    half = 1.0 / 255.0
    upper, lower = (x - mean + half) * inverse, (x - mean - half) * inverse
    # log(sigmoid(u) - sigmoid(l)) = log sigmoid(u) + log sigmoid(-l) + log(1 - exp(l - u)): no
    # cancellation
    middle = (
        -jax.nn.softplus(-upper)
        - jax.nn.softplus(lower)
        + jnp.log(-jnp.expm1(-2.0 * half * inverse))
    )
    edge = jnp.where(x < 0, -jax.nn.softplus(-upper), -jax.nn.softplus(lower))
    return jnp.sum(jnp.where(jnp.abs(x) > 1.0 - half, edge, middle), axis=-1)


def _uniform(keys: Key[Array, "B"], like: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    return draws.uniform(draws.fold(keys, 0x0B5E), like.shape[1:])


def bernoulli(binarization: Literal["dynamic", "threshold", "none"] = "dynamic") -> Likelihood:
    """Bernoulli pixels. `dynamic` draws each pixel anew with its grey value as probability (Burda
    et al. 2016), `threshold` cuts at 1/2, `none` uses the grey value itself (a cross-entropy, then
    not a likelihood)."""
    observed = {
        "dynamic": lambda p, keys: (_uniform(keys, p) < p).astype(jnp.float32),
        "threshold": lambda p, keys: (p > 0.5).astype(jnp.float32),
        "none": lambda p, keys: p,
    }
    return Likelihood(
        name="bernoulli",
        channels=1,
        global_scale=False,
        observe=lambda image, keys: observed[binarization](0.5 * (image + 1.0), keys),
        log_prob=bernoulli_log_prob,
        mean=lambda outputs: 2.0 * jax.nn.sigmoid(outputs) - 1.0,
    )


def _mean_and_log_scale(outputs: Array) -> tuple[Array, Array]:
    mean, log_scale = jnp.split(outputs, 2, axis=-1)
    return mean, log_scale


def gaussian(
    scale: Literal["global", "pixel"] | Positive = "global", squash: bool = True
) -> Likelihood:
    """Gaussian pixels. `scale` is `global` (one learned number: sigma-VAE, Rybkin et al. 2021),
    `pixel` (a network output) or a fixed standard deviation on [-1, 1]. `squash` passes the mean
    through tanh; without it, images are clipped.

    The images are dequantised with uniform noise of one grey level, so that the density's value is
    meaningful."""
    learned = scale in ("global", "pixel")

    def split(outputs: Array) -> tuple[Array, Array]:
        mean, log_scale = (
            _mean_and_log_scale(outputs) if learned else (outputs, jnp.log(jnp.float32(scale)))
        )
        return (jnp.tanh(mean) if squash else mean), log_scale

    return Likelihood(
        name="gaussian",
        channels=2 if learned else 1,
        global_scale=scale == "global",
        observe=lambda image, keys: image + (_uniform(keys, image) - 0.5) / 127.5,
        log_prob=lambda outputs, x: gaussian_log_prob(*split(outputs), x),
        mean=lambda outputs: jnp.clip(split(outputs)[0], -1.0, 1.0),
    )


def discretized_logistic(scale: Literal["global", "pixel"] = "pixel") -> Likelihood:
    """Logistic pixels integrated over each of the 256 grey levels: an exact discrete likelihood."""
    return Likelihood(
        name="discretized_logistic",
        channels=2,
        global_scale=scale == "global",
        observe=lambda image, keys: image,
        log_prob=lambda outputs, x: discretized_logistic_log_prob(*_mean_and_log_scale(outputs), x),
        mean=lambda outputs: jnp.clip(_mean_and_log_scale(outputs)[0], -1.0, 1.0),
    )


_LIKELIHOODS = {
    "bernoulli": bernoulli,
    "gaussian": gaussian,
    "discretized_logistic": discretized_logistic,
}


def build(name: str = "", *, where: str = "", **options) -> Likelihood:
    """The observation model called `name`. where: the field of the config that describes it, for
    messages. Raises InputError for a name or an option that does not exist.
    """
    what = f"likelihood of {where}" if where else "likelihood"
    factory = lookup(_LIKELIHOODS, what, name)
    return call_with_options(where or f"likelihood '{name}'", factory, options)
