"""The short way through a plain PNG, which is what data sets of small images are made of."""

import struct
import zlib
from collections.abc import Sequence
from functools import cache

# channels: the colour type in the file, Pillow's mode
_COLOURS = {1: (0, "L"), 3: (2, "RGB"), 4: (6, "RGBA")}
# Chunks that leave the pixels as they are for Pillow too: anything else may turn the image round or
# make parts of it transparent.
_HARMLESS = {b"IDAT", b"pHYs", b"tIME", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT", b"bKGD"}
_TEXTS = {b"tEXt", b"zTXt", b"iTXt"}  # an orientation may be in them, under one of many names
_HARMLESS_TEXTS = {
    *(b"Title", b"Author", b"Description", b"Copyright", b"Creation Time", b"Software"),
    *(b"Disclaimer", b"Warning", b"Source", b"Comment"),  # the words of the PNG specification
    *(b"date:create", b"date:modify", b"date:timestamp"),  # ImageMagick's
}
_HEADER = 33  # bytes of signature and first chunk


def decode_plain(data: bytes, shape: Sequence[int]) -> bytes | None:
    """The pixels [H, W, C] of a PNG that holds just them, 8 bits each and not interlaced; None:
    decode it some other way.

    Pillow's `open` costs more than the decoding of 32x32 pixels (it tries its formats and reads
    every chunk as an object), so that only its decoder is called here."""
    from PIL import Image

    mode, start = _plain(*shape)
    if not data.startswith(start):
        return None
    parts, at = [], _HEADER
    while (kind := data[at + 4 : at + 8]) != b"IEND":
        length = int.from_bytes(data[at : at + 4], "big")
        if kind == b"IDAT":
            parts.append(data[at + 8 : at + 8 + length])
        elif kind not in _HARMLESS and not (
            kind in _TEXTS and data[at + 8 : at + 8 + length].partition(b"\0")[0] in _HARMLESS_TEXTS
        ):
            return None
        at += 12 + length  # a length, a kind and a checksum surround the content
    try:
        return Image.frombytes(
            mode, (shape[1], shape[0]), b"".join(parts), "zip", mode, 0
        ).tobytes()
    except ValueError:  # damaged: `open` will say how
        return None


@cache
def _plain(height: int, width: int, channels: int) -> tuple[str, bytes]:
    """Pillow's mode, and how such a file begins."""
    colour, mode = _COLOURS.get(channels, (7, ""))  # there is no colour type 7
    chunk = struct.pack(">4sIIBBBBB", b"IHDR", width, height, 8, colour, 0, 0, 0)
    return mode, b"\x89PNG\r\n\x1a\n" + struct.pack(">I17sI", 13, chunk, zlib.crc32(chunk))
