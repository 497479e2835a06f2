"""Flow matching with a diffusion transformer on CIFAR-10 (Peebles & Xie 2023; Lipman et al. 2023),
conditional on the class.

    jaxgen train    --config=configs/cifar10/dit.py --workdir=runs/cifar10_dit
    --config.data.data_dir=... jaxgen train    ... --config.model.denoiser.size=XL/2
    --config.parallel.fsdp=-1 --config.model.denoiser.remat=full jaxgen sample
    --workdir=runs/cifar10_dit --num=64 [--guidance=1.5]

Sizes S, B, L and XL, patches of 2, 4 or 8 pixels. Not yet trained here, since it needs an
accelerator, and so without numbers or cost of its own; what its steps take on 64 and 256 chips, as
the compiler counts it, is in docs/scaling.md."""

from jaxgen.config import default, player, smoke


def get_config(mode: str = ""):
    config = default()
    config.name = "DiT"
    config.family = "diffusion"
    config.conditional = True
    config.data.update(
        source="tfds:cifar10",
        image_shape=(32, 32, 3),
        num_classes=10,
        train="train",
        validation="test",
        flip=True,
    )
    config.model.update(
        schedule=dict(name="rectified"),
        prediction="velocity",
        condition_dropout=0.1,
        denoiser=dict(name="dit", size="S/2", dropout=0.0, remat="none"),
    )
    config.players.denoiser = player(
        terms=dict(denoising=dict()), learning_rate=1e-4, name="adamw", weight_decay=0.0
    )
    config.precision.compute = "bfloat16"
    config.ema.rates = (0.9999,)
    config.train.update(
        steps=400_000, batch_size=256, log_every=500, eval_every=10_000, sample_every=20_000
    )
    config.checkpoint.every = 10_000
    config.sample.options.update(steps=100, grid="linspace", eta=0.0, clip=False)
    config.evaluation.num = 50_000
    if mode == "smoke":
        config.model.denoiser = dict(
            name="dit", patch=8, width=16, depth=1, heads=2, dropout=0.0, remat="none"
        )
        config.sample.options.steps = 4
        smoke(config)
    return config
