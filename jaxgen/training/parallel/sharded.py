"""The mode "jit": one program over a mesh (data, fsdp) of devices.

The batch is divided among all devices. Along the axis `fsdp` the state is divided as well: of a
parameter, and with it of its averages and its optimiser state, each device keeps one part.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgen import programs
from jaxgen.errors import InputError
from jaxgen.training.parallel import collectives
from jaxgen.training.parallel import rules as rules_lib
from jaxgen.training.parallel.base import Parallel
from jaxgen.training.parallel.rules import FSDP, Rule

DATA = "data"
WHOLE = PartitionSpec()  # of what every device has a copy of


def build(devices, *, fsdp: int = 1, min_size: int = 0, rules: tuple[Rule, ...] = ()) -> Parallel:
    """A mesh of `devices`, `fsdp` of which share one copy of the state (-1: all of them).

    min_size, rules: which parameters are divided, see `rules.spec`. Raises InputError for numbers
    that do not divide, and for rules that cannot be used.
    """
    fsdp = len(devices) if fsdp == -1 else fsdp
    if fsdp < 1 or len(devices) % fsdp:
        raise InputError(
            f"config.parallel.fsdp = {fsdp} does not divide {len(devices)} devices; -1 means all "
            f"of them"
        )
    mesh = Mesh(np.asarray(devices).reshape(-1, fsdp), (DATA, FSDP))
    axes = (DATA, FSDP) if len(devices) > 1 else ()
    specs = partial(rules_lib.specs, rules=rules_lib.check(rules), parts=fsdp, min_size=min_size)

    def shardings(shapes):
        return jax.tree.map(lambda s: NamedSharding(mesh, s), specs(shapes, ""))

    return Parallel(
        size=mesh.size,
        batch_sharding=NamedSharding(mesh, PartitionSpec(axes)) if axes else None,
        index=lambda: jax.lax.axis_index(axes) if axes else 0,
        mean=partial(collectives.batch_mean, axes),
        with_shardings=lambda shapes: jax.tree.map(shape, shapes, shardings(shapes)),
        create=lambda init: jax.jit(init, out_shardings=shardings(jax.eval_shape(init)))(),
        enter=lambda state: jax.device_put(state, shardings(state)),
        leave=lambda state: state,
        first=lambda results: results,
        split=partial(_split, mesh, axes),
        rows=partial(rows, mesh),
        replicate=partial(replicate, mesh),
        compile=_compile,
        own_rows=partial(_own_rows, mesh, axes),
        gradients=partial(_gradients, mesh, axes, specs),
    )


def shape(x, sharding) -> jax.ShapeDtypeStruct:
    """The shape of an array together with its sharding."""
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def _rows_spec(axes: tuple[str, ...], stacked: int = 0) -> PartitionSpec:
    """Of arrays whose rows are divided among the devices, after `stacked` axes that are not."""
    return PartitionSpec(*[None] * stacked, axes or None)


def _split(mesh: Mesh, axes, batch: Mapping[str, np.ndarray], stacked: int = 0):
    if not axes:  # jit takes numpy arrays as they are, which costs less than placing them
        return batch
    sharding = NamedSharding(mesh, _rows_spec(axes, stacked))
    return {name: jax.make_array_from_process_local_data(sharding, x) for name, x in batch.items()}


def rows(mesh: Mesh, array: np.ndarray) -> jax.Array:
    """Rows that every process holds in full, divided among the devices of the mesh where that works
    out.
    """
    spec = PartitionSpec(mesh.axis_names) if len(array) % mesh.size == 0 else WHOLE
    return jax.make_array_from_callback(
        array.shape, NamedSharding(mesh, spec), lambda index: array[index]
    )


def replicate(mesh: Mesh, tree):
    """Host arrays onto every device of the mesh."""
    sharding = NamedSharding(mesh, WHOLE)

    def put(x):
        return jax.make_array_from_callback(
            np.shape(x), sharding, lambda index: np.asarray(x)[index]
        )

    return jax.tree.map(put, tree)


def _compile(function: Callable, static: tuple[int, ...] = ()) -> Callable:
    return programs.jit(function, donate_argnums=0, static_argnums=static)


def _on_each(mesh: Mesh, axes, function: Callable, in_specs, out_specs) -> Callable:
    """`function` of the parts that a device has; on one device that is `function` itself."""
    if not axes:
        return function
    # The sums are our own business: JAX would sum gradients leaf by leaf, and these could not go
    # in one all-reduce.
    return jax.shard_map(
        function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
    )


def _own_rows(mesh: Mesh, axes, pick: Callable, stacked: int = 0) -> Callable:
    return _on_each(mesh, axes, pick, in_specs=WHOLE, out_specs=_rows_spec(axes, stacked))


def _gradients(mesh: Mesh, axes, specs, of_rows: Callable, own, late=()) -> Callable:
    sizes = {axis: mesh.shape[axis] for axis in axes}

    def run(params: Mapping[str, Any], shared, batch):
        divided = specs(params, "params/")
        own_specs = {name: divided[name] for name in own}

        def whole(params):
            # At once, as a loss may use a network several times (a critic on real and on generated
            # images); but block by block where that saves memory.
            return {
                name: collectives.gather(tree, divided[name], late=name in late)
                for name, tree in params.items()
            }

        def on_device(params, shared, batch):
            grads, means, state = of_rows(params, shared, batch, whole)
            everywhere = jax.tree.map(lambda _: WHOLE, means)
            grads, means = collectives.mean((grads, means), (own_specs, everywhere), sizes)
            return grads, means, state

        return _on_each(
            mesh, axes, on_device,
            in_specs=(divided, WHOLE, _rows_spec(axes)), out_specs=(own_specs, WHOLE, WHOLE),
        )(params, shared, batch)  # fmt: skip

    return run
