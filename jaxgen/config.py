"""Configs: the fields that every experiment has, loading them from files, and checking what a user
changed.

A config file defines `get_config(mode="")` and returns a `ConfigDict` that starts from `default()`.
`mode` is what follows the colon in `--config=file.py:mode`; the mode `smoke` shrinks the run to
seconds."""

import ast
import json
import os
import re
import sys
import traceback
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict, config_dict

import jaxgen
from jaxgen import files, ranges
from jaxgen.errors import InputError, nearest
from jaxgen.fields import (
    EXPERIMENT,
    FIELDS,
    GROWING,
    OPEN,
    default,
    experiment,
    player,
    pretrained,
    smoke,
    system,
)

__all__ = [
    "FIELDS", "FORMAT", "OPEN", "ConfigDict", "apply", "check", "check_experiment", "default",
    "differences", "experiment", "from_json", "load", "override", "parse", "player", "read",
    "smoke", "split_mode", "system", "to_json", "value", "write",
]  # fmt: skip

FORMAT = 2  # of a run's folder; raised when runs of the version before cannot be read any more

# Fields that a resumed run may change: they do not alter what the finished steps computed. Whether
# the data are the same is checked by what they are, not by where they lie.
RESUMABLE = (
    "name", "folder",
    "train.steps", "train.steps_per_dispatch", "train.log_every", "train.eval_every",
    "train.sample_every",
    "data.source", "data.data_dir", "data.train", "data.validation", "data.test",
    "data.pipeline", "data.device_bytes", "data.workers",
)  # fmt: skip
TYPES = {**EXPERIMENT, **FIELDS}
RESUMABLE_SECTIONS = ("checkpoint", "evaluation", "parallel", "sample")


def load(path: str, overrides: Mapping[str, Any] | None = None) -> ConfigDict:
    """The config of a file, `path` or `path:mode`, with dotted `overrides` applied.

    From then on modules beside the file can be imported. Raises InputError for whatever goes wrong
    in the file, with its line.
    """
    import importlib.util

    file, mode = split_mode(os.path.expanduser(path))
    if files.is_remote(file):
        raise InputError(f"config file {file}: copy it to this machine, where Python can import it")
    if not os.path.isfile(file):
        raise InputError(f"config file {file} does not exist")
    folder = os.path.dirname(os.path.abspath(file))
    _make_importable(folder)
    try:
        spec = importlib.util.spec_from_file_location(os.path.basename(file)[:-3], file)
        assert spec and spec.loader  # the file is there
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = module.get_config(mode) if mode else module.get_config()
        if mode and config == module.get_config():
            raise InputError(
                f"config file {file} has no mode '{mode}': it gives the same config as without"
            )
    except InputError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = (
            [error.lineno]
            if isinstance(error, SyntaxError)
            else [f.lineno for f in frames if f.filename == file]
        )
        where = f"{file}:{lines[-1]}" if lines else file
        raise InputError(
            f"config file {where}: {type(error).__name__}: {getattr(error, 'msg', error)}"
        ) from error
    if not isinstance(config, ConfigDict):
        raise InputError(f"config file {file}: get_config returns no ConfigDict")
    if "folder" in config:
        config.folder = folder
    for name, value in (overrides or {}).items():
        override(config, name, value)
    return config


def split_mode(path: str) -> tuple[str, str]:
    """("FILE.py", "MODE") of FILE.py:MODE; folders may have colons in their names as well."""
    found = re.fullmatch(r"(.+\.py):([^:/\\]*)", path)
    return (found[1], found[2]) if found else (path, "")


def _make_importable(folder: str) -> None:
    """Let modules in `folder` be named as "my_module:my_network"; those installed come first."""
    if folder and folder not in sys.path:
        sys.path.append(folder)


def _find(config: ConfigDict, name: str) -> tuple[ConfigDict, str, Any]:
    """(section, field, present value) of a dotted name; None of a field that is new in a section of
    GROWING. Raises InputError for an unknown one."""
    parts, section, node = name.split("."), config, config
    for depth, part in enumerate(parts):
        if not isinstance(node, ConfigDict) or part not in node:
            if isinstance(node, ConfigDict) and ".".join(parts[:-1]) in GROWING and part:
                return node, part, None
            here = ".".join(["config", *parts[:depth]])
            known = list(node) if isinstance(node, ConfigDict) else []
            raise InputError(
                f"config has no field '{name}': {here} has no '{part}' ({nearest(part, known)})"
            )
        section, node = node, node[part]
    return section, parts[-1], node


def value(config: ConfigDict, name: str) -> Any:
    """The value of a dotted field. Raises InputError for an unknown one."""
    return _find(config, name)[2]


def _is_open(name: str) -> bool:
    return any(f"{name}.".startswith(f"{section}.") for section in OPEN)


def override(config: ConfigDict, name: str, value: Any) -> None:
    """Set the dotted field `name`. Lists become tuples.

    A field of an open section may get a value of another type, such as a number in place of a word:
    what takes it checks it. Raises InputError for an unknown field, and for a value that a field
    cannot have.
    """
    section, field, old = _find(config, name)
    value = _tuples(value)
    weight = _is_open(name) and field == "weight"  # a number or {init, end, steps}
    if isinstance(old, ConfigDict) and not (_is_open(name) and isinstance(value, dict) or weight):
        raise InputError(f"config.{name} is a section; set one of its fields ({', '.join(old)})")
    if name in TYPES:
        ranges.check(f"config.{name}", TYPES[name], value)
    elif not isinstance(value, bool | int | float | str | tuple | dict | None):
        raise InputError(f"config.{name} cannot be a {type(value).__name__}: {value!r}")
    if isinstance(old, float) and type(value) is int:
        value = float(value) if abs(value) < 2**63 else value
    with section.unlocked():
        if field in section:
            del section[field]  # or the old value's type would hold
        section[field] = ConfigDict(value, type_safe=False) if isinstance(value, dict) else value


BOOLS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def parse(text: str, hint: Any, old: Any) -> Any:
    """The value that a user's `text` means for a field of the type `hint`, None where that is not
    known, and the value `old`: a Python literal, or else the text itself."""
    if ranges.is_text(hint):
        return None if text == "None" and ranges.allows(hint, type(None)) else text
    word = text.strip().lower()
    if word in ("true", "false") or word in BOOLS and isinstance(old, bool):
        return BOOLS[word]
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def apply(config: ConfigDict, assignments: Iterable[str]) -> ConfigDict:
    """The config with assignments "train.steps=5" of a command line made, one after the other; a
    name alone makes a boolean field True."""
    for assignment in assignments:
        name, given, text = assignment.partition("=")
        old = value(config, name)
        if not given and not isinstance(old, bool):
            raise InputError(f"--config.{name} needs a value: --config.{name}=VALUE")
        override(config, name, parse(text, TYPES.get(name), old) if given else True)
    return config


def to_json(config: ConfigDict) -> str:
    """The config as JSON text, fields sorted."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True)


def _tuples(value):
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def from_json(text: str) -> ConfigDict:
    """A config back from `to_json`; lists become tuples again."""
    return _from_plain(json.loads(text))


def _from_plain(tree: Mapping[str, Any]) -> ConfigDict:
    config = ConfigDict(_tuples(tree))
    if "data" in config and config.data.get("data_dir", "") is None:
        del config.data["data_dir"]  # JSON does not know the type of a field that is not set
        config.data.data_dir = config_dict.placeholder(str)
    return config


def read(workdir: str) -> ConfigDict:
    """The config saved in a run's folder; modules beside the file that it came from can be imported
    again. Raises InputError when there is none, or one of another format.
    """
    path = os.path.join(workdir, "config.json")
    try:
        text = files.read(path)
    except FileNotFoundError:
        raise InputError(
            f"{path} does not exist: {workdir} is not the --workdir of a run"
        ) from None
    try:
        tree = json.loads(text)
        found, version = tree.pop("format", 1), tree.pop("jaxgen", "0.1")
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path} is not a saved config ({error})") from None
    if found != FORMAT:
        raise InputError(
            f"{workdir} holds a run of jaxgen {version} (format {found}), and this is "
            f"{jaxgen.__version__} (format {FORMAT}): use that version for it, or train again in "
            f"another --workdir"
        )
    config = _from_plain(tree)
    _fill(config, default())
    _make_importable(config.folder)
    return config


def _fill(config: ConfigDict, reference: ConfigDict) -> None:
    """Fields that did not exist yet when a config was saved get their defaults."""
    for name, value in reference.items():
        if name not in config:
            config[name] = value
        elif isinstance(value, ConfigDict) and isinstance(config[name], ConfigDict) and len(value):
            _fill(config[name], value)


def write(config: ConfigDict, workdir: str) -> None:
    """Save the config beside its run, atomically, with the package's version and format."""
    about = {"format": FORMAT, "jaxgen": jaxgen.__version__}
    text = json.dumps({**about, **config.to_dict()}, indent=2, sort_keys=True) + "\n"
    files.replace(os.path.join(workdir, "config.json"), text.encode())


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat.update(_flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value})
    return flat


def differences(old: ConfigDict, new: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Fields that a resumed run may not change and yet differ: {dotted name: (old, new)}."""
    a, b = _flat(_tuples(json.loads(to_json(old)))), _flat(_tuples(json.loads(to_json(new))))
    fixed = (
        n
        for n in sorted({*a, *b})
        if n not in RESUMABLE and n.split(".")[0] not in RESUMABLE_SECTIONS
    )
    return {n: (a.get(n), b.get(n)) for n in fixed if a.get(n) != b.get(n)}


def check(config: ConfigDict) -> None:
    """Raise InputError for a config that cannot be run, before anything slow happens."""
    reference = default()
    for section, fields in reference.items():
        if section not in config:
            raise InputError(
                f"config.{section} is missing: start the config from jaxgen.config.default()"
            )
        if isinstance(fields, ConfigDict) and len(fields):
            for name in config[section]:
                if name not in fields:
                    raise InputError(
                        f"config has no field '{section}.{name}': {nearest(name, fields)}"
                    )
    for name in config:
        if name not in reference:
            raise InputError(f"config has no field '{name}': {nearest(name, reference)}")
    _check_open(config)
    check_fields(config)
    if config.train.batch_size % config.train.accumulate:
        raise InputError(
            f"config.train.batch_size {config.train.batch_size} cannot be divided into "
            f"config.train.accumulate = {config.train.accumulate} micro-batches"
        )
    if not config.players:
        raise InputError("config.players is empty: name at least one player")
    for name, spec in config.players.items():
        if not isinstance(spec, ConfigDict) or set(player({})) - set(spec):
            raise InputError(f"config.players.{name} must be made by player(...), not {spec!r}")
    if config.order and sorted(config.order) != sorted(config.players):
        raise InputError(
            f"config.order {tuple(config.order)} must name each of the players "
            f"{tuple(config.players)} once"
        )
    averages = ("none", *map(str, config.ema.rates))
    if config.sample.ema and config.sample.ema not in averages:
        raise InputError(
            f"config.sample.ema '{config.sample.ema}' is no average of this system: "
            f"{nearest(config.sample.ema, averages)}"
        )


def _check_open(config: ConfigDict) -> None:
    """Raises InputError where a section of OPEN is none, or says of no run what to begin with."""
    for name in OPEN:
        ranges.check(f"config.{name}", ranges.Section, value(config, name))
        for field in value(config, name):
            ranges.check(f"a field of config.{name}", str, field)
    for name, source in config.pretrained.items():
        ranges.check(f"config.pretrained.{name}", ranges.Section, source)
        ranges.call_with_options(f"config.pretrained.{name}", pretrained, source)


def check_fields(config: ConfigDict, section: str = "", types: Mapping[str, Any] = FIELDS) -> None:
    """Raises InputError unless the fields, or those of a section such as "evaluation.", are what
    `types` says."""
    for name, hint in types.items():
        if name.startswith(section):
            ranges.check(f"config.{name}", hint, value(config, name))


def check_experiment(config: ConfigDict) -> None:
    """Raises InputError for an experiment that cannot be run."""
    if "systems" not in config:
        raise InputError(
            "--config is a training config, not an experiment; see experiments/ and "
            "jaxgen.config.experiment"
        )
    check_fields(config, types=EXPERIMENT)
    check_fields(config, "evaluation.")
