"""What README, CONTRIBUTING and docs show works as shown."""

import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import cli, config, families, networks, training
from jaxgen.calls import EVALUATION
from jaxgen.conditions import UNCONDITIONAL, ConditionSpec
from jaxgen.training import logging
from tests.support import close, images, normal
from tests.tiny import tiny

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_linked_file_exists(page):
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", prose):
        assert (page.parent / target).exists(), target


def test_the_readme_fits_on_a_page_and_begins_with_a_picture():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 100 and any(line.startswith("![") for line in lines[:10])


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    """The folder of a tiny VAE's run."""
    folder = str(tmp_path_factory.mktemp("vae"))
    training.train(tiny("vae"), folder, progress=False, report=lambda text: None)
    return folder


def test_a_run_in_a_notebook(vae, capsys):
    (snippet,) = [block for block in blocks("README.md") if "open_run" in block]
    assert len(snippet.splitlines()) <= 10
    exec(compile(snippet.replace("runs/vae", vae), "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("Run(vae: ") and "step 8" in printed[0]
    assert printed[1].startswith("(16, 8, 8, 1) (16, 2) (16, 8, 8, 1) ")


# Your own project


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The files of docs/your_own_project.md in a folder; configs that ship are found from here."""
    folder = tmp_path / "my_project"
    folder.mkdir()
    code = blocks("docs/your_own_project.md")
    for block in code:
        (folder / block.partition("\n")[0].removeprefix("# ")).write_text(block)
    assert sorted(p.name for p in folder.iterdir()) == ["config.py", "experiment.py", "flow.py"]
    assert sum(block.count("\n") for block in code) <= 120
    monkeypatch.chdir(ROOT)
    yield folder
    sys.modules.pop("flow", None)
    sys.path[:] = [place for place in sys.path if place != str(folder)]


def jaxgen(*line) -> None:
    assert cli.main([*line, "--noprogress"]) == 0


@pytest.mark.slow
def test_a_project_of_your_own_trains_resumes_and_samples(project, tmp_path):
    """On eight devices, as all tests see. A stopped run ends in the bits of one never stopped."""
    flags = [f"--config={project}/config.py:smoke", "--config.train.eval_every=2"]
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    jaxgen("train", *flags, f"--workdir={whole}")
    jaxgen("train", *flags, f"--workdir={parts}", "--config.train.steps=2")
    jaxgen("train", *flags, f"--workdir={parts}")
    rows = [
        [{k: v for k, v in row.items() if "loss" in k} for row in logging.read_metrics(each)]
        for each in (whole, parts)
    ]
    assert rows[0] == rows[1] and len(rows[0]) > 2
    jaxgen("sample", f"--workdir={whole}", "--num=4", f"--out={tmp_path}/samples")
    samples = np.load(tmp_path / "samples.npz")["arr_0"]
    assert samples.shape == (4, 8, 8, 1) and samples.dtype == np.uint8


@pytest.mark.slow
def test_a_project_of_your_own_is_measured_and_compared(project, tmp_path):
    flags = [f"--config={project}/config.py:smoke", f"--workdir={tmp_path}/run"]
    jaxgen("train", *flags)
    jaxgen("evaluate", f"--workdir={tmp_path}/run")
    jaxgen("compare", f"--config={project}/experiment.py:smoke", f"--workdir={tmp_path}/both")
    page = (tmp_path / "both" / "report.html").read_text()
    assert "Flow" in page and "VAE" in page


@pytest.mark.slow
def test_the_flow_of_the_project_is_a_density(project):
    """Its inverse undoes it, and log|det| is that of its Jacobian by autodiff."""
    c = config.load(str(project / "config.py"))
    module = networks.build(**dict(c.model.couplings, layers=3, width=8))
    x = normal(0, 1, 2, 2, 1)
    variables = module.init(jax.random.key(0), x)
    variables = jax.tree.map(lambda p: p + 0.3 * normal(p.size, *p.shape), variables)
    z, log_det = module.apply(variables, x)
    close(module.apply(variables, z, inverse=True), x, z, terms=64)

    def flat(x):
        return module.apply(variables, x.reshape(1, 2, 2, 1))[0].ravel()

    jacobian = np.asarray(jax.jacobian(flat)(x.ravel()), np.float64)
    close(log_det[0], np.linalg.slogdet(jacobian)[1], 10.0, dtype="float32", factor=64)


# CONTRIBUTING's recipes


def recipe(start: str):
    """What the recipe that begins so defines."""
    (code,) = [block for block in blocks("CONTRIBUTING.md") if block.startswith(start)]
    scope = {
        "jnp": jnp,
        "nn": __import__("flax.linen").linen,
        "Any": object,
        "ConditionSpec": ConditionSpec,
        "UNCONDITIONAL": UNCONDITIONAL,
        "EVALUATION": EVALUATION,
    }
    exec(compile(code, "CONTRIBUTING.md", "exec"), scope)
    return scope[re.search(r"(?:def|class) (\w+)", code)[1]]


@pytest.mark.slow
def test_the_recipes_are_a_row_each(monkeypatch):
    """A term and a network by their rows, in a family that trains."""
    from jaxgen.losses import objective

    monkeypatch.setitem(objective.TERMS, "total_variation", recipe("def total_variation"))
    monkeypatch.setitem(networks.NETWORKS, "linear_encoder", recipe("class LinearEncoder"))
    c = tiny("vae")
    c.model.encoder = dict(name="linear_encoder")
    c.players.model.terms.total_variation = dict(weight=0.1, strength=2.0)
    family = families.build(c)
    state, step = training.create(c, family)
    batch = {"image": images(0, 16, 8, 8, 1), "label": np.zeros(16, np.int32)}
    _, metrics = step(state, batch)
    assert metrics["model/total_variation"] > 0 and np.isfinite(metrics["model/loss"])
    # |x_i+1 - x_i| of a ramp of steps 0.1, twice
    term = objective.TERMS["total_variation"](2.0)
    ramp = np.float32(0.1 * np.arange(8))[None, :, None, None] * np.ones((3, 8, 8, 1), np.float32)
    close(term({"reconstruction": ramp}), np.full(3, 0.2), 1.0)
