"""How one train step runs on many devices: `jit` over a mesh (data, fsdp), or `pmap`.

Both divide the batch among all devices, and both are the same value of functions (`Parallel`). Each
device computes the gradients of its rows; `collectives` holds what crosses between devices.
"""

import functools

import jax

from jaxgen.errors import InputError, lookup
from jaxgen.training.parallel import replicated, sharded
from jaxgen.training.parallel.base import Parallel
from jaxgen.training.parallel.rules import Rule

MODES = {"jit": sharded.build, "pmap": replicated.build}

__all__ = ["MODES", "Parallel", "build", "from_config", "one_device"]


def build(
    mode: str = "jit",
    *,
    fsdp: int = 1,
    min_size: int = 0,
    rules: tuple[Rule, ...] = (),
    devices=None,
) -> Parallel:
    """`devices` (all there are) in a mode of `MODES`, `fsdp` of which share one copy of the state.

    Raises InputError for an unknown mode, rules that cannot be used, or numbers that do not divide.
    """
    devices = jax.devices() if devices is None else devices
    strategy = lookup(MODES, "config.parallel.mode", mode)
    return strategy(devices, fsdp=fsdp, min_size=min_size, rules=rules)


def from_config(config) -> Parallel:
    """The devices as `config.parallel` asks for them. Raises InputError as `build` does, and where
    they do not divide a batch.
    """
    spec = config.parallel
    devices = build(spec.mode, fsdp=spec.fsdp, min_size=spec.fsdp_min_size, rules=spec.rules)
    size, accumulate = config.train.batch_size, config.train.accumulate
    if (size // accumulate) % devices.size:
        raise InputError(
            f"config.train.batch_size {size} in {accumulate} micro-batch(es) cannot be divided "
            f"among {devices.size} devices: use a multiple of {devices.size * accumulate}"
        )
    return devices


@functools.cache
def one_device() -> Parallel:
    """The first device alone, for notebooks."""
    return build(devices=jax.local_devices()[:1])
