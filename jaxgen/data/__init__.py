"""Data: named sources of uint8 images (`sources`) and the batches made of them (`pipeline`)."""

from jaxgen.data.pipeline import Position, batches, eval_batches, index_batches, prepare, to_uint8
from jaxgen.data.sources import Source, fingerprint, load, splits

__all__ = [
    "Position",
    "Source",
    "batches",
    "eval_batches",
    "fingerprint",
    "index_batches",
    "load",
    "prepare",
    "splits",
    "to_uint8",
]
