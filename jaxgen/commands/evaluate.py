"""Measure a trained system, or with --samples anybody's images, and write a record."""

import math
import re
import sys

from jaxgen import files
from jaxgen.arguments import FIELD, listed, path, paths, text
from jaxgen.commands.common import RUN, need, open_run, refuse, say
from jaxgen.errors import InputError

FLAGS = (
    *RUN,
    paths("samples", None, "without a model: npz files or folders of samples, one for each seed"),
    text("reference", None, "real images for --samples: tfds:NAME, npz:PATH, folder:PATH, digits"),
    text("split", None, "split of --reference (default: test, else train)"),
    path("data_dir", None, "where tfds looks"),
    listed("features", [], "extractors for --samples: classifier, pixels, inception768, ..."),
    path("inception", "", "Inception weights (default: $JAXGEN_INCEPTION)"),
    text("resize", "tf1_bilinear", "for Inception: tf1_bilinear, pytorch_bilinear or pil_bicubic"),
    path("out", None, "writes OUT.json, of a run also OUT_seed_0.npz, ..."),
)
ONLY_SAMPLES = ("reference", "split", "data_dir", "features", "inception", "resize")
ONLY_RUN = ("workdir", "checkpoint", "steps", "eta", "guidance", "ema", FIELD)


def run(values) -> int:
    if values.samples:
        return of_samples(values)
    if not values.workdir:
        raise InputError(
            "evaluate needs --workdir=RUN, or --samples=FILE.npz with --reference; see jaxgen "
            "evaluate --help"
        )
    refuse(values, "without --samples", *ONLY_SAMPLES)
    return of_run(values)


def of_run(values) -> int:
    """Sample a run and measure it: into WORKDIR/evaluation.json and WORKDIR/samples_seed_0.npz."""
    from jaxgen import config as config_lib
    from jaxgen.evaluation import measure, record, reference
    from jaxgen.runs import training_cost
    from jaxgen.training import logging, system

    opened = open_run(values)
    config = opened.config
    system.check_sampling(config, opened.family, opened.variables)
    if values.num is not None:
        config_lib.override(config, "evaluation.num", values.num)
    out = values.out and values.out.removesuffix(".json")
    try:
        place = files.writable(f"{out}.json" if out else f"{values.workdir}/evaluation.json")
    except InputError as error:
        raise (
            error if out else InputError(f"{error}: give --out=OUT for the record and the samples")
        ) from None
    stem = out or f"{values.workdir}/samples"
    refs = reference.references(config)
    total = config.evaluation.num * len(config.evaluation.seeds)
    with logging.progress_bar(total, 0, "samples", values.progress, unit="image") as bar:
        found, images = measure.evaluate(
            opened, refs, options=config.sample.options, ema=opened.ema, progress=bar.update
        )
    found["cost"] |= training_cost(values.workdir)
    found |= {"step": opened.step, "workdir": values.workdir}
    write(found, refs, place)
    record.keep_samples(images, stem)
    return 0


def of_samples(values) -> int:
    """Measure images of files. By default the record is FILE.json beside the first of them."""
    from jaxgen import config, data
    from jaxgen.evaluation import measure, reference

    refuse(values, "with --samples", *ONLY_RUN)
    need(values, "reference")
    named = [source_of(sample) for sample in values.samples]
    splits = data.splits(values.reference, values.data_dir)
    split = values.split or ("test" if "test" in splits else splits[0])
    asked = re.findall(r"[A-Za-z_]\w*", split)
    others = [s for s in splits if s in ("train", "test") and s not in asked]
    real = data.load(values.reference, split, data_dir=values.data_dir)
    other = data.load(values.reference, others[0], data_dir=values.data_dir) if others else None
    beside = named[0].partition(":")[2].removesuffix(".npz").rstrip("/")
    place = files.writable(f"{(values.out or beside).removesuffix('.json')}.json")
    if len(set(named)) < len(named):
        raise InputError(
            "--samples names a file twice: the spread over sets needs sets of their own"
        )
    # a folder is converted
    shapes = {name: real.images.shape[1:] if name.startswith("folder:") else None for name in named}
    sets = {
        name: data.load(name, "train", image_shape=shape).images for name, shape in shapes.items()
    }
    measure.check_samples(sets, real.images, values.num)  # before the work that a floor is
    spec = {
        "num": min([values.num or math.inf, *map(len, sets.values())]),
        "features": tuple(dict.fromkeys(values.features)),
        "inception": values.inception,
        "resize": values.resize,
    }
    asked_for = config.default()
    for name, value in spec.items():
        config.override(asked_for, f"evaluation.{name}", value)
    train, held_out = (real, other) if split.startswith("train") else (other, real)
    both = dict(train=train, held_out=held_out) if other is not None else {}
    refs = reference.build(real, other, asked_for.evaluation, **both)
    found = measure.evaluate_samples(sets, refs, values.num)
    write({**found, "files": list(values.samples)}, refs, place)
    return 0


def source_of(sample: str) -> str:
    """What --samples names, as a data source."""
    if sample.partition(":")[0] in ("npz", "folder"):
        return sample
    return f"folder:{sample}" if files.isdir(sample) else f"npz:{sample}"


def write(found: dict, refs, place: str) -> None:
    """The record into its file, and its scores on the screen."""
    from jaxgen import report
    from jaxgen.evaluation import record, scores

    record.write(found, place)
    table = report.record_table(found, scores.describe(refs.rows), sys.stdout.encoding)
    say(table.rstrip("\n"))
    say(f"written: {place}")
