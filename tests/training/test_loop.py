"""The loop: what a run leaves behind when it is stopped, resumed, disturbed or diverges."""

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxgen.errors import InputError, RetryError
from jaxgen.training import Hook, checkpoint, logging, loop
from jaxgen.training import hooks as hooks_lib
from jaxgen.training.validation import validator
from tests.support import close

STOPS = {"vae": None, "gan": signal.SIGTERM, "diffusion": signal.SIGINT}


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    """Compiled sooner; for several see test_parallel, test_dispatch and test_processes."""
    devices = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda: devices)


def run(config, workdir, hooks=(), **overrides):
    """Train a copy of the config with some dotted fields changed: (result, notices)."""
    config = config.copy_and_resolve_references()
    for name, value in overrides.items():
        section, field = name.split("__")
        config[section][field] = value
    notices = []
    result = loop.train(
        config, str(workdir), progress=False, report=notices.append, parameters=False, hooks=hooks
    )
    return result, notices


def assert_same(a, b):
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True
    ):
        np.testing.assert_array_equal(
            np.asarray(x), np.asarray(y), err_msg=jax.tree_util.keystr(path)
        )


def curve(workdir):
    """metrics.jsonl without the times."""
    rows = [json.loads(line) for line in (Path(workdir) / "metrics.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in row.items() if k not in ("images_per_second", "seconds")} for row in rows
    ]


def at_step(monkeypatch, step, action):
    """Call `action` while the loop is busy with its `step`-th step."""

    class Bar(contextlib.nullcontext):
        count = 0

        def update(self, count):
            before, self.count = self.count, self.count + count
            if before < step <= self.count:
                action()

        def set_postfix_str(self, text, refresh):
            pass

    monkeypatch.setattr(logging, "progress_bar", lambda *arguments: Bar(Bar()))
    Bar.__enter__ = lambda self: self


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["gan", *(pytest.param(name, marks=pytest.mark.slow) for name in ("vae", "diffusion"))]
)
def test_a_resumed_run_ends_in_the_same_bits(tiny, tmp_path, monkeypatch, name):
    config, number, before = tiny(name), STOPS[name], signal.getsignal(signal.SIGINT)
    whole, _ = run(config, tmp_path / "whole")
    if number is None:
        first, _ = run(config, tmp_path / "parts", train__steps=3)
        assert first.signal is None
    else:
        with monkeypatch.context() as patch:
            at_step(patch, 3, lambda: signal.raise_signal(number))
            first, _ = run(config, tmp_path / "parts")
        assert first.signal == number
        assert signal.getsignal(signal.SIGINT) is before
    assert checkpoint.steps_in(tmp_path / "parts" / "checkpoints") == [3]
    rest, notices = run(config, tmp_path / "parts")
    assert notices == [f"resuming {tmp_path / 'parts'} from step 3"]
    assert_same(whole.state, rest.state)
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")
    assert [row["step"] for row in curve(tmp_path / "parts")] == list(range(1, 9))


@pytest.mark.slow
def test_a_finished_run_stays_as_it_is(tiny, tmp_path):
    first, _ = run(tiny("vae"), tmp_path, train__steps=2)
    again, _ = run(tiny("vae"), tmp_path, train__steps=2)
    assert_same(first.state, again.state)
    assert [row["step"] for row in curve(tmp_path)] == [1, 2]


@pytest.mark.slow
def test_rows_after_the_checkpoint_are_written_once(tiny, tmp_path):
    # as after kill -9: the log is ahead of the newest checkpoint, and its last line is cut off
    config = tiny("vae")
    run(config, tmp_path, train__steps=5, checkpoint__every=2)
    shutil.rmtree(tmp_path / "checkpoints" / "5")
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 6, "model/lo')
    run(config, tmp_path)
    assert [row["step"] for row in curve(tmp_path)] == list(range(1, 9))


@pytest.mark.slow
def test_a_damaged_checkpoint_costs_only_its_steps(tiny, tmp_path):
    config = tiny("vae")
    whole, _ = run(config, tmp_path / "whole")
    run(config, tmp_path / "parts", checkpoint__every=2, train__steps=6)
    for data in (tmp_path / "parts" / "checkpoints" / "6").rglob("d/*"):
        damaged = bytearray(data.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        data.write_bytes(damaged)
    rest, notices = run(config, tmp_path / "parts")
    aside = tmp_path / "parts" / "damaged_checkpoints" / "6"
    assert len(notices) == 2 and str(aside) in notices[0] and "using step 4" in notices[0], notices
    assert notices[1].endswith("from step 4") and aside.is_dir()
    assert_same(whole.state, rest.state)
    assert [row["step"] for row in curve(tmp_path / "parts")] == list(range(1, 9))


@pytest.mark.slow
def test_another_config_touches_nothing(tiny, tmp_path):
    config = tiny("vae")
    run(config, tmp_path, train__steps=2)
    before = files(tmp_path)
    other = tiny("vae")
    other.model.latent = 3
    with pytest.raises(InputError, match=r"config\.model\.latent was 2 and is now 3;"):
        run(other, tmp_path)
    assert files(tmp_path) == before


def test_a_config_that_failed_at_once_may_be_mended(tiny, tmp_path):
    config = tiny("vae")
    config.model.encoder.hiden = (3,)
    with pytest.raises(InputError, match="hiden"):
        run(config, tmp_path)
    assert run(tiny("vae"), tmp_path, train__steps=1)[0].state.step == 1


@pytest.mark.slow
def test_full_disk_while_logging(tiny, tmp_path, monkeypatch):
    config = tiny("vae")
    run(config, tmp_path, train__steps=2)
    with monkeypatch.context() as patch:
        # the kernel's own ENOSPC, on the first line written
        full = lambda path, mode="r", *rest, **keywords: open(  # noqa: E731
            "/dev/full" if mode == "a" else path, mode, *rest, **keywords
        )
        patch.setattr(logging, "open", full, raising=False)
        with pytest.raises(
            RetryError, match="No space left on device.*last good checkpoint is step 2"
        ) as error:
            run(config, tmp_path)
    assert error.value.__cause__.errno == errno.ENOSPC
    assert run(config, tmp_path)[0].state.step == 8


@pytest.mark.slow
def test_full_disk_while_saving_surfaces_at_the_next_log(tiny, tmp_path, monkeypatch):
    config = tiny("vae")
    whole, _ = run(config, tmp_path / "whole")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill():
        while checkpoint.steps_in(tmp_path / "parts" / "checkpoints") != [2]:
            time.sleep(0.01)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))

    with monkeypatch.context() as patch:
        at_step(patch, 3, fill)
        try:
            with pytest.raises(RetryError, match="could not save .*last good checkpoint is step 2"):
                run(config, tmp_path / "parts", checkpoint__every=2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [row["step"] for row in curve(tmp_path / "parts")][-1] < 8
    rest, _ = run(config, tmp_path / "parts")
    assert_same(whole.state, rest.state)


@pytest.mark.slow
def test_divergence_stops_with_the_last_good_checkpoint(tiny, tmp_path):
    config = tiny("vae")
    config.players.model.optimizer.learning_rate = 1e30
    message = "NaN or infinite at step 1; the last good checkpoint is step 1"
    for _ in range(2):  # the same command says it again
        with pytest.raises(InputError, match=message):
            run(config, tmp_path, checkpoint__every=1, train__log_every=100)
    assert checkpoint.steps_in(tmp_path / "checkpoints") == [1]
    assert curve(tmp_path) == []


@pytest.mark.slow
def test_the_best_is_kept_beside_the_latest(tiny, tmp_path, monkeypatch):
    config = tiny("vae")
    config.checkpoint.update(best="validation/model/loss", keep=1, every=3)
    config.train.eval_every = 4
    losses = {4: 2.0, 5: 9.0, 8: 1.0, 9: 9.0, 12: 3.0, 14: 4.0, 16: 1.5, 18: 0.5, 19: 0.7}
    in_turn = iter(losses.values())

    def scripted(config, family, players, devices):
        return lambda variables, source: {"validation/model/loss": next(in_turn)}

    monkeypatch.setattr(hooks_lib, "validator", scripted)
    kept = {}
    for steps in (5, 9, 14, 16, 18, 19):
        _, notices = run(config, tmp_path, train__steps=steps)
        kept[steps] = checkpoint.steps_in(tmp_path / "checkpoints")
    assert kept == {5: [4, 5], 9: [8, 9], 14: [8, 14], 16: [8, 16], 18: [18], 19: [18, 19]}
    assert (
        notices[-1]
        == "best validation/model/loss is 0.5, of step 18 (jaxgen sample --checkpoint=18)"
    )


@pytest.mark.slow
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_validation_that_is_not_finite_stops_the_run(tiny, tmp_path, monkeypatch, value):
    """Before anything of that step is written or kept as the best."""
    config = tiny("vae")
    config.checkpoint.update(best="validation/model/kl", every=2)
    in_turn = iter((1.0, value))

    def scripted(config, family, players, devices):
        return lambda variables, source: {"validation/model/kl": next(in_turn)}

    monkeypatch.setattr(hooks_lib, "validator", scripted)
    message = "validation/model/kl became NaN or infinite at step 4; the last good .* is step 2"
    with pytest.raises(InputError, match=message):
        run(config, tmp_path, train__eval_every=2)
    assert checkpoint.steps_in(tmp_path / "checkpoints") == [2]
    rows = curve(tmp_path)
    assert all(np.isfinite(value) for row in rows for value in row.values())
    assert [row["step"] for row in rows if "validation/model/kl" in row] == [2]


def test_calls_end_where_a_hook_is_due():
    saving, rows = Hook(4, print), Hook(3, print, exact=False)
    assert [*hooks_lib.strides(0, 10, 3, (saving, rows))] == [3, 1, 3, 1, 2]
    assert [*hooks_lib.strides(5, 10, 9, (Hook(0, print),))] == [5]
    assert [*hooks_lib.strides(10, 10, 3, (saving,))] == []


def test_a_hook_is_due_at_its_steps_and_at_the_last_one():
    def due(hook, before, step, last=10, **fields):
        return hook.due(hooks_lib.Moment(1, before, step, last, None, {}, **fields))

    every = Hook(4, print)
    assert [step for step in range(1, 11) if due(every, step - 1, step)] == [4, 8, 10]
    assert due(every, 3, 6) and not due(every, 4, 6)  # the call ran past step 4, or from it
    assert not due(Hook(0, print), 9, 10)
    stopping = Hook(0, print, when=lambda moment: bool(moment.stopping))
    assert due(stopping, 0, 1, stopping=15) and not due(stopping, 0, 1)


@pytest.mark.slow
def test_a_new_habit_is_one_value(tiny, tmp_path):
    """It sees the state, the means and what validation found, after the run's own habits."""
    seen = []

    def look(moment):
        saved = checkpoint.steps_in(tmp_path / "checkpoints")
        seen.append((moment.step, int(moment.state.step), moment.means["model/loss"], len(saved)))

    config = tiny("vae")
    run(config, tmp_path, hooks=(Hook(2, look),), train__steps=5, checkpoint__every=2)
    assert [step for step, *_ in seen] == [2, 4, 5] == [step for _, step, *_ in seen]
    losses = [row["model/loss"] for row in curve(tmp_path)]
    found = np.float32([loss for _, _, loss, _ in seen])
    close(found, np.float32([np.mean(losses[:2]), np.mean(losses[2:4]), losses[4]]), terms=2)


@pytest.mark.slow
def test_the_cost_is_written_into_the_folder(tiny, tmp_path):
    run(tiny("gan"), tmp_path, train__steps=1)
    cost = json.loads((tmp_path / "cost.json").read_text())
    assert cost["examples"] == 2 * 16 and cost["flops"] > 0 < cost["bytes"] and cost["seconds"] > 0


@pytest.mark.slow
def test_going_on_needs_the_same_data_wherever_they_lie(tiny, tmp_path, monkeypatch):
    from jaxgen import config as config_lib
    from jaxgen import data

    monkeypatch.setattr(config_lib, "differences", lambda old, new: {})
    source = data.load("digits", "train")

    def config_of(name, images):
        np.savez(tmp_path / name, images=images, labels=source.labels[: len(images)])
        config = tiny("vae")
        config.data.source = f"npz:{tmp_path / name}"
        return config

    workdir = tmp_path / "run"
    run(config_of("a.npz", source.images[:100]), workdir, train__steps=1)
    moved = config_of("b.npz", source.images[:100])
    assert run(moved, workdir, train__steps=2)[0].state.step == 2
    before = files(workdir)
    for images in (source.images[1:101], source.images[:99], source.images[:100][::-1]):
        message = r"trained on 100 examples of npz:.*/b\.npz train, and .* differ from them"
        with pytest.raises(InputError, match=message):
            run(config_of("c.npz", images), workdir, train__steps=3)
    assert files(workdir) == before


def test_terms_without_their_outputs_are_found_before_anything_is_touched(tiny, tmp_path):
    config = tiny("vae")
    config.players.model.terms = {"kl": {}, "adversarial": {}}
    config.data.source = "npz:/nowhere/at/all.npz"  # not even looked at
    message = (
        "config.players.model: loss term 'adversarial' needs the output 'real_score'.*: it has .*"
        "reconstruction"
    )
    with pytest.raises(InputError, match=message):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_classes_without_an_image_are_refused(tiny, tmp_path):
    from jaxgen import data

    source = data.load("digits", "train")
    np.savez(tmp_path / "d.npz", images=source.images[:99], labels=source.labels[:99] % 3 + 1)
    config = tiny("gan")
    config.data.source = f"npz:{tmp_path}/d.npz"
    with pytest.raises(InputError, match="num_classes is 10: no example has class 0, 4, 5, 6, 7, "):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.slow
def test_a_reader_who_leaves_does_not_end_the_run(tiny, tmp_path):
    def broken(text):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    config = tiny("vae")
    config.train.steps = 1
    assert loop.train(config, str(tmp_path), progress=False, report=broken).state.step == 1


def test_best_must_be_measured(tiny, tmp_path):
    config = tiny("vae")
    with pytest.raises(InputError, match="did you mean validation/model/loss"):
        run(config, tmp_path, checkpoint__best="validation/loss", train__eval_every=2)
    with pytest.raises(InputError, match="eval_every"):
        run(config, tmp_path, checkpoint__best="validation/model/loss")


@pytest.mark.slow
def test_validation_and_grids(tiny, tmp_path):
    config = tiny("gan")
    result, _ = run(config, tmp_path, train__steps=3, train__eval_every=2, train__sample_every=3)
    rows = [row for row in curve(tmp_path) if "validation/critic/loss" in row]
    assert [row["step"] for row in rows] == [2, 3]
    assert os.listdir(tmp_path / "samples") == ["step_00000003.png"]


def test_grids_are_of_the_average_that_the_config_asks_for(tiny, tmp_path, monkeypatch):
    asked = []
    known = hooks_lib.variables
    monkeypatch.setattr(
        hooks_lib, "variables", lambda s, ema, a: asked.append(ema) or known(s, ema, a)
    )
    config = tiny("vae")
    config.sample.ema = "none"
    run(config, tmp_path, train__steps=1, train__sample_every=1, train__eval_every=0)
    assert asked == ["none"]


def test_the_log_is_flushed_before_a_checkpoint_is_saved():
    done = []

    class Checkpoints:
        save = staticmethod(done.append)

    log = logging.SILENT._replace(flush=lambda: done.append("flushed"))
    moment = hooks_lib.Moment(1, 0, 1, 1, "state", {})
    hooks_lib.saving(1, Checkpoints(), log).run(moment)
    assert done == ["flushed", "state"]


@pytest.mark.slow
def test_validation_is_the_mean_over_the_split(compiled, tiny):
    """Whatever the batch size, though the last batch is filled up."""
    from jaxgen import data
    from jaxgen.training import state as state_lib

    config, system = tiny("vae"), compiled("vae", "one device")
    variables = state_lib.variables(system.create())
    records = data.open_records("digits", "validation[:50]")
    values = []
    for size in (50, 16):
        config.train.batch_size = size
        validate = validator(config, system.family, system.players, system.devices)
        values.append(np.float32(validate(variables, records.everything())["validation/model/kl"]))
    close(*values, terms=50)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"data__train": "train[:0]"}, "empty"),
        ({"data__source": "digit"}, "unknown data source"),
        ({"data__num_classes": 5}, "10 classes"),
        ({"parallel__mode": "pmpa"}, "did you mean pmap"),
        ({"parallel__rules": ("a",)}, "must be a tuple of 2 elements"),
    ],
)
def test_bad_input(tiny, tmp_path, fields, message):
    with pytest.raises(InputError, match=message):
        run(tiny("vae"), tmp_path, **fields)
    assert not (tmp_path / "checkpoints").exists()
