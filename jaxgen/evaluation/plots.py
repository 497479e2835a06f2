"""The pictures of a report: systems between two corners, and training curves, as PNG for light and dark pages."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgen.evaluation.ranking import beaten_by, finite, mean, spread


class Theme(NamedTuple):
    """The colours of a page: background, text, quieter text, hairlines, one colour a system, one a curve."""

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
CURVES = 4  # more than this cannot be told apart in a small panel


def axis_label(score: Mapping[str, Any]) -> str:
    """A score's name with its unit."""
    return f"{score['name']} ({score['unit']})" if score["unit"] else score["name"]


def trade_off(results: Mapping[str, Any], x: Mapping[str, Any], y: Mapping[str, Any], theme: Theme) -> bytes:
    """Systems as points between the scores `x` and `y`, PNG: filled markers lie on the front of these two scores.

    Error bars are one standard deviation, a dashed line is the score of real images, a positive speed score has a log
    axis, and an arrow points to the better corner.
    """
    beaten = beaten_by(results, [x, y])
    shown = [(i, system) for i, system in enumerate(results["systems"]) if system["name"] in beaten]
    figure, axes = _panel(theme, width=4.0, height=3.4)
    for axis, floor_line, score in ((axes.xaxis, axes.axvline, x), (axes.yaxis, axes.axhline, y)):
        if (floor := finite(score.get("floor"))) is not None:
            floor_line(floor, color=theme.quiet, linestyle=(0, (4, 3)), linewidth=1, zorder=1)
        _scale(axes, axis, score, [system for _, system in shown])
        axis.set_label_text(axis_label(score), color=theme.ink)
    for i, system in shown:
        colour = theme.systems[i % len(theme.systems)]
        at = mean(system, x), mean(system, y)
        errors = {"xerr": spread(system, x) or None, "yerr": spread(system, y) or None}
        axes.errorbar(*at, **errors, color=colour, linewidth=1.2, zorder=2)
        face = theme.page if beaten[system["name"]] else colour
        marker = MARKERS[i % len(MARKERS)]
        axes.plot(*at, marker, markersize=7, markeredgewidth=1.6, color=colour, markerfacecolor=face, zorder=3)
    _better_arrow(axes, x["higher_is_better"], y["higher_is_better"], theme)
    _label_points(figure, axes, [(mean(s, x), mean(s, y), s["name"], i) for i, s in shown], theme)
    return _png(figure)


def chosen_curves(curves: Mapping[str, Sequence]) -> list[str]:
    """The curves that a panel shows: the players' losses before the terms, no more than can be told apart."""
    return sorted((name for name in curves if len(curves[name])), key=lambda n: (not n.endswith("/loss"), n))[:CURVES]


def training(curves: Mapping[str, Sequence], theme: Theme) -> bytes:
    """Training curves in one small panel, PNG; the y axis is logarithmic where the values span more than a decade."""
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
    columns = 2 if max(map(len, chosen_curves(curves)), default=0) <= 18 else 1
    place = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.0), "ncols": columns}
    axes.legend(**place, frameon=False, labelcolor=theme.ink, fontsize=8.5)
    return _png(figure)


def _panel(theme: Theme, width: float, height: float):
    """A figure (inches) with one quiet pair of axes; no pyplot, so no state outlives the picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=180, facecolor=theme.page, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=theme.page)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(theme.quiet)
    axes.tick_params(which="both", color=theme.quiet, labelcolor=theme.quiet, labelsize=9.5)
    axes.grid(color=theme.line, linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def _png(figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})  # the same bytes for the same picture
    return buffer.getvalue()


def _scale(axes, axis, score: Mapping[str, Any], systems: Sequence[Mapping[str, Any]]) -> None:
    """Limits that hold every point, its error bar and the floor with some room for names; log for a positive speed."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator

    which = axis.axis_name
    means = [mean(system, score) for system in systems]
    log = score["corner"] == "speed" and min(means) > 0
    ends = [m + side * spread(s, score) for m, s in zip(means, systems) for side in (-1, 1)] + means
    if (floor := finite(score.get("floor"))) is not None:
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
    head = {(True, True): "↗", (False, True): "↖", (True, False): "↘", (False, False): "↙"}[right, up]
    text, x, side = (f"better {head}", 1.0, "right") if right else (f"{head} better", 0.0, "left")
    axes.set_title(text, loc=side, x=x, color=theme.quiet, fontsize=9.5)


def _label_points(figure, axes, points: Sequence[tuple[float, float, str, int]], theme: Theme) -> None:
    """Write each point's name (x, y, name, index of its colour) beside it, clear of markers, other names and the frame."""
    figure.draw_without_rendering()  # settles the layout, so that pixels mean something
    frame = axes.get_window_extent().extents
    pixel = figure.dpi / 72
    centres = axes.transData.transform([(x, y) for x, y, _, _ in points])
    taken = [np.concatenate([centre - 6 * pixel, centre + 6 * pixel]) for centre in centres]
    for (x, y, name, i), centre in zip(points, centres):
        colour = theme.systems[i % len(theme.systems)]
        label = axes.annotate(name, (x, y), (0, 0), textcoords="offset pixels", va="bottom", color=colour, fontsize=10, zorder=4)
        label.set_in_layout(False)
        box = _free_place(centre, np.array(label.get_window_extent().size), taken, frame, pixel)
        label.set_position(box[:2] - centre)
        taken.append(box)


def _free_place(centre, size, taken, frame, pixel) -> np.ndarray:
    """The box (left, bottom, right, top) of this size near `centre` that covers least; the first of equals."""
    places = []
    for distance in (7, 13, 20, 30):
        for direction in ((1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0)):
            direction = np.array(direction)
            corner = centre + direction * distance * pixel + (direction - 1) / 2 * size
            places.append(np.concatenate([corner, corner + size]))

    def covered(box):
        edges = [np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]) for other in taken]
        outside = np.sum(np.maximum(0, [*(frame[:2] - box[:2]), *(box[2:] - frame[2:])]))
        return sum(np.prod(np.maximum(0, edge)) for edge in edges) + outside * size[1]

    return min(places, key=covered)


def _thinned(curve: Sequence[Sequence[float]], points: int = 150) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values; a long curve as the means of equal runs. A NaN stays a gap."""
    array = np.array([[np.nan if v is None else v for v in row] for row in curve], float)
    if len(array) > points:
        array = np.stack([part.mean(0) for part in np.array_split(array, points)])
    return array[:, 0], array[:, 1]
