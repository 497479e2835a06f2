"""What a model says of held-out images: their likelihood, and how well it reconstructs them."""

from typing import Any

import jax
import numpy as np

from jaxgen import data, draws, programs
from jaxgen.artefact import Artefact
from jaxgen.evaluation import metrics
from jaxgen.ranges import call_with_options


def log_probability(model: Artefact, source: data.Table) -> dict[str, Any] | None:
    """Nats per held-out image, or None for a system without a likelihood or a config that does not
    ask for it.
    """
    spec, family = model.config.evaluation, model.family
    count, options = spec.log_prob_images, dict(spec.log_prob)
    if family.log_prob is None or not count:
        return None
    kinds: dict[str, Any] = {}

    def nats(batch, keys):
        result = call_with_options(
            "config.evaluation.log_prob", family.log_prob, options, model.variables, batch, keys
        )
        kinds.update(kind=result.kind, of=result.of)
        return result.nats

    values = -_over(model, source, count, nats).astype(np.float64)
    dimensions = int(np.prod(source.images.shape[1:]))
    bits = metrics.bits_per_dimension(values.mean(), dimensions)
    # a density of dequantised images: a grey level is 1/127.5 wide (Theis et al. 2016)
    if kinds["of"] == "gaussian":
        bits += float(np.log2(127.5))
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    return {
        "nats": float(values.mean()),
        "standard_error": error,
        "bits_per_dimension": bits,
        "images": len(values),
        "options": options,
        **kinds,
    }


def reconstruction(model: Artefact, source: data.Table) -> dict[str, float]:
    """{"mse", "psnr", "ssim"}: means over held-out images of what their codes decode to; empty
    without an encoder.
    """
    family, variables = model.family, model.variables
    if family.encode is None or family.decode is None or model.space.name != "pixels":
        return {}

    def decoded(batch, keys):
        condition = family.data.conditions.of(batch)
        latents = family.encode(variables, batch, keys)
        return model.space.leave(family.decode(variables, latents, condition))

    count = min(model.config.evaluation.num, len(source))
    images, found = source.images[:count], _over(model, source, count, decoded)
    error = metrics.mean_squared_error(images, found)
    # a perfect reconstruction's ratio would be infinite: 8 bits can tell half a grey level at best
    ratio = np.minimum(metrics.psnr(images, found), 10 * np.log10(255.0**2 / 0.25))
    return {
        "mse": float(error.mean()),
        "psnr": float(ratio.mean()),
        "ssim": float(metrics.ssim(images, found).mean()),
    }


def _over(model: Artefact, source: data.Table, count: int, function) -> np.ndarray:
    """function(batch, keys) of the first `count` examples, compiled; key i is example i's."""
    source = source[:count]
    size, values = min(model.config.sample.batch_size, len(source)), []

    @programs.jit
    def run(batch, index):
        keys = draws.of_examples(draws.root(0), index[0], size)
        with jax.default_matmul_precision("highest"):
            return function(model.space.enter(batch, keys), keys)

    for i, batch in enumerate(data.eval_batches(source, size)):
        mask = batch.pop("mask")
        values.append(np.asarray(run(batch, np.arange(i * size, (i + 1) * size)))[mask])
    return np.concatenate(values)
