"""Image files as arrays: the one decoder of every source of files."""

import io
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager

import numpy as np
from jaxtyping import UInt8

from jaxgen.data.png import decode_plain
from jaxgen.errors import InputError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # channels: Pillow's mode
RESIZES = ("none", "crop", "squash")


def decode(
    name: str, data: bytes, shape: Sequence[int], resize: str = "none"
) -> UInt8[np.ndarray, "H W C"]:
    """The first image in a file, upright, as uint8 [H, W, C].

    An orientation in EXIF or XMP is applied. Transparency is composited on white unless C = 4.

    Args:
      name: of the file, for messages. data: its content.
      shape: (H, W, C) of the result; C = 1, 3 or 4.
      resize: what happens to another size. "none": an error. "crop": scaled with antialiasing
        (Lanczos) until it just covers H x W, and cut to its centre. "squash": scaled to H x W
        whatever its proportions.

    Raises: InputError: it cannot be decoded, has more than 8 bits a channel, or another size.
    """
    return decode_all([data], lambda _: name, shape, resize)[0]


def decode_all(
    files: Iterable[bytes], name: Callable[[int], str], shape: Sequence[int], resize: str
) -> UInt8[np.ndarray, "N H W C"]:
    """The images of several files, see `decode`; `name(i)` is file i's."""
    pixels = [
        decode_plain(data, shape) or _by_pillow(name(i), data, shape, resize)
        for i, data in enumerate(files)
    ]
    return np.frombuffer(b"".join(pixels), np.uint8).reshape(-1, *shape)


def _by_pillow(name: str, data: bytes, shape: Sequence[int], resize: str) -> bytes:
    height, width, channels = shape
    from PIL import Image, ImageOps

    image = _open(name, data)
    if image.mode.startswith(("I", "F")):
        raise InputError(
            f"{name}: has more than 8 bits a channel (mode {image.mode}); convert it to 8 bits"
        )
    if resize == "none" and (image.height, image.width) != (height, width):
        raise InputError(
            f"{name}: is {image.height}x{image.width} (height x width), expected {height}x{width}; "
            "config.data.resize=crop or squash makes it so"
        )
    with _readable(name):
        if image.has_transparency_data and channels != 4:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert(MODES[channels])
    if resize == "crop":
        image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    elif resize == "squash":
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return image.tobytes()


def shape_of(name: str, data: bytes) -> tuple[int, int, int]:
    """(H, W, C) of the image in a file, upright; C = 4 where it is transparent anywhere."""
    image = _open(name, data)
    if image.has_transparency_data:
        channels = 4
    else:
        channels = 1 if image.mode in ("1", "L") else 3
    return image.height, image.width, channels


def check_shape(source: str, asked) -> None:
    """Raises InputError for a shape or a way of resizing that no image file can be given."""
    shape = asked.shape
    if shape is not None and (len(shape) != 3 or min(shape) < 1):
        raise InputError(f"{source}: image_shape must be (height, width, channels), not {shape}")
    if shape is not None and shape[2] not in MODES:
        raise InputError(
            f"{source}: images have 1, 3 or 4 channels, not {shape[2]} (image_shape {shape})"
        )
    if asked.resize != "none" and shape is None:
        raise InputError(f"{source}: resize={asked.resize} needs image_shape")


@contextmanager
def _readable(name: str):
    """Whatever a decoder raises over broken bytes, which is many kinds of errors, as one line."""
    try:
        yield
    except Exception as error:
        why = str(error).partition("\n")[0]
        if "<_io." in why:  # Pillow names the object that it reads, not the file
            why = "it is of no format that Pillow knows"
        raise InputError(
            f"{name}: cannot be read as an image ({why}); repair or remove it"
        ) from error


def _open(name: str, data: bytes):
    """The decoded image, upright."""
    from PIL import Image, ImageOps

    with _readable(name), Image.open(io.BytesIO(data)) as image:
        return ImageOps.exif_transpose(image)
