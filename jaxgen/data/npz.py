"""An `.npz` archive of uint8 images, with optional labels, as a source."""

from functools import cache
from pathlib import Path

import numpy as np

from jaxgen.data.splits import Examples, Reader
from jaxgen.errors import InputError


def open_npz(path: str) -> Reader:
    """Opens an archive; the images of a split are read when they are asked for.

    The arrays are `<split>_images` and `<split>_labels` for each split, or `images` and `labels`, or numpy's own names
    `arr_0` and `arr_1` (labels if it holds one-dimensional integers); the last two forms have one split, `train`.
    Images are uint8 [N, H, W, C], or [N, H, W] for one channel; labels are integers [N], and the number of classes
    follows from the largest label of all splits.

    Raises:
      InputError: a missing or damaged file, other names, and arrays of another kind or shape.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError(f"npz:{path}: there is no such file")

    @cache
    def array(key: str) -> np.ndarray:
        return _read(file, key)

    def labels_of(name: str) -> np.ndarray | None:
        key = splits[name][1]
        return None if key is None else _labels(array(key), key, file)

    def images_of(name: str) -> np.ndarray:
        key = splits[name][0]
        return _images(array(key), key, file)

    def read(name: str, indices: range) -> Examples:
        images, labels = images_of(name), labels_of(name)
        chosen = slice(indices.start, indices.stop)
        if labels is None:
            return Examples(images[chosen])
        if len(labels) != len(images):
            raise InputError(f"npz:{file}: split '{name}' has {len(images)} images but {len(labels)} labels")
        return Examples(images[chosen], labels[chosen])

    splits = _splits(_read(file), file, array)
    labels = [part for name in splits if (part := labels_of(name)) is not None and len(part)]
    num_classes = max((int(part.max()) + 1 for part in labels), default=0)
    return Reader(tuple(splits), lambda name: len(images_of(name)), read, num_classes)


def _read(file: Path, key: str | None = None):
    """One array of the archive, or the names of all."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            return archive.files if key is None else archive[key]
    except Exception as error:  # broken bytes raise many kinds of errors here
        what = "cannot be read as an npz archive" if key is None else f"'{key}' cannot be read"
        raise InputError(f"npz:{file}: {what} ({error}); write it again with np.savez") from error


def _splits(keys: list[str], file: Path, array) -> dict[str, tuple[str, str | None]]:
    """The names of the image and label arrays of each split."""

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
        labelled = "arr_1" in keys and array("arr_1").ndim == 1 and np.issubdtype(array("arr_1").dtype, np.integer)
        return {"train": ("arr_0", "arr_1" if labelled else None)}
    raise InputError(
        f"npz:{file}: expected arrays named <split>_images (and <split>_labels), images (and labels) or arr_0, "
        f"found {', '.join(keys) or 'none'}"
    )


def _images(images: np.ndarray, key: str, file: Path) -> np.ndarray:
    if images.dtype != np.uint8:
        extent = f" in [{images.min():g}, {images.max():g}]" if images.size and images.dtype.kind in "fiu" else ""
        raise InputError(
            f"npz:{file}: {key} is {images.dtype}{extent}, expected uint8 in [0, 255]: "
            "save images x in [0, 1] as np.round(255 * x).astype(np.uint8)"
        )
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3, 4):
        raise InputError(
            f"npz:{file}: {key} has shape {images.shape}, expected (N, H, W) or (N, H, W, C) with C = 1, 3 or 4"
        )
    return images


def _labels(labels: np.ndarray, key: str, file: Path) -> np.ndarray:
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"npz:{file}: {key} is {labels.dtype} of shape {labels.shape}, expected one integer an image, of shape (N,)"
        )
    return labels
