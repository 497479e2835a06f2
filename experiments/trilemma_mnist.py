"""The generative trilemma on MNIST: the four families of the digits' comparison, 10,000 samples and
three seeds each.

    jaxgen compare --config=experiments/trilemma_mnist.py --workdir=runs/trilemma_mnist
    --config.data_dir=...

MNIST has to be prepared (`tfds build mnist --file_format=array_record`) in data_dir.
"""

from jaxgen.config import experiment


def get_config(mode: str = ""):
    config = experiment(
        title="The generative trilemma on MNIST",
        question="Four families learn the same 55,000 handwritten digits with the same train step. "
        "Which gives the best samples, "
        "which gives them fastest, and which covers the most of what real digits look like?",
        systems=tuple(f"configs/mnist/{system}.py" for system in ("vae", "gan", "vae_gan", "ddpm")),
        mode=mode,
    )
    config.evaluation.update(num=10_000, seeds=(0, 1, 2))
    if mode == "smoke":
        config.evaluation.update(num=64, seeds=(0, 1))
    return config
