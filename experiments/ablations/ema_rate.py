"""Ablation: the rate of the parameters' moving average that samples are drawn from. One training
run keeps all.

jaxgen compare --config=experiments/ablations/ema_rate.py --workdir=runs/ablations/ema_rate
"""

from jaxgen.config import experiment, system

# the averages warm up: after t steps their rate is at most (1 + t) / (10 + t), 0.9978 at the end of
# the GAN's 4,000
RATES = (0.9, 0.99, 0.995, 0.997)
# without decay, the last parameters are still in motion
FIELDS = {
    "ema.rates": RATES,
    "players.generator.optimizer.decay": "constant",
    "players.critic.optimizer.decay": "constant",
}


def get_config(mode: str = ""):
    config = experiment(
        title="How slowly should parameters be averaged?",
        question="One GAN, whose generator keeps circling: samples from its last parameters and "
        "from moving averages of them.",
        systems=(
            system("configs/digits/gan.py", "no average", **FIELDS, **{"sample.ema": "none"}),
            *(
                system(
                    "configs/digits/gan.py", f"rate {rate}", **FIELDS, **{"sample.ema": str(rate)}
                )
                for rate in RATES
            ),
        ),
        mode=mode,
    )
    config.evaluation.num = 64 if mode == "smoke" else 898
    return config
