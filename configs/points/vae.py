"""VAE on points in the plane: multilayer perceptrons, 2 latents, a Gaussian with one learned scale.

jaxgen train --config=configs/points/vae.py --workdir=runs/points_vae
[--config.data.source=points:moons --config.data.num_classes=2]"""

from jaxgen.config import default, player, smoke


def get_config(mode: str = ""):
    config = default()
    config.name = "VAE"
    config.family = "autoencoder"
    config.data.update(
        source="points:eight_gaussians", space="points", image_shape=(2,), num_classes=8
    )
    mlp = dict(hidden=(128,) * 3, activation="silu")
    config.model.update(
        latent=2,
        likelihood=dict(name="gaussian", scale="global"),
        encoder=dict(name="mlp_encoder", **mlp),
        decoder=dict(name="mlp_decoder", **mlp),
    )
    config.players.model = player(
        networks=("encoder", "decoder"),
        terms=dict(reconstruction=dict(), kl=dict()),
        learning_rate=1e-3,
        warmup=100,
        decay="cosine",
    )
    config.train.update(
        steps=4_000, batch_size=256, log_every=50, eval_every=1_000, sample_every=4_000
    )
    config.checkpoint.update(every=1_000, best="validation/model/loss")
    return smoke(config) if mode == "smoke" else config
