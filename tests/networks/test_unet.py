import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.errors import InputError
from jaxgen.networks.unet import Attention, UNet
from tests.support import close


def test_the_cifar_network_has_ddpms_parameter_count():
    shapes = jax.eval_shape(UNet().init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)), jnp.zeros(1))
    assert sum(p.size for p in jax.tree.leaves(shapes)) == 35_746_307


def test_a_size_that_cannot_be_halved_is_refused():
    with pytest.raises(InputError, match="28x28 is not a multiple of 8"):
        UNet().init(jax.random.key(0), jnp.zeros((1, 28, 28, 3)), jnp.zeros(1))


def test_attention_is_torchs():
    torch = pytest.importorskip("torch")
    draw = np.random.default_rng(0)
    x = jnp.asarray(draw.normal(size=(2, 3, 4, 16)), jnp.float32)
    net = Attention(heads=2)
    shapes = jax.eval_shape(net.init, jax.random.key(1), x)["params"]
    params = jax.tree.map(
        lambda p: jnp.asarray(0.5 * draw.normal(size=p.shape), jnp.float32), shapes
    )

    def tensor(a):
        return torch.from_numpy(np.array(a))

    def dense(h, name):
        return h @ tensor(params[name]["kernel"]) + tensor(params[name]["bias"])

    flat = tensor(x).reshape(2, 12, 16)
    norm = torch.nn.functional.group_norm(
        flat.transpose(1, 2),
        4,
        tensor(params["norm"]["scale"]),
        tensor(params["norm"]["bias"]),
        eps=1e-6,
    ).transpose(1, 2)
    query, key, value = (
        dense(norm, n).reshape(2, 12, 2, 8).transpose(1, 2) for n in ("query", "key", "value")
    )
    h = (
        torch.nn.functional.scaled_dot_product_attention(query, key, value)
        .transpose(1, 2)
        .reshape(2, 12, 16)
    )
    expected = (flat + dense(h, "out")).reshape(2, 3, 4, 16).numpy()
    close(jax.jit(net.apply)({"params": params}, x), expected, terms=16)
