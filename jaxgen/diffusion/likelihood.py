"""The variational bound of discrete diffusion (Ho et al. 2020, eq. 5) in nats.

-log p(x_0) <= KL(q(x_T|x_0) || N(0, 1)) + sum_{k>=2} E KL(q(x_{k-1}|x_k, x_0) || p(x_{k-1}|x_k)) -
E log p(x_0|x_1)

where p(x_{k-1}|x_k) has the posterior's variance and, as its mean, the posterior's mean for the
predicted x_0. x_0 are images on the 256 levels l / 127.5 - 1, so the bound is one on the
probability of the uint8 image."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float, Float64, Int, Key

from jaxgen import draws
from jaxgen.diffusion.schedule import Schedule, log_snr, perturb
from jaxgen.diffusion.solvers import Denoise
from jaxgen.errors import InputError
from jaxgen.ranges import check_number

TIMES, NOISE = 0, 1  # the separate uses of an example's key


def negative_elbo(
    denoise: Denoise,
    schedule: Schedule,
    x0: Float[Array, "B H W C"],
    keys: Key[Array, "B"],
    *,
    num_times: int | None = None,
) -> Float[Array, "B"]:
    """The bound in nats per example, with one draw of x_t per term.

    By default the sum over all T steps: T calls of `denoise(x_t, t)` with a scalar t. With
    `num_times`, an unbiased estimate from so many calls with t [B]: each example draws its steps,
    one from each of num_times equal strata. Raises InputError if the schedule is continuous or
    num_times is not in 1..T."""
    total = _total(schedule)
    count = total if num_times is None else num_times
    check_number("num_times", count, 1, total, whole=True)
    if num_times is None:
        steps = jnp.arange(1, total + 1)
    else:
        uniform = draws.uniform(draws.fold(keys, TIMES), (count,))
        steps = jnp.floor((jnp.arange(count) + uniform) * (total / count)).astype(jnp.int32).T
        steps = jnp.minimum(steps, total - 1) + 1
    noise_keys = draws.fold(keys, NOISE)

    def add(nats: Array, inputs: tuple[Array, Array]) -> tuple[Array, None]:
        position, step = inputs
        time = step / jnp.float32(total)
        noise = draws.normal(draws.fold(noise_keys, position), x0.shape[1:])
        predicted, _ = denoise(perturb(schedule, x0, noise, time), time)
        return nats + vlb_term(x0, predicted, step, schedule), None

    nats, _ = jax.lax.scan(add, jnp.zeros(x0.shape[0]), (jnp.arange(count), steps))
    return prior_kl(x0, schedule) + nats * (total / count)


def vlb_estimate(
    x0: Float[Array, "B ..."],
    x0_hat: Float[Array, "B ..."],
    time: Float[Array, "B"],
    schedule: Schedule,
) -> Float[Array, "B"]:
    """The bound's unbiased estimate from one time per example, drawn uniformly from 1/T ... T/T: T
    term + prior.
    """
    total = _total(schedule)
    step = jnp.round(time * total).astype(jnp.int32)
    return total * vlb_term(x0, x0_hat, step, schedule) + prior_kl(x0, schedule)


def vlb_term(
    x0: Float[Array, "B ..."],
    x0_hat: Float[Array, "B ..."],
    step: Int[Array, "*B"],
    schedule: Schedule,
) -> Float[Array, "B"]:
    """The term of step k in 1..T (a scalar or one per example), given the x_0 predicted from x_k.

    k >= 2: 1/2 (SNR((k-1)/T) - SNR(k/T)) |x_0 - x0_hat|^2 (Kingma et al. 2021, eq. 14), which is Ho
    et al.'s KL; k = 1: -log p(x_0|x_1), a Gaussian of mean x0_hat and variance beta_1, discretised
    (Ho et al. 2020, eq. 13)."""
    weight = jnp.asarray(_kl_weights(schedule), jnp.float32)[step]
    kl = weight * _sum(jnp.square(x0 - x0_hat))
    decoder = -_sum(discretised_gaussian(x0, x0_hat, float(schedule.sigma(1 / _total(schedule)))))
    return jnp.where(step == 1, decoder, kl)


def prior_kl(x0: Float[Array, "B ..."], schedule: Schedule) -> Float[Array, "B"]:
    """KL(q(x_T | x_0) || N(0, 1)) in nats."""
    alpha, variance = float(schedule.alpha(1.0)), float(schedule.sigma(1.0)) ** 2
    return _sum((jnp.square(alpha * x0) + (variance - 1 - np.log(variance))) / 2)


def discretised_gaussian(
    x: Float[Array, "..."], mean: Float[Array, "..."], std: float | Float[Array, "..."]
) -> Float[Array, "..."]:
    """log P of the level x = l / 127.5 - 1, l in 0..255, under N(mean, std^2); the outermost levels
    have the tails.
    """
    # A finite stand-in for infinity keeps the gradients finite.
    lower = jnp.where(x < -0.999, -1e6, (x - 1 / 255 - mean) / std)
    upper = jnp.where(x > 0.999, 1e6, (x + 1 / 255 - mean) / std)
    # In the right tail both distribution functions round to 1, so every bin is looked at from its
    # far side.
    flip = lower + upper > 0
    near, far = log_ndtr(jnp.where(flip, -lower, upper)), log_ndtr(jnp.where(flip, -upper, lower))
    return near + _log1mexp(near - far)


def _kl_weights(schedule: Schedule) -> Float64[np.ndarray, "times"]:
    """(SNR((k-1)/T) - SNR(k/T)) / 2 at k >= 2; k = 0 and 1 have no such term."""
    snr = np.exp(log_snr(schedule, np.arange(1, _total(schedule) + 1) / _total(schedule)))
    return np.concatenate([[0.0, 0.0], -np.diff(snr) / 2])


def _total(schedule: Schedule) -> int:
    if schedule.steps is None:
        raise InputError(
            f"the variational bound needs a discrete schedule ('linear', 'cosine'), not "
            f"{schedule.name!r}"
        )
    return schedule.steps


def _sum(values: Float[Array, "B ..."]) -> Float[Array, "B"]:
    return values.reshape(values.shape[0], -1).sum(-1)


def _log1mexp(d: Float[Array, "..."]) -> Float[Array, "..."]:
    """log(1 - exp(-d)) for d > 0, exact at both ends."""
    return jnp.where(d < np.log(2), jnp.log(-jnp.expm1(-d)), jnp.log1p(-jnp.exp(-d)))
