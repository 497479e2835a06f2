"""The pieces of a report's page: style, colours, markers, escaped text, images, amounts."""

import base64
import html
import struct
from collections.abc import Mapping
from typing import Any

from jaxgen.errors import InputError
from jaxgen.evaluation.plots import THEMES, style
from jaxgen.evaluation.ranking import MISSING, finite

GROUPS = {"quality": "Quality", "speed": "Speed", "diversity": "Diversity", "check": "Checks"}

# The shapes of the plots' markers, in their order.
SHAPES = (
    "circle(50%)",
    "inset(6%)",
    "polygon(50% 0, 100% 50%, 50% 100%, 0 50%)",
    "polygon(50% 0, 100% 100%, 0 100%)",
    "polygon(0 0, 100% 0, 50% 100%)",
    "polygon(33% 0, 67% 0, 67% 33%, 100% 33%, 100% 67%, 67% 67%, 67% 100%, 33% 100%, 33% 67%, 0 "
    "67%, 0 33%, 33% 33%)",
    "polygon(25% 0, 50% 25%, 75% 0, 100% 25%, 75% 50%, 100% 75%, 75% 100%, 50% 75%, 25% 100%, 0 "
    "75%, 25% 50%, 0 25%)",
)

STYLE = """* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 3rem 1.25rem 4rem; }
h1 { font-size: clamp(1.6rem, 1.2rem + 1.8vw, 2.25rem); line-height: 1.2; letter-spacing: -.015em; margin: 0 0 .6rem; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 3.25rem 0 .35rem; }
h3 { font-size: .95rem; font-weight: 600; margin: 1.75rem 0 .5rem; }
p { margin: 0 0 .75rem; max-width: 46rem; }
.question { font-size: 1.1rem; color: var(--quiet); }
.note { color: var(--quiet); font-size: .9rem; }
.answer { margin: 1.5rem 0 0; padding: 1.1rem 1.25rem; background: var(--soft); border-radius: .5rem; }
.answer div { display: grid; grid-template-columns: 6rem 1fr; gap: 0 1rem; padding: .3rem 0; }
.answer dt { font-weight: 600; }
.answer dd { margin: 0; max-width: 50rem; grid-column: 2; }
.answer dd + dd { margin-top: .3rem; }
.scroll { overflow-x: auto; margin: .75rem 0 0; background:
  linear-gradient(90deg, var(--page) 40%, transparent) 0 0 / 2rem 100% no-repeat local,
  linear-gradient(270deg, var(--page) 40%, transparent) 100% 0 / 2rem 100% no-repeat local,
  linear-gradient(90deg, var(--shade), transparent) 0 0 / .7rem 100% no-repeat scroll,
  linear-gradient(270deg, var(--shade), transparent) 100% 0 / .7rem 100% no-repeat scroll; }
.scroll:focus-visible { outline: 2px solid var(--quiet); outline-offset: 3px; }
table { border-collapse: separate; border-spacing: 0; font-size: .925rem; font-variant-numeric: tabular-nums; }
th, td { padding: .5rem .9rem .5rem 0; text-align: left; vertical-align: baseline; white-space: nowrap; }
th { font-weight: 600; }
tbody tr > * { border-top: 1px solid var(--line); }
thead + tbody tr:first-child > * { border-top: 1.5px solid var(--ink); }
thead th { vertical-align: bottom; line-height: 1.3; }
.unit { display: block; font-weight: 400; font-size: .8rem; color: var(--quiet); }
.scores { width: 100%; }
th[title] { cursor: help; }
.scores thead th[title] { white-space: normal; min-width: 5.5rem; }
.scores .group, .runs .group { font-size: .75rem; letter-spacing: .07em; text-transform: uppercase;
  color: var(--quiet); padding-bottom: 0; }
.scores .edge, .runs .edge { border-left: 1px solid var(--line); padding-left: .9rem; }
.scores td { text-align: right; padding-right: 0; }
.scores td.spread { text-align: left; padding: .5rem .9rem .5rem .35rem; color: var(--quiet); font-size: .8rem; }
.best { font-weight: 700; }
.best::before { content: "● "; font-size: .55rem; vertical-align: .12rem; color: var(--c); }
.ratio { display: block; font-size: .8rem; font-weight: 400; line-height: 1.2; color: var(--quiet); }
.scroll tr > :first-child { position: sticky; left: 0; z-index: 1; background: var(--page); padding-right: 1rem; }
.scroll tbody th .system { display: block; }
.scores tfoot tr > * { border-top: 1.5px solid var(--ink); color: var(--quiet); }
.scores tfoot th { font-weight: 400; }
.all td { padding: .4rem 0 .4rem 1.1rem; }
.all thead th { padding-left: 1.1rem; padding-right: 0; white-space: normal; max-width: 9rem; }
.all .group > *, .all .group + tr > * { border-top: 0; }
.all .group > * { padding: 1.2rem 0 .2rem; border-bottom: 1px solid var(--quiet); }
.all small { font-size: .8rem; color: var(--quiet); font-weight: 400; }
.all code { display: block; font: .75rem/1.4 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  color: var(--quiet); overflow-wrap: anywhere; }
.all .real { color: var(--quiet); font-weight: 400; }
code { white-space: nowrap; }
.all th code, pre code { white-space: inherit; }
details { margin: 1.75rem 0 0; }
summary { cursor: pointer; font-weight: 600; padding: .5rem 0; }
.system { position: relative; display: inline-block; padding-left: 1.15rem; }
.system::before { content: ""; position: absolute; left: 0; top: .38em; width: .72rem; height: .72rem;
  background: var(--c); clip-path: var(--m); }
.legend { margin: 1rem 0 0; font-size: .9rem; color: var(--quiet); columns: 26rem 2; column-gap: 2.5rem; }
.legend div { break-inside: avoid; padding: .15rem 0; }
.legend dt { display: inline; font-weight: 600; color: var(--ink); }
.legend dd { display: inline; margin: 0 0 0 .35rem; }
.grids, .plots, .curves { display: grid; gap: 1.5rem 1.25rem; margin-top: 1rem; }
.grids { grid-template-columns: repeat(auto-fill, minmax(min(11.5rem, 44%), 1fr)); gap: 1.25rem 1rem; align-items: end; }
.plots { grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); }
.curves { grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); }
figure { margin: 0; min-width: 0; }
figcaption { font-size: .9rem; font-weight: 600; margin-bottom: .4rem; }
figcaption small { display: block; font-size: .8rem; font-weight: 400; color: var(--quiet); }
img { display: block; width: 100%; height: auto; }
.grids img { image-rendering: pixelated; border-radius: 3px; outline: 1px solid var(--line); }
.protocol th { font-weight: 400; color: var(--quiet); padding-right: 1.5rem; }
.protocol th, .protocol td { white-space: normal; overflow-wrap: anywhere; padding-top: .35rem; padding-bottom: .35rem; }
.protocol th { min-width: 6.5rem; overflow-wrap: break-word; }
.protocol tr:first-child > * { border-top: 0; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: 0 3rem; }
pre { margin: .75rem 0; padding: .9rem 1.1rem; background: var(--soft); border-radius: .5rem; overflow-x: auto;
  font: .875rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--quiet); font-size: .85rem; }
@media (max-width: 40rem) {
  main { padding: 1.75rem 1rem 3rem; }
  h2 { margin-top: 2.5rem; }
  .answer { padding: .9rem 1rem; }
  .answer div { grid-template-columns: 1fr; padding: .4rem 0; }
  .answer dd { grid-column: 1; }
  .scroll tbody th, .scroll tfoot th { white-space: normal; min-width: 7.75rem; max-width: 38vw; }
}
@media print { .scroll { overflow: visible; background: none; } }"""


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
    if value is None or value == "" or isinstance(value, float) and finite(value) is None:
        return MISSING
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:,}" if isinstance(value, int) and value >= 10000 else f"{value:g}"
    return html.escape(str(value))


def colours() -> str:
    """The themes as CSS variables; `--s<i>` are the colours of systems, `--m<i>` the shapes of
    their markers.
    """

    def block(theme):
        dark = theme is THEMES["dark"]
        names = {"page": theme.page, "ink": theme.ink, "quiet": theme.quiet, "line": theme.line}
        names |= {
            "soft": "#1d2127" if dark else "#f4f6f8",
            "shade": "#00000080" if dark else "#1b1f2426",
        }
        names |= {f"s{i}": colour for i, colour in enumerate(theme.systems)}
        return (
            ":root { " + " ".join(f"--{name}: {colour};" for name, colour in names.items()) + " }"
        )

    light, dark = block(THEMES["light"]), block(THEMES["dark"])
    shapes = " ".join(f"--m{i}: {shape};" for i, shape in enumerate(SHAPES))
    return (
        f":root {{ color-scheme: light dark; {shapes} }}\n{light}\n@media "
        f"(prefers-color-scheme: dark) {{ {dark} }}\n"
    )


def mark(index: int) -> str:
    """The attribute that gives an element the colour and the marker of system `index`."""
    colour, shape = style(index)
    return f'style="--c: var(--s{colour}); --m: var(--m{shape})"'


def system_name(name: str) -> str:
    """A system's name behind its marker."""
    return f'<span class="system">{text(name)}</span>'


def image(png: bytes, alt: str, dark: bytes | None = None) -> str:
    """An image inside the page, with its size, so that the text does not jump while the page loads."""
    if png[:8] != b"\x89PNG\r\n\x1a\n":
        raise InputError(f"the picture of {alt} is not a PNG file")
    width, height = struct.unpack(">II", png[16:24])
    data = "data:image/png;base64," + base64.b64encode(png).decode()
    picture = f'<img src="{data}" alt="{html.escape(alt)}" width="{width}" height="{height}">'
    if dark is None:
        return picture
    night = "data:image/png;base64," + base64.b64encode(dark).decode()
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" '
        f'srcset="{night}">{picture}</picture>'
    )


def duration(seconds: float | None) -> str:
    """Seconds for a reader."""
    if finite(seconds) is None:
        return MISSING
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.3g} s"


def quantity(value: float | None, unit: str) -> str:
    """A large number with three digits and a prefix: 1.23 GFLOP."""
    if (value := finite(value)) is None:
        return MISSING
    prefixes = ["", "k", "M", "G", "T"]
    while abs(value) >= 999.5 and len(prefixes) > 1:
        value /= 1000.0
        prefixes.pop(0)
    return f"{value:.3g} {prefixes[0]}{unit}"
