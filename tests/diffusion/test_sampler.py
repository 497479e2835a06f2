import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.diffusion import sampler
from jaxgen.diffusion import schedule as schedules
from jaxgen.errors import InputError

MEAN, STD = 0.4, 0.3
LINEAR = schedules.build("linear")
RECTIFIED = schedules.build("rectified")


def keys(n, seed=0):
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(jnp.arange(n))


def gaussian_denoiser(schedule, mean=MEAN, std=STD):
    """E[x_0 | x_t] and E[noise | x_t] for data N(mean, std^2)."""

    def denoise(x, t):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        residual = (x - alpha * mean) / (alpha**2 * std**2 + sigma**2)
        return mean + alpha * std**2 * residual, sigma * residual

    return denoise


def primitives(jaxpr):
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for value in equation.params.values():
            for inner in jax.tree.leaves(
                value, is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr")
            ):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from primitives(inner)


def random_primitives(eta):
    grid = schedules.grid(LINEAR, "trailing", 4)
    x = jnp.zeros((2, 2, 2, 1))
    jaxpr = jax.make_jaxpr(
        lambda k: sampler.sample(
            gaussian_denoiser(LINEAR), k, (2, 2, 1), LINEAR, grid, eta=eta, initial=x
        )
    )(keys(2))
    return [name for name in primitives(jaxpr.jaxpr) if "random" in name or "threefry" in name]


def test_a_deterministic_sampler_draws_nothing():
    assert random_primitives(0.0) == []
    assert random_primitives(0.5) != []  # so the search does find draws


@pytest.mark.parametrize("k", [2, 37, 500, 1000])
def test_posterior_is_bayes_rule(k):
    """q(x_{k-1} | x_k, x_0) as the product of its two factors, multiplied on a fine grid of
    x_{k-1}.
    """
    t, s = k / 1000, (k - 1) / 1000
    x0 = 0.7
    x_t = LINEAR.alpha(t) * x0 - 0.8 * LINEAR.sigma(t)
    beta = 1e-4 + (0.02 - 1e-4) * (k - 1) / 999
    mean_s, var_s = LINEAR.alpha(s) * x0, LINEAR.sigma(s) ** 2
    centre = mean_s + np.linspace(-1, 1, 400_001) * 12 * np.sqrt(var_s)
    log_p = -((centre - mean_s) ** 2) / (2 * var_s) - (x_t - np.sqrt(1 - beta) * centre) ** 2 / (
        2 * beta
    )
    p = np.exp(log_p - log_p.max())
    mean = (p * centre).sum() / p.sum()
    std = np.sqrt((p * (centre - mean) ** 2).sum() / p.sum())

    posterior, forward = sampler.posterior_std(LINEAR, np.array(t), np.array(s))
    assert posterior == pytest.approx(std, rel=1e-5)
    assert forward**2 == pytest.approx(beta, rel=1e-9)
    steps = sampler._steps(LINEAR, np.array([t, s, 0.0]), 1.0, "posterior")
    noise = (x_t - LINEAR.alpha(t) * x0) / LINEAR.sigma(t)
    assert float(steps.signal[0] * x0 + steps.direction[0] * noise) == pytest.approx(
        mean, rel=1e-4, abs=1e-5
    )
    assert float(steps.scale[0]) == pytest.approx(std, rel=1e-5)
    # and the same mean by Ho et al. 2020, eq. 7
    ab_t, ab_s = LINEAR.alpha(t) ** 2, LINEAR.alpha(s) ** 2
    mu = np.sqrt(ab_s) * beta / (1 - ab_t) * x0 + np.sqrt(1 - beta) * (1 - ab_s) / (1 - ab_t) * x_t
    assert mu == pytest.approx(mean, rel=1e-5, abs=1e-6)


def test_both_variances_share_their_mean_and_end_without_noise():
    grid = schedules.grid(LINEAR, "trailing", 1000)
    small = sampler._steps(LINEAR, grid, 1.0, "posterior")
    large = sampler._steps(LINEAR, grid, 1.0, "beta")
    np.testing.assert_array_equal(small.direction, large.direction)
    np.testing.assert_array_equal(small.signal, large.signal)
    betas = np.linspace(1e-4, 0.02, 1000)[::-1]
    np.testing.assert_allclose(large.scale[:-1], np.sqrt(betas)[:-1], rtol=1e-5)
    alpha_bar = np.cumprod(1 - betas[::-1])[::-1]
    tilde = betas[:-1] * (1 - alpha_bar[1:]) / (1 - alpha_bar[:-1])  # Ho et al. 2020, eq. 7
    np.testing.assert_allclose(small.scale[:-1], np.sqrt(tilde), rtol=1e-5)
    assert small.scale[-1] == large.scale[-1] == small.direction[-1] == 0 and small.signal[-1] == 1


@pytest.mark.parametrize("schedule", [LINEAR, RECTIFIED], ids=["linear", "rectified"])
def test_ddim_is_the_probability_flow_of_gaussian_data_to_first_order(schedule):
    """The exact flow keeps (x_t - alpha mean) / std(x_t) constant."""

    def error(steps):
        grid = schedules.grid(schedule, "trailing", steps)
        x = jnp.linspace(-2, 2, 16).reshape(1, 4, 4, 1)
        got = sampler.sample(
            gaussian_denoiser(schedule), keys(1), (4, 4, 1), schedule, grid, initial=x
        )
        alpha, sigma = schedule.alpha(1.0), schedule.sigma(1.0)
        exact = MEAN + STD * (x - alpha * MEAN) / np.hypot(alpha * STD, sigma)
        return float(jnp.abs(got - exact).max())

    errors = [error(steps) for steps in (25, 50, 100, 200)]
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert errors[-1] < 0.02
    np.testing.assert_allclose(orders[1:], 1.0, atol=0.15)


def test_ddpm_reproduces_the_data():
    grid = schedules.grid(LINEAR, "trailing", 1000)
    x = jax.jit(
        lambda k: sampler.sample(gaussian_denoiser(LINEAR), k, (20, 20, 1), LINEAR, grid, eta=1.0)
    )(keys(8))
    values = np.asarray(x).ravel()  # 3200 independent draws
    assert abs(values.mean() - MEAN) < 4 * STD / np.sqrt(values.size)
    assert abs(values.std() / STD - 1) < 4 / np.sqrt(2 * values.size) + 0.01
    kurtosis = ((values - values.mean()) ** 4).mean() / values.var() ** 2
    assert abs(kurtosis - 3) < 4 * np.sqrt(24 / values.size)


@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_ancestral_sampling_has_the_variance_that_the_recursion_predicts(variance):
    """Each step is affine in x, so the variance after a coarse grid follows in float64, step by
    step.
    """
    grid = schedules.grid(LINEAR, "trailing", 20)
    var, mean = LINEAR.sigma(1.0) ** 2, 0.0
    for t, s in zip(grid[:-1], grid[1:], strict=True):
        a_t, s_t, a_s, s_s = LINEAR.alpha(t), LINEAR.sigma(t), LINEAR.alpha(s), LINEAR.sigma(s)
        beta = 1 - a_t**2 / a_s**2
        tilde = beta * s_s**2 / s_t**2
        gain = a_t * STD**2 / (a_t**2 * STD**2 + s_t**2)  # of E[x_0 | x_t]
        coefficient = np.sqrt(1 - beta) * s_s**2 / s_t**2
        slope = a_s * beta / s_t**2 * gain + coefficient
        offset = a_s * beta / s_t**2 * (MEAN - gain * a_t * MEAN)
        added = 0.0 if s == 0 else {"posterior": tilde, "beta": beta}[variance]
        mean, var = slope * mean + offset, slope**2 * var + added
    denoise = gaussian_denoiser(LINEAR)
    x = sampler.sample(denoise, keys(16), (32, 32, 1), LINEAR, grid, eta=1.0, variance=variance)
    assert float(x.mean()) == pytest.approx(mean, abs=4 * np.sqrt(var / x.size))
    assert float(x.var()) == pytest.approx(var, rel=4 * np.sqrt(2 / x.size))


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_sample_depends_on_its_key_alone(eta):
    grid = schedules.grid(LINEAR, "linspace", 10)

    def run(k):
        return sampler.sample(gaussian_denoiser(LINEAR), k, (4, 4, 3), LINEAR, grid, eta=eta)

    many = run(keys(7))
    np.testing.assert_allclose(run(keys(7)[2:3]), many[2:3], atol=1e-6)
    np.testing.assert_allclose(run(keys(7)[::-1])[::-1], many, atol=1e-6)
    assert (
        len(np.unique(np.asarray(many).round(4))) > 300
    )  # neither repeated across samples nor across pixels


@pytest.mark.parametrize(
    "kind", ["leading", "trailing", "linspace", "log_snr", "karras", "shifted"]
)
def test_network_calls_are_exactly_the_grid(kind):
    seen = []
    grid = schedules.grid(LINEAR, kind, 9)

    def denoise(x, t):
        jax.debug.callback(lambda t: seen.append(float(t)), t)
        return gaussian_denoiser(LINEAR)(x, t)

    sampler.sample(denoise, keys(2), (2, 2, 1), LINEAR, grid).block_until_ready()
    jax.effects_barrier()
    np.testing.assert_allclose(sorted(seen, reverse=True), grid[:-1], rtol=1e-6)


def test_zero_terminal_snr_starts_from_pure_noise():
    schedule = schedules.build("linear", zero_terminal_snr=True)
    for eta in (0.0, 1.0):
        grid = schedules.grid(schedule, "trailing", 50)
        x = sampler.sample(
            gaussian_denoiser(schedule), keys(4), (16, 16, 1), schedule, grid, eta=eta
        )
        assert float(x.mean()) == pytest.approx(MEAN, abs=0.05)


def test_trajectory_and_unrolling():
    grid = schedules.grid(RECTIFIED, "linspace", 6)
    arguments = (gaussian_denoiser(RECTIFIED), keys(3), (4, 4, 1), RECTIFIED, grid)
    x = sampler.sample(*arguments)
    history = sampler.sample(*arguments, trajectory=True, unroll=6)
    np.testing.assert_allclose(history.x, x, atol=1e-6)
    assert history.x_t.shape == history.x0.shape == (6, 3, 4, 4, 1)
    np.testing.assert_allclose(history.x0[-1], x, atol=1e-6)
    # Euler's step of flow matching: x_s = x_t + (s - t) velocity
    velocity = (history.x_t[0] - history.x0[0]) / grid[0]
    np.testing.assert_allclose(
        history.x_t[1], history.x_t[0] + (grid[1] - grid[0]) * velocity, atol=1e-6
    )


def test_wrong_input_is_named():
    denoise, grid = gaussian_denoiser(LINEAR), schedules.grid(LINEAR, "trailing", 4)
    for options in ({"eta": 1.5}, {"eta": -0.1}, {"eta": 1.0, "variance": "betta"}):
        with pytest.raises(InputError, match="eta|variance"):
            sampler.sample(denoise, keys(1), (2, 2, 1), LINEAR, grid, **options)
    for bad in (grid[::-1], grid[:-1], np.array([0.0])):
        with pytest.raises(InputError, match="grid"):
            sampler.sample(denoise, keys(1), (2, 2, 1), LINEAR, bad)
