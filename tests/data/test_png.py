import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxgen.data.decode import decode, shape_of
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


def chunk(kind, content):
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def with_chunk(data, kind, content, late=False):
    """A PNG with one more chunk, before or after its pixels."""
    at = data.index(b"IEND") - 4 if late else 33
    return data[:at] + chunk(kind, content) + data[at:]


XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
EXIF = b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
TURNED = {
    "eXIf": (b"eXIf", EXIF),
    "xmp": (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
    "xmp, compressed": (b"zTXt", b"XML:com.adobe.xmp\0\0" + zlib.compress(XMP)),
    "xmp as text": (b"tEXt", b"xmp\0" + XMP),
    "raw profile": (
        b"zTXt",
        b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n%8d\n" % 26 + EXIF.hex().encode()),
    ),
}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("where", [name for name in TURNED if name != "xmp as text"])
def test_an_orientation_is_applied_by_every_route(where, late):
    pixels = smooth((8, 8, 1))
    data = with_chunk(png(pixels[..., 0], "L"), *TURNED[where], late=late)
    turned = np.rot90(pixels, -1)  # 6: turn it a quarter clockwise to see it upright
    assert np.array_equal(decode("x", data, (8, 8, 1)), turned)
    tall = with_chunk(png(smooth((8, 5, 1))[..., 0], "L"), *TURNED[where], late=late)
    assert shape_of("x", tall) == (5, 8, 1) == decode("x", tall, (5, 8, 1)).shape


@pytest.mark.parametrize("kind, content", [*TURNED.values(), (b"caBX", b"?"), (b"acTL", bytes(8))])
def test_chunks_that_may_mean_something_are_left_to_others(kind, content):
    assert decode_plain(with_chunk(png(smooth((8, 5, 3)), "RGB"), kind, content), (8, 5, 3)) is None


@pytest.mark.parametrize(
    "kind, content", [(b"tEXt", b"Software\0x"), (b"gAMA", bytes(4)), (b"pHYs", bytes(9))]
)
def test_harmless_chunks_do_not_matter(kind, content):
    pixels = smooth((8, 5, 3))
    assert (
        decode_plain(with_chunk(png(pixels, "RGB"), kind, content), (8, 5, 3)) == pixels.tobytes()
    )
