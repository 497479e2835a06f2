"""The report on constructed results: what it says, what it escapes, and that one file holds
everything.
"""

import copy
import json
import re

import numpy as np
import pytest

from jaxgen.errors import InputError
from jaxgen.evaluation import page_tables, plots, report
from jaxgen.training.logging import write_png


def score(id, name, corner, higher, unit, digits, floor=None, main=True):
    floor = (
        None
        if floor is None
        else {"mean": floor, "std": 0.004, "values": [floor - 0.004, floor + 0.004]}
    )
    return dict(id=id, name=name, corner=corner, higher_is_better=higher, unit=unit, digits=digits, floor=floor, main=main,
                explain=f"What {name} means.")  # fmt: skip


SCORES = [
    score("fd", "FD", "quality", False, "", 2, 0.5), score("sure", "sure share", "quality", True, "%", 1),
    score("kid", "KID", "quality", False, "", 4, 0.001, main=False), score("ms", "time", "speed", False, "ms", 3),
    score("cover", "coverage", "diversity", True, "%", 1, 0.98), score("copies", "copies", "check", False, "", 0),
]  # fmt: skip


def system(name, fd, sure, ms, cover, std=0.01, kid=0.003):
    values = {"fd": fd, "sure": sure, "kid": kid, "ms": ms, "cover": cover, "copies": 0.0}
    scores = {
        k: {"mean": v, "std": std, "values": [v - std, v + std]}
        for k, v in values.items()
        if v is not None
    }
    return {
        "name": name, "config": f"configs/{name}.py", "workdir": "runs", "parameters": 12345,
        "training": {"steps": 100, "seconds": 61.0, "images": 6400}, "sampler": {"steps": 50}, "nfe": 50, "scores": scores,
        "cost": {"sampling_memory_bytes": 25.3e6, "training_images_per_second": 31999.6, "best_batch": None},
        "curves": {"model/loss": [[1, 2.0], [2, 1.0]]}, "grid": "grid.png",
    }  # fmt: skip


def results(*systems):
    return {
        "title": "A <b>test</b>", "question": "Which?", "created": "2026-01-01", "command": "jaxgen compare", "commit": "abc",
        "machine": {"device": "CPU"}, "protocol": {"seeds": [0, 1]}, "systems": list(systems), "scores": SCORES,
        "reference_grid": "grid.png",
    }  # fmt: skip


FAST, GOOD = system("fast", 2.0, 0.80, 0.1, 0.90), system("good", 1.0, 0.90, 5.0, 0.95)
WORSE = system("worse", 3.0, 0.70, 6.0, 0.80)


def line(of, corner):
    (text,) = [text for text in report.reading(of) if text.startswith(corner)]
    return text


def test_the_reading_names_the_first_of_each_corner_and_the_front():
    of = results(FAST, GOOD, WORSE)
    assert "good is first" in line(of, "Quality") and "2.0 times that of real images" in line(
        of, "Quality"
    )
    assert "fast is first" in line(of, "Speed") and "50 times as much" in line(of, "Speed")
    assert "97 % of what real images reach" in line(of, "Diversity")
    assert "fast and good lie on the Pareto front" in line(of, "Trade-off")
    assert "worse does not: fast and good are at least as good" in line(of, "Trade-off")


def test_scores_that_disagree_give_no_clear_order():
    of = results(
        system("a", 1.0, 0.5, 1.0, 0.9, kid=0.1), system("b", 2.0, 0.9, 1.0, 0.9, kid=0.001)
    )
    assert (
        line(of, "Quality")
        == "Quality: no clear order: a is first by FD, b is first by sure share."
    )
    assert "a and b are level" in line(of, "Speed")
    of["scores"] = [each for each in SCORES if each["id"] != "sure"]
    assert line(of, "Quality").startswith(
        "Quality: a is first: FD 1.00"
    )  # KID, which is no main score, has no say
    of = results(
        system("a", 1.0, 0.80, 1.0, 0.9),
        system("b", 1.005, 0.9, 1.0, 0.9),
        system("c", 2.0, 0.7, 1.0, 0.9),
    )
    assert line(of, "Quality").startswith(
        "Quality: a and b are level, within one standard deviation: FD 1.00 and "
    )
    assert line(of, "Quality").endswith("c follows with 2.00. By sure share, b is first.")


def test_the_reading_of_many_systems_stays_short():
    many = [
        system(f"KL × {i}", 1.0 + i, 0.9 - i / 100, 1.0 + i / 10, 0.9, std=0.0) for i in range(6)
    ]
    many += [system(f"DDIM {i}", 1.0 - i / 100, 0.9, 10.0 * i, 0.9, std=0.0) for i in range(1, 7)]
    of = results(*many)
    assert line(of, "Diversity").startswith("Diversity: KL × 0 and 11 others are level")
    front = line(of, "Trade-off")
    assert (
        "5 systems do not, since another is at least as good in every corner: KL × 1 (KL × 0), KL × 2 (KL × 0"
        in front
    )
    assert all(len(text) < 500 for text in report.reading(of))


def test_the_table_is_aligned_marks_the_best_and_shows_gaps():
    text = report.table(results(FAST, system("gap", None, 0.9, float("nan"), 0.95)))
    block = text.split("\n\n")[0].splitlines()
    assert all(len(row) <= 100 for row in block) and "KID" not in text
    rows = {row.split()[0]: row for row in block if row.strip()}
    assert "–" in rows["gap"] and "*90.0 ±1.0" in rows["gap"] and "98.0 ±0.4" in rows["real"]
    rules = [row for row in block if set(row) == {"─"}]
    assert len(rules) == 2 and len(set(map(len, rules))) == 1


def test_the_page_is_one_file_and_escapes_what_it_shows(tmp_path):
    write_png(str(tmp_path / "grid.png"), np.zeros((4, 8, 8, 1), np.uint8))
    odd = {
        **system("no <i>score</i>", None, None, None, None),
        "curves": {"model/loss": [[1, 3.0], [2, None]]},
    }
    of = results(FAST, GOOD, odd) | {"requirements": ["ms<=1", "sure>=75%"]}
    of["axis"] = {"name": "width <u>", "values": [1, 2, None], "log": True}
    path = report.write(of, tmp_path)
    page = open(path).read()
    assert (
        "<b>test" not in page
        and "<i>score" not in page
        and "<u>" not in page
        and "&lt;b&gt;test" in page
    )
    assert (
        not re.search(r"(src|href|srcset)=\"(?!data:)", page)
        and "<script" not in page
        and "@import" not in page
    )
    # four grids, each plot for day and for night: three trade-offs, five main scores along the
    # axis, two training runs
    assert page.count("data:image/png") == 4 + 2 * (3 + 5 + 2)
    saved = json.loads((tmp_path / "results.json").read_text())
    assert saved["systems"][0]["scores"]["fd"]["values"] == pytest.approx([1.99, 2.01])
    before = (tmp_path / "report.html").read_bytes()
    report.write(copy.deepcopy(of), tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before
    assert "fast, the only system of the Pareto front that meets all" in " ".join(report.chosen(of))
    assert "the only system of the Pareto front" in page and "With these requirements" in page


def test_the_tables_of_the_page():
    scores = page_tables.scores(results(FAST, GOOD))
    short, _, every = scores.partition("<details>")
    row = short[short.index(">good<") :].partition("</tr>")[0]
    assert "1.00" in row and "× 2.0" in row and "95.0" in row and "97 %" in row and "90.0" in row
    assert "KID" not in short and "KID" in every and "0.0030" in every
    assert (
        "× 3.0" not in every
    )  # the floor, 0.001 ± 0.004, is no more than noise: nothing is a multiple of it
    assert every.count('<tr><th scope="row"') == len(SCORES) and "98.0 <small>±0.4" in every
    runs = page_tables.runs(results(FAST, GOOD))
    assert "25.3 MB" in runs and "32,000" in runs and "1 min 01 s" in runs
    assert "Compilation" not in runs and "Fastest batch" not in runs  # nobody measured them


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
    assert plots._steps([(2.0, 5.0), (1.0, 3.0)], right=False) == [
        (1.0, 3.0),
        (2.0, 3.0),
        (2.0, 5.0),
    ]
    # two scores of which more is better: before each point its value holds
    assert plots._steps([(1.0, 5.0), (2.0, 3.0)], right=True) == [
        (1.0, 5.0),
        (1.0, 3.0),
        (2.0, 3.0),
    ]


def test_missing_pictures_and_unknown_corners_are_named(tmp_path):
    with pytest.raises(InputError, match="grid.png"):
        report.write(results(FAST), tmp_path)
    odd = results(FAST)
    odd["scores"] = [{**SCORES[0], "corner": "qualty"}]
    with pytest.raises(InputError, match="did you mean quality"):
        report.table(odd)


def test_an_axis_needs_a_value_for_each_system(tmp_path):
    write_png(str(tmp_path / "grid.png"), np.zeros((4, 8, 8, 1), np.uint8))
    with pytest.raises(InputError, match="axis 'width' has 1 values for 2 systems"):
        report.write(
            results(FAST, GOOD) | {"axis": {"name": "width", "values": [1.0], "log": False}},
            tmp_path,
        )
