"""Drawing many samples: batches of one compiled shape, quantised to uint8, sample i a function of
the seed and i.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, UInt8

from jaxgen import programs, ranges
from jaxgen.data import to_uint8
from jaxgen.diffusion.schedule import GRIDS
from jaxgen.errors import InputError, nearest
from jaxgen.families.base import Family, Variables
from jaxgen.ranges import Count, Interval, Probability, one_of

Progress = Callable[[int], None]


OPTIONS = {  # what sampling options may be, of whatever family has them
    "steps": Count,
    "grid": Annotated[str, one_of(GRIDS)],
    "eta": Probability,
    "variance": Literal["posterior", "beta"],
    "guidance": float,
    "guidance_interval": Interval,
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
    return dict(options)


def sample_keys(seed: int, start: int, count: int) -> jax.Array:
    """Keys of the samples start .. start + count - 1 of `seed`."""
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(
        start + jnp.arange(count)
    )


def balanced_labels(
    num: int, num_classes: int, label: int | None = None
) -> Int[np.ndarray, "N"] | None:
    """`label` for every sample, or the classes in turn; None for an unconditional model
    (num_classes 0).

    Raises InputError for a class that does not exist.
    """
    if not num_classes:
        if label is not None:
            raise InputError("--label: this model is unconditional")
        return None
    if label is None:
        return np.arange(num, dtype=np.int32) % num_classes
    if not 0 <= label < num_classes:
        raise InputError(f"--label {label} does not exist: classes are 0 to {num_classes - 1}")
    return np.full(num, label, np.int32)


def sampler(family: Family, options: Mapping[str, Any]) -> Callable[..., Any]:
    """Compiled (variables, keys, labels | None) -> (uint8 images, whether all of them were finite)."""
    options = check_options(family, options)

    @programs.jit
    def run(variables: Variables, keys, labels):
        images = family.sample(variables, keys, labels, **options)
        return to_uint8(images), jnp.all(jnp.isfinite(images))

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
    labels: Int[np.ndarray, "N"] | None = None,
    progress: Progress = lambda count: None,
    place: Callable[[np.ndarray], Any] = lambda rows: rows,
) -> UInt8[np.ndarray, "N H W C"]:
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
        keys = jax.random.wrap_key_data(
            place(np.asarray(jax.random.key_data(sample_keys(seed, start, batch_size))))
        )
        batch, finite = run(variables, keys, None if labels is None else place(labels[index]))
        if not finite:
            raise InputError(
                f"samples {start} to {start + batch_size - 1} hold NaN or infinity: the model has "
                f"diverged"
            )
        images.append(on_host(batch))
        progress(min(batch_size, num - start))
    return np.concatenate(images)[:num]
