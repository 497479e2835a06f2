"""Files and folders to read from, on this machine or, as gs:// and s3://, in a bucket."""

import os
from collections.abc import Collection
from contextlib import contextmanager
from typing import Any, NamedTuple

from jaxgen.errors import InputError

# beside names that begin with a dot
_HIDDEN = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
_HIDDEN |= {"thumbs.db", "ehthumbs.db", "desktop.ini"}


class Found(NamedTuple):
    """files: {name from the top: path}. links: names of links that were not followed, since they
    lead nowhere or to a folder that the walk comes by anyway.
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


def is_remote(path: str) -> bool:
    """Whether the path is one of a bucket."""
    return "://" in path


def is_file(path: str) -> bool:
    """Whether there is such a file."""
    if not is_remote(path):
        return os.path.isfile(path)
    system, inside = _bucket(path)
    return system.isfile(inside)


def content(file: str) -> bytes:
    """What is in a file. Raises InputError where it cannot be read."""
    if is_remote(file):
        with reachable(file):
            system, inside = _bucket(file)
            return system.cat_file(inside)
    try:
        with open(file, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from error


def folders(top: str) -> list[str] | None:
    """The names of the folders in a folder; None: it is not there."""
    if not is_remote(top):
        names = os.listdir(top) if os.path.isdir(top) else None
        return names and [name for name in names if os.path.isdir(os.path.join(top, name))]
    system, inside = _bucket(top)
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
    if is_remote(top):
        return _listing(top, skip)
    found = Found({}, [])
    # folders to enter: how their files' names begin; where they and the links above really lie
    entered = {top: ("", (os.path.realpath(top),))}
    for folder, inner, files in os.walk(top, onerror=_fail, followlinks=True):
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
        for name in files:
            path = os.path.join(folder, name)
            if os.path.islink(path) and not os.path.exists(path):
                found.links.append(prefix + name)
            elif not _hidden(name):
                found.files[prefix + name] = path
    return found


def _fail(error: OSError) -> None:
    raise error


def _listing(top: str, skip: Collection[str]) -> Found:
    system, inside = _bucket(top)
    files = {}
    for path in system.find(inside):
        name = path[len(inside) :].lstrip("/")
        parts = name.split("/")
        if parts[0] not in skip and not any(map(_hidden, parts)):
            files[name] = system.unstrip_protocol(path)
    return Found(files, [])


def _bucket(path: str) -> tuple[Any, str]:
    """The file system of a bucket, and the path in it."""
    import logging

    import fsspec

    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it tells of every failure at length
    try:
        system, inside = fsspec.core.url_to_fs(path)
        return system, inside.rstrip("/")
    except (ImportError, ValueError) as error:
        raise InputError(
            f"{path}: there is no access to {path.partition(':')[0]}:// ({error}); use gs:// with "
            "gcsfs, s3:// with s3fs, or a folder of this machine"
        ) from error


def _hidden(path: str) -> bool:
    name = os.path.basename(path)
    return name.startswith(".") or name.lower() in _HIDDEN


def _lies_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
