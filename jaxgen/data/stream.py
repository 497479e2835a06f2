"""Batches read and decoded in the background, for data that do not fit into memory: a pipeline of
the library grain.

An element of the pipeline is a whole batch, found by its number from the position and the order
(see `order`) alone. So whichever worker makes it, after however many restarts, it is the batch that
`pipeline.batches` gathers in memory."""

import contextlib
import multiprocessing
import multiprocessing.util
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxgen.data import order
from jaxgen.data.order import START, Position
from jaxgen.data.pipeline import rows_of_process
from jaxgen.data.records import Records
from jaxgen.errors import InputError, RetryError

_ENDLESS = 2**40  # batches
_AHEAD = 8  # batches that are ready or being made, of each worker process or of all threads
_THREADS = 4
_START_SECONDS = 60  # to create the processes; what they import takes its time afterwards


class _Batches(NamedTuple):
    """The batches from a position on, by number; the rows of one process. What a worker holds."""

    records: Records
    batch_size: int
    rows: slice
    seed: int
    start: Position
    shuffle: bool

    def make(self, number: int) -> dict[str, np.ndarray]:
        first = order.advance(
            self.start, number * self.batch_size + self.rows.start, len(self.records)
        )
        count = self.rows.stop - self.rows.start
        indices, _ = order.indices(first, count, len(self.records), self.seed, self.shuffle)
        return self.records.batch(indices)


class Stream(Iterator):
    """An endless iterator of (batch, position after it). Use it as a context manager, or `close`
    it.

    Attributes: position: after the last batch that was handed out, from which a new stream
      continues identically.
    """

    def __init__(self, batches: _Batches, workers: int):
        self.position = batches.start
        self._batches = batches
        self._workers = workers
        self._running = [_start(batches, workers)]
        # also when the stream is forgotten, and at the end of the program before the modules that
        # this needs are gone
        self._stop = multiprocessing.util.Finalize(self, _stop, (self._running,), exitpriority=100)

    def __next__(self) -> tuple[dict[str, np.ndarray], Position]:
        if not self._running:
            raise StopIteration
        try:
            batch = next(self._running[0])
        except InputError:  # bad data do not get better
            self.close()
            raise
        except Exception as error:
            self.close()
            what = "a worker that reads" if self._workers else "reading"
            why = str(error).strip().partition("\n")[0].partition(". ")[0] or type(error).__name__
            raise RetryError(
                f"data: {what} {self._batches.records.name} failed after epoch "
                f"{self.position.epoch}, offset "
                f"{self.position.offset} ({why}); the same command goes on from the last checkpoint"
            ) from error
        if self._workers:
            # what comes from a worker is a view of memory that both share; the copy has none of its
            # rules
            batch = {name: np.array(array) for name, array in batch.items()}
        self.position = order.advance(
            self.position, self._batches.batch_size, len(self._batches.records)
        )
        return batch, self.position

    def close(self) -> None:
        """Stops the workers, which may take a second; the stream ends. Safe to call twice."""
        self._stop()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *error) -> None:
        self.close()


def stream(
    records: Records,
    batch_size: int,
    *,
    seed: int,
    position: Position = START,
    shuffle: bool = True,
    workers: int = 2,
    process_index: int = 0,
    process_count: int = 1,
) -> Stream:
    """The batches of `pipeline.batches`, read from disk while the caller computes.

    Args: records: the examples, see `sources.open_records`. batch_size, seed, position, shuffle,
      process_index, process_count: as for `batches`; a process reads its own rows. workers:
      processes that decode (they need about a second to start); 0: threads, which suffice where
      decoding is
        cheap or Python can do without its lock meanwhile.

    Raises: InputError: what `batches` refuses, or fewer than 0 workers; when iterating, data that
      cannot be read. RetryError: when iterating, a worker that died or failed in a way that may
      pass.
    """
    if workers < 0:
        raise InputError(f"data: the number of workers must not be negative, got {workers}")
    if batch_size < 1:
        raise InputError(f"data: the batch size must be at least 1, got {batch_size}")
    order.check(len(records), seed, position)
    rows = rows_of_process(batch_size, process_index, process_count)
    start = Position(*(int(part) for part in position))
    return Stream(_Batches(records, batch_size, rows, seed, start, shuffle), workers)


def _start(batches: _Batches, workers: int):
    """The running iterator over the batches."""
    try:
        import grain
    except ImportError as error:
        raise InputError(
            f"data: streaming needs the package {error.name or error}: pip install grain"
        ) from error

    from absl import flags

    # grain reads flags of its own, also where there is no command line
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    numbers = grain.MapDataset.range(_ENDLESS).map(batches.make)
    if not workers:
        options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=_AHEAD)
        iterator = iter(numbers.to_iter_dataset(options))
        iterator.start_prefetch()
        return iterator
    # a worker needs no threads of its own: reading from disk is the smaller part, and there are
    # other workers
    dataset = numbers.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=_AHEAD)
    iterator = iter(dataset.mp_prefetch(options, worker_init_fn=_enter_worker))
    others, deadline = set(multiprocessing.active_children()), time.monotonic() + _START_SECONDS
    with _without_main():
        # makes the iterators of all workers, so that all processes start now, in threads of grain
        iterator.get_state()
        iterator.start_prefetch()
        while (
            len(set(multiprocessing.active_children()) - others) < workers
            and time.monotonic() < deadline
        ):
            time.sleep(0.002)
    return iterator


def _stop(running: list) -> None:
    while running:
        running.pop().close()


def _enter_worker(index: int, count: int) -> None:
    """In a worker, before it reads: it leaves signals to its parent, and it does not outlive it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # a group of processes is often told as a whole; the parent decides
        signal.signal(number, signal.SIG_IGN)

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _without_main():
    """Processes that start in here do not run the main script again, as Python has them do to find
    what it defines.

    A worker needs nothing of it, a script may have no `if __name__ == "__main__"`, and its imports
    may be slow."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
