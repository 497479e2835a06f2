"""Requests to stop: signals of a scheduler or of a person, turned into a value that the loop asks for between its calls."""

import contextlib
import signal
from collections.abc import Callable, Iterator

import jax


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[int], int | None]]:
    """A function (steps done) -> the number of the signal that asks to stop now, or None.

    In one process that is the first SIGINT or SIGTERM; the second one acts as usual. Among several processes, a SIGTERM
    to any of them stops all after the same step, which JAX's preemption service agrees on.
    """
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        seen: list[int] = []

        def agreed(done: int) -> int | None:
            if not seen and multihost_utils.reached_preemption_sync_point(done):
                seen.append(signal.SIGTERM)
            return seen[0] if seen else None

        yield agreed
        return
    with _caught_signals() as caught:
        yield lambda done: caught()


@contextlib.contextmanager
def _caught_signals() -> Iterator[Callable[[], int | None]]:
    seen: list[int] = []
    before = {}

    def handle(number, frame):
        seen.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, handle)
    except ValueError:  # not in the main thread: signals are somebody else's
        pass
    try:
        yield lambda: seen[0] if seen else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
