"""The tables of a report's page: the main scores, all scores, the runs and what they cost, the
protocol.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxgen.evaluation.page_parts import GROUPS, duration, mark, quantity, system_name, text
from jaxgen.evaluation.ranking import (
    KINDS,
    against_floor,
    error,
    finite,
    floor_mean,
    floor_spread,
    main_scores,
    marked,
    mean,
    number,
    scores_of,
    spread,
)


def scores(results: Mapping[str, Any]) -> str:
    """The table of the main scores, real images last, and below it what each score means."""
    shown = main_scores(results, *KINDS)
    first = [i == 0 or score["corner"] != shown[i - 1]["corner"] for i, score in enumerate(shown)]
    groups, heads = [], []
    for score, edge in zip(shown, first):
        if edge:
            span = 2 * sum(other["corner"] == score["corner"] for other in shown)
            groups.append(
                f'<th scope="colgroup" colspan="{span}" class="group '
                f'edge">{GROUPS[score["corner"]]}</th>'
            )
        unit = f"{text(score['unit'])} " if score["unit"] else ""
        cell = (
            f"{text(score['name'])}<span "
            f'class="unit">{unit}{"↑" if score["higher_is_better"] else "↓"}</span>'
        )
        heads.append(
            f'<th scope="col" colspan="2" title="{_says(score)}"{" class=edge" * edge}>{cell}</th>'
        )
    rows = "\n".join(_row(results, i, shown, first) for i in range(len(results["systems"])))
    floor = "".join(
        f"<td{' class=edge' * edge}>{number(floor_mean(score), score)}</td>"
        f'<td class="spread">{error(floor_spread(score), floor_mean(score), score)}</td>'
        for score, edge in zip(shown, first)
    )
    return f"""<h2>Scores</h2>
<p class="note">Mean ± standard deviation over seeds. Bold with a dot: the best of its column, and what is level with it
(within one standard deviation). {_NOTE}</p>
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
{_legend(shown)}
{_all(results) if len(shown) < len(results["scores"]) else ""}"""


_NOTE = """↑ higher is better, ↓ lower is better. Real images: the same score between disjoint sets of real images. Small below
a value: how many times that of real images it is (×) where lower is better, or the share of it (%) where higher is better."""


def _row(
    results: Mapping[str, Any],
    index: int,
    shown: Sequence[Mapping[str, Any]],
    first: Sequence[bool],
) -> str:
    system = results["systems"][index]
    cells = []
    for score, edge in zip(shown, first):
        value = f'<span class="{_best(results, system, score)}">{number(mean(system, score), score)}</span>{_ratio(system, score)}'
        deviation = error(spread(system, score), mean(system, score), score)
        cells.append(
            f"<td{' class=edge' * edge}{_by_seed(system, score)}>{value}</td><td "
            f'class="spread">{deviation}</td>'
        )
    return (
        f'<tr {mark(index)}><th scope="row">{system_name(system["name"])}</th>{"".join(cells)}</tr>'
    )


def _all(results: Mapping[str, Any]) -> str:
    """Every score in a row, every system in a column, real images last; closed until it is asked
    for.
    """
    systems = results["systems"]
    heads = "".join(
        f'<th scope="col" {mark(i)}>{system_name(system["name"])}</th>'
        for i, system in enumerate(systems)
    )
    bodies = []
    for corner in KINDS:
        rows = "".join(_score_row(results, score) for score in scores_of(results, corner))
        if rows:
            group = (
                f'<tr class="group"><th scope="rowgroup">{GROUPS[corner]}</th><td '
                f'colspan="{len(systems) + 1}"></td></tr>'
            )
            bodies.append(f"<tbody>\n{group}\n{rows}</tbody>")
    return f"""<details>
<summary>All scores ({len(results["scores"])})</summary>
<p class="note">Under each name stands the name that <code>--require</code> and
results.json use. {_NOTE}</p>
<div class="scroll" tabindex="0" role="region" aria-label="Table of all scores">
<table class="all">
<thead><tr><td></td>{heads}<th scope="col" class="real">real images</th></tr></thead>
{"".join(bodies)}
</table>
</div>
{_legend([score for score in scores_of(results, *KINDS) if not score.get("main", True)])}
</details>"""


def _score_row(results: Mapping[str, Any], score: Mapping[str, Any]) -> str:
    cells = []
    for i, system in enumerate(results["systems"]):
        value = f'<span class="{_best(results, system, score)}">{number(mean(system, score), score)}</span>'
        deviation = error(spread(system, score), mean(system, score), score)
        cells.append(
            f"<td {mark(i)}{_by_seed(system, score)}>{value} "
            f"<small>{deviation}</small>{_ratio(system, score)}</td>"
        )
    deviation = error(floor_spread(score), floor_mean(score), score)
    cells.append(
        f'<td class="real">{number(floor_mean(score), score)} <small>{deviation}</small></td>'
    )
    unit = f" <small>{text(score['unit'])}</small>" if score["unit"] else ""
    arrow = f"<small>{'↑' if score['higher_is_better'] else '↓'}</small>"
    name = (
        f"{text(score['name'])}{unit} "
        f"{arrow}<code>{text(score['id']).replace('_', '_<wbr>')}</code>"
    )
    return f'<tr><th scope="row" title="{_says(score)}">{name}</th>{"".join(cells)}</tr>\n'


def _best(results, system, score) -> str:
    return "best" if system["name"] in marked(results, score) else ""


def _ratio(system: Mapping[str, Any], score: Mapping[str, Any]) -> str:
    """A value beside that of real images; nothing where there is none or a sign makes it
    meaningless.
    """
    ratio = against_floor(system, score)
    if ratio is None or ratio <= 0:
        return ""
    if score["higher_is_better"]:
        shown = f"{100 * ratio:.0f} %"
    else:
        shown = (
            f"× {ratio:,.0f}"
            if ratio >= 9.95
            else f"× {ratio:.1f}"
            if ratio >= 0.05
            else f"× {ratio:.1g}"
        )
    return f'<span class="ratio">{shown}</span>'


def _by_seed(system: Mapping[str, Any], score: Mapping[str, Any]) -> str:
    values = [
        number(finite(v), score) for v in system["scores"].get(score["id"], {}).get("values") or []
    ]
    return f' title="by seed: {", ".join(values)}"' if len(values) > 1 else ""


def _better(score: Mapping[str, Any]) -> str:
    return "higher is better" if score["higher_is_better"] else "lower is better"


def _says(score: Mapping[str, Any]) -> str:
    return text(f"{score['explain'].rstrip('. ')}; {_better(score)}.")


def _legend(shown: Sequence[Mapping[str, Any]]) -> str:
    items = "".join(
        f"<div><dt>{text(score['name'])}</dt><dd>{_says(score)}</dd></div>" for score in shown
    )
    return f'<dl class="legend">\n{items}\n</dl>'


def runs(results: Mapping[str, Any]) -> str:
    """Each system's size, training and sampling, with what they cost as far as it was measured."""

    def cost(name, show):
        """A column's cells, or None where no system has a value."""
        values = [(system.get("cost") or {}).get(name) for system in results["systems"]]
        return (
            [show(value) for value in values]
            if any(finite(value) is not None for value in values)
            else None
        )

    def training(name, show=text):
        return [show((system.get("training") or {}).get(name)) for system in results["systems"]]

    def own(name):
        return [text(system.get(name)) for system in results["systems"]]

    groups = {
        "Training": {
            "Parameters": own("parameters"),
            "Steps": training("steps"),
            "Images seen": training("images"),
            "Time": training("seconds", duration),
            "Images a second": cost("training_images_per_second", _rate),
            "FLOPs an image": cost("training_flops_per_image", lambda v: quantity(v, "FLOP")),
        },
        "Sampling": {
            "Sampler": own("sampler"),
            "Network calls": own("nfe"),
            "FLOPs an image": cost("sampling_flops_per_image", lambda v: quantity(v, "FLOP")),
            "Compilation": cost("compile_seconds", duration),
            "Memory": cost("sampling_memory_bytes", lambda v: quantity(v, "B")),
            "Fastest batch": cost("best_batch", text),
        },
        "Config": {"": own("config")},
    }
    groups = {
        group: {k: v for k, v in columns.items() if v is not None}
        for group, columns in groups.items()
    }
    columns = [
        (name, cells, i == 0)
        for group in groups.values()
        for i, (name, cells) in enumerate(group.items())
    ]
    top = "".join(
        f'<th scope="colgroup" colspan="{len(columns)}" class="group edge">{group}</th>'
        for group, columns in groups.items()
    )
    head = "".join(
        f'<th scope="col"{" class=edge" * edge}>{name}</th>' for name, _, edge in columns
    )
    rows = []
    for i, system in enumerate(results["systems"]):
        cells = "".join(f"<td{' class=edge' * edge}>{cells[i]}</td>" for _, cells, edge in columns)
        rows.append(f'<tr {mark(i)}><th scope="row">{system_name(system["name"])}</th>{cells}</tr>')
    return f"""<div class="scroll" tabindex="0" role="region" aria-label="Table of training runs">
<table class="runs">
<thead>
<tr><td></td>{top}</tr>
<tr><th scope="col">System</th>{head}</tr>
</thead>
<tbody>
{"".join(rows)}
</tbody>
</table>
</div>"""


def _rate(value: float | None) -> str:
    return text(round(value) if finite(value) is not None and value >= 100 else value)


def protocol(results: Mapping[str, Any]) -> str:
    """How the scores were measured, and on which machine."""

    def cell(value):
        parts = (
            [{name: each} for name, each in value.items()]
            if isinstance(value, Mapping)
            else [value]
        )
        return "<br>".join(map(text, parts))

    def rows(mapping):
        return "".join(
            f'<tr><th scope="row">{text(k)}</th><td>{cell(v)}</td></tr>' for k, v in mapping.items()
        )

    return f"""<h2>Protocol</h2>
<div class="columns">
<div><h3>Measurement</h3><table class="protocol"><tbody>{rows(results["protocol"])}</tbody></table></div>
<div><h3>Machine</h3><table class="protocol"><tbody>{rows(results["machine"])}</tbody></table></div>
</div>"""
