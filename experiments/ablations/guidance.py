"""Ablation: the weight of classifier-free guidance of a diffusion model that sees the class. One
training run.

jaxgen compare --config=experiments/ablations/guidance.py --workdir=runs/ablations/guidance
"""

from jaxgen.config import experiment, system


def get_config(mode: str = ""):
    steps = 4 if mode == "smoke" else 100
    config = experiment(
        title="What does guidance buy, and what does it cost?",
        question="One class-conditional model; the weight pushes samples towards what tells their "
        "class from others.",
        axis=dict(name="guidance weight", log=False),
        systems=tuple(
            system(
                "configs/digits/ddpm.py",
                f"guidance {w:g}",
                value=w,
                **{
                    "conditional": True,
                    "sample.options": dict(steps=steps, grid="trailing", eta=1.0, guidance=w),
                },
            )
            for w in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0)
        ),
        mode=mode,
    )
    config.evaluation.num = 64 if mode == "smoke" else 898
    return config
