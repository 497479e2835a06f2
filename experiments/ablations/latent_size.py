"""Ablation: the number of latent dimensions of the VAE.

jaxgen compare --config=experiments/ablations/latent_size.py --workdir=runs/ablations/latent_size
"""

from jaxgen.config import experiment, system


def get_config(mode: str = ""):
    config = experiment(
        title="How many latent dimensions does a VAE of digits need?",
        question="Too few cannot tell the images apart; of too many, most stay unused.",
        axis=dict(name="latent dimensions", log=True),
        systems=tuple(
            system("configs/digits/vae.py", f"{d} latent", value=d, **{"model.latent": d})
            for d in (1, 2, 3, 5, 8, 16, 32)
        ),
        mode=mode,
    )
    config.evaluation.num = 64 if mode == "smoke" else 898
    return config
