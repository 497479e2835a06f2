"""Seconds and peak memory of the metrics that cost most.

    python experiments/benchmark_metrics.py [--out=benchmarks/results/metrics.json] [--smoke]

Sets of the sizes that papers report: 50,000 x 2,048 features for the distances between sets, 10,000
x 768 for those of neighbours; float32 normal numbers, with standard deviations that fall from 1 to
0.001 over the columns.

Protocol: each metric has a process of its own, which makes two sets and then calls the metric 3
times; seconds are those of the calls, on the wall and of the processor (all threads); memory is the
peak of the process, sets and libraries included. Target: on 2 cores, a median of at most 20 s for
distances between sets; 60 s and 2 GiB for neighbours."""

import importlib.metadata
import resource
import statistics
import sys
import time

import benchmark_common as common
import numpy as np

# what: functions called one after another; rows, columns; most seconds and GiB
WORK = {
    "frechet_distance": (("frechet_distance",), 50_000, 2048, 20.0, None),
    "kernel_distance": (("kernel_distance",), 50_000, 2048, 20.0, None),
    "precision_recall + density_coverage": (
        ("precision_recall", "density_coverage"),
        10_000,
        768,
        60.0,
        2.0,
    ),
    "precision_recall_density_coverage": (
        ("precision_recall_density_coverage",),
        10_000,
        768,
        60.0,
        2.0,
    ),
}


def prepared(names, rows: int, columns: int):
    """The measurement: (wall seconds, processor seconds, peak GiB) of calling the metrics on two
    random sets.
    """
    from jaxgen.evaluation import metrics

    rng, scale = np.random.default_rng(0), np.logspace(0, -3, columns, dtype=np.float32)
    real, generated = (rng.standard_normal((rows, columns), dtype=np.float32) for _ in range(2))
    real *= scale
    generated *= 1.1 * scale

    def run() -> tuple[float, float, float]:
        wall, processor = time.perf_counter(), time.process_time()
        for name in names:
            getattr(metrics, name)(real, generated)
        spent = time.perf_counter() - wall, time.process_time() - processor
        unit = 2**30 if sys.platform == "darwin" else 2**20  # macOS counts bytes, Linux KiB
        return *spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

    return run


def main(arguments=None) -> None:
    options = common.parse(arguments)
    repeats, results, seconds = (1, {}, {}) if options.smoke else (3, {}, {})
    for what, (names, rows, columns, most_seconds, most_memory) in WORK.items():
        rows, columns = (1100, 16) if options.smoke else (rows, columns)
        with common.in_process(prepared, names, rows, columns) as run:
            wall, processor, memory = zip(*[run() for _ in range(repeats)])
        results[what] = {
            "rows": rows,
            "columns": columns,
            "seconds": wall,
            "median": statistics.median(wall),
            "target": most_seconds,
            "processor_seconds": processor,
            "peak_gib": memory[-1],
            "peak_target": most_memory,
        }
        seconds[what] = wall
        limit = f", target <= {most_memory:g} GiB" if most_memory else ""
        print(
            f"{what}: {rows} x {columns}: median {statistics.median(wall):.2f} s, target <= "
            f"{most_seconds:g} s; "
            f"processor {statistics.median(processor):.2f} s; peak {memory[-1]:.2f} GiB{limit}",
            flush=True,
        )
    common.show("s", seconds)
    libraries = {name: importlib.metadata.version(name) for name in ("numpy", "scipy")}
    common.write(
        options.out, common.record(__doc__, **libraries, cores=common.cores(), metrics=results)
    )


if __name__ == "__main__":
    main()
