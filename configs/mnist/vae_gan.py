"""VAE-GAN on MNIST (Larsen et al. 2016): the GAN's networks with an encoder, and a distance learned
by the critic.

    jaxgen train --config=configs/mnist/vae_gan.py --workdir=runs/mnist_vae_gan
    --config.data.data_dir=... jaxgen evaluate --workdir=runs/mnist_vae_gan

Expected: FD-pixels 1.84 and coverage 83 % on 10,000 samples (real images: 0.46 and 95 %), after
about 4 minutes of training on 2 busy CPU cores. Record: benchmarks/results/mnist_vae_gan.json."""

from jaxgen.config import default, player, smoke


def get_config(mode: str = ""):
    config = default()
    config.name = "VAE-GAN"
    config.family = "autoencoder"
    config.data.update(
        source="tfds:mnist",
        image_shape=(28, 28, 1),
        num_classes=10,
        train="train[:55000]",
        validation="train[55000:]",
    )
    mlp = dict(hidden=(512,) * 4, activation="silu")
    config.model.update(
        latent=16,
        likelihood=dict(name="gaussian", scale=1.0),
        encoder=dict(name="mlp_encoder", **mlp),
        decoder=dict(name="mlp_decoder", **mlp),
        critic=dict(
            name="mlp_critic", hidden=(512,) * 3, activation="leaky_relu", spectral_norm=False
        ),
    )
    adam = dict(learning_rate=5e-4, b1=0.0, b2=0.9, warmup=200, decay="cosine")
    loss = dict(loss="relativistic")
    # 2 / width: the mean over the layer of the squared difference
    feature = dict(weight=2.0 / 512, layers=(-1,))
    config.players.critic = player(terms=dict(critic=loss, r1=dict(weight=0.1)), **adam)
    config.players.decoder = player(terms=dict(adversarial=loss, feature=feature), **adam)
    config.players.encoder = player(terms=dict(kl=dict(weight=0.03), feature=feature), **adam)
    config.order = ("critic", "decoder", "encoder")
    config.ema.networks = ("decoder", "encoder")
    config.train.update(steps=8_000, batch_size=128, log_every=200, sample_every=4_000)
    config.checkpoint.every = 2_000
    config.evaluation.num = 10_000
    return smoke(config) if mode == "smoke" else config
