"""Progressive distillation (Salimans & Ho 2022) of the digits' diffusion model: 8 DDIM steps.

    jaxgen train --config=configs/digits/ddpm.py --workdir=runs/digits_ddpm
    jaxgen train --config=configs/digits/distilled.py --workdir=runs/digits_8 \
        --config.pretrained.teacher.workdir=runs/digits_ddpm \
        --config.pretrained.denoiser.workdir=runs/digits_ddpm

The teacher is frozen: no player trains it, and the run keeps a copy. Half as many steps again:
name runs/digits_8 in place of runs/digits_ddpm, with --config.model.steps=4.
"""

from jaxgen.config import default, player, smoke


def get_config(mode: str = ""):
    config = default()
    config.name = "Distilled diffusion"
    config.family = "distillation"
    config.data.update(source="digits", image_shape=(8, 8, 1), num_classes=10)
    config.model.update(
        schedule=dict(name="cosine_continuous"),
        prediction="v",
        denoiser=dict(name="mlp_denoiser", width=512, depth=3, embedding=128),
        steps=8,
    )
    for network in ("teacher", "denoiser"):
        config.pretrained[network] = dict(workdir="", network="denoiser", ema="")
    terms = dict(denoising=dict())
    config.players.denoiser = player(terms, learning_rate=3e-4, warmup=100, decay="cosine")
    config.train.update(
        steps=2_000, batch_size=128, log_every=50, eval_every=1_000, sample_every=2_000
    )
    config.checkpoint.every = 1_000
    config.sample.batch_size = 500
    config.sample.options.update(steps=8, grid="trailing", eta=0.0)
    if mode == "smoke":
        config.model.denoiser.update(width=64, depth=1)
        smoke(config)
        for network in config.pretrained:
            config.pretrained[network].workdir = "none"  # weights as they are drawn
    return config
