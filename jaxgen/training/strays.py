"""Errors that orbax's abandoned tasks print by themselves.

When one array of a checkpoint cannot be read or written, orbax raises that error and leaves the
event loop in which the other arrays are still on their way. Each of them then prints a traceback of
its own, through asyncio's logger, `sys.unraisablehook` or `threading.excepthook`."""

import contextlib
import gc
import logging
import sys
import threading
import traceback
from collections.abc import Iterator

_THEIRS = ("/orbax/", "/tensorstore/")


def is_stray(error: BaseException | None, about: object = "") -> bool:
    """Whether `error` passed through orbax's files, or `about` names one of its tasks."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if "Event loop is closed" in str(error):
            return True
        frames = traceback.walk_tb(error.__traceback__)
        if any(part in frame.f_code.co_filename for frame, _ in frames for part in _THEIRS):
            return True
        error = error.__cause__ or error.__context__
    code = getattr(about, "cr_code", None)
    return any(part in (code.co_filename if code else str(about)) for part in _THEIRS)


@contextlib.contextmanager
def dropped() -> Iterator[None]:
    """Drop what orbax's abandoned tasks print; all other errors are shown as before."""
    unraisable, thread, logger = (
        sys.unraisablehook,
        threading.excepthook,
        logging.getLogger("asyncio"),
    )

    def of_destructors(event):
        if not is_stray(event.exc_value, event.object):
            unraisable(event)

    def of_threads(event):
        if not is_stray(event.exc_value):
            thread(event)

    def of_tasks(record):
        return not is_stray(record.exc_info[1] if record.exc_info else None, record.getMessage())

    sys.unraisablehook, threading.excepthook = of_destructors, of_threads
    logger.addFilter(of_tasks)
    failed = True
    try:
        yield
        failed = False
    finally:
        if failed:
            gc.collect()  # so that they speak now
        logger.removeFilter(of_tasks)
        if sys.unraisablehook is of_destructors:
            sys.unraisablehook = unraisable
        if threading.excepthook is of_threads:
            threading.excepthook = thread
