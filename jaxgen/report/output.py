"""The files of a report."""

import json
import os
from pathlib import Path

from jaxgen.errors import InputError
from jaxgen.report import page
from jaxgen.report.plots import THEMES
from jaxgen.report.results import Results, to_json
from jaxgen.report.words import chosen


def write(results: Results, folder: str | os.PathLike) -> str:
    """Write results.json, plots/*.png and report.html into `folder`, and return the path of
    report.html.

    The pictures that `results` names must lie in the folder. The same results give the same files.
    """
    folder = Path(folder)

    def read(name):
        try:
            return (folder / name).read_bytes()
        except OSError as e:
            raise InputError(
                f"cannot read the picture '{name}' in {folder}: {e.strerror}; sample again"
            ) from e

    def draw(name, plot):
        pictures = {}
        for kind, theme in THEMES.items():
            pictures[kind] = plot(theme)
            file = f"{name}{'' if kind == 'light' else f'-{kind}'}.png"
            _save(folder / "plots" / file, pictures[kind])
        return pictures

    chosen(results)  # complains of a requirement before anything is written
    data = json.dumps(to_json(results), indent=1, ensure_ascii=False, allow_nan=False)
    _save(folder / "results.json", data.encode())
    _save(folder / "report.html", page.render(results, read, draw).encode())
    return str(folder / "report.html")


def _save(path: Path, data: bytes) -> None:
    """Write beside the old file and then replace it, so that a full disk never leaves half a
    report.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    partial.replace(path)
