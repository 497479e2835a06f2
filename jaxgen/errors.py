"""The exceptions for what a user can correct, and for what passes; and the messages about names."""

import difflib
import importlib
from collections.abc import Mapping
from typing import Any


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one line: what is wrong, where, and what to do. The command line prints it and
    exits with code 2; library code may catch it like any `ValueError`."""


class RetryError(InputError):
    """Something failed that need not fail again: the same command goes on from the last checkpoint.

    The command line exits with code 75 (EX_TEMPFAIL) for it, on which schedulers can start a job
    again."""


def nearest(name: str, known) -> str:
    """The end of a message about an unknown name: the closest names, or else all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return (
        f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known) or 'none'}"
    )


def lookup(table: Mapping[str, Any], what: str, name: str) -> Any:
    """What `name` means: an entry of `table`, or "package.module:attribute" for what lives outside.

    table: {name: object, or its place "package.module:attribute", imported when it is asked for}.
    what: "network", "loss term", ...; for the message. Raises InputError for an unknown name, and
    for a place without such a module or attribute.
    """
    if not isinstance(name, str) or (name not in table and ":" not in name):
        raise InputError(f"unknown {what} '{name}': {nearest(str(name), table)}")
    found = table.get(name, name)
    return _imported(found, what) if isinstance(found, str) else found


def _imported(place: str, what: str) -> Any:
    module, _, attribute = place.partition(":")
    try:
        found = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # a package that the module itself needs
        raise InputError(f"{what} '{place}': there is no module '{error.name}'") from None
    except (AttributeError, ValueError):
        raise InputError(f"{what} '{place}': {module or 'it'} has no '{attribute}'") from None
    return found
