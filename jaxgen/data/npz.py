"""An `.npz` archive of uint8 images, with optional labels, as a source."""

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np

from jaxgen import files
from jaxgen.data.reader import Asked, Columns, Reader, take
from jaxgen.data.storage import content, reachable
from jaxgen.errors import InputError


def open_npz(path: str, asked: Asked) -> Reader:
    """Opens an archive; the images of a split are read when they are asked for.

    The arrays are `<split>_images` and `<split>_labels` for each split, or `images` and `labels`,
    or numpy's own names `arr_0` and `arr_1` (labels if it holds one-dimensional integers); the last
    two forms have one split, `train`. Images are uint8 [N, H, W, C], or [N, H, W] for one channel;
    labels are integers [N], and the number of classes follows from the largest label of all splits.

    What `np.savez` writes stays on disk and may be larger than the memory. What
    `np.savez_compressed` writes is decoded as a whole, in every process that reads it, and what
    lies elsewhere (gs://, s3://) is downloaded into the memory of each.

    Raises:
      InputError: a missing or damaged file, other names, and arrays of another kind or shape.
    """
    archive = _Archive(path)
    splits = _splits(archive)
    labels = [_labels(archive, key) for _, key in splits.values() if key is not None]
    num_classes = max((int(part.max()) + 1 for part in labels if len(part)), default=0)
    sizes = {name: archive.size(images) for name, (images, _) in splits.items()}
    columns = ("image", "label") if labels else ("image",)
    return Reader(sizes, partial(_read, archive, splits), columns, num_classes)


def _read(
    archive: "_Archive",
    splits: dict[str, tuple[str, str | None]],
    split: str,
    indices: np.ndarray,
    names: Sequence[str],
) -> Columns:
    images_key, labels_key = splits[split]
    columns = {}
    if "image" in names:
        columns["image"] = take(_images(archive, images_key), indices)
    if "label" in names and labels_key is not None:
        labels, count = _labels(archive, labels_key), archive.size(images_key)
        if len(labels) != count:
            raise InputError(
                f"npz:{archive.file}: split '{split}' has {count} images but {len(labels)} labels"
            )
        columns["label"] = take(labels, indices)
    return columns


class _Archive:
    """The arrays of a file. Those that are not compressed are mapped, not read; a copy for another
    process holds none.
    """

    def __init__(self, path: str):
        self.file = os.path.expanduser(path)
        self._arrays: dict[str, np.ndarray] = {}
        self._sizes: dict[str, int] = {}
        self._content = b""
        self._checked = False
        with reachable(f"npz:{path}"):
            if not files.isfile(self.file):
                raise InputError(f"npz:{path}: there is no such file")
            self._open().close()
        with self._readable("it"):
            with self._open() as stream, zipfile.ZipFile(stream) as archive:
                self.members = {
                    info.filename.removesuffix(".npy"): info for info in archive.infolist()
                }

    def __getstate__(self):
        return {**self.__dict__, "_arrays": {}, "_content": b"", "_checked": True}

    def _open(self):
        if not files.is_remote(self.file):
            return open(self.file, "rb")
        self._content = self._content or content(self.file)
        return io.BytesIO(self._content)

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self._arrays:
            with self._readable(f"'{key}'"):
                self._arrays[key] = self._map(key)
        return self._arrays[key]

    def size(self, key: str) -> int:
        """The length of an array, from its header alone."""
        if key not in self._sizes:
            with self._readable(f"'{key}'"), self._open() as file, zipfile.ZipFile(file) as archive:
                with archive.open(self.members[key]) as stream:
                    shape, _, _ = _header(stream)
            self._sizes[key] = shape[0] if shape else 0
        return self._sizes[key]

    def _map(self, key: str) -> np.ndarray:
        member = self.members[key]
        with self._open() as stream:
            # the local header repeats the name, and its extra field may differ from the directory's
            stream.seek(member.header_offset)
            name, extra = struct.unpack("<HH", stream.read(30)[26:])
            start = stream.seek(name + extra, os.SEEK_CUR)
            plain = member.compress_type == zipfile.ZIP_STORED and not self._content
            if plain and member.file_size:
                shape, fortran_order, dtype = _header(stream)
                if not fortran_order and not dtype.hasobject and 0 not in shape:
                    if not self._checked:
                        stored = np.memmap(self.file, np.uint8, "r", start, (member.file_size,))
                        if zlib.crc32(stored) != member.CRC:  # type: ignore[arg-type]
                            raise ValueError("bad CRC-32")
                    return np.memmap(self.file, dtype, "r", stream.tell(), shape)
        with self._open() as stream, np.load(stream, allow_pickle=False) as archive:
            return archive[key]

    @contextmanager
    def _readable(self, what: str):
        try:
            yield
        except Exception as error:  # broken bytes raise many kinds of errors here
            what = "cannot be read as an npz archive" if what == "it" else f"{what} cannot be read"
            raise InputError(
                f"npz:{self.file}: {what} ({error}); write it again with np.savez"
            ) from error


def _header(stream) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, Fortran order, dtype) of an array in numpy's format."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    return np.lib.format.read_array_header_2_0(stream)


def _splits(archive: _Archive) -> dict[str, tuple[str, str | None]]:
    """The names of the image and label arrays of each split."""
    keys = list(archive.members)

    def pair(images: str) -> tuple[str, str | None]:
        labels = images.removesuffix("images") + "labels"
        return images, labels if labels in keys else None

    splits = {key.removesuffix("_images"): pair(key) for key in keys if key.endswith("_images")}
    if splits:
        return splits
    if "images" in keys:
        return {"train": pair("images")}
    if "arr_0" in keys:
        # `arr_1` is only numpy's name for "the second array": it need not hold labels.
        labelled = (
            "arr_1" in keys
            and archive["arr_1"].ndim == 1
            and np.issubdtype(archive["arr_1"].dtype, np.integer)
        )
        return {"train": ("arr_0", "arr_1" if labelled else None)}
    raise InputError(
        f"npz:{archive.file}: expected arrays named <split>_images (and <split>_labels), images "
        f"(and labels) or arr_0, "
        f"found {', '.join(keys) or 'none'}"
    )


def _images(archive: _Archive, key: str) -> np.ndarray:
    images, file = archive[key], archive.file
    if images.dtype != np.uint8:
        raise InputError(f"npz:{file}: {key} is {images.dtype}{_remedy(images)}")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3, 4):
        raise InputError(
            f"npz:{file}: {key} has shape {images.shape}, expected (N, H, W) or (N, H, W, C) with "
            f"C = 1, 3 or 4"
        )
    return images


def _remedy(images: np.ndarray) -> str:
    """How images that are not uint8 become so, by their range."""
    if images.dtype.kind not in "fiu" or not images.size:
        return ", expected uint8 in [0, 255]"
    low, high = float(images.min()), float(images.max())
    if not np.isfinite([low, high]).all():
        where = (
            int(np.argmin(np.isfinite(images).reshape(len(images), -1).all(axis=1)))
            if images.ndim
            else 0
        )
        return (
            f" with NaN or infinity in image {where}, expected uint8 in [0, 255]: look at what "
            f"made it"
        )
    if low < 0 or high > 255 or (images.dtype.kind == "f" and high <= 1):
        how = (
            "np.round(255 * x)"
            if 0 <= low and high <= 1
            else "np.round(127.5 * (x + 1))"
            if -1 <= low and high <= 1
            else ""
        )
    else:
        how = "np.round(x)"
    told = (
        f"save images x as {how}.astype(np.uint8)"
        if how
        else "bring them to that range before they become uint8"
    )
    return f" in [{low:g}, {high:g}], expected uint8 in [0, 255]: {told}"


def _labels(archive: _Archive, key: str) -> np.ndarray:
    labels, file = archive[key], archive.file
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"npz:{file}: {key} is {labels.dtype} of shape {labels.shape}, expected one integer an "
            f"image, of shape (N,)"
        )
    return labels
