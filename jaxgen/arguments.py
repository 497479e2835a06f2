"""The flags of a command line, and what is wrong with them in one line."""

import re
from functools import partial
from types import ModuleType

from absl import flags

from jaxgen import files
from jaxgen.errors import InputError

boolean = partial(partial, flags.DEFINE_bool)
floating = partial(partial, flags.DEFINE_float)
integer = partial(partial, flags.DEFINE_integer)
listed = partial(partial, flags.DEFINE_list)
several = partial(partial, flags.DEFINE_multi_string)
text = partial(partial, flags.DEFINE_string)


class _Path(flags.ArgumentParser):
    def parse(self, argument: str) -> str:
        return files.expand(argument)


class _Paths(flags.ListParser):
    def parse(self, argument: str | list[str]) -> list[str]:
        return [files.expand(path) for path in super().parse(argument)]


def path(name: str, default: str | None, help: str):
    """A flag that names a file or folder: ~ is the user's."""
    return partial(flags.DEFINE, _Path(), name, default, help)


def paths(name: str, default: list[str] | None, help: str):
    """A flag that names several, with commas between them."""
    return partial(flags.DEFINE, _Paths(), name, default, help)


FIELD = "config.FIELD"  # the flag that `gathered` puts all --config.SOME.FIELD=VALUE in
ALL = (
    partial(flags.DEFINE_bool, "help", False, "show this help", short_name="h"),
    path("workdir", None, "folder of the run"),
    boolean("progress", True, "show a progress bar"),
)

_FIELD = re.compile(r"--?(no)?config\.([^=]*)(=.*)?", re.DOTALL)
_NUMBER = re.compile(r"-[\d.].*")


def gathered(arguments: list[str]) -> list[str]:
    """The arguments with every form of a field as a value of one flag.

    --config.a.b=V and --config.a.b V become --config.FIELD=a.b=V; --config.a.b and --noconfig.a.b,
    of a boolean, --config.FIELD=a.b and --config.FIELD=a.b=false.
    """
    result, rest = [], list(arguments)
    while rest:
        argument = rest.pop(0)
        found = _FIELD.fullmatch(argument)
        if found:
            no, name, given = found.groups()
            if no:
                given = "=false"
            elif given is None and rest and (rest[0][:1] != "-" or _NUMBER.match(rest[0])):
                given = f"={rest.pop(0)}"
            argument = f"--{FIELD}={name}{given or ''}"
        result.append(argument)
    return result


def names(module: ModuleType) -> list[str]:
    """The names of a command's flags."""
    defined = (*ALL, *module.FLAGS)
    return [next(x for x in define.args if isinstance(x, str)) for define in defined]


def parse(command: str, module: ModuleType, arguments: list[str]) -> flags.FlagValues:
    """The flags of a command line, after its first word. Raises InputError for what cannot be used,
    in one line.
    """
    values = flags.FlagValues()
    for define in (*ALL, *module.FLAGS):
        define(flag_values=values)
    try:
        rest = values([f"jaxgen {command}", *gathered(arguments)])[1:]
    except (flags.Error, ValueError) as error:
        raise InputError(f"{command}: {error}") from None
    if rest:
        raise InputError(f"{command}: '{rest[0]}' is not a flag; flags look like --name=value")
    return values


def listing(module: ModuleType) -> list[str]:
    """A line for each flag."""
    values = flags.FlagValues()
    for define in (*ALL, *module.FLAGS):
        define(flag_values=values)
    lines = []
    for name in names(module):
        flag = values[name]
        kind = flag.flag_type().upper().replace("COMMA SEPARATED LIST OF STRINGS", "A,B,...")
        kind = {"config": "FILE", FIELD: "VALUE"}.get(name, kind)
        form = f"--[no]{name}" if flag.boolean else f"--{name}={kind}"
        lines.append(f"  {form:<28}{flag.help}")
    return lines
