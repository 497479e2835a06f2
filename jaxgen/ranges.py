"""Which values an option may have: types with ranges, declared where the option is.

    def learning_rate(peak: NonNegative, *, warmup: Whole = 0, end: Fraction = 0.0): ...

`check` is the one place that reads them: for loss terms, networks, schedules and optimisers through
`call_with_options`, for the common fields of a config through `config.check`."""

import inspect
import math
import numbers
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from jaxgen.errors import InputError, nearest


@typing.runtime_checkable
class Section(typing.Protocol):
    """A part of a config with fields of its own, as networks and optimisers are described by."""

    def keys(self) -> Any: ...
    def items(self) -> Any: ...
    def __getitem__(self, name: str, /) -> Any: ...


class Rule(NamedTuple):
    """What a value of the right type must be in addition. words: as in "an integer WORDS". known:
    the names to choose from, of which a message offers the nearest."""

    words: str
    holds: Callable[[Any], bool]
    known: tuple[str, ...] = ()


def at_least(low: float) -> Rule:
    return Rule(f"of at least {low}", lambda x: x >= low)


def at_most(high: float) -> Rule:
    return Rule(f"of at most {high}", lambda x: x <= high)


def above(low: float) -> Rule:
    return Rule(f"above {low}", lambda x: x > low)


def below(high: float) -> Rule:
    return Rule(f"below {high}", lambda x: x < high)


def between(low: float, high: float) -> Rule:
    return Rule(f"between {low} and {high}", lambda x: low <= x <= high)


def multiple_of(divisor: int) -> Rule:
    return Rule(f"that is a multiple of {divisor}", lambda x: x % divisor == 0)


def one_of(names: Iterable[str]) -> Rule:
    known = tuple(names)
    return Rule(f"among {', '.join(known)}", lambda x: x in known, known)


def _is_regular(text: str) -> bool:
    try:
        return bool(re.compile(text)) or True
    except re.error:
        return False


FITS = at_most(2**31 - 1)  # sizes and steps are 32-bit integers on a device
FILLED = Rule("of at least one element", lambda x: len(x) > 0)
DISTINCT = Rule("of different elements", lambda x: len(set(x)) == len(x))

Count = Annotated[int, at_least(1), FITS]
Whole = Annotated[int, at_least(0), FITS]
Positive = Annotated[float, above(0)]
NonNegative = Annotated[float, at_least(0)]
Probability = Annotated[float, between(0, 1)]
Fraction = Annotated[float, at_least(0), below(1)]  # a dropout rate, a decay of moments
Seed = Annotated[int, Rule("from 0 to 2**64 - 1", lambda x: 0 <= x < 2**64)]
Sizes = Annotated[tuple[Count, ...], FILLED]
Frequencies = Annotated[int, at_least(4), multiple_of(2), FITS]  # half sines, half cosines
Regular = Annotated[str, Rule("that is a regular expression", _is_regular)]
Interval = tuple[Probability, Probability]


def check(name: str, hint: Any, value: Any) -> None:
    """Raises InputError, naming the dotted field `name`, unless `value` is what `hint` says."""
    if _is_union(hint):
        hint = next((member for member in get_args(hint) if _fits(member, value)), hint)
    inner, *rules = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    if not _fits(inner, value):
        known = get_args(inner) if get_origin(inner) is Literal else ()
        close = nearest(str(value), known) if known else ""
        near = f": {close}" if close.startswith("did you mean") else ""
        raise InputError(f"{name} must be {words(hint)}, not {value!r}{near}")
    if inner is int and not -(2**63) <= value < 2**64:
        raise InputError(f"{name} must be an integer of at most 64 bits, not {value}")
    if inner is float and not math.isfinite(value):
        raise InputError(f"{name} must be a finite number, not {value}")
    if get_origin(inner) is tuple:
        members = get_args(inner)
        members = members[:1] * len(value) if ... in members else members
        for i, (member, element) in enumerate(zip(members, value)):
            check(f"{name}[{i}]", member, element)
    for rule in rules:
        if isinstance(rule, Rule) and not rule.holds(value):
            near = f": {nearest(value, rule.known)}" if rule.known else ""
            raise InputError(f"{name} must be {words(inner)} {rule.words}, not {value!r}{near}")


def check_number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: bool = False,
    whole: bool = False,
) -> None:
    """`check` for ends that are known at run time: a finite number in [low, high], or in
    (low, high] if `above`; `whole`: an integer.
    """
    hint: Any = int if whole else float
    check(name, Annotated[hint, _interval(low, high, above)] if low > -math.inf else hint, value)


def _interval(low: float, high: float, exclusive: bool) -> Rule:
    if high == math.inf:
        return above(low) if exclusive else at_least(low)
    words = f"above {low} and of at most {high}" if exclusive else f"between {low} and {high}"
    return Rule(words, lambda x: low <= x <= high and not (exclusive and x == low))


def call_with_options(what: str, function, options: Mapping[str, Any], *arguments, types=None):
    """`function(*arguments, **options)`; the options are checked against its signature.

    what: the dotted place of the options, such as "config.model.denoiser". types: those that the
    function itself does not declare. Raises InputError for an option that the function does not
    take, for one that it needs, and for a value of another type or range.
    """
    parameters = list(inspect.signature(function).parameters.values())[len(arguments) :]
    known = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    declared = {**hints(function), **(types or {})}
    for name, value in options.items():
        if name not in known and not takes_any:
            raise InputError(f"{what} has no option '{name}': {nearest(name, known)}")
        if name in declared:
            check(f"{what}.{name}", declared[name], value)
    for p in parameters:
        if p.default is p.empty and p.name in known and p.name not in options:
            raise InputError(f"{what} needs the option '{p.name}'")
    try:
        return function(*arguments, **options)
    except InputError as error:
        if what.split(".")[0] != "config" or what in str(error):
            raise
        raise type(error)(f"{what}: {error}") from None


def hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The declared types of a function's parameters, or of a class's fields; of those that Python
    can read.
    """
    function = getattr(function, "func", function)  # of a functools.partial
    sources: tuple[Any, ...] = (function,)
    if isinstance(function, type):
        sources += (function.__init__,)  # type: ignore[misc]
    found: dict[str, Any] = {}
    for source in sources:
        try:
            found |= get_type_hints(source, include_extras=True)
        except (NameError, TypeError, AttributeError):
            continue  # names that are imported for type checkers alone
    return found


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (typing.Union, types.UnionType)


def _fits(hint: Any, value: Any) -> bool:
    """Whether `value` is of the type, whatever its range."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _fits(get_args(hint)[0], value)
    if _is_union(hint):
        return any(_fits(member, value) for member in get_args(hint))
    if origin is Literal:
        return any(value == x and type(value) is type(x) for x in get_args(hint))
    if hint is None or hint is type(None):
        return value is None
    if hint is int or hint is float:
        kind = numbers.Integral if hint is int else numbers.Real
        return isinstance(value, kind) and not isinstance(value, bool)
    if origin is tuple and ... not in get_args(hint):
        return isinstance(value, tuple) and len(value) == len(get_args(hint))
    try:
        return isinstance(value, origin or hint)
    except TypeError:
        return True  # Any, type variables, protocols


def words(hint: Any) -> str:
    """A type as a user reads it, such as "an integer of at least 1"."""
    members = get_args(hint)
    if get_origin(hint) is Annotated:
        rules = [rule.words for rule in members[1:] if isinstance(rule, Rule) and rule != FITS]
        return " ".join([words(members[0]), " and ".join(rules)]).strip()
    if _is_union(hint):
        return " or ".join(dict.fromkeys(map(words, members)))
    if get_origin(hint) is Literal:
        *most, last = map(str, members)
        return f"{', '.join(most)} or {last}" if most else last
    if get_origin(hint) is tuple:
        return "a tuple" if ... in members else f"a tuple of {len(members)} elements"
    plain = {
        int: "an integer",
        float: "a number",
        bool: "True or False",
        str: "a string",
        Section: "a section",
    }
    if hint is None or hint is type(None):
        return "None"
    return plain.get(hint) or f"a {getattr(hint, '__name__', hint)}"


def is_text(hint: Any) -> bool:
    """Whether every value of the type but None is a string."""
    members = get_args(hint) if _is_union(hint) else (hint,)
    texts = [member for member in members if member is not type(None)]
    return bool(texts) and all(
        member is str
        or get_origin(member) is Annotated
        and get_args(member)[0] is str
        or get_origin(member) is Literal
        and all(isinstance(x, str) for x in get_args(member))
        for member in texts
    )


def allows(hint: Any, kind: type) -> bool:
    """Whether a type is `kind`, or a union that has it."""
    return hint is kind or _is_union(hint) and kind in get_args(hint)
