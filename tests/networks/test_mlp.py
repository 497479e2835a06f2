import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.errors import InputError
from jaxgen.networks.layers import ACTIVATIONS
from jaxgen.networks.mlp import MLPCritic, MLPDecoder, MLPEncoder


def test_the_encoder_is_the_classic_mlp():
    x = jax.random.normal(jax.random.key(0), (3, 2, 2, 2))
    net = MLPEncoder(outputs=4, hidden=(5, 6), activation="tanh")
    params = net.init(jax.random.key(1), x)["params"]
    h = np.asarray(x).reshape(3, 8)
    for name in ("dense_0", "dense_1"):
        h = np.tanh(h @ params["body"][name]["kernel"] + params["body"][name]["bias"])
    expected = h @ params["out"]["kernel"] + params["out"]["bias"]
    np.testing.assert_allclose(net.apply({"params": params}, x), expected, rtol=1e-4, atol=1e-5)


def test_the_label_is_a_projection_in_the_critic():
    x = jax.random.normal(jax.random.key(0), (3, 2, 2, 2))
    net = MLPCritic(hidden=(5, 6), num_classes=4)
    variables = net.init(jax.random.key(1), x, jnp.zeros(3, int))
    a, b = jnp.array([0, 1, 2]), jnp.array([3, 3, 0])
    (score_a, features), (score_b, _) = net.apply(variables, x, a), net.apply(variables, x, b)
    rows = variables["params"]["classes"]["kernel"]
    np.testing.assert_allclose(
        score_a - score_b, jnp.sum((rows[a] - rows[b]) * features[-1], -1), rtol=1e-3, atol=1e-5
    )


def test_decoder_channels_default_to_the_images():
    z = jnp.zeros((2, 3))
    assert MLPDecoder((4, 6, 2), hidden=(4,)).init_with_output(jax.random.key(0), z)[0].shape == (
        2,
        4,
        6,
        2,
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_torchs(name):
    torch = pytest.importorskip("torch")
    x = np.linspace(-3, 3, 50, dtype=np.float32)
    functional, t = torch.nn.functional, torch.from_numpy(x)
    expected = {
        "tanh": torch.tanh,
        "gelu": lambda t: functional.gelu(t, approximate="tanh"),
        "leaky_relu": lambda t: functional.leaky_relu(t, 0.2),
    }.get(name, getattr(functional, name))(t)
    np.testing.assert_allclose(ACTIVATIONS[name](x), expected.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("option, value", [("activation", "sillu"), ("norm", "batch")])
def test_unknown_names_are_refused(option, value):
    with pytest.raises(InputError, match=f"unknown {option} '{value}'"):
        MLPEncoder(outputs=2, **{option: value}).init(jax.random.key(0), jnp.zeros((1, 2, 2, 1)))
