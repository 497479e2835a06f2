"""Constructed results for the tests of the report."""

from dataclasses import replace

from jaxgen.report import Estimate, Results, Score, System


def score(id, corner, better, unit="", digits=2, floor=None, main=True):
    floor = None if floor is None else Estimate(floor, 0.004, (floor - 0.004, floor + 0.004))
    return Score(id, id, corner, better == "higher", unit, digits, f"What {id} means.", main, floor)


FD = score("fd", "quality", "lower", floor=0.5)
SURE = score("sure", "quality", "higher", "%", 1)
KID = score("kid", "quality", "lower", digits=4, floor=0.001, main=False)
MS = score("ms", "speed", "lower", "ms", 3)
COVER = score("coverage", "diversity", "higher", "%", 1, floor=0.98)
COPIES = score("copies", "check", "lower", digits=0)
SCORES = (FD, SURE, KID, MS, COVER, COPIES)


def system(name, fd=None, ms=None, coverage=None, kid=None, sure=None, std=0.01, **fields):
    values = {FD: fd, SURE: sure, KID: kid, MS: ms, COVER: coverage, COPIES: 0.0}
    scores = {
        of.id: Estimate(value, std, (value - std, value + std))
        for of, value in values.items()
        if value is not None
    }
    return replace(System(name, scores=scores), **fields)


def results(*systems, scores=SCORES, **fields):
    return Results("A <b>test</b>", systems, scores, **fields)
