"""The three resize modes against Pillow, PyTorch (where installed), hand-made cases and a golden of
torch-fidelity.
"""

from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen.errors import InputError
from jaxgen.evaluation.features.resize import MODES, matrix, resize
from tests.support import close

# resize_golden.npz: `image` is RandomState(0).randint(0, 256, (9, 13, 3), uint8);
# `tf1_bilinear_<size>` is torch-fidelity 0.4.0's interpolate_bilinear_2d_like_tensorflow1x(image as
# float32 NCHW, (size, size), align_corners=False), back in HWC; `pytorch_bilinear_<size>` is
# F.interpolate(..., (size, size), mode="bilinear", align_corners=False) of torch 2.13.
GOLDEN = np.load(Path(__file__).with_name("resize_golden.npz"))


@pytest.mark.slow
@pytest.mark.parametrize("size_in", [7, 32, 299, 400])
@pytest.mark.parametrize("size_out", [5, 32, 299])
def test_bicubic_is_pillows(size_in, size_out):
    rng = np.random.RandomState(size_in)
    image = rng.randint(0, 256, (size_in, size_in + 3, 2)).astype(np.float32)
    channels = [
        Image.fromarray(image[..., c]).resize((size_out, size_out), Image.Resampling.BICUBIC)
        for c in range(2)
    ]
    ours = np.asarray(resize(image[None], size_out, "pil_bicubic")[0])
    close(ours, np.stack([np.asarray(c) for c in channels], -1), image)


def test_tf1_takes_pixel_i_times_in_over_out():
    np.testing.assert_array_equal(
        matrix("tf1_bilinear", 2, 4), [[1, 0], [0.5, 0.5], [0, 1], [0, 1]]
    )
    # no antialiasing
    np.testing.assert_array_equal(matrix("tf1_bilinear", 4, 2), [[1, 0, 0, 0], [0, 0, 1, 0]])
    close(matrix("tf1_bilinear", 3, 2), np.array([[1, 0, 0], [0, 0.5, 0.5]]), dtype=np.float64)


def test_pytorch_takes_the_pixels_centres():
    np.testing.assert_array_equal(
        matrix("pytorch_bilinear", 2, 4), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    )
    np.testing.assert_array_equal(
        matrix("pytorch_bilinear", 4, 2), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]
    )
    np.testing.assert_array_equal(
        matrix("pytorch_bilinear", 6, 2), [[0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0]]
    )


@pytest.mark.parametrize("mode", ["tf1_bilinear", "pytorch_bilinear"])
@pytest.mark.parametrize("size", [5, 20])
def test_bilinear_modes_are_those_of_the_fid_tools(mode, size):
    ours = np.asarray(jax.jit(resize, static_argnums=(1, 2))(GOLDEN["image"][None], size, mode)[0])
    close(ours, GOLDEN[f"{mode}_{size}"])


@pytest.mark.parametrize("shape,size", [((32, 32), 299), ((31, 64), 17), ((299, 200), 299)])
def test_pytorch_bilinear_is_pytorchs(shape, size):
    torch = pytest.importorskip("torch")
    image = np.random.RandomState(1).randint(0, 256, (1, *shape, 3)).astype(np.float32)
    planes = torch.from_numpy(image).permute(0, 3, 1, 2)
    theirs = torch.nn.functional.interpolate(
        planes, (size, size), mode="bilinear", align_corners=False
    )
    ours = resize(image, size, "pytorch_bilinear")
    # PyTorch's float32 positions are off by up to 2^-16 near pixel 255: times 255 grey levels that
    # is 0.004
    assert np.abs(np.asarray(ours) - theirs.permute(0, 2, 3, 1).numpy()).max() < 4e-3


@pytest.mark.parametrize("mode", MODES)
def test_a_constant_stays_and_equal_sizes_change_nothing(mode):
    for sizes in [(1, 7), (7, 1), (32, 299), (299, 32)]:
        close(matrix(mode, *sizes).sum(1), 1.0, dtype=np.float64, terms=300)
    close(matrix(mode, 299, 299), np.eye(299), 299.0, dtype=np.float64)


def test_an_unknown_mode_or_an_impossible_size_is_one_clear_line():
    with pytest.raises(InputError, match="no resize mode 'pil_bicubik': did you mean pil_bicubic"):
        matrix("pil_bicubik", 4, 4)
    with pytest.raises(InputError, match="0 pixels"):
        matrix("tf1_bilinear", 0, 4)
