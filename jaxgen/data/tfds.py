"""A data set prepared by TensorFlow Datasets, read without TensorFlow, as a source."""

import os
import re
from collections.abc import Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from jaxgen.data.decode import MODES, check_shape, decode_all
from jaxgen.data.reader import Asked, Columns, Reader, in_chunks
from jaxgen.errors import InputError, nearest


class _Shards(NamedTuple):
    """The files of one split; file i begins with example starts[i], and starts[-1] is the size of
    the split.
    """

    files: tuple[str, ...]
    starts: tuple[int, ...]


def open_tfds(name: str, asked: Asked) -> Reader:
    """Opens a data set that is prepared on disk as array records; nothing is downloaded.

    The features used are `image` (uint8) and, where it is a class, `label`.

    Args:
      name: TFDS's name, such as "mnist" or "mnist:3.0.1".
      asked.data_dir: the folder that holds the prepared data sets; None is TFDS's own default.
      asked.shape, asked.resize: images of several sizes are resized to one shape; see `decode`.

    Raises: InputError: a missing package, an unknown name, a data set that is not prepared (the
      message says how to do it),
        or images of another kind.
    """
    source = f"tfds:{name}"
    check_shape(source, asked)
    features, splits = _prepared(name, asked.data_dir)
    if "image" not in features:
        raise InputError(f"{source}: has no feature 'image', only {', '.join(features)}")
    image = features["image"]
    shape, dtype = image.shape, np.dtype(image.np_dtype)
    if asked.resize != "none" and asked.shape and len(shape) == 3:
        shape = asked.shape
    if (
        None in shape
        or len(shape) != 3
        or shape[-1] not in MODES
        or dtype != np.uint8
        or not hasattr(image, "encoding_format")
    ):
        raise InputError(
            f"{source}: images are {dtype} of shape {shape}, expected encoded images (uint8) of "
            f"one fixed shape; config.data.resize=crop or squash gives them one"
        )
    num_classes = getattr(features["label"], "num_classes", 0) if "label" in features else 0
    return Reader(
        {split: shards.starts[-1] for split, shards in splits.items()},
        partial(_read, source, splits, shape, asked.resize),
        ("image", "label") if num_classes else ("image",),
        num_classes,
    )


def _read(
    source: str,
    splits: dict[str, _Shards],
    shape: tuple[int, ...],
    resize: str,
    split: str,
    indices: np.ndarray,
    names: Sequence[str],
) -> Columns:
    images = np.empty((len(indices) if "image" in names else 0, *shape), np.uint8)
    labels = np.empty(len(indices), np.int32)

    def fill(chunk: slice) -> None:
        from tensorflow_datasets.proto import tf_example_pb2

        features = [
            tf_example_pb2.Example.FromString(record).features.feature
            for record in _records(splits[split], indices[chunk])
        ]
        if "image" in names:
            images[chunk] = decode_all(
                (b"".join(feature["image"].bytes_list.value) for feature in features),
                lambda i: f"{source}: example {indices[chunk.start + i]} of '{split}'",
                shape,
                resize,
            )
        if "label" in names:
            labels[chunk] = [feature["label"].int64_list.value[0] for feature in features]

    in_chunks(fill, len(indices))
    columns: Columns = {"image": images, "label": labels}
    return {name: columns[name] for name in columns if name in names}


def _records(shards: _Shards, indices: np.ndarray) -> list[bytes]:
    """The serialised examples at these indices of a split."""
    files = np.searchsorted(shards.starts, indices, side="right") - 1
    records = [b""] * len(indices)
    for file in np.unique(files):
        rows = np.flatnonzero(files == file)
        found = _reader(shards.files[file]).read((indices[rows] - shards.starts[file]).tolist())
        for row, record in zip(rows.tolist(), found, strict=True):
            records[row] = record
    return records


@lru_cache(maxsize=512)
def _reader(file: str):
    """The open file; readers serve several threads, and every process has its own."""
    from array_record.python import array_record_module

    # with a read-ahead, access to single records reads their neighbours too
    return array_record_module.ArrayRecordReader(
        file, options="readahead_buffer_size:0,max_parallelism:0"
    )


def _prepared(name: str, data_dir: str | None) -> tuple[Any, dict[str, _Shards]]:
    """The features of a prepared data set and its files by split."""
    data_dir = data_dir and os.path.expanduser(data_dir)
    not_prepared = InputError(
        f"tfds:{name}: is not prepared as array records in "
        f"{data_dir or 'the default data_dir of TFDS'}; set data_dir "
        f"to where it is, or prepare it once (needs TensorFlow) with: tfds build {name} "
        "--file_format=array_record" + (f" --data_dir={data_dir}" if data_dir else "")
    )
    try:
        with _quiet():
            import tensorflow_datasets as tfds

            builder = tfds.builder(name, data_dir=data_dir)
            splits = {}
            for split, info in builder.info.splits.items():
                builder.as_data_source(split=split)  # raises where there is no random access
                starts = np.cumsum([0, *info.shard_lengths]).tolist()
                splits[split] = _Shards(tuple(str(file) for file in info.filepaths), tuple(starts))
    except ImportError as error:
        missing = re.search(r"No module named '(\w+)", str(error))
        # only the code that prepares a data set asks for it
        if missing and missing[1] == "tensorflow":
            raise not_prepared from None
        package = missing[1] if missing else error.name or error
        raise InputError(
            f"tfds:{name}: needs the package {package}: pip install 'jaxgen[data]'"
        ) from error
    except NotImplementedError:  # prepared in a format without random access
        raise not_prepared from None
    except tfds.core.DatasetNotFoundError:
        known = tfds.list_builders(with_community_datasets=False)
        raise InputError(
            f"tfds:{name}: there is no such data set: {nearest(name, known)}"
        ) from None
    except (ValueError, AssertionError) as error:
        raise InputError(f"tfds:{name}: {str(error).strip().splitlines()[0]}") from error
    if not splits:
        raise not_prepared
    return builder.info.features, splits


@contextmanager
def _quiet():
    """Without the warnings of TFDS about what it would rather have or looks for in vain."""
    from absl import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
