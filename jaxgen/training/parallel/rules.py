"""Which parameters are divided among devices, and along which dimension: pure functions of names
and shapes.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import PartitionSpec

from jaxgen.errors import InputError

FSDP = "fsdp"  # the axis of the mesh whose devices share one copy of the state
Rule = tuple[str, tuple[str | None, ...]]  # (regular expression, axis of each dimension)


def check(rules: Sequence[Any]) -> tuple[Rule, ...]:
    """The rules of `config.parallel.rules`, known to be pairs of a regular expression and axes.

    Raises InputError where one is not.
    """
    where = "config.parallel.rules"
    for rule in rules:
        pair = isinstance(rule, list | tuple) and len(rule) == 2
        if not (pair and isinstance(rule[0], str) and isinstance(rule[1], list | tuple)):
            raise InputError(
                f"{where}: {rule!r} is not a pair of a regular expression and the axes of the "
                f"dimensions, such as ('kernel$', (None, '{FSDP}'))"
            )
        pattern, axes = rule
        try:
            re.compile(pattern)
        except re.error as error:
            raise InputError(f"{where}: '{pattern}' is no regular expression: {error}") from None
        for axis in axes:
            if axis not in (None, FSDP):
                raise InputError(
                    f"{where}: '{pattern}' names the axis {axis!r}: write '{FSDP}' or None"
                )
        if list(axes).count(FSDP) > 1:
            raise InputError(f"{where}: '{pattern}' divides two dimensions: divide one of them")
    return tuple((pattern, tuple(axes)) for pattern, axes in rules)


def spec(
    path: str, shape: tuple[int, ...], rules: tuple[Rule, ...], parts: int, min_size: int
) -> PartitionSpec:
    """How the leaf `path` of the state is divided into `parts`.

    The first rule whose expression is found in the path decides. Without one, a leaf of at least
    `min_size` elements is divided in the largest of its dimensions that `parts` divides. Raises
    InputError where a rule cannot be followed for a parameter.
    """
    if parts == 1:
        return PartitionSpec()
    for pattern, axes in rules:
        if re.search(pattern, path):
            if len(axes) <= len(shape) and all(
                axis is None or side % parts == 0 for axis, side in zip(axes, shape)
            ):
                return PartitionSpec(*axes)
            if path.startswith("params"):
                raise InputError(
                    f"config.parallel.rules: '{pattern}' divides {path} of shape {shape} as "
                    f"{axes}, which {parts} devices cannot"
                )
            return PartitionSpec()  # what an optimiser keeps of a parameter in another shape
    sides = [side if side % parts == 0 else 0 for side in shape]
    if math.prod(shape) < min_size or not any(sides):
        return PartitionSpec()
    largest = sides.index(max(sides))
    return PartitionSpec(*(FSDP if i == largest else None for i in range(len(shape))))


def specs(tree, prefix: str, rules: tuple[Rule, ...], parts: int, min_size: int):
    """`spec` for every leaf of a tree of arrays or shapes, whose paths begin with `prefix`."""

    def leaf(path, x):
        name = prefix + jax.tree_util.keystr(path, simple=True, separator="/")
        # frozen parameters are handed to the networks beside the trained ones, and divided alike
        return spec(re.sub("^frozen/", "params/", name), x.shape, rules, parts, min_size)

    return jax.tree_util.tree_map_with_path(leaf, tree)
