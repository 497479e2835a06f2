"""Diffusion on the images of any folder: a U-Net with v-prediction on the cosine path.

    jaxgen train --config=configs/folder/ddpm.py --workdir=runs/mine
    --config.data.source=folder:/path/to/images '--config.data.image_shape=(32,32,3)'
    jaxgen sample --workdir=runs/mine --num=64

Images of other sizes: --config.data.resize=crop (or squash). Height and width must be multiples of
4. Only the split `train` is needed to train and sample, which is the whole folder where it has no
subfolders for splits; docs/data.md says how folders may look. `jaxgen evaluate` also needs a split
`test`."""

from jaxgen.config import default, player, smoke


def get_config(mode: str = ""):
    config = default()
    config.name = "Diffusion"
    config.family = "diffusion"
    config.data.update(source="folder:", image_shape=(32, 32, 3), flip=True)
    config.model.update(
        schedule=dict(name="cosine_continuous"),
        prediction="v",
        condition_dropout=0.1,  # with config.conditional, for guidance
        denoiser=dict(
            name="unet", channels=64, multipliers=(1, 2, 2), blocks=2, attention=(16,), dropout=0.1
        ),
    )
    config.players.denoiser = player(
        terms=dict(denoising=dict()), learning_rate=2e-4, warmup=1_000, clip=1.0
    )
    config.ema.rates = (0.999, 0.9999)
    config.train.update(steps=100_000, batch_size=64, log_every=100, sample_every=5_000)
    config.checkpoint.every = 2_500
    config.sample.options.update(steps=100, grid="trailing", eta=1.0)
    if mode == "smoke":
        config.model.denoiser.update(channels=8, multipliers=(1, 2), blocks=1, attention=(16,))
        config.sample.options.steps = 4
        smoke(config)
    return config
