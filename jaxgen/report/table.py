"""A comparison as a table for the terminal, also for one that cannot print every character."""

import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from jaxgen.report.ranking import marked
from jaxgen.report.results import Results, Score, estimates, score_values
from jaxgen.report.words import deviation, number

WIDTH = 100  # characters of a terminal that a table may fill
PLAIN = dict(zip("±∞×–─↑↓→β", ("+-", "inf", "x", "-", "-", "^", "v", "->", "beta")))


def printable(text: str, encoding: str | None) -> str:
    """`text` for a terminal of this encoding: what it cannot print is spelt out ("+-", "inf"),
    loses its accent, or becomes "?"."""

    def possible(character):
        try:
            character.encode(encoding or "ascii")
        except UnicodeEncodeError:
            parts = unicodedata.normalize("NFKD", character).replace("⁄", "/")  # as in ½
            bare = parts.encode("ascii", "ignore").decode()
            return PLAIN.get(character, bare or "?")
        except LookupError:  # an encoding that Python does not know
            return printable(character, "ascii")
        return character

    return "".join(map(possible, text))


def table(results: Results, encoding: str | None = "utf-8") -> str:
    """The main scores as text: systems in rows, real images last, `*` at the best of a column and
    what is level with it. Columns that do not fit into 100 characters go into a second table below.

    encoding: of the terminal, as for `printable`."""
    first = [system.name for system in results.systems] + ["real images"]
    systems = _column("", "", [printable(name, encoding) for name in first], "<")
    blocks: list[list[_Column]] = []
    for score in results.main():
        column = _score_column(results, score, encoding)
        if not blocks or sum(c.width + 2 for c in blocks[-1]) + column.width > WIDTH:
            blocks.append([systems])
        blocks[-1].append(column)
    legend = (
        "↑ higher is better, ↓ lower is better; * the best, and what is within one standard "
        "deviation of it"
    )
    texts = [_beside(block, printable("─", encoding)) for block in blocks]
    return "\n\n".join([*texts, printable(legend, encoding)]) + "\n"


def record_table(
    found: Mapping[str, Any], described: Sequence[Mapping[str, Any]], encoding: str | None = "utf-8"
) -> str:
    """The record of one evaluation as text: for each score its mean, its standard deviation, and
    that of real images with the multiple of it. described: by `evaluation.scores.describe`."""
    ours, floors = estimates(found["scores"]), estimates(found["floors"])
    rows: list[tuple[str, ...]] = [("", "score", "", "real images")]
    for score in score_values(described):
        if score.id in ours:
            value, score = ours[score.id], replace(score, floor=floors.get(score.id))
            times = score.times_real(value)
            spread = f"± {number(value.std, score)} " if value.std else ""
            beside = number(score.real.mean, score) if score.floor else ""
            beside += "" if times is None else f" (x {times:.2f})"
            rows.append((score.name, number(value.mean, score), f"{spread}{score.unit}", beside))
    rows = [tuple(printable(cell, encoding) for cell in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows)]
    sides = "<><<"
    lines = [[f"{c:{s}{w}}" for c, s, w in zip(row, sides, widths)] for row in rows]
    return "".join(f"{n}  {v} {s}  {b}".rstrip() + "\n" for n, v, s, b in lines)


class _Column(NamedTuple):
    width: int
    header: list[str]
    cells: list[str]


def _column(name: str, below: str, cells: Sequence[str], side: str) -> _Column:
    width = max(map(len, [*name.split(), below, *cells]))
    header = [*textwrap.wrap(name, width), below]
    return _Column(
        width, [f"{x:{side}{width}}" for x in header], [f"{x:{side}{width}}" for x in cells]
    )


def _score_column(results: Results, score: Score, encoding: str | None) -> _Column:
    best = marked(results, score)
    estimates = [*(system.of(score) for system in results.systems), score.real]
    means = [number(estimate.mean, score) for estimate in estimates]
    means = ["*" * (s.name in best) + m for s, m in zip(results.systems, means)] + means[-1:]
    means = [printable(mean, encoding) for mean in means]
    errors = [printable(deviation(estimate, score), encoding) for estimate in estimates]
    errors = [f" {error}" if error else "" for error in errors]
    left, right = max(map(len, means)), max(map(len, errors))
    cells = [f"{mean:>{left}}{error:<{right}}" for mean, error in zip(means, errors)]
    name, below = score.name, f"{score.unit} {score.arrow}".strip()
    return _column(printable(name, encoding), printable(below, encoding), cells, ">")


def _beside(columns: Sequence[_Column], rule: str) -> str:
    """The columns side by side: headers stand on a rule, and the last row, the real images, below
    another.
    """
    height = max(len(column.header) for column in columns)
    filled = [[" " * c.width] * (height - len(c.header)) + c.header + c.cells for c in columns]
    lines = ["  ".join(parts).rstrip() for parts in zip(*filled)]
    rule *= sum(column.width + 2 for column in columns) - 2
    return "\n".join([*lines[:height], rule, *lines[height:-1], rule, lines[-1]])
