"""Optax optimisers by name, with a learning-rate schedule and clipping."""

from collections.abc import Mapping
from typing import Any

import optax

from jaxgen.errors import InputError, call_with_options, nearest

NAMES = (
    "adabelief", "adafactor", "adam", "adamax", "adamw", "lamb", "lion", "nadam", "nadamw", "radam", "rmsprop", "sgd",
)  # fmt: skip
DECAYS = ("constant", "cosine", "linear")


def learning_rate(
    peak: float, *, warmup: int = 0, decay: str = "constant", end: float = 0.0, total_steps: int
) -> optax.Schedule:
    """Linear warm-up from 0 over `warmup` updates, then constant, or cosine or linear decay to
    `end` * peak at the last.
    """
    if decay not in DECAYS:
        raise InputError(f"learning-rate decay '{decay}' does not exist: {nearest(decay, DECAYS)}")
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
    options: Mapping[str, Any], total_steps: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """(optimiser, its learning-rate schedule) from {name, learning_rate, warmup, decay, end, clip,
    **options}.

    clip: largest global gradient norm, 0 for none. options: the optax optimiser's own, e.g. b1,
    weight_decay."""
    options = dict(options)
    name, clip = options.pop("name"), options.pop("clip", 0.0)
    if name not in NAMES:
        raise InputError(f"optimizer '{name}' does not exist: {nearest(name, NAMES)}")
    if "learning_rate" not in options:
        raise InputError(f"optimizer '{name}' needs a learning_rate")
    schedule_options = {k: options.pop(k) for k in ("warmup", "decay", "end") if k in options}
    schedule = learning_rate(
        options.pop("learning_rate"), total_steps=total_steps, **schedule_options
    )
    optimizer = call_with_options(
        f"optimizer '{name}'", getattr(optax, name), {"learning_rate": schedule, **options}
    )
    return (
        optax.chain(optax.clip_by_global_norm(clip), optimizer) if clip else optimizer
    ), schedule
