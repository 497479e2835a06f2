"""Denoising losses for diffusion models."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen.ranges import Positive


def denoising_loss(
    prediction: Float[Array, "B ..."],
    target: Float[Array, "B ..."],
    weight: Float[Array, "B"] | float = 1.0,
) -> Float[Array, "B"]:
    """weight * mean squared error over all axes but the batch. With noise as target and weight 1
    this is L_simple per pixel (Ho et al. 2020, eq. 14)."""
    return weight * jnp.mean(jnp.square(prediction - target), axis=tuple(range(1, target.ndim)))


# Terms


def denoising(weighting: str = "simple", gamma: Positive | None = None):
    """Squared error of the network's own prediction, weighted as `weighting` says: see
    diffusion.likelihood.weights, whose option `gamma` is passed on. Needs `prediction`, `target`
    and the closure `weight(kind, **options) -> [B]`."""
    options = {} if gamma is None else {"gamma": gamma}

    def term(outputs):
        weight = outputs["weight"](weighting, **options)
        return denoising_loss(outputs["prediction"], outputs["target"], weight)

    return term


def variational_bound():
    """Unbiased one-time estimate of the whole negative ELBO, in nats (VLB-weighted training). Needs
    `variational_bound`, a closure `() -> [B]`."""
    return lambda outputs: outputs["variational_bound"]()
