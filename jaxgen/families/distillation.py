"""Wiring: progressive distillation (Salimans & Ho 2022). Networks: denoiser and the frozen teacher.

The student learns to go in one DDIM step as far as the teacher, a diffusion model of the same
networks, goes in two. It samples as any diffusion model, in `steps` steps.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxgen import draws
from jaxgen.calls import Call
from jaxgen.diffusion import prediction, schedule
from jaxgen.families import diffusion
from jaxgen.families.base import Data, Family, Net, merge
from jaxgen.ranges import Count, Section


class Parts(NamedTuple):
    """student: a diffusion model. teacher: its frozen network. steps: the student's from noise to
    data. clip: whether the teacher's predicted images are clipped to [-1, 1]."""

    student: diffusion.Parts
    teacher: Net
    steps: int
    clip: bool


def build(
    data: Data,
    *,
    schedule: Section,
    prediction: diffusion.Prediction,
    denoiser: Section,
    steps: Count,
    clip: bool = True,
) -> Family:
    """A student of `steps` steps from `config.model`; the teacher's weights are named by
    `config.pretrained.teacher`, and those that the student begins with by `.denoiser`.

    Outputs of `forward`: prediction, target, alpha, sigma, prediction_kind, x_t, x0_hat, fake,
    time, keys.
    """
    student = diffusion.make_parts(data, schedule, prediction, denoiser)
    parts = Parts(student, Net("teacher", student.denoiser.module), steps, clip)
    options = {**diffusion.SAMPLE_OPTIONS, "steps": steps, "eta": 0.0}
    return Family(
        name="distillation",
        networks=("denoiser", "teacher"),
        data=data,
        init=partial(init, parts),
        forward=partial(forward, parts),
        sample=partial(sample, parts, options),
        sample_options=options,
        nfe=lambda **given: diffusion.nfe(parts.student, **{**options, **given}),
        denoise=partial(diffusion.denoise, student),
        path=student.path,
        recomputed=("denoiser",) if student.denoiser.recomputed else (),
    )


def init(parts: Parts, key, batch):
    teacher = parts.student._replace(denoiser=parts.teacher)
    return merge(diffusion.init(parts.student, key, batch), diffusion.init(teacher, key, batch))


def forward(parts: Parts, variables, batch, call: Call):
    student, x0 = parts.student, batch["x"]
    path, kind = student.path, student.prediction
    condition = student.data.conditions.of(batch)
    if call.train:
        condition = student.data.conditions.drop(condition, call.keys)
    uniform = jax.vmap(jax.random.uniform)(call.named("time").keys)
    time = (jnp.floor(uniform * parts.steps) + 1.0) / parts.steps
    x_t = schedule.perturb(path, x0, draws.normal(call.named("noise").keys, x0.shape[1:]), time)

    teacher = student._replace(denoiser=parts.teacher)
    middle, end = time - 0.5 / parts.steps, jnp.maximum(time - 1.0 / parts.steps, 0.0)
    x_end = x_t
    for start, stop in ((time, middle), (middle, end)):
        x, noise = diffusion.denoise(teacher, variables, x_end, start, condition, clip=parts.clip)
        x_end = schedule.perturb(path, x, noise, stop)
    alpha, sigma = path.alpha(time), path.sigma(time)
    wanted = one_step(path, x_t, x_end, time, end)
    noise = (x_t - schedule.expand(alpha, x_t) * wanted) / schedule.expand(sigma, x_t)

    out = student.denoiser(variables, x_t, time, condition, call=call)
    x0_hat, _ = prediction.solve(kind, x_t, out, alpha, sigma)
    outputs = {
        "prediction": out,
        "target": prediction.target(kind, wanted, noise, alpha, sigma),
        "alpha": alpha,
        "sigma": sigma,
        "prediction_kind": partial(prediction.coefficients, kind),
        "x_t": x_t,
        "x0_hat": x0_hat,
        "fake": x0_hat,
        "time": time,
        "keys": call.keys,
    }
    return outputs, variables["state"]


def one_step(path: schedule.Schedule, x_t, x_s, time, earlier):
    """The x_0 whose DDIM step from x_t at `time` ends in x_s at `earlier` (their appendix G)."""
    ratio = path.sigma(earlier) / path.sigma(time)
    alpha = path.alpha(earlier) - ratio * path.alpha(time)
    return (x_s - schedule.expand(ratio, x_t) * x_t) / schedule.expand(alpha, x_t)


def sample(parts: Parts, defaults, variables, keys, condition=None, **options):
    return diffusion.sample(parts.student, variables, keys, condition, **{**defaults, **options})
