"""GAN on points in the plane: multilayer perceptrons, the relativistic loss and a light R1 penalty.

jaxgen train --config=configs/points/gan.py --workdir=runs/points_gan
[--config.data.source=points:moons --config.data.num_classes=2]"""

from jaxgen.config import default, player, smoke


def get_config(mode: str = ""):
    config = default()
    config.name = "GAN"
    config.family = "adversarial"
    config.data.update(
        source="points:eight_gaussians", space="points", image_shape=(2,), num_classes=8
    )
    config.model.update(
        latent=4,
        squash=False,  # points lie anywhere
        generator=dict(name="mlp_decoder", hidden=(128,) * 3, activation="silu"),
        critic=dict(
            name="mlp_critic", hidden=(128,) * 3, activation="leaky_relu", spectral_norm=False
        ),
    )
    adam = dict(learning_rate=1e-3, b1=0.0, b2=0.9, warmup=100, decay="cosine")
    loss = dict(loss="relativistic")
    config.players.critic = player(terms=dict(critic=loss, r1=dict(weight=0.05)), **adam)
    config.players.generator = player(terms=dict(adversarial=loss), **adam)
    config.order = ("critic", "generator")
    config.ema.networks = ("generator",)
    config.train.update(steps=4_000, batch_size=256, log_every=50, sample_every=4_000)
    config.checkpoint.every = 1_000
    return smoke(config) if mode == "smoke" else config
