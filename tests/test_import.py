"""What importing and running jaxgen pulls in, and what it does without the packages that it can do
without.
"""

import os
import subprocess
import sys
import textwrap
import time

import pytest

HEAVY = ("tensorflow", "torch", "matplotlib", "pandas", "tensorflow_datasets")


def python(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True, text=True, timeout=120, env={**os.environ, **environment},
    )  # fmt: skip


def test_import_is_fast_and_light():
    start = time.perf_counter()
    result = python("import jaxgen, sys; jaxgen.__version__; print(*sys.modules)")
    assert result.returncode == 0, result.stderr
    assert time.perf_counter() - start < 1.5  # the interpreter included
    loaded = set(result.stdout.split())
    assert not loaded & {"jax", "flax", "numpy", "optax", "orbax", "absl", *HEAVY}


def test_every_part_is_an_attribute():
    import jaxgen

    for name in (
        "config",
        "data",
        "diffusion",
        "errors",
        "families",
        "losses",
        "networks",
        "training",
    ):
        assert getattr(jaxgen, name).__name__ == f"jaxgen.{name}" and name in dir(jaxgen)


WITHOUT_PACKAGES = """
    import contextlib, io, sys

    class Block:
        names = {"PIL", "clu", "matplotlib", "orbax", "sklearn", "tensorboardX",
                 "tensorflow_datasets", "tqdm"}

        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in self.names:
                raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    sys.meta_path.insert(0, Block())

    import jax, numpy as np
    from jaxgen import cli, config as config_lib, families, sampling, training

    # training and sampling on arrays need none of them
    config = config_lib.load(sys.argv[1])
    family = families.build(config)
    state, step = training.create(config, family)
    for _ in range(2):
        state, metrics = step(state, {"image": np.zeros((4, 8, 8, 1), np.uint8)})
    sampler, variables = sampling.sampler(family, {}), training.variables(state)
    images = sampling.generate(sampler, variables, 3, seed=0, batch_size=2)
    assert int(state.step) == 2 and images.shape == (3, 8, 8, 1)
    assert np.isfinite(metrics["model/loss"])

    # the command names those that it needs, one after the other
    code, needed = 2, []
    while code:
        with contextlib.redirect_stderr(io.StringIO()) as error:
            code = cli.main(["train", f"--config={sys.argv[1]}", f"--workdir={sys.argv[2]}"])
        if code:
            assert len(error.getvalue().splitlines()) == 1, error.getvalue()
            line = error.getvalue().strip()
            start, name = line.rsplit("is missing: pip install ", 1)
            assert code == 2 and start == f"jaxgen: error: the package {name} ", line
            needed.append(name)
            imported_as = {"orbax-checkpoint": "orbax", "pillow": "PIL", "scikit-learn": "sklearn"}
            Block.names.remove(imported_as.get(name, name))
    print(*sorted(needed))
    print(*sys.modules)
"""


CONFIG = """
from jaxgen.config import default, player

def get_config(mode=""):
    config = default()
    config.family = "autoencoder"
    config.data.update(source="digits", image_shape=(8, 8, 1))
    config.model.update(latent=2, likelihood=dict(name="gaussian"))
    config.model.encoder = dict(name="mlp_encoder", hidden=(8,))
    config.model.decoder = dict(name="mlp_decoder", hidden=(8,))
    terms = dict(reconstruction=dict(), kl=dict())
    config.players.model = player(terms, networks=("encoder", "decoder"), learning_rate=1e-3)
    config.train.update(steps=2, batch_size=16, eval_every=2, sample_every=2)
    return config
"""


@pytest.mark.slow
def test_training_without_packages(tmp_path):
    (tmp_path / "config.py").write_text(CONFIG)
    result = python(WITHOUT_PACKAGES, tmp_path / "config.py", tmp_path / "run")
    assert result.returncode == 0, result.stderr
    needed, loaded = result.stdout.splitlines()[-2:]
    assert needed.split() == [
        "clu",
        "orbax-checkpoint",
        "pillow",
        "scikit-learn",
        "tensorboardX",
        "tqdm",
    ]
    # scikit-learn imports pandas where it is there
    assert not set(loaded.split()) & (set(HEAVY) - {"pandas"})
