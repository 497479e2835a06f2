"""Diffusion on points in the plane: a residual perceptron conditioned on time, v-prediction on the
cosine path, 100 DDPM steps.

    jaxgen train --config=configs/points/ddpm.py --workdir=runs/points_ddpm
    [--config.data.source=points:moons --config.data.num_classes=2]"""

from jaxgen.config import default, player, smoke


def get_config(mode: str = ""):
    config = default()
    config.name = "Diffusion"
    config.family = "diffusion"
    config.data.update(
        source="points:eight_gaussians", space="points", image_shape=(2,), num_classes=8
    )
    config.model.update(
        schedule=dict(name="cosine_continuous"),
        prediction="v",
        condition_dropout=0.1,  # with config.conditional, for guidance
        denoiser=dict(name="mlp_denoiser", width=128, depth=3, embedding=64),
    )
    config.players.denoiser = player(
        terms=dict(denoising=dict()), learning_rate=2e-3, warmup=100, decay="cosine"
    )
    config.train.update(
        steps=4_000, batch_size=256, log_every=50, eval_every=1_000, sample_every=4_000
    )
    config.checkpoint.every = 1_000
    config.sample.options.update(steps=100, grid="trailing", eta=1.0)
    if mode == "smoke":
        config.model.denoiser.update(width=32, depth=1)
        config.sample.options.steps = 4
        smoke(config)
    return config
