"""Files and folders to read from, on this machine or, as gs:// and s3://, in a bucket."""

import os
from collections.abc import Collection
from contextlib import contextmanager
from typing import NamedTuple

from jaxgen import files
from jaxgen.errors import InputError, RetryError

# beside names that begin with a dot
_HIDDEN = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
_HIDDEN |= {"thumbs.db", "ehthumbs.db", "desktop.ini"}


class Found(NamedTuple):
    """files: {name from the top: path}. links: names of links that were not followed, since they
    lead to a folder that the walk comes by anyway.
    """

    files: dict[str, str]
    links: list[str]


@contextmanager
def reachable(source: str):
    """Whatever a file system raises, which for a bucket is many kinds of errors, as one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        why = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{source}: cannot be read ({why})") from error


def content(file: str) -> bytes:
    """What is in a file. Raises InputError where it cannot be read, and RetryError where a bucket
    has trouble that may pass.
    """
    try:
        return files.read(file)
    except InputError:
        raise
    except Exception as error:
        why = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        lasting = not files.is_remote(file) or isinstance(error, FileNotFoundError)
        kind = InputError if lasting else RetryError
        raise kind(f"{file}: cannot be read ({why or type(error).__name__})") from error


def folders(top: str) -> list[str] | None:
    """The names of the folders in a folder; None: it is not there."""
    if not files.is_remote(top):
        if not os.path.isdir(top):
            return None
        with os.scandir(top) as entries:
            return [entry.name for entry in entries if entry.is_dir()]
    system, inside = files.bucket(top)
    if not system.isdir(inside):
        return None
    entries = system.ls(inside, detail=True)
    return [os.path.basename(e["name"].rstrip("/")) for e in entries if e["type"] == "directory"]


def walk(top: str, skip: Collection[str] = ()) -> Found:
    """The files below `top`, at any depth, that a file manager would show; `skip` are folders at
    the top.

    A linked folder is read as if it stood where the link is, unless it lies in `top` itself or the
    link lies in it.
    """
    if files.is_remote(top):
        return _listing(top, skip)
    found = Found({}, [])
    # folders to enter: how their files' names begin; where they and the links above really lie
    entered: dict[str, tuple[str, tuple[str, ...]]] = {top: ("", (os.path.realpath(top),))}
    for folder, inner, here in os.walk(top, onerror=_fail, followlinks=True):
        prefix, above = entered.pop(folder)
        for name in inner:
            path, name = os.path.join(folder, name), prefix + name
            if _hidden(path) or name in skip:
                continue
            links = above
            if os.path.islink(path):
                target = os.path.realpath(path)
                within = (*above, os.path.realpath(folder))
                if _lies_in(target, above[0]) or any(_lies_in(part, target) for part in within):
                    found.links.append(name)
                    continue
                links = (*above, target)
            entered[path] = (f"{name}/", links)
        # `os.walk` enters what is left of this list
        inner[:] = [name for name in inner if os.path.join(folder, name) in entered]
        for name in here:
            if not _hidden(name):
                found.files[prefix + name] = os.path.join(folder, name)
    return found


def _fail(error: OSError) -> None:
    raise error


def _listing(top: str, skip: Collection[str]) -> Found:
    system, inside = files.bucket(top)
    found = {}
    for path in system.find(inside):
        name = path[len(inside) :].lstrip("/")
        parts = name.split("/")
        if parts[0] not in skip and not any(map(_hidden, parts)):
            found[name] = system.unstrip_protocol(path)
    return Found(found, [])


def _hidden(path: str) -> bool:
    name = os.path.basename(path)
    return name.startswith(".") or name.lower() in _HIDDEN


def _lies_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
