"""Seconds of the sampler against a bare `lax.scan`, and seconds to compile it.

    python experiments/benchmark_sampler.py [--out=benchmarks/results/sampler.json] [--smoke]

Both draw 8 images of 32x32x3 by 250 DDIM steps on the linear schedule of Ho et al. 2020, for data
that are independent Gaussian pixels, so that the denoiser is known in closed form and costs next to
nothing: what is timed is the sampler. Ours is `jaxgen.diffusion.sampler.sample` with a denoiser
that asks the schedule for its coefficients at each time. The bare scan has all numbers in tables
made beforehand and does the arithmetic of one step and nothing else.

Protocol: 15 repeats of 100 calls in turn; the ratio is the median over the repeats. Compile time is
that of tracing, lowering and compiling a new function with all caches cleared before each of 7
repeats, and no persistent cache.
Targets: at most 2 x the bare scan; compiled in at most 0.5 s.
"""

import math
import statistics
import time

import benchmark_common as common
import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.diffusion import grids, sampler, schedule, solvers

COUNT, SHAPE, STEPS = 8, (32, 32, 3), 250
MEAN, STD = 0.2, 0.5


def ours():
    """keys [N] -> images, by the library."""
    path = schedule.build("linear")
    grid = grids.grid(path, "trailing", STEPS)

    def denoise(x, t):
        alpha, sigma = path.alpha(t), path.sigma(t)
        residual = (x - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2)
        return MEAN + alpha * STD**2 * residual, sigma * residual

    return lambda keys: sampler.sample(denoise, solvers.ddim(), keys, SHAPE, path, grid)


def bare():
    """keys [N] -> images, written out for this one case."""
    alpha_bar = np.append(1.0, np.cumprod(1.0 - np.linspace(1e-4, 0.02, 1000)))[:: -(1000 // STEPS)]
    alpha, sigma = (
        np.sqrt(alpha_bar).astype(np.float32),
        np.sqrt(1.0 - alpha_bar).astype(np.float32),
    )

    def step(x, now):
        a, s, a_next, s_next = now
        residual = (x - a * MEAN) / (a**2 * STD**2 + s**2)
        return a_next * (MEAN + a * STD**2 * residual) + s_next * s * residual, None

    def run(keys):
        x = sigma[0] * jax.random.normal(keys[0], (COUNT * math.prod(SHAPE),)).reshape(
            COUNT, *SHAPE
        )
        return jax.lax.scan(step, x, (alpha[:-1], sigma[:-1], alpha[1:], sigma[1:]))[0]

    return run


def seconds(function, keys, calls: int) -> float:
    """Mean time of a call."""
    start = time.perf_counter()
    for _ in range(calls):
        images = function(keys)
    jax.block_until_ready(images)
    return (time.perf_counter() - start) / calls


def compile_seconds(make, keys) -> float:
    """Time to trace, lower and compile a function that was never seen before."""
    jax.clear_caches()
    start = time.perf_counter()
    jax.jit(make()).lower(keys).compile()
    return time.perf_counter() - start


def close_to_truth(name: str, images) -> None:
    """Raise AssertionError unless the samples have the data's mean and deviation: or the comparison
    means nothing.
    """
    mean, std = float(np.mean(images)), float(np.std(images))
    if abs(mean - MEAN) > 0.02 or abs(std - STD) > 0.02:
        raise AssertionError(
            f"{name}: mean {mean} and standard deviation {std}, not {MEAN} and {STD}"
        )


def measure(repeats: int, calls: int, compilations: int) -> dict:
    """The record of both measurements."""
    makers = {"jaxgen": ours, "bare lax.scan": bare}
    persistent = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(jnp.arange(COUNT))
        compiling = common.interleave(
            {name: lambda make=make: compile_seconds(make, keys) for name, make in makers.items()},
            compilations,
        )
        functions = {name: jax.jit(make()) for name, make in makers.items()}
        for name, function in functions.items():
            close_to_truth(name, function(keys))
        running = common.interleave(
            {
                name: lambda function=function: seconds(function, keys, calls)
                for name, function in functions.items()
            },
            repeats,
        )
    finally:
        jax.config.update("jax_enable_compilation_cache", persistent)
    return common.record(
        __doc__,
        seconds=running,
        ratio=common.compare(running, "jaxgen", "bare lax.scan"),
        target=2.0,
        compile_seconds=compiling,
        compile_median=statistics.median(compiling["jaxgen"]),
        compile_target=0.5,
    )


def main(arguments=None) -> None:
    options = common.parse(arguments)
    result = measure(3, 1, 1) if options.smoke else measure(15, 100, 7)
    common.show("s to compile", result["compile_seconds"])
    common.show("s a call", result["seconds"])
    print(f"compile: {result['compile_median']:.2f} s; target <= 0.5 s")
    common.verdict("jaxgen / bare scan", result["ratio"], "<= 2 x")
    common.write(options.out, result)


if __name__ == "__main__":
    main()
