"""Where the names of a plot's points are written: clear of markers, lines, frame and each other."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxgen.report.results import Estimate

TOWARDS = ((1, 1), (-1, 1), (1, -1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))


class Point(NamedTuple):
    """A system in a plot. number: among all systems."""

    name: str
    number: int
    colour: str
    x: Estimate
    y: Estimate

    @property
    def at(self) -> tuple[float, float]:
        assert self.x.mean is not None and self.y.mean is not None
        return self.x.mean, self.y.mean


def label_points(
    figure,
    axes,
    points: Sequence[Point],
    below: Sequence[str],
    real: Sequence[float | None],
    front: Sequence[tuple[float, float]],
) -> list[str]:
    """Write each point's name beside it, clear of markers, lines, names and the frame, and of the
    steps of the `front` where there is such a place.

    below: the names that stand in the legend. real: x and y of the lines of real images. Returns
    the names for which there is no clear place, which are not written."""
    figure.draw_without_rendering()  # settles the layout, so that pixels mean something
    frame = axes.get_window_extent().extents
    pixel = figure.dpi / 72
    border = pixel * np.array([-1, -1, 1, 1])

    def boxes(lines):
        return [axes.transData.transform(np.sort(line, 0)).ravel() + border for line in lines]

    centres = axes.transData.transform([point.at for point in points])
    taken = [np.concatenate([centre - 5 * pixel, centre + 5 * pixel]) for centre in centres]
    taken += boxes(_lines(axes, points, real))
    steps = boxes(zip(front, front[1:]))
    hidden = []
    for point, centre in zip(points, centres):
        if point.name in below:
            continue
        place = {"textcoords": "offset pixels", "va": "bottom", "fontsize": 10, "zorder": 4}
        label = axes.annotate(point.name, point.at, (0, 0), color=point.colour, **place)
        label.set_in_layout(False)
        around = centre, np.array(label.get_window_extent().size), centres
        box = _free_place(*around, taken + steps, frame, pixel)
        if box is None:
            box = _free_place(*around, taken, frame, pixel)
        if box is None:
            label.remove()
            hidden.append(point.name)
        else:
            label.set_position(box[:2] - centre)
            taken.append(box)
    return hidden


def _lines(axes, points: Sequence[Point], real: Sequence[float | None]) -> list:
    """The lines that a name must not cross, each from one point of the axes to another: error bars
    and floors.
    """
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    lines = []
    for point in points:
        (x, y), dx, dy = point.at, point.x.spread, point.y.spread
        lines += [((max(x - dx, left), y), (x + dx, y)), ((x, max(y - dy, bottom)), (x, y + dy))]
    lines += [((real[0], bottom), (real[0], top))] if real[0] is not None else []
    return lines + ([((left, real[1]), (right, real[1]))] if real[1] is not None else [])


def _free_place(centre, size, centres, taken, frame, pixel) -> np.ndarray | None:
    """The nearest box (left, bottom, right, top) of this size beside `centre` that covers nothing
    and lies closer to it than to any other of the `centres`, or None."""
    taken = np.array(taken)
    others = centres[np.any(centres != centre, axis=1)]

    def distance(box, points):
        outside = np.maximum(0, np.maximum(box[:2] - points, points - box[2:]))
        return np.linalg.norm(outside, axis=-1)

    for away in (6, 9, 13):
        for direction in np.array(TOWARDS):
            corner = centre + direction * away * pixel + (direction - 1) / 2 * size
            box = np.concatenate([corner, corner + size])
            inside = np.all(box[:2] >= frame[:2]) and np.all(box[2:] <= frame[2:])
            covered = np.all(box[2:] > taken[:, :2], axis=1) & np.all(
                taken[:, 2:] > box[:2], axis=1
            )
            own = distance(box, others) > distance(box, centre) + pixel
            if inside and not covered.any() and own.all():
                return box
    return None
