"""The diffusion wiring's sampling options: solvers, grids and schedules of ones own, a start from
an image.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import families
from jaxgen.calls import Call
from jaxgen.config import default
from jaxgen.diffusion import schedule as schedules
from jaxgen.diffusion import solvers
from jaxgen.errors import InputError
from jaxgen.families import base
from jaxgen.losses import denoising
from tests.support import close, images, keys

SHAPE = (4, 4, 1)


@functools.cache
def model(path=None, **schedule):
    config = default()
    config.family = "diffusion"
    config.data.update(image_shape=SHAPE)
    config.model.update(
        schedule=path or schedule or dict(name="linear", steps=20, end=0.5), prediction="v",
        denoiser=dict(name="mlp_denoiser", width=8, depth=1, embedding=4),
    )  # fmt: skip
    family = families.build(config)
    variables = family.init(jax.random.key(0), {"x": jnp.zeros((1, *SHAPE))})
    return family, jax.tree.map(lambda p: p + 0.2, variables)


def draw(options, initial=None, of=model):
    family, variables = of()
    return np.asarray(
        jax.jit(lambda k: family.sample(variables, k, initial=initial, **options))(keys(2))
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({"solver": "heun", "steps": 3}, 5),
        ({"solver": "ddim", "steps": 3}, 3),
        ({"solver": {"name": "ddim", "eta": 0.5}, "steps": 2}, 2),
        ({"solver": "heun", "grid": (0.5, 0.2, 0.1, 0.0)}, 5),
        ({"grid": {"name": "karras", "rho": 3.0}, "steps": 4}, 4),
    ],
)
def test_nfe_is_the_number_of_network_calls(options, calls, monkeypatch):
    family, variables = model()
    called, apply = [], base.Net.__call__

    def counted(net, *arguments, **keywords):
        jax.debug.callback(lambda: called.append(1))
        return apply(net, *arguments, **keywords)

    monkeypatch.setattr(base.Net, "__call__", counted)
    jax.block_until_ready(family.sample(variables, keys(2), **options))
    jax.effects_barrier()
    assert len(called) == family.nfe(**options) == calls


@pytest.mark.slow
def test_eta_and_variance_are_the_solvers_own():
    plain = draw({"steps": 4})
    np.testing.assert_array_equal(plain, draw({"steps": 4, "solver": "ddim", "eta": 1.0}))
    np.testing.assert_array_equal(plain, draw({"steps": 4, "solver": solvers.ddim(1.0)}))
    ddim = draw({"steps": 4, "solver": "ddim"})
    np.testing.assert_array_equal(ddim, draw({"steps": 4, "eta": 0.0}))
    assert np.abs(ddim - plain).max() > 1e-3
    assert np.abs(draw({"steps": 4, "variance": "beta"}) - plain).max() > 1e-3


def test_sampling_may_begin_at_an_image_with_noise():
    family, _ = model()
    grid, image = (0.2, 0.1, 0.0), np.float32(images(0, 2, *SHAPE) / 127.5 - 1)
    x_t = family.path.alpha(0.2) * image
    x = draw({"grid": grid, "solver": "ddim"}, np.float32(x_t))
    assert np.abs(x - draw({"grid": grid, "solver": "ddim"}, np.float32(-x_t))).max() > 0.1
    with pytest.raises(InputError, match="initial must be x at time 0.2 for each key"):
        draw({"grid": grid}, np.float32(x_t[:1]))


@pytest.mark.slow
def test_betas_and_schedules_of_ones_own():
    betas = tuple(np.linspace(1e-4, 0.5, 20))
    named = functools.partial(model, name="betas", betas=betas)
    np.testing.assert_array_equal(draw({"steps": 4}, of=named), draw({"steps": 4}))
    own = functools.partial(model, schedules.discrete(betas)._replace(name="own"))
    assert own()[0].path.name == "own"
    np.testing.assert_array_equal(draw({"steps": 4}, of=own), draw({"steps": 4}))


def test_a_weighting_finds_what_it_needs_in_the_outputs():
    family, variables = model()
    batch = {"x": np.float32(images(0, 4, *SHAPE) / 127.5 - 1)}
    terms = denoising.denoising("min_snr", gamma=2.0), denoising.denoising()

    @jax.jit
    def losses(k):
        outputs, _ = family.forward(variables, batch, Call(True, k))
        return [term(outputs) for term in terms] + [outputs["time"]]

    weighted, plain, time = map(np.float64, losses(keys(4)))
    snr = np.exp(schedules.log_snr(family.path, np.round(time * 20) / 20))
    close(weighted / plain * (snr + 1) / np.minimum(snr, 2), np.ones(4), dtype=np.float32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "huen"}, "did you mean heun"),
        ({"solver": "heun", "eta": 1.0}, "solver 'heun' has no option 'eta'"),
        ({"solver": "heun", "variance": "beta"}, "solver 'heun' has no option 'variance'"),
        ({"eta": np.nan}, "eta must be"),
        ({"steps": 0}, "steps must be"),
        ({"steps": 2.5}, "steps must be"),
        ({"guidance": np.nan}, "guidance must be a finite number"),
        ({"guidance_interval": (0.6, 0.3)}, "guidance_interval's high must be"),
        ({"guidance_interval": 0.3}, "guidance_interval must be two times"),
        ({"grid": "trialing"}, "did you mean trailing"),
        ({"grid": (0.5, 0.7, 0.0)}, "strictly decreasing"),
        ({"grid": (0.5, 0.0), "steps": 9}, "2 times, which are 1 steps; steps=9"),
        ({"clip": 3}, "'clip' must be True or False"),
    ],
)
def test_options_without_sense_are_named_before_they_cost_time(options, message):
    family, variables = model()
    for call in (family.nfe, functools.partial(family.sample, variables, keys(2))):
        with pytest.raises(InputError, match=message):
            call(**{"steps": 4, **options} if "grid" not in options else options)
