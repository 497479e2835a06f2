"""Diffusion on MNIST for a CPU: a residual perceptron on the whole image, which is all matrix
products, that predicts the clean image. (At this width it has no room to carry the noise of 784
pixels through, which predicting noise or v would need.)

    jaxgen train --config=configs/mnist/ddpm.py --workdir=runs/mnist_ddpm --config.data.data_dir=...
    jaxgen evaluate --workdir=runs/mnist_ddpm

Expected: digits that a person reads (benchmarks/results/mnist_ddpm.png) after 5 min 41 s of
training on 2 CPU cores; FD-pixels 4.7 on 1,000 samples (as many real images: 1.8). Record:
benchmarks/results/mnist_ddpm.json."""

from jaxgen.config import default, player, smoke


def get_config(mode: str = ""):
    config = default()
    config.name = "Diffusion"
    config.family = "diffusion"
    config.data.update(
        source="tfds:mnist",
        image_shape=(28, 28, 1),
        num_classes=10,
        train="train[:55000]",
        validation="train[55000:]",
    )
    config.model.update(
        schedule=dict(name="cosine_continuous"),
        prediction="x0",
        condition_dropout=0.1,  # with config.conditional, for guidance
        denoiser=dict(name="mlp_denoiser", width=1024, depth=4),
    )
    config.players.denoiser = player(
        terms=dict(denoising=dict()), learning_rate=1e-3, warmup=200, decay="cosine", clip=1.0
    )
    config.train.update(
        steps=4_000, batch_size=256, log_every=50, eval_every=1_000, sample_every=1_000
    )
    config.checkpoint.every = 500
    config.sample.options.update(steps=100, grid="trailing", eta=1.0)
    config.evaluation.num = 1_000
    if mode == "smoke":
        config.model.denoiser.update(width=64, depth=1)
        config.sample.options.steps = 4
        smoke(config)
    return config
