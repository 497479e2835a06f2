"""What the tests of this room share: Gaussian data, whose predictions and flow are closed forms."""

import jax.numpy as jnp
import numpy as np

from jaxgen.diffusion import schedule as schedules

MEAN, STD = 0.4, 0.3
LINEAR = schedules.build("linear")
RECTIFIED = schedules.build("rectified")
EDM = schedules.Schedule("edm", lambda time: 1.0 + 0 * time, lambda time: 4.0 * time)


def denoiser(schedule, mean=MEAN, std=STD):
    """E[x_0 | x_t] and E[noise | x_t] for data N(mean, std^2)."""

    def denoise(x, t):
        t = t[:, None, None, None] if jnp.ndim(t) else t
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        residual = (x - alpha * mean) / (alpha**2 * std**2 + sigma**2)
        return mean + alpha * std**2 * residual, sigma * residual

    return denoise


def flow(schedule, x, time, until):
    """x carried along the probability flow from `time` to `until`, in float64: (x_t - alpha mean) /
    std(x_t) stays constant.
    """
    (a_t, s_t), (a_s, s_s) = (
        (schedule.alpha(t), schedule.sigma(t)) for t in (np.float64(time), np.float64(until))
    )
    scale = np.hypot(a_s * STD, s_s) / np.hypot(a_t * STD, s_t)
    return a_s * MEAN + scale * (np.float64(x) - a_t * MEAN)
