"""The mode "pmap": every device has a whole copy of the state, under a leading axis of devices."""

from collections.abc import Callable, Mapping
from functools import partial

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgen.errors import InputError
from jaxgen.training.parallel import collectives, sharded
from jaxgen.training.parallel.base import Parallel
from jaxgen.training.parallel.rules import Rule

BATCH = "batch"  # the axis of pmap
WHOLE = PartitionSpec()


def build(devices, *, fsdp: int = 1, min_size: int = 0, rules: tuple[Rule, ...] = ()) -> Parallel:
    """A whole copy of the state on each of `devices`. Raises InputError for fsdp other than 1."""
    if fsdp != 1:
        raise InputError(
            "config.parallel.fsdp needs config.parallel.mode = 'jit': pmap keeps a whole copy on "
            "every device"
        )
    mesh = Mesh(np.asarray(devices), (BATCH,))
    copies = NamedSharding(mesh, PartitionSpec(BATCH))  # of what has a leading axis of devices
    everywhere = NamedSharding(mesh, WHOLE)

    def shardings(tree):
        return jax.tree.map(lambda _: everywhere, tree)

    def enter(state):
        return jax.tree.map(partial(_stack, copies), jax.device_put(state, shardings(state)))

    return Parallel(
        size=mesh.size,
        batch_sharding=copies,
        index=lambda: jax.lax.axis_index(BATCH),
        mean=partial(collectives.batch_mean, (BATCH,)),
        with_shardings=lambda shapes: jax.tree.map(sharded.shape, shapes, shardings(shapes)),
        create=lambda init: jax.jit(init, out_shardings=everywhere)(),
        enter=enter,
        leave=lambda state: jax.tree.map(partial(_unstack, everywhere), state),
        first=lambda results: jax.tree.map(lambda x: x.addressable_data(0)[0], results),
        split=partial(_split, copies),
        rows=partial(sharded.rows, mesh),
        replicate=lambda tree: enter(sharded.replicate(mesh, tree)),
        compile=partial(_compile, mesh),
        own_rows=lambda pick, stacked=0: pick,
        gradients=partial(_gradients, mesh.size),
    )


def _stack(copies: NamedSharding, x: jax.Array) -> jax.Array:
    parts = [shard.data[None] for shard in x.addressable_shards]
    shape = (copies.mesh.size, *x.shape)
    return jax.make_array_from_single_device_arrays(shape, copies, parts)


def _unstack(everywhere: NamedSharding, x: jax.Array) -> jax.Array:
    parts = [shard.data.reshape(x.shape[1:]) for shard in x.addressable_shards]
    return jax.make_array_from_single_device_arrays(x.shape[1:], everywhere, parts)


def _split(copies: NamedSharding, batch: Mapping[str, np.ndarray], stacked: int = 0):
    local = len(copies.mesh.local_devices)

    def cut(x):
        before, rows, rest = x.shape[:stacked], x.shape[stacked], x.shape[stacked + 1 :]
        return np.moveaxis(x.reshape(*before, local, rows // local, *rest), stacked, 0)

    batch = {name: cut(x) for name, x in batch.items()}
    if jax.process_count() == 1:
        return batch
    return {name: jax.make_array_from_process_local_data(copies, x) for name, x in batch.items()}


def _compile(mesh: Mesh, function: Callable, static: tuple[int, ...] = ()) -> Callable:
    """Every argument that is not static, and every result, has a leading axis of devices."""
    return jax.pmap(
        function, axis_name=BATCH, donate_argnums=0, static_broadcasted_argnums=static,
        devices=None if jax.process_count() > 1 else list(mesh.devices.flat),
    )  # fmt: skip


def _gradients(size: int, of_rows: Callable, own, late=()) -> Callable:
    def run(params, shared, batch):
        grads, means, state = of_rows(params, shared, batch, lambda params: params)
        undivided = jax.tree.map(lambda _: WHOLE, (grads, means))
        return *collectives.mean((grads, means), undivided, {BATCH: size}), state

    return run
