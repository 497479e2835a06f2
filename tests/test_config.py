"""Configs: what a user may change, and what is said when it cannot be."""

import json
import sys

import numpy as np
import pytest

import jaxgen
from jaxgen import config as config_lib
from jaxgen.errors import InputError

FILE = """
from jaxgen.config import default, player


def get_config(mode=""):
    config = default()
    config.family = "autoencoder"
    config.data.update(source="digits", image_shape=(8, 8, 1), num_classes=10)
    config.model.update(latent=4, likelihood=dict(name="bernoulli"))
    config.model.encoder = dict(name="mlp_encoder", hidden=(16, 8))
    config.model.decoder = dict(name="mlp_decoder", hidden=(8,))
    terms, networks = dict(kl=dict(weight=0.5)), ("encoder", "decoder")
    config.players.model = player(terms, networks=networks, learning_rate=1e-3)
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
        (
            "train.steps",
            "many",
            r"config\.train\.steps must be an integer of at least 1, not 'many'",
        ),
        ("data.image_shape", 8, r"config\.data\.image_shape must be a tuple"),
        ("data.flip", "yes", r"config\.data\.flip must be True or False, not 'yes'"),
        ("train", 5, "config.train is a section; set one of its fields"),
        ("train", {"steps": 5}, "config.train is a section"),
        ("model.latent", {1, 2}, r"config\.model\.latent cannot be a set"),
    ],
)
def test_an_override_that_cannot_be_is_explained(config, name, value, message):
    before = config_lib.to_json(config)
    with pytest.raises(InputError, match=message):
        config_lib.override(config, name, value)
    assert config_lib.to_json(config) == before


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("model.likelihood.scale", "0.5", 0.5),
        ("model.likelihood.scale", "pixel", "pixel"),
        ("players.model.terms.kl.weight", "2", 2.0),
        ("players.model.terms.kl.weight", "{'init': 0, 'end': 1, 'steps': 9}", {"init": 0,
        "end": 1, "steps": 9}),
        ("model.encoder.hidden", "[8, 4]", (8, 4)),
        ("model.encoder.hidden", "()", ()),
        ("model.encoder", "{'name': 'conv_encoder'}", {"name": "conv_encoder"}),
        ("conditional", "true", True),
        ("conditional", "('label', 'image')", ("label", "image")),
        ("data.data_dir", "5", "5"),
        ("data.data_dir", "None", None),
        ("data.flip", "1", True),
        ("data.train", "train[:10]", "train[:10]"),
        ("name", "7", "7"),
        ("seed", "18446744073709551615", 2**64 - 1),
        ("parallel.rules", "(('kernel', (None, 'fsdp')),)", (("kernel", (None, "fsdp")),)),
    ],
)  # fmt: skip
def test_a_text_becomes_what_the_field_takes(config, name, text, value):
    config.model.likelihood = dict(name="gaussian", scale="global")
    config_lib.apply(config, [f"{name}={text}"])
    found = config_lib.value(config, name)
    assert (found.to_dict() if isinstance(value, dict) else found) == value
    assert type(found) is type(value) or isinstance(value, dict)
    back = config_lib.from_json(config_lib.to_json(config))
    assert back.to_dict() == config.to_dict()


def test_a_schedule_of_a_weight_becomes_a_number_again(config):
    weight = "players.model.terms.kl.weight"
    steps = [f"{weight}={{'init': 0, 'end': 1, 'steps': 9}}", f"{weight}.end=2", f"{weight}=0.25"]
    config_lib.apply(config, steps[:2])
    assert config.players.model.terms.kl.weight.end == 2
    config_lib.apply(config, steps[2:])
    assert config.players.model.terms.kl.weight == 0.25


def test_a_file_may_give_a_field_values_of_several_types(config):
    config.conditional = ("label",)
    config.model.likelihood = dict(name="gaussian", scale="global")
    config.model.likelihood.scale = 0.5
    assert (config.conditional, config.model.likelihood.scale) == (("label",), 0.5)


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
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (saved["format"], saved["jaxgen"]) == (config_lib.FORMAT, jaxgen.__version__)
    assert config_lib.read(str(tmp_path / "run")).to_dict() == config.to_dict()
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["config.json"]


def test_a_folder_without_a_readable_config_is_named(tmp_path):
    with pytest.raises(InputError, match="is not the --workdir of a run"):
        config_lib.read(str(tmp_path))
    (tmp_path / "config.json").write_text('{"seed": 0,')
    with pytest.raises(InputError, match="is not a saved config"):
        config_lib.read(str(tmp_path))


def test_modules_beside_the_config_are_found_also_from_the_folder_of_the_run(file, tmp_path):
    """train and compare load the file; sample and evaluate read what was saved of it."""
    from jaxgen import families
    from jaxgen.training import players

    (tmp_path / "terms_of_my_own.py").write_text(
        "from jaxgen.ranges import Positive\n\n\n"
        "def mine(strength: Positive = 1.0):\n"
        "    return lambda outputs: strength * outputs['latent'].sum(axis=-1)\n"
    )
    mine = "{'mine': {'term': 'terms_of_my_own:mine', 'strength': 2.0}}"
    config = config_lib.load(file)
    config_lib.apply(config, [f"players.model.terms={mine}"])
    config_lib.write(config, str(tmp_path / "run"))
    for _ in range(2):
        (row,) = players.build(config, families.build(config))["model"].rows
        assert float(row.term({"latent": np.ones((1, 3))})[0]) == 6.0
        sys.path.remove(str(tmp_path))  # as in another process
        del sys.modules["terms_of_my_own"]
        config = config_lib.read(str(tmp_path / "run"))
    config_lib.apply(config, ["players.model.terms.mine.strength=0"])
    with pytest.raises(InputError, match=r"^config\.players\.model\.terms\.mine\.strength must be"):
        players.build(config, families.build(config))


@pytest.mark.parametrize(
    ("about", "made"),
    [
        ({}, "jaxgen 0.1 (format 1)"),
        ({"format": 99, "jaxgen": "9.9.9"}, "jaxgen 9.9.9 (format 99)"),
    ],
)
def test_a_run_of_another_format_is_said_to_be_one(config, tmp_path, about, made):
    (tmp_path / "config.json").write_text(json.dumps({**config.to_dict(), **about}))
    with pytest.raises(InputError) as raised:
        config_lib.read(str(tmp_path))
    assert made in str(raised.value) and "use that version for it, or train again" in str(
        raised.value
    )


def test_differences_are_the_fields_that_change_what_was_computed(config, file):
    other = config_lib.load(file)
    assert config_lib.differences(config, other) == {}
    assert config_lib.differences(config, config_lib.from_json(config_lib.to_json(other))) == {}
    allowed = {
        "train.steps": 9, "data.workers": 1, "data.pipeline": "stream",
        "checkpoint.every": 5, "parallel.mode": "pmap", "sample.num": 3, "name": "x",
        "folder": "/y",
        "data.source": "folder:/moved", "data.test": "train[80%:]", "data.validation": "test",
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
        ({"train.accumulate": 3}, "16 cannot be divided into config.train.accumulate = 3"),
        ({"order": ("model", "critic")}, r"config\.order .* must name each of the players"),
        ({"sample.ema": "0.99"}, r"config\.sample\.ema '0\.99' is no average of this system"),
    ],
)
def test_check_names_what_cannot_run(config, changes, message):
    for name, value in changes.items():
        config_lib.override(config, name, value)
    with pytest.raises(InputError, match=message):
        config_lib.check(config)


@pytest.mark.parametrize(
    ("section", "content", "message"),
    [
        ("model", 5, r"config\.model must be a section, not 5"),
        ("sample.options", (), r"config\.sample\.options must be a section"),
        ("data.columns", {3: {}}, r"a field of config\.data\.columns must be a string, not 3"),
        ("pretrained", {"encoder": None}, r"config\.pretrained\.encoder must be a section"),
        ("pretrained", {"encoder": {}}, r"config\.pretrained\.encoder needs the option 'workdir'"),
        ("pretrained", {"encoder": {"workdir": 5}}, r"encoder\.workdir must be a string, not 5"),
        ("pretrained", {"encoder": {"workdir": "a", "step": 5}}, "no option 'step'"),
        ("players", {"model": {}}, r"config\.players\.model must be made by player"),
        ("conditional", ("label", "label"), r"config\.conditional must be .* different elements"),
    ],
)
def test_a_section_that_a_file_filled_with_something_else_is_named(
    config, section, content, message
):
    *above, name = section.split(".")
    place = config_lib.value(config, ".".join(above)) if above else config
    with place.unlocked():
        del place[name]
        place[name] = content
    with pytest.raises(InputError, match=message):
        config_lib.check(config)


def test_options_of_sampling_and_likelihood_can_be_added_on_a_command_line(config):
    config_lib.apply(config, ["sample.options.solver=heun", "evaluation.log_prob.num_samples=5"])
    assert config.sample.options.solver == "heun"
    assert config.evaluation.log_prob.num_samples == 5
    for name in ("sample.options.", "sample.options.a.b", "model.encoder.hiden"):
        with pytest.raises(InputError, match="config has no field"):
            config_lib.apply(config, [f"{name}=5"])


def test_a_config_file_in_a_bucket_must_be_copied():
    with pytest.raises(InputError, match="copy it to this machine"):
        config_lib.load("gs://bucket/vae.py:smoke")


def test_check_finds_values_that_a_file_set(config):
    config.train.steps = 0
    with pytest.raises(InputError, match=r"config\.train\.steps must be an integer of at least 1"):
        config_lib.check(config)


def test_every_field_says_what_it_may_be():
    def names(section, prefix=""):
        for name, value in section.items():
            inside = isinstance(value, config_lib.ConfigDict) and len(value)
            yield from names(value, f"{prefix}{name}.") if inside else [f"{prefix}{name}"]

    assert set(names(config_lib.default())) == {*config_lib.FIELDS, *config_lib.OPEN}


ODD = {  # values of the right type or of another that make no sense
    "data.resize": ("x",),
    "evaluation.scores": ("x",),
    "seed": ("-1", "1.5", "x", "18446744073709551616", "True"),
    "data.image_shape": (
        "(8,8)", "8", "()", "(0,8,1)", "(8,-8,1)", "(8,8,5)", "(8,8,2)", "('a',8,1)", "(8,8,1,1)",
        "(8.0,8,1)",
    ),
    "data.num_classes": ("-1", "x"),
    "data.workers": ("-1", "100000", "x"),
    "data.device_bytes": ("-1", "1.5", "99999999999999999999"),
    "data.pipeline": ("steam", ""),
    "data.flip": ("2", "perhaps"),
    "train.steps": ("0", "-1", "99999999999", "1e3", "None"),
    "train.batch_size": ("0", "-8", "x"),
    "train.accumulate": ("0", "3", "-1"),
    "train.steps_per_dispatch": ("0", "-1", "1000000", "1000000000"),
    "train.log_every": ("0",),
    "train.eval_every": ("-1",),
    "train.sample_every": ("-5",),
    "ema.rates": ("(1.0,)", "(0.0,)", "(-0.5,)", "('a',)", "0.9", "(0.9,0.9)", "(1e400,)"),
    "ema.networks": ("('x','x')", "encoder", "(1,)"),
    "parallel.mode": ("jitt",),
    "parallel.fsdp": ("0", "-2", "x"),
    "parallel.fsdp_min_size": ("-1",),
    "parallel.rules": (
        "('a',)", "a", "(('(',('fsdp',)),)", "(('a',('data',)),)",
        "(('a','fsdp'),)",
    ),
    "precision.compute": ("float16", "5"),
    "checkpoint.every": ("0",),
    "checkpoint.keep": ("0", "-1"),
    "sample.num": ("0", "-1"),
    "sample.batch_size": ("0",),
    "sample.ema": ("0.5", "nan", "None"),
    "evaluation.num": ("0",),
    "evaluation.seeds": ("()", "(1,1)", "(-1,)", "(99999999999999999999,)", "5", "(True,)"),
    "evaluation.split": ("x",),
    "evaluation.reference_images": ("-1",),
    "evaluation.features": ("x", "(1,)"),
    "evaluation.resize": ("x",),
    "evaluation.log_prob_images": ("-1",),
    "order": ("('x',)", "(1,)", "x"),
    "conditional": ("5", "x", "(1,)"),
    "simultaneous": ("2",),
    "family": ("x", "5", ""),
    "players": ("{}", "{'model':5}", "5"),
    "players.model.networks": ("x", "('x',)", "(1,)"),
    "players.model.updates": ("0", "x", "-1"),
    "players.model.terms": (
        "{}", "{'x':{}}", "{'kl':5}", "{'kl':{'weight':'x'}}", "{'kl':{'weight':True}}",
        "{'kl':{'start':-1}}",
        "{'kl':{'every':0}}", "{'kl':{'free_bits':-1}}",
        "{'kl':{'weight':{'init':0,'end':1,'steps':0}}}",
        "{'kl':{'weight':{'init':0}}}", "{'importance_weighted':{'num_samples':0}}",
        "{'denoising':{'weighting':'min_snr','gamma':-1}}", "{'critic':{'loss':'x'}}",
        "{'feature':{'layers':5}}",
    ),
    "players.model.optimizer.learning_rate": ("-1", "nan", "x", "1e400", "True"),
    "players.model.optimizer": (
        "{'name':'adm','learning_rate':1}", "{'name':5,'learning_rate':1}", "{'name':'adam'}",
        "{'learning_rate':1,'warmup':-1}", "{'learning_rate':1,'warmup':999999999999}",
        "{'learning_rate':1,'decay':'cosin'}", "{'learning_rate':1,'end':-1}",
        "{'learning_rate':1,'clip':-1}",
        "{'learning_rate':1,'b1':1.0}", "{'learning_rate':1,'eps':-1}",
        "{'learning_rate':1,'mu_dtype':'float17'}",
        "{'name':'adamw','learning_rate':1,'weight_decay':-1}",
        "{'name':'adamw','learning_rate':1,'mask':'x'}",
        "{'name':'sgd','learning_rate':1,'momentum':2}",
    ),
    "model.latent": ("0", "-3", "x", "1.5", "99999999999", "True"),
    "model.likelihood": (
        "{}", "{'name':'x'}", "{'name':'gaussian','scale':0}", "{'name':'gaussian','scale':-1}",
        "{'name':'gaussian','scale':'x'}", "{'name':'gaussian','scale':(1,)}",
        "{'name':'bernoulli','binarization':'x'}",
    ),
    "model.encoder": (
        "{}", "{'name':'x'}", "{'name':5}", "{'name':'mlp_encoder','hidden':(0,)}",
        "{'name':'mlp_encoder','hidden':5}",
        "{'name':'mlp_encoder','hidden':('a',)}", "{'name':'mlp_encoder','activation':'rleu'}",
        "{'name':'mlp_encoder','norm':5}", "{'name':'mlp_encoder','residual':2}",
        "{'name':'conv_encoder','channels':()}", "{'name':'conv_encoder','channels':(0,)}",
        "{'name':'conv_encoder','blocks':0}", "{'name':'conv_encoder','dropout':1.0}",
        "{'name':'conv_encoder','dropout':-0.1}",
    ),
}  # fmt: skip
# networks and schedules by themselves: what is in range is in one place
PARTS = {
    "unet": {
        "channels": (0, 3, -4, 2), "multipliers": ((), (0,), (1, -1)), "blocks": (0, -1),
        "heads": (0,),
        "dropout": (1.0, -1, "x"), "attention": ((-1,), "x"), "patch": (0,),
        "remat": ("ful", 2),
    },
    "dit": {
        "heads": (0, -1), "patch": (0, -2), "depth": (-1,), "width": (6, 0, 10**12),
        "mlp_ratio": (0.0,),
    },
    "mlp_denoiser": {"width": (0, -3, 1.5), "depth": (-1,), "embedding": (0, 3, 2)},
    "mlp_critic": {"hidden": ((0,),), "spectral_norm": (2,)},
    "conv_critic": {"channels": ((),), "blocks": (0,), "activation": ("x",)},
    "linear": {"steps": (0, -1, 10**10, 1.5), "start": (0.0, -1.0), "end": (np.nan,)},
    "cosine": {"steps": (0,), "offset": (-1.0,), "zero_terminal_snr": (2,)},
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_a_value_that_makes_no_sense_is_one_line_with_its_field(config, name):
    from jaxgen import families
    from jaxgen.training import players

    for text in ODD[name]:
        odd = config_lib.ConfigDict(config)
        with pytest.raises(InputError) as raised:
            config_lib.apply(odd, [f"{name}={text}"])
            config_lib.check(odd)
            players.build(odd, families.build(odd))
        line = str(raised.value)
        assert f"config.{name.rpartition('.')[0] or name}" in line and "\n" not in line, (
            text,
            line,
        )


@pytest.mark.parametrize("name", PARTS)
def test_an_option_of_a_part_that_makes_no_sense_is_named(name):
    from jaxgen import networks
    from jaxgen.diffusion import schedule

    build = schedule.build if name in schedule.SCHEDULES else networks.build
    for option, values in PARTS[name].items():
        for value in values:
            with pytest.raises(InputError, match=rf"^config\.model\.x\.{option}"):
                build(name=name, where="config.model.x", **{option: value})


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
