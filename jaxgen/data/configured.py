"""The data that a config asks for, checked against what it says of them."""

from jaxgen.data.records import Records, check_classes
from jaxgen.data.sources import open_records
from jaxgen.errors import InputError


def from_config(config, split: str) -> Records:
    """The data of `config.data`'s split "train", "validation" or "test", opened but not yet read;
    `.everything()` reads them into memory.

    Raises InputError where shape, space or classes are not those of the config, and where the
    networks would see a class that no training example has.
    """
    spec = config.data
    records = open_records(
        spec.source,
        spec[split],
        data_dir=spec.data_dir,
        image_shape=tuple(spec.image_shape),
        resize=spec.resize,
    )
    if records.space != spec.space:
        raise InputError(
            f"config.data.space is '{spec.space}', but {spec.source} holds {records.space}"
        )
    asked = config.conditional
    for name in () if isinstance(asked, bool) else asked:
        if name not in records.columns and not config.data.columns.get(name, {}).get("name"):
            has = ", ".join(records.columns)
            raise InputError(
                f"config.conditional names '{name}', and {records.name} has the columns {has}"
            )
    if asked if isinstance(asked, bool) else "label" in asked:
        if not records.labelled:
            raise InputError(f"config.conditional needs labels, and {spec.source} has none")
        if split == "train":
            check_classes(records, spec.num_classes)
    elif spec.num_classes and records.num_classes > spec.num_classes:
        raise InputError(
            f"{spec.source} has {records.num_classes} classes; config.data.num_classes says "
            f"{spec.num_classes}"
        )
    return records


def streams(config, size: int) -> bool:
    """Whether images of `size` bytes are streamed under `config.data.pipeline`, or else kept on the
    devices.
    """
    spec = config.data
    return spec.pipeline == "stream" or spec.pipeline == "auto" and size > spec.device_bytes
