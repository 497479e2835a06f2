"""The terminal's side of the command: streams that a run outlives, and interrupts that are never
lost. It imports nothing slow, since the command starts here."""

import contextlib
import os
import signal
import sys
import threading
from typing import Any

GRACE = 2.0  # seconds from an interrupt until the process ends, whatever it does
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_noted: list[int] = []
_said: list[bool] = []


class Patient:
    """A text stream whose reader may leave and whose disk may be full: what is for a person must not
    end the work. `lost` is the first error, after which nothing more is written."""

    def __init__(self, stream: Any):
        self.stream, self.lost = stream, None

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
        if (stream := getattr(sys, name)) is not None:
            stream.reconfigure(errors="backslashreplace")
            setattr(sys, name, Patient(stream))


def finish() -> None:
    """Write out what is buffered; say where standard output was lost, unless its reader left."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
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


def catch_interrupts() -> None:
    """From now on, SIGINT and SIGTERM end the process with 128 + their number.

    They raise KeyboardInterrupt. Where that is lost, in a destructor or a callback of a library,
    or becomes another error, in an import, the process ends a little later all the same. Training
    replaces these handlers by its own, which save first."""
    shown = sys.unraisablehook

    def handle(number, frame):
        if _noted:
            os._exit(128 + number)  # who asks twice does not want to wait
        _noted.append(number)
        timer = threading.Timer(GRACE, _end)
        timer.daemon = True
        timer.start()
        raise KeyboardInterrupt

    def hook(event):
        if not (_noted and isinstance(event.exc_value, KeyboardInterrupt)):
            shown(event)

    sys.unraisablehook = hook
    for number in _WORDS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, handle)


def interrupted() -> int | None:
    """128 + the number of the signal that was caught, if any."""
    return 128 + _noted[0] if _noted else None


def say_interrupted() -> None:
    """One line about it, once for a signal."""
    if not (_noted and _said):
        _said.append(True)
        word = _WORDS[_noted[0] if _noted else signal.SIGINT]
        with contextlib.suppress(OSError):  # not print: it may be what was interrupted
            os.write(2, f"jaxgen: {word}\n".encode())


def _end() -> None:
    say_interrupted()
    os._exit(interrupted())
