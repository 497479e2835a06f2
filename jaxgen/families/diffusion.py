"""Wiring: a denoiser on a noising path (Ho et al. 2020). Network: denoiser.

One path, one prediction and one sampler cover DDPM, v-prediction and flow matching; they differ in
the config only."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import draws, networks
from jaxgen.diffusion import grids, guidance, likelihood, prediction, sampler, schedule, solvers
from jaxgen.errors import InputError
from jaxgen.families import base
from jaxgen.families.base import Family, LogProb, named_key

OPTIONS = ("schedule", "prediction", "label_dropout", "denoiser")  # of config.model
OPTIONAL = ("label_dropout",)
SAMPLE_OPTIONS = {
    "steps": 1000,  # along the grid
    "grid": "trailing",  # or {name, **options}, or all times from t to 0 (with steps to match)
    "solver": "ddpm",  # ddim, heun, "package.module:attribute", {name, **options}
    "eta": None,  # of ddim and ddpm, by default 0 and 1
    "variance": None,  # of ddim and ddpm: posterior (by default) or beta
    "clip": True,  # predicted images to [-1, 1]
    "guidance": 1.0,  # classifier-free guidance weight; 1: off
    "guidance_interval": (0.0, 1.0),  # times at which it acts
    "trajectory": False,  # also return x_t and the predicted x_0 of every step
}


def _time_per_example(keys, path: schedule.Schedule):
    """Uniform times: on k/T, k = 1..T, of a discrete schedule, else on (0, 1)."""
    uniform = jax.vmap(jax.random.uniform)(keys)
    if path.steps is None:
        # the ends are singular for some predictions
        return jnp.clip(uniform, 1e-5, 1.0 - 1e-5)
    return (jnp.minimum(jnp.floor(uniform * path.steps), path.steps - 1) + 1.0) / path.steps


def _plan(path: schedule.Schedule, options):
    """(all sampling options, the grid, the solver); raises InputError for values without sense."""
    o = {**SAMPLE_OPTIONS, **options}
    guidance.check(o["guidance"], o["guidance_interval"])
    for name in ("clip", "trajectory"):
        if not isinstance(o[name], bool):
            raise InputError(f"sampling option '{name}' must be True or False, not {o[name]!r}")
    named = isinstance(o["grid"], str | Mapping)
    times = grids.grid(path, o["grid"], o["steps"] if named else options.get("steps"))
    given = {name: o[name] for name in ("eta", "variance") if o[name] is not None}
    return o, times, solvers.build(o["solver"], **given)


def build(model, image_shape: tuple[int, int, int], num_classes: int, dtype=jnp.float32) -> Family:
    """A diffusion model from `model`: {schedule: {name, ...}, prediction, label_dropout, denoiser:
    {name, ...}}.

    Outputs of `forward`: prediction, target, noise, x_t, x0_hat, time, alpha, sigma, and the
    closures prediction_kind(alpha, sigma) and variational_bound(). log_prob is the bound on the
    probability of the uint8 image."""
    path = model.schedule
    path = path if isinstance(path, schedule.Schedule) else schedule.build(**path)
    kind, drop = model.prediction, model.get("label_dropout", 0.0)
    if not 0.0 <= drop < 1.0:
        raise InputError(f"config.model.label_dropout must lie in [0, 1), not {drop}")
    prediction.coefficients(kind, 1.0, 0.0)  # an unknown name must not wait for the first step
    if path.steps is not None:
        prediction.check(kind, path, np.array([1.0, 0.0]))  # t = 1 is trained on
    denoiser = networks.build(**model.denoiser, num_classes=num_classes, dtype=dtype)

    def init(key, batch):
        time = jnp.ones(batch["image"].shape[0])
        return base.init_network(
            key, "denoiser", denoiser, batch["image"], time, base.batch_label(num_classes, batch)
        )

    def drop_label(label, keys):
        """The null class in place of a share of the labels, for classifier-free guidance (Ho &
        Salimans 2022).
        """
        if label is None or not drop:
            return label
        gone = jax.vmap(jax.random.uniform)(keys) < drop
        return jnp.where(gone, num_classes, label)

    def run(variables, x_t, time, label, **keywords):
        return base.apply_network(variables, "denoiser", denoiser, x_t, time, label, **keywords)

    def forward(variables, batch, keys, train):
        x0 = batch["image"]
        time = _time_per_example(named_key(keys, "time"), path)
        noise = draws.normal(named_key(keys, "noise"), x0.shape[1:])
        label = base.batch_label(num_classes, batch)
        label = drop_label(label, named_key(keys, "label")) if train else label
        x_t = schedule.perturb(path, x0, noise, time)
        out = run(variables, x_t, time, label, train=train, keys=named_key(keys, "denoiser"))
        alpha, sigma = path.alpha(time), path.sigma(time)
        x0_hat, _ = prediction.solve(kind, x_t, out, alpha, sigma)
        outputs = {
            "prediction": out,
            "target": prediction.target(kind, x0, noise, alpha, sigma),
            "noise": noise,
            "x_t": x_t,
            "x0_hat": x0_hat,
            "time": time,
            "alpha": alpha,
            "sigma": sigma,
            "prediction_kind": lambda alpha, sigma: prediction.coefficients(kind, alpha, sigma),
            "variational_bound": lambda: likelihood.vlb_estimate(x0, x0_hat, time, path),
            "keys": keys,
        }
        return outputs, variables["state"]

    def denoise_with(network, clip):
        def denoise(x_t, time):
            return prediction.solve(
                kind, x_t, network(x_t, time), path.alpha(time), path.sigma(time)
            )

        return guidance.clip(denoise, path) if clip else denoise

    def network_of(variables, label):
        def network(x_t, time, label=label):
            return run(variables, x_t, jnp.broadcast_to(time, x_t.shape[:1]), label)

        return network

    def guided(variables, label, weight, interval):
        if weight == 1.0:
            return network_of(variables, label)
        if label is None or not drop:
            raise InputError(
                "guidance needs a conditional model trained with config.model.label_dropout > 0"
            )
        return guidance.classifier_free(
            network_of(variables, None),
            label,
            num_classes,
            weight,
            None if interval == (0.0, 1.0) else interval,
        )

    def sample(variables, keys, label=None, *, initial=None, **options):
        base.check_label(num_classes, label)
        o, times, solver = _plan(path, options)
        prediction.check(kind, path, times)
        network = guided(variables, label, o["guidance"], tuple(o["guidance_interval"]))
        return sampler.sample(
            denoise_with(network, o["clip"]), solver, keys, image_shape, path, times,
            initial=initial, trajectory=o["trajectory"],
        )  # fmt: skip

    def nfe(**options):
        o, times, solver = _plan(path, options)
        return solver.nfe(len(times) - 1) * (1 if o["guidance"] == 1.0 else 2)

    def log_prob(variables, batch, keys, num_times: int | None = None):
        network = network_of(variables, base.batch_label(num_classes, batch))
        nats = likelihood.negative_elbo(
            denoise_with(network, True), path, batch["image"], keys, num_times=num_times
        )
        return LogProb(-nats, "lower bound", "uint8")

    return Family(
        networks=("denoiser",),
        init=init,
        forward=forward,
        sample=sample,
        sample_options=SAMPLE_OPTIONS,
        nfe=nfe,
        log_prob=None if path.steps is None else log_prob,
    )
