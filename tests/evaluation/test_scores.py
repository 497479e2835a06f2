"""The table of scores: its rows, rows from outside, what is shared, and whose image is to blame."""

import ast
from pathlib import Path

import numpy as np
import pytest

import jaxgen.evaluation
from jaxgen.errors import InputError
from jaxgen.evaluation import metrics, scores, sets
from jaxgen.evaluation.features import Extractor, Features
from tests.support import images, normal


def extractor(name):
    """The pixels themselves, and whether an image is bright as the probabilities of two classes."""

    def extract(x):
        vectors = x.reshape(len(x), -1).astype(np.float32)
        bright = (vectors.mean(axis=1) > 100).astype(int)
        return Features(vectors, np.eye(2)[bright])

    return Extractor(name, extract, name, {})


def given(*extractors, real=None, generated=None):
    pictures = [images(seed, 30, 3, 3, 1) for seed in (0, 1)]
    real = sets.view("real.npz", pictures[0] if real is None else real, extractors)
    made = sets.view("made.npz", pictures[1] if generated is None else generated, extractors)
    return sets.pairs(real, made, extractors)


def test_every_row_is_complete_and_of_something_known():
    for row in scores.SCORES:
        assert row.of in scores.OF and row.corner in scores.CORNERS and callable(row.measure)
        assert row.better in ("higher", "lower") and row.explain and row.name


def test_ids_and_names_carry_their_extractor():
    rows = {row.id: row for row in scores.table([extractor("PCA9"), extractor("Inception64")])}
    assert rows["frechet"].name == "FD-PCA9"
    assert rows["kernel_inception64"].name == "KID-Inception64"
    assert rows["coverage"].main and not rows["coverage_inception64"].main
    assert "inception_score" not in rows and "confident" not in rows and "modes" not in rows
    assert "inception_score_all" in {r.id for r in scores.table([extractor("Inception2048")])}
    described = scores.describe(rows.values())
    assert {d["id"] for d in described} == set(rows) and "{" not in str([*rows])
    assert not any("{" in d["name"] + d["explain"] for d in described)


def test_scores_that_share_distances_compute_them_once(monkeypatch):
    calls, inner = [], metrics.precision_recall_density_coverage

    def counted(*arguments, **options):
        calls.append(1)
        return inner(*arguments, **options)

    monkeypatch.setattr(metrics, "precision_recall_density_coverage", counted)
    extractors = extractor("A"), extractor("B")
    found = scores.measure(scores.table(extractors), given(*extractors))
    assert {"precision", "recall_b", "density", "coverage_b"} <= set(found) and len(calls) == 2


def test_a_score_from_outside_is_measured_and_described(tmp_path, monkeypatch):
    (tmp_path / "own_scores.py").write_text("""
from jaxgen.evaluation.scores import Score
gap = Score("gap", "gap of means in {extractor}", "quality", "", 2, "lower", "Largest gap.",
            "features", lambda p: float(abs(p.real.mean(0) - p.generated.mean(0)).max()), main=1)
wrong, other = gap._replace(of="pixels"), gap._replace(corner="beauty")
double, number = gap._replace(id="frechet"), 3
""")
    monkeypatch.syspath_prepend(tmp_path)
    pixels = extractor("A")
    rows = scores.table([pixels], outside=("own_scores:gap",))
    expected = np.abs(images(0, 30, 9).mean(0) - images(1, 30, 9).mean(0)).max()
    assert scores.measure(rows, given(pixels))["gap"] == pytest.approx(expected, rel=1e-5)
    assert scores.describe(rows)[-1]["name"] == "gap of means in A"
    for name, message in (
        ("wrong", "unknown of 'pixels'"), ("other", "unknown corner"), ("double", "two scores"),
        ("number", "is a int, not"), ("none", "has no 'none'"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            scores.table([pixels], outside=(f"own_scores:{name}",))


def test_an_image_that_a_metric_cannot_use_is_named_with_its_set():
    black = images(1, 30, 3, 3, 1)
    black[7] = 0
    pixels = extractor("A")
    with pytest.raises(InputError, match="made.npz: image 7: what Vendi-A sees in it holds only"):
        scores.measure(scores.table([pixels]), given(pixels, generated=black))

    def holes(x):
        return Features(np.where(x[:, 0, 0] == 0, np.nan, 1.0), None)

    broken = Extractor("A", holes, "", {})
    with pytest.raises(InputError, match="real.npz: image 7: what FD-A sees in it holds NaN"):
        scores.measure(scores.table([broken]), given(broken, real=black, generated=black + 1))


def test_a_set_that_an_extractor_refuses_is_named():
    def refuse(x):
        raise InputError("they have 4 channels")

    with pytest.raises(InputError, match="made.npz: they have 4 channels"):
        sets.view("made.npz", normal(0, 3, 3), [Extractor("A", refuse, "", {})])


def test_a_view_of_a_view_knows_the_numbers_of_its_images():
    pictures = images(0, 10, 3, 3, 1)
    some = sets.view("a", pictures, [extractor("A")], np.array([8, 2, 5])).take(slice(1, 3))
    assert list(some.index) == [2, 5] and some.features["A"].vectors.shape == (2, 9)
    np.testing.assert_array_equal(some.images, pictures[[2, 5]])


def test_evaluation_knows_samples_and_features_only():
    """Where a system is measured, its family and its sampler are known; training is nowhere."""
    folder = Path(jaxgen.evaluation.__file__).parent
    for path in folder.rglob("*.py"):
        tree = ast.walk(ast.parse(path.read_text()))
        modules = [f"{node.module}." for node in tree if isinstance(node, ast.ImportFrom)]
        assert not any(m.startswith("jaxgen.training.") for m in modules), path
        if path.name not in ("measure.py", "speed.py", "likelihood.py"):
            known = ("jaxgen.families.", "jaxgen.sampling.", "jaxgen.networks.")
            assert not any(m.startswith(known) for m in modules), path
