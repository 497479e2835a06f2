"""How one train step runs on many devices: `jit` over a mesh (data, fsdp), or `pmap`.

Both divide the batch among all devices. Under `jit` the state is divided as well, where the config
asks for it: of a parameter (and with it of its averages and its optimiser state) each device along
the axis `fsdp` keeps one part. Inside, each device computes the gradients of its part of the batch,
and what crosses between devices is written down here and in `step`, not left to the compiler:
parameters are gathered where they are used, gradients are summed once."""

import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import struct
from flax.core.meta import AxisMetadata
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgen import programs
from jaxgen.calls import local_mean
from jaxgen.errors import InputError, nearest

MODES = ("jit", "pmap")
DATA, FSDP, BATCH = "data", "fsdp", "batch"  # the axes of the mesh, and pmap's
Rule = tuple[str, tuple[str | None, ...]]  # (regular expression, axis of each dimension)


@struct.dataclass
class Divided(AxisMetadata):
    """This device's part of a parameter. A flax module that asks for the parameter gets the whole
    (`unbox`): a block that is rematerialised gathers its own, and its backward pass gathers them
    again, so that one block is whole at a time."""

    part: jax.Array
    spec: PartitionSpec = struct.field(pytree_node=False)

    def unbox(self) -> jax.Array:
        whole = self.part
        for dimension, axes in enumerate(self.spec):
            whole = (
                whole
                if axes is None
                else jax.lax.all_gather(whole, axes, axis=dimension, tiled=True)
            )
        return whole

    def replace_boxed(self, value):
        return self.replace(part=value)

    def add_axis(self, index, params):
        return self

    def remove_axis(self, index, params):
        return self


class Parallel(NamedTuple):
    """mesh: of all devices. mode: jit or pmap. axes: what a batch is divided over and sums run
    over; () on one device, where nothing has to. rules, min_size: which parameters are divided, see
    `spec`."""

    mesh: Mesh
    mode: str
    axes: tuple[str, ...]
    rules: tuple[Rule, ...] = ()
    min_size: int = 0

    def spec(self, path: str, shape: tuple[int, ...]) -> PartitionSpec:
        """How the leaf `path` of the state is divided.

        The first rule whose expression is found in the path decides. Without one, the leaves of at
        least `min_size` elements are divided along `fsdp`, in the largest of their dimensions that
        it divides."""
        parts = self.mesh.shape.get(FSDP, 1)
        if parts == 1:
            return PartitionSpec()
        for pattern, axes in self.rules:
            if re.search(pattern, path):
                if _fits(self.mesh, axes, shape):
                    return PartitionSpec(*axes)
                if path.startswith("params"):
                    raise InputError(
                        f"config.parallel.rules: '{pattern}' divides {path} of shape {shape} as "
                        f"{axes}, which the mesh "
                        f"of {dict(self.mesh.shape)} devices cannot"
                    )
                return PartitionSpec()  # what an optimiser keeps of a parameter in another shape
        sides = [side if side % parts == 0 else 0 for side in shape]
        if math.prod(shape) < self.min_size or not any(sides):
            return PartitionSpec()
        largest = sides.index(max(sides))
        return PartitionSpec(*(FSDP if i == largest else None for i in range(len(shape))))

    def specs(self, tree, prefix: str = ""):
        """`spec` for every leaf of a tree of arrays or shapes."""
        return jax.tree_util.tree_map_with_path(
            lambda path, x: self.spec(
                prefix + jax.tree_util.keystr(path, simple=True, separator="/"), x.shape
            ),
            tree,
        )

    def divided(self, specs) -> bool:
        """Whether any leaf of these is divided."""
        return any(
            any(spec)
            for spec in jax.tree.leaves(specs, is_leaf=lambda x: isinstance(x, PartitionSpec))
        )

    def shardings(self, state):
        """Where the leaves of the (global) state live, from their shapes."""
        divided = jax.tree.map(lambda s: NamedSharding(self.mesh, s), self.specs(state))
        return (
            divided
            if self.mode == "jit"
            else jax.tree.map(lambda s: NamedSharding(self.mesh, PartitionSpec()), state)
        )

    def with_shardings(self, shapes):
        """The shapes of a (global) state with the places of its leaves, for `restore`."""
        put = lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)  # noqa: E731
        return jax.tree.map(put, shapes, self.shardings(shapes))

    def create(self, init: Callable[[], Any]):
        """The state that `init` makes, every device making the parts that it keeps."""
        return jax.jit(init, out_shardings=self.shardings(jax.eval_shape(init)))()

    def global_mean(self, x):
        """Inside a device's part of the computation: the mean over the rows of all devices."""
        here = local_mean(x)
        return jax.lax.pmean(here, self.axes) if self.axes else here

    def index(self):
        """Inside a device's part of the computation: its place along the batch."""
        return jax.lax.axis_index(self.axes) if self.axes else 0

    def per_device(self, function: Callable, in_specs, out_specs) -> Callable:
        """`function` of the parts that a device has; under pmap and on one device that is
        `function` itself.
        """
        if self.mode == "pmap" or not self.axes:
            return function
        # the sums are our own business: gradients that JAX sums leaf by leaf could not go in one
        # all-reduce
        return jax.shard_map(
            function, mesh=self.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
        )

    def batch_spec(self, stacked: int = 0) -> PartitionSpec:
        """Of arrays whose rows are divided among the devices, after `stacked` axes that are not."""
        return PartitionSpec(*[None] * stacked, self.axes or None)

    def gather(self, tree, specs, late: bool):
        """Inside `per_device`: the parameters that a network takes, from the parts. Those that are
        divided become whole here, or (`late`) wherever a module asks for them. The gradient with
        respect to the parts is summed over the devices that share them, and each gets its own part
        of it: a reduce-scatter for each time of gathering."""

        def taken(x, spec):
            if not any(spec):
                return x
            divided = Divided(x, spec)
            return divided if late else divided.unbox()

        return jax.tree.map(taken, tree, specs)

    def mean(self, tree, specs):
        """Inside `per_device`: the mean over all devices of gradients, which along divided
        dimensions `gather` has summed already. One all-reduce for all leaves (two where some are
        divided and some are not): as XLA takes at most 256 arrays into one, vectors and scalars,
        which are the most and the smallest, go as one array."""
        if not self.axes:
            return tree
        leaves, structure = jax.tree.flatten(tree)
        done = [frozenset(jax.tree.leaves(tuple(spec))) for spec in structure.flatten_up_to(specs)]
        for kind in set(done):
            axes = tuple(a for a in self.axes if a not in kind and self.mesh.shape[a] > 1)
            if not axes:
                continue
            chosen = sorted(
                (i for i, each in enumerate(done) if each == kind), key=lambda i: leaves[i].ndim < 2
            )
            large = [leaves[i] for i in chosen if leaves[i].ndim >= 2]
            vector, separate = ravel_pytree([leaves[i] for i in chosen[len(large) :]])
            *large, vector = jax.lax.psum([*large, vector], axes)
            for i, total in zip(chosen, large + separate(vector), strict=True):
                leaves[i] = total
        return jax.tree.unflatten(structure, [total / self.mesh.size for total in leaves])

    @property
    def _stacked(self) -> NamedSharding:
        """Of what has a leading axis of devices, as everything under pmap."""
        return NamedSharding(Mesh(self.mesh.devices.reshape(-1), (BATCH,)), PartitionSpec(BATCH))

    def enter(self, state):
        """From the global state to the form that the compiled step takes: under pmap, one whole
        copy for each device.
        """
        if self.mode == "jit":
            return jax.device_put(state, self.shardings(state))
        sharding = self._stacked
        replicated = jax.device_put(
            state, jax.tree.map(lambda _: NamedSharding(self.mesh, PartitionSpec()), state)
        )

        def stack(x):
            parts = [shard.data[None] for shard in x.addressable_shards]
            return jax.make_array_from_single_device_arrays(
                (self.mesh.size, *x.shape), sharding, parts
            )

        return jax.tree.map(stack, replicated)

    def leave(self, state):
        """The inverse of `enter`: the global state, for checkpoints and sampling."""
        if self.mode == "jit":
            return state
        replicated = NamedSharding(self.mesh, PartitionSpec())

        def unstack(x):
            parts = [shard.data.reshape(x.shape[1:]) for shard in x.addressable_shards]
            return jax.make_array_from_single_device_arrays(x.shape[1:], replicated, parts)

        return jax.tree.map(unstack, state)

    def first(self, results):
        """One device's results of a compiled step, where all have the same."""
        return (
            results
            if self.mode == "jit"
            else jax.tree.map(lambda x: x.addressable_data(0)[0], results)
        )

    def split(self, batch: Mapping[str, np.ndarray], stacked: int = 0):
        """A process's rows of a batch onto its devices. `stacked`: axes before the one that is
        divided.
        """
        if self.mode == "pmap":
            local = len(self.mesh.local_devices)

            def cut(x):
                before, rows, rest = x.shape[:stacked], x.shape[stacked], x.shape[stacked + 1 :]
                return np.moveaxis(x.reshape(*before, local, rows // local, *rest), stacked, 0)

            batch = {name: cut(x) for name, x in batch.items()}
            if jax.process_count() == 1:
                return batch
            sharding = self._stacked
            return {
                name: jax.make_array_from_process_local_data(sharding, x)
                for name, x in batch.items()
            }
        if not self.axes:  # jit takes numpy arrays as they are, which costs less than placing them
            return batch
        sharding = NamedSharding(self.mesh, self.batch_spec(stacked))
        return {
            name: jax.make_array_from_process_local_data(sharding, x) for name, x in batch.items()
        }

    def replicate(self, tree):
        """Host arrays onto every device, in the form that the compiled step takes."""
        sharding = NamedSharding(self.mesh, PartitionSpec())

        def put(x):
            return jax.make_array_from_callback(
                np.shape(x), sharding, lambda index: np.asarray(x)[index]
            )

        tree = jax.tree.map(put, tree)
        return self.enter(tree) if self.mode == "pmap" else tree

    def rows(self, array: np.ndarray):
        """Rows that every process holds in full, divided among the devices where that works out;
        outside the step.
        """
        spec = (
            PartitionSpec(self.mesh.axis_names)
            if len(array) % self.mesh.size == 0
            else PartitionSpec()
        )
        return jax.make_array_from_callback(
            array.shape, NamedSharding(self.mesh, spec), lambda index: array[index]
        )

    def compile(self, function: Callable, static: tuple[int, ...] = ()) -> Callable:
        """(state, ...) -> (state, results), compiled, taking over the state's memory. `static`:
        arguments that are not arrays. Under pmap every other argument and every result has a
        leading axis of devices."""
        if self.mode == "jit":
            return programs.jit(function, donate_argnums=0, static_argnums=static)
        return jax.pmap(
            function, axis_name=BATCH, donate_argnums=0, static_broadcasted_argnums=static,
            devices=None if jax.process_count() > 1 else list(self.mesh.devices.flat),
        )  # fmt: skip


def _fits(mesh: Mesh, axes: Iterable[str | None], shape: tuple[int, ...]) -> bool:
    sides = [1 if axis is None else mesh.shape.get(axis, 0) for axis in axes]
    return len(sides) <= len(shape) and all(
        parts and side % parts == 0 for parts, side in zip(sides, shape)
    )


def build(
    mode: str = "jit",
    *,
    fsdp: int = 1,
    min_size: int = 0,
    rules: tuple[Rule, ...] = (),
    devices=None,
) -> Parallel:
    """The way of `mode` over `devices` (all there are), `fsdp` of which share one copy of the
    state.

    Raises InputError for an unknown mode, an axis that does not exist, or numbers that do not
    divide."""
    devices = jax.devices() if devices is None else devices
    if mode not in MODES:
        raise InputError(f"config.parallel.mode '{mode}' does not exist: {nearest(mode, MODES)}")
    if fsdp != 1 and mode == "pmap":
        raise InputError(
            "config.parallel.fsdp needs config.parallel.mode = 'jit': pmap keeps a whole copy on "
            "every device"
        )
    fsdp = len(devices) if fsdp == -1 else fsdp
    if fsdp < 1 or len(devices) % fsdp:
        raise InputError(
            f"config.parallel.fsdp = {fsdp} does not divide {len(devices)} devices; -1 means all "
            f"of them"
        )
    for pattern, axes in rules:
        try:
            re.compile(pattern)
        except re.error as error:
            raise InputError(
                f"config.parallel.rules: '{pattern}' is no regular expression: {error}"
            ) from None
        for axis in axes:
            if axis not in (None, FSDP):
                raise InputError(
                    f"config.parallel.rules: '{pattern}' names the axis {axis!r}: write '{FSDP}' "
                    f"or None"
                )
    if mode == "pmap":
        return Parallel(Mesh(np.asarray(devices), (BATCH,)), mode, (BATCH,))
    mesh = Mesh(np.asarray(devices).reshape(-1, fsdp), (DATA, FSDP))
    return Parallel(mesh, mode, (DATA, FSDP) if len(devices) > 1 else (), tuple(rules), min_size)


def from_config(config) -> Parallel:
    """The way that `config.parallel` asks for. Raises InputError as `build`, or when the devices do
    not divide a batch.
    """
    p = config.parallel
    way = build(p.mode, fsdp=p.fsdp, min_size=p.fsdp_min_size, rules=tuple(p.rules))
    size, accumulate, count = config.train.batch_size, config.train.accumulate, way.mesh.size
    if (size // accumulate) % count:
        raise InputError(
            f"config.train.batch_size {size} in {accumulate} micro-batch(es) cannot be divided "
            f"among "
            f"{count} devices: use a multiple of {count * accumulate}"
        )
    return way


@functools.cache
def one_device() -> Parallel:
    """The first device alone, for notebooks."""
    return build(devices=jax.local_devices()[:1])
