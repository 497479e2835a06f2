"""Paths and atomic writes, on the disk and in a bucket that fsspec keeps in memory."""

import os
import resource
from pathlib import Path

import pytest

from jaxgen import files
from jaxgen.errors import InputError


@pytest.fixture(params=["disk", "bucket"])
def root(request, tmp_path):
    yield str(tmp_path) if request.param == "disk" else "memory://bucket/root"
    files.remove("memory://bucket")


def test_what_is_written_is_read(root):
    files.replace(f"{root}/a/b.txt", "é")
    files.replace(f"{root}/a/c.bin", lambda file: file.write(b"\x00\x01"))
    assert files.read(f"{root}/a/b.txt") == "é".encode()
    assert files.read(f"{root}/a/c.bin") == b"\x00\x01"
    assert files.listdir(f"{root}/a") == ["b.txt", "c.bin"] and files.listdir(f"{root}/d") == []
    assert files.isdir(f"{root}/a") and not files.isdir(f"{root}/a/b.txt")
    assert files.exists(f"{root}/a/b.txt") and not files.exists(f"{root}/x")
    files.move(f"{root}/a", f"{root}/new/place")
    assert files.listdir(f"{root}/new/place") == ["b.txt", "c.bin"] and not files.exists(
        f"{root}/a"
    )
    files.remove(f"{root}/new")
    files.remove(f"{root}/new")  # there is nothing any more
    assert not files.exists(f"{root}/new/place/b.txt")
    with pytest.raises(FileNotFoundError) as error:
        files.read(f"{root}/a/b.txt")
    assert error.value.filename == f"{root}/a/b.txt"


def test_a_failed_write_keeps_the_earlier_file(root):
    def fails(file):
        file.write(b"half")
        raise ValueError("in the middle")

    files.replace(f"{root}/a", b"whole")
    with pytest.raises(ValueError, match="in the middle"):
        files.replace(f"{root}/a", fails)
    assert files.read(f"{root}/a") == b"whole" and files.listdir(root) == ["a"]


def test_a_full_disk_keeps_the_earlier_file_and_names_it(tmp_path):
    path, before = str(tmp_path / "a"), resource.getrlimit(resource.RLIMIT_FSIZE)
    files.replace(path, b"whole")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="too large") as error:
            files.replace(path, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.value.filename == path
    assert files.read(path) == b"whole" and os.listdir(tmp_path) == ["a"]


def test_links_and_devices_stay_what_they_are(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    files.replace(str(tmp_path / "link"), b"1")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_bytes() == b"1"
    files.replace("/dev/null", b"1")
    assert not os.path.isfile("/dev/null")


def test_what_cannot_be_written_is_known_before(root, tmp_path):
    assert files.writable(f"{root}/new/a.npz") == f"{root}/new/a.npz"
    assert files.listdir(f"{root}/new") == []  # nothing is left of trying
    assert files.writable_folder(f"{root}/new") == f"{root}/new"
    (tmp_path / "file").write_text("")
    for path, why in [
        (tmp_path, "it is a folder"),
        (tmp_path / "file" / "a", "a file is where a folder should be|Not a directory"),
        ("/proc/a/b", "No such file"),
        ("nowhere://bucket/a", "no file system for nowhere://"),
        ("http://127.0.0.1:1/a", "cannot be written|needs a package"),
    ]:
        with pytest.raises(InputError, match=why) as error:
            files.writable(str(path))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", [Path("gs://bucket/run"), "s3:/bucket/run"])
def test_a_url_that_lost_a_slash_is_no_local_folder(path):
    with pytest.raises(InputError, match=r"write (gs|s3)://bucket/run"):
        files.expand(path)


def test_letters_that_the_locale_does_not_know():
    with pytest.raises(InputError, match="set LC_ALL=C.UTF-8") as error:
        files.absolute(b"caf\xc3\xa9".decode("ascii", "surrogateescape"))
    str(error.value).encode("ascii")


def test_urls_and_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert files.expand("~/a") == "/home/me/a"
    assert files.absolute("s3://bucket/~/a/") == "s3://bucket/~/a"
    assert files.folder_of("gs://bucket/a/b") == "gs://bucket/a"


def test_a_copy_is_fetched_once_and_again_when_it_changed(root, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path / "cache"))
    files.replace(f"{root}/data/x/1", b"one")
    first = files.fetched(f"{root}/data")
    assert Path(first, "x", "1").read_bytes() == b"one"
    assert files.fetched(f"{root}/data") == first
    assert Path(files.fetched(f"{root}/data/x/1")).read_bytes() == b"one"
    files.replace(f"{root}/data/x/2", b"two")
    assert sorted(os.listdir(files.fetched(f"{root}/data") + "/x")) == ["1", "2"]
    with pytest.raises(FileNotFoundError):
        open(files.fetched(f"{root}/nothing"))


def test_what_is_half_written_goes_with_an_interrupt(tmp_path):
    with files.temporary() as folder:
        files.replace(f"{folder}/a", b"")
        files.remove_partial()
        assert not os.path.exists(folder)
        os.mkdir(folder)
