"""Ablation: the path from images to noise, with the network predicting v on all of them.

jaxgen compare --config=experiments/ablations/noise_schedule.py
--workdir=runs/ablations/noise_schedule"""

from jaxgen.config import experiment, system

SCHEDULES = {
    "linear": dict(name="linear"),
    "linear, zero terminal SNR": dict(name="linear", zero_terminal_snr=True),
    "cosine": dict(name="cosine"),
    "cosine, continuous": dict(name="cosine_continuous"),
    "rectified": dict(name="rectified"),
}


def get_config(mode: str = ""):
    config = experiment(
        title="Which noise schedule?",
        question="The same network, trained to predict v along five paths from images to noise, "
        "and sampled in 100 steps.",
        systems=tuple(
            system("configs/digits/ddpm.py", name, **{"model.schedule": schedule})
            for name, schedule in SCHEDULES.items()
        ),
        mode=mode,
    )
    config.evaluation.num = 64 if mode == "smoke" else 898
    return config
