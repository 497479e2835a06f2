"""Diffusion on 8x8 digits: a residual perceptron conditioned on time, v-prediction on the cosine
path, 100 DDPM steps.

    jaxgen train --config=configs/digits/ddpm.py --workdir=runs/digits_ddpm

Expected: confident share 92.2 % (100 % of that of real images), coverage 95.1 %, after 56 s of
training on 2 CPU cores; 87 % of the samples lie nearer to a training image than to a held-out one
(54 % of other real images do). `make demo` trains and measures it; the record is
benchmarks/results/trilemma_digits.json."""

from jaxgen.config import default, player, smoke


def get_config(mode: str = ""):
    config = default()
    config.name = "Diffusion"
    config.family = "diffusion"
    config.data.update(source="digits", image_shape=(8, 8, 1), num_classes=10)
    config.model.update(
        schedule=dict(name="cosine_continuous"),
        prediction="v",
        condition_dropout=0.1,  # with config.conditional, for guidance
        denoiser=dict(name="mlp_denoiser", width=512, depth=3, embedding=128),
    )
    config.players.denoiser = player(
        terms=dict(denoising=dict()), learning_rate=2e-3, warmup=100, decay="cosine"
    )
    config.train.update(
        steps=6_000, batch_size=128, log_every=50, eval_every=1_000, sample_every=6_000
    )
    config.checkpoint.every = 1_000
    config.sample.batch_size = 500
    config.sample.options.update(steps=100, grid="trailing", eta=1.0)
    if mode == "smoke":
        config.model.denoiser.update(width=64, depth=1)
        config.sample.options.steps = 4
        smoke(config)
    return config
