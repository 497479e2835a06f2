"""Seconds from the start of `jaxgen train` until its first train steps are done.

    python experiments/benchmark_startup.py [--out=benchmarks/results/startup.json] [--smoke]

The command as a user gives it, in a process of its own: interpreter, imports, config, data, state,
tracing, compiled programs from the cache, log, and the first call of the compiled steps, whose
first row in metrics.jsonl stops the clock. The process is killed then, and what it has used of the
processor is told by the kernel.

Protocol: the digits' VAE, GAN and diffusion; one run each with an empty compilation cache (cold),
then 7 repeats in turn with what that has left in it; wall-clock and processor seconds; on a machine
that has other work too, the lowest counts.
Target: at most 6 s on two cores.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import benchmark_common as common

ROOT = Path(__file__).resolve().parent.parent
SYSTEMS = ("vae", "gan", "ddpm")
TARGET = 6.0


def start(name: str, cache: str) -> tuple[float, float]:
    """(wall-clock, processor) seconds until the first train steps of configs/digits/`name`.py are
    done.
    """
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": cache,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    with tempfile.TemporaryDirectory() as workdir:
        arguments = [
            f"--config={ROOT}/configs/digits/{name}.py",
            f"--workdir={workdir}",
            "--config.train.log_every=1",
        ]
        log, since = Path(workdir, "metrics.jsonl"), time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "jaxgen", "train", *arguments], env=environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            while not (log.exists() and log.stat().st_size):
                if process.poll() is not None:
                    raise RuntimeError(f"training {name} ended with {process.returncode}")
                time.sleep(0.002)
            wall = time.perf_counter() - since
        finally:
            process.kill()
        used = os.wait4(process.pid, 0)[2]
    return wall, used.ru_utime + used.ru_stime


def main(arguments=None) -> None:
    options = common.parse(arguments)
    names = SYSTEMS[:1] if options.smoke else SYSTEMS
    with tempfile.TemporaryDirectory() as cache:
        sides = {name: lambda name=name: start(name, cache) for name in names}
        cold = common.interleave(sides, 1)
        warm = common.interleave(sides, 1 if options.smoke else 7)
    wall, processor = (
        {name: [pair[i] for pair in pairs] for name, pairs in warm.items()} for i in (0, 1)
    )
    common.show("seconds, warm", wall)
    common.show("processor seconds, warm", processor)
    for name in names:
        print(
            f"{name}: lowest {min(wall[name]):.2f} s (cold {cold[name][0][0]:.2f} s); target <= "
            f"{TARGET:.0f} s"
        )
    cold = {
        name: {"seconds": pairs[0][0], "processor_seconds": pairs[0][1]}
        for name, pairs in cold.items()
    }
    fields = {"seconds": wall, "processor_seconds": processor, "cold": cold, "target": TARGET}
    common.write(options.out, common.record(__doc__, **fields))


if __name__ == "__main__":
    main()
