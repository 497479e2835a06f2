import io

import numpy as np
import pytest
from PIL import Image

from jaxgen.data.png import decode_plain

RANDOM = np.random.default_rng(0)


def png(pixels, mode, **options):
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, "png", **options)
    return stream.getvalue()


def smooth(shape):
    """An image that makes the encoder use all of its row filters, in several chunks where it is
    large.
    """
    ramp = np.add.outer(np.arange(shape[0]) ** 2 // 9, 3 * np.arange(shape[1]))
    return (ramp[..., None] + RANDOM.integers(0, 40, shape)).astype(np.uint8)


@pytest.mark.parametrize(
    "shape, mode",
    [((8, 5, 1), "L"), ((32, 32, 3), "RGB"), ((300, 400, 3), "RGB"), ((9, 7, 4), "RGBA")],
)
def test_plain_files_have_the_pixels_that_were_saved(shape, mode):
    pixels = smooth(shape)
    for level in (0, 6):
        data = png(pixels.squeeze(-1) if shape[-1] == 1 else pixels, mode, compress_level=level)
        assert decode_plain(data, shape) == pixels.tobytes()


def test_all_else_is_left_to_others():
    pixels = smooth((8, 6, 3))
    plain, exif = png(pixels, "RGB"), Image.Exif()
    exif[0x0112] = 3  # upside down
    others = [
        png(pixels, "P"),
        png(pixels, "L"),
        png(pixels, "RGBA"),
        png(pixels, "RGB", transparency=(1, 2, 3)),
        png(pixels, "RGB", exif=exif),
        png(smooth((6, 8, 3)), "RGB"),
        b"",
        b"not an image",
        plain[:20],
        plain[:40],
        plain[:-30],
        plain[:60] + bytes(20) + plain[80:],
    ]
    assert decode_plain(plain, (8, 6, 3)) is not None
    assert [decode_plain(data, (8, 6, 3)) for data in others] == [None] * len(others)
    assert decode_plain(plain, (8, 6, 2)) is None
