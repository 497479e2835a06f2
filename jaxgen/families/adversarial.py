"""Wiring: a generator against a critic (Goodfellow et al. 2014). Networks: generator, critic."""

import jax.numpy as jnp

from jaxgen import draws, networks, ranges
from jaxgen.families import base
from jaxgen.families.base import Family, named_key
from jaxgen.ranges import Count

OPTIONS = ("latent", "generator", "critic")  # of config.model
OPTIONAL = ()


def build(model, image_shape: tuple[int, int, int], num_classes: int, dtype=jnp.float32) -> Family:
    """A GAN from `model`: {latent, generator: {name, ...}, critic: {name, ...}}.

    Outputs of `forward`: real, fake, real_score, fake_score, real_features, fake_features, critic,
    keys."""
    latent = model.latent
    ranges.check("config.model.latent", Count, latent)
    generator = networks.build(
        **model.generator,
        where="config.model.generator",
        image_shape=image_shape,
        outputs=image_shape[-1],
        num_classes=num_classes,
        dtype=dtype,
    )
    critic = networks.build(
        where="config.model.critic", **model.critic, num_classes=num_classes, dtype=dtype
    )

    def init(key, batch):
        label = base.batch_label(num_classes, batch)
        z = jnp.zeros((batch["image"].shape[0], latent))
        return base.merge(
            base.init_network(key, "generator", generator, z, label),
            base.init_network(key, "critic", critic, batch["image"], label),
        )

    def generate(variables, z, label, **keywords):
        return jnp.tanh(base.apply_network(variables, "generator", generator, z, label, **keywords))

    def forward(variables, batch, keys, train):
        label = base.batch_label(num_classes, batch)
        z = draws.normal(named_key(keys, "latent"), (latent,))
        fake = generate(variables, z, label, train=train, keys=named_key(keys, "generator"))
        outputs, state = base.critique(variables, critic, batch["image"], fake, label, keys, train)
        return {**outputs, "keys": keys}, state

    def sample(variables, keys, label=None):
        base.check_label(num_classes, label)
        return generate(variables, draws.normal(keys, (latent,)), label)

    return Family(
        networks=("generator", "critic"),
        init=init,
        forward=forward,
        sample=sample,
        sample_options={},
        nfe=lambda: 1,
        decode=generate,
    )
