"""VAE on CIFAR-10: residual convolutions, 128 latents, discretised logistic pixels, so that its
bound is in real bits/dim.

    jaxgen train    --config=configs/cifar10/vae.py --workdir=runs/cifar10_vae
    --config.data.data_dir=... jaxgen evaluate --workdir=runs/cifar10_vae

Not yet trained here, since it needs an accelerator, and so without numbers or cost of its own.
"""

from jaxgen.config import default, player, smoke


def get_config(mode: str = ""):
    config = default()
    config.name = "VAE"
    config.family = "autoencoder"
    config.data.update(
        source="tfds:cifar10", image_shape=(32, 32, 3), num_classes=10, flip=True,
        train="train[:45000]", validation="train[45000:]",
    )  # fmt: skip
    config.model.update(
        latent=128,
        likelihood=dict(name="discretized_logistic", scale="pixel"),
        encoder=dict(name="conv_encoder", channels=(64, 128, 256, 256)),
        decoder=dict(name="conv_decoder", channels=(64, 128, 256, 256)),
    )
    config.players.model = player(
        networks=("encoder", "decoder"),
        terms=dict(
            reconstruction=dict(),
            kl=dict(weight=dict(init=0.0, end=1.0, steps=5_000), free_bits=0.0),
        ),
        learning_rate=3e-4,
        warmup=1_000,
        decay="cosine",
        clip=1000.0,
    )
    config.train.update(
        steps=100_000, batch_size=128, log_every=200, eval_every=5_000, sample_every=10_000
    )
    config.checkpoint.update(every=5_000, best="validation/model/loss")
    config.evaluation.update(num=50_000, log_prob_images=10_000, log_prob=dict(num_samples=100))
    if mode == "smoke":
        config.model.encoder.channels = (8, 8)
        config.model.decoder.channels = (8, 8)
        config.evaluation.log_prob.num_samples = 4
        smoke(config)
    return config
