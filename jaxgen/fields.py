"""The fields of configs: what every experiment has, with defaults, and what each of them may be.

Configs use these by way of `jaxgen.config`, which loads, changes and checks them."""

import os
import sys
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from ml_collections import ConfigDict, FieldReference, config_dict

from jaxgen import ranges
from jaxgen.ranges import (
    DISTINCT,
    FILLED,
    Count,
    Rule,
    Seed,
    Whole,
    above,
    at_least,
    below,
    between,
)

GROWING = ("sample.options", "evaluation.log_prob")  # sections that fields may be added to
OPEN = ("model", "players", "pretrained", "data.columns", *GROWING)  # whose fields are a wiring's


def default() -> ConfigDict:
    """All fields that every experiment has. What each of them may be stands in FIELDS."""
    options = ConfigDict(type_safe=False)  # their types are those of what takes them
    return ConfigDict(
        dict(
            name="",  # how reports call the system
            folder="",  # of the config file, where my_module:my_network is found; set by load
            seed=0,
            family="",  # the wiring: adversarial, autoencoder, diffusion
            # What the networks see. True: the class label; or the names of columns.
            conditional=FieldReference(False, field_type=object),
            model=options.copy_and_resolve_references(),  # the wiring's: networks, what binds them
            players=options.copy_and_resolve_references(),  # name -> player(...)
            # network -> {workdir, network, ema}: the run that it begins as. One that no player
            # trains stays as it is: a teacher, a first stage.
            pretrained=options.copy_and_resolve_references(),
            order=(),  # players in order of update; empty: alphabetical
            simultaneous=False,  # all players step from the same parameters, keys and batch
            data=dict(
                source="",  # digits | folder:<path> | npz:<path> | tfds:<name> | ...: docs/data.md
                data_dir=config_dict.placeholder(str),  # where tfds looks
                space="pixels",  # pixels: uint8 images; points: float32 vectors
                image_shape=(0, 0, 0),  # of one example: (height, width, channels); of points: (2,)
                resize="none",  # image files of another size: an error; or "crop" or "squash" them
                # Further columns: {name: {name: downsample, factor}}.
                columns=options.copy_and_resolve_references(),
                num_classes=0,
                train="train",  # what each split is, e.g. train[:55000]
                validation="validation",
                test="test",
                flip=False,  # random horizontal flips in the train step
                # device: all images live there; stream: read in the background; auto: by
                # device_bytes
                pipeline="auto",
                device_bytes=2 * 2**30,  # auto keeps up to so many bytes of images on each device
                workers=4,  # processes that read and decode for a stream; 0: threads
            ),
            train=dict(
                steps=0,
                batch_size=0,
                accumulate=1,  # micro-batches per update
                steps_per_dispatch=10,  # in one call of the compiled program, without the host
                log_every=100,
                eval_every=0,  # 0: never
                sample_every=0,
            ),
            ema=dict(
                # Several averages at once; sampling uses the slowest, of the largest rate, unless
                # told otherwise.
                rates=(0.999,),
                networks=(),  # empty: all
            ),
            parallel=dict(
                # jit: over a mesh (data, fsdp); pmap: a whole copy of the state on every device
                mode="jit",
                fsdp=1,  # so many devices share one copy of the state, each keeping a part; -1: all
                fsdp_min_size=2**16,  # smaller parameters are not divided, but for rules
                # How parameters are divided: (regular expression, (None or "fsdp" for each
                # dimension)).
                rules=(),
            ),
            precision=dict(compute="float32"),  # or bfloat16; parameters and losses stay float32
            checkpoint=dict(
                every=1000,
                keep=3,
                # A validation metric to minimise, e.g. validation/model/loss; empty: keep the
                # latest only.
                best="",
            ),
            sample=dict(
                num=64,
                batch_size=256,
                ema="",  # the average to sample from: a rate of ema.rates, none; empty: the slowest
                options=options.copy_and_resolve_references(),  # the wiring's: steps, eta, ...
            ),
            evaluation=dict(
                num=1000,  # samples per seed
                seeds=(0, 1, 2),
                split="test",  # of real images: test, or train as published FIDs do
                reference_images=0,  # so many of them; 0: all
                # classifier, pixels, inception64, ...768, 2048; empty: the first two, or pixels
                features=(),
                inception="",  # the Inception network's weights; empty: $JAXGEN_INCEPTION
                # To Inception's 299 pixels: tf1_bilinear, pytorch_bilinear or pil_bicubic.
                resize="tf1_bilinear",
                scores=(),  # more of them, each "package.module:attribute", a scores.Score
                log_prob_images=0,  # held-out images whose likelihood is measured; 0: none
                # The wiring's: num_samples (autoencoder), num_times (diffusion).
                log_prob=options.copy_and_resolve_references(),
            ),
        )
    )


def _is_shape(sizes: tuple[int, ...]) -> bool:
    return len(sizes) == 1 or len(sizes) == 3 and sizes[-1] in (1, 3, 4)


SHAPE = Rule("(height, width, channels) with 1, 3 or 4 channels, or (dimensions,)", _is_shape)
ALL_OR_SOME = Rule("of at least 1, or -1 for all", lambda x: x >= 1 or x == -1)
RATE = Annotated[float, above(0), below(1)]
AXES = tuple[Literal["fsdp"] | None, ...]

EXPERIMENT: dict[str, Any] = {  # what the fields of an experiment may be, evaluation apart
    "title": str,
    "question": str,
    "systems": tuple,
    "mode": str,
    "axis.name": str,
    "axis.log": bool,
    "data_dir": str | None,
}
FIELDS: dict[str, Any] = {  # what each field may be, those in sections that are OPEN apart
    "name": str,
    "folder": str,
    "seed": Seed,
    "family": str,
    "conditional": bool | Annotated[tuple[str, ...], DISTINCT],
    "order": tuple[str, ...],
    "simultaneous": bool,
    "data.source": str,
    "data.space": str,
    "data.data_dir": str | None,
    "data.image_shape": Annotated[tuple[Count, ...], SHAPE],
    "data.resize": Literal["none", "crop", "squash"],
    "data.num_classes": Whole,
    "data.train": str,
    "data.validation": str,
    "data.test": str,
    "data.flip": bool,
    "data.pipeline": Literal["auto", "device", "stream"],
    "data.device_bytes": Annotated[int, at_least(0)],
    "data.workers": Annotated[int, between(0, 1024)],
    "train.steps": Count,
    "train.batch_size": Count,
    "train.accumulate": Count,
    "train.steps_per_dispatch": Annotated[int, between(1, 10**4)],
    "train.log_every": Count,
    "train.eval_every": Whole,
    "train.sample_every": Whole,
    "ema.rates": Annotated[tuple[RATE, ...], DISTINCT],
    "ema.networks": Annotated[tuple[str, ...], DISTINCT],
    "parallel.mode": Literal["jit", "pmap"],
    "parallel.fsdp": Annotated[int, ALL_OR_SOME, ranges.FITS],
    "parallel.fsdp_min_size": Annotated[int, at_least(0)],
    "parallel.rules": tuple[tuple[ranges.Regular, AXES], ...],
    "precision.compute": Literal["float32", "bfloat16"],
    "checkpoint.every": Count,
    "checkpoint.keep": Count,
    "checkpoint.best": str,
    "sample.num": Count,
    "sample.batch_size": Count,
    "sample.ema": str,
    "evaluation.num": Count,
    "evaluation.seeds": Annotated[tuple[Seed, ...], FILLED, DISTINCT],
    "evaluation.split": Literal["test", "train"],
    "evaluation.reference_images": Whole,
    "evaluation.features": tuple[str, ...],
    "evaluation.inception": str,
    "evaluation.resize": Literal["tf1_bilinear", "pytorch_bilinear", "pil_bicubic"],
    "evaluation.scores": tuple[str, ...],
    "evaluation.log_prob_images": Whole,
}


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


def pretrained(workdir: str, network: str = "", ema: str = "") -> dict[str, str]:
    """An entry of `config.pretrained`: the network of another run that one begins as.

    network: its name there (empty: the same). ema: a rate, "none", or empty for the slowest."""
    return {"workdir": workdir, "network": network, "ema": ema}


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
    if config.data.source != "digits" and config.data.space == "pixels":
        config.data.update(
            source="synthetic", train="train[:64]", validation="validation[:64]", test="test[:64]"
        )
    return config


def experiment(**fields: Any) -> ConfigDict:
    """A set of systems to compare, for a file in experiments/; `fields` replace the defaults."""
    config = ConfigDict(
        dict(
            title="",
            # the file that calls this: systems are looked for from its folder upwards
            file=os.path.abspath(sys._getframe(1).f_globals.get("__file__", "experiment.py")),
            question="",  # what the comparison is to answer, in plain words
            systems=(),  # config files, or system(...) for variants of one
            mode="",  # the mode that each of them is loaded in
            # What the `value` of a system is, where systems differ in one number.
            axis=dict(name="", log=False),
            data_dir=config_dict.placeholder(str),  # where tfds looks, for all of them
            evaluation=default().evaluation,  # in place of each system's own: all alike
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
