"""Wiring: a generator (Goodfellow et al. 2014). Network: generator; the config adds the critic."""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp

from jaxgen import draws, networks
from jaxgen.calls import EVALUATION
from jaxgen.families.base import Data, Family, Net
from jaxgen.ranges import Count, Section


class Parts(NamedTuple):
    """data: of the family. latent: dimensions of the normal noise. generator: noise -> example.
    squash: whether examples lie in [-1, 1]."""

    data: Data
    latent: int
    generator: Net
    squash: bool


def build(data: Data, *, latent: Count, generator: Section, squash: bool = True) -> Family:
    """The generator of a GAN from `config.model`: {latent, generator: {name, ...}, squash}.

    squash: pass its output through tanh, as pixels lie in [-1, 1].

    Outputs of `forward`: fake.
    """
    module = networks.build(
        **generator, where="config.model.generator", shape=data.shape, **data.common
    )
    parts = Parts(data, latent, Net("generator", module), squash)
    return Family(
        name="adversarial",
        networks=("generator",),
        data=data,
        init=partial(init, parts),
        forward=partial(forward, parts),
        sample=partial(sample, parts),
        decode=partial(decode, parts),
        recomputed=("generator",) if parts.generator.recomputed else (),
    )


def init(parts: Parts, key, batch):
    z = jnp.zeros((batch["x"].shape[0], parts.latent))
    return parts.generator.init(key, z, parts.data.conditions.of(batch))


def decode(parts: Parts, variables, z, condition=None, call=EVALUATION):
    x = parts.generator(variables, z, condition, call=call)
    return jnp.tanh(x) if parts.squash else x


def forward(parts: Parts, variables, batch, call):
    z = draws.normal(call.named("latent").keys, (parts.latent,))
    fake = decode(parts, variables, z, parts.data.conditions.of(batch), call)
    return {"fake": fake, "keys": call.keys}, variables["state"]


def sample(parts: Parts, variables, keys, condition=None):
    parts.data.conditions.check(condition)
    return decode(parts, variables, draws.normal(keys, (parts.latent,)), condition)
