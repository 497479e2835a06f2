"""A trace of a few calls of the compiled steps, for TensorBoard's profiler or Perfetto."""

import contextlib
import os
from collections.abc import Callable, Iterator

import jax

from jaxgen.training.hooks import Hook, Moment

FIRST, CALLS = 3, 5  # the calls before have started everything that starts only once


@contextlib.contextmanager
def trace(workdir: str | None, report: Callable[[str], None]) -> Iterator[tuple[Hook, ...]]:
    """The hook that traces the calls FIRST + 1 to FIRST + CALLS into `workdir`/profile; none
    without a `workdir`. A run that ends before leaves what there is.
    """
    if workdir is None:
        yield ()
        return
    folder, calls = os.path.join(workdir, "profile"), 0

    def run(moment: Moment) -> None:
        nonlocal calls
        calls = moment.call
        jax.block_until_ready(moment.state)
        if calls == FIRST:
            jax.profiler.start_trace(folder)
        else:
            finish()

    def finish() -> None:
        jax.profiler.stop_trace()
        report(
            f"profile: {folder} (tensorboard --logdir={folder}, with the plugin "
            f"tensorboard-plugin-profile, or ui.perfetto.dev)"
        )

    try:
        yield (Hook(0, run, when=lambda moment: moment.call in (FIRST, FIRST + CALLS)),)
    finally:
        if not calls:
            report(
                f"profile: none, since the run had fewer than {FIRST} calls of the compiled steps"
            )
        elif calls == FIRST:
            finish()
