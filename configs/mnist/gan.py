"""GAN on MNIST: multilayer perceptrons, the relativistic loss and an R1 penalty.

    jaxgen train --config=configs/mnist/gan.py --workdir=runs/mnist_gan --config.data.data_dir=...
    jaxgen evaluate --workdir=runs/mnist_gan

Expected: FD-pixels 2.95 and coverage 65 % on 10,000 samples (real images: 0.46 and 95 %), after
about 4 minutes of training on 2 busy CPU cores. Record: benchmarks/results/mnist_gan.json."""

from jaxgen.config import default, player, smoke


def get_config(mode: str = ""):
    config = default()
    config.name = "GAN"
    config.family = "adversarial"
    config.data.update(
        source="tfds:mnist",
        image_shape=(28, 28, 1),
        num_classes=10,
        train="train[:55000]",
        validation="train[55000:]",
    )
    config.model.update(
        latent=16,
        generator=dict(name="mlp_decoder", hidden=(512,) * 4, activation="silu"),
        critic=dict(
            name="mlp_critic", hidden=(512,) * 3, activation="leaky_relu", spectral_norm=False
        ),
    )
    adam = dict(learning_rate=5e-4, b1=0.0, b2=0.9, warmup=200, decay="cosine")
    loss = dict(loss="relativistic")
    config.players.critic = player(terms=dict(critic=loss, r1=dict(weight=0.1)), **adam)
    config.players.generator = player(terms=dict(adversarial=loss), **adam)
    config.order = ("critic", "generator")
    config.ema.networks = ("generator",)
    config.train.update(steps=8_000, batch_size=128, log_every=200, sample_every=4_000)
    config.checkpoint.every = 2_000
    config.evaluation.num = 10_000
    return smoke(config) if mode == "smoke" else config
