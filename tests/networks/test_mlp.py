import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.conditions import ConditionSpec, Kind
from jaxgen.errors import InputError
from jaxgen.networks.layers import ACTIVATIONS
from jaxgen.networks.mlp import MLPCritic, MLPEncoder
from tests.support import close


@pytest.mark.slow
def test_the_encoder_is_the_classic_mlp():
    x = jax.random.normal(jax.random.key(0), (3, 2, 2, 2))
    net = MLPEncoder(outputs=4, hidden=(5, 6), activation="tanh")
    params = net.init(jax.random.key(1), x)["params"]
    h = np.asarray(x).reshape(3, 8)
    for name in ("dense_0", "dense_1"):
        h = np.tanh(h @ params["body"][name]["kernel"] + params["body"][name]["bias"])
    expected = h @ params["out"]["kernel"] + params["out"]["bias"]
    close(net.apply({"params": params}, x), expected, terms=8)


@pytest.mark.slow
def test_the_label_is_a_projection_in_the_critic():
    x = jax.random.normal(jax.random.key(0), (3, 2, 2, 2))
    classes = ConditionSpec((Kind("label", (), 4),))
    net = MLPCritic(hidden=(5, 6), conditions=classes)
    variables = net.init(jax.random.key(1), x, classes.blank(3))
    a, b = jnp.array([0, 1, 2]), jnp.array([3, 3, 0])
    (score_a, features), (score_b, _) = (
        net.apply(variables, x, {"label": label}) for label in (a, b)
    )
    rows = variables["params"]["condition"]["kernel"]
    expected = jnp.sum((rows[a] - rows[b]) * features[-1], -1)
    close(score_a - score_b, expected, score_a, terms=6)


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
    close(ACTIVATIONS[name](x), expected.numpy())


@pytest.mark.parametrize("option, value", [("activation", "sillu"), ("norm", "batch")])
def test_unknown_names_are_refused(option, value):
    with pytest.raises(InputError, match=f"unknown {option} '{value}'"):
        MLPEncoder(outputs=2, **{option: value}).init(jax.random.key(0), jnp.zeros((1, 2, 2, 1)))
