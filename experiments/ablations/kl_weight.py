"""Ablation: the weight of the VAE's KL term, from none (an autoencoder) to far above the bound's
own 1.

jaxgen compare --config=experiments/ablations/kl_weight.py --workdir=runs/ablations/kl_weight
"""

from jaxgen.config import experiment, system

WEIGHTS = (0.0, 0.1, 0.5, 1.0, 2.0, 4.0, 10.0)


def get_config(mode: str = ""):
    config = experiment(
        title="How strongly should a VAE be held to its prior?",
        question="Without the KL term, codes of images lie where the prior never draws; with too "
        "much of it they carry nothing. "
        "The bound itself has weight 1.",
        axis=dict(name="KL weight", log=False),
        systems=tuple(
            system(
                "configs/digits/vae.py",
                f"KL × {w:g}",
                value=w,
                **{"players.model.terms.kl.weight": w},
            )
            for w in WEIGHTS
        ),
        mode=mode,
    )
    config.evaluation.num = 64 if mode == "smoke" else 898
    return config
