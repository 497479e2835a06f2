"""The results in plain words: values as text, what the main scores say, and which systems meet what
is required.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from jaxgen.report.ranking import Requirement, beaten_by, leaders, ranked, requirement
from jaxgen.report.results import CORNERS, Estimate, Results, Score, System

MISSING = "–"

# The values as text.


def number(value: float | None, score: Score) -> str:
    """A value of a score as text: shares in per cent, with the score's digits, or with two
    significant ones where those would show fewer."""
    if value is None:
        return MISSING
    value *= score.scale
    digits = score.digits
    if 1e-12 < abs(value) < 10.0 ** (1 - digits) and value != round(value, digits):
        decimals = 1 - math.floor(math.log10(abs(value)))
        return f"{value:.{decimals}f}" if abs(value) >= 1e-4 else f"{value:.1e}"
    return f"{value:.{digits}f}"


def deviation(estimate: Estimate, score: Score) -> str:
    """A standard deviation as text behind its value, with the decimals that the value has; empty
    where there is none.
    """
    if not estimate.spread or estimate.mean is None:
        return ""
    spread = estimate.spread * score.scale
    text = f"{spread:.{len(number(estimate.mean, score).partition('.')[2])}f}"
    return f"±{text if float(text) else f'{spread:.1g}'}"


def amount(value: float | None, score: Score) -> str:
    """A value with its unit."""
    return f"{number(value, score)} {score.unit}".strip()


def names(items: Sequence[str]) -> str:
    """'a, b and c'."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def some(items: Sequence[str], most: int = 3) -> str:
    """The names, or the first and how many more there are."""
    rest = len(items) - 1
    return names(items) if len(items) <= most else f"{items[0]} and {rest} other{'s' * (rest > 1)}"


def _are(subjects: Sequence[str]) -> str:
    return "is" if len(subjects) == 1 else "are"


# What the main scores say.


def reading(results: Results) -> list[str]:
    """What the main scores say: one line "<corner>: ..." for each corner, one for the Pareto front.

    Systems within one standard deviation of the first are level with it; where no system is first,
    or level with the first, in all main scores of a corner, there is no clear order."""
    corners = [corner for corner in CORNERS if results.main(corner)]
    lines = [f"{corner.capitalize()}: {_corner(results, corner)}" for corner in corners]
    front = _front(results)
    return lines + ([f"Trade-off: {front}"] if front else [])


def _corner(results: Results, corner: str) -> str:
    orders = {s: order for s in results.main(corner) if (order := ranked(results.systems, s))}
    if not orders:
        return "no system has a score."
    # a score that only one of several systems has orders nothing
    scores = [s for s in orders if len(orders[s]) > 1] or list(orders)[:1]
    firsts = [leaders(results.systems, score) for score in scores]
    if set.intersection(*map(set, firsts)):
        return _first_of_corner(orders[scores[0]], scores, firsts)
    parts = [
        f"{some(first)} {_are(first)} first by {names(by)}"
        for first, by in _claims(firsts, scores).items()
    ]
    return f"no clear order: {', '.join(parts)}."


def _claims(firsts, scores) -> dict[tuple[str, ...], list[str]]:
    """Who is first, and the names of the scores that say so."""
    claims: dict[tuple[str, ...], list[str]] = {}
    for first, score in zip(firsts, scores):
        claims.setdefault(tuple(first), []).append(score.name)
    return claims


def _first_of_corner(order: Sequence[System], scores: Sequence[Score], firsts) -> str:
    """Who is first by the first score, how far from real images (if they have the score), who
    follows, and whom other scores put first."""
    score, first = scores[0], firsts[0]
    shown = [amount(system.of(score).mean, score) for system in order]
    real = _beside_real(order[0].of(score), score)
    if len(order) == 1:
        return f"only {first[0]} has a score: {score.name} {shown[0]}{real}."
    level = "are level, within one standard deviation"
    if len(first) == 1:
        text = f"{first[0]} is first: {score.name} {shown[0]}{real}."
    elif len(first) <= 3:
        text = f"{names(first)} {level}: {score.name} {names(shown[: len(first)])}{real}."
    else:
        ends = dict.fromkeys((shown[0], shown[len(first) - 1]))
        text = f"{some(first)} {level}: {score.name} {' to '.join(ends)}."
    if len(first) < len(order):
        second = order[len(first)]
        values = second.of(score).mean, order[0].of(score).mean
        times = "" if score.real.mean is not None else _times(*values)
        text += f" {second.name} follows with {shown[len(first)]}{times}."
    for others, by in _claims(firsts, scores).items():
        if not set(others) >= set(first):
            text += f" By {names(by)}, {some(others)} {_are(others)} first."
    return text


def _beside_real(estimate: Estimate, score: Score) -> str:
    if score.real.mean is None:
        return ""
    real, times = amount(score.real.mean, score), score.times_real(estimate)
    if times is None or times <= 0:
        return f" (real images {real})"
    if score.higher_is_better:
        return f", {100 * times:.0f} % of what real images reach ({real})"
    return f", {times:.1f} times that of real images ({real})"


def _times(second: float | None, first: float | None) -> str:
    if first is None or second is None or first <= 0 or second <= 0:
        return ""
    ratio = second / first
    return f", {ratio:.{0 if ratio >= 10 else 1 if ratio >= 1.2 else 2}f} times as much"


def _front(results: Results) -> str:
    """Which systems nothing else matches in every corner, by the first score of each; empty if
    there is no contest.
    """
    scores = results.leading
    beaten = beaten_by(results, scores)
    front = [name for name in beaten if not beaten[name]]
    if len(scores) < 2 or len(beaten) < 2:
        return ""
    if len(front) == 1:
        corners = "both" if len(scores) == 2 else "all three"
        return f"{front[0]} is at least as good as every other system in {corners} corners."
    subject = "all systems" if len(front) == len(results.systems) else names(front)
    text = (
        f"{subject} lie on the Pareto front: between them, a gain in one corner costs something "
        "in another."
    )
    behind = {name: rivals for name, rivals in beaten.items() if rivals}
    if len(behind) <= 2:
        return text + "".join(f" {n} does not: {_rivals(by)}." for n, by in behind.items())
    each = ", ".join(f"{name} ({some(rivals, 1)})" for name, rivals in behind.items())
    return (
        f"{text} {len(behind)} systems do not, since another is at least as good in every "
        f"corner: {each}."
    )


def _rivals(rivals: Sequence[str]) -> str:
    return f"{some(rivals)} {_are(rivals)} at least as good in every corner"


# Which systems meet what is required.

BOUNDS = {"<=": "at most", ">=": "at least", "<": "less than", ">": "more than"}


def chosen(results: Results) -> list[str]:
    """Which systems meet all requirements and which of them comes first, in lines "<label>: <plain
    words>"; empty where nothing is required.

    Means are judged. A system without the score fails. The systems of the Pareto front (by the
    first main score of each corner) go before the others, and the best of them in the leading main
    score of quality comes first. Raises InputError as `ranking.requirement`."""
    asked = [requirement(text, results.scores) for text in results.requirements]
    if not asked:
        return []
    misses = {s.name: [ask for ask in asked if not ask.met(s)] for s in results.systems}
    beaten = beaten_by(results, results.leading)
    meeting = [s for s in results.systems if not misses[s.name]]
    front = [s for s in meeting if beaten.get(s.name) == []]
    bounds = [f"{ask.score.name} {_bound(ask)}" for ask in asked]
    lines = [f"Required: {names(bounds)}, by the means."]
    if meeting:
        lines += _first(results, front, meeting)
    else:
        lines += ["First: no system meets all requirements."]
    lines += [
        f"Also: {s.name} meets all, but {_behind(beaten.get(s.name))}."
        for s in meeting
        if front and s not in front
    ]
    failing = [s for s in results.systems if misses[s.name]]
    failing.sort(key=lambda s: (len(misses[s.name]), sum(ask.gap(s) for ask in misses[s.name])))
    for i, system in enumerate(failing):
        label = "Nearest" if i == 0 and not meeting else "Out"
        missed = names([_missed(system, ask) for ask in misses[system.name]])
        lines.append(f"{label}: {system.name} with {missed}.")
    return lines


def _bound(ask: Requirement) -> str:
    return f"{BOUNDS[ask.sign]} {ask.bound * ask.score.scale:g} {ask.score.unit}".strip()


def _missed(system: System, ask: Requirement) -> str:
    """The value beside the bound, with as many digits as tell them apart."""
    score, value = ask.score, system.of(ask.score).mean
    if value is None:
        return f"no score for {score.name} ({_bound(ask)})"
    while value != ask.bound and score.digits < 12 and _reads_as(value, ask.bound, score):
        score = replace(score, digits=score.digits + 1)
    return f"{score.name} {amount(value, score)} ({_bound(ask)})"


def _reads_as(value: float, bound: float, score: Score) -> bool:
    shown = float(number(value, score))
    return math.isclose(shown, bound * score.scale, rel_tol=1e-9, abs_tol=1e-15)


def _first(results: Results, front: Sequence[System], meeting: Sequence[System]) -> list[str]:
    """Who comes first of those that meet all, why, and who comes next with what advantage."""
    leading, those = results.leading, front or meeting
    order = ranked(those, leading[0]) if leading else []
    if not order:
        return [f"First: {names([s.name for s in those])}; there is no main score to order by."]
    best, score = order[0], leading[0]
    of = " of the Pareto front" if front else ""
    rank = "the only system" if len(those) == 1 else f"the best of the {len(those)} systems"
    meets = "meets" if len(those) == 1 else "meet"
    value = amount(best.of(score).mean, score)
    lines = [f"First: {best.name}, {rank}{of} that {meets} all ({score.name} {value})."]
    if not front:
        rivals = _behind(beaten_by(results, leading).get(best.name))
        lines.append(f"Pareto: no system of the front meets all; as to {best.name}, {rivals}.")
    if len(order) > 1:
        lines.append(f"Next: {_runner_up(order, leading)}")
    if rest := [s.name for s in those if s not in order]:
        lines.append(f"Also: {names(rest)}, without a score for {score.name}.")
    return lines


def _runner_up(order: Sequence[System], leading: Sequence[Score]) -> str:
    best, second, score = order[0], order[1], leading[0]
    level = second.name in leaders(order, score)
    gains = []
    for other in leading[1:]:
        ours, theirs = best.of(other).mean, second.of(other).mean
        if ours is None or theirs is None or ours == theirs:
            continue
        if (theirs > ours) == other.higher_is_better:
            gains.append(f"{other.name} ({amount(theirs, other)} against {amount(ours, other)})")
    beside = " (level, within one standard deviation)" if level else ""
    better = f"; better than {best.name} in {names(gains)}" if gains else ""
    return f"{second.name} with {amount(second.of(score).mean, score)}{beside}{better}."


def _behind(rivals: Sequence[str] | None) -> str:
    if rivals is None:
        return "it lacks a score that the Pareto front needs"
    return _rivals(rivals)
