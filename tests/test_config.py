"""Configs: what a user may change, and what is said when it cannot be."""

import numpy as np
import pytest

from jaxgen import config as config_lib
from jaxgen.errors import InputError

FILE = """
from jaxgen.config import default, player


def get_config(mode=""):
    config = default()
    config.family = "autoencoder"
    config.data.update(source="digits", image_shape=(8, 8, 1), num_classes=10)
    config.model.update(latent=4, encoder=dict(name="mlp_encoder", hidden=(16, 8)))
    config.players.model = player(networks=("encoder",), terms=dict(kl=dict(weight=0.5)), learning_rate=1e-3)
    config.train.update(steps=2 if mode == "smoke" else 100, batch_size=16)
    return config
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "vae.py"
    path.write_text(FILE)
    return str(path)


@pytest.fixture
def config(file):
    return config_lib.load(file)


def test_load_applies_the_mode_and_dotted_overrides(file):
    assert config_lib.load(file).train.steps == 100
    assert config_lib.load(f"{file}:smoke").train.steps == 2
    changed = config_lib.load(
        file, {"train.steps": 7, "players.model.optimizer.learning_rate": 0.5, "seed": 3}
    )
    assert (changed.train.steps, changed.players.model.optimizer.learning_rate, changed.seed) == (
        7,
        0.5,
        3,
    )
    config_lib.check(changed)


def test_a_file_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(InputError, match="nothing.py does not exist"):
        config_lib.load(str(tmp_path / "nothing.py:smoke"))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "train.step",
            1,
            r"no field 'train\.step': config\.train has no 'step' \(did you mean steps",
        ),
        ("trian.steps", 1, r"no field 'trian\.steps': config has no 'trian' \(did you mean train"),
        ("model.encoder.hiden", (1,), "did you mean hidden"),
        ("train.steps.more", 1, r"config\.train\.steps has no 'more'"),
        ("train.steps", "many", r"'train\.steps' is a int; 'many' is a str"),
        ("data.image_shape", 8, r"'data\.image_shape' is a tuple; 8 is a int"),
        ("data.flip", "yes", r"'data\.flip' is a bool"),
        ("train", 5, r"'train' is a"),
    ],
)
def test_an_override_that_cannot_be_is_explained(config, name, value, message):
    before = config_lib.to_json(config)
    with pytest.raises(InputError, match=message):
        config_lib.override(config, name, value)
    assert config_lib.to_json(config) == before


def test_overrides_that_fit(config):
    changes = {
        "data.image_shape": [4, 4, 1],
        "data.data_dir": "/data",
        "players.model.terms.kl.weight": 2,
    }
    for name, value in changes.items():
        config_lib.override(config, name, value)
    assert config.data.image_shape == (4, 4, 1) and isinstance(config.data.image_shape, tuple)
    assert config.data.data_dir == "/data"
    assert config.players.model.terms.kl.weight == 2.0


def test_json_round_trip_keeps_values_and_tuples(config, tmp_path):
    config.model.nested = ((1, 2), (3,))
    back = config_lib.from_json(config_lib.to_json(config))
    assert back.to_dict() == config.to_dict()
    assert (
        back.model.nested == ((1, 2), (3,))
        and back.data.image_shape == (8, 8, 1)
        and back.data.data_dir is None
    )
    config_lib.check(back)
    config_lib.write(config, str(tmp_path / "run"))
    assert config_lib.read(str(tmp_path / "run")).to_dict() == config.to_dict()
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["config.json"]


def test_a_folder_without_a_readable_config_is_named(tmp_path):
    with pytest.raises(InputError, match="is not the --workdir of a run"):
        config_lib.read(str(tmp_path))
    (tmp_path / "config.json").write_text('{"seed": 0,')
    with pytest.raises(InputError, match="is not a saved config"):
        config_lib.read(str(tmp_path))


def test_differences_are_the_fields_that_change_what_was_computed(config, file):
    other = config_lib.load(file)
    assert config_lib.differences(config, other) == {}
    assert config_lib.differences(config, config_lib.from_json(config_lib.to_json(other))) == {}
    allowed = {
        "train.steps": 9, "data.workers": 1, "data.pipeline": "stream",
        "checkpoint.every": 5, "parallel.mode": "pmap", "sample.num": 3, "name": "x",
    }  # fmt: skip
    for name, value in allowed.items():
        config_lib.override(other, name, value)
    assert config_lib.differences(config, other) == {}
    config_lib.override(other, "model.encoder.hidden", (16, 9))
    config_lib.override(other, "seed", 1)
    del other.players.model.terms["kl"]
    assert config_lib.differences(config, other) == {
        "model.encoder.hidden": ((16, 8), (16, 9)),
        "players.model.terms.kl.weight": (0.5, None),
        "seed": (0, 1),
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.steps": 0}, r"config\.train\.steps must be at least 1, not 0"),
        (
            {"data.pipeline": "steam"},
            r"config\.data\.pipeline 'steam' is unknown: did you mean stream\?",
        ),
        ({"data.workers": -1}, r"config\.data\.workers must not be negative, got -1"),
        ({"data.device_bytes": -1}, r"config\.data\.device_bytes must not be negative"),
        ({"train.batch_size": 0}, r"config\.train\.batch_size"),
        ({"train.accumulate": 3}, "16 cannot be divided into config.train.accumulate = 3"),
        ({"train.log_every": 0}, r"config\.train\.log_every"),
        ({"order": ("model", "critic")}, r"config\.order .* must name each of the players"),
        ({"ema.rates": (1.0,)}, r"config\.ema\.rates"),
        ({"checkpoint.keep": 0}, r"config\.checkpoint\.keep"),
        ({"conditional": True, "data.num_classes": 0}, r"config\.conditional needs"),
    ],
)
def test_check_names_what_cannot_run(config, changes, message):
    for name, value in changes.items():
        config_lib.override(config, name, value)
    with pytest.raises(InputError, match=message):
        config_lib.check(config)


def test_check_finds_missing_and_unknown_fields(config):
    config_lib.check(config)
    config.train.stepz = 3
    with pytest.raises(InputError, match=r"no field 'train\.stepz': did you mean steps"):
        config_lib.check(config)
    del config.train["stepz"]
    config.trane = 1
    with pytest.raises(InputError, match="no field 'trane': did you mean train"):
        config_lib.check(config)
    del config["trane"]
    del config["ema"]
    with pytest.raises(InputError, match=r"config\.ema is missing"):
        config_lib.check(config)


def test_check_wants_players(config):
    del config.players["model"]
    with pytest.raises(InputError, match=r"config\.players is empty"):
        config_lib.check(config)


def test_a_player_says_what_its_optimiser_gets():
    made = config_lib.player(dict(kl={}), networks=("a",), updates=2, learning_rate=0.1, b1=0.5)
    assert made.optimizer.to_dict() == {"name": "adam", "learning_rate": 0.1, "b1": 0.5}
    assert (made.networks, made.updates) == (("a",), 2)
    assert np.isclose(
        config_lib.player({}, name="sgd", learning_rate=1.0).optimizer.learning_rate, 1.0
    )
