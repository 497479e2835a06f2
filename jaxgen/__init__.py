"""jaxgen: deep generative models for images in JAX/Flax, under one train step, one sampler and one
honest comparison.

Sub-packages load on first use, so that `import jaxgen` costs nothing.
"""

import importlib

__version__ = "0.2.0"

_MODULES = (
    "conditions",
    "config",
    "data",
    "diffusion",
    "errors",
    "evaluation",
    "families",
    "losses",
    "networks",
    "sampling",
    "spaces",
    "training",
)


def __getattr__(name: str):
    if name == "open_run":
        return importlib.import_module("jaxgen.runs").open_run
    if name in _MODULES:
        return importlib.import_module(f"jaxgen.{name}")
    raise AttributeError(f"module 'jaxgen' has no attribute {name!r}")


def __dir__():
    return [*globals(), *_MODULES, "open_run"]
