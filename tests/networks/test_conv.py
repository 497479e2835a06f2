import jax
import jax.numpy as jnp
import pytest

from jaxgen.errors import InputError
from jaxgen.networks.conv import ConvCritic, ConvDecoder, ConvEncoder

CHANNELS = (4, 8, 12)


def shape_of(net, x):
    return jax.eval_shape(lambda: net.init_with_output(jax.random.key(0), x)[0])


@pytest.mark.parametrize("size", [28, 32])
def test_resolutions_of_mnist_and_cifar(size):
    image, low = jnp.zeros((2, size, size, 3)), size // 4
    params = jax.eval_shape(lambda: ConvEncoder(6, CHANNELS).init(jax.random.key(0), image))[
        "params"
    ]
    assert params["out"]["kernel"].shape == (low * low * 12, 6)
    assert (
        shape_of(ConvDecoder((size, size, 3), channels=CHANNELS), jnp.zeros((2, 5))).shape
        == image.shape
    )
    score, features = shape_of(ConvCritic(CHANNELS), image)
    assert score.shape == (2,)
    assert [f.shape for f in features] == [
        (2, size // 2**i, size // 2**i, c) for i, c in enumerate(CHANNELS)
    ]


def test_a_size_that_cannot_be_halved_is_refused():
    image = jnp.zeros((1, 28, 28, 1))
    for net, x in [
        (ConvEncoder(6, (4,) * 4), image),
        (ConvDecoder((28, 28, 1), channels=(4,) * 4), jnp.zeros((1, 3))),
        (ConvCritic((4,) * 4), image),
    ]:
        with pytest.raises(InputError, match="28x28 is not a multiple of 8"):
            shape_of(net, x)
