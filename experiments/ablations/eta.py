"""Ablation: the sampler's noise, from none (DDIM) to that of DDPM, in few steps. One training run.

jaxgen compare --config=experiments/ablations/eta.py --workdir=runs/ablations/eta
"""

from jaxgen.config import experiment, system


def get_config(mode: str = ""):
    config = experiment(
        title="How much noise should the sampler add?",
        question="One trained model in 20 steps: eta = 0 is DDIM, eta = 1 is DDPM.",
        axis=dict(name="eta", log=False),
        systems=tuple(
            system(
                "configs/digits/ddpm.py",
                f"eta {eta:g}",
                value=eta,
                **{"sample.options.eta": eta, "sample.options.steps": 4 if mode == "smoke" else 20},
            )
            for eta in (0.0, 0.25, 0.5, 0.75, 1.0)
        ),
        mode=mode,
    )
    config.evaluation.num = 64 if mode == "smoke" else 898
    return config
