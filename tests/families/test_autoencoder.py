"""The autoencoder wiring on a linear-Gaussian model, whose evidence and posterior are known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from jaxgen import draws, families
from jaxgen.calls import Call
from jaxgen.config import default
from jaxgen.errors import InputError
from jaxgen.losses import elbo, likelihood, objective
from jaxgen.losses.perceptual import feature
from tests.support import keys

SHAPE, PIXELS, LATENT, NOISE = (2, 2, 1), 4, 2, 0.3
# orthogonal columns: a diagonal posterior
W = np.array([[1, 1, 1, 1], [1, -1, 1, -1]]).T * np.array([0.25, 0.1])
B = np.array([0.1, -0.2, 0.0, 0.3])
EVIDENCE = multivariate_normal(B, W @ W.T + NOISE**2 * np.eye(PIXELS))
PRECISION = np.eye(LATENT) + W.T @ W / NOISE**2
VARIANCE = 1 / np.diag(PRECISION)
GAIN = (W / NOISE**2) * VARIANCE  # posterior mean (x - b) GAIN


def build(latent=LATENT, shape=SHAPE, classes=0, **model):
    config = default()
    config.family, config.conditional = "autoencoder", classes > 0
    config.data.update(image_shape=shape, num_classes=classes)
    config.model.update(latent=latent, **model)
    return families.build(config)


def linear(matrix, bias):
    """Parameters of a one-layer ReLU MLP that is x @ matrix + bias: relu(x) - relu(-x) = x."""
    size = len(matrix)
    return {
        "body": {
            "dense_0": {
                "kernel": jnp.hstack([jnp.eye(size), -jnp.eye(size)]),
                "bias": jnp.zeros(2 * size),
            }
        },
        "out": {"kernel": jnp.float32(np.vstack([matrix, -matrix])), "bias": jnp.float32(bias)},
    }


def linear_gaussian(gain=GAIN, variance=VARIANCE):
    """(family, its variables) with posterior N((x - b) gain, variance)."""
    family = build(
        likelihood=dict(name="gaussian", scale=NOISE, squash=False),
        encoder=dict(name="mlp_encoder", hidden=(2 * PIXELS,)),
        decoder=dict(name="mlp_decoder", hidden=(2 * LATENT,)),
    )
    encoder = linear(
        np.hstack([gain, np.zeros((PIXELS, LATENT))]), np.concatenate([-B @ gain, np.log(variance)])
    )
    variables = {"params": {"encoder": encoder, "decoder": linear(W.T, B)}, "state": {}}
    fresh = jax.eval_shape(family.init, jax.random.key(0), batch(1))
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, variables)
    return family, variables


def batch(n, seed=0):
    x = np.random.default_rng(seed).multivariate_normal(EVIDENCE.mean, EVIDENCE.cov, n)
    return {"x": jnp.float32(x).reshape(-1, *SHAPE)}


def seen(data, keys):
    """The images after dequantisation: what the density is a density of."""
    x = likelihood.build("gaussian", scale=NOISE, squash=False).observe(
        data["x"], draws.named(keys, "observe")
    )
    return np.float64(x).reshape(-1, PIXELS)


def bound(family, variables, data, keys, num_samples):
    return np.asarray(
        jax.jit(lambda k: family.log_prob(variables, data, k, num_samples=num_samples).nats)(keys)
    )


@pytest.mark.parametrize("num_samples", [1, 7])
def test_with_the_exact_posterior_every_bound_is_the_evidence(num_samples):
    family, variables = linear_gaussian()
    data, k = batch(16), keys(16)
    truth = EVIDENCE.logpdf(seen(data, k))
    np.testing.assert_allclose(bound(family, variables, data, k, num_samples), truth, atol=1e-4)
    # the same bound as the loss sees it
    term = elbo.importance_weighted(num_samples)
    loss = jax.jit(lambda k: term(family.forward(variables, data, Call(True, k))[0]))(k)
    np.testing.assert_allclose(loss, -truth, atol=1e-4)


def test_reconstruction_and_kl_are_the_evidence_in_expectation():
    family, variables = linear_gaussian()
    n = 8192
    data, k = {"x": jnp.broadcast_to(batch(1)["x"], (n, *SHAPE))}, keys(n)

    @jax.jit
    def loss(k):
        outputs, _ = family.forward(variables, data, Call(True, k))
        return elbo.reconstruction()(outputs) + elbo.kl()(outputs)

    negative = np.asarray(loss(k))
    difference = negative + EVIDENCE.logpdf(seen(data, k))
    assert difference.mean() == pytest.approx(0.0, abs=5 * difference.std() / np.sqrt(n))


@pytest.mark.slow
def test_with_a_wrong_posterior_the_bound_rises_with_the_samples_to_the_evidence():
    mean_shift = 0.2 * np.ones(LATENT)
    family, variables = linear_gaussian(GAIN, 2 * VARIANCE)
    variables["params"]["encoder"]["out"]["bias"] += jnp.concatenate(
        [jnp.float32(mean_shift), jnp.zeros(LATENT)]
    )
    n = 1024
    data, k = batch(n), keys(n)
    gaps = EVIDENCE.logpdf(seen(data, k))[:, None] - np.stack(
        [bound(family, variables, data, k, count) for count in (1, 2, 8, 64)], 1
    )
    means = gaps.mean(0)
    assert (np.diff(means) < 0).all() and abs(means[-1]) < 0.02
    # with one sample the gap is KL(q || posterior), which is known
    kl = 0.5 * np.sum(2 - 1 - np.log(2) + mean_shift**2 / VARIANCE)
    assert means[0] == pytest.approx(kl, abs=5 * gaps[:, 0].std() / np.sqrt(n))


def test_log_prob_says_what_it_is():
    family, variables = linear_gaussian()
    # not compiled: text cannot leave a compiled function
    value = family.log_prob(variables, batch(2), keys(2))
    assert (value.kind, value.of, value.nats.shape) == ("lower bound", "gaussian", (2,))


def test_encode_is_the_posterior_mean_and_decode_the_mean_image():
    family, variables = linear_gaussian()
    data, k = batch(5), keys(5)
    np.testing.assert_allclose(
        jax.jit(family.encode)(variables, data, k), (seen(data, k) - B) @ GAIN, atol=1e-5
    )
    z = np.random.default_rng(0).normal(size=(5, LATENT))
    image = family.decode(variables, jnp.float32(z)).reshape(5, -1)
    np.testing.assert_allclose(image, np.clip(z @ W.T + B, -1, 1), atol=1e-5)


def test_samples_have_the_models_mean_and_covariance():
    family, variables = linear_gaussian()
    samples = np.asarray(jax.jit(family.sample)(variables, keys(20_000))).reshape(-1, PIXELS)
    np.testing.assert_allclose(samples.mean(0), B, atol=0.01)
    # the mean image: without the pixel noise
    np.testing.assert_allclose(np.cov(samples.T), W @ W.T, atol=0.005)
    assert family.nfe() == 1


# On real networks


@functools.cache
def vae(observation="gaussian", classes=0):
    family = build(
        latent=3,
        shape=(4, 4, 1),
        classes=classes,
        likelihood=dict(name=observation),
        encoder=dict(name="mlp_encoder", hidden=(16,)),
        decoder=dict(name="mlp_decoder", hidden=(16,)),
    )
    return family, jax.jit(family.init)(jax.random.key(0), images(1))


def forward(family, variables, sign=1, train=False):
    """The outputs of four images that are arrays, and the new state."""
    data = {"x": sign * images(4)["x"]}

    @jax.jit
    def run(variables):
        outputs, state = family.forward(variables, data, Call(train, keys(4)))
        return {
            **{k: v for k, v in outputs.items() if k != "keys" and not callable(v)},
            "state": state,
        }

    return run(variables)


def images(n, label=True):
    data = {"x": jnp.float32(np.random.default_rng(1).integers(0, 256, (n, 4, 4, 1)) / 127.5 - 1)}
    return {**data, "label": jnp.arange(n) % 3} if label else data


@pytest.mark.slow
@pytest.mark.parametrize("observation", ["bernoulli", "gaussian", "discretized_logistic"])
def test_an_examples_losses_do_not_depend_on_its_batch(observation):
    family, variables = vae(observation)
    rows = objective.build(
        "m", {"reconstruction": {}, "kl": {}, "importance_weighted": {"num_samples": 3}}
    )

    @jax.jit
    def values(image, keys):
        return objective.evaluate(
            rows, family.forward(variables, {"x": image}, Call(True, keys))[0], len(image)
        )

    data, k = images(8)["x"], keys(8)
    every, some = values(data, k), values(data[3:6], k[3:6])
    for name, value in every.items():
        np.testing.assert_allclose(some[name], value[3:6], rtol=1e-5)


@pytest.mark.slow
def test_one_learned_scale_for_all_pixels():
    family, variables = vae()
    scale = variables["params"]["decoder"]["log_scale"]
    assert scale.shape == ()
    doubled = jax.tree.map(lambda x: x, variables)
    doubled["params"]["decoder"]["log_scale"] = scale + np.log(2)
    outputs, wider = forward(family, variables), forward(family, doubled)
    np.testing.assert_array_equal(wider["reconstruction"], outputs["reconstruction"])
    # log N with twice the scale, of a residual r: -log 2 a pixel, and 3/8 r^2 back
    square = -2 * (np.asarray(outputs["log_likelihood"]) + 16 * 0.5 * np.log(2 * np.pi))
    change = wider["log_likelihood"] - outputs["log_likelihood"]
    np.testing.assert_allclose(change, 3 / 8 * square - 16 * np.log(2), rtol=1e-4)


# VAE-GAN


@functools.cache
def vae_gan():
    family = build(
        latent=3,
        shape=(4, 4, 1),
        likelihood=dict(name="gaussian", scale="global"),
        encoder=dict(name="mlp_encoder", hidden=(16,)),
        decoder=dict(name="mlp_decoder", hidden=(16,)),
        critic=dict(name="mlp_critic", hidden=(16, 8), spectral_norm=True),
    )
    return family, jax.jit(family.init)(jax.random.key(0), images(1))


@pytest.mark.slow
def test_a_vae_gan_gives_all_that_its_terms_need():
    family, variables = vae_gan()
    assert family.networks == ("encoder", "decoder", "critic") and set(variables["params"]) == set(
        family.networks
    )
    names = set(objective.TERMS) - {"denoising", "variational_bound"}
    rows = objective.build("m", {n: {} for n in sorted(names)})

    @jax.jit
    def run(data):
        outputs, state = family.forward(variables, data, Call(True, keys(4)))
        scores = outputs["critic"](outputs["fake"]), outputs["fake_score"]
        return objective.evaluate(rows, outputs, 4), scores, state

    values, (again, score), state = run(images(4))
    for name, value in values.items():
        assert value.shape == (4,) and np.isfinite(value).all(), name
    np.testing.assert_allclose(again, score, rtol=1e-5)
    pairs = zip(jax.tree.leaves(variables["state"]), jax.tree.leaves(state), strict=True)
    # the score's vector has one entry: 1 or -1
    moved = [np.abs(a - b).max() > 0 for a, b in pairs if a.size > 1]
    assert moved and all(moved)


@pytest.mark.slow
def test_the_critic_judges_samples_of_the_prior_and_the_features_belong_to_the_reconstruction():
    family, variables = vae_gan()
    a, b = forward(family, variables), forward(family, variables, sign=-1)
    np.testing.assert_array_equal(a["fake"], b["fake"])  # not a function of the image
    assert np.abs(a["reconstruction"] - b["reconstruction"]).max() > 1e-3
    # with equal images and reconstructions the feature distance is zero: the two use one critic
    same = {**a, "reconstruction_features": a["real_features"]}
    np.testing.assert_array_equal(feature()(same), 0.0)
    features = [f.shape for f in a["reconstruction_features"]]
    assert features == [(4, 16), (4, 8)] == [f.shape for f in a["real_features"]]


def test_without_a_critic_adversarial_terms_say_what_is_missing():
    family, variables = vae()
    outputs = forward(family, variables)
    with pytest.raises(InputError, match="needs the output 'real_features'"):
        objective.evaluate(objective.build("m", {"feature": {}}), outputs, 4)
