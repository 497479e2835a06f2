"""The terminal's side of the command: streams that a run outlives. It imports nothing slow."""

import contextlib
import os
import sys
from typing import Any


class Patient:
    """A text stream whose reader may leave and whose disk may be full.

    What is for a person must not end the work. `lost` is the first error, after which nothing more
    is written."""

    def __init__(self, stream: Any):
        self.stream = stream
        self.lost: OSError | None = None

    def _try(self, call, *args) -> None:
        if self.lost is None:
            try:
                call(*args)
            except OSError as error:
                self.lost = error

    def write(self, text: str) -> int:
        self._try(self.stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._try(self.stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def prepare() -> None:
    """Make the standard streams patient, and able to print every letter in some way."""
    for number in (0, 1, 2):  # a file that the run opens must not become its standard output
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w")
        stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, Patient(stream))


def finish() -> None:
    """Write out what is buffered; say where standard output was lost, unless its reader left."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        if (error := getattr(stream, "lost", None)) is None:
            continue
        if stream is sys.stdout and not isinstance(error, BrokenPipeError):
            print(
                f"jaxgen: warning: standard output could not be written ({error.strerror}); what "
                "the command does was not affected",
                file=sys.stderr,
                flush=True,
            )
        with contextlib.suppress(OSError, ValueError):  # else Python would try again at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
