"""Images per second of the compiled train step against the same model in eager PyTorch.

    python experiments/benchmark_train_step.py [--out=benchmarks/results/train_step.json] [--smoke]

Model and training are those of configs/mnist/vae.py: an MLP VAE, 784-300-300-40-300-300-784 with relu, dynamically
binarised pixels under a Bernoulli likelihood, Adam, batches of 100. Both sides draw random batches from the same uint8
array in host memory, and do the whole step: scaling, binarisation, forward pass, loss, gradients, update,
and the moving average of the parameters. PyTorch gets all cores, the fused Adam and the faster of the usual ways to draw
the pixels (comparing uniform numbers; torch.bernoulli is slower), and computes nothing that training does not need.

Protocol: each side has a process of its own; 31 repeats of 100 steps in turn; the ratio is the median over the repeats.
Target: at least 1.8 x PyTorch.

PyTorch is no dependency: pip install torch --index-url https://download.pytorch.org/whl/cpu
"""

import importlib.metadata
import importlib.util
import os
import time

import benchmark_common as common
import numpy as np

CONFIG = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "configs", "mnist", "vae.py")
IMAGES, BATCH, WARM_UP = 4096, 100, 30


def random_images() -> np.ndarray:
    """Noise with the grey values of MNIST: four fifths of the pixels are black."""
    rng = np.random.default_rng(0)
    shape = (IMAGES, 28, 28, 1)
    return np.where(rng.random(shape) < 0.8, 0, rng.integers(0, 256, shape)).astype(np.uint8)


def per_second(step, finish):
    """The measurement of one side: images per second over `steps` steps on random batches."""
    images, rng = random_images(), np.random.default_rng(1)

    def run(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            step(images[rng.integers(0, IMAGES, BATCH)])
        finish()
        return steps * BATCH / (time.perf_counter() - start)

    run(WARM_UP)
    return run


def ours():
    """`jaxgen.training.create` on the config, as in a notebook."""
    import jax

    from jaxgen import config, families, training

    settings = config.load(CONFIG, {"data.source": "synthetic"})
    state, train_step = training.create(settings, families.build(settings))

    def step(images):
        nonlocal state
        state, _ = train_step(state, {"image": images, "label": np.zeros(BATCH, np.int32)})

    return per_second(step, lambda: jax.block_until_ready(state))


def pytorch(threads: int):
    """The same in eager PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.set_num_threads(threads)

    def mlp(*sizes):
        layers = [layer for a, b in zip(sizes, sizes[1:]) for layer in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(*layers[:-1])

    encoder, decoder = mlp(784, 300, 300, 80), mlp(40, 300, 300, 784)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    average = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)

    def step(images):
        grey = torch.from_numpy(images).reshape(BATCH, 784).float().div_(255)
        x = (torch.rand_like(grey) < grey).float()
        mean, log_variance = encoder(2 * x - 1).chunk(2, 1)
        logits = decoder(mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean))
        reconstruction = functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        optimizer.zero_grad(set_to_none=True)
        ((reconstruction + kl) / BATCH).backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 1e-3)

    return per_second(step, lambda: None)  # eager CPU operations are done when they return


def main(arguments=None) -> None:
    options = common.parse(arguments)
    if importlib.util.find_spec("torch") is None:
        raise SystemExit("PyTorch is missing: pip install torch --index-url https://download.pytorch.org/whl/cpu")
    repeats, steps = (3, 5) if options.smoke else (31, 100)
    with common.in_process(ours) as jaxgen, common.in_process(pytorch, common.cores()) as torch:
        measured = common.interleave({"jaxgen": lambda: jaxgen(steps), "PyTorch": lambda: torch(steps)}, repeats)
    ratio = common.compare(measured, "jaxgen", "PyTorch")
    common.show("images/s", measured)
    common.verdict("jaxgen / PyTorch", ratio, ">= 1.8 x")
    common.write(
        options.out,
        common.record(
            __doc__, torch=importlib.metadata.version("torch"), steps_per_repeat=steps,
            images_per_second=measured, ratio=ratio, target=1.8,
        ),
    )  # fmt: skip


if __name__ == "__main__":
    main()
