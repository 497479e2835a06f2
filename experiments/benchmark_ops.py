"""What each of the fast forms for CPUs gives: the train step with one of them replaced by the plain
form.

    python experiments/benchmark_ops.py [--out=benchmarks/results/ops.json] [--only=unet_8]
    [--smoke]

A form that saves less than a tenth of a step is not worth its lines and goes.

Protocol: the U-Nets of experiments/benchmark.py, trained as `jaxgen train` does it, several steps
in a loop; all sides in one process, repeats in turn, at most half a minute a side; ratios of the
lowest seconds a step, by the clock and of the processor, without a form to with all of them."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import benchmark
import benchmark_common as common

WORKLOADS = {"unet_8": 6, "unet_28": 2}  # name -> steps in a call
REPEATS, SECONDS = 12, 30.0
EVERYTHING = "everything"


def forms() -> dict[str, tuple[Any, str, Any]]:
    """name -> (module, attribute, what stands there without the form)."""
    import jax

    from jaxgen import programs
    from jaxgen.networks import cpu, ops

    def conv(x, kernel, strides=(1, 1)):
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, strides, "SAME", dimension_numbers=layout)

    def conv_upsampled(x, kernel):
        return cpu.conv(ops.upsample(x), kernel.astype(x.dtype))

    def group_norm(*arguments):
        on_cpu, ops.on_cpu = ops.on_cpu, lambda: False
        try:
            return ops.group_norm(*arguments)
        finally:
            ops.on_cpu = on_cpu

    return {
        "up-sampling folded into the kernel": (cpu, "conv_upsampled", conv_upsampled),
        "group norm by channel sums": (cpu, "group_norm", group_norm),
        "kernel gradients in parts": (cpu, "MANY_PLACES", 10**9),
        "compiler options": (programs, "_compiler_options", lambda: {}),
        "convolution primitive": (cpu, "conv", conv),
    }


@contextlib.contextmanager
def without(module: Any, name: str, other: Any) -> Iterator[None]:
    """`module.name` replaced for a while."""
    kept = getattr(module, name)
    setattr(module, name, other)
    try:
        yield
    finally:
        setattr(module, name, kept)


def seconds(run: Callable[[int], float], steps: int) -> dict[str, float]:
    """Of one step, by the clock and of the processor."""
    before = time.process_time()
    clock = 1.0 / run(steps)
    return {"clock": clock, "processor": (time.process_time() - before) / steps}


def measure(workload: str, smoke: bool) -> dict[str, Any]:
    """{side: lowest seconds and their ratio to those of everything}."""
    settings, steps = benchmark.settings_of(workload), WORKLOADS[workload]
    sides = {}
    for name, change in {EVERYTHING: None, **forms()}.items():
        with without(*change) if change else contextlib.nullcontext():
            sides[name], _ = common.trainer(settings, steps)
        print(f"{workload}: compiled {name}", flush=True)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for _ in range(1 if smoke else REPEATS):
        for name, run in sides.items():
            if sum(row["clock"] * steps for row in found[name]) < SECONDS:
                found[name].append(seconds(run, steps))
    lowest = {
        name: {kind: min(row[kind] for row in rows) for kind in rows[0]}
        for name, rows in found.items()
    }
    for name, row in lowest.items():
        row |= {f"{kind}_ratio": row[kind] / lowest[EVERYTHING][kind] for kind in list(row)}
        print(
            f"{workload} without {name:>36}: {row['clock_ratio']:.2f} x the time, "
            f"{row['processor_ratio']:.2f} x the processor's"
        )
    return lowest


def main(arguments=None) -> None:
    options = common.parse(arguments, only=list(WORKLOADS))
    os.environ["JAX_PLATFORMS"] = "cpu"
    chosen = [name for name in WORKLOADS if options.only in ("", name)]
    found = {name: measure(name, options.smoke) for name in chosen}
    common.write(options.out, common.record(__doc__, without=found))


if __name__ == "__main__":
    main()
