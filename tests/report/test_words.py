"""Values as text, and what the report says of constructed results, worked out by hand."""

from dataclasses import replace

from jaxgen import report
from jaxgen.report import Estimate
from jaxgen.report.words import amount, deviation, number
from tests.report.values import COPIES, COVER, FD, KID, MS, SCORES, SURE, results, system

FAST, GOOD = (
    system("fast", 2.0, 0.1, 0.90, 0.003, 0.80),
    system("good", 1.0, 5.0, 0.95, 0.003, 0.90),
)
WORSE = system("worse", 3.0, 6.0, 0.80, 0.003, 0.70)


def line(of, corner):
    (text,) = [text for text in report.reading(of) if text.startswith(corner)]
    return text


def test_values_as_text():
    assert number(0.975, COVER) == "97.5" and amount(0.975, COVER) == "97.5 %"
    assert number(None, FD) == "–" and number(12.345, FD) == "12.35" and number(0.0, FD) == "0.00"
    # where the digits would leave fewer than two significant ones
    assert number(0.0034, MS) == "0.0034" and number(0.00299, MS) == "0.0030"
    assert number(0.0079, COVER) == "0.79" and number(2e-6, KID) == "2.0e-06"
    assert number(3.0, COPIES) == "3" and number(1 / 3, COPIES) == "0.33"
    assert deviation(Estimate(0.975, 0.0047), COVER) == "±0.5"
    assert deviation(Estimate(1.0, 0.0001), FD) == "±0.0001"
    assert deviation(Estimate(1.0, 0.0), FD) == "" == deviation(Estimate(None, 0.1), FD)


def test_the_reading_names_the_first_of_each_corner_and_the_front():
    of = results(FAST, GOOD, WORSE)
    assert "good is first" in line(of, "Quality")
    assert "2.0 times that of real images" in line(of, "Quality")
    assert "fast is first" in line(of, "Speed") and "50 times as much" in line(of, "Speed")
    assert "97 % of what real images reach" in line(of, "Diversity")
    assert "fast and good lie on the Pareto front" in line(of, "Trade-off")
    assert "worse does not: fast and good are at least as good" in line(of, "Trade-off")


def test_scores_that_disagree_give_no_clear_order():
    of = results(system("a", 1.0, 1.0, 0.9, 0.1, 0.5), system("b", 2.0, 1.0, 0.9, 0.001, 0.9))
    assert line(of, "Quality") == "Quality: no clear order: a is first by fd, b is first by sure."
    assert "a and b are level" in line(of, "Speed")
    # KID, which is no main score, has no say
    without = replace(of, scores=tuple(each for each in SCORES if each is not SURE))
    assert line(without, "Quality").startswith("Quality: a is first: fd 1.00")
    three = [
        system(n, fd, 1.0, 0.9, sure=s) for n, fd, s in zip("abc", (1, 1.005, 2), (0.8, 0.9, 0.7))
    ]
    said = line(results(*three), "Quality")
    assert said.startswith(
        "Quality: a and b are level, within one standard deviation: fd 1.00 and "
    )
    assert said.endswith("c follows with 2.00. By sure, b is first.")


def test_the_reading_of_many_systems_stays_short():
    many = [system(f"KL × {i}", 1.0 + i, 1.0 + i / 10, 0.9, std=0.0) for i in range(6)]
    many += [system(f"DDIM {i}", 1.0 - i / 100, 10.0 * i, 0.9, std=0.0) for i in range(1, 7)]
    of = results(*many)
    assert line(of, "Diversity").startswith("Diversity: KL × 0 and 11 others are level")
    assert (
        "5 systems do not, since another is at least as good in every corner: KL × 1 (KL × 0), "
        "KL × 2 (KL × 0" in line(of, "Trade-off")
    )
    assert all(len(text) < 500 for text in report.reading(of))
