"""The report as one HTML page: no script, nothing outside the file, readable on a phone, by day and
by night.
"""

import re
import string
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import resources
from typing import Any

from jaxgen.report import plots
from jaxgen.report.html import (
    EDGE,
    PIXELS,
    colours,
    duration,
    figure,
    flops,
    image,
    mark,
    memory,
    size,
    system_name,
    table,
    text,
)
from jaxgen.report.plots import Theme
from jaxgen.report.ranking import beaten_by
from jaxgen.report.results import Results, System
from jaxgen.report.score_tables import GROUPS, scores
from jaxgen.report.words import MISSING, chosen, number, reading

Read = Callable[[str], bytes]
Draw = Callable[[str, Callable[[Theme], bytes]], Mapping[str, bytes]]


def render(results: Results, read: Read, draw: Draw) -> str:
    """The page. read: the bytes of a PNG file by its name. draw: (name, plot of a theme) -> the PNG
    of each theme.
    """
    words, required, grids = reading(results), chosen(results), _grids(results, read)
    sections = [
        _answer(words),
        f"<h2>With these requirements</h2>\n{_answer(required)}" if required else "",
        scores(results),
        _along(results, draw),
        grids,
        _trade_offs(results, draw),
        _training(results, draw),
        _protocol(results),
        _reproduce(results),
    ]
    files = resources.files("jaxgen.report")
    made = f"Made {results.created} by jaxgen. Every number on this page is in results.json"
    return string.Template((files / "page.html").read_text("utf-8")).substitute(
        title=text(results.title),
        question=text(results.question),
        style=colours() + (files / "style.css").read_text("utf-8"),
        sections="\n".join(section for section in sections if section),
        footer=text(f"{made} beside it."),
    )


def _answer(lines: Sequence[str]) -> str:
    """Lines "<label>: <words>"; lines with the same label stand together below it."""
    rows: dict[str, list[str]] = {}
    for line in lines:
        label, _, says = line.partition(": ")
        rows.setdefault(label, []).append(f"<dd>{_joined(text(says))}</dd>")
    items = "\n".join(f"<div><dt>{text(n)}</dt>{''.join(says)}</div>" for n, says in rows.items())
    return f'<dl class="answer">\n{items}\n</dl>' if rows else ""


def _joined(words: str) -> str:
    """No line break between a number and its unit."""
    return re.sub(r"(?<=\d) (?=(%|ms|nats|dB)(\W|$))", "\N{NO-BREAK SPACE}", words)


# The pictures.


def _grids(results: Results, read: Read) -> str:
    shown = []
    for i, system in enumerate(results.systems):
        if system.grid:
            calls = f"{text(system.nfe)} network call{'s' * (system.nfe != 1)} per image"
            caption = f"{system_name(system.name)} <small>{calls}</small>"
            shown.append((read(system.grid), f"samples of {system.name}", caption, mark(i)))
    if results.reference_grid:
        caption = "Real images <small>for comparison</small>"
        shown.append((read(results.reference_grid), "real images", caption, ""))
    if not shown:
        return ""
    large = any(max(size(png, alt)) > PIXELS for png, alt, _, _ in shown)
    figures = [figure(says, image(png, alt), marker) for png, alt, says, marker in shown]
    note = "The first samples of each system, as they came; none were picked."
    return _section("Samples", note, f"grids{' large' * large}", figures)


def _section(title: str, note: str, kind: str, figures: Sequence[str]) -> str:
    pictures = "\n".join(figures)
    return f"""<h2>{title}</h2>
<p class="note">{note}</p>
<div class="{kind}">
{pictures}
</div>"""


def _along(results: Results, draw: Draw) -> str:
    """The main scores that at least two systems on the axis have; empty without an axis."""
    if (axis := results.axis) is None:
        return ""
    placed = [(value, s) for value, s in zip(axis.values, results.systems) if value is not None]
    figures = []
    for score in results.main():
        if sum(system.of(score).mean is not None for _, system in placed) > 1:
            themed = draw(f"along-{score.id}", partial(plots.along, results, score))
            points = "; ".join(f"{v:g}: {number(s.of(score).mean, score)}" for v, s in placed)
            alt = f"{score.title} against {axis.name}: {points}"
            figures.append(figure(text(score.title), image(themed["light"], alt, themed["dark"])))
    bars = "Bars: one standard deviation. Dashed: real images."
    note = f"Each main score against {text(axis.name)}. {bars}"
    return _section(f"Along {text(axis.name)}", note, "plots", figures) if figures else ""


PAIRS = (("speed", "quality"), ("diversity", "quality"), ("speed", "diversity"))  # x and y


def _trade_offs(results: Results, draw: Draw) -> str:
    """The pairs of first scores that at least one system has both of."""
    leading = {score.corner: score for score in results.leading}
    figures = []
    for x, y in [(leading[x], leading[y]) for x, y in PAIRS if {x, y} <= set(leading)]:
        shown = beaten_by(results, [x, y])
        if not shown:
            continue
        themed = draw(f"{x.corner}-{y.corner}", partial(plots.trade_off, results, x, y))
        absent = [system.name for system in results.systems if system.name not in shown]
        lacking = (
            f" <small>not shown, for want of a score: {text(absent)}</small>" if absent else ""
        )
        points = "; ".join(
            f"{s.name} {number(s.of(x).mean, x)}, {number(s.of(y).mean, y)}"
            for s in results.systems
        )
        picture = image(themed["light"], f"{y.title} against {x.title}: {points}", themed["dark"])
        title = f"{GROUPS[x.corner]} and {GROUPS[y.corner].lower()}{lacking}"
        figures.append(figure(title, picture))
    note = """The first score of each corner against that of another. Filled: no other system is at
least as good in both. Hollow: some other is. Line: the front. Bars: one standard deviation. Dashed:
real images."""
    return _section("Trade-offs", note, "plots", figures) if figures else ""


# The runs, and how it was measured.


def _training(results: Results, draw: Draw) -> str:
    """The curves of each training run, which several systems may share, and what the runs cost."""
    groups: list[list[int]] = []
    for i, system in enumerate(results.systems):
        same = [g for g in groups if results.systems[g[0]].curves == system.curves]
        if same:
            same[0].append(i)
        elif plots.chosen_curves(system.curves):
            groups.append([i])
    figures = ""
    for group in groups:
        systems = [results.systems[i] for i in group]
        curves = systems[0].curves
        themed = draw(f"training-{group[0]}", partial(plots.training, curves))
        hidden = len(curves) - len(plots.chosen_curves(curves))
        more = f" <small>{hidden} more in results.json</small>" if hidden else ""
        named = [f"<span {mark(i)}>{system_name(s.name)}</span>" for i, s in zip(group, systems)]
        alt = f"training curves of {', '.join(system.name for system in systems)}"
        picture = image(themed["light"], alt, themed["dark"])
        figures += figure(f"{' '.join(named)}{more}", picture)
    panels = f'<div class="curves">\n{figures}\n</div>\n' if figures else ""
    return f"<h2>Training and cost</h2>\n{panels}{_runs(results)}"


def _rate(value: float) -> str:
    return text(round(value) if value >= 100 else value)


# The columns of the table of runs: group, name, what it shows of a system, how.
RUNS: tuple[tuple[str, str, Callable[[System], Any], Callable[[Any], str]], ...] = (
    ("Training", "Parameters", lambda s: s.parameters, text),
    ("Training", "Steps", lambda s: s.training.get("steps"), text),
    ("Training", "Images seen", lambda s: s.training.get("images"), text),
    ("Training", "Time", lambda s: s.training.get("seconds"), duration),
    ("Training", "Images a second", lambda s: s.cost.get("training_images_per_second"), _rate),
    ("Training", "FLOPs an image", lambda s: s.cost.get("training_flops_per_image"), flops),
    ("Sampling", "Sampler", lambda s: s.sampler, text),
    ("Sampling", "Network calls", lambda s: s.nfe, text),
    ("Sampling", "FLOPs an image", lambda s: s.cost.get("sampling_flops_per_image"), flops),
    ("Sampling", "Compilation", lambda s: s.cost.get("compile_seconds"), duration),
    ("Sampling", "Memory", lambda s: s.cost.get("sampling_memory_bytes"), memory),
    ("Sampling", "Fastest batch", lambda s: s.cost.get("best_batch"), text),
    ("Config", "", lambda s: s.config, text),
)


def _runs(results: Results) -> str:
    """Each system's size, training and sampling, and what they cost; without the columns that no
    system has a value for.
    """
    columns = [
        (group, name, [None if (v := of(s)) is None else show(v) for s in results.systems])
        for group, name, of, show in RUNS
    ]
    columns = [column for column in columns if any(cell is not None for cell in column[2])]
    groups = [group for group, _, _ in columns]
    top = "".join(
        f'<th scope="colgroup" colspan="{groups.count(group)}" class="group edge">{group}</th>'
        for group in dict.fromkeys(groups)
    )
    edges = [EDGE * (groups.index(group) == i) for i, group in enumerate(groups)]
    head = "".join(
        f'<th scope="col"{edge}>{name}</th>' for edge, (_, name, _) in zip(edges, columns)
    )
    rows = [
        f'<tr {mark(i)}><th scope="row">{system_name(system.name)}</th>'
        + "".join(
            f"<td{edge}>{cells[i] or MISSING}</td>" for edge, (_, _, cells) in zip(edges, columns)
        )
        + "</tr>"
        for i, system in enumerate(results.systems)
    ]
    heads = [f"<tr><td></td>{top}</tr>", f'<tr><th scope="col">System</th>{head}</tr>']
    return table("runs", "Table of training runs", heads, [f"<tbody>\n{''.join(rows)}\n</tbody>"])


def _protocol(results: Results) -> str:
    """How the scores were measured, and on which machine."""

    def cell(value):
        parts = [{n: x} for n, x in value.items()] if isinstance(value, Mapping) else [value]
        return "<br>".join(map(text, parts))

    def rows(mapping):
        return "".join(
            f'<tr><th scope="row">{text(k)}</th><td>{cell(v)}</td></tr>' for k, v in mapping.items()
        )

    parts = {"Measurement": results.protocol, "Machine": results.machine}
    columns = "\n".join(
        f'<div><h3>{name}</h3><table class="protocol"><tbody>{rows(part)}</tbody></table></div>'
        for name, part in parts.items()
    )
    return f'<h2>Protocol</h2>\n<div class="columns">\n{columns}\n</div>'


def _reproduce(results: Results) -> str:
    return f"""<h2>Reproduce</h2>
<p class="note">At commit {text(results.commit)}, in the root of the repository:</p>
<pre><code>{text(results.command)}</code></pre>"""
