"""Denoising losses for diffusion models."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen.errors import lookup
from jaxgen.ranges import call_with_options, check_number


def denoising_loss(
    prediction: Float[Array, "B ..."],
    target: Float[Array, "B ..."],
    weight: Float[Array, "B"] | float = 1.0,
) -> Float[Array, "B"]:
    """weight * mean squared error over all axes but the batch. With noise as target and weight 1
    this is L_simple per pixel (Ho et al. 2020, eq. 14)."""
    return weight * jnp.mean(jnp.square(prediction - target), axis=tuple(range(1, target.ndim)))


# Weightings: (alpha [B], sigma [B], kind, **options) -> [B], the weight of the squared error of the
# network's output. `kind` is (alpha, sigma) -> (a, b): the output stands for a x_0 + b noise.


def simple(alpha, sigma, kind):
    """1 (Ho et al. 2020, eq. 14)."""
    return jnp.ones_like(alpha)


def min_snr(alpha, sigma, kind, *, gamma: float = 5.0):
    """min(SNR, gamma) on the squared error of x_0 (Hang et al. 2023, section 3.4)."""
    check_number("gamma", gamma, 0, above=True)
    a, b = kind(alpha, sigma)
    # An output that is wrong by e makes x_0 wrong by e sigma / determinant. Where that is infinite
    # (noise prediction at alpha = 0) the numerator is 0 as well, and the weight is set to 0.
    determinant = jnp.square(alpha * b - sigma * a)
    return jnp.minimum(jnp.square(alpha), gamma * jnp.square(sigma)) / jnp.maximum(
        determinant, 1e-30
    )


WEIGHTINGS = {"simple": simple, "min_snr": min_snr}


# Terms


def denoising(weighting: str = "simple", **options):
    """Squared error of the network's own prediction, weighted by `WEIGHTINGS[weighting]` (or
    "package.module:attribute") with `options`. Needs `prediction`, `target`, `alpha`, `sigma` and
    `prediction_kind`. Raises InputError for an unknown weighting or option."""
    weigh = lookup(WEIGHTINGS, "loss weighting", weighting)

    def weight(alpha, sigma, kind):
        what = f"loss weighting '{weighting}'"
        return call_with_options(what, weigh, options, alpha, sigma, kind)

    # Traced once on noise prediction, so that a wrong option is found before the step compiles.
    one = jnp.ones(1)
    jax.eval_shape(lambda x: weight(x, x, lambda alpha, sigma: (0 * alpha, 1 + 0 * sigma)), one)

    def term(outputs):
        each = weight(outputs["alpha"], outputs["sigma"], outputs["prediction_kind"])
        return denoising_loss(outputs["prediction"], outputs["target"], each)

    return term


def variational_bound():
    """Unbiased one-time estimate of the whole negative ELBO, in nats (VLB-weighted training). Needs
    `variational_bound`, a closure `() -> [B]`."""
    return lambda outputs: outputs["variational_bound"]()
