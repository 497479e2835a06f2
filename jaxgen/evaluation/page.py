"""The report as one HTML page: no script, nothing outside the file, readable on a phone, by day and
by night.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxgen.evaluation import page_tables
from jaxgen.evaluation.page_parts import GROUPS, STYLE, colours, image, mark, system_name, text
from jaxgen.evaluation.plots import axis_label, chosen_curves
from jaxgen.evaluation.ranking import finite, mean, number

Themed = Mapping[str, bytes]  # one PNG for each theme

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


def render(
    results: Mapping[str, Any],
    reading: Sequence[str],
    chosen: Sequence[str],
    pictures: Mapping[str, Any],
) -> str:
    """The page. `reading` and `chosen` are lines "<label>: <words>". `pictures` holds "systems"
    {name: PNG}, "real" (PNG or None), "trade-offs" [(x, y, Themed)] with the two scores of a plot,
    "along" [(score, Themed)], and "curves" [(numbers of the systems that have them, Themed)]."""
    sections = [
        _answer(reading),
        _requirements(chosen),
        page_tables.scores(results),
        _along(results, pictures["along"]),
    ]
    sections += [_grids(results, pictures), _trade_offs(results, pictures["trade-offs"])]
    sections += [
        _training(results, pictures["curves"]),
        page_tables.protocol(results),
        _reproduce(results),
    ]
    return PAGE.format(
        title=text(results["title"]),
        question=text(results["question"]),
        style=colours() + STYLE,
        sections="\n".join(part for part in sections if part),
        footer=text(
            f"Made {results['created']} by jaxgen. Every number on this page is in results.json "
            f"beside it."
        ),
    )


def _answer(lines: Sequence[str]) -> str:
    """Lines "<label>: <words>"; lines with the same label stand together below it."""
    rows: dict[str, list[str]] = {}
    for line in lines:
        label, _, says = line.partition(": ")
        rows.setdefault(label, []).append(says)
    items = "\n".join(
        f"<div><dt>{text(label)}</dt>{''.join(f'<dd>{_joined(text(each))}</dd>' for each in says)}</div>"
        for label, says in rows.items()
    )
    return f'<dl class="answer">\n{items}\n</dl>' if rows else ""


def _joined(words: str) -> str:
    """No line break between a number and its unit."""
    return re.sub(r"(?<=\d) (?=(%|ms|nats|dB)(\W|$))", "\N{NO-BREAK SPACE}", words)


def _requirements(lines: Sequence[str]) -> str:
    return f"<h2>With these requirements</h2>\n{_answer(lines)}" if lines else ""


def _grids(results: Mapping[str, Any], pictures: Mapping[str, Any]) -> str:
    figures = []
    for i, system in enumerate(results["systems"]):
        if (png := pictures["systems"].get(system["name"])) is not None:
            calls = (
                f"{text(system.get('nfe'))} network call{'s' * (system.get('nfe') != 1)} per image"
            )
            caption = f"{system_name(system['name'])} <small>{calls}</small>"
            picture = image(png, f"samples of {system['name']}")
            figures.append(
                f"<figure {mark(i)}><figcaption>{caption}</figcaption>{picture}</figure>"
            )
    if pictures["real"] is not None:
        picture = image(pictures["real"], "real images")
        figures.append(
            f"<figure><figcaption>Real images <small>for "
            f"comparison</small></figcaption>{picture}</figure>"
        )
    if not figures:
        return ""
    note = "The first samples of each system, as they came; none were picked."
    return (
        f'<h2>Samples</h2>\n<p class="note">{note}</p>\n<div class="grids">\n'
        + "\n".join(figures)
        + "\n</div>"
    )


def _trade_offs(
    results: Mapping[str, Any], plots: Sequence[tuple[Mapping, Mapping, Themed]]
) -> str:
    figures = []
    for x, y, themed in plots:
        title = f"{GROUPS[x['corner']]} and {GROUPS[y['corner']].lower()}"
        absent = [s["name"] for s in results["systems"] if mean(s, x) is None or mean(s, y) is None]
        lacking = (
            f" <small>not shown, for want of a score: {text(absent)}</small>" if absent else ""
        )
        points = "; ".join(
            f"{s['name']} {number(mean(s, x), x)}, {number(mean(s, y), y)}"
            for s in results["systems"]
        )
        picture = image(
            themed["light"], f"{axis_label(y)} against {axis_label(x)}: {points}", themed["dark"]
        )
        figures.append(f"<figure><figcaption>{title}{lacking}</figcaption>{picture}</figure>")
    if not figures:
        return ""
    return f"""<h2>Trade-offs</h2>
<p class="note">The first score of each corner against that of another. Filled: no other system is at least as good in both.
Hollow: some other is. Line: the front. Bars: one standard deviation. Dashed: real images.</p>
<div class="plots">
{"".join(figures)}
</div>"""


def _along(results: Mapping[str, Any], plots: Sequence[tuple[Mapping, Themed]]) -> str:
    if not plots:
        return ""
    axis, figures = results["axis"], []
    for score, themed in plots:
        points = "; ".join(
            f"{value:g}: {number(mean(system, score), score)}"
            for value, system in zip(axis["values"], results["systems"])
            if finite(value) is not None
        )
        picture = image(
            themed["light"], f"{axis_label(score)} against {axis['name']}: {points}", themed["dark"]
        )
        figures.append(
            f"<figure><figcaption>{text(axis_label(score))}</figcaption>{picture}</figure>"
        )
    return f"""<h2>Along {text(axis["name"])}</h2>
<p class="note">Each main score against {text(axis["name"])}. Bars: one standard deviation. Dashed: real images.</p>
<div class="plots">
{"".join(figures)}
</div>"""


def _training(results: Mapping[str, Any], curves: Sequence[tuple[Sequence[int], Themed]]) -> str:
    figures = []
    for group, themed in curves:
        systems = [results["systems"][i] for i in group]
        hidden = len(systems[0]["curves"]) - len(chosen_curves(systems[0]["curves"]))
        more = f" <small>{hidden} more in results.json</small>" if hidden else ""
        named = ", ".join(system["name"] for system in systems)
        picture = image(themed["light"], f"training curves of {named}", themed["dark"])
        caption = " ".join(
            f"<span {mark(i)}>{system_name(s['name'])}</span>" for i, s in zip(group, systems)
        )
        figures.append(f"<figure><figcaption>{caption}{more}</figcaption>{picture}</figure>")
    panels = f'<div class="curves">\n{"".join(figures)}\n</div>\n' if figures else ""
    return f"<h2>Training and cost</h2>\n{panels}{page_tables.runs(results)}"


def _reproduce(results: Mapping[str, Any]) -> str:
    return f"""<h2>Reproduce</h2>
<p class="note">At commit {text(results["commit"])}, in the root of the repository:</p>
<pre><code>{text(results["command"])}</code></pre>"""
