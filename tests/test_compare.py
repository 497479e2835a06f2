"""The whole way from an experiment file to the report, on a tiny scale."""

import json
from pathlib import Path

import pytest

from jaxgen import config as config_lib
from jaxgen.compare import compare
from jaxgen.errors import InputError

ROOT = Path(__file__).resolve().parent.parent


def tiny(monkeypatch, *systems):
    monkeypatch.chdir(ROOT)
    experiment = config_lib.load("experiments/trilemma.py:smoke")
    experiment.systems = systems or experiment.systems[:2]
    return experiment


def test_compare_trains_measures_and_reports(monkeypatch, tmp_path):
    experiment = tiny(monkeypatch)
    results, path = compare(experiment, str(tmp_path), progress=False)
    assert Path(path).read_text().startswith("<!DOCTYPE html>")
    saved = json.loads((tmp_path / "results.json").read_text())
    assert [s["name"] for s in saved["systems"]] == ["VAE", "GAN"]
    for system in results["systems"]:
        assert {"confident", "frechet", "latency_ms", "coverage", "smallest_class", "copies"} <= set(system["scores"])
        assert len(system["scores"]["frechet"]["values"]) == len(experiment.evaluation.seeds)
        assert (tmp_path / system["grid"]).stat().st_size > 0
    # a second call finds everything trained, and gives the same scores
    again, _ = compare(experiment, str(tmp_path), progress=False)
    for one, two in zip(results["systems"], again["systems"], strict=True):
        assert one["scores"]["frechet"] == two["scores"]["frechet"]
        assert one["training"] == two["training"]


def test_systems_must_share_their_data(monkeypatch, tmp_path):
    experiment = tiny(monkeypatch, "configs/digits/vae.py", "configs/mnist/gan.py")
    with pytest.raises(InputError, match="other data"):
        compare(experiment, str(tmp_path), progress=False)
    assert not any(tmp_path.iterdir())
