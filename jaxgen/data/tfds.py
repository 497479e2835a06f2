"""A data set prepared by TensorFlow Datasets, read without TensorFlow, as a source."""

import os
import re
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from jaxgen.data.splits import Examples, Reader
from jaxgen.errors import InputError, nearest

_CHUNK = 1024  # examples whose decoded rows exist beside the array that they are copied to


def open_tfds(name: str, data_dir: str | None) -> Reader:
    """Opens a data set that is prepared on disk as array records; nothing is downloaded.

    The features used are `image` (uint8 of one fixed shape) and, where it is a class, `label`.

    Args:
      name: TFDS's name, such as "mnist" or "mnist:3.0.1".
      data_dir: the folder that holds the prepared data sets; None is TFDS's own default.

    Raises:
      InputError: a missing package, an unknown name, a data set that is not prepared (the message says how to do it),
        or images of another kind.
    """
    features, records = _records(name, data_dir)
    if "image" not in features:
        raise InputError(f"tfds:{name}: has no feature 'image', only {', '.join(features)}")
    shape, dtype = features["image"].shape, np.dtype(features["image"].np_dtype)
    if None in shape or dtype != np.uint8:
        raise InputError(
            f"tfds:{name}: images are {dtype} of shape {shape}, expected uint8 of one fixed shape; "
            "resize them into a folder or an npz file"
        )
    num_classes = getattr(features["label"], "num_classes", 0) if "label" in features else 0

    def read(split: str, indices: range) -> Examples:
        images = np.empty((len(indices), *shape), np.uint8)
        labels = np.empty(len(indices), np.int32) if num_classes else None
        for start in range(0, len(indices), _CHUNK):
            with _quiet():
                rows = records[split].__getitems__(list(indices[start : start + _CHUNK]))
            images[start : start + len(rows)] = [row["image"] for row in rows]
            if num_classes:
                labels[start : start + len(rows)] = [row["label"] for row in rows]
        return Examples(images, labels)

    return Reader(tuple(records), lambda split: len(records[split]), read, num_classes)


def _records(name: str, data_dir: str | None) -> tuple[Any, dict[str, Sequence[dict]]]:
    """The features of a prepared data set and its records by split."""
    data_dir = data_dir and os.path.expanduser(data_dir)
    not_prepared = InputError(
        f"tfds:{name}: is not prepared as array records in {data_dir or 'the default data_dir of TFDS'}; set data_dir "
        f"to where it is, or prepare it once (needs TensorFlow) with: tfds build {name} --file_format=array_record"
        + (f" --data_dir={data_dir}" if data_dir else "")
    )
    try:
        with _quiet():
            import tensorflow_datasets as tfds

            builder = tfds.builder(name, data_dir=data_dir)
            records = {split: builder.as_data_source(split=split) for split in builder.info.splits}
    except ImportError as error:
        missing = re.search(r"No module named '(\w+)", str(error))
        if missing and missing[1] == "tensorflow":  # only the code that prepares a data set asks for it
            raise not_prepared from None
        package = missing[1] if missing else error.name or error
        raise InputError(f"tfds:{name}: needs the package {package}: pip install 'jaxgen[data]'") from error
    except NotImplementedError:  # prepared in a format without random access
        raise not_prepared from None
    except tfds.core.DatasetNotFoundError:
        known = tfds.list_builders(with_community_datasets=False)
        raise InputError(f"tfds:{name}: there is no such data set: {nearest(name, known)}") from None
    except (ValueError, AssertionError) as error:
        raise InputError(f"tfds:{name}: {str(error).strip().splitlines()[0]}") from error
    if not records:
        raise not_prepared
    return builder.info.features, records


@contextmanager
def _quiet():
    """Without the warnings of TFDS about what it would rather have: OpenCV, or data where it looks in vain."""
    from absl import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
