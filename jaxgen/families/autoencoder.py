"""Wiring: an encoder and a decoder with a Gaussian latent: VAE (Kingma & Welling 2014), IWAE.

With a critic it is the VAE-GAN (Larsen et al. 2016). Networks: encoder, decoder.
"""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen import draws, networks
from jaxgen.calls import EVALUATION, Call
from jaxgen.families.base import Data, Family, LogProb, Net, merge
from jaxgen.losses import elbo
from jaxgen.losses import likelihood as likelihoods
from jaxgen.ranges import Count, Section


class Parts(NamedTuple):
    """data: of the family. latent: its dimensions. observation: from decoder outputs to nats.
    encoder: example -> (mean, log-variance). decoder: latent -> parameters of the observation."""

    data: Data
    latent: int
    observation: likelihoods.Likelihood
    encoder: Net
    decoder: Net


class WithGlobalScale(nn.Module):
    """A decoder whose log-scale channels are one learned number (sigma-VAE, Rybkin et al. 2021)."""

    decoder: nn.Module

    @nn.compact
    def __call__(self, *arguments):
        mean = self.decoder(*arguments)
        log_scale = self.param("log_scale", nn.initializers.zeros, ())
        return jnp.concatenate([mean, jnp.broadcast_to(log_scale, mean.shape)], axis=-1)


def build(
    data: Data, *, latent: Count, likelihood: Section, encoder: Section, decoder: Section
) -> Family:
    """A VAE from `config.model`: {latent, likelihood: {name, ...}, encoder: {...}, decoder: {...}}.

    Outputs of `forward`: posterior (mean, log-variance), latent, log_likelihood (nats [B]),
    reconstruction, fake (decoded from the prior), log_weights (a closure K -> [K, B]), keys.
    """
    observation = likelihoods.build(where="config.model.likelihood", **likelihood)
    channels = data.shape[-1] * (1 if observation.global_scale else observation.channels)
    encoder_module = networks.build(
        **encoder, where="config.model.encoder", outputs=2 * latent, **data.common
    )
    decoder_module = networks.build(
        **decoder, where="config.model.decoder", shape=(*data.shape[:-1], channels), **data.common
    )
    if observation.global_scale:
        decoder_module = WithGlobalScale(decoder_module)
    nets = Net("encoder", encoder_module), Net("decoder", decoder_module)
    parts = Parts(data, latent, observation, *nets)
    return Family(
        name="autoencoder",
        networks=("encoder", "decoder"),
        data=data,
        init=partial(init, parts),
        forward=partial(forward, parts),
        sample=partial(sample, parts),
        encode=partial(encode, parts),
        decode=partial(decode, parts),
        log_prob=partial(log_prob, parts),
        recomputed=tuple(net.name for net in nets if net.recomputed),
    )


def init(parts: Parts, key, batch):
    condition = parts.data.conditions.of(batch)
    z = jnp.zeros((batch["x"].shape[0], parts.latent))
    return merge(
        parts.encoder.init(key, batch["x"], condition), parts.decoder.init(key, z, condition)
    )


def observe(parts: Parts, batch, keys):
    """The modelled x, and x as the encoder sees it, in [-1, 1]."""
    x = parts.observation.observe(batch["x"], draws.named(keys, "observe"))
    return x, 2.0 * x - 1.0 if parts.observation.name == "bernoulli" else x


def posterior(parts: Parts, variables, seen, condition, call: Call = EVALUATION):
    """(mean, log-variance) of q(z|x)."""
    outputs = parts.encoder(variables, seen, condition, call=call)
    mean, log_variance = jnp.split(outputs, 2, axis=-1)
    return mean, jnp.clip(log_variance, -20.0, 20.0)  # beyond it exp() only overflows


def draw(parts: Parts, q, keys):
    """A draw of q(z|x) by the reparameterisation trick."""
    mean, log_variance = q
    return mean + jnp.exp(0.5 * log_variance) * draws.normal(keys, (parts.latent,))


def log_weight(parts: Parts, variables, x, q, condition, call: Call):
    """log p(x|z) + log p(z) - log q(z|x) at one draw of z per example, in nats."""
    z = draw(parts, q, call.keys)
    decoded = parts.decoder(variables, z, condition, call=call)
    log_likelihood = parts.observation.log_prob(decoded, x)
    prior, own = elbo.standard_normal_log_prob(z), elbo.diagonal_gaussian_log_prob(z, *q)
    return log_likelihood + prior - own


def importance_call(call: Call, index) -> Call:
    """The call with the keys of the `index`-th importance sample."""
    keys = draws.fold(draws.named(call.keys, "importance"), index)
    return call._replace(keys=keys)


def forward(parts: Parts, variables, batch, call: Call):
    condition = parts.data.conditions.of(batch)
    x, seen = observe(parts, batch, call.keys)
    q = posterior(parts, variables, seen, condition, call)
    z = draw(parts, q, call.named("latent").keys)
    decoded = parts.decoder(variables, z, condition, call=call)
    prior = draws.normal(call.named("prior").keys, (parts.latent,))
    fake = parts.decoder(variables, prior, condition, call=call, use="prior")

    def log_weights(count: int):
        def one(index):
            return log_weight(parts, variables, x, q, condition, importance_call(call, index))

        return jax.vmap(one)(jnp.arange(count))

    outputs = {
        "posterior": q,
        "latent": z,
        "log_likelihood": parts.observation.log_prob(decoded, x),
        "real": batch["x"],
        "reconstruction": parts.observation.mean(decoded),
        "fake": parts.observation.mean(fake),
        "log_weights": log_weights,
        "keys": call.keys,
    }
    return outputs, variables["state"]


def encode(parts: Parts, variables, batch, keys):
    """The posterior's mean."""
    seen = observe(parts, batch, keys)[1]
    return posterior(parts, variables, seen, parts.data.conditions.of(batch))[0]


def decode(parts: Parts, variables, z, condition=None):
    """The observation's mean."""
    return parts.observation.mean(parts.decoder(variables, z, condition))


def sample(parts: Parts, variables, keys, condition=None):
    parts.data.conditions.check(condition)
    return decode(parts, variables, draws.normal(keys, (parts.latent,)), condition)


def log_prob(parts: Parts, variables, batch, keys, num_samples: Count = 1):
    """The `num_samples`-sample importance-weighted bound (1: the ELBO), one sample at a time, so
    that memory stays flat."""
    condition, call = parts.data.conditions.of(batch), Call(keys=keys)
    x, seen = observe(parts, batch, keys)
    q = posterior(parts, variables, seen, condition)

    def add(total, index):
        sampled = importance_call(call, index)
        return jnp.logaddexp(total, log_weight(parts, variables, x, q, condition, sampled)), None

    start = jnp.full(x.shape[0], -jnp.inf)
    total, _ = jax.lax.scan(add, start, jnp.arange(num_samples))
    return LogProb(total - jnp.log(num_samples), "lower bound", parts.observation.name)
