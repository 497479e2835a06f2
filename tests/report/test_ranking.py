"""Ranks, fronts, floors and requirements on constructed results, against answers worked out by hand
or by brute force.
"""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from jaxgen import report
from jaxgen.errors import InputError
from jaxgen.report import ranking
from tests.report.values import COVER, FD, MS, SCORES, SURE, results, system

NO_SURE = tuple(each for each in SCORES if each is not SURE)
THREE = results(
    system("good", 1.0, 5.0, 0.95, 0.1),
    system("fast", 2.0, 0.1, 0.90, 0.2),
    system("worse", 3.0, 6.0, 0.80, 0.3),
    scores=NO_SURE,
)


def pick(of, *requirements):
    return report.chosen(replace(of, requirements=requirements))


def starting(lines, label):
    return [line.removeprefix(f"{label}: ") for line in lines if line.startswith(f"{label}: ")]


def test_the_front_is_the_one_of_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(20):
        # few values, so that ties and equal systems come about
        values = rng.integers(0, 4, (6, 3)).astype(float)
        of = results(*(system(f"s{i}", *row) for i, row in enumerate(values)))
        better = values * [-1, -1, 1]
        expected = {f"s{i}": [] for i in range(6)}
        for i, j in itertools.permutations(range(6), 2):
            if all(better[j] >= better[i]) and any(better[j] > better[i]):
                expected[f"s{i}"].append(f"s{j}")
        assert ranking.beaten_by(of, [FD, MS, COVER]) == expected


def test_only_main_scores_lead():
    kid = replace(THREE, scores=THREE.scores[1:2] + THREE.scores[:1] + THREE.scores[2:])
    assert [score.id for score in kid.by_corner][:2] == ["kid", "fd"]
    assert kid.main("quality") == [FD] and kid.leading == [FD, MS, COVER]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("latency_ms<=5", ("latency_ms", "<=", 5.0)),
        ("coverage>=0.8", ("coverage", ">=", 0.8)),
        (" coverage >= 80% ", ("coverage", ">=", 0.8)),
        ("kid<1e-3", ("kid", "<", 0.001)),
        ("frechet_inception-2048>.5", ("frechet_inception-2048", ">", 0.5)),
        ("kid>-2.5E-1", ("kid", ">", -0.25)),
    ],
)
def test_requirements_are_read(text, expected):
    known = [replace(MS, id=name) for name in ("latency_ms", "kid", "frechet_inception-2048")]
    score, sign, bound = ranking.requirement(text, [*known, COVER])
    assert (score.id, sign) == expected[:2] and bound == pytest.approx(expected[2], rel=1e-12)


@pytest.mark.parametrize(
    "text",
    ["", "coverage", "coverage=0.8", "coverage=>0.8", "<=5", "a<=b", "a<=5ms", "a<=nan", "1<a<=2"],
)
def test_text_that_is_no_requirement(text):
    with pytest.raises(InputError, match=r"cannot read the requirement.*latency_ms<=5") as caught:
        ranking.requirement(text, SCORES)
    assert "\n" not in str(caught.value)


def test_requirements_that_the_scores_do_not_allow():
    with pytest.raises(
        InputError, match=r"did you mean coverage\? \(known: copies, coverage, fd, kid, ms\)"
    ):
        pick(THREE, "covrage>=0.8")
    with pytest.raises(InputError, match="known: copies, coverage, fd, kid, ms"):
        pick(THREE, "zzz>=0.8")
    with pytest.raises(InputError, match="write 0.8 or 80%"):
        pick(THREE, "coverage>=80")
    with pytest.raises(InputError, match="per cent, but ms is in ms"):
        pick(THREE, "ms<=80%")


def test_the_best_of_the_front_that_meets_all_comes_first():
    lines = pick(THREE, "coverage>=85%", "ms<=10")
    assert lines[0] == "Required: coverage at least 85 % and ms at most 10 ms, by the means."
    assert starting(lines, "First") == [
        "good, the best of the 2 systems of the Pareto front that meet all (fd 1.00)."
    ]
    assert starting(lines, "Next") == [
        "fast with 2.00; better than good in ms (0.100 ms against 5.000 ms)."
    ]
    assert starting(lines, "Out") == ["worse with coverage 80.0 % (at least 85 %)."]
    lines = pick(THREE, "ms<=1")
    assert starting(lines, "First") == [
        "fast, the only system of the Pareto front that meets all (fd 2.00)."
    ]
    assert starting(lines, "Out") == [
        "good with ms 5.000 ms (at most 1 ms).",
        "worse with ms 6.000 ms (at most 1 ms).",
    ]
    assert pick(THREE) == []


def test_a_system_that_meets_all_behind_the_front():
    lines = pick(THREE, "coverage>=0.8")  # at the bound is met
    assert starting(lines, "First") == [
        "good, the best of the 2 systems of the Pareto front that meet all (fd 1.00)."
    ]
    assert starting(lines, "Also") == [
        "worse meets all, but good and fast are at least as good in every corner."
    ]
    assert starting(pick(THREE, "fd<=1"), "First")[0].startswith("good, the only")
    assert starting(pick(THREE, "fd<1"), "First") == ["no system meets all requirements."]
    lines = pick(THREE, "kid>0.25")
    assert starting(lines, "First") == ["worse, the only system that meets all (fd 3.00)."]
    (said,) = starting(lines, "Pareto")
    assert (
        "no system of the front meets all" in said and "good and fast are at least as good" in said
    )


def test_no_system_meets_all():
    lines = pick(THREE, "coverage>0.95", "fd<1.5", "kid<0.15")
    assert starting(lines, "First") == ["no system meets all requirements."]
    assert starting(lines, "Nearest") == ["good with coverage 95.0 % (more than 95 %)."]
    assert [line.split()[0] for line in starting(lines, "Out")] == ["fast", "worse"]
    # the fewest misses come first, then the smallest beside the bound
    of = results(
        system("far", 9.0, 9.0, 0.9),
        system("close", 1.0, 1.2, 0.9),
        system("middle", 1.0, 4.0, 0.9),
    )
    lines = pick(of, "ms<=1", "fd<=2")
    assert [line.split()[:2] for line in lines[2:]] == [
        ["Nearest:", "close"],
        ["Out:", "middle"],
        ["Out:", "far"],
    ]
    # values that round to the bound get digits until they differ from it
    (said,) = starting(pick(results(system("a", 1.0004, 1.0, 0.9)), "fd<=1"), "Nearest")
    assert said == "a with fd 1.0004 (at most 1)."


def test_a_missing_score_fails():
    of = results(system("a", 1.0, 1.0), system("b", 2.0, 1.0), system("c", 3.0, 1.0, 0.5))
    lines = pick(of, "coverage>=10%")
    assert starting(lines, "First")[0].startswith("c, the only system")
    assert starting(lines, "Out") == [
        f"{name} with no score for coverage (at least 10 %)." for name in "ab"
    ]
