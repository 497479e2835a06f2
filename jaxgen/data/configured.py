"""The data that a config asks for, checked against what it says of them."""

import hashlib

import numpy as np

from jaxgen.data.sources import Records, open_records
from jaxgen.errors import InputError

_LOOKED_AT = 256  # examples that stand for a data set


def from_config(config, split: str) -> Records:
    """The data of `config.data`'s split "train", "validation" or "test", opened but not yet read;
    `.everything()` reads them into memory.

    Raises InputError where shape or classes are not those of the config.
    """
    spec = config.data
    records = open_records(
        spec.source, spec[split], data_dir=spec.data_dir, image_shape=tuple(spec.image_shape)
    )
    if _sees_labels(config) and not records.labelled:
        raise InputError(f"config.conditional needs labels, and {spec.source} has none")
    if spec.num_classes and records.num_classes > spec.num_classes:
        raise InputError(
            f"{spec.source} has {records.num_classes} classes; config.data.num_classes says "
            f"{spec.num_classes}"
        )
    return records


def _sees_labels(config) -> bool:
    asked = config.conditional
    return asked if isinstance(asked, bool) else "label" in asked


def streams(config, size: int) -> bool:
    """Whether images of `size` bytes are streamed under `config.data.pipeline`, or else kept on the
    devices.
    """
    spec = config.data
    return spec.pipeline == "stream" or spec.pipeline == "auto" and size > spec.device_bytes


def identity(records: Records) -> str:
    """SHA-256 (hex) of what the data are: their number, shape and classes, and up to 256 evenly
    spread examples. Equal for equal data, wherever they lie.
    """
    if hasattr(records, "fingerprint"):
        return records.fingerprint()
    size = len(records)
    chosen = np.unique(np.linspace(0, size - 1, min(size, _LOOKED_AT)).astype(np.int64))
    digest = hashlib.sha256(f"{size}{records.image_shape}{records.num_classes}".encode())
    for name, array in sorted(records.batch(chosen).items()):
        digest.update(f"{name}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
