"""`python -m jaxgen` is the `jaxgen` command."""

import os
import signal
import sys

_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


def _end(number, frame) -> None:
    """End the process at once, with 128 + the signal's number.

    A KeyboardInterrupt could be lost in a callback or destructor, become another error in an
    import, or crash a library that is being loaded. Training replaces this handler by its own,
    which saves first."""
    try:
        os.write(2, f"jaxgen: {_WORDS[number]}\n".encode())
        if "jaxgen.files" in sys.modules:
            sys.modules["jaxgen.files"].remove_partial()
        if "jaxgen.distributed" in sys.modules:
            sys.modules["jaxgen.distributed"].leave(128 + number)
    finally:
        os._exit(128 + number)


def run() -> None:
    """Entry point of the installed script."""
    for number in _WORDS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _end)
    from jaxgen import console  # only now: imports take time

    console.prepare()
    try:
        from jaxgen import cli

        code = cli.main()
    except Exception:
        import traceback

        traceback.print_exc()
        code = 1
    console.finish()
    if "jaxgen.distributed" in sys.modules:
        code = sys.modules["jaxgen.distributed"].leave(code)
    sys.exit(code)


if __name__ == "__main__":
    run()
