"""The exceptions for what a user can correct, and for what passes; and the messages about names."""

import math
import numbers
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
    import difflib

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
    import importlib

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


def check_number(
    what: str, value: Any, low: float = -math.inf, high: float = math.inf, *, above: bool = False,
    whole: bool = False,
) -> None:  # fmt: skip
    """Raise InputError unless `value` is a finite number in [low, high], or in (low, high] if
    `above`; `whole`: an integer.
    """
    kind = numbers.Integral if whole else numbers.Real
    if isinstance(value, kind) and not isinstance(value, bool):
        finite = value - value == 0
        if finite and low <= value <= high and not (above and value == low):
            return
    noun = f"a {'whole' if whole else 'finite'} number"
    if low == -math.inf and high == math.inf:
        raise InputError(f"{what} must be {noun}, not {value!r}")
    interval = f"{'(' if above else '['}{low}, {high}{']' if high < math.inf else ')'}"
    raise InputError(f"{what} must lie in {interval} and be {noun}, not {value!r}")


def call_with_options(what: str, function, options: Mapping[str, Any], *arguments, types=None):
    """`function(*arguments, **options)`; the options are checked against its signature.

    what: the dotted place of the options, such as "config.model.denoiser". types: those that the
    function itself does not declare; see `jaxgen.ranges`. Raises InputError for an option that the
    function does not take, for one that it needs, and for a value of another type or range.
    """
    import inspect

    from jaxgen import ranges

    parameters = list(inspect.signature(function).parameters.values())[len(arguments) :]
    known = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    declared = {**ranges.hints(function), **(types or {})}
    for name, value in options.items():
        if name not in known and not takes_any:
            raise InputError(f"{what} has no option '{name}': {nearest(name, known)}")
        if name in declared:
            ranges.check(f"{what}.{name}", declared[name], value)
    for p in parameters:
        if p.default is p.empty and p.name in known and p.name not in options:
            raise InputError(f"{what} needs the option '{p.name}'")
    try:
        return function(*arguments, **options)
    except InputError as error:
        if what.split(".")[0] != "config" or what in str(error):
            raise
        raise type(error)(f"{what}: {error}") from None
