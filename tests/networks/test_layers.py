import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgen.errors import InputError
from jaxgen.networks import layers
from jaxgen.networks.layers import (
    Dropout,
    GroupNorm,
    SpectralConv,
    SpectralDense,
    attention,
    average_pool,
    from_patches,
    group_count,
    halvings,
    sinusoidal_embedding,
    to_patches,
)
from jaxgen.networks.ops import upsample
from tests.support import close


@pytest.mark.parametrize("offset", [0.0, 20.0])
def test_group_norm_is_linens_with_its_gradients(offset):
    draw = np.random.default_rng(0)
    x = jnp.asarray(offset + draw.normal(size=(3, 4, 5, 12)) * np.arange(1, 13), jnp.float32)
    params = {name: jnp.asarray(draw.normal(size=12), jnp.float32) for name in ("scale", "bias")}

    def value_and_grads(layer):
        def f(params, x):
            y = layer.apply({"params": params}, x)
            return jnp.sum(jnp.sin(y)), y

        (_, y), grads = jax.jit(jax.value_and_grad(f, (0, 1), has_aux=True))(params, x)
        return y, grads

    ours, theirs = (
        value_and_grads(GroupNorm(groups=3)),
        value_and_grads(nn.GroupNorm(3, use_fast_variance=False)),
    )
    # the sum of squares cancels: its numbers are as large as x^2 over the variance
    close(ours, theirs, (np.abs(x).max() / np.asarray(x).std()) ** 2, terms=60)


@pytest.mark.slow
def test_group_norm_of_a_constant_is_its_bias_and_half_precision_keeps_float32_sums():
    x = jnp.full((2, 8, 8, 8), 100.0)
    layer = GroupNorm(groups=2)
    variables = {"params": {"scale": jnp.ones(8), "bias": jnp.zeros(8)}}
    assert np.abs(layer.apply(variables, x)).max() < 100 * 2**-12  # rounding over root epsilon
    assert np.all(np.isfinite(jax.jit(jax.grad(lambda x: jnp.sum(layer.apply(variables, x))))(x)))

    noisy = (3 + jax.random.normal(jax.random.key(1), (2, 16, 16, 8))).astype(jnp.bfloat16)
    half = GroupNorm(groups=2, dtype=jnp.bfloat16).apply(variables, noisy)
    assert half.dtype == jnp.bfloat16
    close(half, layer.apply(variables, noisy.astype(jnp.float32)), factor=1.0)


def test_groups_are_ddpms_from_128_channels_and_never_single_channels():
    assert [group_count(c) for c in (128, 256, 384, 512)] == [32] * 4
    assert all(c % group_count(c) == 0 and c // group_count(c) >= min(c, 4) for c in range(1, 200))


def test_dropout_follows_the_example_and_the_layer():
    class Two(nn.Module):
        train: bool

        @nn.compact
        def __call__(self, x, keys):
            return Dropout(0.25, self.train, name="a")(x, keys), Dropout(
                0.25, self.train, name="b"
            )(x, keys)

    x, keys = jnp.ones((4, 1000)), jax.random.split(jax.random.key(0), 4)
    a, b = Two(train=True).apply({}, x, keys)
    assert np.all(np.isin(a, np.float32([0, 1 / 0.75])))
    np.testing.assert_allclose(a.mean(-1), 1, atol=0.1)  # 5 standard errors
    assert not np.array_equal(a, b) and not np.array_equal(a[0], a[1])
    np.testing.assert_array_equal(Two(train=True).apply({}, x[2:], keys[2:])[0], a[2:])
    np.testing.assert_array_equal(Two(train=False).apply({}, x, None)[0], x)
    with pytest.raises(InputError, match="keys"):
        Two(train=True).apply({}, x, None)
    for rate in (-0.1, 1.0, 1.5):
        with pytest.raises(InputError, match=f"dropout={rate}"):
            Dropout(rate, train=True).apply({}, x, keys)


def test_sinusoidal_embedding_is_the_formula():
    time, dim = np.array([0.0, 0.3, 1.0]), 6
    expected = [
        # dim / 2 - 1 = 2
        [f(1000 * t * 10_000 ** (-i / 2)) for f in (np.sin, np.cos) for i in range(3)]
        for t in time
    ]
    close(sinusoidal_embedding(jnp.asarray(time), dim), np.float32(expected), 1000 * time)
    with pytest.raises(InputError, match="even"):
        sinusoidal_embedding(jnp.asarray(time), 5)


def test_resampling_is_torchs():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)
    nchw = torch.from_numpy(x.transpose(0, 3, 1, 2))
    up = (
        torch.nn.functional.interpolate(nchw, scale_factor=2, mode="nearest")
        .numpy()
        .transpose(0, 2, 3, 1)
    )
    down = torch.nn.functional.avg_pool2d(nchw, 2).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(upsample(jnp.asarray(x)), up)
    close(average_pool(jnp.asarray(x)), down)


def test_halvings():
    assert halvings((28, 32), 2, "net") == (7, 8)
    with pytest.raises(InputError, match="28x28"):
        halvings((28, 28), 3, "net")


def trained(make, x, steps=300):
    """The layer's variables after `steps` calls in training, enough for the power iteration to
    converge.
    """
    layer = make(train=True)
    variables = layer.init(jax.random.key(0), x)

    def step(state, _):
        _, new = layer.apply(
            {"params": variables["params"], "spectral": state}, x, mutable=["spectral"]
        )
        return new["spectral"], None

    state, _ = jax.lax.scan(step, variables["spectral"], None, steps)
    return {"params": variables["params"], "spectral": state}


@pytest.mark.slow
def test_spectral_dense_divides_by_the_largest_singular_value_with_its_gradient():
    def make(**options):
        return SpectralDense(5, use_bias=False, **options)

    x = jnp.eye(7)
    variables = trained(make, x)
    kernel = variables["params"]["kernel"]
    sigma = np.linalg.svd(np.asarray(kernel), compute_uv=False)[0]
    close(make().apply(variables, x), kernel / sigma, terms=35)

    def loss(normalised):
        return jnp.sum(jnp.sin(3 * normalised) * jnp.arange(5))

    ours = jax.jit(
        jax.grad(lambda k: loss(make().apply({**variables, "params": {"kernel": k}}, x)))
    )(kernel)
    exact = jax.jit(jax.grad(lambda k: loss(k / jnp.linalg.norm(k, 2))))(kernel)
    close(ours, exact, 3 * np.arange(5), terms=35, factor=64)  # two routes through the vectors


@pytest.mark.slow
def test_spectral_conv_divides_by_the_largest_singular_value():
    def make(**options):
        return SpectralConv(4, (3, 3), **options)

    x = jax.random.normal(jax.random.key(1), (2, 5, 5, 3))
    variables = trained(make, x)
    kernel = np.asarray(variables["params"]["kernel"])
    sigma = np.linalg.svd(kernel.reshape(27, 4), compute_uv=False)[0]
    plain = nn.Conv(4, (3, 3)).apply(
        {"params": {"kernel": kernel / sigma, "bias": jnp.zeros(4)}}, x
    )
    close(make().apply(variables, x), plain, terms=27)


def test_spectral_vector_moves_only_in_training_and_when_mutable():
    x = jnp.ones((1, 7))
    variables = SpectralDense(5).init(jax.random.key(0), x)
    before = variables["spectral"]["u"]
    assert before.dtype == jnp.float32
    close(np.linalg.norm(before), 1.0)
    evaluated, idle = SpectralDense(5, train=False).apply(variables, x, mutable=["spectral"])
    np.testing.assert_array_equal(idle["spectral"]["u"], before)
    in_training, moved = SpectralDense(5, train=True).apply(variables, x, mutable=["spectral"])
    assert not np.array_equal(moved["spectral"]["u"], before)
    # immutable: no error
    np.testing.assert_array_equal(SpectralDense(5, train=True).apply(variables, x), in_training)
    np.testing.assert_array_equal(evaluated, in_training)


def test_patches_are_squares_of_neighbours_and_come_back():
    image = jnp.arange(2.0 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    patches = to_patches(image, 2, "test")
    assert patches.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(patches[1, 1, 2], image[1, 2:4, 4:6].reshape(-1))
    np.testing.assert_array_equal(from_patches(patches, 2), image)
    with pytest.raises(InputError, match="patch=4"):
        to_patches(image, 4, "test")


def test_attention_is_the_softmax_of_scaled_products():
    draw = np.random.default_rng(0)
    query, key, value = (jnp.asarray(draw.normal(size=(2, 5, 3, 8)), jnp.float32) for _ in range(3))
    weights = jax.nn.softmax(np.einsum("blhd,bmhd->bhlm", query, key) / np.sqrt(8), -1)
    expected = np.einsum("bhlm,bmhd->blhd", weights, value)
    close(attention(query, key, value), expected, terms=8)


@pytest.mark.parametrize("size, dtype, chosen", [
    (72, jnp.bfloat16, "cudnn"), (64, jnp.float16, "cudnn"), (36, jnp.bfloat16, None),
    (256, jnp.bfloat16, None), (64, jnp.float32, None),
])  # fmt: skip
def test_flash_attention_is_chosen_where_cudnn_takes_it(monkeypatch, size, dtype, chosen):
    seen = []
    monkeypatch.setattr(layers, "_has_flash_attention", lambda: True)
    monkeypatch.setattr(
        jax.nn,
        "dot_product_attention",
        lambda query, *args, implementation: seen.append(implementation) or query,
    )
    attention(*[jnp.zeros((1, 2, 1, size), dtype)] * 3)
    assert seen == [chosen]
