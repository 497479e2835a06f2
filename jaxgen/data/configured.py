"""The data that a config names."""

from jaxgen.data.sources import Records, open_records
from jaxgen.errors import InputError


def from_config(config, split: str) -> Records:
    """The data of `config.data`'s split "train", "validation" or "test", checked against the config
    but not yet read.

    Raises InputError where shape or classes differ.
    """
    spec = config.data
    records = open_records(
        spec.source, spec[split], data_dir=spec.data_dir, image_shape=tuple(spec.image_shape)
    )
    if config.conditional and not records.labelled:
        raise InputError(f"config.conditional needs labels, and {spec.source} has none")
    if spec.num_classes and records.num_classes > spec.num_classes:
        raise InputError(
            f"{spec.source} has {records.num_classes} classes; config.data.num_classes says "
            f"{spec.num_classes}"
        )
    return records
