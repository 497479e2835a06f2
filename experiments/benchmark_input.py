"""Images per second from disk to batches, and what finding and gathering a batch adds to a step
whose images live on the device.

    python experiments/benchmark_input.py [--data_dir=~/tensorflow_datasets]
    [--out=benchmarks/results/input.json] [--smoke]

Streams: CIFAR-10's training images, decoded from their PNGs and batched by `jaxgen.data.stream`
with threads, one and two worker processes; noise that needs no decoding shows what the pipeline
itself costs. Device: 10 steps of configs/mnist/vae.py in one call, on the same batch each time, and
on batches that each step finds by `order.indices` and gathers by `data.gather` from 4,096 images.

Protocol: batches of 128; 5 repeats in turn; a stream runs 20 batches ahead of the clock, then 200
are timed; per core means by the processor time of this process and its workers, which other load
does not change; a device repeat is the fastest of 20 calls. Target: 20,000 decoded images a second
on two cores, or a step on the device's images that takes as long as one on a fixed batch."""

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable
from itertools import islice

import benchmark_common as common
import jax
import jax.numpy as jnp

from jaxgen import config, data, families, training
from jaxgen.data import order
from jaxgen.data.stream import stream

CONFIG = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "configs", "mnist", "vae.py"
)
BATCH, STEPS = 128, 10
TICK = 1 / os.sysconf("SC_CLK_TCK")


def processor_seconds() -> float:
    """Of this process and its living children (Linux)."""
    total = time.process_time()
    for child in multiprocessing.active_children():
        with contextlib.suppress(OSError):
            fields = open(f"/proc/{child.pid}/stat").read().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) * TICK
    return total


def streamed(
    records: data.Records, workers: int, batches: int, per_core: dict[str, list[float]], name: str
) -> common.Side:
    """Images per second; `per_core[name]` gets those per second of processor time."""

    def measure() -> float:
        with stream(records, BATCH, seed=0, workers=workers) as source:
            for _ in islice(source, max(batches // 10, 1)):
                pass
            start, busy = time.perf_counter(), processor_seconds()
            for _ in islice(source, batches):
                pass
            taken, busy = time.perf_counter() - start, processor_seconds() - busy
        per_core.setdefault(name, []).append(batches * BATCH / max(busy, TICK))
        return batches * BATCH / taken

    return measure


def on_device(calls: int) -> dict[str, Callable[[], float]]:
    """Microseconds a step, with a fixed batch and with one that the step gathers."""
    settings = config.load(
        CONFIG, {"data.source": "synthetic", "data.train": "train", "train.batch_size": BATCH}
    )
    source = data.from_config(settings, "train").everything()
    arrays = jax.device_put(source.arrays)
    size = len(source.images)
    _, step = training.create(settings, families.build(settings))

    def fixed(arrays, position):
        return {name: array[:BATCH] for name, array in arrays.items()}, position

    def gathered(arrays, position):
        indices, position = order.indices(position, BATCH, size, seed=0)
        return data.gather(arrays, indices), position

    def side(take) -> Callable[[], float]:
        @jax.jit
        def run(state, position, arrays):
            def body(carry, _):
                batch, position = take(arrays, carry[1])
                return (step(carry[0], batch)[0], position), None

            return jax.lax.scan(body, (state, position), length=STEPS)[0]

        state, _ = training.create(settings, families.build(settings))
        carry = jax.block_until_ready(run(state, jnp.zeros(2, jnp.int32), arrays))

        def measure() -> float:
            nonlocal carry
            taken = []
            for _ in range(calls):
                start = time.perf_counter()
                carry = jax.block_until_ready(run(*carry, arrays))
                taken.append(time.perf_counter() - start)
            return min(taken) / STEPS * 1e6

        return measure

    return {"fixed batch": side(fixed), "order and gather": side(gathered)}


def main(arguments=None) -> None:
    options = common.parse(arguments, data_dir="where TFDS keeps its data sets")
    repeats, batches = (2, 4) if options.smoke else (5, 200)
    name = "digits" if options.smoke else "tfds:cifar10"
    pictures = data.open_records(name, "train", data_dir=options.data_dir or None)
    noise = data.open_records("synthetic", "train", image_shape=pictures.shape)
    per_core: dict[str, list[float]] = {}
    sides = {
        f"{records.name.split()[0]}, {label}": (records, workers)
        for records, label, workers in [
            (pictures, "threads", 0),
            (pictures, "1 worker", 1),
            (pictures, "2 workers", 2),
            (noise, "1 worker", 1),
            (noise, "threads", 0),
        ]
        if not options.smoke or not workers
    }
    sides = {side: streamed(*what, batches, per_core, side) for side, what in sides.items()}
    measured = common.interleave(sides, repeats)
    common.show("images/s", measured)
    common.show("images/s per core", per_core)
    device = common.interleave(on_device(2 if options.smoke else 20), repeats)
    ratio = common.compare(device, "order and gather", "fixed batch")
    common.show("us/step", device)
    common.verdict("step with order and gather / with a fixed batch", ratio, "<= 1.05 x")
    fields = dict(
        images_per_second=measured,
        images_per_second_per_core=per_core,
        microseconds_per_step=device,
        ratio=ratio,
    )
    common.write(
        options.out,
        common.record(__doc__, target={"images_per_second": 20_000, "ratio": 1.05}, **fields),
    )


if __name__ == "__main__":
    main()
