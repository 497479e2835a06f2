"""The command line: what it prints, its exit codes, and one clear line for everything that a user
can get wrong.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import jaxgen
import jaxgen.commands.evaluate
import jaxgen.commands.train
import jaxgen.runs
import jaxgen.sampling
from jaxgen import cli, commands, data
from jaxgen import config as config_lib
from jaxgen.commands import common
from jaxgen.errors import RetryError
from jaxgen.runs import open_run
from jaxgen.training import checkpoint, logging

CONFIG = """
from jaxgen.config import default, player

def get_config(mode=""):
    config = default()
    config.name = "tiny"
    config.family = "diffusion"
    config.conditional = True
    config.data.update(source="digits", image_shape=(8, 8, 1), num_classes=10)
    config.model.update(schedule=dict(name="cosine"), prediction="v", condition_dropout=0.1)
    config.model.denoiser = dict(name="mlp_denoiser", width=16, depth=1)
    config.players.denoiser = player(dict(denoising=dict()), learning_rate=1e-3)
    config.train.update(steps=4, batch_size=16, log_every=2)
    config.checkpoint.every = 2
    config.sample.options.steps = 3
    return config
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("configs") / "tiny.py"
    path.write_text(CONFIG)
    return str(path)


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    """A finished run."""
    workdir = str(tmp_path_factory.mktemp("run"))
    assert cli.main(["train", f"--config={config}", f"--workdir={workdir}", "--noprogress"]) == 0
    return workdir


@pytest.fixture
def fails(capfd, tmp_path):
    """(arguments...) -> the one line on standard error; "NEW" in an argument stands for a folder
    not there yet.
    """

    def call(*arguments, code=2):
        capfd.readouterr()
        ended = cli.main([a.replace("NEW", str(tmp_path / "new")) for a in arguments])
        out, error = capfd.readouterr()
        lines = error.splitlines()
        assert ended == code and len(lines) == 1 and lines[0].startswith("jaxgen: error: "), (
            ended,
            error,
        )
        assert "Traceback" not in out
        return lines[0]

    return call


def test_help_and_version(capsys):
    assert cli.main([]) == 2
    overview = capsys.readouterr().out
    assert cli.main(["--help"]) == 0
    assert capsys.readouterr().out == overview
    assert all(f"jaxgen {command} " in overview for command in cli.COMMANDS)
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"jaxgen {jaxgen.__version__}\n"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_of_a_command_lists_its_flags(command, capsys):
    assert cli.main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"jaxgen {command} " in text and "--workdir=" in text
    assert "--config.FIELD=VALUE" in text and all(line.strip() for line in text.splitlines()[:1])
    assert "flagfile" not in text and max(map(len, text.splitlines())) <= 120


@pytest.mark.slow
def test_train_says_what_it_does(config, tmp_path, capfd):
    command = ["train", f"--config={config}", f"--workdir={tmp_path}"]
    assert cli.main([*command, "--config.train.steps=2", "--config.checkpoint.keep=2"]) == 0
    out, error = capfd.readouterr()
    assert "denoiser/" in out and re.search(r"Total: [\d,]+ -- [\d,]+ bytes", out)
    assert out.splitlines()[-1] == f"finished at step 2: {tmp_path}"
    assert (
        re.search(r"tiny: 100%.* 2/2 .*loss [\d.]+, \d+ images/s", error)
        and len(error.splitlines()) <= 5
    )
    saved = json.loads((tmp_path / "config.json").read_text())
    assert (
        saved["train"]["steps"] == 2
        and saved["checkpoint"]["keep"] == 2
        and saved["format"] == config_lib.FORMAT
    )

    assert cli.main([*command, "--config.checkpoint.keep=2", "--noprogress"]) == 0
    out, error = capfd.readouterr()
    first, cost, last = out.splitlines()
    assert (first, last) == (f"resuming {tmp_path} from step 2", f"finished at step 4: {tmp_path}")
    assert re.fullmatch(
        r"compiled in [\d.]+ s: [\d.e-]+ GFLOP a step and at most [\d.]+ MiB on each device", cost
    )
    assert error == ""


def test_sample_i_depends_on_the_seed_and_i_alone(run, tmp_path, capfd):
    def sample(name, *arguments):
        assert (
            cli.main(
                [
                    "sample",
                    f"--workdir={run}",
                    f"--out={tmp_path / name}",
                    "--noprogress",
                    *arguments,
                ]
            )
            == 0
        )
        return np.load(tmp_path / f"{name.removesuffix('.png')}.npz")

    six = sample("six", "--num=6", "--batch_size=4")
    assert six["arr_0"].dtype == np.uint8 and six["arr_0"].shape == (6, 8, 8, 1)
    np.testing.assert_array_equal(six["arr_1"], [0, 1, 2, 3, 4, 5])
    assert (
        capfd.readouterr().out
        == f"6 samples of step 4: {tmp_path / 'six.png'} {tmp_path / 'six.npz'}\n"
    )
    sheet = np.asarray(Image.open(tmp_path / "six.png"))
    assert sheet.ndim == 2 and sheet[0, 0] == six["arr_0"][0, 0, 0, 0]
    np.testing.assert_array_equal(
        sample("two.png", "--num=2", "--batch_size=1")["arr_0"], six["arr_0"][:2]
    )
    assert (sample("other", "--num=6", "--seed=1")["arr_0"] != six["arr_0"]).any()
    assert (sample("raw", "--num=6", "--ema=none")["arr_0"] != six["arr_0"]).any()
    assert (sample("before", "--num=6", "--checkpoint=2")["arr_0"] != six["arr_0"]).any()
    threes = sample("threes", "--num=4", "--label=3")
    np.testing.assert_array_equal(threes["arr_1"], [3] * 4)
    np.testing.assert_array_equal(threes["arr_0"][3], six["arr_0"][3])
    assert (sample("ddim", "--num=6", "--eta=0", "--steps=2")["arr_0"] != six["arr_0"]).any()


@pytest.mark.slow
def test_sample_writes_beside_the_run(run):
    assert cli.main(["sample", f"--workdir={run}", "--num=1", "--seed=5", "--noprogress"]) == 0
    assert {"seed_5.png", "seed_5.npz"} <= set(os.listdir(os.path.join(run, "samples")))


COMMAND_LINES = {
    "no such command": (["tran"], "did you mean train"),
    "flag": (["train", "--wrkdir=NEW"], "wrkdir"),
    "word": (["sample", "NEW"], "is not a flag"),
    "no workdir": (["sample"], "--workdir is needed"),
    "no config": (["train", "--workdir=NEW"], "--config is needed"),
    "flag without value": (["train", "--config"], "Missing value"),
    "num": (["sample", "--workdir=NEW", "--num=0"], "--num=0: 0 is not a positive integer"),
    "num as text": (["sample", "--workdir=NEW", "--num=many"], "--num=many"),
    "seed": (["sample", "--workdir=NEW", "--seed=-1"], "--seed=-1"),
    "steps": (["sample", "--workdir=NEW", "--steps=0"], "--steps=0"),
    "no run": (["sample", "--workdir=NEW"], "is not the --workdir of a run"),
    "eta": (["sample", "--workdir=NEW", "--eta=-1"], "--eta=-1"),
}


@pytest.mark.parametrize("case", COMMAND_LINES)
def test_a_wrong_command_line(fails, case):
    arguments, message = COMMAND_LINES[case]
    assert message in fails(*arguments)


FIELDS = {
    "--config.train.stepps=1": "did you mean steps?",
    "--config.trian.steps=1": "did you mean train",
    "--config.train.steps.x=1": "config.train.steps has no 'x'",
    "--config.train=1": "is a section",
    "--config.train.steps=many": "config.train.steps must be an integer of at least 1, not 'many'",
    "--config.train.steps=1.5": "config.train.steps must be an integer of at least 1, not 1.5",
    "--config.train.steps": "config.train.steps needs a value",
    "--noconfig.train.steps": "config.train.steps must be an integer",
    "--config.data.flip=perhaps": "config.data.flip must be True or False, not 'perhaps'",
    "--config.ema.rates=fast": "config.ema.rates must be a tuple",
    "--config.train.steps=0": "config.train.steps must be an integer of at least 1, not 0",
    "--config.sample.ema=0.5": "config.sample.ema '0.5' is no average of this system",
    "--config.train.batch_size=12": "use a multiple of 8",
    "--config.train.accumulate=3": "micro-batches",
    "--config.family=gan": "unknown wiring of config.family 'gan'",
    "--config.model.denoiser.name=mlp_denoser": "did you mean mlp_denoiser",
    "--config.model.prediction=w": "prediction",
    "--config.model.schedule.name=cos": "did you mean cosine",
    "--config.players.denoiser.optimizer.name=adm": "did you mean adam",
    "--config.players.denoiser.terms={}": "config.players.denoiser.terms is empty",
    "--config.parallel.mode=jitt": "did you mean jit",
    "--config.precision.compute=float16": "float32 or bfloat16",
    "--config.data.source=digit": "unknown data source",
    "--config.data.train=train[:0]": "is empty",
    "--config.data.train=trian": "there is no split 'trian'",
    "--config.data.num_classes=3": "set config.data.num_classes=10",
    "--config.data.source=tfds:no_such_set": "tfds:no_such_set",
    "--config.checkpoint.best=loss": (
        "known: validation/denoiser/denoising, validation/denoiser/loss"
    ),
    "--config.seed=-1": "seed",
}


@pytest.mark.parametrize("override", FIELDS)
def test_a_wrong_field(fails, config, override):
    assert FIELDS[override] in fails("train", f"--config={config}", "--workdir=NEW", override)


FILES = {
    "syntax": ("def get_config(:\n  pass", r"config\.py:1: SyntaxError: invalid syntax"),
    "raises": (
        "def get_config():\n  return 1 / 0",
        r"config\.py:2: ZeroDivisionError: division by zero",
    ),
    "imports": (
        "import no_such_package",
        r"config\.py:1: ModuleNotFoundError: No module named 'no_such_package'",
    ),
    "without": ("x = 1", "get_config"),
    "network option": (
        CONFIG.replace("depth=1", "deph=1"),
        "has no option 'deph': did you mean depth",
    ),
    "loss term": (
        CONFIG.replace("dict(denoising=", "dict(denoisin="),
        "'denoisin': did you mean denoising",
    ),
    "loss option": (CONFIG.replace("denoising=dict()", "denoising=dict(wait=1)"), "'wait'"),
    "optimiser option": (CONFIG.replace("learning_rate=", "learning_rat="), "learning_rate"),
    "section": (CONFIG.replace("config.checkpoint.every", "config.checkpoint.evry"), "evry"),
    "no players": (CONFIG.replace("config.players.denoiser =", "_ ="), "config.players is empty"),
    "sampling option": (CONFIG.replace("options.steps", "options.stps"), "'stps'"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_wrong_config_file(fails, tmp_path, case):
    text, message = FILES[case]
    path = tmp_path / "config.py"
    path.write_text(text)
    assert re.search(message, fails("train", f"--config={path}", "--workdir=NEW"))


def test_a_config_file_that_is_not_there(fails, config, tmp_path):
    assert "does not exist" in fails("train", f"--config={tmp_path / 'none.py'}", "--workdir=NEW")
    assert "does not exist" in fails("compare", f"--config={tmp_path / 'none.py'}", "--workdir=NEW")
    (tmp_path / "config.json").write_text("{}")
    assert "config.json" in fails("train", f"--config={tmp_path / 'config.json'}", "--workdir=NEW")


def test_an_image_of_another_size(fails, config, tmp_path):
    for name, size in (("a", 8), ("b", 9)):
        Image.fromarray(np.zeros((size, size), np.uint8)).save(tmp_path / f"{name}.png")
    fields = [f"--config.data.source=folder:{tmp_path}", "--config.conditional=false"]
    line = fails("train", f"--config={config}", "--workdir=NEW", *fields)
    assert "b.png: is 9x9 (height x width), expected 8x8" in line


def test_a_wrong_workdir(fails, config, run, tmp_path):
    (tmp_path / "file").touch()
    assert "a file is where a folder should be" in fails(
        "train", f"--config={config}", f"--workdir={tmp_path / 'file'}"
    )
    assert "file" in fails("sample", f"--workdir={tmp_path / 'file'}")
    line = fails("train", f"--config={config}", f"--workdir={run}", "--config.seed=1")
    assert "config.seed was 0 and is now 1;" in line
    (tmp_path / "config.json").write_text('{"seed": ')
    assert "is not a saved config" in fails("sample", f"--workdir={tmp_path}")


def test_no_permission(fails, config, run, tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir(mode=0o500)
    if os.access(tmp_path / "locked", os.W_OK):  # root may write everywhere
        monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("locked"))
    assert "no permission" in fails(
        "train", f"--config={config}", f"--workdir={tmp_path / 'locked'}"
    )
    line = fails("sample", f"--workdir={run}", f"--out={tmp_path / 'locked' / 'x'}")
    assert f"no permission to write in {tmp_path / 'locked'}" in line


def test_wrong_samples(fails, run, tmp_path):
    workdir = f"--workdir={run}"
    assert "classes are 0 to 9" in fails("sample", workdir, "--label=10")
    assert "no average of rate 0.5 in this run: it has 0.999" in fails(
        "sample", workdir, "--ema=0.5"
    )
    assert "no checkpoint of step 3" in fails("sample", workdir, "--checkpoint=3")
    (tmp_path / "file").touch()
    assert "file" in fails("sample", workdir, f"--out={tmp_path / 'file' / 'x'}")


def test_a_run_without_checkpoints(fails, run, tmp_path):
    (tmp_path / "config.json").write_bytes(open(os.path.join(run, "config.json"), "rb").read())
    assert "train first" in fails("sample", f"--workdir={tmp_path}")
    (tmp_path / "checkpoints").mkdir()
    assert "train first" in fails("sample", f"--workdir={tmp_path}")


def test_other_ends(fails, monkeypatch, capfd):
    def raising(error):
        def command(values):
            raise error

        monkeypatch.setattr(commands.train, "run", command)

    raising(ModuleNotFoundError("No module named 'sklearn.svm'", name="sklearn.svm"))
    assert fails("train").endswith("the package scikit-learn is missing: pip install scikit-learn")
    raising(ModuleNotFoundError("No module named 'array_record'", name="array_record"))
    assert fails("train").endswith("pip install 'jaxgen[data]'")
    raising(OSError(28, "No space left on device", "/a/b"))
    assert fails("train", code=75).endswith("No space left on device: /a/b")
    raising(RetryError("a worker died"))
    assert fails("train", code=75).endswith("a worker died")
    raising(KeyboardInterrupt())
    assert cli.main(["train"]) == 130
    assert capfd.readouterr().err == "jaxgen: interrupted\n"
    raising(ZeroDivisionError())  # a bug is not hidden
    with pytest.raises(ZeroDivisionError):
        cli.main(["train"])


def start(config, workdir, **files):
    """The command in a process of its own, on one device."""
    command = [
        sys.executable,
        "-m",
        "jaxgen",
        "train",
        f"--config={config}",
        f"--workdir={workdir}",
    ]
    overrides = {"steps": 1200, "log_every": 10}
    command += [f"--config.train.{k}={v}" for k, v in overrides.items()] + [
        "--config.checkpoint.every=100"
    ]
    return subprocess.Popen(command, text=True, env={**os.environ, "XLA_FLAGS": ""}, **files)


def after(workdir, step):
    """Wait until the log has come to `step`."""
    end = time.monotonic() + 120
    while max((row["step"] for row in logging.read_metrics(str(workdir))), default=0) < step:
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.slow
def test_interrupted_and_killed_runs_end_in_the_same_bits(config, tmp_path):
    """SIGTERM saves the very step; kill -9 loses the steps since the last save; in the end nothing
    shows.
    """
    whole, parts, folder = (
        tmp_path / "whole",
        tmp_path / "parts",
        tmp_path / "parts" / "checkpoints",
    )
    straight = start(config, whole, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    process = start(config, parts, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    after(parts, 50)
    process.send_signal(signal.SIGTERM)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    stopped = max(checkpoint.steps_in(folder))
    assert (
        out.splitlines()[-1]
        == f"stopped at step {stopped} and saved; the same command goes on from there"
    )
    assert 50 <= stopped < 1200 and all(line.startswith("tiny: ") for line in error.splitlines()), (
        error
    )

    process = start(config, parts, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    after(parts, stopped + 220)
    process.kill()
    out, _ = process.communicate(timeout=60)
    assert out.splitlines()[0] == f"resuming {parts} from step {stopped}"

    left = max(checkpoint.steps_in(folder))
    process = start(config, parts, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0 and "Traceback" not in error
    first, cost, last = out.splitlines()
    assert (first, last) == (
        f"resuming {parts} from step {left}",
        f"finished at step 1200: {parts}",
    )
    assert stopped < left < 1200

    assert straight.wait(timeout=120) == 0
    for ema in ("none", "first"):
        one, other = (
            open_run(str(workdir), "" if ema == "first" else ema) for workdir in (whole, parts)
        )
        assert one.step == other.step == 1200
        jax.tree.map(np.testing.assert_array_equal, one.variables, other.variables)
    rows = [logging.read_metrics(str(workdir)) for workdir in (whole, parts)]
    assert (
        [row["step"] for row in rows[0]]
        == [row["step"] for row in rows[1]]
        == list(range(10, 1201, 10))
    )


@pytest.mark.slow
def test_a_finished_run_takes_overrides_that_need_no_training(run, fails):
    flags = [f"--workdir={run}", "--noprogress", "--num=8", "--out=NEW"]
    assert "config.seed is 0" in fails("sample", *flags, "--config.seed=1")
    assert "did you mean num" in fails("evaluate", f"--workdir={run}", "--config.evaluation.nmu=1")
    quick = ["--config.evaluation.num=16", "--config.evaluation.seeds=(5,)"]
    assert cli.main(["evaluate", f"--workdir={run}", "--noprogress", *quick]) == 0
    record = json.loads(Path(run, "evaluation.json").read_text())
    assert record["protocol"]["samples per seed"] == 16 and record["protocol"]["seeds"] == [5]
    assert record["protocol"]["parameters"] == "average of rate 0.999"
    assert np.load(Path(run, "samples_seed_5.npz"))["arr_0"].shape == (16, 8, 8, 1)


@pytest.mark.parametrize(
    "line, message",
    [
        ("config.model.lable_dropout = 0.3", "has no option 'lable_dropout'"),
        ("config.players.denoiser.update_steps = 2", "did you mean updates"),
        (
            "config.evaluation.update(log_prob_images=4, log_prob=dict(num_time=5))",
            "did you mean num_times",
        ),
    ],
)
def test_what_would_fail_later_fails_at_once(config, fails, tmp_path, line, message):
    path = tmp_path / "odd.py"
    body = Path(config).read_text().rstrip()
    assert body.endswith("return config")
    path.write_text(body[: -len("return config")] + f"{line}\n    return config\n")
    assert message in fails("train", f"--config={path}", "--workdir=NEW")


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Two files of real digits as samples."""
    folder = tmp_path_factory.mktemp("samples")
    images = data.load("digits", "train").images
    for i in range(2):
        np.savez(folder / f"{i}.npz", arr_0=images[i * 60 : (i + 1) * 60])
    return folder


def test_samples_of_anybody_are_measured_without_a_model(samples, capfd, monkeypatch, tmp_path):
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path))
    files = f"{samples}/0.npz,{samples}/1.npz"
    assert (
        cli.main(
            ["evaluate", f"--samples={files}", "--reference=digits", f"--out={tmp_path}/out.json"]
        )
        == 0
    )
    printed = capfd.readouterr().out
    made = json.loads((tmp_path / "out.json").read_text())
    assert (
        made["protocol"]["samples"] == [60, 60] and "digits test" in made["protocol"]["reference"]
    )
    assert made["scores"]["copies"]["values"] == [60.0, 60.0]  # they are training images
    assert made["scores"]["frechet"]["std"] > 0 and made["floors"]["frechet"]["mean"] > 0
    for name in ("FD-Digits64", "FD-PCA64", "coverage-Digits64 k=5", "real images"):
        assert name in printed


@pytest.mark.parametrize(
    "case",
    "floats size few nothing no_reference split weights extractor cast NaN num twice array steps "
    "workdir field".split(),
)
def test_samples_that_cannot_be_measured(fails, samples, tmp_path, monkeypatch, case):
    monkeypatch.delenv("JAXGEN_INCEPTION", raising=False)
    images = np.zeros((20, 8, 8, 1), np.uint8)
    broken = {
        "floats": images / 255.0,
        "size": np.zeros((20, 28, 28, 1), np.uint8),
        "few": images[:3],
        "cast": images + np.uint8(1),
        "NaN": images * np.nan,
    }
    np.save(tmp_path / "array.npy", images)
    np.savez(tmp_path / "file.npz", arr_0=broken.get(case, images))
    flags, message = {
        "floats": ([], "expected uint8"),
        "size": ([], "(28, 28, 1)"),
        "few": ([], "file.npz: has 3 images; scores need at least 8"),
        "cast": ([], "no pixel is above 1"),
        "NaN": ([], "with NaN or infinity in image 0"),
        "num": (["--num=21"], "has 20 images, fewer than --num=21"),
        "twice": ([f"--samples={tmp_path}/file.npz,{tmp_path}/file.npz"], "names a file twice"),
        "array": ([f"--samples={tmp_path}/array.npy"], "write it again with np.savez"),
        "steps": (["--steps=5"], "--steps has no meaning with --samples"),
        "workdir": ([f"--workdir={tmp_path}"], "--workdir has no meaning with --samples"),
        "nothing": ([f"--samples={tmp_path}/none.npz"], "there is no such file"),
        "field": (["--config.evaluation.num=9"], "--config.FIELD has no meaning with --samples"),
        "no_reference": (["--reference="], "--reference is needed"),
        "split": (["--split=tst"], "there is no split 'tst'"),
        "weights": (["--features=inception768"], "JAXGEN_INCEPTION"),
        "extractor": (["--features=inseption"], "did you mean inception"),
    }[case]
    assert message in fails(
        "evaluate", f"--samples={tmp_path}/file.npz", "--reference=digits", *flags
    )


def test_what_is_measured_must_be_named(fails, run):
    assert "--workdir=RUN, or --samples=FILE.npz" in fails("evaluate")
    assert "--features has no meaning without --samples" in fails(
        "evaluate", f"--workdir={run}", "--features=pixels"
    )


def test_the_floor_shares_no_image_with_a_reference_of_several_splits(samples, capfd, tmp_path):
    command = [
        "evaluate",
        f"--samples={samples}/0.npz",
        "--reference=digits",
        f"--out={tmp_path}/out.json",
    ]
    assert cli.main([*command, "--split=validation[:200]+train[:100]"]) == 0
    floor = json.loads((tmp_path / "out.json").read_text())["protocol"]["floor"]
    assert "other real images, digits test" in floor


def test_fields_may_be_set_in_every_form(config, tmp_path):
    def values(*line):
        module = commands.train
        return cli.arguments.parse("train", module, [f"--config={config}", *line])

    schedule = "{'weight': {'init': 0, 'end': 1, 'steps': 9}}"
    made = common.file_config(
        values(
            "--config.train.steps", "7", "-config.seed=3", "--config.data.flip", "--noprogress",
            "--noconfig.conditional", "--config.ema.rates=[0.9, 0.99]", "--config.parallel.fsdp",
            "-1", f"--config.players.denoiser.terms.denoising={schedule}",
        )
    )  # fmt: skip
    assert (made.train.steps, made.seed, made.data.flip, made.conditional) == (7, 3, True, False)
    assert made.ema.rates == (0.9, 0.99) and made.parallel.fsdp == -1
    assert made.players.denoiser.terms.denoising.weight.steps == 9


def test_paths_with_a_tilde_and_with_a_colon(config, tmp_path, monkeypatch):
    folder = tmp_path / "a:b"
    folder.mkdir()
    (folder / "tiny.py").write_text(Path(config).read_text())
    assert config_lib.load(f"{folder}/tiny.py").name == "tiny"
    monkeypatch.setenv("HOME", str(folder))
    assert config_lib.load("~/tiny.py").name == "tiny"
    line = ["--workdir=~/w", "--out=~/o", "--samples=~/s,~/t", "--inception=~/i", "--data_dir=~/d"]
    values = cli.arguments.parse("evaluate", commands.evaluate, line)
    assert values.samples == [f"{folder}/s", f"{folder}/t"]
    named = (values.workdir, values.out, values.inception, values.data_dir)
    assert named == tuple(f"{folder}/{letter}" for letter in "woid")


FIELDS_OF_SAMPLING = {
    "sample.num": ("3", 3),
    "sample.batch_size": ("2", 2),
    "sample.ema": ("none", "none"),
    "sample.options": ("{'steps': 2}", {"steps": 2}),
    "evaluation.num": ("17", 17),
    "evaluation.seeds": ("(4,)", (4,)),
    "evaluation.split": ("train", "train"),
    "evaluation.reference_images": ("50", 50),
    "evaluation.features": ("('pixels',)", ("pixels",)),
    "evaluation.inception": ("/weights", "/weights"),
    "evaluation.resize": ("pil_bicubic", "pil_bicubic"),
    "evaluation.scores": ("('mine:score',)", ("mine:score",)),
    "evaluation.log_prob_images": ("5", 5),
    "evaluation.log_prob": ("{'num_times': 3}", {"num_times": 3}),
}


class Measured(Exception):
    """Raised where the work would begin, with what it would be done with."""


def test_evaluate_obeys_every_field_of_sampling_and_evaluation(run, monkeypatch):
    from jaxgen.evaluation import measure, reference

    assert set(FIELDS_OF_SAMPLING) == {
        *(f"sample.{name}" for name in config_lib.default().sample),
        *(f"evaluation.{name}" for name in config_lib.default().evaluation),
    }

    def evaluate(artefact, refs, *, options, ema, progress):
        config = artefact.config
        assert options == config.sample.options and refs == "references" and ema is None
        raise Measured(config)

    monkeypatch.setattr(reference, "references", lambda config: "references")
    monkeypatch.setattr(measure, "evaluate", evaluate)
    line = [f"--config.{name}={text}" for name, (text, _) in FIELDS_OF_SAMPLING.items()]
    with pytest.raises(Measured) as raised:
        cli.main(["evaluate", f"--workdir={run}", "--noprogress", *line])
    (seen,) = raised.value.args
    for name, (_, value) in FIELDS_OF_SAMPLING.items():
        found = config_lib.value(seen, name)
        assert (found.to_dict() if isinstance(value, dict) else found) == value, name


def test_sample_obeys_every_field_of_sampling(run, monkeypatch):
    def generate(draw, variables, num, *, seed, batch_size, **others):
        raise Measured(num, batch_size, seed)

    def sampler(family, options, space):
        assert options.to_dict() == {"steps": 2}

    monkeypatch.setattr(jaxgen.sampling, "generate", generate)
    monkeypatch.setattr(jaxgen.sampling, "sampler", sampler)
    line = [f"--config.{name}={text}" for name, (text, _) in FIELDS_OF_SAMPLING.items()]
    with pytest.raises(Measured) as raised:
        cli.main(["sample", f"--workdir={run}", f"--seed={2**64 - 1}", *line])
    assert raised.value.args == (3, 2, 2**64 - 1)


def test_the_average_of_the_config_is_the_one_that_is_sampled_from(run, fails):
    raw, named = open_run(run, "none"), open_run(run)
    config = config_lib.read(run)
    config.sample.ema = "none"
    chosen = open_run(run, config=config)
    assert (raw.ema, named.ema, chosen.ema) == (None, "0.999", None)
    jax.tree.map(np.testing.assert_array_equal, chosen.variables, raw.variables)
    assert open_run(run, "0.999", config=config).ema == "0.999"
    for command in ("sample", "evaluate"):
        line = fails(command, f"--workdir={run}", "--config.sample.ema=0.5")
        assert "config.sample.ema '0.5' is no average" in line


@pytest.mark.slow
def test_results_go_where_out_says_and_are_refused_before_the_work(
    run, fails, monkeypatch, tmp_path
):
    from jaxgen.evaluation import measure, record, reference

    def references(config):
        raise AssertionError("the work began")

    monkeypatch.setattr(reference, "references", references)
    (tmp_path / "file").touch()
    line = fails("evaluate", f"--workdir={run}", f"--out={tmp_path / 'file' / 'x'}")
    assert "cannot be written" in line
    access = os.access
    locked = lambda path, mode: not str(path).startswith(run) and access(path, mode)  # noqa: E731
    monkeypatch.setattr(os, "access", locked)
    line = fails("evaluate", f"--workdir={run}")
    assert "no permission to write" in line and "give --out=OUT" in line

    def evaluate(artefact, *arguments, **keywords):
        return {"cost": {}, "scores": {}, "floors": {}}, {0: np.zeros((2, 8, 8, 1), np.uint8)}

    class References:
        rows = ()

    monkeypatch.setattr(reference, "references", lambda config: References)
    monkeypatch.setattr(measure, "evaluate", evaluate)
    monkeypatch.setattr(jaxgen.runs, "training_cost", lambda workdir: {})
    out = tmp_path / "new" / "mine"
    for each in (out, f"{out}.json"):
        assert cli.main(["evaluate", f"--workdir={run}", f"--out={each}", "--noprogress"]) == 0
        assert sorted(os.listdir(out.parent)) == ["mine.json", "mine_seed_0.npz"]
    assert record.read(f"{out}.json")["step"] == 4


@pytest.mark.slow
def test_an_earlier_file_outlives_a_full_disk(run, fails, monkeypatch, tmp_path):
    flags = ["sample", f"--workdir={run}", "--num=2", "--noprogress", f"--out={tmp_path / 'x'}"]
    assert cli.main(flags) == 0
    before = (tmp_path / "x.npz").read_bytes()

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    assert f"No space left on device: {tmp_path / 'x.npz'}" in fails(*flags, "--seed=1", code=75)
    assert (tmp_path / "x.npz").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["x.npz", "x.png"]


def test_tables_are_printed_in_letters_that_the_terminal_has(monkeypatch):
    import io

    for encoding, shown in (("ascii", "FDinf 1 +- 2"), ("utf-8", "FD∞ 1 ± 2")):
        out = io.TextIOWrapper(io.BytesIO(), encoding)
        monkeypatch.setattr(sys, "stdout", out)
        common.say("FD∞ 1 ± 2")
        out.flush()
        assert out.buffer.getvalue().decode(encoding) == f"{shown}\n"


def test_experiments_that_are_none(fails):
    line = ["compare", "--config=experiments/trilemma.py:smoke", "--workdir=NEW"]
    assert "config.systems must be a tuple" in fails(*line, "--config.systems=5")
    assert "config.evaluation.seeds must be" in fails(*line, "--config.evaluation.seeds=()")
    assert "not an experiment" in fails(
        "compare", "--config=configs/digits/vae.py", "--workdir=NEW"
    )
    assert "has no mode 'smok'" in fails(
        "compare", "--config=experiments/trilemma.py:smok", "--workdir=NEW"
    )


def test_requirements_are_checked_before_anything_is_trained(fails):
    command = ["compare", "--config=experiments/trilemma.py:smoke", "--workdir=NEW"]
    assert "latency_ms" in fails(*command, "--require=latency<=5")
    assert fails(*command, "--require=coverage")
