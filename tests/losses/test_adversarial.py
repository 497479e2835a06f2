"""Adversarial losses against their formulae, and penalties on critics whose gradients are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.errors import InputError
from jaxgen.losses import adversarial

SHAPE = (3, 4, 2)  # H, W, C
RNG = np.random.default_rng(0)
REAL, FAKE = RNG.normal(size=(2, 9)) * 2
X, Y = RNG.normal(size=(2, 5, *SHAPE)).astype(np.float32)
W = RNG.normal(size=SHAPE).astype(np.float32)


def keys(n, seed=0):
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(jnp.arange(n))


def d(score):
    return 1 / (1 + np.exp(-score))


def relu(x):
    return np.maximum(x, 0)


FORMULAE = {  # critic and generator minimise these, written with D as in the papers
    "non_saturating": (-np.log(d(REAL)) - np.log(1 - d(FAKE)), -np.log(d(FAKE))),
    "minimax": (-np.log(d(REAL)) - np.log(1 - d(FAKE)), np.log(1 - d(FAKE))),
    "hinge": (relu(1 - REAL) + relu(1 + FAKE), -FAKE),
    "least_squares": (0.5 * (REAL - 1) ** 2 + 0.5 * FAKE**2, 0.5 * (FAKE - 1) ** 2),
    "wasserstein": (FAKE - REAL, -FAKE),
    "relativistic": (-np.log(d(REAL - FAKE)), -np.log(d(FAKE - REAL))),
    "relativistic_average": (
        -np.log(d(REAL - FAKE.mean())) - np.log(1 - d(FAKE - REAL.mean())),
        -np.log(d(FAKE - REAL.mean())) - np.log(1 - d(REAL - FAKE.mean())),
    ),
}


@pytest.mark.parametrize("name", adversarial.LOSSES)
def test_losses_are_their_formulae(name):
    critic, generator = FORMULAE[name]
    np.testing.assert_allclose(
        adversarial.critic_loss(name, REAL, FAKE), critic, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        adversarial.generator_loss(name, REAL, FAKE), generator, rtol=1e-5, atol=1e-6
    )
    outputs = {"real_score": REAL, "fake_score": FAKE, "batch_mean": jnp.mean}
    np.testing.assert_allclose(adversarial.critic(loss=name)(outputs), critic, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        adversarial.adversarial(loss=name)(outputs), generator, rtol=1e-5, atol=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "score", "critic", "generator"),
    [
        ("non_saturating", 0.0, 2 * np.log(2), np.log(2)),  # D = 1/2
        ("minimax", 0.0, 2 * np.log(2), -np.log(2)),
        ("hinge", 0.0, 2.0, 0.0),
        ("least_squares", 0.5, 0.25, 0.125),
        ("wasserstein", 3.0, 0.0, -3.0),
        ("relativistic", 3.0, np.log(2), np.log(2)),
        ("relativistic_average", 3.0, 2 * np.log(2), 2 * np.log(2)),
    ],
)
def test_values_at_equilibrium(name, score, critic, generator):
    """Real and generated images look alike there, so the critic gives both the same score and
    cannot do better.
    """
    score = jnp.full(2, score)
    np.testing.assert_allclose(adversarial.critic_loss(name, score, score), critic, rtol=1e-6)
    np.testing.assert_allclose(adversarial.generator_loss(name, score, score), generator, rtol=1e-6)
    if name != "wasserstein":  # whose critic is free up to a constant
        slope = jax.grad(
            lambda shift: adversarial.critic_loss(name, score + shift, score + shift).sum()
        )(0.0)
        assert slope == pytest.approx(0.0, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", adversarial.LOSSES)
@pytest.mark.parametrize("score", [-1e4, 1e4])
def test_huge_scores_give_finite_losses_and_slopes(name, score):
    for loss in (adversarial.critic_loss, adversarial.generator_loss):
        total = lambda real, fake, loss=loss: loss(name, real, fake).sum()  # noqa: E731
        value, slopes = jax.value_and_grad(total, (0, 1))(jnp.full(1, score), jnp.full(1, -score))
        assert np.isfinite(value) and np.isfinite(slopes).all()


def linear(images):
    return jnp.einsum("bhwc,hwc->b", images, W) + 3.0


def quadratic(images):
    return 0.5 * jnp.sum(jnp.square(images), axis=(1, 2, 3))


def test_a_linear_critics_gradient_is_measured_over_all_axes_but_the_batch():
    norm = np.linalg.norm(W.ravel())
    assert adversarial.zero_centered_penalty(linear, X) == pytest.approx(
        np.full(5, 0.5 * norm**2), rel=1e-5
    )
    for target in (1.0, 0.0):
        penalty = adversarial.gradient_penalty(linear, X, Y, keys(5), target)
        np.testing.assert_allclose(penalty, (norm - target) ** 2, rtol=1e-5)


def test_a_quadratic_critics_gradient_is_the_image_itself():
    np.testing.assert_allclose(
        adversarial.zero_centered_penalty(quadratic, X), 0.5 * (X**2).sum((1, 2, 3)), rtol=1e-5
    )
    same = adversarial.gradient_penalty(quadratic, X, X, keys(5))
    np.testing.assert_allclose(same, (np.linalg.norm(X.reshape(5, -1), axis=1) - 1) ** 2, rtol=1e-5)


@pytest.mark.slow
def test_the_penalty_is_taken_uniformly_between_the_pair_with_one_weight_per_example():
    """On the segment from 0 to an image of norm 2, the quadratic critic's gradient norm is uniform
    on (0, 2).
    """
    n = 4000
    real = jnp.zeros((n, *SHAPE)).at[:, 0, 0, 0].set(2 * 0.6).at[:, 2, 1, 1].set(2 * 0.8)
    norm = np.sqrt(
        np.asarray(
            adversarial.gradient_penalty(quadratic, real, jnp.zeros_like(real), keys(n), 0.0)
        )
    )
    assert norm.min() < 0.01 and norm.max() > 1.99
    assert norm.mean() == pytest.approx(1.0, abs=0.05) and norm.var() == pytest.approx(
        1 / 3, abs=0.03
    )
    subset = adversarial.gradient_penalty(quadratic, real[7:9], 0 * real[7:9], keys(n)[7:9], 0.0)
    np.testing.assert_allclose(np.sqrt(subset), norm[7:9], rtol=1e-6)


def test_penalties_are_finite_for_a_flat_critic_and_so_are_their_gradients():
    def loss(weight):
        def critic(images):
            return weight * linear(images)

        penalties = adversarial.gradient_penalty(
            critic, X, Y, keys(5)
        ) + adversarial.zero_centered_penalty(critic, X)
        return penalties.sum()

    value, slope = jax.value_and_grad(loss)(0.0)
    assert value == pytest.approx(5.0, abs=1e-4) and np.isfinite(slope)
    constant = adversarial.gradient_penalty(lambda images: jnp.ones(len(images)), X, Y, keys(5))
    np.testing.assert_allclose(constant, 1.0, atol=1e-4)


def test_r1_can_be_differentiated_twice():
    """R1 of a critic a * |x|^2 / 2 is a^2 |x|^2 / 2 per example: slope a |x|^2, curvature |x|^2."""
    squared = float((X**2).sum())

    def loss(a):
        return adversarial.r1()({"critic": lambda images: a * quadratic(images), "real": X}).sum()

    assert jax.grad(loss)(1.5) == pytest.approx(1.5 * squared, rel=1e-5)
    assert jax.grad(jax.grad(loss))(1.5) == pytest.approx(squared, rel=1e-5)


def test_penalty_terms_look_at_their_own_images():
    outputs = {"critic": quadratic, "real": X, "fake": Y, "keys": keys(5)}
    np.testing.assert_allclose(adversarial.r1()(outputs), 0.5 * (X**2).sum((1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(adversarial.r2()(outputs), 0.5 * (Y**2).sum((1, 2, 3)), rtol=1e-5)
    linear_outputs = {**outputs, "critic": linear}
    penalty = adversarial.gradient_penalty_term(target=2.0)(linear_outputs)
    np.testing.assert_allclose(penalty, (np.linalg.norm(W.ravel()) - 2) ** 2, rtol=1e-5)


def test_an_unknown_loss_offers_the_nearest():
    with pytest.raises(InputError, match="did you mean hinge"):
        adversarial.critic_loss("hing", REAL, FAKE)
    with pytest.raises(InputError, match="did you mean wasserstein"):
        adversarial.generator_loss("waserstein", REAL, FAKE)
