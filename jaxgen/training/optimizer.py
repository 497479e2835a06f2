"""Optax optimisers by name, with a learning-rate schedule and clipping."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

import optax

from jaxgen import ranges
from jaxgen.errors import InputError, nearest
from jaxgen.ranges import Count, Fraction, NonNegative, Positive, Whole, call_with_options, one_of

NAMES = (
    "adabelief", "adafactor", "adam", "adamax", "adamw", "lamb", "lion", "nadam", "nadamw", "radam",
    "rmsprop", "sgd",
)  # fmt: skip
DECAYS = ("constant", "cosine", "linear")
DTYPE = Literal["float32", "bfloat16"] | None
TYPES = {  # of optax's own options, which declare no ranges
    **dict.fromkeys(("b1", "b2", "b3", "decay_rate"), Fraction),
    **dict.fromkeys(("eps", "eps_root", "weight_decay", "initial_scale"), NonNegative),
    **dict.fromkeys(("nesterov", "centered", "bias_correction", "factored"), bool),
    **dict.fromkeys(("mu_dtype", "accumulator_dtype", "dtype_momentum"), DTYPE),
    **dict.fromkeys(("mask", "weight_decay_mask"), None),
    "momentum": Fraction | None,
    "weight_decay_rate": NonNegative | None,
    "clipping_threshold": Positive | None,
    "multiply_by_parameter_scale": bool,
    "min_dim_size_to_factor": Count,
    "decay_offset": Whole,
    "threshold": NonNegative,
}


def learning_rate(
    peak: float,
    *,
    warmup: Whole = 0,
    decay: Annotated[str, one_of(DECAYS)] = "constant",
    end: NonNegative = 0.0,
    total_steps: int,
) -> optax.Schedule:
    """Linear warm-up from 0 over `warmup` updates, then constant, or cosine or linear decay to
    `end` * peak at the last.
    """
    rest = max(total_steps - warmup, 1)
    after = {
        "constant": lambda: optax.constant_schedule(peak),
        "cosine": lambda: optax.cosine_decay_schedule(peak, rest, alpha=end),
        "linear": lambda: optax.linear_schedule(peak, end * peak, rest),
    }[decay]()
    return (
        optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])
        if warmup
        else after
    )


def build(
    options: Mapping[str, Any], total_steps: int, where: str = "optimizer"
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """(optimiser, its learning-rate schedule) from {name, learning_rate, warmup, decay, end, clip,
    **options}.

    clip: largest global gradient norm, 0 for none. options: the optax optimiser's own, e.g. b1,
    weight_decay. where: the field of the config that holds them, for messages."""
    options = dict(options)
    name, clip = options.pop("name", "adam"), options.pop("clip", 0.0)
    if name not in NAMES:
        raise InputError(f"{where}.name '{name}' does not exist: {nearest(str(name), NAMES)}")
    if "learning_rate" not in options:
        raise InputError(f"{where}: '{name}' needs a learning_rate")
    peak = options.pop("learning_rate")
    ranges.check(f"{where}.learning_rate", NonNegative, peak)
    ranges.check(f"{where}.clip", NonNegative, clip)
    own: dict[str, Any] = {k: options.pop(k) for k in ("warmup", "decay", "end") if k in options}
    schedule = call_with_options(where, partial(learning_rate, peak, total_steps=total_steps), own)
    optimizer = call_with_options(
        where, getattr(optax, name), {"learning_rate": schedule, **options}, types=TYPES
    )
    return (
        optax.chain(optax.clip_by_global_norm(clip), optimizer) if clip else optimizer
    ), schedule
