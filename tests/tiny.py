"""Tiny systems on the digits, one row for each family: what the property suites run over."""

import jax.numpy as jnp
from flax import linen as nn

from jaxgen.calls import EVALUATION
from jaxgen.conditions import UNCONDITIONAL
from jaxgen.config import default, player
from jaxgen.networks.mlp import MLPCritic


class CentringCritic(nn.Module):
    """An MLP critic of images less their running mean, a state that depends on the batch."""

    conditions: tuple = UNCONDITIONAL
    dtype: object = jnp.float32

    @nn.compact
    def __call__(self, x, condition=None, call=EVALUATION):
        mean = self.variable("statistics", "mean", jnp.zeros, x.shape[1:])
        before = mean.value
        if call.train and self.is_mutable_collection("statistics"):
            mean.value = 0.9 * before + 0.1 * call.mean(x)
        critic = MLPCritic((16, 8), conditions=self.conditions, name="critic")
        return critic(x - before, condition, call)


def _vae(config):
    config.family = "autoencoder"
    config.model.update(
        latent=2,
        likelihood=dict(name="gaussian", scale="global"),
        encoder=dict(name="mlp_encoder", hidden=(32,)),
        decoder=dict(name="mlp_decoder", hidden=(32,)),
    )
    terms = dict(reconstruction=dict(), kl=dict())
    config.players.model = player(terms, networks=("encoder", "decoder"), learning_rate=1e-3)


def _gan(config):
    """With two critic updates a step, and spectral normalisation, whose vectors are state."""
    config.family = "adversarial"
    config.conditional = True
    config.model.update(
        latent=4,
        generator=dict(name="mlp_decoder", hidden=(16,)),
        critic=dict(name="mlp_critic", hidden=(16,), spectral_norm=True),
    )
    config.players.critic = player(dict(critic=dict()), updates=2, learning_rate=1e-3)
    config.players.generator = player(dict(adversarial=dict()), learning_rate=1e-3)


def _vae_gan(config):
    _vae(config)
    config.model.critic = dict(name="tests.tiny:CentringCritic")
    del config.players.model
    feature = dict(weight=0.1)
    config.players.encoder = player(dict(kl=dict(), feature=feature), learning_rate=1e-3)
    config.players.decoder = player(
        dict(adversarial=dict(start=2), feature=feature), learning_rate=1e-3
    )
    config.players.critic = player(dict(critic=dict(), r1=dict(every=2)), learning_rate=1e-3)


def _diffusion(config):
    config.family = "diffusion"
    config.model.update(
        schedule=dict(name="cosine"),
        prediction="v",
        denoiser=dict(name="mlp_denoiser", width=32, depth=1),
    )
    config.players.denoiser = player(dict(denoising=dict()), learning_rate=1e-3)
    config.sample.options.steps = 2


def _diffusion_gan(config):
    """A diffusion model of two conditions whose predicted images a critic judges."""
    _diffusion(config)
    config.conditional = ("label", "small")
    config.data.columns.small = dict(name="downsample", factor=2)
    config.model.condition_dropout = 0.2
    config.model.denoiser = dict(name="dit", patch=4, width=8, depth=1, heads=2, dropout=0.2)
    config.data.flip = True
    config.model.critic = dict(name="mlp_critic", hidden=(16,))
    terms = dict(denoising=dict(), adversarial=dict(weight=0.1))
    config.players.denoiser = player(terms, learning_rate=1e-3)
    config.players.critic = player(dict(critic=dict(), r1=dict(weight=0.1)), learning_rate=1e-3)
    config.sample.options.guidance = 2.0


def _distillation(config):
    _diffusion(config)
    config.family = "distillation"
    config.model.steps = 4
    config.pretrained.teacher = dict(workdir="none")  # weights as they are drawn
    config.sample.options.steps = 4


SYSTEMS = {
    "vae": _vae,
    "gan": _gan,
    "vae_gan": _vae_gan,
    "diffusion": _diffusion,
    "diffusion_gan": _diffusion_gan,
    "distillation": _distillation,
}


def tiny(name: str):
    """The system's config: 8 steps on the digits, everything logged, nothing else on."""
    config = default()
    config.name = name
    config.data.update(source="digits", image_shape=(8, 8, 1), num_classes=10)
    config.train.update(steps=8, batch_size=16, log_every=1, steps_per_dispatch=3)
    config.checkpoint.every = 100
    config.ema.rates = (0.9, 0.99)
    SYSTEMS[name](config)
    return config
