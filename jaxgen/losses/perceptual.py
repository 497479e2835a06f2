"""Distances between images measured in a network's features."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen.errors import InputError


def feature_distance(
    a: tuple[Float[Array, "B ..."], ...], b: tuple[Float[Array, "B ..."], ...]
) -> Float[Array, "B"]:
    """Sum over layers of 1/2 ||a_l - b_l||^2 per example: the negative log-likelihood of
    unit-variance Gaussians in feature space up to a constant (Larsen et al. 2016, eq. 8)."""
    layers = [
        0.5 * jnp.sum(jnp.square(x - y), axis=tuple(range(1, x.ndim)))
        for x, y in zip(a, b, strict=True)
    ]
    return sum(layers[1:], layers[0])


def feature(layers: tuple[int, ...] = ()):
    """Learned similarity: distance of the critic's hidden layers between image and reconstruction;
    all layers when `layers` is empty. Needs `real_features` and `reconstruction_features`."""

    def term(outputs):
        real, reconstruction = outputs["real_features"], outputs["reconstruction_features"]
        count = len(real)
        if not all(-count <= i < count for i in layers):
            raise InputError(
                f"terms.feature.layers is {layers}, but the critic has {count} layers: choose from "
                f"{-count} to {count - 1}"
            )
        chosen = layers or range(count)
        return feature_distance(
            tuple(real[i] for i in chosen), tuple(reconstruction[i] for i in chosen)
        )

    return term


def pixel():
    """1/2 ||real - reconstruction||^2 per example, on [-1, 1]. Needs `real`, `reconstruction`."""
    return lambda outputs: feature_distance((outputs["real"],), (outputs["reconstruction"],))
