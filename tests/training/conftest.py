"""The tiny systems on devices, compiled once for all tests."""

import functools

import jax
import numpy as np
import pytest

from jaxgen import data, families
from jaxgen.training import dispatch, parallel, players, state, step
from tests.tiny import tiny

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
        self.config = config or tiny(name)
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


@pytest.fixture(name="tiny")
def tiny_configs():
    """(system) -> its config."""
    return tiny


@pytest.fixture
def one_device(monkeypatch):
    """Only the first device is there."""
    first = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *arguments: first)
    monkeypatch.setattr(jax, "device_count", lambda: 1)
