"""Seconds and peak memory of measuring samples, by the size and the number of the images.

    python experiments/benchmark_evaluation.py [--smoke] [--out=FILE.json]

Protocol: noise of uint8, three sets of one size: samples, reference, and training images for the
checks of copies; pixel features. A case has a process of its own, whose peak memory it is,
libraries and sets included. Parts, one after another: the references (principal components,
features, a floor of one set, guards), the scores and checks of one set of samples, and for small
sets the record of one file, which measures it six times for its jackknife. Seconds are on the wall,
and of the processor (all threads). The cache of features is empty. Target: at most 5 minutes and 4
GiB."""

import os
import resource
import sys
import tempfile
import time

import benchmark_common as common
import numpy as np

# what: (images in each set, side in pixels); all in colour
CASES = {
    "20 images of 256 x 256": (20, 256),
    "200 images of 256 x 256": (200, 256),
    "50,000 images of 32 x 32": (50_000, 32),
}
SMALL = {"20 images of 8 x 8": (20, 8)}


def prepared(count: int, side: int):
    """The measurement: {part: (seconds on the wall, of the processor)}, peak GiB."""
    from jaxgen import config, data
    from jaxgen.evaluation import measure, reference

    rng = np.random.default_rng(0)

    def noise(name):
        images = rng.integers(0, 256, (count, side, side, 3), np.uint8)
        return data.Table(f"noise {name}", {"image": images})

    samples, real, train = (noise(name) for name in ("samples", "real", "train"))
    spec = config.default().evaluation
    spec.update(num=count, seeds=(0,), features=("pixels",))

    def run() -> tuple[dict[str, tuple[float, float]], float]:
        seconds, kept = {}, {}

        def part(name, function):
            wall, processor = time.perf_counter(), time.process_time()
            kept[name] = function()
            seconds[name] = time.perf_counter() - wall, time.process_time() - processor

        with tempfile.TemporaryDirectory() as cache:
            os.environ["JAXGEN_CACHE"] = cache
            part("references", lambda: reference.build(
                real, train, spec, train=train, held_out=real))  # fmt: skip
            refs = kept["references"]
            part("scores", lambda: measure.score_samples(samples.images, refs))
            if count <= 1000:
                part("record", lambda: measure.evaluate_samples({"noise": samples.images}, refs))
        unit = 2**30 if sys.platform == "darwin" else 2**20  # macOS counts bytes, Linux KiB
        return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

    return run


def main(arguments=None) -> None:
    options = common.parse(arguments)
    results = {}
    for what, (count, side) in (SMALL if options.smoke else CASES).items():
        with common.in_process(prepared, count, side) as run:
            seconds, memory = run()
        walls, processors = ({name: pair[i] for name, pair in seconds.items()} for i in (0, 1))
        results[what] = {"seconds": walls, "processor_seconds": processors, "peak_gib": memory}
        parts = ", ".join(
            f"{name} {wall:.1f} s ({processor:.1f} s)"
            for name, (wall, processor) in seconds.items()
        )
        print(f"{what}: {parts}; peak {memory:.2f} GiB", flush=True)
    common.write(options.out, common.record(__doc__, cores=common.cores(), cases=results))


if __name__ == "__main__":
    main()
