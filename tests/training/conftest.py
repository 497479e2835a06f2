"""Three tiny systems on the digits, one of each family, compiled once for all tests."""

import functools

import jax
import numpy as np
import pytest

from jaxgen import data, families
from jaxgen.config import default, player
from jaxgen.training import dispatch, parallel, players, state, step


def _vae(config):
    config.family = "autoencoder"
    config.model.update(
        latent=2,
        likelihood=dict(name="gaussian", scale="global"),
        encoder=dict(name="mlp_encoder", hidden=(32,)),
        decoder=dict(name="mlp_decoder", hidden=(32,)),
    )
    terms = dict(reconstruction=dict(), kl=dict())
    config.players.model = player(terms, networks=("encoder", "decoder"), learning_rate=1e-3)


def _gan(config):
    """With two critic updates a step and spectral normalisation, whose vectors are state without
    gradients.
    """
    config.family = "adversarial"
    config.conditional = True
    config.model.update(
        latent=4,
        generator=dict(name="mlp_decoder", hidden=(16,)),
        critic=dict(name="mlp_critic", hidden=(16,), spectral_norm=True),
    )
    config.players.critic = player(dict(critic=dict()), updates=2, learning_rate=1e-3)
    config.players.generator = player(dict(adversarial=dict()), learning_rate=1e-3)


def _diffusion(config):
    config.family = "diffusion"
    config.model.update(
        schedule=dict(name="cosine"),
        prediction="v",
        denoiser=dict(name="mlp_denoiser", width=32, depth=1),
    )
    config.players.denoiser = player(dict(denoising=dict()), learning_rate=1e-3)
    config.sample.options.steps = 2


def tiny_config(name: str):
    """8 steps on the digits, everything logged, nothing else on."""
    config = default()
    config.name = name
    config.data.update(source="digits", image_shape=(8, 8, 1), num_classes=10)
    config.train.update(steps=8, batch_size=16, log_every=1, steps_per_dispatch=LONGEST)
    config.checkpoint.every = 100
    config.ema.rates = (0.9, 0.99)
    {"vae": _vae, "gan": _gan, "diffusion": _diffusion}[name](config)
    return config


LONGEST = 3  # steps in a call, the same everywhere: a program that was compiled once serves again
DEVICES = {
    "one device": parallel.one_device,
    "jit": parallel.build,
    "fsdp": lambda: parallel.build(fsdp=-1, min_size=64),
    "pmap": lambda: parallel.build("pmap"),
}


class Compiled:
    """A tiny system on devices: its data, and its train step in calls of up to LONGEST steps."""

    def __init__(self, name: str, kind: str, config=None):
        self.config = config or tiny_config(name)
        self.devices = DEVICES[kind]()
        self.family = families.build(self.config)
        self.players = players.build(self.config, self.family)
        self.per_step = players.batches_per_step(self.players)
        self.examples = self.per_step * self.config.train.batch_size
        self.source = data.from_config(self.config, "train").everything()
        self.feed = dispatch.resident(self.source, self.config, self.per_step, self.devices)
        self.step = step.build(self.config, self.family, self.players, self.devices)
        self.costs = []
        self.longest = self.config.train.steps_per_dispatch
        self.steps = dispatch.build(
            self.step, self.feed, self.examples, self.longest, self.devices, self.costs.append
        )

    def create(self):
        """The global state at step 0."""
        return self.devices.create(state.initial(self.config, self.family, self.players))

    def run(self, *counts):
        """(state, metrics of each step) after calls of so many steps, from step 0."""
        now, history = self.devices.enter(self.create()), []
        for count in counts:
            now, metrics = self.steps(now, count)
            history += [{k: float(v[i]) for k, v in metrics.items()} for i in range(count)]
        return jax.device_get(self.devices.leave(now)), history

    def text(self) -> str:
        """The compiled program that `run` calls."""
        calls = dispatch.several_steps(self.step, self.feed, self.examples, self.longest)
        arguments = self.feed.load(LONGEST), self.devices.replicate(np.int32(LONGEST))
        run = self.devices.compile(calls)
        return run.lower(self.devices.enter(self.create()), *arguments).compile().as_text()


@pytest.fixture(scope="session")
def compiled():
    """(system, devices) -> Compiled, the same for all tests."""
    return functools.cache(Compiled)


@pytest.fixture
def tiny():
    """(system) -> its config."""
    return tiny_config
