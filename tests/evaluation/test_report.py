"""The report on constructed results: what it says, what it escapes, and that one file holds everything."""

import copy
import json
import re

import numpy as np
import pytest

from jaxgen.errors import InputError
from jaxgen.evaluation import report
from jaxgen.training.logging import write_png

SCORES = [
    {"id": "fd", "name": "FD", "corner": "quality", "higher_is_better": False, "unit": "", "digits": 2, "floor": 0.5,
     "explain": "Distance."},
    {"id": "sure", "name": "sure share", "corner": "quality", "higher_is_better": True, "unit": "%", "digits": 1, "floor": None,
     "explain": "Share."},
    {"id": "ms", "name": "time", "corner": "speed", "higher_is_better": False, "unit": "ms", "digits": 3, "floor": None,
     "explain": "Time."},
    {"id": "cover", "name": "coverage", "corner": "diversity", "higher_is_better": True, "unit": "%", "digits": 1, "floor": 98.0,
     "explain": "Coverage."},
    {"id": "copies", "name": "copies", "corner": "check", "higher_is_better": False, "unit": "", "digits": 0, "floor": None,
     "explain": "Copies."},
]  # fmt: skip


def system(name, fd, sure, ms, cover, std=0.01):
    values = {"fd": fd, "sure": sure, "ms": ms, "cover": cover, "copies": 0.0}
    scores = {k: {"mean": v, "std": std, "values": [v - std, v + std]} for k, v in values.items() if v is not None}
    return {
        "name": name, "config": f"configs/{name}.py", "workdir": "runs", "parameters": 12345,
        "training": {"steps": 100, "seconds": 61.0, "images": 6400}, "sampler": {"steps": 50}, "nfe": 50, "scores": scores,
        "curves": {"model/loss": [[1, 2.0], [2, 1.0]]}, "grid": "grid.png",
    }  # fmt: skip


def results(*systems):
    return {
        "title": "A <b>test</b>", "question": "Which?", "created": "2026-01-01", "command": "jaxgen compare", "commit": "abc",
        "machine": {"device": "CPU"}, "protocol": {"seeds": [0, 1]}, "systems": list(systems), "scores": SCORES,
        "reference_grid": "grid.png",
    }  # fmt: skip


FAST, GOOD = system("fast", 2.0, 80.0, 0.1, 90.0), system("good", 1.0, 90.0, 5.0, 95.0)
WORSE = system("worse", 3.0, 70.0, 6.0, 80.0)


def line(of, corner):
    (text,) = [text for text in report.reading(of) if text.startswith(corner)]
    return text


def test_the_reading_names_the_first_of_each_corner_and_the_front():
    of = results(FAST, GOOD, WORSE)
    assert "good is first" in line(of, "Quality") and "2.0 times that of real images" in line(of, "Quality")
    assert "fast is first" in line(of, "Speed") and "50 times as much" in line(of, "Speed")
    assert "97 % of what real images reach" in line(of, "Diversity")
    assert "fast and good lie on the Pareto front" in line(of, "Trade-off")
    assert "worse does not: fast and good are at least as good" in line(of, "Trade-off")


def test_scores_that_disagree_give_no_clear_order():
    of = results(system("a", 1.0, 50.0, 1.0, 90.0), system("b", 2.0, 90.0, 1.0, 90.0))
    assert line(of, "Quality") == "Quality: no clear order: a is first by FD, b is first by sure share."
    assert "a and b are level" in line(of, "Speed")


def test_the_table_is_aligned_marks_the_best_and_shows_gaps():
    text = report.table(results(FAST, system("gap", None, 90.0, float("nan"), 95.0)))
    block = text.split("\n\n")[0].splitlines()
    assert all(len(row) <= 100 for row in block)
    rows = {row.split()[0]: row for row in block if row.strip()}
    assert "–" in rows["gap"] and "*90.0" in rows["gap"] and "98.0" in rows["real"]
    rules = [row for row in block if set(row) == {"─"}]
    assert len(rules) == 2 and len(set(map(len, rules))) == 1


def test_the_page_is_one_file_and_escapes_what_it_shows(tmp_path):
    write_png(str(tmp_path / "grid.png"), np.zeros((4, 8, 8, 1), np.uint8))
    of = results(FAST, GOOD, system("no <i>score</i>", None, None, None, None))
    path = report.write(of, tmp_path)
    page = open(path).read()
    assert "<b>test" not in page and "<i>score" not in page and "&lt;b&gt;test" in page
    assert not re.search(r"(src|href|srcset)=\"(?!data:)", page) and "<script" not in page and "@import" not in page
    assert page.count("data:image/png") >= 4 + 2 * 3
    saved = json.loads((tmp_path / "results.json").read_text())
    assert saved["systems"][0]["scores"]["fd"]["values"] == pytest.approx([1.99, 2.01])
    before = (tmp_path / "report.html").read_bytes()
    report.write(copy.deepcopy(of), tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before


def test_missing_pictures_and_unknown_corners_are_named(tmp_path):
    with pytest.raises(InputError, match="grid.png"):
        report.write(results(FAST), tmp_path)
    odd = results(FAST)
    odd["scores"] = [{**SCORES[0], "corner": "qualty"}]
    with pytest.raises(InputError, match="did you mean quality"):
        report.table(odd)
