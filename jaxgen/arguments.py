"""The flags of the commands, and what is wrong with them in one line."""

import operator
import os
import re
from typing import Any

from absl import flags

from jaxgen.errors import InputError, nearest


def config_flags(values: flags.FlagValues, arguments: list[str]) -> None:
    from ml_collections import config_flags

    config_flags.DEFINE_config_file(
        "config", None, "config file, FILE.py or FILE.py:MODE; --config.FIELD=VALUE sets any field "
                        "of it",
        flag_values=values, sys_argv=arguments,
    )  # fmt: skip


def train_flags(values: flags.FlagValues, arguments: list[str]) -> None:
    config_flags(values, arguments)
    flags.DEFINE_bool(
        "profile", False, "write a trace of a few steps to WORKDIR/profile", flag_values=values
    )
    flags.DEFINE_string(
        "coordinator", None, "several processes: process 0's HOST:PORT", flag_values=values
    )
    flags.DEFINE_integer("num_processes", None, "several processes: how many", flag_values=values)
    flags.DEFINE_integer(
        "process_id", None, "several processes: which of them this is, from 0", flag_values=values
    )
    flags.DEFINE_integer(
        "coordinator_timeout",
        300,
        "several processes: seconds to find each other in",
        lower_bound=1,
        flag_values=values,
    )


def run_flags(values: flags.FlagValues, arguments: list[str]) -> None:
    from ml_collections import config_flags

    config = saved_config(arguments)
    if config is not None:
        config_flags.DEFINE_config_dict(
            "config", config, "--config.FIELD=VALUE sets a field that needs no training, e.g. of "
                              "evaluation or sample",
            flag_values=values, sys_argv=arguments,
        )  # fmt: skip
    flags.DEFINE_integer(
        "checkpoint", None, "step of the checkpoint (default: the newest)", flag_values=values
    )
    flags.DEFINE_integer(
        "num", None, "number of samples (default: the config's)", lower_bound=1, flag_values=values
    )
    flags.DEFINE_integer("steps", None, "sampler steps", lower_bound=1, flag_values=values)
    flags.DEFINE_float(
        "eta",
        None,
        "sampler noise: 0 is DDIM, 1 is DDPM",
        lower_bound=0.0,
        upper_bound=1.0,
        flag_values=values,
    )
    flags.DEFINE_float(
        "guidance", None, "classifier-free guidance weight, 1 is none", flag_values=values
    )
    flags.DEFINE_string(
        "ema", "", "average to use: a rate, or none; default the run's slowest", flag_values=values
    )


def sample_flags(values: flags.FlagValues, arguments: list[str]) -> None:
    run_flags(values, arguments)
    flags.DEFINE_integer(
        "seed",
        0,
        "seed; sample i depends on it and i alone",
        lower_bound=0,
        upper_bound=2**32 - 1,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "label", None, "class of all samples (default: the classes in turn)", flag_values=values
    )
    flags.DEFINE_integer(
        "batch_size",
        None,
        "samples at once (default: the config's)",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_string(
        "out",
        None,
        "writes OUT.png and OUT.npz (default: WORKDIR/samples/seed_SEED)",
        flag_values=values,
    )


def evaluate_flags(values: flags.FlagValues, arguments: list[str]) -> None:
    run_flags(values, arguments)
    flags.DEFINE_list(
        "samples",
        None,
        "without a model: npz files or folders of samples, one for each seed",
        flag_values=values,
    )
    flags.DEFINE_string(
        "reference",
        None,
        "real images for --samples: tfds:NAME, npz:PATH, folder:PATH, digits",
        flag_values=values,
    )
    flags.DEFINE_string(
        "split", None, "split of --reference (default: test, else train)", flag_values=values
    )
    flags.DEFINE_string("data_dir", None, "where tfds looks", flag_values=values)
    flags.DEFINE_list(
        "features",
        [],
        "extractors for --samples: classifier, pixels, inception768, ...",
        flag_values=values,
    )
    flags.DEFINE_string(
        "inception", "", "Inception weights (default: $JAXGEN_INCEPTION)", flag_values=values
    )
    flags.DEFINE_string(
        "resize",
        "tf1_bilinear",
        "for Inception: tf1_bilinear, pytorch_bilinear or pil_bicubic",
        flag_values=values,
    )
    flags.DEFINE_string(
        "out",
        None,
        "record of --samples (default: FILE.json beside the first file)",
        flag_values=values,
    )


def compare_flags(values: flags.FlagValues, arguments: list[str]) -> None:
    config_flags(values, arguments)
    flags.DEFINE_multi_string(
        "require",
        [],
        'a constraint such as "latency_ms<=5" or "coverage>=0.8"; may be repeated',
        flag_values=values,
    )


FLAGS = {
    "train": train_flags,
    "sample": sample_flags,
    "evaluate": evaluate_flags,
    "compare": compare_flags,
}


def file_config(arguments: list[str]):
    """The config of the file that --config names, before any override; None where it names none."""
    from jaxgen import config as config_lib

    files = [b if a in ("--config", "-config") else a.split("=", 1)[1]
             for a, b in zip(arguments, [*arguments[1:], ""]) if re.match(r"--?config(=|$)", a)]  # fmt: skip
    return config_lib.load(files[-1]) if files and files[-1] else None


def saved_config(arguments: list[str]):
    """The config saved in the folder that --workdir names; None where there is none."""
    from jaxgen import config as config_lib

    for a, b in zip(arguments, [*arguments[1:], ""]):
        if re.match(r"--?workdir(=|$)", a):
            folder = os.path.expanduser(b if "=" not in a else a.split("=", 1)[1])
            return (
                config_lib.read(folder)
                if os.path.exists(os.path.join(folder, "config.json"))
                else None
            )
    return None


def _check_overrides(config, arguments: list[str]) -> dict[str, Any]:
    """{dotted field: its value in the file} of all --config.FIELD arguments. Raises InputError for
    an unknown field.
    """
    from ml_collections import ConfigDict

    fields = {}
    for argument in arguments:
        match = re.match(r"--?(?:no)?config\.([^=]*)", argument)
        if not match:
            continue
        node, parts = config, match[1].split(".")
        for depth, part in enumerate(parts):
            if not isinstance(node, ConfigDict) or part not in node:
                where = ".".join(["config", *parts[:depth]])
                known = list(node) if isinstance(node, ConfigDict) else []
                raise InputError(
                    f"--config.{match[1]}: {where} has no field '{part}' ({nearest(part, known)})"
                )
            node = node[part]
        if isinstance(node, ConfigDict):
            raise InputError(
                f"--config.{match[1]}: is a section; set one of its fields ({', '.join(node)})"
            )
        fields[match[1]] = node
    return fields


def _check_elements(name: str, old, new) -> None:
    """The flag parser takes anything for the elements of a tuple: they must be of the type that the
    file has.
    """
    if isinstance(old, tuple) and old:
        kinds = {type(x) for x in old} | ({int} if float in map(type, old) else set())
        for element in new:
            if type(element) not in kinds:
                raise InputError(
                    f"--config.{name}: {element!r} is a {type(element).__name__}, unlike those of "
                    f"{old}"
                )


def parse(command: str, arguments: list[str]) -> flags.FlagValues:
    """The flags of a command line, after its first word. Raises InputError for what cannot be used,
    in one line.
    """
    values, line = flags.FlagValues(), [f"jaxgen {command}", *arguments]
    # the parser would say what is wrong with a file or a field in many lines
    config = (saved_config if command in ("sample", "evaluate") else file_config)(arguments)
    overrides = _check_overrides(config, arguments) if config is not None else {}
    flags.DEFINE_bool("help", False, "show this help", short_name="h", flag_values=values)
    flags.DEFINE_string("workdir", None, "folder of the run", flag_values=values)
    flags.DEFINE_bool("progress", True, "show a progress bar", flag_values=values)
    FLAGS[command](values, line)
    try:
        rest = values(line)[1:]
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{command}: {error}") from None
    if rest:
        raise InputError(f"{command}: '{rest[0]}' is not a flag; flags look like --name=value")
    for name, old in overrides.items():
        _check_elements(name, old, operator.attrgetter(name)(values.config))
    if values.workdir:
        values.workdir = os.path.expanduser(values.workdir)
    return values


def listing(values: flags.FlagValues) -> list[str]:
    """A line for each flag."""
    lines = []
    for flag in values.get_key_flags_for_module(__name__):
        value = {"config object": "FILE"}.get(flag.flag_type(), flag.flag_type().upper())
        form = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}={value}"
        lines.append(f"  {form:<28}{flag.help}")
    return lines
