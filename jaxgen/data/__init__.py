"""Data: named sources of examples (`sources`), whose splits are `Records` or a `Table` (`records`);
the order of their examples (`order`); and the batches made of them, from arrays in memory
(`pipeline`) or read in the background (`stream`).

Modules load on first use: a process that only reads images has no need of JAX.
"""

import importlib

_MODULES = {
    "configured": ("from_config", "streams"),
    "order": ("Position",),
    "pipeline": ("batches", "eval_batches", "gather", "index_batches"),
    "reader": ("Reader",),
    "records": ("Records", "Table", "check_classes", "classes_without_images", "fingerprint"),
    "sources": ("load", "open_records", "splits"),
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
