"""One comparison as a table in the terminal, as `results.json` and as a self-contained `report.html`.

Knows nothing of training: everything comes from one dict, which `results.json` holds as it is (a number that is not
finite becomes null; null, NaN and absent scores are shown as a dash):

```
{"title": str, "question": one or two plain sentences, "created": ISO date, "command": str, "commit": str,
 "machine":  {str: str or number},
 "protocol": {str: str, number or list},
 "systems": [{"name": str, "config": path, "workdir": path, "parameters": int,
              "training": {"steps": int, "seconds": float, "images": int},
              "sampler": {option: value}, "nfe": network calls per sample,
              "scores": {score id: {"mean": float, "std": float over the seeds, "values": [one per seed]}},
              "curves": {"<player>/<term>" or "<player>/loss": [[step, value], ...]},
              "grid": PNG of samples, path relative to the output folder}],
 "scores": [{"id": str, "name": str, "corner": "quality" | "speed" | "diversity" | "check",
             "higher_is_better": bool, "unit": "%", "ms", "nats" or "", "digits": decimals to show,
             "floor": the score between two disjoint sets of real images or null, "explain": one plain sentence}],
 "reference_grid": PNG of real images, path relative to the output folder}
```

Scores are given in their unit (88.1 for 88.1 %). The first score of a corner is the one that ranks and plots use.
"""

import json
import os
import textwrap
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from jaxgen.errors import InputError
from jaxgen.evaluation import page, plots
from jaxgen.evaluation.ranking import (
    CORNERS,
    KINDS,
    beaten_by,
    finite,
    leaders,
    marked,
    mean,
    number,
    ranked,
    scores_of,
    spread,
)

WIDTH = 100  # characters of a terminal that a table may fill


def table(results: Mapping[str, Any]) -> str:
    """The scores as text: systems in rows, real images last, `*` at the best of a column and what is level with it.

    Columns that do not fit into 100 characters go into a second table below.
    """
    names = _column("", "", [system["name"] for system in results["systems"]] + ["real images"], "<")
    blocks = []
    for score in scores_of(results, *KINDS):
        column = _score_column(results, score)
        if not blocks or sum(width + 2 for width, _, _ in blocks[-1]) + column[0] > WIDTH:
            blocks.append([names])
        blocks[-1].append(column)
    legend = "↑ higher is better, ↓ lower is better; * the best, and what is within one standard deviation of it"
    return "\n\n".join([_beside(block) for block in blocks] + [legend]) + "\n"


def reading(results: Mapping[str, Any]) -> list[str]:
    """What the scores say in plain words: one line "<corner>: ..." for each corner, and one for the Pareto front.

    Systems within one standard deviation of the first are level with it; where two scores of a corner put different
    systems first there is no clear order.
    """
    lines = [f"{corner.capitalize()}: {_corner(results, corner)}" for corner in CORNERS if scores_of(results, corner)]
    front = _front(results)
    return lines + ([f"Trade-off: {front}"] if front else [])


def write(results: Mapping[str, Any], folder: str | os.PathLike) -> str:
    """Write results.json, plots/*.png and report.html into `folder`, and return the path of report.html.

    The grids named in `results` must lie in the folder. The same results give the same files.
    """
    folder = Path(folder)
    results = _plain(results)
    pictures = {
        "systems": {s["name"]: _read(folder, s["grid"]) for s in results["systems"] if s.get("grid")},
        "real": _read(folder, results["reference_grid"]) if results.get("reference_grid") else None,
        "trade-offs": [],
        "curves": {},
    }
    for x, y in _axes(results):
        drawn = {name: plots.trade_off(results, x, y, theme) for name, theme in plots.THEMES.items()}
        pictures["trade-offs"].append((x, y, _keep(drawn, folder, f"{x['corner']}-{y['corner']}")))
    for i, system in enumerate(results["systems"]):
        if plots.chosen_curves(system.get("curves") or {}):
            drawn = {name: plots.training(system["curves"], theme) for name, theme in plots.THEMES.items()}
            pictures["curves"][system["name"]] = _keep(drawn, folder, f"training-{i}")
    _save(folder / "results.json", json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False).encode())
    _save(folder / "report.html", page.render(results, reading(results), pictures).encode())
    return str(folder / "report.html")


# The terminal's table. A column is its width, its header lines and its cells.


def _column(name: str, below: str, cells: Sequence[str], side: str) -> tuple[int, list[str], list[str]]:
    longest = max(map(len, [*name.split(), below, *cells]))
    header = textwrap.wrap(name, longest) + [below]
    return longest, [f"{line:{side}{longest}}" for line in header], [f"{cell:{side}{longest}}" for cell in cells]


def _score_column(results, score):
    best = marked(results, score)
    means = [("*" if s["name"] in best else "") + number(mean(s, score), score) for s in results["systems"]]
    means.append(number(finite(score.get("floor")), score))
    errors = [f" ±{number(spread(s, score), score)}" if spread(s, score) else "" for s in results["systems"]] + [""]
    left, right = max(map(len, means)), max(map(len, errors))
    cells = [f"{m:>{left}}{e:<{right}}" for m, e in zip(means, errors)]
    return _column(score["name"], f"{score['unit']} {'↑' if score['higher_is_better'] else '↓'}".strip(), cells, ">")


def _beside(columns) -> str:
    """The columns side by side: headers stand on a rule, and the last row, the real images, below another."""
    height = max(len(header) for _, header, _ in columns)
    filled = [[" " * width] * (height - len(header)) + header + cells for width, header, cells in columns]
    lines = ["  ".join(parts).rstrip() for parts in zip(*filled)]
    rule = "─" * (sum(width + 2 for width, _, _ in columns) - 2)
    return "\n".join([*lines[:height], rule, *lines[height:-1], rule, lines[-1]])


# The words.


def _corner(results, corner: str) -> str:
    scores = [score for score in scores_of(results, corner) if ranked(results, score)]
    if not scores:
        return "no system has a score."
    firsts = [leaders(results, score) for score in scores]
    if any(not set(a) & set(b) for a, b in combinations(firsts, 2)):
        claims = [f"{_names(names)} {_is(names)} first by {score['name']}" for names, score in zip(firsts, scores)]
        return f"no clear order: {', '.join(claims)}."
    return _first(results, scores[0], firsts[0])


def _first(results, score, first: Sequence[str]) -> str:
    """Who is first by this score, how far from real images (if they have the score), and who follows."""
    order = ranked(results, score)
    values = [mean(system, score) for system in order]
    shown = [_value(value, score) for value in values]
    best = f"{score['name']} {_names(shown[: len(first)])}{_beside_real(values[0], score)}"
    if len(order) == 1:
        return f"only {first[0]} has a score: {best}."
    stands = "is first" if len(first) == 1 else "are level, within one standard deviation"
    follows = ""
    if len(first) < len(order):
        times = "" if finite(score.get("floor")) is not None else _times(values[len(first)], values[0])
        follows = f" {order[len(first)]['name']} follows with {shown[len(first)]}{times}."
    return f"{_names(first)} {stands}: {best}.{follows}"


def _beside_real(value: float, score) -> str:
    floor = finite(score.get("floor"))
    if floor is None:
        return ""
    real = _value(floor, score)
    if value <= 0 or floor <= 0:
        return f" (real images {real})"
    if score["higher_is_better"]:
        return f", {100 * value / floor:.0f} % of what real images reach ({real})"
    return f", {value / floor:.1f} times that of real images ({real})"


def _times(second: float, first: float) -> str:
    if first <= 0 or second <= 0:
        return ""
    ratio = second / first
    return f", {ratio:.{0 if ratio >= 10 else 1 if ratio >= 1.2 else 2}f} times as much"


def _front(results) -> str:
    """Which systems nothing else matches in every corner, by the first score of each; empty if there is no contest."""
    scores = [scores[0] for corner in CORNERS if (scores := scores_of(results, corner))]
    beaten = beaten_by(results, scores)
    front = [name for name in beaten if not beaten[name]]
    if len(scores) < 2 or len(beaten) < 2:
        return ""
    if len(front) == 1:
        return f"{front[0]} is at least as good as every other system in {'both' if len(scores) == 2 else 'all three'} corners."
    subject = "all systems" if len(front) == len(results["systems"]) else _names(front)
    text = f"{subject} lie on the Pareto front: between them, a gain in one corner costs something in another."
    for name, rivals in beaten.items():
        if rivals:
            text += f" {name} does not: {_names(rivals)} {_is(rivals)} at least as good in every corner."
    return text


def _value(value: float, score) -> str:
    return f"{number(value, score)} {score['unit']}".strip()


def _names(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


# The files.


def _axes(results) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """The pairs of first scores that at least one system has both of: speed lies on the x axis where it takes part."""
    pairs = []
    for x, y in (("speed", "quality"), ("diversity", "quality"), ("speed", "diversity")):
        xs, ys = scores_of(results, x), scores_of(results, y)
        if xs and ys and beaten_by(results, [xs[0], ys[0]]):
            pairs.append((xs[0], ys[0]))
    return pairs


def _plain(value: Any) -> Any:
    """The same results as JSON holds them: lists and dicts of plain values, null for a number that is not finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy's and jax's numbers and arrays
        return _plain(value.tolist())
    return finite(value) if isinstance(value, float) else value


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the picture '{name}' in {folder}: {error.strerror}; sample again") from error


def _keep(drawn: Mapping[str, bytes], folder: Path, name: str) -> Mapping[str, bytes]:
    for theme, png in drawn.items():
        _save(folder / "plots" / f"{name}{'' if theme == 'light' else '-' + theme}.png", png)
    return drawn


def _save(path: Path, data: bytes) -> None:
    """Write beside the old file and then replace it, so that a full disk never leaves half a report."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    partial.replace(path)
