"""Requests to stop: signals of a scheduler or of a person, turned into a value that the loop asks
for between its calls.
"""

import contextlib
import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[int], int | None]]:
    """A function (steps done) -> the number of the signal that asks to stop now, or None.

    In one process that is the first SIGINT or SIGTERM; the second one acts as usual. Among several
    processes, a SIGTERM to any of them stops all after the same step, which JAX's preemption
    service agrees on."""
    if jax.process_count() > 1:
        with _interrupts_as_terminations():
            yield _agreed()
        return
    with _caught_signals() as caught:
        yield lambda done: caught()


def _agreed() -> Callable[[int], int | None]:
    from jax.experimental import multihost_utils

    seen: list[int] = []
    # What is agreed on is the number of one call more than any process has made, so they are
    # numbered without gaps: the steps done are not, where one call of the compiled program does
    # several.
    calls = itertools.count()

    def agreed(done: int) -> int | None:
        if not seen and multihost_utils.reached_preemption_sync_point(next(calls)):
            seen.append(signal.SIGTERM)
        return seen[0] if seen else None

    return agreed


@contextlib.contextmanager
def _interrupts_as_terminations() -> Iterator[None]:
    """The first SIGINT counts as a SIGTERM, which is the one that JAX listens to; the second one
    acts as usual.
    """

    def handle(number, frame):
        signal.signal(signal.SIGINT, before)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _caught_signals() -> Iterator[Callable[[], int | None]]:
    seen: list[int] = []
    before: dict[signal.Signals, Any] = {}

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
        for each, handler in before.items():
            signal.signal(each, handler)
