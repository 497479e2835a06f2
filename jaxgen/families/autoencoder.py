"""Wiring: an encoder and a decoder with a Gaussian latent, and a critic where the config names one.

VAE (Kingma & Welling 2014) and VAE-GAN (Larsen et al. 2016). Networks: encoder, decoder[, critic].
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen import draws, networks, ranges
from jaxgen.families import base
from jaxgen.families.base import Family, LogProb, named_key
from jaxgen.losses import elbo, likelihood
from jaxgen.ranges import Count

OPTIONS = ("latent", "likelihood", "encoder", "decoder", "critic")  # of config.model
OPTIONAL = ("critic",)


class WithGlobalScale(nn.Module):
    """A decoder whose log-scale channels are one learned number (sigma-VAE, Rybkin et al. 2021)."""

    decoder: nn.Module

    @nn.compact
    def __call__(self, *arguments, **keywords):
        mean = self.decoder(*arguments, **keywords)
        log_scale = self.param("log_scale", nn.initializers.zeros, ())
        return jnp.concatenate([mean, jnp.broadcast_to(log_scale, mean.shape)], axis=-1)


def build(model, image_shape: tuple[int, int, int], num_classes: int, dtype=jnp.float32) -> Family:
    """A (VAE or VAE-GAN) from `model`: {latent, likelihood: {name, ...}, encoder, decoder[,
    critic]}.

    Outputs of `forward`: posterior (mean, log-variance), latent, log_likelihood (nats [B]),
    reconstruction, log_weights (a closure K -> [K,B]), keys; with a critic also its outputs, where
    `fake` is decoded from the prior, and reconstruction_features."""
    latent, channels = model.latent, image_shape[-1]
    ranges.check("config.model.latent", Count, latent)
    observation = likelihood.build(where="config.model.likelihood", **model.likelihood)
    common = {"num_classes": num_classes, "dtype": dtype}
    outputs = channels * (1 if observation.global_scale else observation.channels)
    encoder = networks.build(
        where="config.model.encoder", **model.encoder, outputs=2 * latent, **common
    )
    decoder = networks.build(
        where="config.model.decoder",
        **model.decoder,
        image_shape=image_shape,
        outputs=outputs,
        **common,
    )
    if observation.global_scale:
        decoder = WithGlobalScale(decoder)
    critic = (
        networks.build(where="config.model.critic", **model.critic, **common)
        if model.get("critic")
        else None
    )

    def init(key, batch):
        label = base.batch_label(num_classes, batch)
        z = jnp.zeros((batch["image"].shape[0], latent))
        parts = [
            base.init_network(key, "encoder", encoder, batch["image"], label),
            base.init_network(key, "decoder", decoder, z, label),
        ]
        if critic is not None:
            parts.append(base.init_network(key, "critic", critic, batch["image"], label))
        return base.merge(*parts)

    def posterior(variables, image, label, **keywords):
        mean, log_variance = jnp.split(
            base.apply_network(variables, "encoder", encoder, image, label, **keywords), 2, axis=-1
        )
        return mean, jnp.clip(log_variance, -20.0, 20.0)  # beyond it exp() only overflows

    def decode_outputs(variables, z, label, **keywords):
        return base.apply_network(variables, "decoder", decoder, z, label, **keywords)

    def observe(batch, keys):
        """The modelled image x, and x as the encoder sees it, in [-1, 1]."""
        x = observation.observe(batch["image"], named_key(keys, "observe"))
        return x, 2.0 * x - 1.0 if observation.name == "bernoulli" else x

    def draw(posterior_parameters, keys):
        mean, log_variance = posterior_parameters
        return mean + jnp.exp(0.5 * log_variance) * draws.normal(keys, (latent,))

    def log_weight(variables, x, q, label, keys, train=False):
        """log p(x|z) + log p(z) - log q(z|x) at one draw of z per example, in nats."""
        z = draw(q, keys)
        decoded = decode_outputs(variables, z, label, train=train, keys=named_key(keys, "decoder"))
        log_likelihood = observation.log_prob(decoded, x)
        return (
            log_likelihood
            + elbo.standard_normal_log_prob(z)
            - elbo.diagonal_gaussian_log_prob(z, *q)
        )

    def latent_keys(keys, index):
        """Keys of the `index`-th importance sample."""
        return jax.vmap(lambda key: jax.random.fold_in(key, index))(named_key(keys, "importance"))

    def forward(variables, batch, keys, train):
        label = base.batch_label(num_classes, batch)
        x, seen = observe(batch, keys)
        q = posterior(variables, seen, label, train=train, keys=named_key(keys, "encoder"))
        z = draw(q, named_key(keys, "latent"))
        decoded = decode_outputs(variables, z, label, train=train, keys=named_key(keys, "decoder"))
        reconstruction = observation.mean(decoded)
        outputs = {
            "posterior": q,
            "latent": z,
            "log_likelihood": observation.log_prob(decoded, x),
            "real": batch["image"],
            "reconstruction": reconstruction,
            "log_weights": lambda count: jax.vmap(
                lambda i: log_weight(variables, x, q, label, latent_keys(keys, i), train)
            )(jnp.arange(count)),
            "keys": keys,
        }
        if critic is None:
            return outputs, variables["state"]
        prior = draws.normal(named_key(keys, "prior"), (latent,))
        fake = observation.mean(
            decode_outputs(
                variables, prior, label, train=train, keys=named_key(keys, "decoder/prior")
            )
        )
        judged, state = base.critique(variables, critic, batch["image"], fake, label, keys, train)
        _, features = base.apply_network(
            variables, "critic", critic, reconstruction, label,
            train=train, keys=named_key(keys, "critic/reconstruction"),
        )  # fmt: skip
        return {**outputs, **judged, "reconstruction_features": features}, state

    def decode(variables, z, label=None):
        return observation.mean(decode_outputs(variables, z, label))

    def sample(variables, keys, label=None):
        base.check_label(num_classes, label)
        return decode(variables, draws.normal(keys, (latent,)), label)

    def encode(variables, batch, keys):
        return posterior(variables, observe(batch, keys)[1], base.batch_label(num_classes, batch))[
            0
        ]

    def log_prob(variables, batch, keys, num_samples: int = 1):
        """The `num_samples`-sample importance-weighted bound (1: the ELBO), accumulated so that
        memory stays flat.
        """
        label = base.batch_label(num_classes, batch)
        x, seen = observe(batch, keys)
        q = posterior(variables, seen, label)

        def add(total, index):
            return jnp.logaddexp(
                total, log_weight(variables, x, q, label, latent_keys(keys, index))
            ), None

        start = jnp.full(x.shape[0], -jnp.inf)
        total, _ = jax.lax.scan(add, start, jnp.arange(num_samples))
        return LogProb(total - jnp.log(num_samples), "lower bound", observation.name)

    return Family(
        networks=("encoder", "decoder") + (("critic",) if critic is not None else ()),
        init=init,
        forward=forward,
        sample=sample,
        sample_options={},
        nfe=lambda: 1,
        encode=encode,
        decode=decode,
        log_prob=log_prob,
    )
