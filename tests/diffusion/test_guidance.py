import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.diffusion import grids, guidance, sampler, solvers
from jaxgen.diffusion import schedule as schedules
from jaxgen.errors import InputError
from tests.support import close, keys

COSINE = schedules.build("cosine_continuous")
MEANS = jnp.array([-1.0, 1.0, 0.0])  # two classes N(mean, 1), and as label 2 their "null": N(0, 1)


def network(x, t, label):
    """E[noise | x_t, label] when every class is N(mean, 1) and alpha^2 + sigma^2 = 1."""
    return COSINE.sigma(t) * (x - COSINE.alpha(t) * MEANS[label][:, None, None, None])


def as_denoiser(network_of):
    def denoise(x, t):
        noise = network_of(x, t)
        return (x - COSINE.sigma(t) * noise) / COSINE.alpha(t), noise

    return denoise


@pytest.mark.slow
@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_guidance_moves_gaussians_by_its_weight(weight):
    """p(x|null)^(1-w) p(x|class)^w is N(w mean, 1) at every time, and so are its samples."""
    grid = np.append(grids.grid(COSINE, "linspace", 100)[1:-1], 0.0)
    label = jnp.array([0, 1])
    guided = guidance.classifier_free(network, label, 2, weight)
    x1 = jnp.broadcast_to(jnp.linspace(-2, 2, 4).reshape(1, 2, 2, 1), (2, 2, 2, 1))
    x = jax.jit(
        lambda k: sampler.sample(
            as_denoiser(guided), solvers.heun(), k, (2, 2, 1), COSINE, grid, initial=x1
        )
    )(keys(2))
    # The exact flow of N(m, 1) on a variance-preserving path: x_0 = m + x_t - alpha m.
    mean = weight * MEANS[label][:, None, None, None]
    np.testing.assert_allclose(x, mean + x1 - COSINE.alpha(grid[0]) * mean, atol=0.01)


def test_guidance_is_one_call_and_needs_no_particular_condition():
    sizes = []

    def tree_network(x, t, condition):
        sizes.append(len(x))
        return x * condition["a"][:, None, None, None] + condition["b"].sum(-1)[:, None, None, None]

    condition = {"a": jnp.array([1.0, 2.0]), "b": jnp.ones((2, 3))}
    guided = guidance.classifier_free(tree_network, condition, {"a": 0.5, "b": jnp.zeros(3)}, 3.0)
    x = jnp.ones((2, 1, 1, 1))
    expected = [0.5 + 3 * (4 - 0.5), 0.5 + 3 * (5 - 0.5)]
    close(guided(x, jnp.float32(0.5)).ravel(), np.array(expected))
    assert sizes == [4]


@pytest.mark.slow
def test_guidance_interval():
    guided = guidance.classifier_free(network, jnp.array([0, 1]), 2, 4.0, interval=(0.3, 0.6))
    x = jnp.ones((2, 1, 1, 1))
    for time, weight in ((0.2, 1.0), (0.3, 4.0), (0.5, 4.0), (0.7, 1.0)):
        plain = guidance.classifier_free(network, jnp.array([0, 1]), 2, weight)
        time = jnp.float32(time)
        close(guided(x, time), plain(x, time), 4.0)

    def per_example(x, t, label):
        return network(x, t[:, None, None, None], label)

    times = jnp.array([0.2, 0.5])
    both = guidance.classifier_free(per_example, jnp.array([0, 1]), 2, 4.0, interval=(0.3, 0.6))(
        x, times
    )
    close(both[0], guided(x, times[0])[0], 4.0)
    close(both[1], guided(x, times[1])[1], 4.0)


@pytest.mark.parametrize("time", [jnp.float32(0.4), jnp.array([0.4, 0.7])])
def test_clipping_keeps_x_t(time):
    x_t = jnp.array([[0.5, 3.0], [-2.0, 0.1]]).reshape(2, 2, 1, 1)
    raw = jnp.array([[0.5, 1.7], [-2.0, 0.1]]).reshape(2, 2, 1, 1)
    clipped = guidance.clip(lambda x, t: (raw, jnp.zeros_like(x)), COSINE)
    x0, noise = clipped(x_t, time)
    close(x0.ravel(), np.array([0.5, 1.0, -1.0, 0.1]))
    close(schedules.perturb(COSINE, x0, noise, time), x_t)


@pytest.mark.slow
def test_dynamic_threshold_follows_each_example():
    raw = jnp.stack([jnp.linspace(-0.5, 0.5, 101), jnp.linspace(-4.0, 4.0, 101)]).reshape(
        2, 101, 1, 1
    )
    thresholded = guidance.dynamic_threshold(lambda x, t: (raw, x), COSINE, 90.0)
    x0, noise = thresholded(raw, jnp.float32(0.5))
    limit = np.percentile(np.abs(np.asarray(raw[1])), 90)
    close(x0[0], raw[0])  # inside [-1, 1] already
    close(x0[1], np.clip(raw[1], -limit, limit) / limit, raw)
    close(schedules.perturb(COSINE, x0, noise, jnp.float32(0.5)), raw)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        *(
            (lambda p=p: guidance.dynamic_threshold(None, COSINE, p), "percent")
            for p in (0.995, 101, np.nan, "9")
        ),
        *(
            (lambda w=w: guidance.check(w), "guidance must be a (finite )?number")
            for w in (np.nan, np.inf, "2", None)
        ),
        (lambda: guidance.check(2.0, (0.6, 0.3)), r"high must be a number between 0.6 and 1"),
        (lambda: guidance.check(2.0, (np.nan, 0.3)), "low must be"),
        (lambda: guidance.check(2.0, 0.3), "two times"),
        (lambda: guidance.clip(None, COSINE, 1.0, -1.0), "high must be"),
        (lambda: guidance.clip(None, COSINE, np.nan), "low must be a finite number"),
    ],
)
def test_values_without_sense_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
