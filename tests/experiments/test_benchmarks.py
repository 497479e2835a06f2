"""The benchmark scripts run; their numbers are for a quiet machine."""

import functools
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


@pytest.fixture
def script(monkeypatch):
    """name -> the script of that name as a module, importing from its folder as if it were run."""
    monkeypatch.syspath_prepend(EXPERIMENTS)
    return importlib.import_module


@pytest.mark.slow
def test_the_sampler_benchmark_writes_a_record_with_its_protocol(script, tmp_path):
    script("benchmark_sampler").main(["--smoke", f"--out={tmp_path}/sampler.json"])
    record = json.loads((tmp_path / "sampler.json").read_text())
    assert {len(values) for values in record["seconds"].values()} == {3}
    assert record["ratio"]["lowest"] <= record["ratio"]["median"] <= record["ratio"]["highest"]
    assert record["compile_median"] > 0
    assert record["protocol"].startswith("Protocol: ")
    assert {"machine", "load", "commit"} <= set(record)


@pytest.mark.slow
def test_the_input_benchmark_measures_streams_and_the_device(script, tmp_path):
    script("benchmark_input").main(["--smoke", f"--out={tmp_path}/input.json"])
    record = json.loads((tmp_path / "input.json").read_text())
    sides = {"digits, threads", "synthetic, threads"}
    assert set(record["images_per_second"]) == set(record["images_per_second_per_core"]) == sides
    assert all(value > 0 for values in record["microseconds_per_step"].values() for value in values)
    assert record["protocol"].startswith("Protocol: ")


@pytest.mark.slow
def test_the_evaluation_benchmark_measures_time_and_memory(script, tmp_path):
    script("benchmark_evaluation").main(["--smoke", f"--out={tmp_path}/size.json"])
    (case,) = json.loads((tmp_path / "size.json").read_text())["cases"].values()
    assert set(case["seconds"]) == {"references", "scores", "record"} and case["peak_gib"] > 0


def test_the_ratio_is_taken_repeat_by_repeat(script):
    common, counts = (
        script("benchmark_common"),
        {"a": iter([2.0, 8.0, 6.0]), "b": iter([1.0, 4.0, 6.0])},
    )
    measured = common.interleave(
        {name: lambda values=values: next(values) for name, values in counts.items()}, 3
    )
    assert measured == {"a": [2.0, 8.0, 6.0], "b": [1.0, 4.0, 6.0]}
    assert common.compare(measured, "a", "b") == {"median": 2.0, "lowest": 1.0, "highest": 2.0}


@pytest.fixture
def benchmark(script, monkeypatch):
    """The suite with a small transformer added."""
    pytest.importorskip("torch")
    module = script("benchmark")
    small = dict(name="dit", size="B/2", width=16, depth=2, heads=2)
    workload = module.Workload(module.DDPM, module.diffusion(8, 4, 2, **module.LATENT), small)
    monkeypatch.setitem(module.WORKLOADS, "small_dit", workload)
    return module


@pytest.mark.parametrize("name", ["mlp_vae", "unet_8", "small_dit"])
def test_both_sides_of_the_benchmark_are_the_same_function(benchmark, name):
    assert benchmark.largest_difference(name)() < benchmark.TOLERANCE


@pytest.mark.slow
def test_both_sides_of_the_benchmark_train(benchmark):
    assert benchmark.ours("mlp_vae")(2) > 0
    for name in ("mlp_vae", "small_dit"):
        assert benchmark.theirs(name, False, "cpu")(2) > 0


def test_a_side_that_cannot_run_is_reported(script):
    missing = {}
    # a measures how many steps it was given
    makers = {"a": (functools.partial, float), "b": (functools.partial, None)}
    rates, steps = script("benchmark_common").race(makers, repeats=2, seconds=0, missing=missing)
    assert rates == {"a": [1.0, 1.0]} and steps == {"a": 1}
    assert missing["b"].startswith("TypeError")


def run(name, *arguments):
    """A script in a process of its own, on one device as it is meant to run."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment["PYTHONPATH"] = str(EXPERIMENTS.parent)
    command = [sys.executable, str(EXPERIMENTS / f"{name}.py"), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
def test_a_run_that_is_killed_ends_in_the_same_bits(tmp_path):
    run("kill", "--smoke", f"--out={tmp_path}/kill.json")
    record = json.loads((tmp_path / "kill.json").read_text())
    counts = record["counts"]["all"]
    assert (
        counts["kills"]
        == 4
        == sum(counts[phase] for phase in ("start", "compile", "train", "save", "delete"))
    )
    assert counts["failures"] == 0


@pytest.mark.slow
def test_the_startup_benchmark_measures_the_command(tmp_path):
    run("benchmark_startup", "--smoke", f"--out={tmp_path}/startup.json")
    record = json.loads((tmp_path / "startup.json").read_text())
    assert (
        0 < record["processor_seconds"]["vae"][0]
        and 0 < record["seconds"]["vae"][0] < record["cold"]["vae"]["seconds"] * 3
    )


def test_scaling_counts_what_crosses_and_what_is_gathered_at_once(script, tmp_path):
    scaling = script("scaling")
    text = """
ENTRY %main {
  %a = f32[8,4]{1,0} all-gather(%p), channel_id=1, replica_groups=[1,4]<=[4], dimensions={0}
  %b = f32[8,4]{1,0} all-gather(%q), channel_id=2, replica_groups=[2,2]<=[4], dimensions={0}
  %c = f32[8,4]{1,0} add(%a, %b)
  %o = (f32[8,4]{1,0}) opt-barrier(%c)
  %d = f32[8,4]{1,0} all-gather(%p), channel_id=3, replica_groups=[1,4]<=[4], dimensions={0}
  %m = f32[] all-reduce(%n), channel_id=6, replica_groups=mesh['a'=4,'b'=1], device_ids=([4]) {'a'}, to_apply=%add
  %s = f32[2,4]{1,0} reduce-scatter(%d), channel_id=4, replica_groups={{0,1,2,3}}, dimensions={0}
  ROOT %r = (f32[2]{0}, bf16[3]{0}) all-reduce(%x, %y), channel_id=5, replica_groups={{0,1},{2,3}}, to_apply=%add
}
"""  # noqa: E501
    assert scaling.collectives(text) == {
        "all-gather": {"count": 3, "bytes": 3 * 128, "sent": 128 * (3 / 4 + 1 / 2 + 3 / 4)},
        "reduce-scatter": {"count": 1, "bytes": 128, "sent": 96.0},
        "all-reduce": {"count": 2, "bytes": 18, "sent": 20.0},
    }
    assert scaling.at_once(text) == {"forward": 256, "backward": 128}


@pytest.mark.slow
def test_scaling_compiles_the_train_step_for_devices_that_are_not_there(script, tmp_path):
    script("scaling").main(["--smoke", f"--out={tmp_path}/scaling.json"])
    rows = json.loads((tmp_path / "scaling.json").read_text())["rows"]
    assert [row["fsdp"] for row in rows] == [1, 4] * 2
    for whole, divided in (rows[:2], rows[2:]):
        assert set(whole["collectives"]) == {"all-reduce"}
        assert set(divided["collectives"]) == {"all-gather", "reduce-scatter", "all-reduce"}
        assert whole["argument_bytes"] - divided["argument_bytes"] > 0.7 * whole["state_bytes"]
