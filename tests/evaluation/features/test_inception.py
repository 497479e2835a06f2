"""The FID's Inception against the PyTorch ports: features, probabilities, documented and computed
distances; bad files.
"""

import functools
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxgen.errors import InputError
from jaxgen.evaluation.features import inception
from jaxgen.evaluation.metrics import frechet_distance
from tests.support import close

TRUNK = Path(os.environ["JAXGEN_SHARED"]) / "weights" / "fid_inception_2015_trunk_to_Mixed_7a.npz"
CIFAR = Path(os.environ["JAXGEN_SHARED"]) / "data" / "tfds"
needs_trunk = pytest.mark.skipif(not TRUNK.exists(), reason=f"the FID trunk is missing: {TRUNK}")

# inception_golden.npz: `image` is two images of 32x40, noise and a smooth one. The rest was
# computed in torch 2.13 with the trunk's weights and an identity as batch norm (weight 1, bias the
# folded one, mean 0, variance 1 - eps), layers 64, 192, 768 side by side:   tf1_bilinear
# torch-fidelity 0.4.0, FeatureExtractorInceptionV3(["64", "192", "768"]) on uint8;   tf1_299
# the same on RandomState(0)'s 299x299 noise (below);   pytorch_bilinear  pytorch-fid 0.3.0,
# InceptionV3([0]), ([1]), ([2]) on image / 255, averaged over positions;   pil_bicubic
# clean-fid 0.1.35, make_resizer("PIL", False, "bicubic", (299, 299)), (x - 128) / 128,
# torch-fidelity's blocks;   random_*          torch-fidelity's "2048" and
# softmax("logits_unbiased") of image[:1] with the weights of `random_port`.
GOLDEN = np.load(Path(__file__).with_name("inception_golden.npz"))
TERMS = 9 * 288  # of a sum in a wide convolution
PART = {64: slice(0, 64), 192: slice(64, 256), 768: slice(256, 1024)}


@functools.cache
def trunk(layer, resize="tf1_bilinear", batch_size=2):
    return inception.extractor(str(TRUNK), layer, resize=resize, batch_size=batch_size)


def noise():
    rng = np.random.RandomState(0)
    rng.randint(0, 256, (2, 32, 40, 3))  # drawn and dropped: the golden's noise image came first
    return rng.randint(0, 256, (1, 299, 299, 3)).astype(np.uint8)


@pytest.mark.slow
@needs_trunk
@pytest.mark.parametrize("layer", [64, 192, 768])
def test_features_are_those_of_the_port(layer):
    found = trunk(layer).extract(GOLDEN["image"]).vectors
    close(found, GOLDEN["tf1_bilinear"][:, PART[layer]], terms=TERMS)


@pytest.mark.slow
@needs_trunk
@pytest.mark.parametrize("resize", ["pytorch_bilinear", "pil_bicubic"])
def test_features_are_those_of_the_tool_that_resizes_so(resize):
    ours = trunk(192, resize).extract(GOLDEN["image"]).vectors
    close(ours, GOLDEN[resize][:, PART[192]], terms=TERMS)
    # so the modes can be told apart
    assert np.abs(ours - GOLDEN["tf1_bilinear"][:, PART[192]]).max() > 1e-2


@needs_trunk
def test_images_of_299_pixels_are_taken_as_they_are():
    close(trunk(64).extract(noise()).vectors, GOLDEN["tf1_299"][:, PART[64]], terms=TERMS)


@pytest.fixture(scope="module")
def random_port(tmp_path_factory):
    """A whole state dictionary as the PyTorch ports save it, of numbers from RandomState(7)."""
    rng, state = np.random.RandomState(7), {}
    for key, shape in sorted(inception.shapes(2048).items()):
        name = key.removesuffix(".kernel")
        if key == "fc.kernel":
            state["fc.weight"] = rng.uniform(-1, 1, shape[::-1]) * 0.01
            state["fc.bias"] = rng.uniform(-1, 1, shape[-1:])
        elif name != key:
            high, wide, inputs, outputs = shape
            state[f"{name}.conv.weight"] = rng.uniform(
                -1, 1, (outputs, inputs, high, wide)
            ) * np.sqrt(6 / (inputs * high * wide))
            for part, middle in (
                ("weight", 1.0),
                ("bias", 0.0),
                ("running_mean", 0.0),
                ("running_var", 1.0),
            ):
                spread = 0.5 if middle else 0.3
                state[f"{name}.bn.{part}"] = rng.uniform(middle - spread, middle + spread, outputs)
            state[f"{name}.bn.num_batches_tracked"] = np.int64(0)
    path = tmp_path_factory.mktemp("inception") / "port.npz"
    np.savez(
        path,
        **{
            k: np.asarray(v, np.int64 if k.endswith("tracked") else np.float32)
            for k, v in state.items()
        },
    )
    return str(path)


@pytest.mark.slow
def test_2048_features_and_probabilities_are_the_ports_with_its_batch_norm(random_port):
    extractor = inception.extractor(random_port, 2048, batch_size=1)
    vectors, probabilities = extractor.extract(GOLDEN["image"][:1])
    close(vectors, GOLDEN["random_2048"], terms=TERMS)
    # logits are sums over 2,048 features, whose errors the exponential makes relative ones
    close(probabilities / GOLDEN["random_probabilities"], np.ones((1, 1008)), vectors, terms=TERMS)
    assert (
        extractor.name == "Inception2048"
        and extractor.protocol["probabilities"] == "softmax of fc without its bias"
    )


@needs_trunk
@pytest.mark.slow
def test_the_documented_distance_of_torchmetrics():
    """torchmetrics 1.9.0 documents FrechetInceptionDistance(feature=64) of two sets of noise:
    12.6388.

    Its documentation is run with torch.manual_seed(42). The network first draws its 23,816,528
    initial weights, then come the images, which are the Mersenne twister's 32-bit numbers modulo
    their range."""
    rng = np.random.RandomState(42)
    rng.bytes(4 * 23_816_528)

    def images(low, high):
        numbers = rng.randint(0, 2**32, (100, 3, 299, 299), dtype=np.uint32)
        return np.ascontiguousarray(
            (numbers % np.uint32(high - low) + np.uint32(low))
            .astype(np.uint8)
            .transpose(0, 2, 3, 1)
        )

    real, generated = (trunk(64).extract(images(*span)).vectors for span in ((0, 200), (100, 255)))
    # documented in float32
    assert frechet_distance(real, generated) == pytest.approx(12.6388, abs=5e-4)


@needs_trunk
@pytest.mark.slow
@pytest.mark.parametrize(
    "layer,count,expected", [(192, 24, 3.0704983892004662), (768, 16, 1.6076642696854375)]
)
def test_distances_on_cifar_are_those_of_pytorch_fid(layer, count, expected):
    """Expected: pytorch-fid 0.3.0's InceptionV3 with the trunk's weights, np.cov and its
    calculate_frechet_distance, between the first images of the train and of the test split; the
    covariances have no full rank, and its square root holds to 1e-5."""
    tfds = pytest.importorskip("tensorflow_datasets")
    if not CIFAR.exists():
        pytest.skip(f"CIFAR-10 is missing: {CIFAR}")
    sources = (
        tfds.data_source("cifar10", data_dir=CIFAR, split=split) for split in ("train", "test")
    )
    sets = [np.stack([source[i]["image"] for i in range(count)]) for source in sources]
    train, test = (trunk(layer, "pytorch_bilinear").extract(images).vectors for images in sets)
    assert frechet_distance(train, test) == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
@needs_trunk
def test_features_depend_on_the_image_alone():
    images = np.concatenate(
        [GOLDEN["image"], GOLDEN["image"][:, ::-1], GOLDEN["image"][:1, :, ::-1]]
    )
    whole = trunk(64).extract(images).vectors
    assert whole.shape == (5, 64)
    close(trunk(64, batch_size=3).extract(images).vectors, whole, terms=TERMS)
    close(trunk(64).extract(images[[4, 2]]).vectors, whole[[4, 2]], terms=TERMS)
    assert trunk(64).extract(images[:0]).vectors.shape == (0, 64)


@needs_trunk
def test_grey_images_are_three_equal_channels():
    grey = GOLDEN["image"][..., :1]
    colour = trunk(64).extract(np.repeat(grey, 3, axis=-1)).vectors
    close(trunk(64).extract(grey).vectors, colour, terms=TERMS)


@needs_trunk
def test_digest_and_protocol_tell_settings_apart(monkeypatch):
    monkeypatch.setenv(inception.VARIABLE, str(TRUNK))
    same = inception.extractor(None, 64, batch_size=7)
    assert same.digest == trunk(64).digest and same.name == "Inception64"
    assert (
        len(
            {
                trunk(64).digest,
                trunk(192).digest,
                inception.extractor("", 64, resize="pil_bicubic").digest,
            }
        )
        == 3
    )
    assert (
        "c3b6a71072f1f3351effc9de8e1ef10ef4abb77707b7af8b52fdfeeb71cbe196"
        in same.protocol["weights"]
    )
    assert (
        same.protocol["resize"] == "tf1_bilinear to 299x299"
        and same.protocol["normalisation"] == "(x - 128) / 128"
    )


@pytest.mark.parametrize(
    "shape,dtype,message",
    [
        ((1, 8, 8, 3), np.float32, "quantise to uint8"),
        ((8, 8, 3), np.uint8, "give one array of images with an axis of channels"),
        ((1, 8, 8, 4), np.uint8, r"they have 4 channels; drop the fourth \(alpha\)"),
        ((1, 8, 8, 2), np.uint8, "they have 2 channels"),
    ],
)
def test_other_than_uint8_images_are_one_clear_line(shape, dtype, message):
    with pytest.raises(InputError, match=f"expected uint8 .*: {message}") as error:
        inception._checked(np.zeros(shape, dtype), 64)
    assert "\n" not in str(error.value)


@needs_trunk
def test_a_file_without_the_layer_says_what_it_gives():
    with pytest.raises(InputError, match="gives layers 64, 192, 768 but not 2048"):
        inception.extractor(str(TRUNK), 2048)


def test_missing_and_unusable_files_are_one_clear_line(tmp_path, monkeypatch):
    def message(path, layer=64):
        with pytest.raises(InputError) as error:
            inception.extractor(path and str(path), layer)
        assert "\n" not in str(error.value)
        return str(error.value)

    monkeypatch.delenv(inception.VARIABLE, raising=False)
    for text in (message(None), message(tmp_path / "none.npz")):
        assert (
            "pass the path" in text
            and inception.VARIABLE in text
            and "trunk" in text
            and "full port" in text
        )
    assert "there is no layer 100; there are 64, 192, 768, 2048" in message(None, 100)

    broken, other, part, wrong = (
        tmp_path / f"{name}.npz" for name in ("broken", "other", "part", "wrong")
    )
    broken.write_bytes(b"no zip")
    assert "no readable npz" in message(broken)
    np.savez(other, a=np.zeros(3))
    assert "has none of the layers" in message(other)
    np.savez(part, **{"Conv2d_1a_3x3.conv.weight": np.zeros((32, 3, 3, 3), np.float32)})
    assert "no 'Conv2d_1a_3x3.bn.weight'" in message(part)
    folded = {
        name.replace("kernel", "weight"): np.zeros(
            [shape[i] for i in (3, 2, 0, 1)] if len(shape) == 4 else shape, np.float32
        )
        for name, shape in inception.shapes(64).items()
    }
    np.savez(wrong, **folded | {"Conv2d_1a_3x3.weight": np.zeros((32, 1, 3, 3), np.float32)})
    assert "'Conv2d_1a_3x3.kernel' is (3, 3, 1, 32)" in message(wrong)
    np.savez(wrong, **folded | {"Conv2d_1a_3x3.bias": np.full(32, np.nan, np.float32)})
    assert "not finite" in message(wrong)


def test_a_torch_file_without_torch_says_how_to_convert_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "port.pth"
    path.write_bytes(b"")
    with pytest.raises(InputError, match="needs torch.*np.savez.*weights_only=True"):
        inception.load(str(path), 64)


@needs_trunk
def test_a_torch_file_gives_the_weights_of_its_npz(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "trunk.pth"
    with np.load(TRUNK) as stored:
        torch.save({name: torch.from_numpy(stored[name]) for name in stored.files}, path)
    ours, theirs = inception.load(str(path), 64), inception.load(str(TRUNK), 64)
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    torch.save({"a": functools.partial(print)}, path)  # a pickle that would run code
    with pytest.raises(InputError, match="reads safely"):
        inception.load(str(path), 64)
