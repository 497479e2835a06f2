"""Spaces: in what form examples are stored, how networks see them, and how samples come back.

Pixels are uint8 images that networks see as floats in [-1, 1]. Points are float32 vectors that
networks see as they are. A family is not told: it models `batch["x"]`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8

from jaxgen import draws
from jaxgen.errors import InputError, lookup
from jaxgen.ranges import call_with_options

_FLIP = 0xF11B  # folded into an example's key: the flip shares no random bits with its other uses
_EXTENT, _SIDE = 4.0, 256  # of a picture of points: what it shows of the plane, and its pixels


class Space(NamedTuple):
    """Pure functions between what is stored and what networks see.

    Attributes:
      name: as in `config.data.space`.
      column: of the data, which is modelled.
      dtype: of the stored examples, numpy's.
      enter: (batch, keys [B], augment) -> batch with "x" float32 [B, *shape], in a compiled step.
      leave: float samples [N, *shape] -> what is stored.
      picture: stored samples -> uint8 images [M, H, W, C] that a person can look at.
    """

    name: str
    column: str
    dtype: Any
    enter: Callable[..., dict[str, Any]]
    leave: Callable[[Array], Array]
    picture: Callable[[np.ndarray], np.ndarray]


def _enter_pixels(
    batch: Mapping[str, Any], keys: Key[Array, " B"], augment: bool = False
) -> dict[str, Any]:
    """`x / 127.5 - 1`; `augment` mirrors each image with probability 1/2, by its own key."""
    x = batch["image"].astype(jnp.float32) / 127.5 - 1
    if augment:
        mirrored = draws.uniform(draws.fold(keys, _FLIP)) < 0.5
        x = jnp.where(mirrored[:, None, None, None], x[:, :, ::-1], x)
    return {**{k: v for k, v in batch.items() if k != "image"}, "x": x}


def to_uint8(images: Float[Array, "*B H W C"]) -> UInt8[Array, "*B H W C"]:
    """Images in [-1, 1] as uint8: `clip(round(127.5 * (x + 1)), 0, 255)`.

    NaN has no uint8 value and becomes an arbitrary one: the caller checks for it before.
    """
    scaled = jnp.round(127.5 * (jnp.asarray(images, jnp.float32) + 1))
    return jnp.clip(scaled, 0, 255).astype(jnp.uint8)


def _enter_points(batch: Mapping[str, Any], keys: Any, augment: bool = False) -> dict[str, Any]:
    if augment:
        raise InputError("config.data.flip mirrors images: points have no left and right")
    return {**{k: v for k, v in batch.items() if k != "point"}, "x": batch["point"]}


def scatter(points: Float[np.ndarray, "N D"]) -> UInt8[np.ndarray, "1 side side 1"]:
    """The first two coordinates as one grey picture of [-4, 4]^2, darker where there are more."""
    edges = np.linspace(-_EXTENT, _EXTENT, _SIDE // 2 + 1)
    counts, _, _ = np.histogram2d(points[:, 1], points[:, 0], (edges, edges))
    often = max(float(np.quantile(counts[counts > 0], 0.95)), 1.0) if counts.any() else 1.0
    shade = 255 - np.round(255 * np.minimum(counts[::-1] / often, 1.0)).astype(np.uint8)
    return shade.repeat(2, 0).repeat(2, 1)[None, :, :, None]


PIXELS = Space("pixels", "image", np.uint8, _enter_pixels, to_uint8, lambda images: images)
POINTS = Space(
    "points", "point", np.float32, _enter_points, lambda x: x.astype(jnp.float32), scatter
)
SPACES = {"pixels": PIXELS, "points": POINTS}


def _downsample(x: Float[Array, "B H W C"], factor: int) -> Float[Array, "B H/f W/f C"]:
    """The mean of each square of `factor` x `factor` pixels."""
    batch, height, width, channels = x.shape
    squares = x.reshape(batch, height // factor, factor, width // factor, factor, channels)
    return jnp.mean(squares, (2, 4))


COLUMNS = {"downsample": _downsample}  # columns derived from what is modelled


def from_config(config) -> Space:
    """The space of `config.data.space`, whose `enter` also makes columns and, to augment, flips.

    `config.data.columns` is {column: {name: "downsample", factor}}: columns made of "x" by a
    function of COLUMNS; one without a name comes from the data as it is.
    """
    space = lookup(SPACES, "space of config.data.space", config.data.space)
    if not isinstance(space, Space):
        raise InputError(f"config.data.space '{config.data.space}' is no jaxgen.spaces.Space")
    flip = config.data.flip
    derived = {}
    for column, options in config.data.columns.items():
        options = dict(options)
        if name := options.pop("name", ""):
            where = f"config.data.columns.{column}"
            make = lookup(COLUMNS, f"derived column of {where}", name)
            derived[column] = functools.partial(call_with_options, where, make, options)

    def enter(batch: Mapping[str, Any], keys: Any, augment: bool = False) -> dict[str, Any]:
        entered = space.enter(batch, keys, flip and augment)
        made = {name: make(entered["x"]) for name, make in derived.items()}
        return {**entered, **made}

    return space._replace(enter=enter)
