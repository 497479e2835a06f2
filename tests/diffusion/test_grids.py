import sys
import types

import numpy as np
import pytest

from jaxgen.diffusion import grids
from jaxgen.diffusion import schedule as schedules
from jaxgen.errors import InputError
from tests.support import close

EVERY = [
    ("linear", {}),
    ("linear", {"zero_terminal_snr": True}),
    ("cosine", {}),
    ("cosine", {"zero_terminal_snr": True}),
    ("cosine_continuous", {}),
    ("rectified", {}),
]


@pytest.mark.slow
@pytest.mark.parametrize("name,options", EVERY)
@pytest.mark.parametrize("kind", list(grids.GRIDS))
@pytest.mark.parametrize("steps", [1, 7, 50])
def test_grids_fall_to_exactly_zero(name, options, kind, steps):
    schedule = schedules.build(name, **options)
    if kind == "leading" and schedule.steps is None:
        with pytest.raises(InputError, match="discrete"):
            grids.grid(schedule, kind, steps)
        return
    grid = grids.grid(schedule, kind, steps)
    assert grid.dtype == np.float64 and grid.shape == (steps + 1,)
    assert grid[-1] == 0 and grid[0] <= 1 and (np.diff(grid) < 0).all()
    if kind in ("trailing", "linspace", "shifted"):
        assert grid[0] == 1


@pytest.mark.parametrize("kind", ["leading", "trailing", "linspace"])
def test_full_grids_visit_every_step(kind):
    grid = grids.grid(schedules.build("linear"), kind, 1000)
    np.testing.assert_array_equal(grid, np.arange(1000, -1, -1) / 1000)


def test_published_timesteps():
    # Lin et al. 2024, table 2: T = 1000, 10 steps.
    linear = schedules.build("linear")
    steps = {
        kind: grids.grid(linear, kind, 10)[:-1] * 1000
        for kind in ("leading", "trailing", "linspace")
    }
    published = {
        "leading": [901, 801, 701, 601, 501, 401, 301, 201, 101, 1],
        "trailing": [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100],
        "linspace": [1000, 889, 778, 667, 556, 445, 334, 223, 112, 1],
    }
    close(steps, {kind: np.float64(times) for kind, times in published.items()})


@pytest.mark.parametrize("name,options", EVERY)
def test_grids_are_even_in_their_own_terms(name, options):
    schedule = schedules.build(name, **options)
    values = schedules.log_snr(schedule, grids.grid(schedule, "log_snr", 20)[:-1])
    # A bisected time is right to its last digit; log SNR is steep where sigma or alpha is small.
    np.testing.assert_allclose(np.diff(values), (values[-1] - values[0]) / 19, rtol=1e-8)
    karras = grids.grid(schedule, "karras", 20)[:-1]
    root = (schedule.sigma(karras) / schedule.alpha(karras)) ** (1 / 7)
    np.testing.assert_allclose(np.diff(root), (root[-1] - root[0]) / 19, rtol=1e-7)


def test_shifted_is_the_closed_form_on_the_straight_path():
    uniform = np.linspace(1, 0, 13)
    grid = grids.grid(schedules.build("rectified"), "shifted", 12, shift=3.0)
    close(grid, 3 * uniform / (1 + 2 * uniform))
    plain = grids.grid(schedules.build("rectified"), "shifted", 12, shift=1.0)
    close(plain, uniform)


def test_own_grids_are_arrays_mappings_or_named_by_their_place(monkeypatch):
    linear = schedules.build("linear")
    times = grids.grid(linear, "karras", 6, rho=3.0)
    np.testing.assert_array_equal(grids.grid(linear, {"name": "karras", "rho": 3.0}, 6), times)
    np.testing.assert_array_equal(grids.grid(linear, tuple(times)), times)
    np.testing.assert_array_equal(grids.grid(linear, times[2:], 4), times[2:])
    outside = types.ModuleType("outside")
    outside.squares = lambda schedule, steps, top=1.0: top * (np.arange(steps, 0, -1) / steps) ** 2
    outside.rising = lambda schedule, steps: np.arange(1, steps + 1) / steps
    monkeypatch.setitem(sys.modules, "outside", outside)
    close(grids.grid(linear, "outside:squares", 2, top=0.5), np.array([0.5, 0.125, 0.0]))
    with pytest.raises(InputError, match="'outside:rising' with 3 steps .* strictly decreasing"):
        grids.grid(linear, "outside:rising", 3)
    with pytest.raises(InputError, match="7 times, which are 6 steps; steps=100"):
        grids.grid(linear, times, 100)


@pytest.mark.parametrize(
    ("kind", "steps", "options", "message"),
    [
        ("trailin", 10, {}, "did you mean trailing"),
        (None, 10, {}, "the grid must"),
        ({"rho": 3.0}, 10, {}, "the grid must"),
        ("shifted", 10, {"shif": 2.0}, "did you mean shift"),
        *(("linspace", n, {}, "steps must be") for n in (0, -3, 2.5, np.nan, "9", None, True)),
        ("linspace", 1001, {}, "longer than the 1000 steps"),
        ("linspace", 10**12, {}, "steps must be"),
        *(("karras", 9, {"rho": v}, "rho must be") for v in (0, -1.0, np.nan, np.inf, "7")),
        *(("shifted", 9, {"shift": v}, "shift must be") for v in (0.5, np.nan, None)),
        *(("log_snr", 9, {"low": v}, "low must be") for v in (0.0, np.nan, 1.5, "a")),
        ("log_snr", 9, {"low": 0.6, "high": 0.4}, "low < high"),
    ],
)
def test_wrong_input_is_named(kind, steps, options, message):
    with pytest.raises(InputError, match=message):
        grids.grid(schedules.build("linear"), kind, steps, **options)


def test_a_grid_in_log_snr_needs_a_signal_at_its_start():
    with pytest.raises(InputError, match="low"):
        grids.grid(schedules.build("rectified"), "karras", 10, high=1.0)
