"""Two ways to compile the one train step over all devices: `jit` over a mesh, and `pmap`.

Both replicate the state and split the batch; both give the same numbers to float tolerance.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgen.errors import InputError, nearest

AXIS = "batch"


class Parallel(NamedTuple):
    """axis_name: what the train step reduces over (None under jit). place: host or device state -> replicated state.
    split: (a process's part of the batch, whether it is a stack of batches) -> device batch. compile: step -> compiled
    step that takes over its state's memory. single: replicated state -> one copy, for checkpoints and sampling.
    """

    axis_name: str | None
    place: Callable[[Any], Any]
    split: Callable[[Any, bool], Any]
    compile: Callable[[Callable], Callable]
    single: Callable[[Any], Any]


def _jit(devices) -> Parallel:
    mesh = Mesh(np.asarray(devices), (AXIS,))
    replicated = NamedSharding(mesh, PartitionSpec())

    def split(batch, stacked):
        spec = PartitionSpec(None, AXIS) if stacked else PartitionSpec(AXIS)
        sharding = NamedSharding(mesh, spec)
        return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}

    return Parallel(
        axis_name=None,
        place=lambda state: jax.device_put(state, replicated),
        # one device: jit takes numpy arrays as they are, which costs less than placing them
        split=split if len(devices) > 1 else lambda batch, stacked: batch,
        compile=lambda step: jax.jit(step, donate_argnums=0),
        single=lambda state: state,
    )


def _pmap(devices) -> Parallel:
    local = jax.local_device_count()

    def split(batch, stacked):
        def cut(x):
            if not stacked:
                return x.reshape(local, -1, *x.shape[1:])
            return np.swapaxes(x.reshape(x.shape[0], local, -1, *x.shape[2:]), 0, 1)

        return {k: cut(v) for k, v in batch.items()}

    def compile_step(step):
        # the metrics are equal on all devices already: hand out the first's
        compiled = jax.pmap(step, axis_name=AXIS, donate_argnums=0)

        def run(state, batch):
            state, metrics = compiled(state, batch)
            return state, first(metrics)

        return run

    def first(tree):
        return jax.tree.map(lambda x: x.addressable_shards[0].data.reshape(x.shape[1:]), tree)

    broadcast = jax.pmap(lambda _, state: state, in_axes=(0, None))
    return Parallel(
        axis_name=AXIS,
        place=lambda state: broadcast(np.zeros(local), state),
        split=split,
        compile=compile_step,
        single=first,
    )


MODES = {"jit": _jit, "pmap": _pmap}


def build(mode: str, batch_size: int, accumulate: int = 1) -> Parallel:
    """The way of `mode` (jit or pmap) over all devices.

    Raises InputError when the devices do not divide each micro-batch of `batch_size` / `accumulate` examples.
    """
    if mode not in MODES:
        raise InputError(f"config.parallel.mode '{mode}' does not exist: {nearest(mode, MODES)}")
    devices = jax.devices()
    if (batch_size // accumulate) % len(devices):
        raise InputError(
            f"config.train.batch_size {batch_size} in {accumulate} micro-batch(es) cannot be divided among "
            f"{len(devices)} devices: use a multiple of {len(devices) * accumulate}"
        )
    return MODES[mode](devices)
