"""Ablation: the adversarial loss, on images of three stacked digits (1,000 modes), where lost modes
can be counted.

    jaxgen compare --config=experiments/ablations/gan_loss.py --workdir=runs/ablations/gan_loss

All have the same networks, optimiser, number of critic steps and R1 penalty, but for the
Wasserstein loss, which has its own penalty."""

from jaxgen.config import experiment, system

LOSSES = {
    "minimax": "minimax",
    "non-saturating": "non_saturating",
    "hinge": "hinge",
    "least squares": "least_squares",
    "relativistic": "relativistic",
}


def get_config(mode: str = ""):
    def one(name, loss, **penalty):
        fields = {
            "data.source": "stacked:digits",
            "data.image_shape": (8, 8, 3),
            "data.num_classes": 1000,
            "model.latent": 24,
            "players.critic.terms": dict(
                critic=dict(loss=loss), **(penalty or dict(r1=dict(weight=0.05)))
            ),
            "players.generator.terms.adversarial.loss": loss,
        }
        return system("configs/digits/gan.py", name, **fields)

    config = experiment(
        title="Which adversarial loss keeps the modes?",
        question="Each image stacks three random digits as red, green and blue, so there are 1,000 "
        "kinds of images. How many of "
        "them does each loss keep?",
        systems=(
            *(one(name, loss) for name, loss in LOSSES.items()),
            one("Wasserstein", "wasserstein", gradient_penalty=dict(weight=10.0)),
        ),
        mode=mode,
    )
    config.evaluation.num = 64 if mode == "smoke" else 10_000
    return config
