"""Wiring: a denoiser on a noising path (Ho et al. 2020). Network: denoiser.

One path, one prediction and one sampler cover DDPM, v-prediction and flow matching; they differ in
the config only."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import draws, networks, ranges
from jaxgen.diffusion import guidance, likelihood, prediction, sampler, schedule
from jaxgen.errors import InputError
from jaxgen.families import base
from jaxgen.families.base import Family, LogProb, named_key
from jaxgen.ranges import Fraction

OPTIONS = ("schedule", "prediction", "label_dropout", "denoiser")  # of config.model
OPTIONAL = ("label_dropout",)
SAMPLE_OPTIONS = {
    "steps": 1000,  # network calls along the grid
    "grid": "trailing",
    "eta": 1.0,  # 1: DDPM, 0: DDIM
    "variance": "posterior",  # or beta
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


def build(model, image_shape: tuple[int, int, int], num_classes: int, dtype=jnp.float32) -> Family:
    """A diffusion model from `model`: {schedule: {name, ...}, prediction, label_dropout, denoiser:
    {name, ...}}.

    Outputs of `forward`: prediction, target, noise, x_t, x0_hat, time, and the closures
    weight(kind, **options) and variational_bound(). log_prob is the bound on the probability of the
    uint8 image."""
    path = schedule.build(where="config.model.schedule", **model.schedule)
    kind, drop = model.prediction, model.get("label_dropout", 0.0)
    ranges.check("config.model.label_dropout", Fraction, drop)
    prediction.coefficients(kind, 1.0, 0.0)  # an unknown name must not wait for the first step
    if path.steps is not None:
        prediction.check(kind, path, np.array([1.0, 0.0]))  # t = 1 is trained on
    denoiser = networks.build(
        where="config.model.denoiser", **model.denoiser, num_classes=num_classes, dtype=dtype
    )

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
            "weight": lambda weighting, **options: likelihood.weights(
                weighting, path, time, kind, **options
            ),
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

    def sample(variables, keys, label=None, **options):
        base.check_label(num_classes, label)
        o = {**SAMPLE_OPTIONS, **options}
        times = schedule.grid(path, o["grid"], o["steps"])
        prediction.check(kind, path, times)
        network = guided(variables, label, o["guidance"], tuple(o["guidance_interval"]))
        return sampler.sample(
            denoise_with(network, o["clip"]), keys, image_shape, path, times,
            eta=o["eta"], variance=o["variance"], trajectory=o["trajectory"],
        )  # fmt: skip

    def nfe(**options):
        o = {**SAMPLE_OPTIONS, **options}
        return o["steps"] * (1 if o["guidance"] == 1.0 else 2)

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
