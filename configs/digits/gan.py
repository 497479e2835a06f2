"""GAN on 8x8 digits: multilayer perceptrons, the relativistic loss and a light R1 penalty.

    jaxgen train --config=configs/digits/gan.py --workdir=runs/digits_gan

Expected: confident share 86.9 % (94 % of that of real images), coverage 92.7 %, after 19 s of
training on 2 CPU cores. `make demo` trains and measures it; the record is
benchmarks/results/trilemma_digits.json."""

from jaxgen.config import default, player, smoke


def get_config(mode: str = ""):
    config = default()
    config.name = "GAN"
    config.family = "adversarial"
    config.data.update(source="digits", image_shape=(8, 8, 1), num_classes=10)
    config.model.update(
        latent=8,
        generator=dict(name="mlp_decoder", hidden=(256,) * 4, activation="silu"),
        critic=dict(
            name="mlp_critic", hidden=(256,) * 3, activation="leaky_relu", spectral_norm=False
        ),
    )
    adam = dict(learning_rate=1e-3, b1=0.0, b2=0.9, warmup=100, decay="cosine")
    loss = dict(loss="relativistic")
    config.players.critic = player(terms=dict(critic=loss, r1=dict(weight=0.05)), **adam)
    config.players.generator = player(terms=dict(adversarial=loss), **adam)
    config.order = ("critic", "generator")
    config.ema.networks = ("generator",)
    config.train.update(steps=4_000, batch_size=128, log_every=50, sample_every=4_000)
    config.checkpoint.every = 1_000
    config.sample.batch_size = 500
    return smoke(config) if mode == "smoke" else config
