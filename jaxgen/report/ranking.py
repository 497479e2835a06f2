"""Which system is first, which are level with it, which lie on the Pareto front, and what is
required of them.
"""

import math
import operator
import re
from collections.abc import Sequence
from typing import NamedTuple

from jaxgen.errors import InputError, nearest
from jaxgen.report.results import Results, Score, System


def ranked(systems: Sequence[System], score: Score) -> list[System]:
    """The systems that have the score, best first."""
    sign = -1 if score.higher_is_better else 1
    values = [(mean, s) for s in systems if (mean := s.of(score).mean) is not None]
    return [system for _, system in sorted(values, key=lambda pair: sign * pair[0])]


def leaders(systems: Sequence[System], score: Score) -> list[str]:
    """The best system and those level with it: no further from it than the larger standard
    deviation of the two.
    """
    order = ranked(systems, score)
    values = [system.of(score) for system in order]

    def level(value):
        return abs(value.mean - values[0].mean) <= max(value.spread, values[0].spread)

    return [system.name for system, value in zip(order, values) if level(value)]


def marked(results: Results, score: Score) -> list[str]:
    """The systems that a table marks as best: none in a check, and none where all are level."""
    first = leaders(results.systems, score)
    none = score.corner == "check" or len(first) == len(ranked(results.systems, score))
    return [] if none else first


def beaten_by(results: Results, scores: Sequence[Score]) -> dict[str, list[str]]:
    """For each system that has all `scores`: the systems at least as good in every one and better
    in some, by the means.

    The systems with an empty list lie on the Pareto front.
    """
    points = {}
    for system in results.systems:
        values = [system.of(score).mean for score in scores]
        if None not in values:
            points[system.name] = [
                v if s.higher_is_better else -v for v, s in zip(values, scores) if v is not None
            ]

    def dominates(a, b):
        return a != b and all(x >= y for x, y in zip(a, b))

    return {
        name: [rival for rival, q in points.items() if dominates(q, p)]
        for name, p in points.items()
    }


# What is required of a system.

OPERATORS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
_REQUIREMENT = re.compile(
    r"\s*([^\s<>=%]+)\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(%?)\s*"
)


class Requirement(NamedTuple):
    """A bound on a score's mean. sign: a key of OPERATORS. bound: of a share, a fraction."""

    score: Score
    sign: str
    bound: float

    def met(self, system: System) -> bool:
        """A system without the score fails."""
        value = system.of(self.score).mean
        return value is not None and OPERATORS[self.sign](value, self.bound)

    def gap(self, system: System) -> float:
        """How far a system is from the bound, beside the bound."""
        value = system.of(self.score).mean
        return math.inf if value is None else abs(value - self.bound) / (abs(self.bound) or 1.0)


def requirement(text: str, scores: Sequence[Score]) -> Requirement:
    """What "latency_ms<=5" or "coverage>=80%", which is 0.8, asks for.

    Raises InputError for text that is none, for a score that is not one of `scores`, and for a
    bound that its unit does not allow."""
    match = _REQUIREMENT.fullmatch(text)
    if match is None:
        raise InputError(
            f"cannot read the requirement '{text}': write a score's id, one of <= >= < > and a "
            'number, all in quotes, such as "latency_ms<=5" or "coverage>=80%"'
        )
    name, sign, number, percent = match.groups()
    bound = float(number) / (100.0 if percent else 1.0)
    by_id = {score.id: score for score in scores}
    if name not in by_id:
        hint = nearest(name, by_id)
        known = "" if hint.startswith("known") else f" (known: {', '.join(sorted(by_id))})"
        raise InputError(f"the requirement '{text}' names an unknown score '{name}': {hint}{known}")
    score = by_id[name]
    if score.unit == "%" and abs(bound) > 1:
        raise InputError(
            f"the requirement '{text}' asks for more than all: {name} is a share, write 0.8 or 80%"
        )
    if percent and score.unit != "%":
        unit = f"is in {score.unit}" if score.unit else "has no unit"
        raise InputError(f"the requirement '{text}' gives per cent, but {name} {unit}")
    return Requirement(score, sign, bound)
