"""What a table of scores says: which system is first, which are level with it, which lie on the Pareto front.

Works on the results dict that `jaxgen.evaluation.report` documents.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxgen.errors import InputError, nearest

CORNERS = ("quality", "speed", "diversity")  # of the trilemma, in the order in which they are read
KINDS = (*CORNERS, "check")  # a check guards the comparison (copies, missing classes) and nobody wins it
MISSING = "–"


def finite(number: Any) -> float | None:
    """The number as a float; None where it is missing, NaN or infinite."""
    return float(number) if number is not None and math.isfinite(number) else None


def scores_of(results: Mapping[str, Any], *corners: str) -> list[Mapping[str, Any]]:
    """The scores of these corners, corner by corner; in a corner the order of the results stays, its first score leads."""
    for score in results["scores"]:
        if score["corner"] not in KINDS:
            hint = nearest(score["corner"], KINDS)
            raise InputError(f"score '{score['id']}' stands in an unknown corner '{score['corner']}': {hint}")
    return [score for corner in corners for score in results["scores"] if score["corner"] == corner]


def mean(system: Mapping[str, Any], score: Mapping[str, Any]) -> float | None:
    """A system's score, or None if it has none."""
    return finite(system["scores"].get(score["id"], {}).get("mean"))


def spread(system: Mapping[str, Any], score: Mapping[str, Any]) -> float:
    """The standard deviation of a system's score over the seeds; 0 if there is none."""
    return finite(system["scores"].get(score["id"], {}).get("std")) or 0.0


def number(value: float | None, score: Mapping[str, Any]) -> str:
    """A value of a score as text, with the score's digits, or with two significant ones where those would show a zero."""
    if value is None:
        return MISSING
    text = f"{value:.{score['digits']}f}"
    return f"{value:.2g}" if value and not float(text) else text


def ranked(results: Mapping[str, Any], score: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The systems that have the score, best first."""
    sign = -1 if score["higher_is_better"] else 1
    have = [system for system in results["systems"] if mean(system, score) is not None]
    return sorted(have, key=lambda system: sign * mean(system, score))


def leaders(results: Mapping[str, Any], score: Mapping[str, Any]) -> list[str]:
    """The best system and those level with it: no further from it than the larger standard deviation of the two."""
    order = ranked(results, score)

    def level(system):
        gap = abs(mean(system, score) - mean(order[0], score))
        return gap <= max(spread(system, score), spread(order[0], score))

    return [system["name"] for system in order if level(system)]


def beaten_by(results: Mapping[str, Any], scores: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """For each system that has all `scores`: the systems at least as good in every one and better in some, by the means.

    The systems with an empty list lie on the Pareto front.
    """
    points = {}
    for system in results["systems"]:
        values = [mean(system, score) for score in scores]
        if None not in values:
            points[system["name"]] = [v if s["higher_is_better"] else -v for v, s in zip(values, scores)]

    def dominates(a, b):
        return a != b and all(x >= y for x, y in zip(a, b))

    return {name: [rival for rival, q in points.items() if dominates(q, p)] for name, p in points.items()}


def marked(results: Mapping[str, Any], score: Mapping[str, Any]) -> list[str]:
    """The systems that a table marks as best: none in a check, and none where all are level."""
    first = leaders(results, score)
    return [] if score["corner"] == "check" or len(first) == len(ranked(results, score)) else first
