import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.diffusion import schedule as schedules
from jaxgen.errors import InputError

EVERY = [
    ("linear", {}),
    ("linear", {"zero_terminal_snr": True}),
    ("cosine", {}),
    ("cosine", {"zero_terminal_snr": True}),
    ("cosine_continuous", {}),
    ("rectified", {}),
]
DISCRETE = EVERY[:4]
TIMES = np.arange(1001) / 1000


def published_alpha_bar(name, total=1000):
    """The running product in the papers' own terms, one factor at a time."""
    alpha_bar, products = 1.0, [1.0]
    for k in range(1, total + 1):
        if name == "linear":
            beta = 1e-4 + (0.02 - 1e-4) * (k - 1) / (total - 1)
        else:
            f = [np.cos((i / total + 0.008) / 1.008 * np.pi / 2) ** 2 for i in (k - 1, k)]
            beta = min(1 - f[1] / f[0], 0.999)
        alpha_bar *= 1 - beta
        products.append(alpha_bar)
    return np.array(products)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_discrete_schedules_are_the_published_ones(name):
    schedule = schedules.build(name)
    expected = published_alpha_bar(name)
    np.testing.assert_allclose(schedule.alpha(TIMES) ** 2, expected, rtol=1e-10)
    np.testing.assert_allclose(schedule.sigma(TIMES) ** 2, 1 - expected, rtol=1e-9)
    assert schedule.steps == 1000 and schedule.alpha(0.0) == 1 and schedule.sigma(0.0) == 0


def test_published_end_of_the_linear_schedule():
    # Ho et al. 2020, section 4: KL(q(x_T|x_0) || N(0, I)) is about 1e-5 bits/dim; alpha_bar_T =
    # 4.0358e-5.
    assert schedules.build("linear").alpha(1.0) ** 2 == pytest.approx(4.0358e-5, rel=1e-4)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_zero_terminal_snr(name):
    plain, zero = schedules.build(name), schedules.build(name, zero_terminal_snr=True)
    alpha = zero.alpha(TIMES)
    assert alpha[-1] == 0 and zero.sigma(1.0) == 1
    assert zero.alpha(0.001) == pytest.approx(plain.alpha(0.001), rel=1e-14)  # beta_1 is kept
    # Algorithm 1 is the affine map of sqrt(alpha_bar) that keeps its first value and sends the last
    # to 0.
    slope, intercept = np.polyfit(plain.alpha(TIMES[1:]), alpha[1:], 1)
    np.testing.assert_allclose(alpha[1:], slope * plain.alpha(TIMES[1:]) + intercept, atol=1e-12)
    between = zero.alpha(np.linspace(0.999, 1, 11))
    assert (np.diff(between) < 0).all() and np.isfinite(between).all()


@pytest.mark.parametrize("name,options", EVERY)
def test_traced_float32_agrees_with_float64_and_keeps_digits_near_the_data(name, options):
    schedule = schedules.build(name, **options)
    times = np.concatenate([TIMES, [1e-5, 0.00037, 0.5004, 0.9993]])
    signal, noise = jax.jit(lambda t: (schedule.alpha(t), schedule.sigma(t)))(
        jnp.asarray(times, jnp.float32)
    )
    assert signal.dtype == noise.dtype == jnp.float32
    assert schedule.alpha(times).dtype == schedule.sigma(times).dtype == np.float64
    np.testing.assert_allclose(signal, schedule.alpha(times), rtol=5e-6, atol=1e-7)
    np.testing.assert_allclose(noise, schedule.sigma(times), rtol=5e-6)


@pytest.mark.parametrize("name,options", EVERY)
def test_log_snr_falls_from_plus_infinity(name, options):
    schedule = schedules.build(name, **options)
    values = schedules.log_snr(schedule, TIMES)
    assert values[0] == np.inf and (np.diff(values) < 0).all()
    if name != "rectified":
        np.testing.assert_allclose(
            schedule.alpha(TIMES) ** 2 + schedule.sigma(TIMES) ** 2, 1, rtol=1e-14
        )
    traced = schedules.log_snr(schedule, jnp.float32(0.3))
    assert traced == pytest.approx(float(schedules.log_snr(schedule, 0.3)), rel=1e-5)


@pytest.mark.parametrize("name,options", EVERY)
@pytest.mark.parametrize("kind", list(schedules.GRIDS))
@pytest.mark.parametrize("steps", [1, 7, 50])
def test_grids_fall_to_exactly_zero(name, options, kind, steps):
    schedule = schedules.build(name, **options)
    if kind == "leading" and schedule.steps is None:
        with pytest.raises(InputError, match="discrete"):
            schedules.grid(schedule, kind, steps)
        return
    grid = schedules.grid(schedule, kind, steps)
    assert grid.dtype == np.float64 and grid.shape == (steps + 1,)
    assert grid[-1] == 0 and grid[0] <= 1 and (np.diff(grid) < 0).all()
    if kind in ("trailing", "linspace", "shifted"):
        assert grid[0] == 1


@pytest.mark.parametrize("kind", ["leading", "trailing", "linspace"])
def test_full_grids_visit_every_step(kind):
    grid = schedules.grid(schedules.build("linear"), kind, 1000)
    np.testing.assert_array_equal(grid, np.arange(1000, -1, -1) / 1000)


def test_published_timesteps():
    # Lin et al. 2024, table 2: T = 1000, 10 steps.
    linear = schedules.build("linear")
    steps = {
        kind: schedules.grid(linear, kind, 10)[:-1] * 1000
        for kind in ("leading", "trailing", "linspace")
    }
    np.testing.assert_allclose(steps["leading"], [901, 801, 701, 601, 501, 401, 301, 201, 101, 1])
    np.testing.assert_allclose(
        steps["trailing"], [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100]
    )
    np.testing.assert_allclose(steps["linspace"], [1000, 889, 778, 667, 556, 445, 334, 223, 112, 1])


@pytest.mark.parametrize("name,options", EVERY)
def test_grids_are_even_in_their_own_terms(name, options):
    schedule = schedules.build(name, **options)
    values = schedules.log_snr(schedule, schedules.grid(schedule, "log_snr", 20)[:-1])
    np.testing.assert_allclose(np.diff(values), (values[-1] - values[0]) / 19, rtol=1e-8)
    karras = schedules.grid(schedule, "karras", 20)[:-1]
    root = (schedule.sigma(karras) / schedule.alpha(karras)) ** (1 / 7)
    np.testing.assert_allclose(np.diff(root), (root[-1] - root[0]) / 19, rtol=1e-7)


def test_shifted_is_the_closed_form_on_the_straight_path():
    uniform = np.linspace(1, 0, 13)
    grid = schedules.grid(schedules.build("rectified"), "shifted", 12, shift=3.0)
    np.testing.assert_allclose(grid, 3 * uniform / (1 + 2 * uniform), atol=1e-14)
    plain = schedules.grid(schedules.build("rectified"), "shifted", 12, shift=1.0)
    np.testing.assert_allclose(plain, uniform, atol=1e-14)


def test_wrong_input_is_named():
    linear = schedules.build("linear")
    with pytest.raises(InputError, match="cosine"):
        schedules.build("cosin")
    with pytest.raises(InputError, match="steps"):
        schedules.build("linear", step=10)
    with pytest.raises(InputError, match="trailing"):
        schedules.grid(linear, "trailin", 10)
    with pytest.raises(InputError, match="shift"):
        schedules.grid(linear, "shifted", 10, shif=2.0)
    for steps in (0, 1001):
        with pytest.raises(InputError, match="steps"):
            schedules.grid(linear, "linspace", steps)
    with pytest.raises(InputError, match="low"):
        schedules.grid(schedules.build("rectified"), "karras", 10, high=1.0)
