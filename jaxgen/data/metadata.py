"""Labels and captions of image files, from `metadata.jsonl`, `metadata.csv` or `labels.csv`."""

import csv
import io
import json
import posixpath
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxgen.errors import InputError

NAMES = ("metadata.jsonl", "metadata.csv", "labels.csv")
_EXAMPLE = '{"file_name": "a.png", "text": "...", "label": 0}'


def key(name: str) -> str:
    """One spelling of a path: `./a.png` and `a.png`, `b\\a.png` and `b/a.png`, and letters with
    accents, which macOS writes as two characters, are the same file.
    """
    return unicodedata.normalize("NFC", posixpath.normpath(name.replace("\\", "/")))


def read(file: str, data: bytes, folder: str, images: Collection[str]) -> dict[str, dict[str, Any]]:
    """The rows of a file of metadata: {key of the image: {"label", "text"}}.

    file: its path. data: its content. folder: where it lies from the root of the images, which the
    names in it are relative to. images: the keys of all images. Raises InputError with file and
    line.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: is not UTF-8 text ({error})") from error
    rows: dict[str, dict[str, Any]] = {}
    for line, row in (_csv if file.lower().endswith(".csv") else _json_lines)(file, text):
        if isinstance(row, dict) and isinstance(row.get("file_name"), str):
            row["image"] = key(posixpath.join(folder, row["file_name"]))
        problem = _problem(row, images, rows)
        if problem:
            raise InputError(f"{file}:{line}: {problem}")
        label = row.get("label")
        rows[row["image"]] = {
            "label": int(label) if isinstance(label, float) else label,
            "text": row.get("text"),
        }
    return rows


def _json_lines(file: str, text: str) -> Iterator[tuple[int, Any]]:
    # `splitlines` would also split at characters that may stand in a JSON string, such as U+2028
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"{file}:{number}: is not JSON ({error})") from error


def _csv(file: str, text: str) -> Iterator[tuple[int, Any]]:
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    table: list[tuple[int, dict[str, Any]]] = []
    header: list[str] = []
    try:
        for line in lines:
            if not any(field.strip() for field in line):
                continue
            if not header:
                header = [field.strip().lower() for field in line]
                if "file_name" not in header:
                    raise InputError(
                        f"{file}:{lines.line_num}: expected a header with file_name and label or "
                        f"text, found {', '.join(header)}"
                    )
            elif len(line) != len(header):
                raise InputError(
                    f"{file}:{lines.line_num}: has {len(line)} fields where the header has "
                    f"{len(header)}; a text with commas belongs in quotes"
                )
            else:
                row = {name: field or None for name, field in zip(header, line)}
                table.append(
                    (lines.line_num, {**row, "file_name": line[header.index("file_name")]})
                )
    except csv.Error as error:
        raise InputError(f"{file}:{lines.line_num}: is not CSV ({error})") from error
    labels = [row["label"].strip() for _, row in table if row.get("label")]
    if labels and all(re.fullmatch(r"[+-]?\d+", label) for label in labels):
        for _, row in table:
            row["label"] = int(row["label"]) if row["label"] else None
    yield from table


def _problem(row: Any, images: Collection[str], rows: Mapping[str, Any]) -> str | None:
    if not isinstance(row, dict) or "image" not in row:
        return f"expected an object like {_EXAMPLE}"
    name, label = row["file_name"], row.get("label")
    if row["image"] not in images:
        return f"names '{name}', but there is no such image (paths are relative to this file)"
    if row["image"] in rows:
        return f"names '{name}' a second time"
    if not isinstance(row.get("text", ""), str | None):
        return f"the text of '{name}' must be a string"
    whole = isinstance(label, float) and label.is_integer()
    if (
        isinstance(label, bool)
        or not (whole or isinstance(label, str | int | None))
        or (isinstance(label, int | float) and not 0 <= label < 2**31)
    ):
        return (
            f"the label of '{name}' must be a string or an integer from 0, got {json.dumps(label)}"
        )
    return None


def merge(into: dict[str, dict[str, Any]], rows: Mapping[str, Mapping[str, Any]], file: str):
    """Adds the rows of another file. Raises InputError where two files contradict each other."""
    for image, row in rows.items():
        known = into.setdefault(image, {"label": None, "text": None})
        for name, value in row.items():
            if value is not None and known[name] not in (None, value):
                raise InputError(
                    f"{file}: the {name} of '{image}' is {value!r}, but {known[name]!r} in another "
                    "file of metadata; keep one of the two files"
                )
            known[name] = value if value is not None else known[name]


def columns(
    path: str, labels: Mapping[str, Sequence[Any] | None], texts: Mapping[str, Sequence[Any]]
) -> tuple[dict[str, dict[str, np.ndarray]], int]:
    """({split: its columns "label" and "text"}, number of classes), of a label for each image, or
    None, and a text or None for each. Strings are numbered in their sorted order over all splits.
    """
    used = {label for split in labels.values() for label in split or ()}
    if len({type(label) for label in used}) > 1:
        raise InputError(
            f"{path}: labels must be all strings or all integers in all metadata and splits"
        )
    named = any(isinstance(label, str) for label in used)
    numbers = {label: i if named else label for i, label in enumerate(sorted(used))}
    result: dict[str, dict[str, np.ndarray]] = {}
    for split, values in labels.items():
        result[split] = {}
        if values:
            result[split]["label"] = np.array([numbers[value] for value in values], np.int32)
        if any(text is not None for text in texts[split]):
            result[split]["text"] = np.array([text or "" for text in texts[split]], object)
    return result, max(numbers.values(), default=-1) + 1
