"""What a model says of held-out images: their likelihood, and how well it reconstructs them."""

from typing import Any

import jax
import numpy as np

from jaxgen import data, programs
from jaxgen.evaluation import metrics
from jaxgen.families.base import Family, Variables


def log_probability(
    config, family: Family, variables: Variables, source: data.Source
) -> dict[str, Any] | None:
    """Nats per held-out image, or None for a system without a likelihood or a config that does not
    ask for it.
    """
    count, options = config.evaluation.log_prob_images, dict(config.evaluation.log_prob)
    if family.log_prob is None or not count:
        return None
    kinds = {}

    def nats(batch, keys):
        result = family.log_prob(variables, batch, keys, **options)
        kinds.update(kind=result.kind, of=result.of)
        return result.nats

    values = -_over(source, count, config.sample.batch_size, nats).astype(np.float64)
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


def reconstruction(
    config, family: Family, variables: Variables, source: data.Source
) -> dict[str, float]:
    """{"mse", "psnr", "ssim"}: means over held-out images of what their codes decode to; empty
    without an encoder.
    """
    if family.encode is None or family.decode is None:
        return {}

    def decoded(batch, keys):
        label = batch.get("label") if config.conditional else None
        return data.to_uint8(family.decode(variables, family.encode(variables, batch, keys), label))

    count = min(config.evaluation.num, len(source.images))
    images, found = source.images[:count], _over(source, count, config.sample.batch_size, decoded)
    error = metrics.mean_squared_error(images, found)
    # a perfect reconstruction's ratio would be infinite: 8 bits can tell half a grey level at best
    ratio = np.minimum(metrics.psnr(images, found), 10 * np.log10(255.0**2 / 0.25))
    return {
        "mse": float(error.mean()),
        "psnr": float(ratio.mean()),
        "ssim": float(metrics.ssim(images, found).mean()),
    }


def _over(source: data.Source, count: int, batch_size: int, function) -> np.ndarray:
    """function(batch, keys) of the first `count` images in compiled batches; image i has key i."""
    source = source._replace(
        images=source.images[:count],
        labels=None if source.labels is None else source.labels[:count],
    )
    size, values = min(batch_size, len(source.images)), []

    @programs.jit
    def run(batch, index):
        keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(index)
        with jax.default_matmul_precision("highest"):
            return function(data.prepare(batch, keys, flip=False), keys)

    for i, batch in enumerate(data.eval_batches(source, size)):
        mask = batch.pop("mask")
        values.append(np.asarray(run(batch, np.arange(i * size, (i + 1) * size)))[mask])
    return np.concatenate(values)
