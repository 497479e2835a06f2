"""K train steps in one call of the compiled program, and what they are fed.

A call costs the host some time however little there is to compute, so several steps run in one loop
on the device. The data set is there as well where it fits, as uint8, and each step gathers its
batch by the position in the state; else the batches of all K steps come from a stream."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from jaxgen import data
from jaxgen.data import order
from jaxgen.programs import flops, memory
from jaxgen.training.parallel import Parallel
from jaxgen.training.state import TrainState


class Feed(NamedTuple):
    """size: examples there are. load: (how many steps) -> what the compiled call takes, on its
    devices. fetch: inside it, (that, index of the step in the call, position) -> batch. close: let
    go of workers."""

    size: int
    load: Callable[[int], Any]
    fetch: Callable[[Any, Any, Any], Any]
    close: Callable[[], None]


def resident(source: data.Source, config, per_step: int, way: Parallel) -> Feed:
    """The whole data set on every device; batches are gathered inside the step."""
    placed, size, rows = way.replicate(source.arrays), len(source.images), config.train.batch_size

    def own_rows(arrays, position):
        chosen, _ = order.indices(position, per_step * rows, size, config.seed)
        own = rows // way.mesh.size
        chosen = jax.lax.dynamic_slice_in_dim(
            chosen.reshape(per_step, rows), way.index() * own, own, axis=1
        )
        return data.gather(arrays, chosen if per_step > 1 else chosen[0])

    stacked = int(per_step > 1)
    every = PartitionSpec()
    gathered = way.per_device(own_rows, in_specs=(every, every), out_specs=way.batch_spec(stacked))
    return Feed(
        size,
        lambda count: placed,
        lambda arrays, index, position: gathered(arrays, position),
        lambda: None,
    )


def streamed(stream, size: int, per_step: int, longest: int, way: Parallel) -> Feed:
    """Batches from `data.stream`, stacked for the steps of a call."""
    stacked = 1 + int(per_step > 1)

    def load(count):
        taken = [next(stream)[0] for _ in range(count * per_step)]
        taken += taken[:1] * (
            longest * per_step - len(taken)
        )  # one shape is compiled, however few steps there are to do
        batch = {name: np.stack([one[name] for one in taken]) for name in taken[0]}
        if per_step > 1:
            batch = {name: x.reshape(longest, per_step, *x.shape[1:]) for name, x in batch.items()}
        return way.split(batch, stacked)

    def fetch(batches, index, position):
        return jax.tree.map(
            lambda x: jax.lax.dynamic_index_in_dim(x, index, keepdims=False), batches
        )

    return Feed(size, load, fetch, stream.close)


class Cost(NamedTuple):
    """What compiling took (seconds), and what a program takes: FLOPs of one step on one device by
    XLA's count, and the bytes that one device holds at most."""

    seconds: float
    flops: float
    bytes: int


class Dispatch(NamedTuple):
    """run: (state, loaded data, count) -> (state, {metric: float32 [longest]}): `count` <=
    `longest` train steps. compile: (state, loaded data, count) -> Cost, ahead of the first run of
    that count."""

    run: Callable[[TrainState, Any, int], tuple[TrainState, dict[str, jax.Array]]]
    compile: Callable[[TrainState, Any, int], Cost]


def several_steps(step: Callable, feed: Feed, examples: int, longest: int) -> Callable:
    """(state, loaded data, count) -> (state, metrics [longest]): `count` train steps of `examples`
    examples each.
    """

    def one(state: TrainState, loaded, index):
        state, metrics = step(state, feed.fetch(loaded, index, state.position))
        offset = state.position[1] + examples
        position = jnp.stack([state.position[0] + offset // feed.size, offset % feed.size])
        return state._replace(position=position), metrics

    def run(state: TrainState, loaded, count):
        shapes = jax.eval_shape(one, state, loaded, 0)[1]
        metrics = jax.tree.map(lambda x: jnp.zeros((longest, *x.shape), x.dtype), shapes)

        def body(index, carry):
            state, metrics = carry
            state, new = one(state, loaded, index)
            return state, jax.tree.map(lambda rows, x: rows.at[index].set(x), metrics, new)

        if longest == 1:
            return body(0, (state, metrics))
        return jax.lax.fori_loop(0, count, body, (state, metrics))

    return run


def build(step: Callable, feed: Feed, examples: int, longest: int, way: Parallel) -> Dispatch:
    """Up to `longest` train steps of `examples` examples each in one call."""
    # A loop whose length is known needs no word from the host, which on an accelerator would cost
    # more than it saves. On a CPU it costs nothing, and one program for all lengths gives the same
    # bits however a run is cut into calls.
    static = jax.default_backend() != "cpu"
    function = way.compile(
        several_steps(step, feed, examples, longest), static=(2,) if static else ()
    )
    counts = (
        range(longest + 1) if static else [way.replicate(np.int32(n)) for n in range(longest + 1)]
    )
    programs: dict[int, Any] = {}

    def compile_for(state, loaded, count):
        since = time.perf_counter()
        program = programs[count if static else longest] = function.lower(
            state, loaded, counts[count]
        ).compile()
        seconds = time.perf_counter() - since
        return Cost(seconds, flops(program), memory(program))

    def run(state, loaded, count):
        if (count if static else longest) not in programs:
            compile_for(state, loaded, count)
        if static:
            state, metrics = programs[count](state, loaded)
        else:
            state, metrics = programs[longest](state, loaded, counts[count])
        return state, way.first(metrics)

    return Dispatch(run, compile_for)
