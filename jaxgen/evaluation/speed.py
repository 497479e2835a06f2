"""What sampling costs: seconds per image without compilation, compilation apart, memory, FLOPs."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgen.artefact import Artefact
from jaxgen.programs import flops, memory
from jaxgen.sampling import sample_keys, sampler


class Speed(NamedTuple):
    """Sampling: seconds per image by repeats, in the fastest of the batch sizes tried and in a
    batch of one; the fastest size and every size's seconds per image; seconds to compile and bytes
    held at the config's batch size; FLOPs an image."""

    per_image: list[float]
    one: list[float]
    best_batch: int
    by_batch: dict[int, float]
    compile_seconds: float
    memory_bytes: int
    flops_per_image: float


def sampling(
    model: Artefact, options: Mapping[str, Any], condition: Callable[[int], Any], repeats: int = 5
) -> Speed:
    """Times the sampler for batches of 1, 1/16, 1/4 and all of the config's batch size; random keys
    and conditions (`condition`: of so many samples) are made beforehand.
    """
    run: Any = sampler(model.family, options, model.space)
    batch_size = model.config.sample.batch_size
    sizes = sorted({1, max(1, batch_size // 16), max(1, batch_size // 4), batch_size})
    times, compiled = {}, None
    for size in sizes:
        arguments = model.variables, sample_keys(0, 0, size), condition(size)
        if size == batch_size:
            with _no_cache():
                start = time.perf_counter()
                compiled = run.lower(*arguments).compile()
                compile_seconds = time.perf_counter() - start
        else:
            compiled = run.lower(*arguments).compile()
        call = functools.partial(compiled, *arguments)
        times[size] = [seconds / size for seconds in _seconds(call, repeats)]
    by_batch = {size: float(np.mean(values)) for size, values in times.items()}
    best = min(by_batch, key=by_batch.__getitem__)
    per_image = flops(run, *arguments) / batch_size
    return Speed(
        times[best], times[1], best, by_batch, compile_seconds, memory(compiled), per_image
    )


def _seconds(run: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each call after the first; fewer calls where each takes seconds."""
    times: list[float] = []
    jax.block_until_ready(run())
    while len(times) < repeats and not (len(times) >= 2 and sum(times) > 10.0):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    return times


@contextlib.contextmanager
def _no_cache() -> Iterator[None]:
    """Compilation without the persistent cache, so that its time is that of compiling."""
    from jax.experimental.compilation_cache import compilation_cache

    enabled = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # else a decision made earlier would stand
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", enabled)
        compilation_cache.reset_cache()
