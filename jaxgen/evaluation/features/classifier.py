"""Small pinned classifiers of digits, MNIST and CIFAR-10: feature extractors and judges that ship
with the package.

Each was trained once, on its train split alone, by experiments/train_classifiers.py. Weights are
pinned by the hash of their file, beside the accuracy that they reach on real test images, so scores
compare across machines and years. All three are one network: a stem that whitens patches, 3x3
convolutions with GELU, and a mean over positions, the feature vector."""

import hashlib
import io
import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from jaxgen import programs
from jaxgen.errors import InputError, nearest
from jaxgen.evaluation.features.base import Extractor, Features

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "weights")

# "<layer>/kernel" and "<layer>/bias" for the layers 0 (the stem), 1, 2, ... and "logits"
Weights = Mapping[str, Float[Array, "..."]]


class Pinned(NamedTuple):
    """A data set's classifier.

    name: the extractor's. shape: [H, W, C] of an image. stem: (kernel, stride, channels) of the
    first convolution.
    layers: for each 3x3 convolution its channels, and whether it halves the image. train, test: the
    real images that taught and that judged it. accuracy: on test. sha256: of the file of weights.
    """

    name: str
    shape: tuple[int, int, int]
    stem: tuple[int, int, int]
    layers: tuple[tuple[int, bool], ...]
    train: str
    test: str
    accuracy: float
    sha256: str


PINNED = {
    "digits": Pinned(
        name="Digits64",
        shape=(8, 8, 1),
        stem=(3, 1, 18),
        layers=((32, False), (64, True), (64, False)),
        train="digits train",
        test="digits validation+test",
        accuracy=0.985539,
        sha256="1805d880fb21cfa6ab504b2dedfb86e280c05f1b90825f8f1da869078c357873",
    ),
    "mnist": Pinned(
        name="MNIST128",
        shape=(28, 28, 1),
        stem=(4, 2, 24),
        layers=((32, False), (64, True), (64, False), (128, True)),
        train="tfds:mnist train",
        test="tfds:mnist test",
        accuracy=0.9954,
        sha256="84060f41d32d19017e9bd0302b8334499f641251dcb734ed707e8e941b02f6c3",
    ),
    "cifar10": Pinned(
        name="CIFAR128",
        shape=(32, 32, 3),
        stem=(4, 2, 48),
        layers=((64, False), (96, True), (128, False), (144, True), (128, False)),
        train="tfds:cifar10 train",
        test="tfds:cifar10 test",
        accuracy=0.8849,
        sha256="4723c027aa78aa108668fd2677d76b664119812a18d58c470439b6f53170b6a1",
    ),
}
KNOWN = ", ".join(spec.train.split()[0] for spec in PINNED.values())


def for_source(source_name: str) -> Extractor | None:
    """The classifier of a data source: of "digits", "tfds:mnist train[:55000]", "tfds:cifar10:3.0.2
    test"; otherwise None.
    """
    source = ":".join((source_name.split() or [""])[0].split(":")[:2])
    for dataset, spec in PINNED.items():
        if spec.train.split()[0] == source:
            return extractor(dataset)
    return None


def extractor(dataset: str, *, batch_size: int = 256) -> Extractor:
    """The pinned classifier of a data set as an extractor, computed in float32 at the highest
    matmul precision.

    vectors: the mean over positions of the last convolution's GELU. probabilities: the softmax over
    the ten classes.

    Args:
      dataset: "digits" (8x8x1), "mnist" (28x28x1) or "cifar10" (32x32x3).
      batch_size: images at a time; it does not change the features.

    Raises: InputError: an unknown data set, missing or changed weights; on extraction, images that
      are not uint8 of its shape.
    """
    if dataset not in PINNED:
        raise InputError(f"classifier: there is none for '{dataset}': {nearest(dataset, PINNED)}")
    if batch_size < 1:
        raise InputError(f"classifier: batch_size is {batch_size}; it must be at least 1")
    spec = PINNED[dataset]
    weights, classify = _loaded(dataset)

    def extract(images: UInt8[np.ndarray, "N H W C"]) -> Features:
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.shape[1:] != spec.shape:
            right = images.shape[1:] == spec.shape
            raise InputError(
                f"{spec.name}: the images are {images.dtype} {images.shape}, expected uint8 [N, "
                f"{', '.join(map(str, spec.shape))}]: "
                + ("quantise to uint8" if right else "choose an extractor for this data")
            )
        vectors = np.empty((len(images), spec.layers[-1][0]), np.float32)
        probabilities = np.empty((len(images), len(weights["logits/bias"])), np.float32)
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            # the last batch is filled up, so that one shape is compiled
            padded = np.concatenate(
                [batch, np.zeros((batch_size - len(batch), *spec.shape), np.uint8)]
            )
            results = classify(weights, padded)
            for whole, part in zip((vectors, probabilities), results):
                whole[start : start + len(batch)] = part[: len(batch)]
        return Features(vectors, probabilities)

    parameters = sum(int(value.size) for value in weights.values())
    return Extractor(
        name=spec.name,
        extract=extract,
        digest=hashlib.sha256(
            f"classifier {spec.sha256} {spec.stem} {spec.layers}".encode()
        ).hexdigest(),
        protocol={
            "weights": f"{dataset}.npz sha256 {spec.sha256}",
            "layer": f"last convolution, GELU, mean over positions: {spec.layers[-1][0]} numbers",
            "input": f"uint8 {spec.shape} / 255, not resized",
            "trained on": spec.train,
            "test accuracy": spec.accuracy,
            "tested on": spec.test,
            "parameters": parameters,
        },
    )


def stacked_modes(judge: Extractor, images: UInt8[np.ndarray, "N H W 3"]) -> Int[np.ndarray, " N"]:
    """The mode of images that hold three grey digits in their colour channels: 100 a + 10 b + c in
    [0, 1000).

    This is the stacked MNIST of Metz et al. 2017 (Unrolled GANs) and Lin et al. 2018 (PacGAN); a, b
    and c are the classes that `judge`, the extractor of the grey digits, sees in the first, second
    and third channel. Raises InputError unless the images are uint8 with three channels and of the
    judge's height and width."""
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] != 3:
        raise InputError(
            f"stacked modes: the images have shape {images.shape}, expected three digits in [N, H, "
            f"W, 3]"
        )
    seen = [judge.extract(images[..., i : i + 1]).probabilities for i in range(3)]
    classes = [np.argmax(each, axis=1) for each in seen if each is not None]
    return 100 * classes[0] + 10 * classes[1] + classes[2]


def network(
    weights: Weights,
    images: UInt8[Array, "N H W C"],
    spec: Pinned,
    normalise: Callable[[Array], Array] = lambda x: x,
) -> tuple[Float[Array, "N D"], Float[Array, "N K"]]:
    """The classifier as a pure function: images to feature vectors and logits.

    normalise: what training puts between a convolution and its bias (a batch normalisation, later
    folded into both)."""
    _, stride, _ = spec.stem
    x = _convolve(images.astype(jnp.float32) / 255.0, weights["0/kernel"], stride, "VALID")
    x = jax.nn.gelu(x + weights["0/bias"], approximate=True)
    for i, (_, halve) in enumerate(spec.layers, 1):
        x = _convolve(x, weights[f"{i}/kernel"], 1, "SAME")
        x = normalise(_largest_of_four(x) if halve else x) + weights[f"{i}/bias"]
        x = jax.nn.gelu(x, approximate=True)
    vectors = x.mean(axis=(1, 2))
    return vectors, jnp.matmul(vectors, weights["logits/kernel"], precision="highest") + weights[
        "logits/bias"
    ]


def _convolve(x: Array, kernel: Array, stride: int, padding: str) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=layout, precision="highest"
    )


def _largest_of_four(x: Array) -> Array:
    """Max-pooling by two, which leaves out an odd last row or column. XLA's own is slow on CPU,
    above all its gradient.
    """
    h, w = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    x = jnp.maximum(x[:, 0:h:2], x[:, 1:h:2])
    return jnp.maximum(x[:, :, 0:w:2], x[:, :, 1:w:2])


@cache
def _loaded(dataset: str) -> tuple[Weights, Callable]:
    """The weights, checked against their hash, and the compiled function from a batch to vectors
    and probabilities.
    """
    spec = PINNED[dataset]
    path = os.path.join(FOLDER, f"{dataset}.npz")
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise InputError(
            f"classifier: cannot read {path} ({error.strerror}); it ships with jaxgen: install it "
            f"again"
        ) from None
    found = hashlib.sha256(content).hexdigest()
    if found != spec.sha256:
        raise InputError(
            f"classifier: {path} has sha256 {found[:12]}.., not {spec.sha256[:12]}..; install "
            f"jaxgen again"
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as saved:
        weights = {name: jnp.asarray(value, jnp.float32) for name, value in saved.items()}

    @programs.jit
    def classify(weights, images):
        vectors, logits = network(weights, images, spec)
        return vectors, jax.nn.softmax(logits)

    return weights, classify
