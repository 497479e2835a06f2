"""The diffusion wiring: what it hands to the losses, and its sampler's dependence on keys, labels
and guidance.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import families
from jaxgen.calls import Call
from jaxgen.config import default
from jaxgen.errors import InputError
from jaxgen.losses import objective
from tests.support import keys

SHAPE, CLASSES = (4, 4, 1), 3


def images(n):
    image = np.random.default_rng(0).integers(0, 256, (n, *SHAPE)) / 127.5 - 1
    return {"x": jnp.float32(image), "label": jnp.arange(n) % CLASSES}


@functools.cache
def model(classes=0, schedule="linear", prediction="noise", condition_dropout=0.0, steps=20):
    """(family, variables with every parameter away from its initial value: the output would be
    zero).
    """
    config = default()
    config.family, config.conditional = "diffusion", classes > 0
    config.data.update(image_shape=SHAPE, num_classes=classes)
    options = dict(steps=steps, end=0.5) if schedule == "linear" else {}
    config.model.update(
        schedule=dict(name=schedule, **options),
        prediction=prediction,
        condition_dropout=condition_dropout,
        denoiser=dict(name="mlp_denoiser", width=16, depth=1, embedding=8),
    )
    family = families.build(config)

    @jax.jit
    def init(key):
        variables = family.init(key, images(1))
        leaves, tree = jax.tree.flatten(variables["params"])
        moved = [
            p + 0.2 * jax.random.normal(jax.random.fold_in(key, i), p.shape)
            for i, p in enumerate(leaves)
        ]
        return {"params": tree.unflatten(moved), "state": {}}

    return family, init(jax.random.key(0))


def forward(family, variables, data, keys, train=True):
    """The outputs that are arrays."""

    @jax.jit
    def run(data, keys):
        outputs, _ = family.forward(variables, data, Call(train, keys))
        return {k: v for k, v in outputs.items() if k != "keys" and not callable(v)}

    return run(data, keys)


@pytest.mark.slow
@pytest.mark.parametrize("prediction", ["noise", "x0", "v"])
def test_outputs_are_the_papers(prediction):
    family, variables = model(prediction=prediction)
    n, total = 400, 20
    data = {"x": jnp.broadcast_to(images(1)["x"], (n, *SHAPE))}
    o = {k: np.float64(v) for k, v in forward(family, variables, data, keys(n)).items()}
    x0 = np.float64(data["x"])
    # times k/T, k = 1 .. T, all about equally often; alpha_bar by the product of Ho et al. 2020,
    # section 2
    k = o["time"] * total
    np.testing.assert_allclose(k, np.round(k), atol=1e-5)
    counts = np.bincount(np.round(k).astype(int), minlength=total + 1)
    assert counts[0] == 0 and counts[1:].min() > 3 and len(counts) == total + 1
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.5, total))[np.round(k).astype(int) - 1]
    alpha, sigma = (f.reshape(-1, 1, 1, 1) for f in (np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)))
    np.testing.assert_allclose(o["x_t"], alpha * x0 + sigma * o["noise"], atol=1e-5)
    assert abs(o["noise"].mean()) < 0.06 and o["noise"].var() == pytest.approx(1, abs=0.08)
    target = {"noise": o["noise"], "x0": x0, "v": alpha * o["noise"] - sigma * x0}[prediction]
    np.testing.assert_allclose(o["target"], target, atol=1e-5)
    out = o["prediction"]
    implied = {
        "noise": (o["x_t"] - sigma * out) / alpha,
        "x0": out,
        "v": alpha * o["x_t"] - sigma * out,
    }[prediction]
    np.testing.assert_allclose(o["x0_hat"], implied, rtol=1e-3, atol=2e-4)


@pytest.mark.slow
def test_flow_matching_is_the_same_wiring():
    family, variables = model(schedule="rectified", prediction="velocity")
    data, n = images(256), 256
    o = {k: np.float64(v) for k, v in forward(family, variables, data, keys(n)).items()}
    t, x0 = o["time"].reshape(-1, 1, 1, 1), np.float64(data["x"])
    assert (
        0 < o["time"].min() < 0.05
        and 0.95 < o["time"].max() < 1
        and abs(o["time"].mean() - 0.5) < 0.08
    )
    np.testing.assert_allclose(o["x_t"], (1 - t) * x0 + t * o["noise"], atol=1e-5)
    np.testing.assert_allclose(o["target"], o["noise"] - x0, atol=1e-5)
    assert family.log_prob is None  # the bound is one of discrete diffusion


@pytest.mark.slow
def test_the_weight_of_noise_prediction_is_min_snr_over_snr():
    family, variables = model()
    rows = objective.build(
        "m", {"denoising": {"weighting": "min_snr", "gamma": 2.0}, "simple": {"term": "denoising"}}
    )

    @jax.jit
    def values(data):
        outputs, _ = family.forward(variables, data, Call(True, keys(64)))
        return objective.evaluate(rows, outputs, 64), outputs["time"]

    losses, time = values(images(64))
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.5, 20))[
        np.round(np.asarray(time) * 20).astype(int) - 1
    ]
    snr = alpha_bar / (1 - alpha_bar)
    np.testing.assert_allclose(
        losses["denoising"] / losses["simple"], np.minimum(snr, 2) / snr, rtol=1e-4
    )


@pytest.mark.slow
def test_the_training_bound_estimates_the_evaluated_one():
    """One uniform time per example and the sum over all times are two estimates of one number."""
    family, variables = model(prediction="x0")
    # log_prob clips the predicted image to [-1, 1] and training does not: keep the predictions
    # inside
    denoiser = variables["params"]["denoiser"]
    out = jax.tree.map(lambda p: 0.1 * p, denoiser["out"])
    variables = {"params": {"denoiser": {**denoiser, "out": out}}, "state": {}}
    n = 4000
    data = {"x": jnp.broadcast_to(images(1)["x"], (n, *SHAPE))}

    @jax.jit
    def both(data):
        outputs, _ = family.forward(variables, data, Call(True, keys(n)))
        log_prob = family.log_prob(variables, {"x": data["x"][:500]}, keys(500)).nats
        return outputs["variational_bound"](), log_prob, outputs["x0_hat"]

    estimate, log_prob, x0_hat = map(np.asarray, both(data))
    assert np.abs(x0_hat).max() < 1
    error = np.hypot(estimate.std() / np.sqrt(n), log_prob.std() / np.sqrt(500))
    assert estimate.mean() == pytest.approx(-log_prob.mean(), abs=5 * error)


@pytest.mark.slow
def test_log_prob_says_what_it_is():
    family, variables = model(steps=4)
    value = family.log_prob(variables, images(2), keys(2), num_times=2)
    assert (value.kind, value.of, value.nats.shape) == ("lower bound", "uint8", (2,))


@pytest.mark.slow
def test_guidance_is_linear_in_its_weight_from_the_null_class():
    """One step of x0 prediction from time 1 gives the guided prediction itself."""
    family, variables = model(classes=CLASSES, prediction="x0", condition_dropout=0.1)
    label = jnp.arange(4) % CLASSES

    def draw(label=label, **options):
        options = {"steps": 1, "clip": False, **options}
        return np.asarray(
            jax.jit(lambda k: family.sample(variables, k, {"label": label}, **options))(keys(4))
        )

    null, conditional = draw(label=jnp.full(4, CLASSES)), draw()
    assert np.abs(null - conditional).max() > 1e-3
    for weight in (0.0, 2.5):
        truth = null + weight * (conditional - null)
        np.testing.assert_allclose(draw(guidance=weight), truth, atol=1e-5)
    np.testing.assert_allclose(
        draw(guidance=3.0, guidance_interval=(0.1, 0.9)), conditional, atol=1e-5
    )


def test_clipping_bounds_the_sample():
    family, variables = model()
    draw = jax.jit(
        lambda clip: family.sample(variables, keys(8), steps=4, eta=0.0, clip=clip),
        static_argnums=0,
    )
    assert np.abs(draw(True)).max() <= 1.0 + 1e-6 < np.abs(draw(False)).max()


@pytest.mark.slow
def test_a_trajectory_ends_in_the_sample():
    family, variables = model()
    whole = jax.jit(lambda k: family.sample(variables, k, steps=4, trajectory=True))(keys(2))
    plain = jax.jit(lambda k: family.sample(variables, k, steps=4))(keys(2))
    np.testing.assert_allclose(whole.x, plain, atol=1e-6)
    assert whole.x_t.shape == whole.x0.shape == (4, 2, *SHAPE)


@pytest.mark.slow
def test_labels_are_dropped_at_their_rate_in_training_only():
    family, variables = model(classes=CLASSES, condition_dropout=0.3)
    n = 1000
    data = images(n)
    other = {**data, "label": (data["label"] + 1) % CLASSES}

    null = forward(
        family, variables, {**data, "label": jnp.full(n, CLASSES)}, keys(n), train=False
    )["prediction"]

    def share_without_label(train):
        a, b = (forward(family, variables, d, keys(n), train)["prediction"] for d in (data, other))
        without = np.abs(a - b).max((1, 2, 3)) == 0
        # what is left is the null class
        np.testing.assert_allclose(a[without], null[without], atol=1e-5)
        return float(np.mean(without))

    assert share_without_label(True) == pytest.approx(0.3, abs=0.075)  # 5 standard errors
    assert share_without_label(False) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: model(classes=CLASSES)[0].sample(model(classes=CLASSES)[1], keys(2)),
            "conditioned on 'label'",
        ),
        (
            lambda: model()[0].sample(model()[1], keys(2), steps=2, guidance=2.0),
            "condition_dropout > 0",
        ),
        (lambda: model()[0].sample(model()[1], keys(2), steps=21), "longer than the 20 steps"),
        (lambda: model()[0].sample(model()[1], keys(2), steps=2, eta=2.0), "eta must be"),
        (lambda: model(prediction="noize"), "did you mean noise"),
        (lambda: model(condition_dropout=1.0), "condition_dropout"),
        (lambda: model(schedule="liner"), "did you mean linear"),
    ],
)
def test_bad_input_is_refused_before_it_costs_time(call, message):
    with pytest.raises(InputError, match=message):
        call()
