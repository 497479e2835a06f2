"""Diffusion on MNIST, for a CPU.

    jaxgen train --config=configs/mnist/ddpm.py --workdir=runs/mnist_ddpm --config.data.data_dir=...

EXPECTED
"""

from jaxgen.config import default, player, smoke


def get_config(mode: str = ""):
    config = default()
    config.name = "Diffusion"
    config.family = "diffusion"
    config.data.update(
        source="tfds:mnist", image_shape=(28, 28, 1), num_classes=10, train="train[:55000]", validation="train[55000:]"
    )
    config.model.update(
        schedule=dict(name="cosine_continuous"),
        prediction="v",
        denoiser=dict(
            name="unet", patch=2, channels=64, multipliers=(1, 2), blocks=1, attention=(), heads=1, dropout=0.0
        ),
    )
    config.players.denoiser = player(
        terms=dict(denoising=dict()), learning_rate=1e-3, warmup=200, decay="cosine", clip=1.0
    )
    config.train.update(steps=4_000, batch_size=128, log_every=50, eval_every=1_000, sample_every=1_000)
    config.checkpoint.every = 500
    config.sample.options.update(steps=50, grid="trailing", eta=1.0)
    config.evaluation.num = 1_000
    if mode == "smoke":
        config.model.denoiser.update(channels=8, multipliers=(1, 2))
        config.sample.options.steps = 4
        smoke(config)
    return config
