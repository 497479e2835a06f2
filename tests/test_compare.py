"""The whole way from an experiment file to the report, on a tiny scale."""

import json
from pathlib import Path

import pytest
from PIL import Image

from jaxgen import config as config_lib
from jaxgen import families, report
from jaxgen.compare import compare, find, load_systems, write_grid
from jaxgen.errors import InputError
from jaxgen.evaluation import protocol, record
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


def test_compare_trains_measures_and_reports(monkeypatch, tmp_path):
    experiment = tiny()
    monkeypatch.setattr(record, "commit", lambda: "abc")  # not that of files just being edited
    results, path = compare(experiment, str(tmp_path), progress=False)
    assert Path(path).read_text().startswith("<!DOCTYPE html>")
    assert report.from_json(json.loads((tmp_path / "results.json").read_text())) == results
    assert [system.name for system in results.systems] == ["VAE", "GAN"]
    scores = {"confident", "frechet", "latency_ms", "coverage", "smallest_class", "copies"}
    for system in results.systems:
        assert scores <= set(system.scores)
        frechet = system.scores["frechet"]
        assert len(frechet.values) == len(experiment.evaluation.seeds) and frechet.times_floor
        assert (tmp_path / system.grid).stat().st_size > 0
    # a second call finds everything trained and measured
    monkeypatch.setattr(protocol, "evaluate", None)
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
def test_a_grid_of_large_images_has_fewer_of_them(tmp_path, side, count):
    write_grid(str(tmp_path / "grid.png"), images(0, 100, side, side, 1))
    with Image.open(tmp_path / "grid.png") as grid:
        shown = round((grid.width * grid.height / side**2) ** 0.5 / max(1, round(32 / side) * 2))
    assert shown**2 == count
