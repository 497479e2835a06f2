"""Super-resolution of 8x8 digits from 4x4: a diffusion model whose condition is the small image.

    jaxgen train  --config=configs/digits/super_resolution.py --workdir=runs/digits_super_resolution
    jaxgen sample --workdir=runs/digits_super_resolution --num=64

Samples are drawn for small images of the held-out half. The condition is a column derived from
the image (`config.data.columns`), left out in a tenth of the examples, so that guidance works.
"""

from jaxgen.config import default, player, smoke


def get_config(mode: str = ""):
    config = default()
    config.name = "Super-resolution"
    config.family = "diffusion"
    config.conditional = ("small",)
    config.data.update(source="digits", image_shape=(8, 8, 1), num_classes=10)
    config.data.columns.small = dict(name="downsample", factor=2)
    config.model.update(
        schedule=dict(name="cosine_continuous"),
        prediction="v",
        condition_dropout=0.1,
        denoiser=dict(name="mlp_denoiser", width=512, depth=3, embedding=128),
    )
    terms = dict(denoising=dict())
    config.players.denoiser = player(terms, learning_rate=2e-3, warmup=100, decay="cosine")
    config.train.update(
        steps=3_000, batch_size=128, log_every=50, eval_every=1_000, sample_every=3_000
    )
    config.checkpoint.every = 1_000
    config.sample.batch_size = 500
    config.sample.options.update(steps=50, grid="trailing", eta=1.0)
    if mode == "smoke":
        config.model.denoiser.update(width=64, depth=1)
        config.sample.options.steps = 4
        smoke(config)
    return config
