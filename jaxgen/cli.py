"""The `jaxgen` command: train, sample, evaluate, compare.

    jaxgen train    --config=configs/digits/vae.py --workdir=runs/vae [--config.train.steps=500 ...]
    jaxgen sample   --workdir=runs/vae --num=64 --seed=0 [--out=samples/vae] jaxgen evaluate
    --workdir=runs/vae | --samples=FILE.npz --reference=tfds:cifar10 jaxgen compare
    --config=experiments/trilemma.py --workdir=runs/trilemma [--require="latency_ms<=5"]

`jaxgen COMMAND --help` lists a command's flags; `jaxgen --version` prints the version. Bad input,
and a model that diverged, end with one line on standard error and exit code 2: do not try again.
What may pass, such as a full disk, ends with 75, and an interrupted run, which is saved, with 128 +
the signal's number: the same command goes on where it stopped."""

import errno
import math
import os
import re
import sys
import warnings
from collections.abc import Callable

from absl import flags

import jaxgen
from jaxgen import arguments, files, troubles
from jaxgen.errors import InputError, RetryError, nearest


def _check_folder(path: str) -> None:
    """Raise OSError now if `path` could not be written later."""
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)


def _need(values: flags.FlagValues, *names: str) -> None:
    for name in names:
        if not getattr(values, name):
            raise InputError(f"--{name} is needed; see jaxgen --help")


def _refuse(values: flags.FlagValues, where: str, *names: str) -> None:
    """A flag that would be ignored is an error."""
    for name in names:
        if values[name].present:
            raise InputError(f"--{name} has no meaning {where}; see jaxgen --help")


def _sampling_options(values: flags.FlagValues, run) -> dict:
    from jaxgen.sampling import check_options

    given = {
        name: values[name].value
        for name in ("steps", "eta", "guidance")
        if values[name].value is not None
    }
    return {**dict(run.config.sample.options), **check_options(run.family, given)}


def train(values: flags.FlagValues) -> int:
    """Train one system; goes on from its newest checkpoint."""
    from jaxgen import distributed

    _need(values, "config", "workdir")
    asked = distributed.Flags(
        values.coordinator, values.num_processes, values.process_id, values.coordinator_timeout
    )
    distributed.initialize(asked)  # before anything asks JAX for its devices
    from jaxgen.training import train

    result = train(values.config, values.workdir, progress=values.progress, profile=values.profile)
    say = print if distributed.is_main() else lambda text: None
    if result.signal is not None:
        say(
            f"stopped at step {int(result.state.step)} and saved; the same command goes on from "
            f"there"
        )
        return 128 + result.signal
    say(f"finished at step {int(result.state.step)}: {values.workdir}")
    return 0


def sample(values: flags.FlagValues) -> int:
    """Draw samples of a trained system: a PNG grid and an npz (arr_0, uint8 NHWC)."""
    import numpy as np

    from jaxgen.runs import open_run
    from jaxgen.sampling import balanced_labels, generate, sampler
    from jaxgen.training import logging

    _need(values, "workdir")
    run = open_run(
        values.workdir,
        values.ema,
        values.checkpoint,
        values["config"].value if "config" in values else None,
    )
    num = run.config.sample.num if values.num is None else values.num
    size = run.config.sample.batch_size if values.batch_size is None else values.batch_size
    labels = balanced_labels(
        num, run.config.data.num_classes if run.config.conditional else 0, values.label
    )
    draw = sampler(run.family, _sampling_options(values, run))
    out = values.out or os.path.join(values.workdir, "samples", f"seed_{values.seed}")
    stem, extension = os.path.splitext(out)
    stem = stem if extension in (".png", ".npz") else out
    places = files.writable(f"{stem}.png"), files.writable(f"{stem}.npz")
    with logging.progress_bar(num, 0, "samples", values.progress, unit="image") as bar:
        images = generate(
            draw,
            run.variables,
            num,
            seed=values.seed,
            batch_size=size,
            labels=labels,
            progress=bar.update,
        )
    arrays = dict(arr_0=images, **({} if labels is None else {"arr_1": labels}))
    logging.write_png(places[0], images[:1024])
    files.replace(places[1], lambda file: np.savez_compressed(file, **arrays))
    print(f"{num} samples of step {run.step}: {' '.join(places)}")
    return 0


def evaluate(values: flags.FlagValues) -> int:
    """Measure a trained system, or with --samples anybody's images, and write a JSON record with
    its protocol.
    """
    from jaxgen.evaluation import protocol, record, scores
    from jaxgen.runs import open_run, training_cost
    from jaxgen.training import load_source, logging

    if values.samples:
        return _evaluate_samples(values)
    if not values.workdir:
        raise InputError(
            "evaluate needs --workdir=RUN, or --samples=FILE.npz with --reference; see jaxgen "
            "evaluate --help"
        )
    _refuse(
        values,
        "without --samples",
        "reference",
        "split",
        "data_dir",
        "features",
        "inception",
        "resize",
        "out",
    )
    run = open_run(
        values.workdir,
        values.ema,
        values.checkpoint,
        values["config"].value if "config" in values else None,
    )
    if values.num is not None:
        run.config.evaluation.num = values.num
    refs = protocol.references(run.config, load_source)
    total = run.config.evaluation.num * len(run.config.evaluation.seeds)
    with logging.progress_bar(total, 0, "samples", values.progress, unit="image") as bar:
        found, images = protocol.evaluate(
            run.config, run.family, run.variables, refs,
            options=_sampling_options(values, run), ema=run.ema, progress=bar.update,
        )  # fmt: skip
    found["cost"] |= training_cost(run, values.workdir)
    record.keep_samples(images, values.workdir)
    path = os.path.join(values.workdir, "evaluation.json")
    record.write({**found, "step": run.step, "workdir": values.workdir}, path)
    _print_scores(found, scores.describe(refs.extractors, refs.judge))
    print(f"written: {path}")
    return 0


def _evaluate_samples(values: flags.FlagValues) -> int:
    from jaxgen import config, data
    from jaxgen.evaluation import protocol, record, scores

    _refuse(values, "with --samples", "workdir", "checkpoint", "steps", "eta", "guidance", "ema")
    _need(values, "reference")
    named = [s if s.partition(":")[0] in ("npz", "folder") else f"folder:{s}" if os.path.isdir(s) else f"npz:{s}"
             for s in values.samples]  # fmt: skip
    splits = data.splits(values.reference, values.data_dir)
    split = values.split or ("test" if "test" in splits else splits[0])
    asked = re.findall(r"[A-Za-z_]\w*", split)
    others = [s for s in splits if s in ("train", "test") and s not in asked]
    real = data.load(values.reference, split, data_dir=values.data_dir)
    other = data.load(values.reference, others[0], data_dir=values.data_dir) if others else None
    path = os.path.expanduser(
        values.out or f"{named[0].partition(':')[2].removesuffix('.npz').rstrip('/')}.json"
    )
    _check_folder(path)
    if len(set(named)) < len(named):
        raise InputError(
            "--samples names a file twice: the spread over sets needs sets of their own"
        )
    shapes = {
        name: real.images.shape[1:] if name.startswith("folder:") else None for name in named
    }  # a folder is converted
    sets = {
        name: data.load(name, "train", image_shape=shape).images for name, shape in shapes.items()
    }
    protocol.check_samples(sets, real.images, values.num)  # before the work that a floor is
    spec = config.default().evaluation
    spec.update(num=min([values.num or math.inf, *map(len, sets.values())]), features=tuple(dict.fromkeys(values.features)),
                inception=values.inception, resize=values.resize)  # fmt: skip
    train, held_out = (real, other) if split.startswith("train") else (other, real)
    both = dict(train=train, held_out=held_out) if other is not None else {}
    refs = protocol.build(real, other, spec, **both)
    found = protocol.evaluate_samples(sets, refs, values.num)
    record.write({**found, "files": list(values.samples)}, path)
    _print_scores(found, scores.describe(refs.extractors, refs.judge))
    print(f"written: {path}")
    return 0


def _print_scores(found: dict, described: list[dict]) -> None:
    """A line for each score: mean, standard deviation, and the floor with the multiple of it."""
    from jaxgen.evaluation.ranking import finite, number

    rows = [("", "score", "", "real images")]
    for score in described:
        if score["id"] in found["scores"]:
            value, floor = found["scores"][score["id"]], found["floors"].get(score["id"])
            spread = (
                f"± {number(value['std'], score)} {score['unit']}"
                if finite(value["std"])
                else score["unit"]
            )
            beside = "" if floor is None else number(floor["mean"], score)
            beside += f" (x {value['times_floor']:.2f})" if "times_floor" in value else ""
            rows.append((score["name"], number(value["mean"], score), spread, beside))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for name, value, spread, beside in rows:
        line = f"{name:<{widths[0]}}  {value:>{widths[1]}} {spread:<{widths[2]}}  {beside}"
        print(line.rstrip())


def compare(values: flags.FlagValues) -> int:
    """Train what is missing of an experiment, evaluate all of it, and write report.html."""
    from jaxgen.compare import Stopped, compare
    from jaxgen.evaluation import report

    _need(values, "config", "workdir")
    try:
        results, path = compare(
            values.config, values.workdir, require=values.require, progress=values.progress
        )
    except Stopped as stop:
        print("stopped and saved; the same command goes on from there")
        return 128 + stop.number
    print(report.table(results))
    for line in report.chosen(results):
        print(line)
    print(f"\nreport: {path}")
    return 0


COMMANDS: dict[str, Callable[[flags.FlagValues], int]] = {
    "train": train,
    "sample": sample,
    "evaluate": evaluate,
    "compare": compare,
}


def _help(command: str, values: flags.FlagValues) -> str:
    """What a command does, its example from the top of this file, and its flags."""
    (example,) = [
        line for line in __doc__.splitlines() if line.startswith(f"    jaxgen {command} ")
    ]
    return "\n".join([COMMANDS[command].__doc__, "", example, "", *arguments.listing(values)])


def _prepare_jax() -> None:
    """Compiled programs are kept between runs, unless the user decided otherwise; libraries'
    notices are not shown.
    """
    from absl import logging

    logging.set_verbosity(logging.FATAL)  # their errors reach us as exceptions
    warnings.filterwarnings(
        "ignore", message=".*persistent compilation cache"
    )  # without it, it only takes longer
    cache = os.path.join(
        os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "jaxgen", "xla"
    )
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", cache)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    line = sys.argv[1:] if argv is None else argv
    if not line or line[0] in ("-h", "--help", "help"):
        print(__doc__.strip())
        return 0 if line else 2
    if line[0] == "--version":
        print(f"jaxgen {jaxgen.__version__}")
        return 0
    command, rest = line[0], line[1:]
    try:
        if command not in COMMANDS:
            raise InputError(f"no command '{command}': {nearest(command, COMMANDS)}")
        _prepare_jax()
        values = arguments.parse(command, rest)
        if values.help:
            print(_help(command, values))
            return 0
        return COMMANDS[command](values)
    except KeyboardInterrupt:
        print("jaxgen: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if (message := troubles.explained(error)) is None:
            raise
    print(f"jaxgen: error: {' '.join(str(message).split())}", file=sys.stderr)
    return os.EX_TEMPFAIL if isinstance(message, RetryError) else 2
