"""Ablation: the number of steps in which the diffusion model samples. One training run.

jaxgen compare --config=experiments/ablations/sampling_steps.py
--workdir=runs/ablations/sampling_steps"""

from jaxgen.config import experiment, system


def get_config(mode: str = ""):
    config = experiment(
        title="How many steps does sampling need?",
        question="One trained model, sampled with its own noise (DDPM, eta = 1) in 10 to 1,000 "
        "network calls.",
        axis=dict(name="sampling steps", log=True),
        systems=tuple(
            system("configs/digits/ddpm.py", f"{n} steps", value=n, **{"sample.options.steps": n})
            for n in ((2, 4) if mode == "smoke" else (10, 20, 50, 100, 250, 500, 1000))
        ),
        mode=mode,
    )
    config.evaluation.num = 64 if mode == "smoke" else 898
    return config
