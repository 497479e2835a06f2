import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.diffusion import schedule as schedules
from jaxgen.errors import InputError
from tests.support import close, tolerance

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
    close(schedule.alpha(TIMES) ** 2, expected, terms=1000)
    close(schedule.sigma(TIMES) ** 2, 1 - expected, 1.0, terms=1000)
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
    # beta_1 is kept
    assert zero.alpha(0.001) == pytest.approx(plain.alpha(0.001), rel=tolerance(1.0, dtype=float))
    # Algorithm 1 is the affine map of sqrt(alpha_bar) that keeps its first value and sends the last
    # to 0.
    slope, intercept = np.polyfit(plain.alpha(TIMES[1:]), alpha[1:], 1)
    close(alpha[1:], slope * plain.alpha(TIMES[1:]) + intercept, terms=1000)
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


@pytest.mark.slow
@pytest.mark.parametrize("name,options", EVERY)
def test_log_snr_falls_from_plus_infinity(name, options):
    schedule = schedules.build(name, **options)
    values = schedules.log_snr(schedule, TIMES)
    assert values[0] == np.inf and (np.diff(values) < 0).all()
    if name != "rectified":
        close(schedule.alpha(TIMES) ** 2 + schedule.sigma(TIMES) ** 2, np.ones(1001))
    traced = schedules.log_snr(schedule, jnp.float32(0.3))
    close(traced, schedules.log_snr(schedule, 0.3), 1.0, terms=10)


def test_betas_of_ones_own_are_a_schedule():
    betas = np.linspace(1e-4, 0.02, 1000)
    own = schedules.build("betas", betas=tuple(betas))
    linear = schedules.build("linear")
    np.testing.assert_array_equal(own.alpha(TIMES), linear.alpha(TIMES))
    np.testing.assert_array_equal(own.sigma(TIMES), linear.sigma(TIMES))
    assert own.steps == 1000 and schedules.discrete(betas, zero_terminal_snr=True).alpha(1.0) == 0


def test_a_schedule_from_outside_is_named_by_its_place(monkeypatch):
    outside = types.ModuleType("outside")

    def power(p):
        def alpha(time):
            xp, time = schedules.namespace(time)
            return xp.cos(np.pi / 2 * time**p)

        return schedules.Schedule("power", alpha, lambda time: schedules.namespace(time)[1] ** p)

    outside.power, outside.value = power, power(2)
    outside.rising = power(1)._replace(alpha=lambda time: 1.0 + 9 * time**2)
    outside.infinite = power(1)._replace(sigma=lambda time: time + np.inf)
    outside.constant = power(1)._replace(alpha=lambda time: 1.0)
    outside.numpy = power(1)._replace(alpha=lambda time: np.cos(np.asarray(time)))
    outside.jax = power(1)._replace(alpha=lambda time: jnp.cos(time))
    outside.none = lambda: None
    monkeypatch.setitem(sys.modules, "outside", outside)
    assert schedules.build("outside:power", p=1).sigma(0.25) == 0.25
    assert schedules.build("outside:value") is schedules.build(outside.value) is outside.value
    for name, message in (
        ("rising", "must fall"),
        ("infinite", "be finite"),
        ("constant", "one float64 number for each"),
        ("numpy", "take NumPy and JAX times"),
        ("jax", "float64"),
        ("none", "must be a Schedule"),
        ("power", "needs the option 'p'"),
    ):
        with pytest.raises(InputError, match=message):
            schedules.build(f"outside:{name}")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cosin", {}, "did you mean cosine"),
        ("linear", {"step": 10}, "did you mean steps"),
        *(("linear", {"steps": n}, "steps must be") for n in (0, -1, 2.5, np.nan, 10**12, "9")),
        *(("linear", {"start": v}, "start must be") for v in (0.0, np.nan, "1", None)),
        ("linear", {"end": 1e-5}, "start <= end"),
        ("cosine", {"offset": np.inf}, "offset must be"),
        ("cosine", {"steps": 0}, "steps must be"),
        *(
            ("betas", {"betas": b}, "each between 0 and 1")
            for b in ((), 0.1, (0.1, 1.0), (np.nan,), "ab")
        ),
        ("linear", {"steps": 1, "zero_terminal_snr": True}, "at least 2 steps"),
    ],
)
def test_wrong_input_is_named(name, options, message):
    with pytest.raises(InputError, match=message):
        schedules.build(name, **options)
