"""The pieces of a report's page: escaped text, markers, images, tables."""

import base64
import html
import io
import math
import struct
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from jaxgen.errors import InputError
from jaxgen.report.plots import THEMES, style
from jaxgen.report.words import MISSING

EDGE = " class=edge"  # of the first column of a group
PIXELS = 768  # the longer side of an image in the page; a larger file is shown scaled down

# The shapes of the plots' markers, in their order.
SHAPES = (
    "circle(50%)",
    "inset(6%)",
    "polygon(50% 0, 100% 50%, 50% 100%, 0 50%)",
    "polygon(50% 0, 100% 100%, 0 100%)",
    "polygon(0 0, 100% 0, 50% 100%)",
    "polygon(33% 0, 67% 0, 67% 33%, 100% 33%, 100% 67%, 67% 67%, 67% 100%, 33% 100%, 33% 67%, "
    "0 67%, 0 33%, 33% 33%)",
    "polygon(25% 0, 50% 25%, 75% 0, 100% 25%, 75% 50%, 100% 75%, 75% 100%, 50% 75%, 25% 100%, "
    "0 75%, 25% 50%, 0 25%)",
)


def text(value: Any) -> str:
    """Any value as escaped text: lists by commas, mappings as name and value, a missing number as a
    dash.
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{text(k)} {text(v)}" for k, v in value.items()) or MISSING
    if isinstance(value, (list, tuple)):
        return ", ".join(map(text, value)) or MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return f"{value:,}" if isinstance(value, int) and value >= 10000 else f"{value:g}"
    return html.escape(str(value or MISSING))


def duration(seconds: float) -> str:
    """Seconds for a reader."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.3g} s"


def _quantity(value: float, unit: str) -> str:
    """A large number with three digits and a prefix: 1.23 GFLOP."""
    power = sum(abs(value) >= 999.5 * 1000.0**k for k in range(4))
    return f"{value / 1000.0**power:.3g} {['', 'k', 'M', 'G', 'T'][power]}{unit}"


flops = partial(_quantity, unit="FLOP")
memory = partial(_quantity, unit="B")


def colours() -> str:
    """The themes as CSS variables; `--s<i>` are the colours of systems, `--m<i>` the shapes of
    their markers.
    """

    def block(theme):
        names = {n: getattr(theme, n) for n in ("page", "ink", "quiet", "line", "soft", "shade")}
        names |= {f"s{i}": colour for i, colour in enumerate(theme.systems)}
        return f":root {{ {' '.join(f'--{name}: {colour};' for name, colour in names.items())} }}"

    shapes = " ".join(f"--m{i}: {shape};" for i, shape in enumerate(SHAPES))
    return (
        f":root {{ color-scheme: light dark; {shapes} }}\n{block(THEMES['light'])}\n"
        f"@media (prefers-color-scheme: dark) {{ {block(THEMES['dark'])} }}\n"
    )


def mark(index: int) -> str:
    """The attribute that gives an element the colour and the marker of system `index`."""
    colour, shape = style(index)
    return f'style="--c: var(--s{colour}); --m: var(--m{shape})"'


def system_name(name: str) -> str:
    """A system's name behind its marker."""
    return f'<span class="system">{text(name)}</span>'


def table(kind: str, label: str, head: Sequence[str], body: Sequence[str]) -> str:
    """A table that scrolls in its own box. head: rows. body: <tbody> and <tfoot> elements."""
    rows = "\n".join(head)
    return f"""<div class="scroll" tabindex="0" role="region" aria-label="{label}">
<table class="{kind}">
<thead>
{rows}
</thead>
{"".join(body)}
</table>
</div>"""


def figure(caption: str, picture: str, attributes: str = "") -> str:
    return f"<figure {attributes}><figcaption>{caption}</figcaption>{picture}</figure>"


def size(png: bytes, alt: str) -> tuple[int, int]:
    """(width, height) in pixels. Raises InputError for what is no PNG file."""
    if png[:8] != b"\x89PNG\r\n\x1a\n":
        raise InputError(f"the picture of {alt} is not a PNG file")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def image(png: bytes, alt: str, dark: bytes | None = None) -> str:
    """An image inside the page, with its size, so that the text stays while the page loads."""
    png = _small(png, alt)
    width, height = size(png, alt)
    picture = f'<img src="{_data(png)}" alt="{html.escape(alt)}" width="{width}" height="{height}">'
    if dark is None:
        return picture
    night = f'<source media="(prefers-color-scheme: dark)" srcset="{_data(dark)}">'
    return f"<picture>{night}{picture}</picture>"


def _data(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _small(png: bytes, alt: str) -> bytes:
    """The image with at most `PIXELS` on its longer side."""
    from PIL import Image

    width, height = size(png, alt)
    if max(width, height) <= PIXELS:
        return png
    scale = PIXELS / max(width, height)
    smaller = (math.ceil(scale * width), math.ceil(scale * height))
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as full:
        full.resize(smaller, Image.Resampling.BOX).save(buffer, "PNG")
    return buffer.getvalue()
