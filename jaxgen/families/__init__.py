"""Wirings: how networks are put together into a generative model. `build` makes one from a config."""

import importlib

from jaxgen.errors import InputError, nearest
from jaxgen.families.base import Family, LogProb

WIRINGS = ("adversarial", "autoencoder", "diffusion")

__all__ = ["WIRINGS", "Family", "LogProb", "build"]


def build(config) -> Family:
    """The wiring that `config.family` names, with `config.model`, `config.data` and
    `config.precision`.

    Raises InputError for a wiring, network or option that does not exist.
    """
    import jax.numpy as jnp

    if config.family not in WIRINGS:
        raise InputError(
            f"config.family '{config.family}' does not exist: {nearest(config.family, WIRINGS)}"
        )
    if config.precision.compute not in ("float32", "bfloat16"):
        raise InputError(
            f"config.precision.compute must be float32 or bfloat16, not "
            f"'{config.precision.compute}'"
        )
    module = importlib.import_module(f"jaxgen.families.{config.family}")
    for name in config.model:
        if name not in module.OPTIONS:
            raise InputError(
                f"config.model has no field '{name}' for '{config.family}': "
                f"{nearest(name, module.OPTIONS)}"
            )
    for name in module.OPTIONS:
        if name not in config.model and name not in module.OPTIONAL:
            raise InputError(f"config.model needs the field '{name}' for '{config.family}'")
    return module.build(
        config.model,
        image_shape=tuple(config.data.image_shape),
        num_classes=config.data.num_classes if config.conditional else 0,
        dtype=jnp.dtype(config.precision.compute),
    )
