"""How a wiring, and every network in it, is called."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxgen import draws

Mean = Callable[[Shaped[Array, "B ..."]], Float[Array, "..."]]


def local_mean(x: Shaped[Array, "B ..."]) -> Float[Array, "..."]:
    """The mean over the examples, where one device has all of them."""
    return jnp.mean(x, axis=0)


class Call(NamedTuple):
    """One call of a wiring on one batch.

    Attributes:
      train: whether dropout and the like are on, and networks renew their state.
      keys: Key [B], one per example; None where nothing is drawn.
      mean: [B, ...] -> [...], the mean over the *global* batch, the examples of other devices
        included. State that depends on the batch (codebooks, running statistics, controllers) is
        made of it, so that all devices hold the same.
    """

    train: bool = False
    keys: Any = None
    mean: Mean = local_mean

    def named(self, name: str) -> "Call":
        """The same call with keys of its own for the use called `name`."""
        return self if self.keys is None else self._replace(keys=draws.named(self.keys, name))


EVALUATION = Call()
