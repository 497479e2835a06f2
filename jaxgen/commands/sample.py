"""Draw samples of a trained system: a PNG grid and an npz (arr_0, uint8 NHWC or points)."""

import os
from typing import Any

from jaxgen import files
from jaxgen.arguments import integer, path
from jaxgen.commands.common import RUN, need, open_run, say

FLAGS = (
    *RUN,
    integer("seed", 0, "sample i depends on it and i alone", lower_bound=0, upper_bound=2**64 - 1),
    integer("label", None, "class of all samples (default: the classes in turn)"),
    integer("batch_size", None, "samples at once (default: the config's)", lower_bound=1),
    path("out", None, "writes OUT.png and OUT.npz (default: WORKDIR/samples/seed_SEED)"),
)


def run(values) -> int:
    import numpy as np

    from jaxgen import data, sampling
    from jaxgen.training import logging

    need(values, "workdir")
    opened = open_run(values)
    config = opened.config
    num = values.num or config.sample.num
    spec = opened.family.data.conditions
    others = not all(kind.classes for kind in spec.kinds)  # of which examples are taken from data
    held_out = data.from_config(config, "test").everything() if others else None
    rows = sampling.rows_of(config, spec, held_out, num) if others else None
    condition = sampling.conditions(spec, num, label=values.label, rows=rows)
    draw = sampling.sampler(opened.family, config.sample.options, opened.space)
    out = values.out or os.path.join(values.workdir, "samples", f"seed_{values.seed}")
    stem, extension = os.path.splitext(out)
    stem = stem if extension in (".png", ".npz") else out
    grid, arrays = (files.writable(f"{stem}.{kind}") for kind in ("png", "npz"))
    with logging.progress_bar(num, 0, "samples", values.progress, unit="image") as bar:
        samples = sampling.generate(
            draw,
            opened.variables,
            num,
            seed=values.seed,
            batch_size=values.batch_size or config.sample.batch_size,
            condition=condition,
            progress=bar.update,
        )
    labels = (condition or {}).get("label")
    kept: dict[str, Any] = (
        {"arr_0": samples} if labels is None else {"arr_0": samples, "arr_1": labels}
    )
    files.replace(arrays, lambda file: np.savez_compressed(file, **kept))
    logging.write_png(grid, opened.space.picture(samples[:1024]))
    say(f"{num} samples of step {opened.step}: {grid} {arrays}")
    return 0
