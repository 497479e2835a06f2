"""VAE-GAN on 8x8 digits (Larsen et al. 2016): the VAE's encoder, the GAN's generator as decoder,
and the GAN's critic, whose last hidden layer measures how far a reconstruction is from its image.

    jaxgen train --config=configs/digits/vae_gan.py --workdir=runs/digits_vae_gan

Expected: confident share 84.2 % (91 % of that of real images), coverage 92.4 %, after 27 s of
training on 2 CPU cores. `make demo` trains and measures it; the record is
benchmarks/results/trilemma_digits.json."""

from jaxgen.config import default, player, smoke


def get_config(mode: str = ""):
    config = default()
    config.name = "VAE-GAN"
    config.family = "autoencoder"
    config.data.update(source="digits", image_shape=(8, 8, 1), num_classes=10)
    mlp = dict(hidden=(256,) * 4, activation="silu")
    config.model.update(
        latent=8,
        likelihood=dict(name="gaussian", scale=1.0),
        encoder=dict(name="mlp_encoder", **mlp),
        decoder=dict(name="mlp_decoder", **mlp),
        critic=dict(
            name="mlp_critic", hidden=(256,) * 3, activation="leaky_relu", spectral_norm=False
        ),
    )
    adam = dict(learning_rate=1e-3, b1=0.0, b2=0.9, warmup=100, decay="cosine")
    loss = dict(loss="relativistic")
    # 2 / width: the mean over the layer of the squared difference
    feature = dict(weight=2.0 / 256, layers=(-1,))
    config.players.critic = player(terms=dict(critic=loss, r1=dict(weight=0.05)), **adam)
    config.players.decoder = player(terms=dict(adversarial=loss, feature=feature), **adam)
    config.players.encoder = player(terms=dict(kl=dict(weight=0.1), feature=feature), **adam)
    config.order = ("critic", "decoder", "encoder")
    config.ema.networks = ("decoder", "encoder")
    config.train.update(steps=3_000, batch_size=128, log_every=50, sample_every=3_000)
    config.checkpoint.every = 1_000
    config.sample.batch_size = 500
    return smoke(config) if mode == "smoke" else config
