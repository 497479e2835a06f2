"""DDPM on CIFAR-10 as published (Ho et al. 2020): the 35.7M-parameter U-Net, linear schedule, noise
prediction.

    jaxgen train    --config=configs/cifar10/ddpm.py --workdir=runs/cifar10_ddpm
    --config.data.data_dir=... jaxgen sample   --workdir=runs/cifar10_ddpm --num=64 [--steps=50
    --eta=0]

Published (Ho et al. 2020, table 1): FID 3.17, Inception Score 9.46, at most 3.70 bits/dim (3.75 for
L_simple) after 800,000 steps. Not yet trained here, since it needs an accelerator, and so without
numbers or cost of its own. The parameter count, 35,746,307, is asserted by a test."""

from jaxgen.config import default, player, smoke


def get_config(mode: str = ""):
    config = default()
    config.name = "DDPM"
    config.family = "diffusion"
    config.data.update(
        source="tfds:cifar10",
        image_shape=(32, 32, 3),
        num_classes=10,
        train="train",
        validation="test",
        flip=True,
    )
    config.model.update(
        schedule=dict(name="linear"),
        prediction="noise",
        condition_dropout=0.1,  # with config.conditional, for guidance
        denoiser=dict(
            name="unet",
            channels=128,
            multipliers=(1, 2, 2, 2),
            blocks=2,
            attention=(16,),
            dropout=0.1,
            remat="none",
        ),
    )
    config.players.denoiser = player(
        terms=dict(denoising=dict()), learning_rate=2e-4, warmup=5_000, clip=1.0
    )
    config.ema.rates = (0.9999,)
    config.train.update(
        steps=800_000, batch_size=128, log_every=500, eval_every=10_000, sample_every=20_000
    )
    config.checkpoint.every = 10_000
    config.sample.options.update(steps=1000, grid="trailing", eta=1.0, variance="beta")
    config.evaluation.num = 50_000
    if mode == "smoke":
        config.model.denoiser.update(
            channels=8, multipliers=(1, 2), blocks=1, attention=(16,), dropout=0.1
        )
        config.sample.options.steps = 4
        smoke(config)
    return config
