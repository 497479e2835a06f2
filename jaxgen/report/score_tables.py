"""The tables of scores on a report's page: the main scores, and all of them."""

from collections.abc import Sequence

from jaxgen.report.html import EDGE, mark, system_name, table, text
from jaxgen.report.ranking import marked
from jaxgen.report.results import KINDS, Estimate, Results, Score
from jaxgen.report.words import deviation, number

GROUPS = {"quality": "Quality", "speed": "Speed", "diversity": "Diversity", "check": "Checks"}
NOTE = """↑ higher is better, ↓ lower is better. Real images: the same score between disjoint sets
of real images. Small below a value: how many times that of real images it is (×) where lower is
better, or the share of it (%) where higher is better."""


def scores(results: Results) -> str:
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
        f'<span class="unit">{text(f"{score.unit} {score.arrow}".strip())}</span></th>'
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
    times = score.times_real(estimate)
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
