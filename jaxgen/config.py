"""Configs: the fields that every experiment has, loading them from files, and checking what a user
changed.

A config file defines `get_config(mode="")` and returns a `ConfigDict` that starts from `default()`.
`mode` is what follows the colon in `--config=file.py:mode`; the mode `smoke` shrinks the run to
seconds."""

import json
import os
import traceback
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict, config_dict

from jaxgen import files
from jaxgen.errors import InputError, nearest

# Fields that a resumed run may change: they do not alter what the finished steps computed.
RESUMABLE = (
    "name", "train.steps", "train.steps_per_dispatch", "train.log_every", "train.eval_every", "train.sample_every",
    "data.data_dir", "data.pipeline", "data.device_bytes", "data.workers",
)  # fmt: skip
RESUMABLE_SECTIONS = ("checkpoint", "evaluation", "parallel", "sample")

PIPELINES = ("auto", "device", "stream")


def default() -> ConfigDict:
    """All fields that every experiment has."""
    return ConfigDict(
        dict(
            name="",  # how reports call the system
            seed=0,
            family="",  # the wiring: adversarial, autoencoder, diffusion
            conditional=False,  # whether the networks see the class label
            model=ConfigDict(),  # the wiring's own options: its networks and what binds them
            players=ConfigDict(),  # name -> player(...)
            order=(),  # players in order of update; empty: alphabetical
            simultaneous=False,  # all players step from the same parameters, keys and batch
            data=dict(
                source="",  # digits | tfds:<name> | folder:<path> | npz:<path> | synthetic
                data_dir=config_dict.placeholder(str),  # where tfds looks
                image_shape=(0, 0, 0),
                num_classes=0,
                train="train",  # what each split is, e.g. train[:55000]
                validation="validation",
                test="test",
                flip=False,  # random horizontal flips in the train step
                pipeline="auto",  # device: all images live there; stream: read in the background; auto: by device_bytes
                device_bytes=2 * 2**30,  # auto keeps up to so many bytes of images on each device
                workers=4,  # processes that read and decode for a stream; 0: threads
            ),
            train=dict(
                steps=0,
                batch_size=0,
                accumulate=1,  # micro-batches per update
                steps_per_dispatch=10,  # train steps in one call of the compiled program, all that the host does in between
                log_every=100,
                eval_every=0,  # 0: never
                sample_every=0,
            ),
            ema=dict(
                rates=(
                    0.999,
                ),  # several averages at once; sampling uses the slowest (largest rate) unless told otherwise
                networks=(),  # empty: all
            ),
            parallel=dict(
                mode="jit",  # jit: over a mesh (data, fsdp); pmap: a whole copy of the state on every device
                fsdp=1,  # so many devices share one copy of the state, each keeping a part; -1: all of them
                fsdp_min_size=2
                ** 16,  # parameters with fewer elements are not divided, but for rules
                rules=(),  # (regular expression, (None or "fsdp" for each dimension)): how parameters are divided
            ),
            precision=dict(compute="float32"),  # or bfloat16; parameters and losses stay float32
            checkpoint=dict(
                every=1000,
                keep=3,
                best="",  # a validation metric to minimise, e.g. validation/model/loss; empty: keep the latest only
            ),
            sample=dict(
                num=64,
                batch_size=256,
                ema="",  # the average to sample from: a rate of config.ema.rates, none; empty: the slowest
                options=ConfigDict(),  # the wiring's sampling options: steps, eta, guidance, ...
            ),
            evaluation=dict(
                num=1000,  # samples per seed
                seeds=(0, 1, 2),
                split="test",  # of real images that samples are measured against: test, or train as published FIDs do
                reference_images=0,  # so many of them; 0: all
                features=(),  # classifier, pixels, inception64, ...768, 2048; empty: the first two, or pixels
                inception="",  # the Inception network's weights; empty: $JAXGEN_INCEPTION
                resize="tf1_bilinear",  # to Inception's 299 pixels: tf1_bilinear, pytorch_bilinear or pil_bicubic
                log_prob_images=0,  # held-out images whose likelihood is measured; 0: none
                log_prob=ConfigDict(),  # options of the wiring's log_prob: num_samples (autoencoder), num_times (diffusion)
            ),
        )
    )


def player(
    terms: Mapping[str, Any], *, networks: tuple[str, ...] = (), updates: int = 1, **optimizer: Any
) -> ConfigDict:
    """A player: the networks it trains (empty: the network of its own name), its loss terms, its
    optimiser, and how many updates it makes per step, each on a fresh batch.

    terms: {name: {weight, start, every, **options}}, see `losses.objective`. optimizer: see
    `training.optimizer.build`."""
    return ConfigDict(
        dict(
            networks=networks,
            terms=dict(terms),
            updates=updates,
            optimizer=dict({"name": "adam"}, **optimizer),
        )
    )


def smoke(config: ConfigDict) -> ConfigDict:
    """The config shrunk to a few steps and samples, on synthetic images where the real ones would
    have to be there.
    """
    config.train.update(steps=4, batch_size=16, log_every=2)
    for name in ("eval_every", "sample_every"):
        config.train[name] = min(4, config.train[name])
    config.checkpoint.every = 2
    config.sample.update(num=4, batch_size=16)
    config.evaluation.update(
        num=32, seeds=(0, 1), log_prob_images=min(16, config.evaluation.log_prob_images)
    )
    if config.data.source != "digits":
        config.data.update(
            source="synthetic", train="train[:64]", validation="validation[:64]", test="test[:64]"
        )
    return config


def load(path: str, overrides: Mapping[str, Any] | None = None) -> ConfigDict:
    """The config of a file, `path` or `path:mode`, with dotted `overrides` applied.

    Raises InputError for whatever goes wrong in the file, with its line.
    """
    import importlib.util

    file, _, mode = path.partition(":")
    if not os.path.isfile(file):
        raise InputError(f"config file {file} does not exist")
    try:
        spec = importlib.util.spec_from_file_location(os.path.basename(file)[:-3], file)
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
    for name, value in (overrides or {}).items():
        override(config, name, value)
    return config


def override(config: ConfigDict, name: str, value: Any) -> None:
    """Set the dotted field `name`. Raises InputError for an unknown field or a value of another
    type.
    """
    parts, node = name.split("."), config
    for depth, part in enumerate(parts):
        if not isinstance(node, ConfigDict) or part not in node:
            here = ".".join(["config", *parts[:depth]])
            known = list(node) if isinstance(node, ConfigDict) else []
            raise InputError(
                f"config has no field '{name}': {here} has no '{part}' ({nearest(part, known)})"
            )
        parent, node = node, node[part]
    try:
        parent[parts[-1]] = tuple(value) if isinstance(value, list) else value
    except TypeError:
        kind = type(node).__name__
        raise InputError(
            f"config field '{name}' is a {kind}; {value!r} is a {type(value).__name__}"
        ) from None


def to_json(config: ConfigDict) -> str:
    """The config as JSON text, fields sorted."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True)


def _tuples(value):
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def from_json(text: str) -> ConfigDict:
    """A config back from `to_json`; lists become tuples again."""
    config = ConfigDict(_tuples(json.loads(text)))
    if "data" in config and config.data.get("data_dir", "") is None:
        del config.data["data_dir"]  # JSON does not know the type of a field that is not set
        config.data.data_dir = config_dict.placeholder(str)
    return config


def read(workdir: str) -> ConfigDict:
    """The config saved in a run's folder. Raises InputError when there is none."""
    path = os.path.join(workdir, "config.json")
    try:
        config = from_json(files.read(path).decode())
        _fill(config, default())
        return config
    except FileNotFoundError:
        raise InputError(
            f"{path} does not exist: {workdir} is not the --workdir of a run"
        ) from None
    except ValueError as error:
        raise InputError(f"{path} is not a saved config ({error})") from None


def _fill(config: ConfigDict, reference: ConfigDict) -> None:
    """Fields that did not exist yet when a config was saved get their defaults."""
    for name, value in reference.items():
        if name not in config:
            config[name] = value
        elif isinstance(value, ConfigDict) and isinstance(config[name], ConfigDict) and len(value):
            _fill(config[name], value)


def write(config: ConfigDict, workdir: str) -> None:
    """Save the config beside its run, atomically."""
    files.replace(os.path.join(workdir, "config.json"), to_json(config) + "\n")


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


def experiment(**fields: Any) -> ConfigDict:
    """A set of systems to compare, for a file in experiments/: `fields` in place of the defaults."""
    config = ConfigDict(
        dict(
            title="",
            question="",  # what the comparison is to answer, in plain words
            systems=(),  # config files, or system(...) for variants of one
            mode="",  # the mode that each of them is loaded in
            axis=dict(
                name="", log=False
            ),  # what the `value` of a system is, where systems differ in one number
            data_dir=config_dict.placeholder(str),  # where tfds looks, for all of them
            evaluation=default().evaluation,  # in place of each system's own, so that all are measured alike
        )
    )
    config.update(fields)
    return config


def system(
    path: str, name: str = "", *, value: float | None = None, **overrides: Any
) -> dict[str, Any]:
    """A variant of a config file for an experiment: `name` in reports, its `value` on the
    experiment's axis, and fields by dotted name, such as `**{"train.steps": 100}`. Variants that
    differ only in sampling share one training run."""
    return {"path": path, "name": name, "value": value, "overrides": overrides}


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
    for name in ("steps", "batch_size", "accumulate", "steps_per_dispatch", "log_every"):
        if config.train[name] < 1:
            raise InputError(f"config.train.{name} must be at least 1, not {config.train[name]}")
    if config.train.batch_size % config.train.accumulate:
        raise InputError(
            f"config.train.batch_size {config.train.batch_size} cannot be divided into "
            f"config.train.accumulate = {config.train.accumulate} micro-batches"
        )
    if not config.players:
        raise InputError("config.players is empty: name at least one player")
    if config.order and sorted(config.order) != sorted(config.players):
        raise InputError(
            f"config.order {tuple(config.order)} must name each of the players "
            f"{tuple(config.players)} once"
        )
    if config.conditional and not config.data.num_classes:
        raise InputError("config.conditional needs config.data.num_classes")
    if config.data.pipeline not in PIPELINES:
        raise InputError(
            f"config.data.pipeline '{config.data.pipeline}' is unknown: "
            f"{nearest(config.data.pipeline, PIPELINES)}"
        )
    for name in ("device_bytes", "workers"):
        if config.data[name] < 0:
            raise InputError(f"config.data.{name} must not be negative, got {config.data[name]}")
    if any(not 0.0 < rate < 1.0 for rate in config.ema.rates):
        raise InputError(
            f"config.ema.rates must lie between 0 and 1, not {tuple(config.ema.rates)}"
        )
    if config.checkpoint.every < 1 or config.checkpoint.keep < 1:
        raise InputError("config.checkpoint.every and config.checkpoint.keep must be at least 1")
