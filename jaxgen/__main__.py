"""`python -m jaxgen` is the `jaxgen` command."""

from jaxgen.cli import run

run()
