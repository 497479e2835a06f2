"""The pictures of a report: systems between two corners, scores along an axis, and training curves,
as PNG for light and dark pages. Shares are drawn in per cent."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgen.evaluation import ranking
from jaxgen.evaluation.ranking import beaten_by, finite


class Theme(NamedTuple):
    """The colours of a page: background, text, quieter text, hairlines, one colour a system, one a
    curve.
    """

    page: str
    ink: str
    quiet: str
    line: str
    systems: tuple[str, ...]
    curves: tuple[str, ...]


THEMES = {
    "light": Theme(
        page="#ffffff",
        ink="#1b1f24",
        quiet="#5b6470",
        line="#dfe3e8",
        systems=("#1d63b3", "#c2540a", "#1f7a4d", "#8440a8", "#b3264a", "#0f7c86", "#7a6400"),
        curves=("#1b1f24", "#2f7fd1", "#d1782f", "#8c959f"),
    ),
    "dark": Theme(
        page="#14171b",
        ink="#e8eaed",
        quiet="#a3abb5",
        line="#323840",
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


def axis_label(score: Mapping[str, Any]) -> str:
    """A score's name with its unit."""
    return f"{score['name']} ({score['unit']})" if score["unit"] else score["name"]


def trade_off(
    results: Mapping[str, Any], x: Mapping[str, Any], y: Mapping[str, Any], theme: Theme
) -> bytes:
    """Systems as points between the scores `x` and `y`, PNG: filled markers lie on the front of
    these two scores, and the steps through them bound what some system reaches.

    Error bars are one standard deviation, a dashed line is the score of real images, a positive
    speed score has a log axis, and an arrow points to the better corner. Each system is named once:
    beside its point, or below the axes where its name would cover something."""
    beaten = beaten_by(results, [x, y])
    shown = [(i, system) for i, system in enumerate(results["systems"]) if system["name"] in beaten]
    points = [(mean(s, x), mean(s, y), s["name"], i) for i, s in shown]
    points.sort(key=lambda point: bool(beaten[point[2]]))  # the front's names find a place first
    bars = [((mean(s, x), mean(s, y)), (spread(s, x), spread(s, y))) for _, s in shown]
    real = floor_mean(x), floor_mean(y)
    front = _steps([point[:2] for point in points if not beaten[point[2]]], x["higher_is_better"])

    def draw(below: Sequence[str]):
        figure, axes = _panel(theme, width=4.0, height=3.4 + 0.19 * _legend_rows(below))
        for axis, floor_line, score, floor in zip(
            (axes.xaxis, axes.yaxis), (axes.axvline, axes.axhline), (x, y), real
        ):
            if floor is not None:
                floor_line(floor, color=theme.quiet, linestyle=DASHED, linewidth=1, zorder=1)
            _scale(axes, axis, score, [system for _, system in shown])
            axis.set_label_text(axis_label(score), color=theme.ink)
        axes.plot(*zip(*front), color=theme.quiet, linewidth=1.1, alpha=0.75, zorder=1.5)
        for (i, system), (at, errors) in zip(shown, bars):
            colour = theme.systems[style(i)[0]]
            axes.errorbar(
                *at,
                xerr=errors[0] or None,
                yerr=errors[1] or None,
                color=colour,
                linewidth=1.2,
                zorder=2,
            )
            axes.plot(*at, **_marker(i, theme, filled=not beaten[system["name"]]), zorder=3)
        _better_arrow(axes, x["higher_is_better"], y["higher_is_better"], theme)
        if below:
            handles = [
                axes.plot([], [], **_marker(i, theme, not beaten[n]), label=n)[0]
                for _, _, n, i in points
                if n in below
            ]
            _legend(figure, handles, theme)
        return figure, axes

    below: list[str] = []
    figure, axes = draw(below)
    while hidden := _label_points(
        figure, axes, points, theme, below, _lines(axes, bars, real), front
    ):
        below += hidden
        figure, axes = draw(
            below
        )  # the legend changes the room, so the names look for their places again
    return _png(figure)


def along(results: Mapping[str, Any], score: Mapping[str, Any], theme: Theme) -> bytes:
    """A score against the results' axis in one small panel, PNG: means joined by a line where no
    value comes twice, bars of one standard deviation, a dashed line for real images, and a dotted
    one, named below, for a system without a value."""
    axis = results["axis"]
    shown = [
        (i, v, s)
        for i, (v, s) in enumerate(zip(axis["values"], results["systems"]))
        if mean(s, score) is not None
    ]
    placed = sorted(
        ((v, i, s) for i, v, s in shown if finite(v) is not None), key=lambda item: item[:2]
    )
    values = [value for value, _, _ in placed]
    others = [(i, s) for i, v, s in shown if finite(v) is None]
    figure, axes = _panel(
        theme, width=4.0, height=2.7 + 0.19 * _legend_rows([s["name"] for _, s in others])
    )
    if (floor := floor_mean(score)) is not None:
        axes.axhline(floor, color=theme.quiet, linestyle=DASHED, linewidth=1, zorder=1)
    _scale(axes, axes.yaxis, score, [system for _, _, system in shown])
    if len(set(values)) == len(values):
        axes.plot(
            values,
            [mean(s, score) for _, _, s in placed],
            color=theme.quiet,
            linewidth=1.2,
            zorder=2,
        )
    for value, i, system in placed:
        colour = theme.systems[style(i)[0]]
        axes.errorbar(
            value,
            mean(system, score),
            yerr=spread(system, score) or None,
            color=colour,
            linewidth=1.2,
            zorder=2,
        )
        axes.plot(value, mean(system, score), **_marker(i, theme, filled=True), zorder=3)
    _along_scale(axes, values, axis.get("log", False))
    handles = []
    for i, system in others:
        line = {"color": theme.systems[style(i)[0]], "linestyle": ":", "linewidth": 1.5}
        handles.append(axes.axhline(mean(system, score), **line, zorder=1, label=system["name"]))
    if handles:
        _legend(figure, handles, theme)
    axes.set_xlabel(axis["name"], color=theme.ink)
    axes.set_ylabel(score["unit"], color=theme.ink)
    up = score["higher_is_better"]
    axes.set_title(
        f"better {'↑' if up else '↓'}", loc="left", x=0.0, color=theme.quiet, fontsize=SMALL
    )
    return _png(figure)


def chosen_curves(curves: Mapping[str, Sequence]) -> list[str]:
    """The curves that a panel shows: the players' losses before the terms, no more than can be told
    apart.
    """
    return sorted(
        (name for name in curves if len(curves[name])), key=lambda n: (not n.endswith("/loss"), n)
    )[:CURVES]


def training(curves: Mapping[str, Sequence], theme: Theme) -> bytes:
    """Training curves in one small panel, PNG; the y axis is logarithmic where the values span more
    than a decade.
    """
    figure, axes = _panel(theme, width=4.0, height=2.7)
    values = []
    for name, colour in zip(chosen_curves(curves), theme.curves):
        steps, losses = _thinned(curves[name])
        axes.plot(steps, losses, color=colour, linewidth=1.3, label=name)
        values.append(losses[np.isfinite(losses)])
    values = np.concatenate(values) if values else np.zeros(0)
    if values.size and values.min() > 0 and values.max() > 10 * values.min():
        axes.set_yscale("log")
    elif values.size and np.abs(values).max() > 30 * max(np.median(np.abs(values)), 1e-12):
        axes.set_yscale("symlog", linthresh=max(np.median(np.abs(values)), 1e-12))
    axes.set_xlabel("step", color=theme.ink)
    columns = 2 if max(map(len, chosen_curves(curves)), default=0) <= 16 else 1
    place = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.0), "ncols": columns}
    axes.legend(**place, frameon=False, labelcolor=theme.ink, fontsize=SMALL, columnspacing=1.2)
    return _png(figure)


# The numbers as they are drawn: shares in per cent.


def mean(system: Mapping[str, Any], score: Mapping[str, Any]) -> float | None:
    value = ranking.mean(system, score)
    return None if value is None else value * ranking.scale(score)


def spread(system: Mapping[str, Any], score: Mapping[str, Any]) -> float:
    return ranking.spread(system, score) * ranking.scale(score)


def floor_mean(score: Mapping[str, Any]) -> float | None:
    value = ranking.floor_mean(score)
    return None if value is None else value * ranking.scale(score)


# The parts of a panel.


def _panel(theme: Theme, width: float, height: float):
    """A figure (inches) with one quiet pair of axes; no pyplot, so no state outlives the picture."""
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
    figure.savefig(
        buffer, format="png", metadata={"Software": None}
    )  # the same bytes for the same picture
    return buffer.getvalue()


def _scale(axes, axis, score: Mapping[str, Any], systems: Sequence[Mapping[str, Any]]) -> None:
    """Limits that hold every point, its error bar and the floor with some room for names; log for a
    positive speed.
    """
    from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator

    which = axis.axis_name
    means = [mean(system, score) for system in systems]
    log = score["corner"] == "speed" and min(means) > 0
    ends = [m + side * spread(s, score) for m, s in zip(means, systems) for side in (-1, 1)] + means
    if (floor := floor_mean(score)) is not None:
        ends.append(floor)
    ends = np.log10([e for e in ends if e > 0]) if log else np.array(ends)
    room = 0.16 * (np.ptp(ends) or abs(ends[0]) or 1.0)
    limits = np.array([ends.min() - room, ends.max() + room])
    if log:
        axes.set(**{f"{which}scale": "log", f"{which}lim": 10**limits})
        axis.set_major_locator(LogLocator(subs=(1.0,) if np.ptp(limits) > 1.5 else (1.0, 2.0, 5.0)))
        axis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_minor_locator(NullLocator())
    else:
        axes.set(**{f"{which}lim": limits})
        axis.set_major_locator(MaxNLocator(5))


def _better_arrow(axes, right: bool, up: bool, theme: Theme) -> None:
    """A small arrow above the axes that points to the corner where both scores are better."""
    head = {(True, True): "↗", (False, True): "↖", (True, False): "↘", (False, False): "↙"}[
        right, up
    ]
    text, x, side = (f"better {head}", 1.0, "right") if right else (f"{head} better", 0.0, "left")
    axes.set_title(text, loc=side, x=x, color=theme.quiet, fontsize=SMALL)


def _marker(index: int, theme: Theme, filled: bool) -> dict[str, Any]:
    colour, marker = style(index)
    colour = theme.systems[colour]
    face = colour if filled else theme.page
    return dict(
        marker=MARKERS[marker],
        markersize=7,
        markeredgewidth=1.6,
        color=colour,
        markerfacecolor=face,
        linestyle="",
    )


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
    place = {
        "loc": "outside lower center",
        "ncols": _legend_columns([handle.get_label() for handle in handles]),
    }
    figure.legend(
        handles=handles,
        **place,
        frameon=False,
        labelcolor=theme.ink,
        fontsize=SMALL,
        handletextpad=0.5,
    )


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


def _lines(axes, bars, real) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The lines that a name must not cross, each from one point of the axes to another: error bars
    and floors.
    """
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    lines = []
    for (x, y), (dx, dy) in bars:
        lines += [((max(x - dx, left), y), (x + dx, y)), ((x, max(y - dy, bottom)), (x, y + dy))]
    lines += [((real[0], bottom), (real[0], top))] if real[0] is not None else []
    return lines + ([((left, real[1]), (right, real[1]))] if real[1] is not None else [])


def _label_points(
    figure,
    axes,
    points: Sequence[tuple[float, float, str, int]],
    theme: Theme,
    below: Sequence[str],
    lines,
    front,
) -> list[str]:
    """Write each point's name (x, y, name, index of its colour) beside it, clear of markers, lines,
    names and the frame, and of the steps of the front where there is such a place.

    The names in `below` stand in the legend. Returns those for which there is no clear place, which
    are not written."""
    figure.draw_without_rendering()  # settles the layout, so that pixels mean something
    frame = axes.get_window_extent().extents
    pixel = figure.dpi / 72
    centres = axes.transData.transform([(x, y) for x, y, _, _ in points])
    taken = [np.concatenate([centre - 5 * pixel, centre + 5 * pixel]) for centre in centres]
    border = pixel * np.array([-1, -1, 1, 1])
    taken += [axes.transData.transform(line).ravel() + border for line in lines]
    steps = [
        axes.transData.transform([np.minimum(a, b), np.maximum(a, b)]).ravel() + border
        for a, b in zip(front, front[1:])
    ]
    hidden = []
    for (x, y, name, i), centre in zip(points, centres):
        if name in below:
            continue
        colour = theme.systems[style(i)[0]]
        label = axes.annotate(
            name,
            (x, y),
            (0, 0),
            textcoords="offset pixels",
            va="bottom",
            color=colour,
            fontsize=10,
            zorder=4,
        )
        label.set_in_layout(False)
        size = np.array(label.get_window_extent().size)
        box = _free_place(centre, size, centres, taken + steps, frame, pixel)
        if box is None:
            box = _free_place(centre, size, centres, taken, frame, pixel)
        if box is None:
            label.remove()
            hidden.append(name)
        else:
            label.set_position(box[:2] - centre)
            taken.append(box)
    return hidden


def _free_place(centre, size, centres, taken, frame, pixel) -> np.ndarray | None:
    """The nearest box (left, bottom, right, top) of this size beside `centre` that covers nothing
    and lies closer to it than to any other of the `centres`, or None."""

    def distance(box, point):
        return np.linalg.norm(np.maximum(0, np.maximum(box[:2] - point, point - box[2:])))

    for away in (6, 9, 13):
        for direction in ((1, 1), (-1, 1), (1, -1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1)):
            direction = np.array(direction)
            corner = centre + direction * away * pixel + (direction - 1) / 2 * size
            box = np.concatenate([corner, corner + size])
            inside = np.all(box[:2] >= frame[:2]) and np.all(box[2:] <= frame[2:])
            apart = all(
                np.any(box[2:] <= other[:2]) or np.any(other[2:] <= box[:2]) for other in taken
            )
            own = all(
                np.array_equal(other, centre)
                or distance(box, other) > distance(box, centre) + pixel
                for other in centres
            )
            if inside and apart and own:
                return box
    return None


def _thinned(curve: Sequence[Sequence[float]], points: int = 150) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values; a long curve as the means of equal runs. A NaN stays a gap."""
    array = np.array([[np.nan if v is None else v for v in row] for row in curve], float)
    if len(array) > points:
        array = np.stack([part.mean(0) for part in np.array_split(array, points)])
    return array[:, 0], array[:, 1]
