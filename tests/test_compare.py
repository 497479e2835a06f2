"""The whole way from an experiment file to the report, on a tiny scale."""

import json
from pathlib import Path

import pytest

from jaxgen import config as config_lib
from jaxgen import families
from jaxgen.compare import compare, load_systems
from jaxgen.errors import InputError
from jaxgen.evaluation import measure, record

ROOT = Path(__file__).resolve().parent.parent


def tiny(monkeypatch, *systems):
    monkeypatch.chdir(ROOT)
    experiment = config_lib.load("experiments/trilemma.py:smoke")
    experiment.systems = systems or experiment.systems[:2]
    return experiment


def test_compare_trains_measures_and_reports(monkeypatch, tmp_path):
    experiment = tiny(monkeypatch)
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(record, "commit", lambda: "abc")  # not that of files just being edited
    results, path = compare(experiment, str(tmp_path), progress=False)
    assert Path(path).read_text().startswith("<!DOCTYPE html>")
    saved = json.loads((tmp_path / "results.json").read_text())
    assert [s["name"] for s in saved["systems"]] == ["VAE", "GAN"]
    for system in results["systems"]:
        assert {
            "confident",
            "frechet",
            "latency_ms",
            "coverage",
            "smallest_class",
            "copies",
        } <= set(system["scores"])
        assert len(system["scores"]["frechet"]["values"]) == len(experiment.evaluation.seeds)
        assert (tmp_path / system["grid"]).stat().st_size > 0
    # a second call finds everything trained and measured
    monkeypatch.setattr(measure, "evaluate", None)
    again, _ = compare(experiment, str(tmp_path), require=["latency_ms<=1e6"], progress=False)
    for one, two in zip(results["systems"], again["systems"], strict=True):
        assert one["scores"] == two["scores"]
        assert one["training"] == two["training"]
    assert again["requirements"] == ["latency_ms<=1e6"]


@pytest.mark.slow
def test_variants_that_differ_in_sampling_share_a_training_run(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path / "cache"))
    experiment = config_lib.load("experiments/ablations/eta.py:smoke")
    experiment.systems = experiment.systems[::4]
    monkeypatch.chdir(ROOT)
    results, _ = compare(experiment, str(tmp_path), progress=False)
    assert (
        [s["sampler"]["eta"] for s in results["systems"]] == [0.0, 1.0] == results["axis"]["values"]
    )
    assert len({s["workdir"] for s in results["systems"]}) == 1
    assert results["systems"][0]["scores"]["frechet"] != results["systems"][1]["scores"]["frechet"]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments" / "ablations").glob("*.py")), ids=lambda path: path.stem
)
def test_the_systems_of_an_ablation_can_be_built(monkeypatch, path):
    monkeypatch.chdir(ROOT)
    for mode in ("", ":smoke"):
        systems = load_systems(config_lib.load(f"{path}{mode}"))
        assert len(systems) >= 2
        for system in systems:
            families.build(system.config)


def test_systems_must_share_their_data(monkeypatch, tmp_path):
    experiment = tiny(monkeypatch, "configs/digits/vae.py", "configs/mnist/gan.py")
    with pytest.raises(InputError, match="other data"):
        compare(experiment, str(tmp_path), progress=False)
    assert not any(tmp_path.iterdir())
