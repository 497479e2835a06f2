"""What a table of scores says: which system is first, which are level with it, which lie on the
Pareto front, and which of them meet what is required of them.

Works on the results dict that `jaxgen.evaluation.report` documents.
"""

import math
import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxgen.errors import InputError, nearest

CORNERS = ("quality", "speed", "diversity")  # of the trilemma, in the order in which they are read
KINDS = (
    *CORNERS,
    "check",
)  # a check guards the comparison (copies, missing classes) and nobody wins it
MISSING = "–"

System = Mapping[str, Any]
Score = Mapping[str, Any]

# The scores and their values.


def finite(number: Any) -> float | None:
    """The number as a float; None where it is missing, NaN or infinite."""
    return float(number) if number is not None and math.isfinite(number) else None


def scores_of(results: Mapping[str, Any], *corners: str) -> list[Score]:
    """The scores of these corners, corner by corner; in a corner the order of the results stays."""
    for score in results["scores"]:
        if score["corner"] not in KINDS:
            hint = nearest(score["corner"], KINDS)
            raise InputError(
                f"score '{score['id']}' stands in an unknown corner '{score['corner']}': {hint}"
            )
    return [score for corner in corners for score in results["scores"] if score["corner"] == corner]


def main_scores(results: Mapping[str, Any], *corners: str) -> list[Score]:
    """The scores of these corners that the short table and the reading use: the first of a corner
    ranks and plots.
    """
    return [score for score in scores_of(results, *corners) if score.get("main", True)]


def leading_scores(results: Mapping[str, Any]) -> list[Score]:
    """The first main score of each corner that has one: the scores of the Pareto front."""
    return [scores[0] for corner in CORNERS if (scores := main_scores(results, corner))]


def mean(system: System, score: Score) -> float | None:
    """A system's score, or None if it has none."""
    return finite(system["scores"].get(score["id"], {}).get("mean"))


def spread(system: System, score: Score) -> float:
    """The standard deviation of a system's score over the seeds; 0 if there is none."""
    return finite(system["scores"].get(score["id"], {}).get("std")) or 0.0


def floor_mean(score: Score) -> float | None:
    """The score of real images against other real images, or None where it was not measured."""
    return finite((score.get("floor") or {}).get("mean"))


def floor_spread(score: Score) -> float:
    """The standard deviation of the floor over disjoint draws of real images; 0 if there is none."""
    return finite((score.get("floor") or {}).get("std")) or 0.0


def against_floor(system: System, score: Score) -> float | None:
    """A system's mean over the floor's: 1 is as good as real images. None where the floor is
    missing, or not positive beyond its own noise, as that of an unbiased estimate may be."""
    value, floor = mean(system, score), floor_mean(score)
    return (
        value / floor
        if value is not None and floor is not None and floor > floor_spread(score)
        else None
    )


# The values as text.


def scale(score: Score) -> float:
    """What a value is multiplied by to be shown: shares are fractions, shown in per cent."""
    return 100.0 if score["unit"] == "%" else 1.0


def number(value: float | None, score: Score) -> str:
    """A value of a score as text: shares in per cent, with the score's digits, or with two
    significant ones where those would show fewer."""
    if value is None:
        return MISSING
    value *= scale(score)
    digits = score["digits"]
    if 1e-12 < abs(value) < 10.0 ** (1 - digits) and value != round(value, digits):
        return (
            f"{value:.{1 - math.floor(math.log10(abs(value)))}f}"
            if abs(value) >= 1e-4
            else f"{value:.1e}"
        )
    return f"{value:.{digits}f}"


def error(spread: float, value: float | None, score: Score) -> str:
    """A standard deviation as text behind its value, with the decimals that the value has; empty
    where there is none.
    """
    if not spread or value is None:
        return ""
    text = f"{spread * scale(score):.{len(number(value, score).partition('.')[2])}f}"
    return f"±{text if float(text) else f'{spread * scale(score):.1g}'}"


def amount(value: float | None, score: Score) -> str:
    """A value with its unit."""
    return f"{number(value, score)} {score['unit']}".strip()


def names(items: Sequence[str]) -> str:
    """'a, b and c'."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


# The order.


def ranked(results: Mapping[str, Any], score: Score) -> list[System]:
    """The systems that have the score, best first."""
    return _sorted(results["systems"], score)


def leaders(results: Mapping[str, Any], score: Score) -> list[str]:
    """The best system and those level with it: no further from it than the larger standard
    deviation of the two.
    """
    return _level(ranked(results, score), score)


def marked(results: Mapping[str, Any], score: Score) -> list[str]:
    """The systems that a table marks as best: none in a check, and none where all are level."""
    first = leaders(results, score)
    return [] if score["corner"] == "check" or len(first) == len(ranked(results, score)) else first


def beaten_by(results: Mapping[str, Any], scores: Sequence[Score]) -> dict[str, list[str]]:
    """For each system that has all `scores`: the systems at least as good in every one and better
    in some, by the means.

    The systems with an empty list lie on the Pareto front.
    """
    points = {}
    for system in results["systems"]:
        values = [mean(system, score) for score in scores]
        if None not in values:
            points[system["name"]] = [
                v if s["higher_is_better"] else -v for v, s in zip(values, scores)
            ]

    def dominates(a, b):
        return a != b and all(x >= y for x, y in zip(a, b))

    return {
        name: [rival for rival, q in points.items() if dominates(q, p)]
        for name, p in points.items()
    }


def _sorted(systems: Sequence[System], score: Score) -> list[System]:
    sign = -1 if score["higher_is_better"] else 1
    have = [system for system in systems if mean(system, score) is not None]
    return sorted(have, key=lambda system: sign * mean(system, score))


def _level(order: Sequence[System], score: Score) -> list[str]:
    def level(system):
        gap = abs(mean(system, score) - mean(order[0], score))
        return gap <= max(spread(system, score), spread(order[0], score))

    return [system["name"] for system in order if level(system)]


# What is required of a system.

OPERATORS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
WORDS = {"<=": "at most", ">=": "at least", "<": "less than", ">": "more than"}
_REQUIREMENT = re.compile(
    r"\s*([^\s<>=%]+)\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(%?)\s*"
)


def requirement(text: str, scores: Sequence[Score] | None = None) -> tuple[str, str, float]:
    """(score id, operator, bound) of a requirement such as "latency_ms<=5" or "coverage>=80%",
    which is 0.8.

    Raises InputError for text that is none, and, where `scores` are given, for a score that is not
    one of them and for a bound that its unit does not allow."""
    match = _REQUIREMENT.fullmatch(text)
    if match is None:
        raise InputError(
            f"cannot read the requirement '{text}': write a score's id, one of <= >= < > and a "
            f"number, all in quotes, "
            'such as "latency_ms<=5" or "coverage>=80%"'
        )
    name, sign, bound, percent = match.groups()
    bound = float(bound) / (100.0 if percent else 1.0)
    if scores is not None:
        by_id = {score["id"]: score for score in scores}
        if name not in by_id:
            hint = nearest(name, by_id)
            known = "" if hint.startswith("known") else f" (known: {', '.join(sorted(by_id))})"
            raise InputError(
                f"the requirement '{text}' names an unknown score '{name}': {hint}{known}"
            )
        share = by_id[name]["unit"] == "%"
        if share and abs(bound) > 1:
            raise InputError(
                f"the requirement '{text}' asks for more than all: {name} is a share, write 0.8 or "
                f"80%"
            )
        if percent and not share:
            unit = f"is in {by_id[name]['unit']}" if by_id[name]["unit"] else "has no unit"
            raise InputError(f"the requirement '{text}' gives per cent, but {name} {unit}")
    return name, sign, bound


def pick(results: Mapping[str, Any], requirements: Sequence[str]) -> list[str]:
    """Which systems meet all requirements and which of them comes first, in lines "<label>: <plain
    words>".

    Means are judged. A system without the score fails. The systems of the Pareto front (by the
    first main score of each corner) go before the others, and the best of them in the leading main
    score of quality comes first."""
    if not requirements:
        return []
    by_id = {score["id"]: score for score in results["scores"]}
    asked = [
        (by_id[name], sign, bound)
        for name, sign, bound in (requirement(r, results["scores"]) for r in requirements)
    ]
    misses = {
        system["name"]: [ask for ask in asked if not _meets(system, ask)]
        for system in results["systems"]
    }
    beaten = beaten_by(results, leading_scores(results))
    meeting = [system for system in results["systems"] if not misses[system["name"]]]
    front = [system for system in meeting if beaten.get(system["name"]) == []]
    bounds = [f"{score['name']} {_bound(score, sign, bound)}" for score, sign, bound in asked]
    lines = [f"Required: {names(bounds)}, by the means."]
    lines += (
        _first(results, front, meeting) if meeting else ["First: no system meets all requirements."]
    )
    for system in meeting:
        if front and system not in front:
            lines.append(
                f"Also: {system['name']} meets all, but {_behind(beaten.get(system['name']))}."
            )
    failing = sorted(
        (s for s in results["systems"] if misses[s["name"]]),
        key=lambda s: _distance(s, misses[s["name"]]),
    )
    for i, system in enumerate(failing):
        label = "Nearest" if i == 0 and not meeting else "Out"
        lines.append(
            f"{label}: {system['name']} with "
            f"{names([_missed(system, ask) for ask in misses[system['name']]])}."
        )
    return lines


def _meets(system: System, ask: tuple[Score, str, float]) -> bool:
    score, sign, bound = ask
    value = mean(system, score)
    return value is not None and OPERATORS[sign](value, bound)


def _distance(system: System, missed: Sequence[tuple[Score, str, float]]) -> tuple[int, float]:
    """How far a system is from meeting all: the number of misses, then how large they are beside
    their bounds.
    """
    gaps = [
        math.inf if (v := mean(system, s)) is None else abs(v - b) / (abs(b) or 1.0)
        for s, _, b in missed
    ]
    return len(missed), sum(gaps)


def _bound(score: Score, sign: str, bound: float) -> str:
    return f"{WORDS[sign]} {bound * scale(score):g} {score['unit']}".strip()


def _missed(system: System, ask: tuple[Score, str, float]) -> str:
    """The value beside the bound, with as many digits as tell them apart."""
    score, sign, bound = ask
    value = mean(system, score)
    if value is None:
        return f"no score for {score['name']} ({_bound(score, sign, bound)})"
    digits = score["digits"]
    while (
        value != bound
        and digits < 12
        and _equal(number(value, {**score, "digits": digits}), bound * scale(score))
    ):
        digits += 1
    shown = amount(value, {**score, "digits": digits})
    return f"{score['name']} {shown} ({_bound(score, sign, bound)})"


def _equal(text: str, bound: float) -> bool:
    return math.isclose(float(text), bound, rel_tol=1e-9, abs_tol=1e-15)


def _first(
    results: Mapping[str, Any], front: Sequence[System], meeting: Sequence[System]
) -> list[str]:
    """Who comes first of those that meet all, why, and who comes next with what advantage."""
    leading = leading_scores(results)
    chosen = front or meeting
    order = _sorted(chosen, leading[0]) if leading else []
    if not order:
        return [
            f"First: {names([system['name'] for system in chosen])}; there is no main score to "
            f"order by."
        ]
    best, score = order[0], leading[0]
    of = " of the Pareto front" if front else ""
    rank = "the only system" if len(chosen) == 1 else f"the best of the {len(chosen)} systems"
    meets = "meets" if len(chosen) == 1 else "meet"
    lines = [
        f"First: {best['name']}, {rank}{of} that {meets} all ({score['name']} "
        f"{amount(mean(best, score), score)})."
    ]
    if not front:
        rivals = beaten_by(results, leading).get(best["name"])
        lines.append(
            f"Pareto: no system of the front meets all; as to {best['name']}, {_behind(rivals)}."
        )
    if len(order) > 1:
        lines.append(f"Next: {_runner_up(best, order, leading)}")
    if rest := [system["name"] for system in chosen if system not in order]:
        lines.append(f"Also: {names(rest)}, without a score for {score['name']}.")
    return lines


def _runner_up(best: System, order: Sequence[System], leading: Sequence[Score]) -> str:
    second, score = order[1], leading[0]
    level = (
        " (level, within one standard deviation)" if second["name"] in _level(order, score) else ""
    )
    gains = []
    for other in leading[1:]:
        ours, theirs = mean(best, other), mean(second, other)
        if (
            None not in (ours, theirs)
            and ours != theirs
            and (theirs > ours) == other["higher_is_better"]
        ):
            gains.append(f"{other['name']} ({amount(theirs, other)} against {amount(ours, other)})")
    better = f"; better than {best['name']} in {names(gains)}" if gains else ""
    return f"{second['name']} with {amount(mean(second, score), score)}{level}{better}."


def _behind(rivals: Sequence[str] | None) -> str:
    if rivals is None:
        return "it lacks a score that the Pareto front needs"
    return f"{some(rivals)} {'is' if len(rivals) == 1 else 'are'} at least as good in every corner"


def some(items: Sequence[str], most: int = 3) -> str:
    """The names, or the first and how many more there are."""
    rest = len(items) - 1
    return names(items) if len(items) <= most else f"{items[0]} and {rest} other{'s' * (rest > 1)}"
