"""The evidence lower bound and its importance-weighted refinement, in nats per example."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen.ranges import Count, NonNegative


def gaussian_kl(
    mean: Float[Array, "B D"], log_variance: Float[Array, "B D"], free_bits: float = 0.0
) -> Float[Array, "B"]:
    """KL( N(mean, exp(log_variance)) || N(0, 1) ) in nats (Kingma & Welling 2014, appendix B).

    free_bits: nats that every dimension may spend freely: max(KL_d, free_bits) per example and
    dimension (after Kingma et al. 2016, eq. 15, per example so that examples stay uncoupled)."""
    per_dimension = 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - 1.0 - log_variance)
    return jnp.sum(jnp.maximum(per_dimension, free_bits) if free_bits else per_dimension, axis=-1)


def standard_normal_log_prob(z: Float[Array, "*batch D"]) -> Float[Array, "*batch"]:
    """log N(z; 0, 1) summed over the last axis, in nats."""
    return -0.5 * jnp.sum(jnp.square(z) + jnp.log(2 * jnp.pi), axis=-1)


def diagonal_gaussian_log_prob(
    z: Float[Array, "*batch D"],
    mean: Float[Array, "*batch D"],
    log_variance: Float[Array, "*batch D"],
) -> Float[Array, "*batch"]:
    """log N(z; mean, diag exp(log_variance)) summed over the last axis, in nats."""
    squared = jnp.square(z - mean) * jnp.exp(-log_variance)
    return -0.5 * jnp.sum(squared + log_variance + jnp.log(2 * jnp.pi), axis=-1)


def importance_weighted_bound(log_weights: Float[Array, "K B"]) -> Float[Array, "B"]:
    """log (1/K) sum_k exp(log_weights_k): the K-sample lower bound on log p(x), in nats (Burda et
    al. 2016, eq. 8).
    """
    return jax.nn.logsumexp(log_weights, axis=0) - jnp.log(log_weights.shape[0])


# Terms


def reconstruction():
    """-log p(x|z) in nats. Needs `log_likelihood`."""
    return lambda outputs: -outputs["log_likelihood"]


def kl(free_bits: NonNegative = 0.0):
    """KL of the posterior to the standard normal prior, in nats. Needs `posterior` = (mean,
    log-variance).
    """

    def term(outputs):
        mean, log_variance = outputs["posterior"]
        return gaussian_kl(mean, log_variance, free_bits)

    return term


def importance_weighted(num_samples: Count = 5):
    """Negative importance-weighted bound of `num_samples` latents, nats. Needs `log_weights`."""
    return lambda outputs: -importance_weighted_bound(outputs["log_weights"](num_samples))
