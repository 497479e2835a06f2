"""VAE-GAN on CIFAR-10 (Larsen et al. 2016): encoder, decoder and critic, with a distance learned by
the critic.

    jaxgen train --config=configs/cifar10/vae_gan.py --workdir=runs/cifar10_vae_gan
    --config.data.data_dir=...

Not yet trained here, since it needs an accelerator, and so without numbers or cost of its own.
"""

from jaxgen.config import default, player, smoke


def get_config(mode: str = ""):
    config = default()
    config.name = "VAE-GAN"
    config.family = "autoencoder"
    config.data.update(
        source="tfds:cifar10",
        image_shape=(32, 32, 3),
        num_classes=10,
        flip=True,
        train="train",
        validation="test",
    )
    config.model.update(
        latent=128,
        likelihood=dict(name="gaussian", scale=1.0),
        encoder=dict(name="conv_encoder", channels=(64, 128, 256, 256)),
        decoder=dict(name="conv_decoder", channels=(64, 128, 256, 256)),
        critic=dict(name="conv_critic", channels=(64, 128, 256, 256), spectral_norm=False),
    )
    adam = dict(learning_rate=2e-4, b1=0.0, b2=0.99)
    loss = dict(loss="non_saturating")
    config.players.critic = player(terms=dict(critic=loss, r1=dict(weight=1.0)), **adam)
    config.players.decoder = player(
        terms=dict(adversarial=loss, feature=dict(weight=1e-3, layers=(-1,))), **adam
    )
    config.players.encoder = player(
        terms=dict(kl=dict(weight=1e-3), feature=dict(weight=1e-3, layers=(-1,))), **adam
    )
    config.order = ("critic", "decoder", "encoder")
    config.ema.networks = ("encoder", "decoder")
    config.train.update(steps=200_000, batch_size=64, log_every=200, sample_every=5_000)
    config.checkpoint.every = 5_000
    config.evaluation.num = 50_000
    if mode == "smoke":
        for network in ("encoder", "decoder", "critic"):
            config.model[network].channels = (8, 8)
        smoke(config)
    return config
