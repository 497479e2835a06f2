"""What commands share: flags, the config that a command line means, and what is printed."""

import sys

from absl import flags

from jaxgen.arguments import FIELD, floating, integer, several, text
from jaxgen.errors import InputError

CONFIG = (
    text("config", None, "config file, FILE.py or FILE.py:MODE"),
    several(FIELD, [], "sets a field of the config, as --config.train.steps=500"),
)
RUN = (  # of commands on a run that exists
    several(FIELD, [], "sets a field that needs no training, of evaluation or sample"),
    integer("checkpoint", None, "step of the checkpoint (default: the newest)"),
    integer("num", None, "number of samples (default: the config's)", lower_bound=1),
    integer("steps", None, "sampler steps", lower_bound=1),
    floating("eta", None, "sampler noise: 0 is DDIM, 1 is DDPM", lower_bound=0.0, upper_bound=1.0),
    floating("guidance", None, "classifier-free guidance weight, 1 is none"),
    text("ema", None, "average to use: a rate, or none (default: config.sample.ema)"),
)


def need(values: flags.FlagValues, *names: str) -> None:
    """Raises InputError where one of these flags is missing."""
    for name in names:
        if not getattr(values, name):
            raise InputError(f"--{name} is needed; see jaxgen --help")


def refuse(values: flags.FlagValues, where: str, *names: str) -> None:
    """A flag that would be ignored is an error."""
    for name in names:
        if values[name].present:
            raise InputError(f"--{name} has no meaning {where}; see jaxgen --help")


def file_config(values: flags.FlagValues):
    """The config of the file that --config names, with the fields that the command line sets."""
    from jaxgen import config

    return config.apply(config.load(values.config), values[FIELD].value or ())


def open_run(values: flags.FlagValues):
    """The run in --workdir, its config with the fields that the command line sets."""
    from jaxgen import config, runs, sampling

    changed = config.apply(config.read(values.workdir), values[FIELD].value or ())
    config.check(changed)
    run = runs.open_run(values.workdir, values.ema, values.checkpoint, changed)
    given = {name: values[name].value for name in ("steps", "eta", "guidance")}
    given = {name: value for name, value in given.items() if value is not None}
    run.config.sample.options.update(sampling.check_options(run.family, given))
    return run


def say(line: str) -> None:
    """Print a line in whatever encoding standard output has."""
    from jaxgen.report.table import printable

    print(printable(line, sys.stdout.encoding))
