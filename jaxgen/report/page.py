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
from jaxgen.report.ranking import beaten_by, marked
from jaxgen.report.results import KINDS, Estimate, Results, Score, System
from jaxgen.report.words import MISSING, chosen, deviation, number, reading

Read = Callable[[str], bytes]
Draw = Callable[[str, Callable[[Theme], bytes]], Mapping[str, bytes]]

GROUPS = {"quality": "Quality", "speed": "Speed", "diversity": "Diversity", "check": "Checks"}
EDGE = " class=edge"  # the first column of a group
NOTE = """↑ higher is better, ↓ lower is better. Real images: the same score between disjoint sets of
real images. Small below a value: how many times that of real images it is (×) where lower is
better, or the share of it (%) where higher is better."""


def render(results: Results, read: Read, draw: Draw) -> str:
    """The page. read: the bytes of a PNG file by its name. draw: (name, plot of a theme) -> the PNG
    of each theme.
    """
    words, required, grids = reading(results), chosen(results), _grids(results, read)
    sections = [
        _answer(words),
        f"<h2>With these requirements</h2>\n{_answer(required)}" if required else "",
        _scores(results),
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


# The tables of scores.


def _scores(results: Results) -> str:
    """The table of the main scores, real images last, and below it what each score means."""
    shown = results.main()
    first = [i == 0 or s.corner != shown[i - 1].corner for i, s in enumerate(shown)]
    edges = [EDGE * each for each in first]
    groups = "".join(
        f'<th scope="colgroup" colspan="{2 * len(results.main(score.corner))}" '
        f'class="group edge">{GROUPS[score.corner]}</th>'
        for score, edge in zip(shown, first)
        if edge
    )
    heads = "".join(
        f'<th scope="col" colspan="2" title="{_says(score)}"{edge}>{text(score.name)}'
        f'<span class="unit">{text(score.unit) + " " if score.unit else ""}{score.arrow}</span></th>'
        for score, edge in zip(shown, edges)
    )

    def row(title, attributes, name, estimates):
        cells = [_cell(results, *each, name) for each in zip(shown, estimates)]
        columns = "".join(
            f'<td{edge}{seeds}>{value}{ratio}</td><td class="spread">{spread}</td>'
            for edge, (value, spread, ratio, seeds) in zip(edges, cells)
        )
        return f'<tr {attributes}><th scope="row">{title}</th>{columns}</tr>'

    rows = "\n".join(
        row(system_name(system.name), mark(i), system.name, map(system.of, shown))
        for i, system in enumerate(results.systems)
    )
    real = row("real images", "", None, [score.real for score in shown])
    head = [f"<tr><td></td>{groups}</tr>", f'<tr><th scope="col">System</th>{heads}</tr>']
    body = [f"<tbody>\n{rows}\n</tbody>\n", f"<tfoot>{real}</tfoot>"]
    return f"""<h2>Scores</h2>
<p class="note">Mean ± standard deviation over seeds. Bold with a dot: the best of its column, and
what is level with it (within one standard deviation). {NOTE}</p>
{table("scores", "Table of scores", head, body)}
{_legend(shown)}
{_all(results) if len(shown) < len(results.scores) else ""}"""


def _all(results: Results) -> str:
    """Every score in a row, every system in a column, real images last; closed until it is asked
    for.
    """
    heads = "".join(
        f'<th scope="col" {mark(i)}>{system_name(system.name)}</th>'
        for i, system in enumerate(results.systems)
    )
    head = f'<tr><td></td>{heads}<th scope="col" class="real">real images</th></tr>'
    bodies = []
    for corner in KINDS:
        group = (
            f'<tr class="group"><th scope="rowgroup">{GROUPS[corner]}</th>'
            f'<td colspan="{len(results.systems) + 1}"></td></tr>'
        )
        rows = [_score_row(results, s) for s in results.by_corner if s.corner == corner]
        bodies += [f"<tbody>\n{group}\n{''.join(rows)}</tbody>"] if rows else []
    return f"""<details>
<summary>All scores ({len(results.scores)})</summary>
<p class="note">Under each name stands the name that <code>--require</code> and
results.json use. {NOTE}</p>
{table("all", "Table of all scores", [head], bodies)}
{_legend([score for score in results.by_corner if not score.main])}
</details>"""


def _score_row(results: Results, score: Score) -> str:
    columns = [(mark(i), s.name, s.of(score)) for i, s in enumerate(results.systems)]
    cells = ""
    for attributes, name, estimate in [*columns, ('class="real"', None, score.real)]:
        value, spread, ratio, seeds = _cell(results, score, estimate, name)
        cells += f"<td {attributes}{seeds}>{value} <small>{spread}</small>{ratio}</td>"
    unit = f" <small>{text(score.unit)}</small>" if score.unit else ""
    name = (
        f"{text(score.name)}{unit} <small>{score.arrow}</small>"
        f"<code>{text(score.id).replace('_', '_<wbr>')}</code>"
    )
    return f'<tr><th scope="row" title="{_says(score)}">{name}</th>{cells}</tr>\n'


def _cell(results: Results, score: Score, estimate: Estimate, name: str | None) -> tuple[str, ...]:
    """(value, deviation, ratio to real images, attribute that tells the seeds) of a system, or of
    real images where `name` is None.
    """
    value, spread = number(estimate.mean, score), deviation(estimate, score)
    if name is None:
        return value, spread, "", ""
    if name in marked(results, score):
        value = f'<span class="best">{value}</span>'
    seeds = ", ".join(number(each, score) for each in estimate.values)
    title = f' title="by seed: {seeds}"' if len(estimate.values) > 1 else ""
    return value, spread, _ratio(estimate, score), title


def _ratio(estimate: Estimate, score: Score) -> str:
    """A value beside that of real images; nothing where there is none or a sign makes it
    meaningless.
    """
    times = estimate.times_floor
    if times is None or times <= 0:
        return ""
    decimals = ".0f" if times >= 9.95 else ".1f" if times >= 0.05 else ".1g"
    shown = f"{100 * times:.0f} %" if score.higher_is_better else f"× {times:,{decimals}}"
    return f'<span class="ratio">{shown}</span>'


def _says(score: Score) -> str:
    better = "higher is better" if score.higher_is_better else "lower is better"
    return text(f"{score.explain.rstrip('. ')}; {better}.")


def _legend(shown: Sequence[Score]) -> str:
    items = "".join(f"<div><dt>{text(s.name)}</dt><dd>{_says(s)}</dd></div>" for s in shown)
    return f'<dl class="legend">\n{items}\n</dl>'


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
