import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.diffusion import prediction
from jaxgen.diffusion import schedule as schedules
from jaxgen.errors import InputError
from jaxgen.losses import denoising, objective
from tests.support import close, normal

PREDICTION, TARGET = normal(0, 5, 4, 3, 2), normal(1, 5, 4, 3, 2)


def weights(name, kind, schedule, time, **options):
    """[B] float32, from alpha and sigma that were computed in float64."""
    alpha, sigma = (jnp.float32(f(np.float64(time))) for f in (schedule.alpha, schedule.sigma))
    return denoising.WEIGHTINGS[name](alpha, sigma, prediction.KINDS[kind], **options)


def test_the_error_is_averaged_over_all_axes_but_the_batch_and_weighted_per_example():
    truth = np.array([row.mean() for row in np.float64(PREDICTION - TARGET) ** 2])
    close(denoising.denoising_loss(PREDICTION, TARGET), truth, terms=24)
    weight = np.arange(5.0)
    close(denoising.denoising_loss(PREDICTION, TARGET, weight), weight * truth, terms=24)


def test_the_term_weighs_by_the_path_and_the_prediction_that_the_wiring_gives():
    """min(SNR, gamma) / SNR for noise prediction (Hang et al. 2023, section 3.4)."""
    alpha, sigma = np.float32([0.1, 0.5, 0.8, 0.9, 0.99]), np.float32([0.9, 0.7, 0.6, 0.4, 0.1])
    outputs = dict(prediction=PREDICTION, target=TARGET, alpha=alpha, sigma=sigma)
    outputs["prediction_kind"] = prediction.KINDS["noise"]
    value = denoising.denoising("min_snr", gamma=3.0)(outputs)
    snr = (np.float64(alpha) / sigma) ** 2
    error = np.float64(PREDICTION - TARGET) ** 2
    close(value, np.minimum(snr, 3) / snr * error.mean((1, 2, 3)), terms=24)
    close(denoising.denoising()(outputs), error.mean((1, 2, 3)), terms=24)


@pytest.mark.parametrize("kind", prediction.KINDS)
@pytest.mark.parametrize("name", ["linear", "rectified"])
def test_min_snr_is_one_weighting_of_x0_errors_for_every_prediction(kind, name):
    """Whatever the network predicts, weight |its error|^2 = min(SNR, 5) |x_0's error|^2."""
    schedule, time = schedules.build(name), np.array([0.02, 0.1, 0.3, 0.5, 0.9])
    alpha, sigma = schedule.alpha(time), schedule.sigma(time)
    x_t, out = (np.float64(normal(seed, 5)) for seed in (0, 1))
    a, b = prediction.KINDS[kind](alpha, sigma)
    # x_0 of the network's output and of one that is wrong by 0.5
    equations = np.array([[alpha, sigma], [a, b]]).transpose(2, 0, 1)
    x0, x0_wrong = (
        np.linalg.solve(equations, np.array([x_t, o]).T[..., None])[:, 0, 0]
        for o in (out, out + 0.5)
    )
    truth = np.minimum((alpha / sigma) ** 2, 5) * (x0 - x0_wrong) ** 2
    got = np.float64(weights("min_snr", kind, schedule, time)) * 0.25
    # relative: the weights span decades, and each is a few roundings from the truth
    close(got / truth, np.ones(5), dtype=np.float32)


def test_published_min_snr_weights():
    # Hang et al. 2023, section 3.4: min(SNR, 5)/SNR for noise, min(SNR, 5) for x_0, min(SNR,
    # 5)/(SNR + 1) for v.
    linear, time = schedules.build("linear"), np.array([0.01, 0.2, 0.7, 1.0])
    snr = np.exp(schedules.log_snr(linear, time))
    least = np.minimum(snr, 5)
    for kind, expected in {"noise": least / snr, "x0": least, "v": least / (snr + 1)}.items():
        got = np.float64(weights("min_snr", kind, linear, time))
        close(got / expected, np.ones(4), dtype=np.float32)
    end = schedules.build("linear", zero_terminal_snr=True)
    for kind in prediction.KINDS:
        assert jnp.isfinite(weights("min_snr", kind, end, [1.0])).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weighting": "minsnr"}, "did you mean min_snr"),
        ({"weighting": None}, "weighting must be a string"),
        ({"weighting": "simple", "gamma": 3.0}, "'simple' has no option 'gamma'"),
        ({"weighting": "min_snr", "gama": 3.0}, "did you mean gamma"),
        *(({"weighting": "min_snr", "gamma": g}, "gamma must be") for g in (0, np.nan, "5")),
    ],
)
def test_a_wrong_weighting_is_found_when_the_objective_is_built(options, message):
    with pytest.raises(InputError, match=message):
        objective.build("model", {"denoising": options})


def test_a_weighting_from_outside_is_named_by_its_place(monkeypatch):
    outside = types.ModuleType("outside")
    outside.sigmoid = lambda alpha, sigma, kind, *, bias=0.0: alpha + bias
    monkeypatch.setitem(sys.modules, "outside", outside)
    term = denoising.denoising("outside:sigmoid", bias=2.0)
    outputs = dict(prediction=PREDICTION, target=TARGET, alpha=np.arange(5.0), sigma=np.ones(5))
    outputs["prediction_kind"] = prediction.KINDS["v"]
    plain = np.asarray(denoising.denoising_loss(PREDICTION, TARGET))
    close(term(outputs), (np.arange(5.0) + 2) * plain, terms=24)


def test_the_variational_bound_is_computed_only_when_asked_for():
    outputs = {"variational_bound": lambda: jnp.arange(3.0)}
    np.testing.assert_array_equal(denoising.variational_bound()(outputs), [0.0, 1.0, 2.0])
    with pytest.raises(KeyError):
        denoising.variational_bound()({})
