"""Configs of three tiny systems on the digits, one of each family."""

import pytest

from jaxgen.config import default, player


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
    """With two critic updates a step and spectral normalisation, whose vectors are state without
    gradients.
    """
    config.family = "adversarial"
    config.conditional = True
    config.model.update(
        latent=4,
        generator=dict(name="mlp_decoder", hidden=(16,)),
        critic=dict(name="mlp_critic", hidden=(16,), spectral_norm=True),
    )
    config.players.critic = player(dict(critic=dict()), updates=2, learning_rate=1e-3)
    config.players.generator = player(dict(adversarial=dict()), learning_rate=1e-3)


def _diffusion(config):
    config.family = "diffusion"
    config.model.update(
        schedule=dict(name="cosine"),
        prediction="v",
        denoiser=dict(name="mlp_denoiser", width=32, depth=1),
    )
    config.players.denoiser = player(dict(denoising=dict()), learning_rate=1e-3)
    config.sample.options.steps = 2


@pytest.fixture
def tiny():
    """(family name) -> config: 8 steps on the digits, everything logged, nothing else on."""

    def build(name: str):
        config = default()
        config.name = name
        config.data.update(source="digits", image_shape=(8, 8, 1), num_classes=10)
        config.train.update(steps=8, batch_size=16, log_every=1, steps_per_dispatch=3)
        config.checkpoint.every = 100
        config.ema.rates = (0.9, 0.99)
        {"vae": _vae, "gan": _gan, "diffusion": _diffusion}[name](config)
        return config

    return build
