"""The values that a report is made of: to JSON and back, from old records and from NaN."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgen import report
from jaxgen.errors import InputError
from jaxgen.report.results import NONE

RECORDS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
numbers = st.none() | st.floats() | st.integers(-5, 5)
estimates = st.fixed_dictionaries(
    {"mean": numbers, "std": numbers, "values": st.lists(numbers, max_size=3)}
)


def comparison(values, floor=None):
    score = {"id": "a", "name": "A", "corner": "speed", "higher_is_better": True, "floor": floor}
    systems = [{"name": f"s{i}", "scores": {"a": value}} for i, value in enumerate(values)]
    return {"title": "T", "systems": systems, "scores": [score]}


@given(st.lists(estimates, max_size=4), st.none() | estimates)
def test_json_gives_the_same_values_back_and_every_number_is_finite(values, floor):
    results = report.from_json(comparison(values, floor))
    text = json.dumps(report.to_json(results), allow_nan=False)
    assert report.from_json(json.loads(text)) == results
    for value, system in zip(values, results.systems):
        held = system.of(results.scores[0])
        for before, after in zip(
            [value["mean"], value["std"], *value["values"]], [held.mean, held.std, *held.values]
        ):
            assert (
                after == before if before is not None and math.isfinite(before) else after is None
            )
    report.table(results)  # shows all of it


@pytest.mark.parametrize(
    "path",
    [*RECORDS.glob("trilemma*.json"), *RECORDS.glob("ablations/*.json")],
    ids=lambda p: p.stem,
)
def test_the_committed_records_still_load(path):
    record = json.loads(path.read_text())
    results = report.from_json(record)
    for system, held in zip(record["systems"], results.systems):
        means = {name: value["mean"] for name, value in system["scores"].items()}
        assert means == {name: value.mean for name, value in held.scores.items()}
    assert [score.id for score in results.scores] == [score["id"] for score in record["scores"]]
    assert len(report.reading(results)) == 4
    assert report.from_json(report.to_json(results)) == results


def test_an_absent_score_is_an_empty_estimate_and_shares_are_shown_in_per_cent():
    results = report.from_json(comparison([{}]))
    assert results.systems[0].of(report.Score("b", "B", "speed", True)) == NONE
    share = report.Score("c", "C", "quality", True, unit="%")
    assert report.Estimate(0.5, 0.25).scaled(share.scale) == report.Estimate(50.0, 25.0)


def test_multiples_of_real_images():
    score = report.Score("a", "A", "quality", False, floor=report.Estimate(0.5, 0.004))
    assert score.times_real(report.Estimate(1.0)) == 2.0 and score.times_real(NONE) is None
    for floor in (None, report.Estimate(None), report.Estimate(-1.0), report.Estimate(0.5, 0.5)):
        assert replace(score, floor=floor).times_real(report.Estimate(1.0)) is None


def test_what_is_no_comparison_is_said_in_one_line():
    with pytest.raises(InputError, match="axis 'width' has 1 values for 2 systems"):
        report.from_json(comparison([{}, {}]) | {"axis": {"name": "width", "values": [1.0]}})
    with pytest.raises(InputError, match="not a comparison's results: .*'title'"):
        report.from_json({})
    odd = comparison([])
    odd["scores"][0]["corner"] = "sped"
    with pytest.raises(InputError, match="did you mean speed"):
        report.from_json(odd)
