"""What a run writes while it trains: metrics.jsonl, TensorBoard events, sample grids and a progress
bar.
"""

import contextlib
import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from jaxgen import console, files
from jaxgen.plain import plain

FLUSH_SECONDS = 10.0  # TensorBoard's events go to the disk this often: each time costs milliseconds


def image_grid(
    images: UInt8[np.ndarray, "N H W C"], columns: int | None = None, gap: int = 1
) -> np.ndarray:
    """Images side by side with thin white lines between them, uint8 [h, w, C]; by default as square
    as it goes.
    """
    count, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = np.full(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8
    )
    for i, image in enumerate(images):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def write_png(path: str, images: UInt8[np.ndarray, "N H W C"], columns: int | None = None) -> None:
    """Save a grid as PNG, small images enlarged by a whole factor so that a person can see them."""
    from PIL import Image

    def write(file):
        picture.save(file, format="png")

    factor = max(1, round(32 / images.shape[2]) * 2) if images.shape[2] <= 32 else 1
    sheet = image_grid(images.repeat(factor, 1).repeat(factor, 2), columns, gap=max(1, factor // 2))
    picture = Image.fromarray(sheet[..., 0] if sheet.shape[-1] == 1 else sheet)
    files.replace(path, write)


class Log(NamedTuple):
    """scalars: (step, {name: number}). images: (step, name, uint8 [N,H,W,C]) as PNG and in
    TensorBoard. flush: write what is held back, as before a checkpoint. close.
    """

    scalars: Callable[[int, Mapping[str, float]], None]
    images: Callable[[int, str, np.ndarray], None]
    flush: Callable[[], None]
    close: Callable[[], None]


class Pending:
    """Metrics of train steps that no row of the log has told of yet, and the time that these steps
    took.

    step: the last step that the log has told of. every: a row's steps.
    """

    def __init__(self, step: int, every: int):
        self.step, self.every, self.done = step, every, step
        self.parts: list[tuple[Mapping[str, Any], int]] = []
        self.since, self.timed = time.perf_counter(), step

    def add(self, metrics: Mapping[str, Any], count: int) -> None:
        """The first `count` entries of each metric are those of the next `count` steps."""
        self.parts.append((metrics, count))
        self.done += count

    def rows(self, last: int) -> list[tuple[int, dict[str, float]]]:
        """(step, means over the steps since the row before) for each row that is due. Waits for the
        device.
        """
        # device_get takes far longer over many small arrays
        taken = [
            {k: np.asarray(v)[:count] for k, v in metrics.items()} for metrics, count in self.parts
        ]
        values = {k: np.concatenate([part[k] for part in taken]) for k in taken[0]}
        start, rows = self.step, []
        for end in range(start + 1, self.done + 1):
            if end % self.every == 0 or end == last:
                rows.append(
                    (
                        end,
                        {
                            k: float(np.mean(v[self.step - start : end - start]))
                            for k, v in values.items()
                        },
                    )
                )
                self.step = end
        rest = self.done - self.step
        self.parts = [({k: v[-rest:] for k, v in values.items()}, rest)] if rest else []
        return rows

    def rate(self, now: float) -> float:
        """Steps per second since it was asked for last, without pauses."""
        rate = (self.done - self.timed) / (now - self.since)
        self.since, self.timed = now, self.done
        return rate

    def pause(self, seconds: float) -> None:
        """Exclude `seconds` from the measured rate."""
        self.since += seconds


SILENT = Log(lambda step, values: None, lambda step, name, images: None, lambda: None, lambda: None)


def read_metrics(workdir: str) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl, NaN where it says null; a last line cut off by a crash is
    left out.
    """
    path, rows = os.path.join(workdir, "metrics.jsonl"), []
    if files.exists(path):
        for line in files.read(path).splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                break
            rows.append({k: math.nan if v is None else v for k, v in row.items()})
    return rows


def _line(row: Mapping[str, float]) -> str:
    """A row as JSON, which knows neither NaN nor infinity."""
    return json.dumps(plain(row), allow_nan=False) + "\n"


def _tensorboard():
    """The parts of tensorboardX that write events, without the PyTorch that it imports wherever
    there is one.
    """
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None
    try:
        from tensorboardX import summary
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
    finally:
        if hidden:
            del sys.modules["torch"]
    logging.getLogger("tensorboardX.x2num").setLevel(logging.ERROR)  # NaN is in metrics.jsonl too
    return EventsWriter, Event, SessionLog, summary


def open_log(workdir: str, step: int) -> Log:
    """The log of the run in `workdir`, going on after `step`: rows of later steps are dropped,
    since they come again.

    In a bucket, where nothing can be appended, files are written here and copied at every flush.
    Raises OSError when something cannot be written."""
    import PIL  # noqa: F401  here, where nothing is lost yet, rather than at the first grid

    EventsWriter, Event, SessionLog, summary = _tensorboard()
    kept = "".join(_line(row) for row in read_metrics(workdir) if row["step"] <= step)
    scope, remote = contextlib.ExitStack(), files.is_remote(workdir)
    folder = scope.enter_context(files.temporary()) if remote else workdir
    files.makedirs(os.path.join(folder, "tensorboard"))
    for place in dict.fromkeys((workdir, folder)):
        files.replace(os.path.join(place, "metrics.jsonl"), kept)
    file = open(os.path.join(folder, "metrics.jsonl"), "a", buffering=1)
    # not SummaryWriter: it writes in a thread that a full disk kills, and then waits for that
    # thread for ever
    board = EventsWriter(os.path.join(folder, "tensorboard", "events"), f".{step}")

    def event(step, **content):
        board.write_event(Event(wall_time=time.time(), step=step, **content))

    # what an earlier run wrote from here on is void
    event(step + 1, session_log=SessionLog(status=SessionLog.START))

    flushed = -math.inf

    def flush():
        nonlocal flushed
        board.flush()
        if remote:
            files.upload(folder, workdir)
        flushed = time.monotonic()

    def scalars(step, values):
        values = {k: float(v) for k, v in values.items()}
        file.write(_line({"step": step, **values}))
        for name, value in values.items():
            event(step, summary=summary.scalar(name, value))
        if time.monotonic() - flushed > FLUSH_SECONDS:
            flush()

    def images(step, name, values):
        write_png(os.path.join(workdir, name, f"step_{step:08d}.png"), values)
        event(step, summary=summary.image(name, image_grid(values), dataformats="HWC"))

    def close():
        file.close()
        board.close()
        with scope:
            if remote:
                files.upload(folder, workdir)

    return Log(scalars, images, flush, close)


class _Lines:
    """A stream, with a line of its own for every state of a progress bar."""

    def __init__(self, stream):
        self.stream = stream

    def write(self, text: str) -> None:
        if text.strip():
            self.stream.write(text.strip() + "\n")

    def flush(self) -> None:
        self.stream.flush()


def _is_terminal(stream) -> bool:
    """Whether there is a terminal that says how wide it is; some (in containers, under `script`)
    have no width.
    """
    try:
        return os.get_terminal_size(stream.fileno()).columns > 0
    except (OSError, ValueError):
        return False


def progress_bar(
    total: int, initial: int, description: str, enabled: bool = True, unit: str = "step"
):
    """A tqdm bar on standard error; where that is no terminal, a line every ten seconds at most."""
    from tqdm import tqdm

    terminal, stream = _is_terminal(sys.stderr), console.Patient(sys.stderr)
    return tqdm(
        total=total,
        initial=initial,
        desc=description,
        unit=unit,
        disable=not enabled,
        dynamic_ncols=terminal,
        file=stream if terminal else _Lines(stream),
        mininterval=0.2 if terminal else 10.0,
    )
