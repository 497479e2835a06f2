"""VAE on 8x8 digits."""

from jaxgen.config import default, player


def get_config(mode: str = ""):
    config = default()
    config.name = "VAE"
    config.family = "autoencoder"
    config.data.update(source="digits", image_shape=(8, 8, 1), num_classes=10)
    config.model.update(
        latent=8,
        likelihood=dict(name="gaussian", scale="global"),
        encoder=dict(name="mlp_encoder", hidden=(256, 256)),
        decoder=dict(name="mlp_decoder", hidden=(256, 256)),
    )
    config.players.model = player(
        networks=("encoder", "decoder"), terms=dict(reconstruction=dict(), kl=dict()), learning_rate=1e-3
    )
    config.train.update(steps=2000, batch_size=128)
    return config
