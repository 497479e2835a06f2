"""What train step and loop know of devices: a value of functions, the same for each mode."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np


class Parallel(NamedTuple):
    """Devices that train one system, each on its rows of every batch.

    The *global* state is what checkpoints and sampling take; the *entered* state is what the
    compiled step takes. Inside the compiled step, `index`, `mean`, `gradients` and `own_rows` hide
    what crosses between devices.

    size: how many devices there are.
    batch_sharding: of a batch's rows; None where the host's arrays are taken as they are.
    index: () -> inside the step, this device's place along the batch.
    mean: (a device's rows) -> inside the step, their mean over the global batch, for `Call.mean`.
    with_shardings: (shapes of a global state) -> the same with the shardings of its leaves.
    create: (init) -> the global state that `init()` makes, every device making the parts it keeps.
    enter: (global state) -> entered state.
    leave: (entered state) -> global state.
    first: (results of a compiled step) -> one device's, where all have the same.
    split: (this process's rows of a batch, number of axes before that of the rows) -> the batch on
        the devices.
    rows: (host array that every process holds in full) -> its rows divided among the devices where
        that works out, for computations outside the step.
    replicate: (tree of host arrays) -> copies on every device, in the form that the step takes.
    compile: (function, static argument numbers) -> `(state, ...) -> (state, results)`, compiled,
        taking over the memory of the entered state.
    own_rows: (pick, number of axes before that of the rows) -> `(*arguments) -> batch`, where
        `pick(*arguments)` finds a device's rows from arguments that every device has.
    gradients: (of_rows, own, late) -> `(params, shared, batch) -> (gradients, means, state)`.
        `of_rows(params, shared, batch, whole)` finds the three on one device, from its parts of the
        parameters and its rows of the batch; it hands the parameters to networks through `whole`.
        Gradients (of the networks `own`) and means come back as means over all devices; the state
        has to be the same on each of them. late: networks whose parameters are gathered block by
        block, wherever a module asks for them, and not at once.
    """

    size: int
    batch_sharding: jax.sharding.Sharding | None
    index: Callable[[], Any]  # type: ignore[assignment]  # tuples have a method of this name
    mean: Callable[[Any], Any]
    with_shardings: Callable[[Any], Any]
    create: Callable[[Callable[[], Any]], Any]
    enter: Callable[[Any], Any]
    leave: Callable[[Any], Any]
    first: Callable[[Any], Any]
    split: Callable[..., Mapping[str, Any]]
    rows: Callable[[np.ndarray], jax.Array]
    replicate: Callable[[Any], Any]
    compile: Callable[..., Callable[..., Any]]
    own_rows: Callable[..., Callable[..., Any]]
    gradients: Callable[..., Callable[..., Any]]
