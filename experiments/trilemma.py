"""The generative trilemma on real 8x8 digits: quality, sampling speed and diversity of four
families.

    jaxgen compare --config=experiments/trilemma.py --workdir=runs/trilemma

trains a VAE, a GAN, a VAE-GAN and a diffusion model one after the other and writes
runs/trilemma/report.html."""

from jaxgen.config import experiment


def get_config(mode: str = ""):
    config = experiment(
        title="The generative trilemma on 8x8 digits",
        question="Four families learn the same 898 scanned digits with the same train step. Which "
        "gives the best samples, "
        "which gives them fastest, and which covers the most of what real digits look like?",
        systems=tuple(
            f"configs/digits/{system}.py" for system in ("vae", "gan", "vae_gan", "ddpm")
        ),
        mode=mode,
    )
    config.evaluation.update(num=1000, seeds=(0, 1, 2))
    if mode == "smoke":
        config.evaluation.update(num=64, seeds=(0, 1))
    return config
