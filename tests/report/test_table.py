"""Tables in a terminal, whatever its encoding can print."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgen import report
from tests.report.values import SCORES, results, system

ENCODINGS = (
    "ascii",
    "cp1252",
    "latin-1",
    "cp437",
    "koi8-r",
    "shift_jis",
    "utf-8",
    "nonsense",
    None,
)


def test_the_table_is_aligned_marks_the_best_and_shows_gaps():
    fast, gap = system("fast", 2.0, 0.1, 0.9, sure=0.8), system("gap", None, None, 0.95, sure=0.9)
    text = report.table(results(fast, gap))
    block = text.split("\n\n")[0].splitlines()
    assert all(len(row) <= 100 for row in block) and "kid" not in text
    rows = {row.split()[0]: row for row in block if row.strip()}
    assert "–" in rows["gap"] and "*90.0 ±1.0" in rows["gap"] and "98.0 ±0.4" in rows["real"]
    rules = [row for row in block if set(row) == {"─"}]
    assert len(rules) == 2 and len(set(map(len, rules))) == 1


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_table_stays_aligned_on_any_terminal(encoding):
    of = results(system("β-VAE × é∞", 2.0, 0.1, 0.9), system("b", 1.0, 0.2, 0.8))
    text = report.table(of, encoding)
    text.encode("ascii" if encoding in ("nonsense", None) else encoding)
    header, rule, *rows, below, _ = text.split("\n\n")[0].splitlines()[-6:]
    assert len(rule) == len(below) and all(len(row) <= len(rule) for row in (header, *rows))
    if encoding == "ascii":
        assert "beta-VAE x einf" in text and "2.00 +-0.01" in text and "^ higher is better" in text


@given(st.text(), st.sampled_from(ENCODINGS[:-2]))
def test_what_can_be_printed_is_left_and_all_else_can_be(text, encoding):
    printed = report.printable(text, encoding)
    printed.encode(encoding)
    assert report.printable(printed, encoding) == printed
    assert printed == text or not possible(text, encoding)


def possible(text, encoding):
    try:
        return bool(text.encode(encoding)) or not text
    except UnicodeEncodeError:
        return False


def test_the_record_of_one_evaluation():
    values = {"mean": 1.0, "std": 0.01}
    found = {
        "scores": {
            "fd": values,
            "coverage": {"mean": 0.9, "std": 0.0},
            "ms": {"mean": float("nan")},
        },
        "floors": {"fd": {"mean": 0.5, "std": 0.0}},
    }
    described = [vars(score) | {"floor": None} for score in SCORES]
    assert [line.split() for line in report.record_table(found, described).splitlines()] == [
        ["score", "real", "images"],
        ["fd", "1.00", "±", "0.01", "0.50", "(x", "2.00)"],
        ["ms", "–", "ms"],
        ["coverage", "90.0", "%"],
    ]
