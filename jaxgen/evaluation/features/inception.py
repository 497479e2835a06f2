"""The FID's Inception as an extractor: its weights, and the ways its ports read images.

The weights are not part of this package: give a file, or name it in $JAXGEN_INCEPTION."""

import hashlib
import json
import math
import os
import zipfile
from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Float, UInt8

from jaxgen import files, programs
from jaxgen.errors import InputError, nearest
from jaxgen.evaluation.features.base import Extractor, Features
from jaxgen.evaluation.features.inception_network import SIZE, Inception, shapes
from jaxgen.evaluation.features.resize import MODES
from jaxgen.evaluation.features.resize import resize as resized

LAYERS = (64, 192, 768, 2048)
VARIABLE = "JAXGEN_INCEPTION"
_EPSILON = 1e-3  # of the graph's batch norm

# What the tools that resize so feed to the network, of grey values x: TensorFlow and
# torch-fidelity, clean-fid, pytorch-fid
NORMALISATION = {
    "tf1_bilinear": ("(x - 128) / 128", lambda x: (x - 128.0) / 128.0),
    "pil_bicubic": (
        "(clip(x, 0, 255) - 128) / 128",
        lambda x: (jnp.clip(x, 0.0, 255.0) - 128.0) / 128.0,
    ),
    "pytorch_bilinear": ("2 * x / 255 - 1", lambda x: 2.0 * (x / 255.0) - 1.0),
}


def load(path: str, layer: int) -> dict[str, Float[np.ndarray, "..."]]:
    """The parameters of `Inception(layer)` from a file.

    path: an `.npz` with folded weights (`<layer>.weight` OIHW, `<layer>.bias`), an `.npz` with the
    state dictionary of the usual PyTorch ports (`<layer>.conv.weight`, `<layer>.bn.*`, `fc.weight`,
    ...), or that dictionary as `.pth`, which needs torch. Batch norm is folded in float64: w' = w g
    / sqrt(v + 0.001), b' = b - m g / sqrt(v + 0.001). Raises InputError for a file that is missing,
    unreadable, or without this layer."""
    stored = _read(path)
    given: dict[str, np.ndarray] = {}
    for key, value in stored.items():
        name, _, kind = key.rpartition(".")
        if kind == "weight" and name.endswith(".conv"):
            given |= _folded(path, name.removesuffix(".conv"), stored)
        elif kind in ("weight", "bias") and not name.endswith(".bn"):
            axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(value.ndim, range(value.ndim))
            given[f"{name}.{'kernel' if kind == 'weight' else kind}"] = value.transpose(axes)
    missing = shapes(layer).keys() - given.keys()
    if missing:
        able = [other for other in LAYERS if shapes(other).keys() <= given.keys()]
        gives = (
            f"gives layers {', '.join(map(str, able))} but not {layer}"
            if able
            else "has none of the layers"
        )
        raise InputError(
            f"{path} {gives}: {len(missing)} arrays are missing, such as '{min(missing)}'; "
            "2048 needs the full port, 64, 192 and 768 only its trunk"
        )
    for name, shape in shapes(layer).items():
        if given[name].shape != shape or not np.isfinite(given[name]).all():
            raise InputError(
                f"{path}: '{name}' is {given[name].shape} or not finite; this network has finite "
                f"{shape}"
            )
    return {name: np.asarray(given[name], np.float32) for name in shapes(layer)}


def _read(path: str) -> dict[str, np.ndarray]:
    if not os.path.isfile(path):
        raise InputError(f"there is no file of Inception weights {path}: {_PLACE}")
    if path.endswith(".npz"):
        try:
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is no readable npz file ({error}): copy it anew") from error
    if not path.endswith((".pth", ".pt")):
        raise InputError(f"{path}: Inception weights are read from .npz and .pth files")
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{path} needs torch to be read; where there is torch, convert it: "
            f"np.savez('inception.npz', **{{k: v.numpy() for k, v in torch.load('{path}', "
            f"weights_only=True).items()}})"
        ) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {name: value.numpy() for name, value in state.items()}
    except Exception as error:  # torch raises many kinds
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise InputError(
            f"{path} is no state dictionary that torch reads safely ({reason}): save "
            f"model.state_dict()"
        ) from error


_PLACE = (
    f"pass the path of an .npz or .pth, or set {VARIABLE} to it; layers 64, 192 and 768 need the "
    f"trunk of the "
    "inception-2015-12-05 port, 2048 the full port (pt_inception-2015-12-05-6726825d.pth)"
)


def _folded(path: str, name: str, stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    parts = ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
    absent = [part for part in parts if f"{name}.{part}" not in stored]
    if absent:
        raise InputError(
            f"{path} has '{name}.conv.weight' but no '{name}.{absent[0]}': save the whole state "
            f"dictionary"
        )
    weight, gain, bias, mean, variance = (
        stored[f"{name}.{part}"].astype(np.float64) for part in parts
    )
    scale = gain / np.sqrt(variance + _EPSILON)
    return {
        f"{name}.kernel": weight.transpose(2, 3, 1, 0) * scale,
        f"{name}.bias": bias - mean * scale,
    }


def _checked(images, layer: int) -> UInt8[np.ndarray, "N H W C"]:
    """The images as an array. Raises InputError, with the one thing to do, for what is no image."""
    images, fix = np.asarray(images), ""
    if images.ndim != 4 or 0 in images.shape[1:]:
        fix = "give one array of images with an axis of channels"
    elif images.shape[-1] == 4:
        fix = "they have 4 channels; drop the fourth (alpha), as images[..., :3]"
    elif images.shape[-1] not in (1, 3):
        fix = f"they have {images.shape[-1]} channels; choose the one or the three that are seen"
    elif images.dtype != np.uint8:
        fix = "quantise to uint8, as clip(round(127.5 * (x + 1)), 0, 255) for x in [-1, 1]"
    if fix:
        raise InputError(
            f"Inception{layer}: the images are {images.dtype} {images.shape}, expected uint8 "
            f"[N, H, W, 1 or 3]: {fix}"
        )
    return images


def _compiled(layer: int, resize: str, batch_size: int):
    """The compiled function of (weights, uint8 images) to (vectors, probabilities or None)."""
    normalised = NORMALISATION[resize][1]
    # on the CPU two images at a time stay in the caches: a third faster than 32 at once
    together = math.gcd(batch_size, 2) if jax.default_backend() == "cpu" else batch_size

    @programs.jit
    def network(weights, images):
        def some(images):
            x = images.astype(jnp.float32)
            if x.shape[1:3] != (SIZE, SIZE):
                x = resized(x, SIZE, resize)
            x = jnp.broadcast_to(normalised(x), (*x.shape[:3], 3))
            vectors, logits = Inception(layer).apply({"params": weights}, x)
            return vectors, None if logits is None else nn.softmax(logits)

        parts = lax.map(some, images.reshape(-1, together, *images.shape[1:]))
        return jax.tree.map(lambda x: x.reshape(len(images), -1), parts)

    return network


def _in_batches(network, images: UInt8[np.ndarray, "N H W C"], layer: int, size: int) -> Features:
    """The features of all images; the last batch is filled up, so that one shape is compiled."""
    vectors = np.empty((len(images), layer), np.float32)
    probabilities = np.empty((len(images), 1008), np.float32) if layer == 2048 else None
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        missing = np.zeros((size - len(batch), *images.shape[1:]), np.uint8)
        some_vectors, some_probabilities = network(np.concatenate([batch, missing]))
        vectors[start : start + len(batch)] = some_vectors[: len(batch)]
        if probabilities is not None:
            probabilities[start : start + len(batch)] = some_probabilities[: len(batch)]
    return Features(vectors, probabilities)


def extractor(
    path: str | None, layer: int = 768, *, resize: str = "tf1_bilinear", batch_size: int = 32
) -> Extractor:
    """The FID's Inception as an extractor, in float32 at the highest matmul precision.

    vectors: [N, layer]. probabilities: the softmax of the logits [N, 1008] with layer 2048,
    otherwise None. Images of any size are resized to 299 x 299 (those of that size are taken as
    they are), grey ones become three equal channels.

    Args: path: the file of weights (see `load`); None or "": $JAXGEN_INCEPTION. layer: 64, 192, 768
      or 2048, which published FIDs use. resize: `tf1_bilinear` as TensorFlow and torch-fidelity,
      `pytorch_bilinear` as pytorch-fid, `pil_bicubic` as clean-fid;
        each brings that tool's normalisation.
      batch_size: images at a time; it does not change the features.

    Raises: InputError: an unknown layer or resize, weights that are missing or lack the layer; on
      extraction, images that are not
        uint8 with one or three channels.
    """
    if layer not in LAYERS:
        raise InputError(
            f"inception: there is no layer {layer}; there are {', '.join(map(str, LAYERS))}"
        )
    if resize not in MODES:
        raise InputError(
            f"inception: there is no resize mode '{resize}': {nearest(str(resize), MODES)}"
        )
    if batch_size < 1:
        raise InputError(f"inception: batch_size is {batch_size}; it must be at least 1")
    path = path or os.environ.get(VARIABLE) or ""
    if not path:
        raise InputError(f"no Inception weights are given: {_PLACE}")
    try:
        path = files.fetched(path)
    except FileNotFoundError:
        raise InputError(f"there is no file of Inception weights {path}: {_PLACE}") from None
    weights = jax.device_put(load(path, layer))
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    formula = NORMALISATION[resize][0]
    network = _compiled(layer, resize, batch_size)

    def extract(images: UInt8[np.ndarray, "N H W C"]) -> Features:
        return _in_batches(partial(network, weights), _checked(images, layer), layer, batch_size)

    protocol = {
        "weights": f"{os.path.basename(path)} sha256 {sha256}",
        "layer": f"{layer} (mean over positions)",
        "resize": f"{resize} to {SIZE}x{SIZE}",
        "normalisation": formula,
    }
    if layer == 2048:
        protocol["probabilities"] = "softmax of fc without its bias"
    settings = json.dumps(["inception", sha256, layer, resize, formula])
    return Extractor(
        f"Inception{layer}", extract, hashlib.sha256(settings.encode()).hexdigest(), protocol
    )
