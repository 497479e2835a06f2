"""What a generative model is to the rest of the library: a `Family` of pure functions.

A wiring owns named networks. Its variables are

    {"params": {network: tree}, "state": {network: tree}}

where "state" holds what gradients do not train (spectral-norm vectors, codebooks). Which *player*
trains which networks is the config's business: a wiring does not know the players.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen import draws
from jaxgen.calls import EVALUATION, Call
from jaxgen.conditions import UNCONDITIONAL, ConditionSpec

Variables = Mapping[str, Any]
Outputs = Mapping[str, Any]


class LogProb(NamedTuple):
    """Nats per example. `kind` is "exact" or "lower bound"; `of` names what is modelled."""

    nats: Float[Array, "B"]
    kind: str
    of: str


class Data(NamedTuple):
    """What a wiring has to know of the data and the precision.

    shape: of one example. conditions: what the networks see beside it. dtype: of the computation.
    """

    shape: tuple[int, ...]
    conditions: ConditionSpec = UNCONDITIONAL
    dtype: Any = jnp.float32

    @property
    def common(self) -> dict[str, Any]:
        """Options of every network."""
        return {"conditions": self.conditions, "dtype": self.dtype}


class Family(NamedTuple):
    """Pure functions; parameters live outside.

    Attributes:
      name: of the wiring.
      networks: names of the networks, i.e. of the sub-trees of the parameters.
      data: shape and conditions.
      init: (key, batch) -> Variables.
      forward: (variables, batch, call) -> (Outputs, new state). batch: "x" float [B, *shape] and
        the condition's columns.
      sample: (variables, keys [N], condition | None, **options) -> [N, *shape]. Sample i depends
        on keys[i] and row i of the condition alone.
      sample_options: the options that `sample` takes, with their defaults.
      nfe: (**options) -> network calls per sample, exactly.
      encode: (variables, batch, keys) -> latents [B, D].
      decode: (variables, latents, condition) -> [B, *shape].
      log_prob: (variables, batch, keys, **options) -> LogProb.
      denoise: (variables, x_t, time, condition, **options) -> (x_0, noise), of a family with a
        `path`, the schedule of alpha and sigma.
      recomputed: networks whose activations the backward pass computes again.
      averages: networks whose slowest average the wiring reads, as "<network>/average".
    """

    name: str
    networks: tuple[str, ...]
    data: Data
    init: Callable[..., Variables]
    forward: Callable[..., tuple[Outputs, Any]]
    sample: Callable[..., Any]
    sample_options: Mapping[str, Any] = {}
    nfe: Callable[..., int] = lambda: 1
    encode: Callable[..., Any] | None = None
    decode: Callable[..., Any] | None = None
    log_prob: Callable[..., LogProb] | None = None
    denoise: Callable[..., Any] | None = None
    path: Any = None
    recomputed: tuple[str, ...] = ()
    averages: tuple[str, ...] = ()

    def __repr__(self) -> str:
        can = [f for f in ("encode", "decode", "log_prob", "denoise") if getattr(self, f)]
        seen = f" given {', '.join(self.data.conditions.names)}" if self.data.conditions else ""
        return (
            f"Family({self.name}: {' + '.join(self.networks)} on {self.data.shape}{seen}; "
            f"{', '.join(['sample', *can])})"
        )


class Net(NamedTuple):
    """A network that knows its name: that finds its variables and its own random numbers."""

    name: str
    module: Any

    @property
    def recomputed(self) -> bool:
        """Whether the backward pass computes its activations again (`remat`)."""
        return getattr(self.module, "remat", False) not in (False, "none")

    def init(self, key: jax.Array, *inputs) -> Variables:
        """{"params": {name: tree}, "state": {name: tree}}, without a state entry if it has none."""
        variables = dict(self.module.init(draws.named(key, self.name), *inputs))
        params = variables.pop("params", {})
        return {"params": {self.name: params}, "state": {self.name: variables} if variables else {}}

    def __call__(
        self, variables: Variables, *inputs, call: Call = EVALUATION, use: str = "", **options
    ):
        """The outputs; the state stays. `use` tells several calls of a forward pass apart; options
        are the module's own."""
        return self.module.apply(self._own(variables), *inputs, self._call(call, use), **options)

    def update(self, variables: Variables, *inputs, call: Call, use: str = "") -> tuple[Any, Any]:
        """(outputs, the state of all networks with this one's renewed)."""
        state = variables["state"].get(self.name, {})
        if not state:
            return self(variables, *inputs, call=call, use=use), variables["state"]
        outputs, new = self.module.apply(
            self._own(variables), *inputs, self._call(call, use), mutable=list(state)
        )
        return outputs, {**variables["state"], self.name: new}

    def _own(self, variables: Variables) -> Variables:
        state = variables["state"].get(self.name, {})
        return {"params": variables["params"][self.name], **state}

    def _call(self, call: Call, use: str) -> Call:
        return call.named(f"{self.name}/{use}" if use else self.name)


def merge(*parts: Variables) -> Variables:
    """One Variables out of several networks'."""
    return {
        "params": {k: v for part in parts for k, v in part["params"].items()},
        "state": {k: v for part in parts for k, v in part["state"].items()},
    }
