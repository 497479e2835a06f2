"""One comparison as a table in the terminal, as `results.json` and as a self-contained
`report.html`.

Knows nothing of training: everything comes from one dict, which `results.json` holds as it is (a
number that is not finite becomes null; null, NaN and absent scores are shown as a dash):

``` {"title": str, "question": one or two plain sentences, "created": ISO date, "command": str,
"commit": str,
 "machine":  {str: str or number},
 "protocol": {str: str, number or list},
 "systems": [{"name": str, "config": path, "workdir": path, "parameters": int,
              "training": {"steps": int, "seconds": float, "images": int}, "cost":
              {"compile_seconds": of sampling, "sampling_memory_bytes",
              "training_images_per_second",
                       "training_flops_per_image", "sampling_flops_per_image", "best_batch"}, each a
                       number, null or absent,
              "sampler": {option: value}, "nfe": network calls per sample, "scores": {score id:
              {"mean": float, "std": float over the seeds, "values": [one per seed]}}, "curves":
              {"<player>/<term>" or "<player>/loss": [[step, value], ...]}, "grid": PNG of samples,
              path relative to the output folder}],
 "scores": [{"id": str, "name": str, "corner": "quality" | "speed" | "diversity" | "check", "main":
             bool, "higher_is_better": bool, "unit": "%", "ms", "nats" or "", "digits": decimals to
             show, "floor": {"mean", "std", "values"} of the score between disjoint sets of real
             images, or null, "explain": one plain sentence}],
 "requirements": [such as "latency_ms<=5" or "coverage>=80%"], may be absent, "axis": {"name": str,
 "values": [a number or null for each system], "log": bool}, may be absent or null,
 "reference_grid": PNG of real images, path relative to the output folder}
```

A share is stored as a fraction with the unit "%" and shown in per cent: 0.975 as 97.5 %; `digits`
are those of the shown number. Main scores stand in the short tables and take part in the reading;
the first of a corner ranks and plots."""

import json
import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxgen.errors import InputError
from jaxgen.evaluation import page, plots
from jaxgen.evaluation.ranking import (
    CORNERS,
    KINDS,
    against_floor,
    amount,
    beaten_by,
    error,
    finite,
    floor_mean,
    floor_spread,
    leaders,
    leading_scores,
    main_scores,
    marked,
    mean,
    names,
    number,
    pick,
    ranked,
    some,
    spread,
)
from jaxgen.evaluation.record import plain

WIDTH = 100  # characters of a terminal that a table may fill


def table(results: Mapping[str, Any]) -> str:
    """The main scores as text: systems in rows, real images last, `*` at the best of a column and
    what is level with it.

    Columns that do not fit into 100 characters go into a second table below.
    """
    systems = _column(
        "", "", [system["name"] for system in results["systems"]] + ["real images"], "<"
    )
    blocks = []
    for score in main_scores(results, *KINDS):
        column = _score_column(results, score)
        if not blocks or sum(width + 2 for width, _, _ in blocks[-1]) + column[0] > WIDTH:
            blocks.append([systems])
        blocks[-1].append(column)
    legend = (
        "↑ higher is better, ↓ lower is better; * the best, and what is within one standard "
        "deviation of it"
    )
    return "\n\n".join([_beside(block) for block in blocks] + [legend]) + "\n"


def reading(results: Mapping[str, Any]) -> list[str]:
    """What the main scores say in plain words: one line "<corner>: ..." for each corner, and one
    for the Pareto front.

    Systems within one standard deviation of the first are level with it; where no system is first,
    or level with the first, in all main scores of a corner, there is no clear order."""
    lines = [
        f"{corner.capitalize()}: {_corner(results, corner)}"
        for corner in CORNERS
        if main_scores(results, corner)
    ]
    front = _front(results)
    return lines + ([f"Trade-off: {front}"] if front else [])


def chosen(results: Mapping[str, Any]) -> list[str]:
    """Which systems meet the results' requirements and which comes first (`ranking.pick`); empty
    where nothing is required.

    Raises InputError for a requirement that cannot be read or names an unknown score.
    """
    return pick(results, results.get("requirements") or [])


def write(results: Mapping[str, Any], folder: str | os.PathLike) -> str:
    """Write results.json, plots/*.png and report.html into `folder`, and return the path of
    report.html.

    The grids named in `results` must lie in the folder. The same results give the same files.
    """
    folder = Path(folder)
    results = plain(results)
    read, picked, along = (
        reading(results),
        chosen(results),
        _along(results),
    )  # complain before anything is drawn
    pictures = {
        "systems": {
            s["name"]: _read(folder, s["grid"]) for s in results["systems"] if s.get("grid")
        },
        "real": _read(folder, results["reference_grid"]) if results.get("reference_grid") else None,
        "trade-offs": [],
        "along": [],
        "curves": [],
    }
    for x, y in _axes(results):
        drawn = {
            name: plots.trade_off(results, x, y, theme) for name, theme in plots.THEMES.items()
        }
        pictures["trade-offs"].append((x, y, _keep(drawn, folder, f"{x['corner']}-{y['corner']}")))
    for score in along:
        drawn = {name: plots.along(results, score, theme) for name, theme in plots.THEMES.items()}
        pictures["along"].append((score, _keep(drawn, folder, f"along-{score['id']}")))
    for group in _same_curves(results["systems"]):
        curves = results["systems"][group[0]]["curves"]
        drawn = {name: plots.training(curves, theme) for name, theme in plots.THEMES.items()}
        pictures["curves"].append((group, _keep(drawn, folder, f"training-{group[0]}")))
    _save(
        folder / "results.json",
        json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False).encode(),
    )
    _save(folder / "report.html", page.render(results, read, picked, pictures).encode())
    return str(folder / "report.html")


# The terminal's table. A column is its width, its header lines and its cells.


def _column(
    name: str, below: str, cells: Sequence[str], side: str
) -> tuple[int, list[str], list[str]]:
    longest = max(map(len, [*name.split(), below, *cells]))
    header = textwrap.wrap(name, longest) + [below]
    return (
        longest,
        [f"{line:{side}{longest}}" for line in header],
        [f"{cell:{side}{longest}}" for cell in cells],
    )


def _score_column(results, score):
    best = marked(results, score)
    means = [
        ("*" if s["name"] in best else "") + number(mean(s, score), score)
        for s in results["systems"]
    ]
    means.append(number(floor_mean(score), score))
    errors = [error(spread(s, score), mean(s, score), score) for s in results["systems"]]
    errors = [
        f" {text}" if text else ""
        for text in [*errors, error(floor_spread(score), floor_mean(score), score)]
    ]
    left, right = max(map(len, means)), max(map(len, errors))
    cells = [f"{m:>{left}}{e:<{right}}" for m, e in zip(means, errors)]
    return _column(
        score["name"],
        f"{score['unit']} {'↑' if score['higher_is_better'] else '↓'}".strip(),
        cells,
        ">",
    )


def _beside(columns) -> str:
    """The columns side by side: headers stand on a rule, and the last row, the real images, below
    another.
    """
    height = max(len(header) for _, header, _ in columns)
    filled = [
        [" " * width] * (height - len(header)) + header + cells for width, header, cells in columns
    ]
    lines = ["  ".join(parts).rstrip() for parts in zip(*filled)]
    rule = "─" * (sum(width + 2 for width, _, _ in columns) - 2)
    return "\n".join([*lines[:height], rule, *lines[height:-1], rule, lines[-1]])


# The words.


def _corner(results, corner: str) -> str:
    scores = [score for score in main_scores(results, corner) if ranked(results, score)]
    if not scores:
        return "no system has a score."
    # a score that only one of several systems has orders nothing
    scores = [score for score in scores if len(ranked(results, score)) > 1] or scores[:1]
    firsts = [leaders(results, score) for score in scores]
    if set.intersection(*map(set, firsts)):
        return _first(results, scores, firsts)
    parts = [
        f"{some(first)} {_is(first)} first by {names(by)}" for first, by in _claims(firsts, scores)
    ]
    return f"no clear order: {', '.join(parts)}."


def _claims(firsts, scores) -> list[tuple[tuple[str, ...], list[str]]]:
    """Who is first, and the names of the scores that say so."""
    claims: dict[tuple[str, ...], list[str]] = {}
    for first, score in zip(firsts, scores):
        claims.setdefault(tuple(first), []).append(score["name"])
    return list(claims.items())


def _first(results, scores, firsts: Sequence[Sequence[str]]) -> str:
    """Who is first by the first score, how far from real images (if they have the score), who
    follows, and whom other scores put first."""
    score, first = scores[0], firsts[0]
    order = ranked(results, score)
    values = [mean(system, score) for system in order]
    shown = [amount(value, score) for value in values]
    if len(order) == 1:
        return (
            f"only {first[0]} has a score: {score['name']} "
            f"{shown[0]}{_beside_real(order[0], score)}."
        )
    if len(first) == 1:
        text = f"{first[0]} is first: {score['name']} {shown[0]}{_beside_real(order[0], score)}."
    elif len(first) <= 3:
        best = names(shown[: len(first)])
        text = f"{names(first)} are level, within one standard deviation: {score['name']} {best}"
        text += f"{_beside_real(order[0], score)}."
    else:
        ends = list(dict.fromkeys((shown[0], shown[len(first) - 1])))
        text = (
            f"{some(first)} are level, within one standard deviation: {score['name']} "
            f"{' to '.join(ends)}."
        )
    if len(first) < len(order):
        times = "" if floor_mean(score) is not None else _times(values[len(first)], values[0])
        text += f" {order[len(first)]['name']} follows with {shown[len(first)]}{times}."
    for others, by in _claims(firsts, scores):
        if not set(others) >= set(first):
            text += f" By {names(by)}, {some(others)} {_is(others)} first."
    return text


def _beside_real(system, score) -> str:
    floor, ratio = floor_mean(score), against_floor(system, score)
    if floor is None:
        return ""
    real = amount(floor, score)
    if ratio is None or ratio <= 0:
        return f" (real images {real})"
    if score["higher_is_better"]:
        return f", {100 * ratio:.0f} % of what real images reach ({real})"
    return f", {ratio:.1f} times that of real images ({real})"


def _times(second: float, first: float) -> str:
    if first <= 0 or second <= 0:
        return ""
    ratio = second / first
    return f", {ratio:.{0 if ratio >= 10 else 1 if ratio >= 1.2 else 2}f} times as much"


def _front(results) -> str:
    """Which systems nothing else matches in every corner, by the first score of each; empty if
    there is no contest.
    """
    scores = leading_scores(results)
    beaten = beaten_by(results, scores)
    front = [name for name in beaten if not beaten[name]]
    if len(scores) < 2 or len(beaten) < 2:
        return ""
    if len(front) == 1:
        return (
            f"{front[0]} is at least as good as every other system in "
            f"{'both' if len(scores) == 2 else 'all three'} corners."
        )
    subject = "all systems" if len(front) == len(results["systems"]) else names(front)
    text = (
        f"{subject} lie on the Pareto front: between them, a gain in one corner costs "
        f"something "
        f"in another."
    )
    behind = {name: rivals for name, rivals in beaten.items() if rivals}
    if len(behind) <= 2:
        return text + "".join(
            f" {name} does not: {some(by)} {_is(by)} at least as good in every corner."
            for name, by in behind.items()
        )
    each = ", ".join(f"{name} ({some(rivals, 1)})" for name, rivals in behind.items())
    return (
        f"{text} {len(behind)} systems do not, since another is at least as good in every "
        f"corner: {each}."
    )


def _is(subjects: Sequence[str]) -> str:
    return "is" if len(subjects) == 1 else "are"


# The files.


def _axes(results) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """The pairs of first scores that at least one system has both of: speed lies on the x axis
    where it takes part.
    """
    leading = {score["corner"]: score for score in leading_scores(results)}
    pairs = (("speed", "quality"), ("diversity", "quality"), ("speed", "diversity"))
    pairs = [(leading[x], leading[y]) for x, y in pairs if x in leading and y in leading]
    return [pair for pair in pairs if beaten_by(results, pair)]


def _along(results) -> list[Mapping[str, Any]]:
    """The main scores that at least two systems on the axis have; none without an axis."""
    if not (axis := results.get("axis")):
        return []
    if len(axis["values"]) != len(results["systems"]):
        raise InputError(
            f"the axis '{axis['name']}' has {len(axis['values'])} values for "
            f"{len(results['systems'])} systems"
        )
    placed = [
        system
        for system, value in zip(results["systems"], axis["values"])
        if finite(value) is not None
    ]
    return [
        s
        for s in main_scores(results, *KINDS)
        if sum(mean(system, s) is not None for system in placed) > 1
    ]


def _same_curves(systems) -> list[list[int]]:
    """The systems that have curves, by number; those that share one training run, and so its
    curves, together.
    """
    groups: list[list[int]] = []
    for i, system in enumerate(systems):
        if not plots.chosen_curves(system.get("curves") or {}):
            continue
        for group in groups:
            if systems[group[0]]["curves"] == system["curves"]:
                group.append(i)
                break
        else:
            groups.append([i])
    return groups


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as e:
        raise InputError(
            f"cannot read the picture '{name}' in {folder}: {e.strerror}; sample again"
        ) from e


def _keep(drawn: Mapping[str, bytes], folder: Path, name: str) -> Mapping[str, bytes]:
    for theme, png in drawn.items():
        _save(folder / "plots" / f"{name}{'' if theme == 'light' else '-' + theme}.png", png)
    return drawn


def _save(path: Path, data: bytes) -> None:
    """Write beside the old file and then replace it, so that a full disk never leaves half a
    report.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    partial.replace(path)
