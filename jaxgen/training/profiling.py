"""A trace of a few calls of the compiled steps, for TensorBoard's profiler or Perfetto."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax

FIRST, CALLS = 3, 5  # the calls before have started everything that starts only once


@contextlib.contextmanager
def trace(workdir: str | None, report: Callable[[str], None]) -> Iterator[Callable[[Any], None]]:
    """A function to be called with the state after each call of the compiled steps; without a
    `workdir` it does nothing.

    The trace of the calls FIRST + 1 to FIRST + CALLS goes to `workdir`/profile; a run that ends
    before leaves what there is."""
    folder, calls = os.path.join(workdir or "", "profile"), 0

    def after_call(state) -> None:
        nonlocal calls
        calls += 1
        if calls == FIRST:
            jax.block_until_ready(state)
            jax.profiler.start_trace(folder)
        elif calls == FIRST + CALLS:
            finish(state)

    def finish(state) -> None:
        jax.block_until_ready(state)
        jax.profiler.stop_trace()
        report(
            f"profile: {folder} (tensorboard --logdir={folder}, with the plugin "
            f"tensorboard-plugin-profile, or ui.perfetto.dev)"
        )

    if workdir is None:
        yield lambda state: None
        return
    try:
        yield after_call
    finally:
        if calls < FIRST:
            report(
                f"profile: none, since the run had fewer than {FIRST} calls of the compiled steps"
            )
        elif calls < FIRST + CALLS:
            finish(())
