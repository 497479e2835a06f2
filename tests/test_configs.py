"""Every config runs in its smoke mode, says how to run it, and samples images of its shape."""

from pathlib import Path

import jax
import jax.export
import pytest

from jaxgen import config as config_lib
from jaxgen import data, families, training
from jaxgen.runs import open_run
from jaxgen.sampling import conditions, rows_of
from jaxgen.training import parallel, players, state, step

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("configs/*/*.py"))


def test_all_named_systems_are_there():
    for dataset in ("digits", "mnist", "cifar10"):
        for system in ("vae", "gan", "vae_gan", "ddpm"):
            assert f"configs/{dataset}/{system}.py" in CONFIGS


# the others are the same systems, or parts of them
QUICK = ("configs/digits/ddpm.py", "configs/digits/vae_gan.py")
SMOKE = [path if path in QUICK else pytest.param(path, marks=pytest.mark.slow) for path in CONFIGS]


@pytest.mark.slow
@pytest.mark.parametrize("path", SMOKE)
def test_smoke(path, tmp_path, monkeypatch):
    # compiled faster; for several see test_parallel
    monkeypatch.setattr(jax, "devices", lambda: jax.local_devices()[:1])
    config = config_lib.load(f"{ROOT / path}:smoke")
    config.train.steps = 2
    result = training.train(config, str(tmp_path), progress=False, report=lambda text: None)
    assert int(result.state.step) == 2 and int(result.state.bad_step) == -1
    run = open_run(str(tmp_path))
    spec = run.family.data.conditions
    held_out = data.from_config(config, "validation").everything()
    condition = conditions(spec, 3, rows=rows_of(config, spec, held_out, 3))
    samples = run.sample(3, condition=condition, batch_size=4)
    assert samples.shape == (3, *config.data.image_shape) and samples.dtype == run.space.dtype


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in CONFIGS if "cifar10" in path])
@pytest.mark.parametrize("backend, platform", [("gpu", "cuda"), ("tpu", "tpu")])
def test_the_train_step_is_a_program_for_accelerators(path, backend, platform, monkeypatch):
    """As far as JAX goes without one: the networks take other ways there than on a CPU."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    config = config_lib.load(f"{ROOT / path}:smoke")
    config.precision.compute = "bfloat16"
    family = families.build(config)
    table, way = players.build(config, family), parallel.one_device()
    per_step = players.batches_per_step(table)
    rows = (config.train.batch_size,) if per_step == 1 else (per_step, config.train.batch_size)
    batch = {"image": jax.ShapeDtypeStruct((*rows, *config.data.image_shape), "uint8")}
    batch["label"] = jax.ShapeDtypeStruct(rows, "int32")
    now = jax.eval_shape(state.initial(config, family, table))
    program = jax.export.export(
        jax.jit(step.build(config, family, table, way)), platforms=[platform]
    )(now, batch)
    assert program.platforms == (platform,)
    count = len(jax.tree.leaves(now))
    assert program.out_avals[:count] == program.in_avals[:count], (
        "the new state is like the old one"
    )


@pytest.mark.parametrize("path", CONFIGS)
def test_the_full_config_is_valid_and_documented(path):
    config = config_lib.load(str(ROOT / path))
    config_lib.check(config)
    text = (ROOT / path).read_text()
    assert f"jaxgen train --config={path}" in " ".join(text.split()), (
        "the docstring shows the command"
    )
    assert config_lib.from_json(config_lib.to_json(config)).to_dict() == config.to_dict()
