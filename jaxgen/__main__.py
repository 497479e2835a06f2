"""`python -m jaxgen` is the `jaxgen` command."""

import sys
import traceback

from jaxgen import console


def run() -> None:
    """Entry point of the installed script."""
    try:
        console.catch_interrupts()  # before anything slow is imported
        console.prepare()
        from jaxgen import cli

        code = cli.main()
    except BaseException as error:
        if isinstance(error, SystemExit):
            raise
        if not console.interrupted():
            traceback.print_exc()
        code = 1
    if console.interrupted():
        code = console.interrupted()
        console.say_interrupted()
    console.finish()
    if "jaxgen.distributed" in sys.modules:
        code = sys.modules["jaxgen.distributed"].leave(code)
    sys.exit(code)


if __name__ == "__main__":
    run()
