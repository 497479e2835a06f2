"""Ablation: what the diffusion model's network predicts.

jaxgen compare --config=experiments/ablations/prediction.py --workdir=runs/ablations/prediction
"""

from jaxgen.config import experiment, system

# on the linear schedule, whose end keeps a trace of the image: at alpha = 0 the noise would tell
# nothing
NAMES = {"noise": "noise", "x0": "clean image", "v": "v", "velocity": "velocity"}


def get_config(mode: str = ""):
    config = experiment(
        title="What should a denoiser predict?",
        question="The same network and schedule; it predicts the noise, the clean image, v, or the "
        "velocity of the path.",
        systems=tuple(
            system(
                "configs/digits/ddpm.py",
                name,
                **{"model.schedule": dict(name="linear"), "model.prediction": kind},
            )
            for kind, name in NAMES.items()
        ),
        mode=mode,
    )
    config.evaluation.num = 64 if mode == "smoke" else 898
    return config
