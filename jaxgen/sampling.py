"""Drawing many samples: batches of one compiled shape, quantised to uint8, sample i a function of
the seed and i.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped
from ml_collections import ConfigDict

from jaxgen import draws, programs, ranges, spaces
from jaxgen.conditions import ConditionSpec
from jaxgen.errors import InputError, nearest
from jaxgen.families.base import Family, Variables
from jaxgen.ranges import Count, Interval, Probability, Section
from jaxgen.spaces import Space

Progress = Callable[[int], None]


OPTIONS = {  # what sampling options may be, of whatever family has them
    "steps": Count,
    "eta": Probability,
    "variance": Literal["posterior", "beta"],
    "guidance": float,
    "guidance_interval": Interval,
    "grid": str | Section | tuple[float, ...],
    "solver": str | Section,
}


def check_options(family: Family, options: Mapping[str, Any]) -> dict[str, Any]:
    """Sampling options, each known to the family and in its range. Raises InputError otherwise."""
    known = family.sample_options
    for name, value in options.items():
        if name not in known:
            has = nearest(name, known) if known else "it samples in one step"
            raise InputError(f"this system has no sampling option '{name}': {has}")
        ranges.check(f"config.sample.options.{name}", OPTIONS.get(name, type(known[name])), value)
    if options.get("trajectory"):
        raise InputError(
            "images are drawn without their trajectory: call family.sample(..., trajectory=True) "
            "for it"
        )
    return {
        name: value.to_dict() if isinstance(value, ConfigDict) else value
        for name, value in options.items()
    }


def sample_keys(seed: int, start: int, count: int) -> jax.Array:
    """Keys of the samples start .. start + count - 1 of `seed`."""
    return draws.of_examples(draws.root(seed), start, count)


def conditions(
    spec: ConditionSpec,
    num: int,
    *,
    label: int | None = None,
    rows: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray] | None:
    """What `num` samples are conditioned on, [num, ...]: the class `label` or the classes in turn,
    and for all else the columns `rows` of held-out data in turn; None for an unconditional model.

    Raises InputError for a class that does not exist, and where there are no such rows.
    """
    classes = spec.num_classes
    if label is not None and not classes:
        raise InputError("--label: this model does not see the class")
    if label is not None and not 0 <= label < classes:
        raise InputError(f"--label {label} does not exist: classes are 0 to {classes - 1}")
    place = np.arange(num)
    chosen: dict[str, np.ndarray] = {}
    for kind in spec.kinds:
        if kind.classes:
            chosen[kind.name] = np.asarray(
                place % classes if label is None else 0 * place + label, np.int32
            )
        elif rows is None or kind.name not in rows:
            raise InputError(f"this model is conditioned on '{kind.name}': give data that has it")
        else:
            chosen[kind.name] = np.asarray(rows[kind.name])[place % len(rows[kind.name])]
    return chosen or None


def rows_of(config, spec: ConditionSpec, table, num: int) -> dict[str, np.ndarray] | None:
    """The columns of the first `num` examples of a table that `spec` asks for, as networks see
    them; None where the class is all it asks for."""
    if all(kind.classes for kind in spec.kinds):
        return None
    space = spaces.from_config(config)
    batch = {name: x[:num] for name, x in table.columns.items()}
    entered = space.enter(batch, sample_keys(0, 0, len(batch[space.column])))
    return {name: np.asarray(entered[name]) for name in spec.names if name in entered}


def sampler(
    family: Family, options: Mapping[str, Any], space: Space = spaces.PIXELS
) -> Callable[..., Any]:
    """Compiled (variables, keys, condition | None) -> (samples as `space` stores them, whether all
    of them were finite)."""
    options = check_options(family, options)

    @programs.jit
    def run(variables: Variables, keys, condition):
        samples = family.sample(variables, keys, condition, **options)
        return space.leave(samples), jnp.all(jnp.isfinite(samples))

    return run


def on_host(x: jax.Array) -> np.ndarray:
    """All of an array, whichever processes hold its parts."""
    if x.is_fully_addressable or x.is_fully_replicated:
        return np.asarray(x)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(x, tiled=True))


def generate(
    run: Callable[..., Any],
    variables: Variables,
    num: int,
    *,
    seed: int,
    batch_size: int,
    condition: Mapping[str, np.ndarray] | None = None,
    progress: Progress = lambda count: None,
    place: Callable[[np.ndarray], Any] = lambda rows: rows,
) -> Shaped[np.ndarray, "N ..."]:
    """`num` samples from `run` = sampler(...). The last batch is filled up and cut, so that one
    shape is compiled.

    place: puts the rows of what is sampled from onto devices; by default they go where the
    variables are.

    Raises InputError when a sample is not finite.
    """
    if num < 1 or batch_size < 1:
        raise InputError(
            f"the number of samples and the batch size must be at least 1, not {num} and "
            f"{batch_size}"
        )
    images = []
    for start in range(0, num, batch_size):
        index = np.minimum(np.arange(start, start + batch_size), num - 1)
        keys = draws.wrap(
            place(np.asarray(jax.random.key_data(sample_keys(seed, start, batch_size))))
        )
        given = None if condition is None else {n: place(x[index]) for n, x in condition.items()}
        batch, finite = run(variables, keys, given)
        if not finite:
            raise InputError(
                f"samples {start} to {start + batch_size - 1} hold NaN or infinity: the model has "
                f"diverged"
            )
        images.append(on_host(batch))
        progress(min(batch_size, num - start))
    return np.concatenate(images)[:num]
