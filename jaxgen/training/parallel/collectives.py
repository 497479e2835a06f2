"""What crosses between devices inside the train step, written down here instead of left to the
compiler: parameters are gathered where they are used, gradients are summed once.
"""

import math
from collections.abc import Mapping

import jax
from flax import struct
from flax.core.meta import AxisMetadata
from jax.flatten_util import ravel_pytree
from jax.sharding import PartitionSpec

from jaxgen.calls import local_mean


@struct.dataclass
class Divided(AxisMetadata):
    """This device's part of a parameter. A flax module that asks for the parameter gets the whole
    (`unbox`). So a rematerialised block gathers its own parameters, its backward pass gathers them
    again, and one block is whole at a time.
    """

    part: jax.Array
    spec: PartitionSpec = struct.field(pytree_node=False)

    def unbox(self) -> jax.Array:
        whole = self.part
        for dimension, axes in enumerate(self.spec):
            if axes is not None:
                whole = jax.lax.all_gather(whole, axes, axis=dimension, tiled=True)
        return whole

    def replace_boxed(self, value):
        return self.replace(part=value)

    def add_axis(self, index, params):
        return self

    def remove_axis(self, index, params):
        return self


def gather(tree, specs, late: bool):
    """The parameters that a network takes, from this device's parts.

    Divided parameters become whole here, or (`late`) wherever a module asks for them. Their
    gradient with respect to the parts is summed over the devices that share them, and each device
    gets its own part of it: one reduce-scatter for each gathering.
    """

    def taken(x, spec):
        if not any(spec):
            return x
        divided = Divided(x, spec)
        return divided if late else divided.unbox()

    return jax.tree.map(taken, tree, specs)


def mean(tree, specs, sizes: Mapping[str, int]):
    """The mean over all devices of gradients and metrics.

    Along divided dimensions `gather` has summed the gradients already. One all-reduce serves all
    leaves (two where some are divided and some are not). XLA takes at most 256 arrays into one, so
    vectors and scalars, the most and the smallest, go as one array.

    specs: how each leaf is divided. sizes: {axis that the batch is divided over: its devices}.
    """
    if not sizes:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    parts = structure.flatten_up_to(specs)  # type: ignore[attr-defined]
    summed = [frozenset(jax.tree.leaves(tuple(spec))) for spec in parts]
    for kind in set(summed):
        axes = tuple(axis for axis, size in sizes.items() if axis not in kind and size > 1)
        if not axes:
            continue
        alike = [i for i, each in enumerate(summed) if each == kind]
        large = [i for i in alike if leaves[i].ndim >= 2]
        small = [i for i in alike if leaves[i].ndim < 2]
        vector, separate = ravel_pytree([leaves[i] for i in small])
        *totals, vector = jax.lax.psum([*(leaves[i] for i in large), vector], axes)
        for i, total in zip(large + small, totals + separate(vector), strict=True):
            leaves[i] = total
    size = math.prod(sizes.values())
    return jax.tree.unflatten(structure, [total / size for total in leaves])


def batch_mean(axes: tuple[str, ...], x):
    """The mean over the global batch, from a device's rows; the same on every device."""
    here = local_mean(x)
    return jax.lax.pmean(here, axes) if axes else here
