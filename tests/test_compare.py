"""The whole way from an experiment file to the report, on a tiny scale."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from jaxgen import compare as compare_lib
from jaxgen import config as config_lib
from jaxgen import families, report
from jaxgen.compare import compare, find, load_systems, write_grid
from jaxgen.errors import InputError
from jaxgen.evaluation import measure, record, reference, scores
from jaxgen.training import logging
from tests.support import images

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def another_folder(monkeypatch, tmp_path):
    """Systems are found from the experiment's file, wherever the command is called."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path / "cache"))


def tiny(*systems):
    experiment = config_lib.load(str(ROOT / "experiments" / "trilemma.py:smoke"))
    experiment.systems = systems or experiment.systems[:2]
    return experiment


@pytest.mark.slow
def test_compare_trains_measures_and_reports(monkeypatch, tmp_path):
    experiment = tiny()
    monkeypatch.setattr(record, "commit", lambda: "abc")  # not that of files just being edited
    results, path = compare(experiment, str(tmp_path), progress=False)
    assert Path(path).read_text().startswith("<!DOCTYPE html>")
    assert report.from_json(json.loads((tmp_path / "results.json").read_text())) == results
    assert [system.name for system in results.systems] == ["VAE", "GAN"]
    expected = {"confident", "frechet", "latency_ms", "coverage", "smallest_class", "copies"}
    for system in results.systems:
        assert expected <= set(system.scores)
        frechet = system.scores["frechet"]
        assert len(frechet.values) == len(experiment.evaluation.seeds)
        assert (tmp_path / system.grid).stat().st_size > 0
    # a second call finds everything trained and measured
    monkeypatch.setattr(measure, "evaluate", None)
    again, _ = compare(experiment, str(tmp_path), require=["latency_ms<=1e6"], progress=False)
    assert again.systems == results.systems and again.requirements == ("latency_ms<=1e6",)


@pytest.mark.slow
def test_variants_that_differ_in_sampling_share_a_training_run(tmp_path):
    experiment = config_lib.load(str(ROOT / "experiments" / "ablations" / "eta.py:smoke"))
    experiment.systems = experiment.systems[::4]
    results, _ = compare(experiment, str(tmp_path), progress=False)
    one, two = results.systems
    assert [one.sampler["eta"], two.sampler["eta"]] == [0.0, 1.0] == list(results.axis.values)
    assert one.workdir == two.workdir and one.scores["frechet"] != two.scores["frechet"]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments" / "ablations").glob("*.py")), ids=lambda path: path.stem
)
def test_the_systems_of_an_ablation_can_be_built(path):
    for mode in ("", ":smoke"):
        systems = load_systems(config_lib.load(f"{path}{mode}"))
        assert len(systems) >= 2
        for system in systems:
            families.build(system.config)


def test_systems_must_share_their_data(tmp_path):
    experiment = tiny("configs/digits/vae.py", "configs/mnist/gan.py")
    with pytest.raises(InputError, match="other data"):
        compare(experiment, str(tmp_path / "run"), progress=False)
    assert not (tmp_path / "run").exists()


def test_a_system_is_found_from_the_experiment_upwards_from_here_or_from_home(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    experiment = str(tmp_path / "project" / "experiments" / "mine.py")
    for place in ("project/experiments/a.py", "project/b.py", "here/c.py", "home/d.py"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    for path, place in {
        "a.py": "project/experiments/a.py",
        "b.py:smoke": "project/b.py:smoke",
        "c.py": "here/c.py",
        "~/d.py": "home/d.py",
        str(tmp_path / "project" / "b.py"): "project/b.py",
    }.items():
        assert Path(find(path, experiment)).resolve() == tmp_path / place
    with pytest.raises(
        InputError, match=rf"d.py does not exist: .*{experiment[:-8]}.*above.*/here$"
    ):
        find("d.py", experiment)


@pytest.mark.parametrize("side, count", [(8, 100), (28, 100), (64, 100), (100, 36), (256, 16)])
def test_a_grid_of_large_images_has_fewer_of_them(monkeypatch, side, count):
    shown = []
    monkeypatch.setattr(logging, "write_png", lambda path, images: shown.append(len(images)))
    write_grid("grid.png", images(0, 100, side, side, 1))
    assert shown == [count]


def test_the_results_hold_what_was_measured(monkeypatch, tmp_path):
    """With the numbers of a committed record in place of training and measuring."""
    kept = json.loads((ROOT / "benchmarks" / "results" / "trilemma_digits.json").read_text())
    monkeypatch.setattr(compare_lib, "train", lambda *_, **__: SimpleNamespace(signal=None))
    real = SimpleNamespace(source=images(0, 16, 8, 8, 1))
    refs = SimpleNamespace(rows=(), real=real)
    monkeypatch.setattr(reference, "references", lambda *_: refs)
    described = [{k: v for k, v in row.items() if k != "floor"} for row in kept["scores"]]
    monkeypatch.setattr(scores, "describe", lambda *_: described)

    def measured(system, refs, folder, *_):
        write_grid(f"{folder}.png", real.source)
        (found,) = [each for each in kept["systems"] if each["name"] == system.name]
        os.renames(f"{folder}.png", os.path.join(folder, "samples.png"))
        floors = {row["id"]: row["floor"] for row in kept["scores"] if row.get("floor")}
        own = {"sampler": found["sampler"], "guidance": "none", "parameters": "raw"}
        shared = {"step": found["training"]["steps"], "floors": floors, "commit": "abc"}
        return {
            **found,
            **shared,
            "machine": kept["machine"],
            "protocol": {**kept["protocol"], **own},
        }

    monkeypatch.setattr(compare_lib, "measured", measured)
    results, _ = compare(tiny(), str(tmp_path), require=["latency_ms<=5"], progress=False)
    expected = report.from_json(kept)
    assert results.scores == expected.scores and results.protocol == expected.protocol
    assert [s.scores for s in results.systems] == [s.scores for s in expected.systems[:2]]
    assert report.from_json(json.loads((tmp_path / "results.json").read_text())) == results
    with pytest.raises(InputError, match="unknown score 'latency'"):
        compare(tiny(), str(tmp_path), require=["latency<=5"], progress=False)
