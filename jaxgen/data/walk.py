"""The files below a folder that a file manager would show."""

import os
from collections.abc import Collection, Iterator
from typing import NamedTuple

from jaxgen.data.reader import place

# beside names that begin with a dot
_HIDDEN = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
_HIDDEN |= {"thumbs.db", "ehthumbs.db", "desktop.ini"}


class Found(NamedTuple):
    """files: {name from the top: path}. links: names of links that were not followed, since they
    lead nowhere or to a folder that the walk comes by anyway.
    """

    files: dict[str, str]
    links: list[str]


def walk(top: str, skip: Collection[str] = ()) -> Found:
    """The files below `top`, at any depth and through links; `skip` are folders at the top.

    A linked folder is read as if it stood where the link is, unless it lies in `top` itself or the
    link lies in it.
    """
    found = Found({}, [])
    # folders to enter: how their files' names begin; where they and the links above really lie
    entered = {top: ("", (os.path.realpath(top),))}
    for folder, folders, files in _tree(top):
        if folder not in entered:
            continue
        prefix, above = entered.pop(folder)
        for name in folders:
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
        folders[:] = [name for name in folders if os.path.join(folder, name) in entered]
        for name in files:
            path = os.path.join(folder, name)
            if os.path.islink(path) and not os.path.exists(path):
                found.links.append(prefix + name)
            elif not _hidden(name):
                found.files[prefix + name] = path
    return found


def _tree(top: str) -> Iterator[tuple[str, list[str], list[str]]]:
    def fail(error):
        raise error

    if "://" not in top:
        return os.walk(top, onerror=fail, followlinks=True)
    return ((str(folder), folders, files) for folder, folders, files in place(top).walk())


def _hidden(path: str) -> bool:
    name = os.path.basename(path)
    return name.startswith(".") or name.lower() in _HIDDEN


def _lies_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
