"""The report's page on constructed results: what it shows, what it escapes, and that one file holds
everything.
"""

import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from jaxgen import report
from jaxgen.errors import InputError
from jaxgen.report import html, page, plots
from tests.report.values import SCORES, results, system
from tests.support import images

FAST = system("fast", 2.0, 0.1, 0.90, 0.003, 0.80, curves={"model/loss": [[1, 2.0], [2, 1.0]]})
GOOD = replace(system("good", 1.0, 5.0, 0.95, 0.003, 0.90), curves=FAST.curves)


def png(*shape):
    buffer = io.BytesIO()
    Image.fromarray(images(0, *shape)).save(buffer, "PNG")
    return buffer.getvalue()


def pictures(data):
    """A render's `read` and `draw`, which draw nothing."""
    return lambda name: data, lambda name, plot: {"light": data, "dark": data}


@pytest.mark.slow
def test_the_page_is_one_file_and_escapes_what_it_shows(tmp_path):
    (tmp_path / "grid.png").write_bytes(png(4, 8))
    odd = system("no <i>score</i>", curves={"model/loss": [[1, 3.0], [2, None]]})
    systems = [replace(each, grid="grid.png") for each in (FAST, GOOD, odd)]
    of = results(*systems, reference_grid="grid.png", requirements=("ms<=1", "sure>=75%"))
    of = replace(of, axis=report.Axis("width <u>", (1, 2, None), log=True))
    text = open(report.write(of, tmp_path), encoding="utf-8").read()
    assert not re.search(r"<b>test|<i>score|<u>|<script|@import", text)
    assert "&lt;b&gt;test" in text
    assert not re.search(r"(src|href|srcset)=\"(?!data:)", text)
    # four grids, each plot for day and for night: three trade-offs, five main scores along the
    # axis, two training runs, of which two systems share one
    assert text.count("data:image/png") == 4 + 2 * (3 + 5 + 2)
    assert report.from_json(json.loads((tmp_path / "results.json").read_text())) == of
    assert "fast, the only system of the Pareto front that meets all" in " ".join(report.chosen(of))
    assert "the only system of the Pareto front" in text and "With these requirements" in text


def test_the_same_results_give_the_same_picture():
    of = replace(results(FAST, GOOD), axis=report.Axis("width", (1, 2)))
    one, two = (plots.along(of, SCORES[0], plots.THEMES["dark"]) for _ in range(2))
    assert one == two


def test_the_tables_of_the_page():
    costs = {"sampling_memory_bytes": 25.3e6, "training_images_per_second": 31999.6}
    costly = replace(FAST, cost={**costs, "best_batch": None}, training={"seconds": 61.0})
    text = page.render(results(costly, GOOD), *pictures(png(4, 8)))
    short, _, every = text.partition("<details>")
    row = short[short.index(">good<") :].partition("</tr>")[0]
    assert all(shown in row for shown in ("1.00", "× 2.0", "95.0", "97 %", "90.0"))
    assert "kid" not in short and "kid" in every and "0.0030" in every
    # the floor, 0.001 ± 0.004, is no more than noise: nothing is a multiple of it
    assert "× 3.0" not in every
    assert every.count('<th scope="row" title=') == len(SCORES) and "98.0 <small>±0.4" in every
    assert "25.3 MB" in text and "32,000" in text and "1 min 01 s" in text
    assert "Compilation" not in text and "Fastest batch" not in text  # nobody measured them


def test_a_large_picture_is_scaled_down():
    large = png(2 * html.PIXELS, html.PIXELS)
    small = html._small(large, "samples")
    with Image.open(io.BytesIO(small)) as scaled, Image.open(io.BytesIO(large)) as full:
        assert scaled.size == (html.PIXELS // 2, html.PIXELS)
        means = np.asarray(full, float).reshape(html.PIXELS, 2, -1, 2).mean((1, 3))
        assert np.abs(means - np.asarray(scaled)).max() <= 1.0  # Pillow rounds once a direction
    assert html._small(small, "samples") == small


@pytest.mark.slow
def test_fifty_systems_of_large_pictures_are_one_page(monkeypatch):
    monkeypatch.setattr(page, "PIXELS", 64)
    monkeypatch.setattr(html, "PIXELS", 64)
    systems = [
        system(f"s{i}", 1.0 + i, 1.0, 0.9, grid="a.png", curves={"x/loss": [[1, float(i)]]})
        for i in range(50)
    ]
    of = results(*systems, reference_grid="a.png")
    small = page.render(of, *pictures(png(64, 64)))
    assert small.count("<figure") == 51 + 3 + 50 and "grids large" not in small
    large = page.render(of, lambda name: png(640, 640), pictures(png(64, 64))[1])
    assert "grids large" in large and len(large) < 1.1 * len(small)


def test_many_systems_are_drawn_and_named_once():
    theme = plots.THEMES["light"]
    many = [system(f"system {i}", 1.0 + i % 7, 2.0**i, 0.9) for i in range(50)]
    with Image.open(
        io.BytesIO(plots.trade_off(results(*many), SCORES[3], SCORES[0], theme))
    ) as drawn:
        width, height = drawn.size
    assert width == 720 and 720 < height < 3000


def test_marks_and_colours_can_be_told_apart():
    assert len({plots.style(i) for i in range(49)}) == 49

    def luminance(colour):  # WCAG 2.2, relative luminance
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        return np.dot(
            [0.2126, 0.7152, 0.0722],
            [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts],
        )

    for theme in plots.THEMES.values():
        for colour in (theme.ink, theme.quiet, *theme.systems):
            low, high = sorted((luminance(colour), luminance(theme.page)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, colour  # level AA for text


def test_the_front_is_drawn_as_what_is_reached():
    # time (less is better) and coverage: after each point its value holds until the next one
    steps = plots._steps([(2.0, 5.0), (1.0, 3.0)], right=False)
    assert steps == [(1.0, 3.0), (2.0, 3.0), (2.0, 5.0)]
    # two scores of which more is better: before each point its value holds
    steps = plots._steps([(1.0, 5.0), (2.0, 3.0)], right=True)
    assert steps == [(1.0, 5.0), (1.0, 3.0), (2.0, 3.0)]


def test_missing_and_broken_pictures_are_named(tmp_path):
    with pytest.raises(InputError, match="cannot read the picture 'grid.png' in"):
        report.write(results(FAST, reference_grid="grid.png"), tmp_path)
    (tmp_path / "grid.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="the picture of real images is not a PNG file"):
        report.write(results(FAST, reference_grid="grid.png"), tmp_path)
