"""Steps per second of `jaxgen train` against a hand-written loop over the same compiled step.

    python experiments/benchmark_loop.py [--out=benchmarks/results/loop.json] [--smoke]

Ours is `jaxgen.training.train` as the command runs it: progress bar on a terminal, scalars to
metrics.jsonl and TensorBoard as often as the config says, a check that the loss is finite; no
validation, no sample grids, no checkpoint before the end. The hand-written loop shuffles, gathers
and steps, and reads one loss as often as ours logs. Two systems: configs/mnist/vae.py on synthetic
images of MNIST's size, and configs/digits/vae.py, whose steps are short and which logs often.

Protocol: 7 repeats in turn; on both sides the steps up to the first log are left out, with all that
starts and compiles, and the rest of 1,500 (mnist) or 3,000 (digits) steps is timed; the ratio is
the median over the repeats.
Target: at least 0.95 x the hand-written loop's steps per second.
"""

import contextlib
import io
import os
import tempfile
import time

import benchmark_common as common
import jax
import numpy as np

from jaxgen import config, data, families, training
from jaxgen.training import logging

CONFIGS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "configs")
SYSTEMS = {  # name: (config file, overrides, steps)
    "mnist": ("mnist/vae.py", {"data.source": "synthetic", "data.train": "train"}, 1_500),
    "digits": ("digits/vae.py", {}, 3_000),
}
QUIET = {
    "train.eval_every": 0,
    "train.sample_every": 0,
    "checkpoint.every": 10**9,
    "checkpoint.best": "",
}


class Terminal(io.StringIO):
    """Somewhere for the progress bar to be drawn."""

    def isatty(self) -> bool:
        return True


def load(name: str, smoke: bool):
    """The system's config, for this measurement."""
    file, overrides, steps = SYSTEMS[name]
    settings = config.load(
        os.path.join(CONFIGS, file), {**overrides, **QUIET, "train.steps": steps}
    )
    if smoke:
        settings.train.update(steps=60, log_every=20)
    return settings


def ours(settings) -> float:
    """Steps per second of a new run, from its first log to its last."""
    with tempfile.TemporaryDirectory() as workdir, contextlib.redirect_stderr(Terminal()):
        training.train(settings, workdir, report=lambda text: None)
        rows = [row for row in logging.read_metrics(workdir) if "seconds" in row]
    return (rows[-1]["step"] - rows[0]["step"]) / (rows[-1]["seconds"] - rows[0]["seconds"])


def by_hand(settings):
    """A function that runs the bare loop: steps per second, compilation and the first steps left
    out.
    """
    source = data.from_config(settings, "train").everything()
    state, step = training.create(settings, families.build(settings))
    rng, size, every = np.random.default_rng(0), settings.train.batch_size, settings.train.log_every

    def batches():
        while True:
            order = rng.permutation(len(source.images))
            for start in range(0, len(order) - size + 1, size):
                rows = order[start : start + size]
                yield {"image": source.images[rows], "label": source.labels[rows]}

    def run(steps: int) -> None:
        nonlocal state
        for done, batch in zip(range(1, steps + 1), batches()):
            state, metrics = step(state, batch)
            if done % every == 0:
                float(metrics["model/loss"])

    run(every)

    def measure() -> float:
        steps = settings.train.steps - every
        start = time.perf_counter()
        run(steps)
        jax.block_until_ready(state)
        return steps / (time.perf_counter() - start)

    return measure


def main(arguments=None) -> None:
    options = common.parse(arguments)
    systems = {}
    for name in SYSTEMS:
        settings = load(name, options.smoke)
        sides = {
            "jaxgen train": lambda settings=settings: ours(settings),
            "by hand": by_hand(settings),
        }
        measured = common.interleave(sides, 2 if options.smoke else 7)
        systems[name] = {
            "steps_per_second": measured,
            "ratio": common.compare(measured, "jaxgen train", "by hand"),
        }
        common.show(f"steps/s, {name}", measured)
        common.verdict(f"jaxgen train / by hand, {name}", systems[name]["ratio"], ">= 0.95 x")
    common.write(options.out, common.record(__doc__, systems=systems, target=0.95))


if __name__ == "__main__":
    main()
