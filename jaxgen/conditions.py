"""What a model is conditioned on: per-example arrays by name, such as the class or a small image.

`ConditionSpec` is the one place that knows their shapes, what stands for "none given", and how
often training leaves them out. Wirings hand a condition on; networks embed it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from jaxgen import draws, ranges
from jaxgen.errors import InputError
from jaxgen.ranges import Count, Fraction, Section

Condition = Mapping[str, Array]  # {name: [B, *shape]}


class Kind(NamedTuple):
    """One array of a condition.

    Attributes:
      name: of the data's column.
      shape: of one example's: () for a class, (D,) for a vector, (H, W, C) for an image.
      classes: how many there are, for an integer class; 0 for float32 numbers.
      drop: share of the training examples that see the null in its place.
    """

    name: str
    shape: tuple[int, ...] = ()
    classes: int = 0
    drop: float = 0.0

    @property
    def null(self) -> int:
        """What stands for "none given": the class after the last, or zeros."""
        return self.classes

    def blank(self, batch_size: int) -> Array:
        """An array of the right shape and type."""
        return jnp.zeros((batch_size, *self.shape), jnp.int32 if self.classes else jnp.float32)


class ConditionSpec(NamedTuple):
    """The kinds of a condition; none for an unconditional model."""

    kinds: tuple[Kind, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.kinds)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(kind.name for kind in self.kinds)

    @property
    def num_classes(self) -> int:
        """Classes of the label; 0 for a model that does not see one."""
        return next((kind.classes for kind in self.kinds if kind.name == "label"), 0)

    def split(self) -> tuple["ConditionSpec", "ConditionSpec"]:
        """(images, everything else): networks of images take the former as further channels."""
        images = tuple(kind for kind in self.kinds if len(kind.shape) == 3)
        return ConditionSpec(images), ConditionSpec(tuple(k for k in self.kinds if k not in images))

    def check(self, condition: Condition | None) -> Condition:
        """`condition`, {} for None; InputError unless it holds these kinds in their shapes."""
        given = condition or {}
        for kind in self.kinds:
            if kind.name not in given:
                what = (
                    f"{kind.classes} classes" if kind.classes else f"numbers of shape {kind.shape}"
                )
                remedy = "give --label or labelled data" if kind.name == "label" else "give it too"
                raise InputError(
                    f"this model is conditioned on '{kind.name}' ({what}), and none was given: "
                    f"{remedy}"
                )
            if tuple(given[kind.name].shape[1:]) != kind.shape:
                raise InputError(
                    f"the condition '{kind.name}' has shape {tuple(given[kind.name].shape[1:])} "
                    f"for each example; this model takes {kind.shape}"
                )
        for name in given:
            if name not in self.names:
                takes = ", ".join(self.names) or "no condition"
                raise InputError(f"this model takes {takes}, not '{name}'")
        return given

    def of(self, batch: Mapping[str, Any]) -> Condition | None:
        """The condition of a batch: its columns of these names. None for an unconditional model."""
        if not self:
            return None
        condition = {name: batch[name] for name in self.names if name in batch}
        self.check(condition)
        return condition

    def blank(self, batch_size: int) -> Condition:
        """Arrays of the right shapes, for initialisation."""
        return {kind.name: kind.blank(batch_size) for kind in self.kinds}

    def null_like(self, condition: Condition) -> Condition:
        """The condition that says nothing."""
        return {kind.name: jnp.full_like(condition[kind.name], kind.null) for kind in self.kinds}

    def drop(self, condition: Condition | None, keys: Key[Array, "B"]) -> Condition | None:
        """Each kind replaced by its null in a share `drop` of the examples, decided apart for each
        of them: classifier-free guidance needs it (Ho & Salimans 2022)."""

        def dropped(kind: Kind, x: Array) -> Array:
            if not kind.drop:
                return x
            uniform = draws.uniform(draws.named(keys, kind.name))
            gone = (uniform < kind.drop).reshape(-1, *(1 for _ in kind.shape))
            return jnp.where(gone, kind.null, x)

        if condition is None:
            return None
        return {kind.name: dropped(kind, condition[kind.name]) for kind in self.kinds}

    def flat(self, condition: Condition) -> Array:
        """All of it as one row of numbers for each example, classes as one-hot codes."""
        rows = [
            jax.nn.one_hot(condition[kind.name], kind.classes)
            if kind.classes
            else condition[kind.name].reshape(len(condition[kind.name]), -1)
            for kind in self.kinds
        ]
        return jnp.concatenate(rows, -1)


UNCONDITIONAL = ConditionSpec()


def from_config(config) -> ConditionSpec:
    """What the networks of a config see: `config.conditional` names columns of the data.

    True means the label. A column of its own making (`config.data.columns`) has the shape that it
    says, or that follows from how it is derived. `config.model.condition_dropout` is a share for
    all kinds or {name: share}. Raises InputError for a column that is not described.
    """
    asked = config.conditional
    names = (("label",) if asked else ()) if isinstance(asked, bool) else tuple(asked)
    dropout = config.model.get("condition_dropout", 0.0)

    place = "config.model.condition_dropout"
    ranges.check(place, Fraction | Section, dropout)
    shares = {"": dropout} if isinstance(dropout, int | float) else dict(dropout)
    for name, value in shares.items():
        ranges.check(f"{place}.{name}" if name else place, Fraction, value)

    def share(name: str) -> float:
        return float(shares.get(name, shares.get("", 0.0)))

    def kind(name: str) -> Kind:
        if name == "label":
            if not config.data.num_classes:
                raise InputError("config.conditional needs config.data.num_classes")
            return Kind("label", (), config.data.num_classes, share("label"))
        if name not in config.data.columns:
            known = ", ".join(["label", *config.data.columns])
            raise InputError(f"config.conditional names '{name}', but there are only {known}")
        return Kind(name, column_shape(config, name), 0, share(name))

    return ConditionSpec(tuple(kind(name) for name in names))


def column_shape(config, name: str) -> tuple[int, ...]:
    """The shape of an example of a column that `config.data.columns` describes."""
    options, where = config.data.columns[name], f"config.data.columns.{name}"
    ranges.check(where, Section, options)
    if options.get("name", "") == "downsample" and len(config.data.image_shape) == 3:
        height, width, channels = config.data.image_shape
        if more := set(options) - {"name", "factor"}:
            raise InputError(f"{where} has no option '{min(more)}': known: factor")
        factor = options.get("factor")
        ranges.check(f"{where}.factor", Count, factor)
        if height % factor or width % factor:
            raise InputError(f"{where}.factor {factor} does not divide {height}x{width}")
        return height // factor, width // factor, channels
    if "shape" not in options:
        raise InputError(
            f"{where} needs the 'shape' of the data's column, or of images "
            "name='downsample' and a factor"
        )
    ranges.check(f"{where}.shape", tuple[Count, ...], options.shape)
    return tuple(options.shape)
