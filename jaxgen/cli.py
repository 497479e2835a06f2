"""The `jaxgen` command: train, sample, evaluate, compare.

    jaxgen train    --config=configs/digits/vae.py --workdir=runs/vae [--config.train.steps=500 ...]
    jaxgen sample   --workdir=runs/vae --num=64 --seed=0 [--out=samples/vae]
    jaxgen evaluate --workdir=runs/vae | --samples=FILE.npz --reference=tfds:cifar10
    jaxgen compare  --config=experiments/trilemma.py --workdir=runs/trilemma

`jaxgen COMMAND --help` lists a command's flags; `jaxgen --version` prints the version. Bad input,
and a model that diverged, end with one line on standard error and exit code 2: do not try again.
What may pass, such as a full disk, ends with 75, and an interrupted run, which is saved, with 128 +
the signal's number: the same command goes on where it stopped."""

import importlib
import os
import sys
import warnings

import jaxgen
from jaxgen import arguments, troubles
from jaxgen.errors import InputError, RetryError, nearest

COMMANDS = {  # name -> its module, imported when it is asked for
    "train": "jaxgen.commands.train",
    "sample": "jaxgen.commands.sample",
    "evaluate": "jaxgen.commands.evaluate",
    "compare": "jaxgen.commands.compare",
}


def _help(command: str, module) -> str:
    """What a command does, its example from the top of this file, and its flags."""
    (example,) = [
        line for line in __doc__.splitlines() if line.startswith(f"    jaxgen {command} ")
    ]
    return "\n".join([module.__doc__, "", example, "", *arguments.listing(module)])


def _prepare_jax() -> None:
    """Compiled programs are kept between runs, unless the user decided otherwise; libraries'
    notices are not shown.
    """
    from absl import logging

    logging.set_verbosity(logging.FATAL)  # their errors reach us as exceptions
    # without it, it only takes longer
    warnings.filterwarnings("ignore", message=".*persistent compilation cache")
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
        module = importlib.import_module(COMMANDS[command])
        values = arguments.parse(command, module, rest)
        if values.help:
            print(_help(command, module))
            return 0
        return module.run(values)
    except KeyboardInterrupt:
        print("jaxgen: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if (message := troubles.explained(error)) is None:
            raise
    print(f"jaxgen: error: {' '.join(str(message).split())}", file=sys.stderr)
    return os.EX_TEMPFAIL if isinstance(message, RetryError) else 2
