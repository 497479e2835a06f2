"""Kill training at random instants, again and again: every resumed run must end as if nothing had
happened.

    nice python experiments/kill.py [--kills=200] [--seed=0] [--out=benchmarks/results/kill.json]
    [--smoke]

The same `jaxgen train` command is given until a run of a small system ends. Its process dies by
SIGKILL while it starts and restores, compiles, trains, saves a checkpoint or deletes an old one;
after some kills a file of the newest checkpoint is truncated, changed in one bit or deleted as
well. Where a kill fell is read from the disk after the death.

Protocol: four systems on the digits, checkpoints every 3 steps and a row of metrics.jsonl every
step; up to 10 kills in a run, then it is left alone; at its end every leaf of the final state must
have the bits of a run that was never stopped, and metrics.jsonl each step's row once, with the same
values but for times. Targets: no difference, no command that fails."""

import collections
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# before numpy: its threads would not live through a fork
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import benchmark_common as common

ROOT = Path(__file__).resolve().parent.parent
STEPS, EVERY, KEEP, KILLS_PER_RUN = 120, 3, 3, 10
PATIENCE = 600.0  # seconds after which a command that is left alone counts as stuck
TIMES = ("images_per_second", "seconds", "mfu")
COMMON = (
    f"train.steps={STEPS}", "train.batch_size=32", "train.log_every=1", "train.sample_every=40",
    f"checkpoint.every={EVERY}", f"checkpoint.keep={KEEP}", "ema.rates=(0.9,0.99)",
)  # fmt: skip
SYSTEMS = {
    "VAE": (
        "vae",
        ("train.eval_every=20", "model.encoder.hidden=(64,)", "model.decoder.hidden=(64,)"),
    ),
    "GAN": (
        "gan",
        (
            "players.critic.updates=2",
            "model.critic.spectral_norm=True",
            "conditional=True",
            "model.critic.hidden=(64,)",
            "model.generator.hidden=(64,)",
        ),
    ),
    "VAE-GAN": (
        "vae_gan",
        ("model.encoder.hidden=(64,)", "model.decoder.hidden=(64,)", "model.critic.hidden=(64,64)"),
    ),
    "diffusion": (
        "ddpm",
        (
            "train.eval_every=0",
            "conditional=True",
            "sample.options.steps=3",
            "model.denoiser.width=64",
            "model.denoiser.depth=1",
        ),
    ),
}
# where a kill is aimed, how often, and the longest wait (seconds) once the run has got there
AIMS = {"start": (0.2, 2.0), "compile": (0.1, 0.5), "train": (0.3, 0.5), "save": (0.4, 0.2)}
# how many checkpoints a process may complete before it is killed in training or saving
SAVES = (0, 0, 1, 1, 2, 3, 5)


def command(name: str, workdir: Path, more: tuple[str, ...] = ()) -> list[str]:
    """The arguments of `jaxgen` that train the system `name`."""
    file, overrides = SYSTEMS[name]
    fields = [f"--config.{field}" for field in (*COMMON, *overrides, *more)]
    return [
        "train",
        f"--config={ROOT}/configs/digits/{file}.py",
        f"--workdir={workdir}",
        "--noprogress",
        *fields,
    ]


def fork(function, output: Path) -> int:
    """The process id of a child that calls `function`, prints into `output` and exits with what it
    returns.

    All is imported already and no JAX backend has started, so a child is as good as a new process,
    only faster."""
    if len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError("there are threads, and a child would not have them")
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(out, stream)
        code = function()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def ended(pid: int) -> int | None:
    """The exit code of a child (negative: the signal that killed it); None while it lives."""
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def finish(pid: int, seconds: float = PATIENCE) -> int:
    """Wait for a child: its exit code, or that of SIGKILL after so many seconds."""
    limit = time.monotonic() + seconds
    while (code := ended(pid)) is None:
        if time.monotonic() > limit:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    return code


class Watch:
    """How far the life of a process that trains in `workdir` has come, as the disk shows it."""

    def __init__(self, workdir: Path):
        self.workdir, self.rows = workdir, None
        self.events, self.step = self._events(), self.step_on_disk()

    def _events(self) -> int:
        return len(names(self.workdir / "tensorboard"))

    def step_on_disk(self) -> int:
        """The newest checkpoint; 0 where there is none."""
        return max(
            (int(name) for name in names(self.workdir / "checkpoints") if name.isdecimal()),
            default=0,
        )

    def saves(self) -> int:
        """Checkpoints that the process has completed."""
        return (self.step_on_disk() - self.step) // EVERY

    def phase(self) -> str:
        """start (with restoring), compile, train, save, or delete (an old checkpoint)."""
        log = self.workdir / "metrics.jsonl"
        if self._events() == self.events:
            return "start"  # the log is opened after the state has been restored
        if self.rows is None:
            self.rows = log.stat().st_size
        found = names(self.workdir / "checkpoints")
        if any("tmp" in name for name in found):
            return "save"
        if len(found) > KEEP + 1:
            return "delete"
        return "compile" if log.stat().st_size == self.rows else "train"


def names(folder: Path) -> list[str]:
    """What is in a folder; nothing where there is none."""
    return os.listdir(folder) if folder.is_dir() else []


def kill(pid: int, watch: Watch, aim: str, rng: random.Random) -> int:
    """Kill a child at a random instant after it has come to `aim`: its exit code."""
    code, limit = None, time.monotonic() + PATIENCE
    saves = rng.choice(SAVES) if aim in ("train", "save") else 0
    while code is None and aim != "start" and time.monotonic() < limit:
        if watch.saves() >= saves and watch.phase() == aim:
            break
        time.sleep(0.001)
        code = ended(pid)
    if code is None:
        time.sleep(rng.uniform(0.0, AIMS[aim][1]))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        code = finish(pid)
    return code


def damage(workdir: Path, hurt: set[str], rng: random.Random) -> dict[str, str] | None:
    """Damage a file of the newest checkpoint, as long as two unhurt ones stay: what was done, and
    to which file.
    """
    steps = sorted((name for name in names(workdir / "checkpoints") if name.isdecimal()), key=int)
    if len(set(steps[:-1]) - hurt) < 2:
        return None
    hurt.add(steps[-1])
    folder = workdir / "checkpoints" / steps[-1]
    file = rng.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    size, how = file.stat().st_size, rng.choice(("truncated", "changed", "deleted"))
    if how == "deleted" or not size:
        how = "deleted"
        file.unlink()
    elif how == "truncated":
        os.truncate(file, rng.randrange(size))
    else:
        content = bytearray(file.read_bytes())
        content[rng.randrange(size)] ^= 1 << rng.randrange(8)
        file.write_bytes(content)
    return {"step": steps[-1], "file": str(file.relative_to(folder)), "how": how}


def final_state(workdir: Path) -> dict[str, bytes]:
    """{leaf: dtype, shape and bits} of the last checkpoint, read as a run that goes on reads it."""
    import jax
    import numpy as np

    from jaxgen import config as config_lib
    from jaxgen import families
    from jaxgen.training import checkpoint, players, state

    config = config_lib.read(str(workdir))
    family = families.build(config)
    like = jax.eval_shape(state.initial(config, family, players.build(config, family)))
    opened = checkpoint.open_folder(str(workdir), read_only=True)
    restored = opened.restore(like, config.train.steps)
    opened.close()
    leaves = jax.tree_util.tree_leaves_with_path(restored)
    return {
        jax.tree_util.keystr(path): (str(x.dtype), x.shape, np.asarray(x).tobytes())
        for path, x in leaves
    }


def differing_leaves(whole: Path, parts: Path) -> int:
    """Prints the names of leaves that differ between two runs, and returns how many there are (at
    most 100).
    """
    a, b = final_state(whole), final_state(parts)
    different = [name for name in {*a, *b} if a.get(name) != b.get(name)]
    print("leaves that differ:", *sorted(different))
    return min(len(different), 100)


def rows(workdir: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without times."""
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in TIMES} for row in found]


def killed_run(
    name: str,
    workdir: Path,
    whole: Path,
    kills: int,
    rng: random.Random,
    more: tuple[str, ...] = (),
) -> dict[str, Any]:
    """A run of the system `name` with up to `kills` kills, and what is wrong with its end, if
    anything.

    {"kills": [{phase, seconds, step: of the newest checkpoint, damage}], "resumed": how often a
    process went on from a checkpoint, "refused": how many checkpoints it found unreadable,
    "failure"}"""
    from jaxgen import cli

    output, hurt, done = workdir.parent / f"{workdir.name}.txt", set(), []
    arguments = command(name, workdir, more)

    def wrong(what: str) -> str:
        return f"{what}; {workdir}, {output}"

    failure, code = "", None
    while len(done) < kills and code is None:
        watch, since = Watch(workdir), time.monotonic()
        aim = rng.choices(list(AIMS), [weight for weight, _ in AIMS.values()])[0]
        code = kill(fork(lambda: cli.main(arguments), output), watch, aim, rng)
        if code == -signal.SIGKILL:
            code, phase, lived = None, watch.phase(), time.monotonic() - since
            hit = damage(workdir, hurt, rng) if rng.random() < 0.2 else None
            done.append(
                {
                    "phase": phase,
                    "seconds": round(lived, 3),
                    "step": watch.step_on_disk(),
                    "damage": hit,
                }
            )
    if code is None:
        code = finish(fork(lambda: cli.main(arguments), output))
    if code:
        failure = wrong(f"the command ended with {code}")
    elif finish(fork(lambda: differing_leaves(whole, workdir), output)):
        failure = wrong("the final state differs")
    elif rows(workdir) != rows(whole):
        failure = wrong("metrics.jsonl differs")
    said = output.read_text()
    counts = {"resumed": said.count(" from step "), "refused": said.count(" cannot be read (")}
    return {"system": name, "kills": done, **counts, "failure": failure}


def import_everything() -> None:
    """What training needs, so that the children find it imported."""
    import clu.parameter_overview  # noqa: F401
    import orbax.checkpoint  # noqa: F401
    import PIL.Image  # noqa: F401
    import tensorboardX  # noqa: F401
    import tqdm  # noqa: F401

    import jaxgen.cli
    import jaxgen.training  # noqa: F401


def table(runs: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Printed and returned: kills by system and phase, resumptions, damage done and refused, runs,
    failures.
    """
    counts = {name: collections.Counter() for name in SYSTEMS}
    for run in runs:
        row = counts[run["system"]]
        row.update(each["phase"] for each in run["kills"])
        row.update(
            {
                "kills": len(run["kills"]),
                "damaged": sum(each["damage"] is not None for each in run["kills"]),
                "resumed": run["resumed"],
                "refused": run["refused"],
                "runs": 1,
                "failures": bool(run["failure"]),
            }
        )
    columns = (
        "start",
        "compile",
        "train",
        "save",
        "delete",
        "kills",
        "resumed",
        "damaged",
        "refused",
        "runs",
        "failures",
    )
    counts["all"] = sum(counts.values(), collections.Counter())
    print(f"{'':>12}" + "".join(f"{column:>9}" for column in columns))
    for name, row in counts.items():
        print(f"{name:>12}" + "".join(f"{row[column]:>9}" for column in columns))
    return {name: {column: row[column] for column in columns} for name, row in counts.items()}


def main(arguments=None) -> int:
    options = common.parse(
        arguments,
        kills="how many in all (default: 200)",
        seed="of the random instants (default: 0)",
    )
    kills, seed = int(options.kills or 200), int(options.seed or 0)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    rng, runs = random.Random(seed), []
    total, systems, more = (
        (4, ["GAN"], ("train.steps=40",)) if options.smoke else (kills, list(SYSTEMS), ())
    )
    folder = Path(tempfile.mkdtemp(prefix="kill_"))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "cache")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    import_everything()
    from jaxgen import cli

    for name in systems:
        output = folder / f"{name}_whole.txt"
        if finish(
            fork(lambda name=name: cli.main(command(name, folder / f"{name}_whole", more)), output)
        ):
            raise RuntimeError(output.read_text())
    while (left := total - sum(len(run["kills"]) for run in runs)) > 0:
        name = systems[len(runs) % len(systems)]
        workdir = folder / f"{name}_{len(runs)}"
        run = killed_run(
            name, workdir, folder / f"{name}_whole", min(left, KILLS_PER_RUN), rng, more
        )
        runs.append(run)
        print(
            f"{name}: {' '.join(each['phase'] for each in run['kills'])}: "
            f"{run['failure'] or 'the same end'}",
            flush=True,
        )
    counts = table(runs)
    common.write(options.out, common.record(__doc__, counts=counts, seed=seed, runs=runs))
    if not counts["all"]["failures"]:
        shutil.rmtree(folder)
    return counts["all"]["failures"]


if __name__ == "__main__":
    sys.exit(main())
