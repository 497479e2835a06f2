"""The report as one HTML page: no script, nothing outside the file, readable on a phone, by day and by night."""

import base64
import html
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from jaxgen.errors import InputError
from jaxgen.evaluation.plots import THEMES, axis_label, chosen_curves
from jaxgen.evaluation.ranking import KINDS, MISSING, finite, marked, mean, number, scores_of, spread

Themed = Mapping[str, bytes]  # one PNG for each theme
GROUPS = {"quality": "Quality", "speed": "Speed", "diversity": "Diversity", "check": "Checks"}

# The policy lets the page load nothing at all from outside itself.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<main>
<header>
<h1>{title}</h1>
<p class="question">{question}</p>
</header>
{sections}
<footer>{footer}</footer>
</main>
</body>
</html>
"""

STYLE = """* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 70rem; margin: 0 auto; padding: 3rem 1.25rem 4rem; }
h1 { font-size: clamp(1.6rem, 1.2rem + 1.8vw, 2.25rem); line-height: 1.2; letter-spacing: -.015em; margin: 0 0 .6rem; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 3.25rem 0 .35rem; }
h3 { font-size: .95rem; font-weight: 600; margin: 1.75rem 0 .5rem; }
p { margin: 0 0 .75rem; max-width: 46rem; }
.question { font-size: 1.1rem; color: var(--quiet); }
.note { color: var(--quiet); font-size: .9rem; }
.answer { margin: 1.5rem 0 0; padding: 1.1rem 1.25rem; background: var(--soft); border-radius: .5rem; }
.answer div { display: grid; grid-template-columns: 6rem 1fr; gap: 0 1rem; padding: .3rem 0; }
.answer dt { font-weight: 600; }
.answer dd { margin: 0; max-width: 50rem; }
.scroll { overflow-x: auto; margin: .75rem 0 0; background:
  linear-gradient(90deg, var(--page) 40%, transparent) 0 0 / 2rem 100% no-repeat local,
  linear-gradient(270deg, var(--page) 40%, transparent) 100% 0 / 2rem 100% no-repeat local,
  linear-gradient(90deg, var(--shade), transparent) 0 0 / .7rem 100% no-repeat scroll,
  linear-gradient(270deg, var(--shade), transparent) 100% 0 / .7rem 100% no-repeat scroll; }
.scroll:focus-visible { outline: 2px solid var(--quiet); outline-offset: 3px; }
table { border-collapse: collapse; font-size: .925rem; font-variant-numeric: tabular-nums; }
th, td { padding: .5rem .9rem .5rem 0; text-align: left; vertical-align: baseline; white-space: nowrap; }
th { font-weight: 600; }
tbody tr { border-top: 1px solid var(--line); }
thead + tbody tr:first-child { border-top: 1.5px solid var(--ink); }
thead th { vertical-align: bottom; line-height: 1.3; }
.unit { display: block; font-weight: 400; font-size: .8rem; color: var(--quiet); }
.scores { width: 100%; }
.scores thead th[title] { cursor: help; white-space: normal; min-width: 6.25rem; }
.scores .group { font-size: .75rem; letter-spacing: .07em; text-transform: uppercase; color: var(--quiet); padding-bottom: 0; }
.scores .edge { border-left: 1px solid var(--line); padding-left: .9rem; }
.scores td { text-align: right; padding-right: 0; }
.scores td.spread { text-align: left; padding: .5rem .9rem .5rem .35rem; color: var(--quiet); font-size: .8rem; }
.scores .best { font-weight: 700; }
.scores .best::before { content: "● "; font-size: .55rem; vertical-align: .12rem; color: var(--c); }
.scores tbody th, .scores tfoot th { position: sticky; left: 0; background: var(--page); padding-right: 1rem; }
.scores tfoot tr { border-top: 1.5px solid var(--ink); color: var(--quiet); }
.scores tfoot th { font-weight: 400; }
.system::before { content: ""; display: inline-block; width: .65rem; height: .65rem; border-radius: 50%;
  background: var(--c); margin-right: .5rem; }
.legend { margin: 1rem 0 0; font-size: .9rem; color: var(--quiet); columns: 26rem 2; column-gap: 2.5rem; }
.legend div { break-inside: avoid; padding: .15rem 0; }
.legend dt { display: inline; font-weight: 600; color: var(--ink); }
.legend dd { display: inline; margin: 0 0 0 .35rem; }
.grids, .plots, .curves { display: grid; gap: 1.5rem 1.25rem; margin-top: 1rem; }
.grids { grid-template-columns: repeat(auto-fill, minmax(min(11.5rem, 44%), 1fr)); gap: 1.25rem 1rem; }
.plots { grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); }
.curves { grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); }
figure { margin: 0; min-width: 0; }
figcaption { font-size: .9rem; font-weight: 600; margin-bottom: .4rem; }
figcaption small { display: block; font-size: .8rem; font-weight: 400; color: var(--quiet); }
img { display: block; width: 100%; height: auto; }
.grids img { image-rendering: pixelated; border-radius: 3px; outline: 1px solid var(--line); }
.protocol th { font-weight: 400; color: var(--quiet); padding-right: 1.5rem; }
.protocol th, .protocol td { white-space: normal; overflow-wrap: anywhere; padding-top: .35rem; padding-bottom: .35rem; }
.protocol tr:first-child { border-top: 0; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: 0 3rem; }
pre { margin: .75rem 0; padding: .9rem 1.1rem; background: var(--soft); border-radius: .5rem; overflow-x: auto;
  font: .875rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--quiet); font-size: .85rem; }
@media (max-width: 40rem) {
  main { padding: 1.75rem 1rem 3rem; }
  h2 { margin-top: 2.5rem; }
  .answer { padding: .9rem 1rem; }
  .answer div { grid-template-columns: 1fr; padding: .4rem 0; }
}
@media print { .scroll { overflow: visible; background: none; } }"""


def render(results: Mapping[str, Any], reading: Sequence[str], pictures: Mapping[str, Any]) -> str:
    """The page. `pictures` holds "systems" {name: PNG}, "real" (PNG or None), "trade-offs" [(x, y, Themed)] with the two
    scores of a plot, and "curves" {name: Themed}."""
    sections = [_answer(reading), _scores(results), _grids(results, pictures), _trade_offs(results, pictures["trade-offs"])]
    sections += [_training(results, pictures["curves"]), _protocol(results), _reproduce(results)]
    return PAGE.format(
        title=_text(results["title"]),
        question=_text(results["question"]),
        style=_colours() + STYLE,
        sections="\n".join(part for part in sections if part),
        footer=_text(f"Made {results['created']} by jaxgen. Every number on this page is in results.json beside it."),
    )


def _text(value: Any) -> str:
    """Any value as escaped text: lists by commas, mappings as name and value, a missing number as a dash."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_text(k)} {_text(v)}" for k, v in value.items()) or MISSING
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value)) or MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == "" or isinstance(value, float) and finite(value) is None:
        return MISSING
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:,}" if isinstance(value, int) and value >= 10000 else f"{value:g}"
    return html.escape(str(value))


def _colours() -> str:
    """The themes as CSS variables; `--s<i>` is the colour of system i."""

    def block(theme):
        dark = theme is THEMES["dark"]
        names = {"page": theme.page, "ink": theme.ink, "quiet": theme.quiet, "line": theme.line}
        names |= {"soft": "#1d2127" if dark else "#f4f6f8", "shade": "#00000080" if dark else "#1b1f2426"}
        names |= {f"s{i}": colour for i, colour in enumerate(theme.systems)}
        return ":root { " + " ".join(f"--{name}: {colour};" for name, colour in names.items()) + " }"

    light, dark = block(THEMES["light"]), block(THEMES["dark"])
    return f":root {{ color-scheme: light dark; }}\n{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n"


def _colour(index: int) -> str:
    return f'style="--c: var(--s{index % len(THEMES["light"].systems)})"'


def _image(png: bytes, alt: str, dark: bytes | None = None) -> str:
    """An image inside the page, with its size, so that the text does not jump while the page loads."""
    if png[:8] != b"\x89PNG\r\n\x1a\n":
        raise InputError(f"the picture of {alt} is not a PNG file")
    width, height = struct.unpack(">II", png[16:24])
    data = "data:image/png;base64," + base64.b64encode(png).decode()
    image = f'<img src="{data}" alt="{html.escape(alt)}" width="{width}" height="{height}">'
    if dark is None:
        return image
    night = "data:image/png;base64," + base64.b64encode(dark).decode()
    return f'<picture><source media="(prefers-color-scheme: dark)" srcset="{night}">{image}</picture>'


def _answer(reading: Sequence[str]) -> str:
    rows = [line.partition(": ") for line in reading]
    items = "\n".join(f"<div><dt>{_text(label)}</dt><dd>{_text(says)}</dd></div>" for label, _, says in rows)
    return f'<dl class="answer">\n{items}\n</dl>' if rows else ""


def _scores(results: Mapping[str, Any]) -> str:
    """The table of all scores, real images last, and below it what each score means."""
    scores = scores_of(results, *KINDS)
    first = [i == 0 or score["corner"] != scores[i - 1]["corner"] for i, score in enumerate(scores)]
    groups, heads, legend = [], [], []
    for score, edge in zip(scores, first):
        better = "higher is better" if score["higher_is_better"] else "lower is better"
        says = f"{score['explain'].rstrip('. ')}; {better}."
        if edge:
            span = 2 * sum(other["corner"] == score["corner"] for other in scores)
            groups.append(f'<th scope="colgroup" colspan="{span}" class="group edge">{GROUPS[score["corner"]]}</th>')
        unit = f"{_text(score['unit'])}, {better}" if score["unit"] else better
        cell = f'{_text(score["name"])}<span class="unit">{unit}</span>'
        heads.append(f'<th scope="col" colspan="2" title="{_text(says)}"{" class=edge" * edge}>{cell}</th>')
        legend.append(f"<div><dt>{_text(score['name'])}</dt><dd>{_text(says)}</dd></div>")
    rows = "\n".join(_row(results, i, scores, first) for i in range(len(results["systems"])))
    floor = "".join(
        f'<td{" class=edge" * edge}>{number(finite(score.get("floor")), score)}</td><td class="spread"></td>'
        for score, edge in zip(scores, first)
    )
    return f"""<h2>Scores</h2>
<p class="note">Mean ± standard deviation over seeds. Bold with a dot: the best of its column, and what is level with it
(within one standard deviation). Real images: the same score between two disjoint sets of real images.</p>
<div class="scroll" tabindex="0" role="region" aria-label="Table of scores">
<table class="scores">
<thead>
<tr><td></td>{"".join(groups)}</tr>
<tr><th scope="col">System</th>{"".join(heads)}</tr>
</thead>
<tbody>
{rows}
</tbody>
<tfoot><tr><th scope="row">real images</th>{floor}</tr></tfoot>
</table>
</div>
<dl class="legend">
{"".join(legend)}
</dl>"""


def _row(results: Mapping[str, Any], index: int, scores: Sequence[Mapping[str, Any]], first: Sequence[bool]) -> str:
    system = results["systems"][index]
    cells = []
    for score, edge in zip(scores, first):
        best = "best" if system["name"] in marked(results, score) else ""
        values = [number(finite(v), score) for v in system["scores"].get(score["id"], {}).get("values") or []]
        tip = f' title="by seed: {", ".join(values)}"' if len(values) > 1 else ""
        shown = f'<span class="{best}">{number(mean(system, score), score)}</span>'
        error = f"±{number(spread(system, score), score)}" if spread(system, score) else ""
        cells.append(f'<td{" class=edge" * edge}{tip}>{shown}</td><td class="spread">{error}</td>')
    name = f'<th scope="row"><span class="system">{_text(system["name"])}</span></th>'
    return f"<tr {_colour(index)}>{name}{''.join(cells)}</tr>"


def _grids(results: Mapping[str, Any], pictures: Mapping[str, Any]) -> str:
    figures = []
    for i, system in enumerate(results["systems"]):
        if (png := pictures["systems"].get(system["name"])) is not None:
            calls = f"{_text(system.get('nfe'))} network call{'s' * (system.get('nfe') != 1)} per image"
            caption = f'<span class="system">{_text(system["name"])}</span> <small>{calls}</small>'
            image = _image(png, f"samples of {system['name']}")
            figures.append(f"<figure {_colour(i)}><figcaption>{caption}</figcaption>{image}</figure>")
    if pictures["real"] is not None:
        image = _image(pictures["real"], "real images")
        figures.append(f"<figure><figcaption>Real images <small>for comparison</small></figcaption>{image}</figure>")
    if not figures:
        return ""
    note = "The first samples of each system, as they came; none were picked."
    return f'<h2>Samples</h2>\n<p class="note">{note}</p>\n<div class="grids">\n' + "\n".join(figures) + "\n</div>"


def _trade_offs(results: Mapping[str, Any], plots: Sequence[tuple[Mapping, Mapping, Themed]]) -> str:
    figures = []
    for x, y, themed in plots:
        title = f"{GROUPS[x['corner']]} and {GROUPS[y['corner']].lower()}"
        absent = [s["name"] for s in results["systems"] if mean(s, x) is None or mean(s, y) is None]
        lacking = f" <small>not shown, for want of a score: {_text(absent)}</small>" if absent else ""
        points = "; ".join(
            f"{s['name']} {number(mean(s, x), x)}, {number(mean(s, y), y)}" for s in results["systems"]
        )
        image = _image(themed["light"], f"{axis_label(y)} against {axis_label(x)}: {points}", themed["dark"])
        figures.append(f"<figure><figcaption>{title}{lacking}</figcaption>{image}</figure>")
    if not figures:
        return ""
    return f"""<h2>Trade-offs</h2>
<p class="note">The first score of each corner against that of another. Filled: no other system is at least as good in both.
Hollow: some other is. Bars: one standard deviation. Dashed: real images.</p>
<div class="plots">
{"".join(figures)}
</div>"""


def _training(results: Mapping[str, Any], curves: Mapping[str, Themed]) -> str:
    figures = []
    for i, system in enumerate(results["systems"]):
        if system["name"] not in curves:
            continue
        themed, hidden = curves[system["name"]], len(system["curves"]) - len(chosen_curves(system["curves"]))
        more = f" <small>{hidden} more in results.json</small>" if hidden else ""
        image = _image(themed["light"], f"training curves of {system['name']}", themed["dark"])
        caption = f'<span class="system">{_text(system["name"])}</span>{more}'
        figures.append(f"<figure {_colour(i)}><figcaption>{caption}</figcaption>{image}</figure>")
    panels = f'<div class="curves">\n{"".join(figures)}\n</div>\n' if figures else ""
    heads = ["System", "Parameters", "Steps", "Images seen", "Time", "Sampler", "Network calls", "Config"]
    rows = []
    for i, system in enumerate(results["systems"]):
        training = system.get("training") or {}
        cells = [_text(system.get("parameters")), _text(training.get("steps")), _text(training.get("images"))]
        cells += [_duration(training.get("seconds")), _text(system.get("sampler")), _text(system.get("nfe"))]
        name = f'<th scope="row"><span class="system">{_text(system["name"])}</span></th>'
        cells = "".join(f"<td>{cell}</td>" for cell in [*cells, _text(system.get("config"))])
        rows.append(f"<tr {_colour(i)}>{name}{cells}</tr>")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return f"""<h2>Training</h2>
{panels}<div class="scroll" tabindex="0" role="region" aria-label="Table of training runs">
<table class="runs">
<thead><tr>{head}</tr></thead>
<tbody>
{"".join(rows)}
</tbody>
</table>
</div>"""


def _duration(seconds: float | None) -> str:
    if finite(seconds) is None:
        return MISSING
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.3g} s"


def _protocol(results: Mapping[str, Any]) -> str:
    def rows(mapping):
        return "".join(f'<tr><th scope="row">{_text(k)}</th><td>{_text(v)}</td></tr>' for k, v in mapping.items())

    return f"""<h2>Protocol</h2>
<div class="columns">
<div><h3>Measurement</h3><table class="protocol"><tbody>{rows(results["protocol"])}</tbody></table></div>
<div><h3>Machine</h3><table class="protocol"><tbody>{rows(results["machine"])}</tbody></table></div>
</div>"""


def _reproduce(results: Mapping[str, Any]) -> str:
    return f"""<h2>Reproduce</h2>
<p class="note">At commit {_text(results["commit"])}, in the root of the repository:</p>
<pre><code>{_text(results["command"])}</code></pre>"""
