"""What a run writes while it trains."""

import fcntl
import io
import json
import os
import select
import struct
import subprocess
import sys
import termios

import numpy as np
import pytest
from PIL import Image

from jaxgen import files
from jaxgen.training import logging


def events(workdir):
    """All TensorBoard events of a run, read by the format's definition: length, its checksum, data,
    its checksum.
    """
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            found.append(Event.FromString(data[at + 12 : at + 12 + length]))
            at += length + 16
    return found


def rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_scalars_go_to_both_and_are_there_at_once(tmp_path):
    log = logging.open_log(str(tmp_path), 0)
    log.scalars(10, {"model/loss": np.float32(0.5), "seconds": 2})
    # not closed: a killed run has them
    assert rows(tmp_path) == [{"step": 10, "model/loss": 0.5, "seconds": 2.0}]
    written = [(e.step, v.tag, v.simple_value) for e in events(tmp_path) for v in e.summary.value]
    assert written == [(10, "model/loss", 0.5), (10, "seconds", 2.0)]
    log.close()


def test_images_go_to_both(tmp_path):
    log = logging.open_log(str(tmp_path), 0)
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    log.images(7, "samples", images)
    log.close()
    (image,) = [v.image for e in events(tmp_path) for v in e.summary.value]
    board = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)))
    np.testing.assert_array_equal(board, logging.image_grid(images))
    png = np.asarray(Image.open(tmp_path / "samples" / "step_00000007.png"))
    assert png.shape == (2 * (64 + 2) - 2, 3 * (64 + 2) - 2, 3)  # enlarged by 4
    np.testing.assert_array_equal(png[66 : 66 + 64 : 4, :64:4], images[3])


def test_a_resumed_log_has_every_step_once(tmp_path):
    log = logging.open_log(str(tmp_path), 0)
    for step in (1, 2, 3):
        log.scalars(step, {"a": step})
    log.close()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "a"')
    log = logging.open_log(str(tmp_path), 2)
    log.scalars(3, {"a": 30})
    log.close()
    assert rows(tmp_path) == [{"step": 1, "a": 1.0}, {"step": 2, "a": 2.0}, {"step": 3, "a": 30.0}]
    # TensorBoard drops what it has from the step of a START on
    starts = [e.step for e in events(tmp_path) if e.session_log.status == e.session_log.START]
    assert starts == [1, 3]


def test_what_is_not_finite_is_null_and_reads_as_nan(tmp_path, caplog):
    log = logging.open_log(str(tmp_path), 0)
    log.scalars(1, {"a": np.nan, "b": np.inf, "c": 1.5})
    log.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert text == '{"step": 1, "a": null, "b": null, "c": 1.5}\n'
    (row,) = logging.read_metrics(str(tmp_path))
    assert np.isnan(row["a"]) and np.isnan(row["b"]) and row["c"] == 1.5
    assert caplog.text == ""
    log = logging.open_log(str(tmp_path), 1)  # which rewrites it
    log.close()
    assert (tmp_path / "metrics.jsonl").read_text() == text


def test_a_log_in_a_bucket():
    workdir = "memory://bucket/run"
    log = logging.open_log(workdir, 0)
    log.scalars(1, {"a": 1})
    log.scalars(2, {"a": 2})
    log.images(2, "samples", np.zeros((1, 8, 8, 1), np.uint8))
    log.flush()
    assert [row["a"] for row in logging.read_metrics(workdir)] == [1.0, 2.0]
    log.scalars(3, {"a": 3})
    log.close()
    log = logging.open_log(workdir, 2)
    log.scalars(3, {"a": 30})
    log.close()
    assert [row["a"] for row in logging.read_metrics(workdir)] == [1.0, 2.0, 30.0]
    assert len(files.listdir(f"{workdir}/tensorboard")) >= 1
    assert Image.open(io.BytesIO(files.read(f"{workdir}/samples/step_00000002.png"))).size
    assert not os.path.exists("memory:")


class Gone(io.StringIO):
    """A stream whose reader has left."""

    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")

    def flush(self):
        self.write("")


def test_a_progress_bar_outlives_its_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Gone())
    with logging.progress_bar(2, 0, "VAE") as bar:
        bar.update()
        bar.update()


def test_reading_stops_at_a_line_that_was_cut_off(tmp_path):
    assert logging.read_metrics(str(tmp_path)) == []
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st')
    assert logging.read_metrics(str(tmp_path)) == [{"step": 1}]


def test_a_full_disk_is_an_error_at_once(tmp_path):
    """On the TensorBoard side too: SummaryWriter would lose its thread and then wait for it for
    ever.
    """
    log = logging.open_log(str(tmp_path), 0)
    log.close()
    (path,) = (tmp_path / "tensorboard").iterdir()
    path.unlink()
    path.symlink_to("/dev/full")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "tensorboardX.event_file_writer.time.time", lambda: float(path.name.split(".")[3])
        )
        with pytest.raises(OSError, match="No space left"):
            log = logging.open_log(str(tmp_path), 0)
            log.scalars(1, {"a": 1.0})


@pytest.mark.parametrize("count, shape", [(1, (4, 4)), (2, (4, 9)), (5, (9, 14)), (7, (14, 14))])
def test_image_grid(count, shape):
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8)
    sheet = logging.image_grid(images)
    assert sheet.shape == (*shape, 1)
    columns = (shape[1] + 1) // 5
    for i in range(count):
        assert (sheet[i // columns * 5 :, i % columns * 5 :][:4, :4] == i).all()
    assert (sheet[:, 4::5] == 255).all() and (sheet[4::5] == 255).all()


def test_progress_in_a_file_is_lines(capsys):
    with logging.progress_bar(10_000, 0, "VAE") as bar:
        for _ in range(10_000):
            bar.set_postfix_str("loss 1.5, 100 images/s", refresh=False)
            bar.update()
    error = capsys.readouterr().err
    assert "\r" not in error and len(error.splitlines()) == 2
    last = error.splitlines()[-1]
    assert (
        last.startswith("VAE: 100%") and "10000/10000" in last and "loss 1.5, 100 images/s" in last
    )


@pytest.mark.parametrize("columns", [100, 0])
def test_progress_in_a_terminal(monkeypatch, columns):
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with open(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with logging.progress_bar(10, 4, "VAE") as bar:
            bar.update()
            bar.set_postfix_str("loss 1.5")
        terminal.flush()
        text = ""
        while select.select([master], [], [], 0.5)[0]:  # a terminal hands on in pieces
            text += os.read(master, 10_000).decode()
        text = text.strip().replace("\n", "\r").split("\r")[-1]
        # name, share done, step, time taken and to come, speed, loss
        assert (
            text.startswith("VAE:  50%")
            and "5/10 [00:00<00:00" in text
            and text.endswith("step/s, loss 1.5]")
        )
    os.close(master)


def test_no_progress(capsys):
    with logging.progress_bar(10, 0, "VAE", enabled=False) as bar:
        bar.update()
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_pytorch_is_not_imported():
    code = (
        "import sys; from jaxgen.training import logging; logging._tensorboard(); assert 'torch' "
        "not in sys.modules;"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
