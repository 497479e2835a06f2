"""The pictures of a report: systems between two corners, scores along an axis, and training curves,
as PNG for light and dark pages. Shares are drawn in per cent.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgen.report.labels import Point, label_points
from jaxgen.report.ranking import beaten_by
from jaxgen.report.results import Estimate, Results, Score, System


class Theme(NamedTuple):
    """The colours of a page: background, text, quieter text, hairlines, boxes, shadows, one a
    system, one a curve.
    """

    page: str
    ink: str
    quiet: str
    line: str
    soft: str
    shade: str
    systems: tuple[str, ...]
    curves: tuple[str, ...]


THEMES = {
    "light": Theme(
        page="#ffffff",
        ink="#1b1f24",
        quiet="#5b6470",
        line="#dfe3e8",
        soft="#f4f6f8",
        shade="#1b1f2426",
        systems=("#1d63b3", "#c2540a", "#1f7a4d", "#8440a8", "#b3264a", "#0f7c86", "#7a6400"),
        curves=("#1b1f24", "#2f7fd1", "#d1782f", "#8c959f"),
    ),
    "dark": Theme(
        page="#14171b",
        ink="#e8eaed",
        quiet="#a3abb5",
        line="#323840",
        soft="#1d2127",
        shade="#00000080",
        systems=("#7fb5f5", "#f5a36a", "#77cf9f", "#cfa0ee", "#f58ca4", "#6fd0d8", "#d8c25a"),
        curves=("#e8eaed", "#5fa8f0", "#f0a05a", "#7d8792"),
    ),
}
MARKERS = "osD^vPX"
SMALL = 9.5  # points: about 12 pixels on a page whose plots are 360 pixels wide
DASHED = (0, (4, 3))
CURVES = 4  # more than this cannot be told apart in a small panel


def style(index: int) -> tuple[int, int]:
    """(number of the colour, number of the marker) of system `index`: no two of 49 systems have
    both in common.
    """
    count = len(MARKERS)
    return index % count, (index + index // count) % count


def shown(system: System, score: Score) -> Estimate:
    """A system's estimate as it is drawn: a share in per cent."""
    return system.of(score).scaled(score.scale)


def trade_off(results: Results, x: Score, y: Score, theme: Theme) -> bytes:
    """Systems as points between the scores `x` and `y`, PNG: filled markers lie on the front of
    these two scores, and the steps through them bound what some system reaches.

    Error bars are one standard deviation, a dashed line is the score of real images, a positive
    speed score has a log axis, and an arrow points to the better corner. Each system is named once:
    beside its point, or below the axes where its name would cover something."""
    beaten = beaten_by(results, [x, y])
    systems = [(i, system) for i, system in enumerate(results.systems) if system.name in beaten]
    points = [
        Point(s.name, i, theme.systems[style(i)[0]], shown(s, x), shown(s, y)) for i, s in systems
    ]
    points.sort(key=lambda point: bool(beaten[point.name]))  # the front's names find a place first
    real = [score.real.scaled(score.scale).mean for score in (x, y)]
    front = _steps([point.at for point in points if not beaten[point.name]], x.higher_is_better)

    def marker(point):
        return _marker(point.number, theme, filled=not beaten[point.name])

    def draw(below: Sequence[str]):
        figure, axes = _panel(theme, width=4.0, height=3.4 + 0.19 * _legend_rows(below))
        for axis, floor_line, score, floor in zip(
            (axes.xaxis, axes.yaxis), (axes.axvline, axes.axhline), (x, y), real
        ):
            if floor is not None:
                floor_line(floor, color=theme.quiet, linestyle=DASHED, linewidth=1, zorder=1)
            _scale(axes, axis, score, [system for _, system in systems])
            axis.set_label_text(score.title, color=theme.ink)
        axes.plot(*zip(*front), color=theme.quiet, linewidth=1.1, alpha=0.75, zorder=1.5)
        for point in sorted(points, key=lambda point: point.number):
            bars = {"xerr": point.x.spread or None, "yerr": point.y.spread or None}
            _point(axes, point.at, bars, theme, point.number, not beaten[point.name])
        _better_arrow(axes, x.higher_is_better, y.higher_is_better, theme)
        if below:
            handles = [
                axes.plot([], [], **marker(p), label=p.name)[0] for p in points if p.name in below
            ]
            _legend(figure, handles, theme)
        return figure, axes

    below: list[str] = []
    figure, axes = draw(below)
    while hidden := label_points(figure, axes, points, below, real, front):
        below += hidden
        figure, axes = draw(below)  # the legend changes the room: the names look for places again
    return _png(figure)


def along(results: Results, score: Score, theme: Theme) -> bytes:
    """A score against the results' axis in one small panel, PNG: means joined by a line where no
    value comes twice, bars of one standard deviation, a dashed line for real images, and a dotted
    one, named below, for a system without a value."""
    axis = results.axis
    assert axis is not None
    systems = [s for s in results.systems if s.of(score).mean is not None]
    indexed = [
        (v, i, s) for i, (v, s) in enumerate(zip(axis.values, results.systems)) if s in systems
    ]
    placed = sorted(((v, i, s) for v, i, s in indexed if v is not None), key=lambda each: each[:2])
    others = [(i, s) for v, i, s in indexed if v is None]
    values = [value for value, *_ in placed]
    rows = _legend_rows([system.name for _, system in others])
    figure, axes = _panel(theme, width=4.0, height=2.7 + 0.19 * rows)
    if (floor := score.real.scaled(score.scale).mean) is not None:
        axes.axhline(floor, color=theme.quiet, linestyle=DASHED, linewidth=1, zorder=1)
    _scale(axes, axes.yaxis, score, systems)
    if len(set(values)) == len(values):
        means = [shown(system, score).mean for _, _, system in placed]
        axes.plot(values, means, color=theme.quiet, linewidth=1.2, zorder=2)
    for value, i, system in placed:
        estimate = shown(system, score)
        bars = {"yerr": estimate.spread or None}
        _point(axes, (value, estimate.mean), bars, theme, i, filled=True)
    _along_scale(axes, values, axis.log)
    handles = []
    for i, system in others:
        line = {"color": theme.systems[style(i)[0]], "linestyle": ":", "linewidth": 1.5}
        mean = shown(system, score).mean
        handles.append(axes.axhline(mean, **line, zorder=1, label=system.name))
    if handles:
        _legend(figure, handles, theme)
    axes.set_xlabel(axis.name, color=theme.ink)
    axes.set_ylabel(score.unit, color=theme.ink)
    better = f"better {score.arrow}"
    axes.set_title(better, loc="left", x=0.0, color=theme.quiet, fontsize=SMALL)
    return _png(figure)


def chosen_curves(curves: Mapping[str, Sequence]) -> list[str]:
    """The curves that a panel shows: the players' losses before the terms, no more than can be told
    apart.
    """
    drawn = (name for name in curves if len(curves[name]))
    return sorted(drawn, key=lambda name: (not name.endswith("/loss"), name))[:CURVES]


def training(curves: Mapping[str, Sequence], theme: Theme) -> bytes:
    """Training curves in one small panel, PNG; the y axis is logarithmic where the values span more
    than a decade.
    """
    figure, axes = _panel(theme, width=4.0, height=2.7)
    names = chosen_curves(curves)
    parts = [np.zeros(0)]
    for name, colour in zip(names, theme.curves):
        steps, losses = _thinned(curves[name])
        axes.plot(steps, losses, color=colour, linewidth=1.3, label=name)
        parts.append(losses[np.isfinite(losses)])
    values = np.concatenate(parts)
    if values.size and values.min() > 0 and values.max() > 10 * values.min():
        axes.set_yscale("log")
    elif values.size:
        typical = max(np.median(np.abs(values)), 1e-12)
        if np.abs(values).max() > 30 * typical:
            axes.set_yscale("symlog", linthresh=typical)
    axes.set_xlabel("step", color=theme.ink)
    columns = 2 if max(map(len, names), default=0) <= 16 else 1
    place = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.0), "ncols": columns}
    axes.legend(**place, frameon=False, labelcolor=theme.ink, fontsize=SMALL, columnspacing=1.2)
    return _png(figure)


# The parts of a panel.


def _panel(theme: Theme, width: float, height: float):
    """A figure (inches) with quiet axes; no pyplot, so that no state outlives the picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=180, facecolor=theme.page, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=theme.page)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(theme.quiet)
    axes.tick_params(which="both", color=theme.quiet, labelcolor=theme.quiet, labelsize=SMALL)
    axes.grid(color=theme.line, linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def _png(figure) -> bytes:
    buffer = io.BytesIO()
    # the same picture: the same bytes
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _scale(axes, axis, score: Score, systems: Sequence[System]) -> None:
    """Limits that hold every point, its error bar and the floor with some room for names; log for a
    positive speed.
    """
    from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator

    which, estimates = axis.axis_name, [shown(system, score) for system in systems]
    values = [(e.mean, e.spread) for e in estimates if e.mean is not None]
    log = score.corner == "speed" and min(values)[0] > 0
    ends = [mean + side * spread for mean, spread in values for side in (-1, 0, 1)]
    if (floor := score.real.scaled(score.scale).mean) is not None:
        ends.append(floor)
    along = np.log10([end for end in ends if end > 0]) if log else np.array(ends)
    room = 0.16 * (np.ptp(along) or abs(along[0]) or 1.0)
    limits = np.array([along.min() - room, along.max() + room])
    if log:
        axes.set(**{f"{which}scale": "log", f"{which}lim": 10**limits})
        axis.set_major_locator(LogLocator(subs=(1.0,) if np.ptp(limits) > 1.5 else (1.0, 2.0, 5.0)))
        axis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_minor_locator(NullLocator())
    else:
        axes.set(**{f"{which}lim": limits})
        axis.set_major_locator(MaxNLocator(5))


def _point(axes, at, bars: Mapping[str, Any], theme: Theme, index: int, filled: bool) -> None:
    """A system's marker over its error bars."""
    axes.errorbar(*at, **bars, color=theme.systems[style(index)[0]], linewidth=1.2, zorder=2)
    axes.plot(*at, **_marker(index, theme, filled), zorder=3)


def _better_arrow(axes, right: bool, up: bool, theme: Theme) -> None:
    """A small arrow above the axes that points to the corner where both scores are better."""
    head = "↙↖↘↗"[2 * right + up]
    text, x, side = (f"better {head}", 1.0, "right") if right else (f"{head} better", 0.0, "left")
    axes.set_title(text, loc=side, x=x, color=theme.quiet, fontsize=SMALL)


def _marker(index: int, theme: Theme, filled: bool) -> dict[str, Any]:
    number, shape = style(index)
    colour = theme.systems[number]
    look = {"marker": MARKERS[shape], "markersize": 7, "markeredgewidth": 1.6, "linestyle": ""}
    return {**look, "color": colour, "markerfacecolor": colour if filled else theme.page}


def _steps(points: Sequence[tuple[float, float]], right: bool) -> list[tuple[float, float]]:
    """The corners of the steps through a front, from left to right: what is reached at x or, if
    `right`, x and more.
    """
    points = sorted(points)
    steps = points[:1]
    for (x, y), (next_x, next_y) in zip(points, points[1:]):
        steps += [(x, next_y) if right else (next_x, y), (next_x, next_y)]
    return steps


def _legend(figure, handles, theme: Theme) -> None:
    """Names below the axes, for which the figure is higher by `_legend_rows`."""
    columns = _legend_columns([handle.get_label() for handle in handles])
    place = {"loc": "outside lower center", "ncols": columns, "handletextpad": 0.5}
    figure.legend(handles=handles, **place, frameon=False, labelcolor=theme.ink, fontsize=SMALL)


def _legend_columns(names: Sequence[str]) -> int:
    return max(1, min(3, 44 // (max(map(len, names), default=1) + 4)))


def _legend_rows(names: Sequence[str]) -> int:
    return -(-len(names) // _legend_columns(names))


def _along_scale(axes, values: Sequence[float], log: bool) -> None:
    """The axis of an ablation: ticks at its values, as far as there is room for them."""
    from matplotlib.ticker import FormatStrFormatter, NullLocator

    positive = [value for value in values if value > 0]
    if log and positive:
        if len(positive) == len(values):
            axes.set_xscale("log")
        else:  # a value of zero has no logarithm
            axes.set_xscale("symlog", linthresh=min(positive))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.08)
    axes.autoscale_view()
    ticks: list[float] = []
    for value in sorted(set(values)):
        at = [
            axes.transAxes.inverted().transform(axes.transData.transform((v, 1.0)))[0]
            for v in [value, *ticks[-1:]]
        ]
        if len(at) < 2 or at[0] - at[1] > 0.1:
            ticks.append(value)
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))


def _thinned(curve: Sequence[Sequence[float]], points: int = 150) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values; a long curve as the means of equal runs. A NaN stays a gap."""
    array = np.array([[np.nan if v is None else v for v in row] for row in curve], float)
    if len(array) > points:
        array = np.stack([part.mean(0) for part in np.array_split(array, points)])
    return array[:, 0], array[:, 1]
