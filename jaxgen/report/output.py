"""The files of a report."""

import json
import os

from jaxgen import files
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

    def read(name):
        try:
            return files.read(os.path.join(folder, name))
        except OSError as e:
            raise InputError(
                f"cannot read the picture '{name}' in {folder}: {e.strerror}; sample again"
            ) from e

    def draw(name, plot):
        pictures = {}
        for kind, theme in THEMES.items():
            pictures[kind] = plot(theme)
            file = f"{name}{'' if kind == 'light' else f'-{kind}'}.png"
            files.replace(os.path.join(folder, "plots", file), pictures[kind])
        return pictures

    chosen(results)  # complains of a requirement before anything is written
    data = json.dumps(to_json(results), indent=1, ensure_ascii=False, allow_nan=False)
    files.replace(os.path.join(folder, "results.json"), data)
    place = os.path.join(folder, "report.html")
    files.replace(place, page.render(results, read, draw))
    return place
