"""Data: named sources of uint8 images (`sources`), the order of their examples (`order`) and the
batches made of them: from arrays in memory (`pipeline`), or read in the background (`stream`).

Modules load on first use: a process that only reads images has no need of JAX.
"""

import importlib

_MODULES = {
    "configured": ("from_config",),
    "images": ("prepare", "to_uint8"),
    "order": ("Position",),
    "pipeline": ("batches", "eval_batches", "gather", "index_batches"),
    "sources": ("Records", "Source", "fingerprint", "load", "open_records", "splits"),
    "stream": ("Stream",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'jaxgen.data' has no attribute {name!r}")
    return getattr(importlib.import_module(f"jaxgen.data.{_HOMES[name]}"), name)


def __dir__():
    return [*globals(), *_HOMES]
