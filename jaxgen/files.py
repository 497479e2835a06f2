"""Paths: on this machine or, as URLs such as gs://bucket/run and s3://bucket/run, in a bucket.

Buckets are reached through fsspec, whose packages know the credentials: gcsfs for gs://, s3fs for
s3://, both in `jaxgen[buckets]`. Every function here takes both kinds of paths, and what goes wrong
in a bucket is an OSError that names the path, as on a disk."""

import contextlib
import errno
import hashlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from jaxgen.errors import InputError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SQUASHED = re.compile(r"(gs|s3|az|abfs|hf|https?):/(?!/)")  # what pathlib makes of a URL
_PROBE = ".jaxgen_writable"
_partial: set[str] = set()  # what is half written
MARK = "commit_success.txt"  # orbax's last file of a checkpoint; written last, read first


def is_remote(path: str) -> bool:
    """Whether `path` is a URL."""
    return bool(_URL.match(os.fspath(path)))


def expand(path: str) -> str:
    """`path` with ~ as the user's folder; URLs without a slash at their end.

    Raises InputError for what can be no path: a URL of one slash, and letters that the locale does
    not know, which others could not open."""
    path = os.fspath(path)
    if _SQUASHED.match(path):
        raise InputError(
            f"{path} is neither a path nor a URL: write {path.replace(':/', '://', 1)}"
        )
    try:
        path.encode()
    except UnicodeEncodeError:
        shown = path.encode(errors="backslashreplace").decode()
        raise InputError(
            f"{shown} has letters that the locale does not know: set LC_ALL=C.UTF-8"
        ) from None
    return path.rstrip("/") if is_remote(path) else os.path.expanduser(path)


def absolute(path: str) -> str:
    """`path` from the root of the disk; a URL is one already."""
    return expand(path) if is_remote(path) else os.path.abspath(expand(path))


def folder_of(path: str) -> str:
    """The folder that `path` lies in."""
    return os.path.dirname(absolute(path))


@contextlib.contextmanager
def _errors(path: str) -> Iterator[None]:
    """Whatever a bucket's client raises becomes an OSError that names the path."""
    try:
        yield
    except FileNotFoundError as error:  # of a client, it may be without words
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
    except OSError as error:
        error.filename = error.filename or path
        raise
    except InputError:
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise OSError(errno.EIO, text, path) from error


def bucket(path: str) -> tuple[Any, str]:
    """(fsspec's file system, path in it). Raises InputError for a scheme that it does not know."""
    import logging

    import fsspec

    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it tells of all at length
    try:
        # a listing kept from before would miss what other processes have written since
        return fsspec.core.url_to_fs(path, use_listings_cache=False)
    except ImportError as error:
        raise InputError(
            f"{path} needs a package: pip install 'jaxgen[buckets]' ({error})"
        ) from None
    except ValueError:
        scheme = path.partition(":")[0]
        raise InputError(
            f"{path}: there is no file system for {scheme}://; give a local path, gs:// or s3://"
        ) from None


def exists(path: str) -> bool:
    """Whether there is a file or folder."""
    if not is_remote(path):
        return os.path.exists(path)
    with _errors(path):
        system, inside = bucket(path)
        return system.exists(inside)


def isdir(path: str) -> bool:
    """Whether there is a folder; in a bucket, whether anything lies under the path."""
    if not is_remote(path):
        return os.path.isdir(path)
    with _errors(path):
        system, inside = bucket(path)
        return system.isdir(inside)


def isfile(path: str) -> bool:
    """Whether there is a file."""
    if not is_remote(path):
        return os.path.isfile(path)
    with _errors(path):
        system, inside = bucket(path)
        return system.isfile(inside)


def listdir(path: str) -> list[str]:
    """The names in a folder, in order; none where there is no folder."""
    if not isdir(path):
        return []
    if not is_remote(path):
        return sorted(os.listdir(path))
    with _errors(path):
        system, inside = bucket(path)
        names = (os.path.basename(name.rstrip("/")) for name in system.ls(inside, detail=False))
        return sorted({name for name in names if name})


def read(path: str) -> bytes:
    """All bytes of a file. Raises FileNotFoundError where there is none."""
    if not is_remote(path):
        with open(path, "rb") as file:
            return file.read()
    with _errors(path):
        system, inside = bucket(path)
        return system.cat_file(inside)


def makedirs(path: str) -> None:
    """Make a folder with all above it; a bucket needs none."""
    if not is_remote(path):
        os.makedirs(path, exist_ok=True)


def remove(path: str) -> None:
    """Remove a file, or a folder with all in it, where it exists."""
    if not is_remote(path):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)
        return
    with _errors(path), contextlib.suppress(FileNotFoundError):
        system, inside = bucket(path)
        system.rm(inside, recursive=True)


def move(old: str, new: str) -> None:
    """Move a file or folder, in place of what was there."""
    remove(new)
    makedirs(folder_of(new))
    if not is_remote(old):
        shutil.move(old, new)
        return
    with _errors(old):
        system, inside = bucket(old)
        system.mv(inside, bucket(new)[1], recursive=True)


def replace(path: str, content: bytes | str | Callable[[BinaryIO], Any]) -> None:
    """Write a whole file, or leave the earlier one as it is.

    content: the bytes, a text, or a function that writes them into an open file. On a disk they
    are written beside the target, which then changes its place in one step; in a bucket an object
    appears when it is complete. Raises OSError with the path as its file name.
    """
    if isinstance(content, str):
        content = content.encode()
    if is_remote(path):
        if callable(content):
            buffer = io.BytesIO()
            content(buffer)
            content = buffer.getvalue()
        with _errors(path):
            system, inside = bucket(path)
            system.pipe_file(inside, content)
        return
    target = os.path.realpath(path)  # a link stays one
    makedirs(os.path.dirname(target))
    special = os.path.exists(target) and not os.path.isfile(target)  # such as /dev/stdout
    place = target if special else f"{target}.{os.getpid()}.tmp"
    try:
        if not special:
            _partial.add(place)
        with open(place, "wb") as file:
            content(file) if callable(content) else file.write(content)
            file.flush()
            if not special:
                os.fsync(file.fileno())  # else a power cut could leave an empty file
        if not special:
            os.replace(place, target)
    except OSError as error:
        error.filename = path
        raise
    finally:
        if not special:
            with contextlib.suppress(OSError):  # it is gone, if all went well
                os.remove(place)
            _partial.discard(place)


@contextlib.contextmanager
def temporary() -> Iterator[str]:
    """A folder on this machine, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="jaxgen-") as folder:
        _partial.add(folder)
        try:
            yield folder
        finally:
            _partial.discard(folder)


def remove_partial() -> None:
    """Remove what is half written, for a process that ends in the middle of it."""
    for path in list(_partial):
        with contextlib.suppress(OSError):
            remove(path)


def writable(path: str) -> str:
    """`expand`ed path of a file that can be written later, tried now; makes its folder.

    Raises InputError where it could not: before the work, not after it.
    """
    path = expand(path)
    if not is_remote(path) and os.path.isdir(path):
        raise InputError(f"{path} cannot be written: it is a folder")
    _try_folder(folder_of(path), path)
    if os.path.isfile(path) and not os.access(path, os.W_OK):
        raise InputError(f"{path} cannot be written: no permission")
    return path


def writable_folder(path: str) -> str:
    """`expand`ed path of a folder that files can be written into, made now.

    Raises InputError where they could not."""
    path = expand(path)
    _try_folder(absolute(path), path)
    return path


def _try_folder(folder: str, path: str) -> None:
    try:
        if is_remote(folder):
            with _errors(folder):
                system, inside = bucket(folder)
                system.pipe_file(f"{inside}/{_PROBE}", b"")
                with contextlib.suppress(Exception):  # it may be allowed to write, not to remove
                    system.rm_file(f"{inside}/{_PROBE}")
            return
        makedirs(folder)
    except OSError as error:
        why = error.strerror or " ".join(str(error).split()) or type(error).__name__
        why = "a file is where a folder should be" if isinstance(error, FileExistsError) else why
        raise InputError(f"{path} cannot be written: {why}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{path} cannot be written: no permission to write in {folder}")


def upload(folder: str, url: str) -> None:
    """Copy a local folder into a bucket, `MARK` at its top after everything else."""
    with _errors(url):
        system, inside = bucket(url)
        names = [
            os.path.relpath(os.path.join(top, name), folder)
            for top, _, files in os.walk(folder)
            for name in files
        ]
        for last in (False, True):
            if chosen := [name for name in names if (name == MARK) == last]:
                here = [os.path.join(folder, name) for name in chosen]
                system.put(here, [f"{inside}/{name}" for name in chosen])


def download(url: str, folder: str) -> None:
    """Copy a folder or a file of a bucket into the local `folder`, which is made."""
    with _errors(url):
        system, inside = bucket(url)
        found = system.find(inside)
        if not found:
            raise FileNotFoundError(errno.ENOENT, "No such file or folder", url)
        names = [
            os.path.basename(each) if each == inside else os.path.relpath(each, inside)
            for each in found
        ]
        system.get(found, [os.path.join(folder, name) for name in names])


def cache() -> str:
    """Where what can be made again is kept: $JAXGEN_CACHE, or jaxgen in the user's cache."""
    return expand(
        os.environ.get("JAXGEN_CACHE")
        or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "jaxgen")
    )


def fetched(path: str) -> str:
    """A local path with the same content: `path` itself, or a copy of what the URL names.

    Copies are kept in `cache()`/fetched under a digest of names, sizes and versions, so that what
    has changed in the bucket is copied anew. Raises FileNotFoundError where there is nothing."""
    if not is_remote(path):
        return expand(path)
    path = expand(path)
    with _errors(path):
        system, inside = bucket(path)
        found = system.find(inside, detail=True)
    if not found:
        raise FileNotFoundError(errno.ENOENT, "No such file or folder", path)
    versions = [
        (name, info.get("size"), str(info.get("ETag") or info.get("etag") or info.get("mtime")))
        for name, info in sorted(found.items())
    ]
    digest = hashlib.sha256(repr((path, versions)).encode()).hexdigest()[:32]
    place = os.path.join(cache(), "fetched", digest)
    name = os.path.basename(path)
    if not os.path.isdir(place):
        makedirs(os.path.dirname(place))
        partial = tempfile.mkdtemp(dir=os.path.dirname(place))
        try:
            single = list(found) == [inside]
            download(path, partial if single else os.path.join(partial, name))
            with contextlib.suppress(OSError):  # another process was faster
                os.rename(partial, place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return os.path.join(place, name)
