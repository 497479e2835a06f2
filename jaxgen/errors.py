"""The exceptions for what a user can correct, and for what passes."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one line: what is wrong, where, and what to do. The command line prints it and
    exits with code 2; library code may catch it like any `ValueError`."""


class RetryError(InputError):
    """Something failed that need not fail again: the same command goes on from the last checkpoint.

    The command line exits with code 75 (EX_TEMPFAIL) for it, on which schedulers can start a job
    again."""


def nearest(name: str, known) -> str:
    """The tail of a message about an unknown name: the names closest to it, or else all there are."""
    import difflib

    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return (
        f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known) or 'none'}"
    )


def call_with_options(what: str, function, options, *arguments):
    """`function(*arguments, **options)`, where an option that `function` does not take is an
    `InputError`.
    """
    import inspect

    parameters = list(inspect.signature(function).parameters.values())[len(arguments) :]
    known = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    for name in options:
        if name not in known:
            raise InputError(f"{what} has no option '{name}': {nearest(name, known)}")
    for p in parameters:
        if p.default is p.empty and p.name in known and p.name not in options:
            raise InputError(f"{what} needs the option '{p.name}'")
    return function(*arguments, **options)
