"""GAN on CIFAR-10: hinge loss, spectral norm and five critic updates per step (after Miyato et al.
2018).

    jaxgen train --config=configs/cifar10/gan.py --workdir=runs/cifar10_gan
    --config.data.data_dir=...

Published for SNGAN, whose networks are close to these but not the same: FID 21.7. Not yet trained
here, since it needs an accelerator, and so without numbers or cost of its own."""

from jaxgen.config import default, player, smoke


def get_config(mode: str = ""):
    config = default()
    config.name = "GAN"
    config.family = "adversarial"
    config.data.update(
        source="tfds:cifar10",
        image_shape=(32, 32, 3),
        num_classes=10,
        train="train",
        validation="test",
        flip=True,
    )
    config.model.update(
        latent=128,
        generator=dict(name="conv_decoder", channels=(256, 256, 256, 256)),
        critic=dict(
            name="conv_critic", channels=(128, 128, 128, 128), spectral_norm=True, activation="relu"
        ),
    )
    adam = dict(learning_rate=2e-4, b1=0.0, b2=0.9, decay="linear")
    loss = dict(loss="hinge")
    config.players.critic = player(terms=dict(critic=loss), updates=5, **adam)
    config.players.generator = player(terms=dict(adversarial=loss), **adam)
    config.order = ("critic", "generator")
    config.ema.update(rates=(0.999,), networks=("generator",))
    config.train.update(steps=100_000, batch_size=64, log_every=200, sample_every=5_000)
    config.checkpoint.every = 5_000
    config.evaluation.num = 50_000
    if mode == "smoke":
        config.model.generator.channels = (8, 8)
        config.model.critic.channels = (8, 8)
        config.players.critic.updates = 2
        smoke(config)
    return config
