"""Adversarial losses for critics and generators, and the penalties that keep critics smooth.

Scores are logits: positive means real. Every function returns one number per example.
"""

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen import draws
from jaxgen.errors import InputError, nearest
from jaxgen.ranges import NonNegative, one_of

Scores = Float[Array, "B"]
softplus = jax.nn.softplus

Loss = Callable[[Scores, Scores, Callable], Scores]

# kind: (critic loss, generator loss), both of (real, fake, mean over the batch)
LOSSES: dict[str, tuple[Loss, Loss]] = {
    # Goodfellow et al. 2014, section 3: generator maximises log D(G(z))
    "non_saturating": (
        lambda real, fake, mean: softplus(-real) + softplus(fake),
        lambda real, fake, mean: softplus(-fake),
    ),
    # Goodfellow et al. 2014, eq. 1: generator minimises log(1 - D(G(z)))
    "minimax": (
        lambda real, fake, mean: softplus(-real) + softplus(fake),
        lambda real, fake, mean: -softplus(fake),
    ),
    # Lim & Ye 2017; Miyato et al. 2018, eq. 16-17
    "hinge": (
        lambda real, fake, mean: jax.nn.relu(1.0 - real) + jax.nn.relu(1.0 + fake),
        lambda real, fake, mean: -fake,
    ),
    # Mao et al. 2017, eq. 9 (labels 0 and 1)
    "least_squares": (
        lambda real, fake, mean: 0.5 * (jnp.square(real - 1.0) + jnp.square(fake)),
        lambda real, fake, mean: 0.5 * jnp.square(fake - 1.0),
    ),
    # Arjovsky et al. 2017, eq. 2; to be used with gradient_penalty (Gulrajani et al. 2017)
    "wasserstein": (lambda real, fake, mean: fake - real, lambda real, fake, mean: -fake),
    # Jolicoeur-Martineau 2019, in the paired form of Huang et al. 2024 (R3GAN), eq. 2
    "relativistic": (
        lambda real, fake, mean: softplus(fake - real),
        lambda real, fake, mean: softplus(real - fake),
    ),
    # Jolicoeur-Martineau 2019, section 4.2: more real than the others are on average, RaSGAN
    "relativistic_average": (
        lambda real, fake, mean: softplus(mean(fake) - real) + softplus(fake - mean(real)),
        lambda real, fake, mean: softplus(mean(real) - fake) + softplus(real - mean(fake)),
    ),
}


def _pair(loss: str):
    if loss not in LOSSES:
        raise InputError(f"adversarial loss '{loss}' does not exist: {nearest(loss, LOSSES)}")
    return LOSSES[loss]


def critic_loss(loss: str, real: Scores, fake: Scores, mean: Callable = jnp.mean) -> Scores:
    """The critic's loss `loss` on scores of real and of generated images. `mean`: over the batch,
    for relativistic_average.
    """
    return _pair(loss)[0](real, fake, mean)


def generator_loss(loss: str, real: Scores, fake: Scores, mean: Callable = jnp.mean) -> Scores:
    """The generator's loss `loss`; only the relativistic ones look at the real scores."""
    return _pair(loss)[1](real, fake, mean)


def _squared_gradient_norm(critic: Callable, x: Float[Array, "B ..."]) -> Scores:
    """||d critic(x)_b / d x_b||^2 over all axes but the batch. Examples do not interact, so the
    sum's gradient serves.
    """
    gradient = jax.grad(lambda images: jnp.sum(critic(images)))(x)
    return jnp.sum(jnp.square(gradient), axis=tuple(range(1, x.ndim)))


def zero_centered_penalty(critic: Callable, x: Float[Array, "B ..."]) -> Scores:
    """1/2 ||grad critic(x)||^2: R1 on real images, R2 on generated ones (Mescheder et al. 2018, eq.
    9 and 10).
    """
    return 0.5 * _squared_gradient_norm(critic, x)


def gradient_penalty(
    critic: Callable,
    real: Float[Array, "B ..."],
    fake: Float[Array, "B ..."],
    keys,
    target: float = 1.0,
) -> Scores:
    """(||grad critic(x)|| - target)^2 at x uniform between pairs of real and fake (Gulrajani et al.
    2017, eq. 3).
    """
    mix = draws.uniform(keys).reshape((-1,) + (1,) * (real.ndim - 1))
    squared = _squared_gradient_norm(critic, mix * real + (1.0 - mix) * fake)
    # the square root's slope is infinite at 0: a flat critic must not give NaN
    return jnp.square(jnp.sqrt(squared + 1e-12) - target)


# Terms. They need real, fake, real_score, fake_score, the closure critic(images) -> scores, and
# batch_mean.


def critic(loss: Annotated[str, one_of(LOSSES)] = "non_saturating"):
    """What the critic minimises."""
    return lambda outputs: critic_loss(
        loss, outputs["real_score"], outputs["fake_score"], outputs["batch_mean"]
    )


def adversarial(loss: Annotated[str, one_of(LOSSES)] = "non_saturating"):
    """What the generator minimises."""
    return lambda outputs: generator_loss(
        loss, outputs["real_score"], outputs["fake_score"], outputs["batch_mean"]
    )


def r1():
    """Zero-centred penalty on real images."""
    return lambda outputs: zero_centered_penalty(outputs["critic"], outputs["real"])


def r2():
    """Zero-centred penalty on generated images."""
    return lambda outputs: zero_centered_penalty(outputs["critic"], outputs["fake"])


def gradient_penalty_term(target: NonNegative = 1.0):
    """WGAN-GP's penalty between real and generated images."""

    def term(outputs):
        keys = draws.fold(outputs["keys"], 0x69)
        return gradient_penalty(outputs["critic"], outputs["real"], outputs["fake"], keys, target)

    return term
