"""K train steps in one call of the compiled program, and the feed of data to them.

A call costs the host some time however little there is to compute, so several steps run in one loop
on the device. Where the data set fits, it lives there too, as uint8, and each step gathers its
batch by the position in the state. Otherwise the batches of all K steps come from a stream."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import data
from jaxgen.data import order
from jaxgen.programs import flops, memory
from jaxgen.training.parallel import Parallel
from jaxgen.training.state import TrainState


class Feed(NamedTuple):
    """Where batches come from.

    size: examples there are. load: (number of steps) -> data for a call of the compiled program, on
    its devices. fetch: inside the program, (those data, index of the step in the call, position) ->
    batch. close: stops the workers, if any.
    """

    size: int
    load: Callable[[int], Any]
    fetch: Callable[[Any, Any, Any], Any]
    close: Callable[[], None]


def open_feed(records: data.Records, config, per_step: int, devices: Parallel, position) -> Feed:
    """The feed from `position` on, with `per_step` batches for each train step.

    Raises InputError where the position is outside the data.
    """
    order.check(len(records), config.seed, position)
    if not data.streams(config, records.nbytes):
        return resident(records.everything(), config, per_step, devices)
    from jaxgen.data.stream import stream

    batches = stream(
        records,
        config.train.batch_size,
        seed=config.seed,
        position=position,
        workers=config.data.workers,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    longest = config.train.steps_per_dispatch
    return streamed(batches, len(records), per_step, longest, devices)


def resident(source: data.Table, config, per_step: int, devices: Parallel) -> Feed:
    """The whole data set on every device; batches are gathered inside the step."""
    placed, size = devices.replicate(source.arrays), len(source.images)
    rows = config.train.batch_size

    def own_rows(arrays, position):
        chosen, _ = order.indices(position, per_step * rows, size, config.seed)
        own = rows // devices.size
        chosen = jax.lax.dynamic_slice_in_dim(
            chosen.reshape(per_step, rows), devices.index() * own, own, axis=1
        )
        return data.gather(arrays, chosen if per_step > 1 else chosen[0])

    gathered = devices.own_rows(own_rows, int(per_step > 1))
    return Feed(
        size,
        lambda count: placed,
        lambda arrays, index, position: gathered(arrays, position),
        lambda: None,
    )


def streamed(stream, size: int, per_step: int, longest: int, devices: Parallel) -> Feed:
    """Batches from `data.stream`, stacked for the steps of a call."""
    stacked = 1 + int(per_step > 1)

    def load(count):
        taken = [next(stream)[0] for _ in range(count * per_step)]
        # one shape is compiled, however few steps there are to do
        taken += taken[:1] * (longest * per_step - len(taken))
        batch = {name: np.stack([one[name] for one in taken]) for name in taken[0]}
        if per_step > 1:
            batch = {name: x.reshape(longest, per_step, *x.shape[1:]) for name, x in batch.items()}
        return devices.split(batch, stacked)

    def fetch(batches, index, position):
        return jax.tree.map(
            lambda x: jax.lax.dynamic_index_in_dim(x, index, keepdims=False), batches
        )

    return Feed(size, load, fetch, stream.close)


class Cost(NamedTuple):
    """What compiling took (seconds), and what the program takes: FLOPs of one step on one device by
    XLA's count, and the most bytes that one device holds.
    """

    seconds: float
    flops: float
    bytes: int

    def describe(self) -> str:
        """For a person."""
        return (
            f"compiled in {self.seconds:.1f} s: {self.flops / 1e9:.3g} GFLOP a step and at most "
            f"{self.bytes / 2**20:.3g} MiB on each device"
        )


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


def build(
    step: Callable,
    feed: Feed,
    examples: int,
    longest: int,
    devices: Parallel,
    compiled: Callable[[Cost], None] = lambda cost: None,
) -> Callable[[TrainState, int], tuple[TrainState, dict[str, jax.Array]]]:
    """(entered state, count) -> (state, {metric: float32 [longest]}): the next `count` <= `longest`
    train steps of `examples` examples each, in one call.

    compiled: is told the cost of the first program as soon as it is compiled.
    """
    # On an accelerator a loop of known length needs no word from the host, which would cost more
    # than the loop saves. On a CPU it costs nothing, and one program for all lengths gives the same
    # bits however a run is cut into calls.
    static = jax.default_backend() != "cpu"
    function = devices.compile(
        several_steps(step, feed, examples, longest), static=(2,) if static else ()
    )
    counts = [n if static else devices.replicate(np.int32(n)) for n in range(longest + 1)]
    programs: dict[int, Any] = {}

    def program_for(state, loaded, count):
        kind = count if static else longest
        if kind not in programs:
            since = time.perf_counter()
            program = function.lower(state, loaded, counts[count]).compile()
            if not programs:
                compiled(Cost(time.perf_counter() - since, flops(program), memory(program)))
            programs[kind] = program
        return programs[kind]

    def run(state, count):
        loaded = feed.load(count)
        program = program_for(state, loaded, count)
        state, metrics = program(state, loaded, *(() if static else (counts[count],)))
        return state, devices.first(metrics)

    return run
