"""Between what is stored and what networks see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import conditions, config, data, spaces
from jaxgen.errors import InputError
from jaxgen.spaces import PIXELS, POINTS, to_uint8
from tests.support import close, images, keys, normal


@pytest.mark.parametrize("compile", [jax.jit, lambda function: function])
def test_scaling_and_its_inverse_on_all_256_values(compile):
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    batch = {"image": values, "label": np.zeros(1, np.int32)}
    entered = compile(lambda batch: PIXELS.enter(batch, keys(1)))(batch)
    assert entered["x"].dtype == jnp.float32 and entered["label"].tolist() == [0]
    assert "image" not in entered
    close(entered["x"], values / 127.5 - 1)
    assert np.array_equal(compile(PIXELS.leave)(entered["x"]), values)


def test_to_uint8_clips_and_rounds():
    x = jnp.array([-3.0, -1.0, 0.0, 1.0, 3.0, 126.6 / 127.5 - 1, -jnp.inf, jnp.inf])
    assert to_uint8(x).tolist() == [0, 0, 128, 255, 255, 127, 0, 255]
    assert to_uint8(x.astype(jnp.bfloat16)).dtype == jnp.uint8


def test_a_flip_depends_on_the_key_alone():
    size = 512
    data, k = images(0, size, 2, 3, 1), keys(size, 1)

    @jax.jit
    def flip(x, k):
        return to_uint8(PIXELS.enter({"image": x}, k, augment=True)["x"])

    flipped = np.asarray(flip(data, k))
    mirrored = (flipped == data[:, :, ::-1]).all((1, 2, 3))
    assert (mirrored | (flipped == data).all((1, 2, 3))).all()
    # A fair coin: 256 +- 11.3, so within 5 standard deviations.
    assert abs(mirrored.sum() - size / 2) < 57
    order = np.random.default_rng(1).permutation(size)[:100]
    assert np.array_equal(flip(data[order], k[order]), flipped[order])


def test_a_config_says_whether_to_flip_and_which_columns_are_derived():
    c = config.default()
    c.data.update(image_shape=(8, 8, 1), flip=True)
    c.data.columns.small = dict(name="downsample", factor=4)
    enter, data = spaces.from_config(c).enter, images(0, 64, 8, 8, 1)
    plain = enter({"image": data}, keys(64))
    close(plain["x"], data / 127.5 - 1)
    expected = (data / 127.5 - 1).reshape(64, 2, 4, 2, 4, 1).mean((2, 4))
    close(plain["small"], expected, terms=16)
    assert (np.asarray(enter({"image": data}, keys(64), augment=True)["x"]) != plain["x"]).any()
    c.data.flip = False
    np.testing.assert_array_equal(
        spaces.from_config(c).enter({"image": data}, keys(64), augment=True)["x"], plain["x"]
    )


def test_points_stay_as_they_are_and_cannot_be_flipped():
    points = normal(0, 5, 2)
    entered = POINTS.enter({"point": points}, keys(5))
    np.testing.assert_array_equal(entered["x"], points)
    assert POINTS.leave(jnp.asarray(points)).dtype == jnp.float32
    with pytest.raises(InputError, match="points have no left"):
        POINTS.enter({"point": points}, keys(5), augment=True)


def test_a_picture_of_points_is_dark_where_they_are():
    (picture,) = POINTS.picture(np.float32([[2.0, 1.0]] * 10))
    assert picture.shape == (256, 256, 1) and picture.dtype == np.uint8
    rows, columns = np.nonzero(picture[..., 0] < 255)
    # x = 2 of [-4, 4] lies at three quarters of the width, y = 1 at three eighths from the top
    assert abs(columns.mean() - 192) < 3 and abs(rows.mean() - 96) < 3


@pytest.mark.parametrize(
    "name, message", [("pixel", "did you mean pixels"), ("os:getcwd", "is no jaxgen.spaces.Space")]
)
def test_an_unknown_space_is_one_line(name, message):
    c = config.default()
    c.data.space = name
    with pytest.raises(InputError, match=message):
        spaces.from_config(c)


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "small needs the 'shape' of the data's column"),
        ({"name": "nope"}, "small needs the 'shape'"),
        ({"name": "downsample", "factor": 3}, "factor 3 does not divide 8x8"),
        ({"name": "downsample", "factor": 2, "fcator": 2}, "small has no option 'fcator'"),
        ({"shape": "x"}, r"small\.shape must be a tuple"),
    ],
)
def test_a_column_that_is_not_described_is_one_line(options, message):
    c = config.default()
    c.data.image_shape, c.conditional = (8, 8, 1), ("small",)
    c.data.columns.small = options
    with pytest.raises(InputError, match=message):
        conditions.from_config(c)


def test_a_column_that_the_data_do_not_have_is_one_line():
    c = config.default()
    c.data.update(source="digits", image_shape=(8, 8, 1))
    c.conditional, c.data.columns.small = ("small",), {"shape": (4, 4, 1)}
    with pytest.raises(InputError, match="digits train has the columns image, label"):
        data.from_config(c, "train")
