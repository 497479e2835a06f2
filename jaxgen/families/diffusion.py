"""Wiring: a denoiser on a noising path (Ho et al. 2020). Network: denoiser.

One path, one prediction and one sampler cover DDPM, v-prediction and flow matching; they differ in
the config only.
"""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxgen import draws, networks
from jaxgen.calls import Call
from jaxgen.diffusion import grids, guidance, likelihood, prediction, sampler, schedule, solvers
from jaxgen.errors import InputError
from jaxgen.families.base import Data, Family, LogProb, Net
from jaxgen.ranges import Count, Section, one_of

Prediction = Annotated[str, one_of(prediction.KINDS)]

DENOISE_OPTIONS = {
    "clip": True,  # predicted images to [-1, 1]
    "guidance": 1.0,  # classifier-free guidance weight; 1: off
    "guidance_interval": (0.0, 1.0),  # times at which it acts
}
SAMPLE_OPTIONS = {
    "steps": 1000,  # along the grid
    "grid": "trailing",  # or {name, **options}, or all times from t to 0 (with steps to match)
    "solver": "ddpm",  # ddim, heun, "package.module:attribute", {name, **options}
    "eta": None,  # of ddim and ddpm, by default 0 and 1
    "variance": None,  # of ddim and ddpm: posterior (by default) or beta
    **DENOISE_OPTIONS,
    "trajectory": False,  # also return x_t and the predicted x_0 of every step
    "initial": None,  # x at the first time of the grid; None: noise
}


class Parts(NamedTuple):
    """data: of the family. path: alpha and sigma. prediction: what the denoiser puts out."""

    data: Data
    path: schedule.Schedule
    prediction: str
    denoiser: Net


def build(
    data: Data, *, schedule: Section | schedule.Schedule, prediction: Prediction, denoiser: Section
) -> Family:
    """A diffusion model from `config.model`: {schedule: {name, ...}, prediction, denoiser: {...}}.

    Outputs of `forward`: prediction, target, noise, x_t, x0_hat, fake (x0_hat under the name that
    a critic looks for), time, alpha, sigma, keys, prediction_kind (a function of alpha and sigma)
    and the closure variational_bound(). log_prob is the bound on the probability of the uint8
    image.
    """
    parts = make_parts(data, schedule, prediction, denoiser)
    return Family(
        name="diffusion",
        networks=("denoiser",),
        data=data,
        init=partial(init, parts),
        forward=partial(forward, parts),
        sample=partial(sample, parts),
        sample_options=SAMPLE_OPTIONS,
        nfe=partial(nfe, parts),
        log_prob=None if parts.path.steps is None else partial(log_prob, parts),
        denoise=partial(denoise, parts),
        path=parts.path,
        recomputed=("denoiser",) if parts.denoiser.recomputed else (),
    )


def make_parts(data: Data, path, kind: str, denoiser) -> Parts:
    """The parts that these options of `config.model` describe. Raises InputError for bad ones."""
    if not isinstance(path, schedule.Schedule):
        path = schedule.build(where="config.model.schedule", **path)
    prediction.coefficients(kind, 1.0, 0.0)  # an unknown name must not wait for the first step
    if path.steps is not None:
        prediction.check(kind, path, np.array([1.0, 0.0]))  # t = 1 is trained on
    module = networks.build(**denoiser, where="config.model.denoiser", **data.common)
    return Parts(data, path, kind, Net("denoiser", module))


def init(parts: Parts, key, batch):
    time = jnp.ones(batch["x"].shape[0])
    return parts.denoiser.init(key, batch["x"], time, parts.data.conditions.of(batch))


def training_times(path: schedule.Schedule, keys):
    """Uniform times: on k/T, k = 1..T, of a discrete schedule, else on (0, 1)."""
    uniform = draws.uniform(keys)
    if path.steps is None:
        return jnp.clip(uniform, 1e-5, 1.0 - 1e-5)  # the ends are singular for some predictions
    return (jnp.minimum(jnp.floor(uniform * path.steps), path.steps - 1) + 1.0) / path.steps


def forward(parts: Parts, variables, batch, call: Call):
    time = training_times(parts.path, call.named("time").keys)
    noise = draws.normal(call.named("noise").keys, batch["x"].shape[1:])
    return forward_at(parts, variables, batch, call, time, noise)


def forward_at(parts: Parts, variables, batch, call: Call, time, noise):
    """`forward` at given times [B] and noise."""
    x0, path, kind = batch["x"], parts.path, parts.prediction
    condition = parts.data.conditions.of(batch)
    if call.train:
        condition = parts.data.conditions.drop(condition, call.keys)
    x_t = schedule.perturb(path, x0, noise, time)
    out = parts.denoiser(variables, x_t, time, condition, call=call)
    alpha, sigma = path.alpha(time), path.sigma(time)
    x0_hat, _ = prediction.solve(kind, x_t, out, alpha, sigma)
    outputs = {
        "prediction": out,
        "target": prediction.target(kind, x0, noise, alpha, sigma),
        "noise": noise,
        "x_t": x_t,
        "x0_hat": x0_hat,
        "fake": x0_hat,
        "time": time,
        "alpha": alpha,
        "sigma": sigma,
        "prediction_kind": partial(prediction.coefficients, kind),
        "variational_bound": lambda: likelihood.vlb_estimate(x0, x0_hat, time, path),
        "keys": call.keys,
    }
    return outputs, variables["state"]


def denoise(parts: Parts, variables, x_t, time, condition=None, **options):
    """(x_0, noise) that the model sees in x_t at `time`, a scalar or one per example.

    options: clip, guidance, guidance_interval; see DENOISE_OPTIONS. All inverse use goes through
    this function and the sampler.
    """
    o = {**DENOISE_OPTIONS, **options}

    def network(x_t, time, condition=condition):
        return parts.denoiser(variables, x_t, jnp.broadcast_to(time, x_t.shape[:1]), condition)

    def solve(x_t, time):
        path = parts.path
        out = guided(parts, network, condition, o)(x_t, time)
        return prediction.solve(parts.prediction, x_t, out, path.alpha(time), path.sigma(time))

    return (guidance.clip(solve, parts.path) if o["clip"] else solve)(x_t, time)


def guided(parts: Parts, network, condition, options: dict[str, Any]):
    """`network` with classifier-free guidance where the options ask for it."""
    weight, interval = options["guidance"], tuple(options["guidance_interval"])
    if weight == 1.0:
        return network
    conditions = parts.data.conditions
    if condition is None or not any(kind.drop for kind in conditions.kinds):
        raise InputError(
            "guidance needs a conditional model trained with config.model.condition_dropout > 0"
        )
    everywhere = interval == (0.0, 1.0)
    return guidance.classifier_free(
        network,
        condition,
        conditions.null_like(condition),
        weight,
        None if everywhere else interval,
    )


def sample(parts: Parts, variables, keys, condition=None, **options):
    parts.data.conditions.check(condition)
    o, times, solver = plan(parts, options)
    prediction.check(parts.prediction, parts.path, times)
    chosen = {name: o[name] for name in DENOISE_OPTIONS}
    return sampler.sample(
        lambda x_t, time: denoise(parts, variables, x_t, time, condition, **chosen),
        solver,
        keys,
        parts.data.shape,
        parts.path,
        times,
        initial=o["initial"],
        trajectory=o["trajectory"],
    )


def plan(parts: Parts, options) -> tuple[dict[str, Any], np.ndarray, solvers.Solver]:
    """All sampling options, the grid and the solver. Raises InputError for bad ones."""
    o = {**SAMPLE_OPTIONS, **options}
    guidance.check(o["guidance"], o["guidance_interval"])
    for name in ("clip", "trajectory"):
        if not isinstance(o[name], bool):
            raise InputError(f"sampling option '{name}' must be True or False, not {o[name]!r}")
    named = isinstance(o["grid"], str | Mapping)
    times = grids.grid(parts.path, o["grid"], o["steps"] if named else options.get("steps"))
    given = {name: o[name] for name in ("eta", "variance") if o[name] is not None}
    return o, times, solvers.build(o["solver"], **given)


def nfe(parts: Parts, **options) -> int:
    o, times, solver = plan(parts, options)
    return solver.nfe(len(times) - 1) * (1 if o["guidance"] == 1.0 else 2)


def log_prob(parts: Parts, variables, batch, keys, num_times: Count | None = None):
    """The variational bound, over `num_times` steps of the path or all of them."""
    condition = parts.data.conditions.of(batch)
    nats = likelihood.negative_elbo(
        lambda x_t, time: denoise(parts, variables, x_t, time, condition),
        parts.path,
        batch["x"],
        keys,
        num_times=num_times,
    )
    return LogProb(-nats, "lower bound", "uint8")
