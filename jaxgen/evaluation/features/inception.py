"""The Inception network of the FID in Flax: TensorFlow's graph of 2015-12-05, and the ways its
ports read images.

Heusel et al. 2017 (FID) take this graph, not the Inception v3 that came later: its average pools
leave the padding out, and its last block pools by the maximum. Szegedy et al. 2016 describe the
blocks. Batch norm is folded into the convolutions, so a layer is convolution, bias, relu. The
weights are not part of this package: give a file, or name it in $JAXGEN_INCEPTION."""

import functools
import hashlib
import json
import math
import os
import zipfile
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, UInt8

from jaxgen import programs
from jaxgen.errors import InputError, nearest
from jaxgen.evaluation.features.base import Extractor, Features
from jaxgen.evaluation.features.resize import MODES
from jaxgen.evaluation.features.resize import resize as resized

LAYERS = (64, 192, 768, 2048)
VARIABLE = "JAXGEN_INCEPTION"
SIZE = 299
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

_float32 = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


class Inception(nn.Module):
    """Normalised images -> (vectors, logits): the mean over positions of one layer, named by its
    width.

    layer: 64 and 192 are the first and second max pool, 768 is Mixed_6e, 2048 is Mixed_7c, the
    layer of published FIDs. Logits over the graph's 1,008 classes come with 2048 alone, otherwise
    None. They leave out the bias of `fc`, as Inception scores do since Salimans et al. 2016.
    Parameters are `<layer>.kernel` (HWIO) and `<layer>.bias` in one flat dictionary.

    Branches of a block that begin with a 1x1 convolution of the same input share one matrix
    product, and that of the average pool branch goes before the pool: both are linear, and the pool
    then has fewer channels."""

    layer: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "N H W 3"]
    ) -> tuple[Float[Array, "N D"], Float[Array, "N K"] | None]:
        x = self.conv("Conv2d_1a_3x3", x, 32, (3, 3), stride=2, same=False)
        x = self.conv("Conv2d_2a_3x3", x, 32, (3, 3), same=False)
        x = self.conv("Conv2d_2b_3x3", x, 64, (3, 3))
        x = _max_pool(x)
        if self.layer == 64:
            return x.mean((1, 2)), None
        (x,) = self.heads("Conv2d_3b_1x1", x, {"": 80})
        x = self.conv("Conv2d_4a_3x3", x, 192, (3, 3), same=False)
        x = _max_pool(x)
        if self.layer == 192:
            return x.mean((1, 2)), None
        for name, pooled in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            x = self.block_35(name, x, pooled)
        x = self.to_17(x)
        for name, inner in (
            ("Mixed_6b", 128),
            ("Mixed_6c", 160),
            ("Mixed_6d", 160),
            ("Mixed_6e", 192),
        ):
            x = self.block_17(name, x, inner)
        if self.layer == 768:
            return x.mean((1, 2)), None
        x = self.to_8(x)
        x = self.block_8("Mixed_7b", x, max_pool=False)
        x = self.block_8("Mixed_7c", x, max_pool=True)
        vectors = x.mean((1, 2))
        return vectors, _float32(vectors, self.weights("fc", (2048, 1008))[0])

    def block_35(self, name: str, x: Array, pooled: int) -> Array:
        heads = {
            ".branch1x1": 64,
            ".branch5x5_1": 48,
            ".branch3x3dbl_1": 64,
            ".branch_pool": pooled,
        }
        one, five, three, pool = self.heads(name, x, heads)
        five = self.conv(f"{name}.branch5x5_2", five, 64, (5, 5))
        three = self.conv(f"{name}.branch3x3dbl_2", three, 96, (3, 3))
        three = self.conv(f"{name}.branch3x3dbl_3", three, 96, (3, 3))
        return jnp.concatenate([one, five, three, pool], -1)

    def to_17(self, x: Array) -> Array:
        three = self.conv("Mixed_6a.branch3x3", x, 384, (3, 3), stride=2, same=False)
        (double,) = self.heads("Mixed_6a", x, {".branch3x3dbl_1": 64})
        double = self.conv("Mixed_6a.branch3x3dbl_2", double, 96, (3, 3))
        double = self.conv("Mixed_6a.branch3x3dbl_3", double, 96, (3, 3), stride=2, same=False)
        return jnp.concatenate([three, double, _max_pool(x)], -1)

    def block_17(self, name: str, x: Array, inner: int) -> Array:
        heads = {
            ".branch1x1": 192,
            ".branch7x7_1": inner,
            ".branch7x7dbl_1": inner,
            ".branch_pool": 192,
        }
        one, seven, double, pool = self.heads(name, x, heads)
        seven = self.conv(f"{name}.branch7x7_2", seven, inner, (1, 7))
        seven = self.conv(f"{name}.branch7x7_3", seven, 192, (7, 1))
        for part, features, size in (
            (2, inner, (7, 1)),
            (3, inner, (1, 7)),
            (4, inner, (7, 1)),
            (5, 192, (1, 7)),
        ):
            double = self.conv(f"{name}.branch7x7dbl_{part}", double, features, size)
        return jnp.concatenate([one, seven, double, pool], -1)

    def to_8(self, x: Array) -> Array:
        three, seven = self.heads("Mixed_7a", x, {".branch3x3_1": 192, ".branch7x7x3_1": 192})
        three = self.conv("Mixed_7a.branch3x3_2", three, 320, (3, 3), stride=2, same=False)
        seven = self.conv("Mixed_7a.branch7x7x3_2", seven, 192, (1, 7))
        seven = self.conv("Mixed_7a.branch7x7x3_3", seven, 192, (7, 1))
        seven = self.conv("Mixed_7a.branch7x7x3_4", seven, 192, (3, 3), stride=2, same=False)
        return jnp.concatenate([three, seven, _max_pool(x)], -1)

    def block_8(self, name: str, x: Array, max_pool: bool) -> Array:
        heads = {".branch1x1": 320, ".branch3x3_1": 384, ".branch3x3dbl_1": 448}
        if max_pool:  # not linear, so its convolution comes after it
            one, three, double = self.heads(name, x, heads)
            # zero is below or equal to every value after relu
            (pool,) = self.heads(name, _max_pool(_pad(x, 1), stride=1), {".branch_pool": 192})
        else:
            one, three, double, pool = self.heads(name, x, heads | {".branch_pool": 192})
        double = self.conv(f"{name}.branch3x3dbl_2", double, 384, (3, 3))
        wide, high = (1, 3), (3, 1)
        three = [
            self.conv(f"{name}.branch3x3_2{part}", three, 384, size)
            for part, size in (("a", wide), ("b", high))
        ]
        double = [
            self.conv(f"{name}.branch3x3dbl_3{part}", double, 384, size)
            for part, size in (("a", wide), ("b", high))
        ]
        return jnp.concatenate([one, *three, *double, pool], -1)

    def weights(self, name: str, shape: Sequence[int]) -> tuple[Array, Array]:
        kernel = self.param(f"{name}.kernel", nn.initializers.zeros, tuple(shape))
        return kernel, self.param(f"{name}.bias", nn.initializers.zeros, (shape[-1],))

    def conv(
        self,
        name: str,
        x: Array,
        features: int,
        size: tuple[int, int],
        stride: int = 1,
        same: bool = True,
    ) -> Array:
        """Convolution, bias, relu. not same: without padding."""
        kernel, bias = self.weights(name, (*size, x.shape[-1], features))
        # without padding XLA's convolution is up to seven times slower on a CPU: pad, then cut
        padding = "SAME" if same else ((0, 1), (0, 1))
        y = lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=lax.Precision.HIGHEST,
        )
        if not same:
            y = y[:, : (x.shape[1] - size[0]) // stride + 1, : (x.shape[2] - size[1]) // stride + 1]
        return nn.relu(y + bias)

    def heads(self, name: str, x: Array, features: Mapping[str, int]) -> list[Array]:
        """Parallel 1x1 convolutions of x by one matrix product; what is called .branch_pool is
        averaged over 3x3 as well.
        """
        weights = [
            self.weights(name + branch, (1, 1, x.shape[-1], width))
            for branch, width in features.items()
        ]
        joint = _float32(x, jnp.concatenate([kernel[0, 0] for kernel, _ in weights], -1))
        parts = jnp.split(joint, np.cumsum(list(features.values()))[:-1], -1)
        if ".branch_pool" in features and len(features) > 1:
            parts[-1] = _average_pool(parts[-1])
        return [nn.relu(part + bias) for part, (_, bias) in zip(parts, weights)]


def _pad(x: Array, width: int) -> Array:
    return jnp.pad(x, ((0, 0), (width, width), (width, width), (0, 0)))


def _three(x: Array, axis: int, stride: int) -> list[Array]:
    """The first, middle and last pixels of all windows of three along an axis: pooling by
    reduce_window is slow on the CPU.
    """
    span = (x.shape[axis] - 3) // stride * stride + 1
    return [lax.slice_in_dim(x, i, i + span, stride, axis) for i in range(3)]


def _max_pool(x: Array, stride: int = 2) -> Array:
    for axis in (1, 2):
        x = functools.reduce(jnp.maximum, _three(x, axis, stride))
    return x


def _average_pool(x: Array) -> Array:
    """3x3 at stride one; the mean at a border is over the pixels inside."""
    rows, columns = ([min(i + 2, n) - max(i - 1, 0) for i in range(n)] for n in x.shape[1:3])
    x = _pad(x, 1)
    for axis in (1, 2):
        x = sum(_three(x, axis, 1))
    return x / np.outer(rows, columns).astype(np.float32)[..., None]


@functools.cache
def shapes(layer: int) -> dict[str, tuple[int, ...]]:
    """What `Inception(layer)` needs: name of a parameter -> its shape."""
    image = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)
    found = jax.eval_shape(Inception(layer).init, jax.random.key(0), image)["params"]
    return {name: value.shape for name, value in found.items()}


def load(path: str, layer: int) -> dict[str, Float[np.ndarray, "..."]]:
    """The parameters of `Inception(layer)` from a file.

    path: an `.npz` with folded weights (`<layer>.weight` OIHW, `<layer>.bias`), an `.npz` with the
    state dictionary of the usual PyTorch ports (`<layer>.conv.weight`, `<layer>.bn.*`, `fc.weight`,
    ...), or that dictionary as `.pth`, which needs torch. Batch norm is folded in float64: w' = w g
    / sqrt(v + 0.001), b' = b - m g / sqrt(v + 0.001). Raises InputError for a file that is missing,
    unreadable, or without this layer."""
    stored = _read(path)
    given = {}
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
    path = os.path.expanduser(path or os.environ.get(VARIABLE) or "")
    if not path:
        raise InputError(f"no Inception weights are given: {_PLACE}")
    weights = jax.device_put(load(path, layer))
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    formula, normalised = NORMALISATION[resize]
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

    def extract(images: UInt8[np.ndarray, "N H W C"]) -> Features:
        images = _checked(images, layer)
        vectors = np.empty((len(images), layer), np.float32)
        probabilities = np.empty((len(images), 1008), np.float32) if layer == 2048 else None
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            # the last batch is filled up, so that one shape is compiled
            padded = np.concatenate(
                [batch, np.zeros((batch_size - len(batch), *images.shape[1:]), np.uint8)]
            )
            some_vectors, some_probabilities = network(weights, padded)
            vectors[start : start + len(batch)] = some_vectors[: len(batch)]
            if probabilities is not None:
                probabilities[start : start + len(batch)] = some_probabilities[: len(batch)]
        return Features(vectors, probabilities)

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
