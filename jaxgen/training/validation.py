"""Validation: the players' terms on held-out data, and the best step so far by one of them."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import data, distributed, programs, spaces
from jaxgen.calls import Call
from jaxgen.errors import InputError, nearest
from jaxgen.families.base import Family
from jaxgen.losses import objective
from jaxgen.training.parallel import Parallel
from jaxgen.training.players import Player


@dataclasses.dataclass
class Best:
    """The smallest value of the validation metric `name` so far ("": none is followed), and the
    step that had it. Checkpoints of that step are kept.
    """

    name: str = ""
    value: float = math.inf
    step: int | None = None

    def update(self, values: Mapping[str, float], step: int) -> bool:
        """Whether the values of `step` are the best so far, which are kept."""
        better = values.get(self.name, math.inf) < self.value
        if better:
            self.value, self.step = values[self.name], step
        return better

    def tell(self, report: Callable[[str], None]) -> None:
        """Reports which step is the best, if any."""
        if self.step is not None:
            report(
                f"best {self.name} is {self.value:.5g}, of step {self.step} (jaxgen sample "
                f"--checkpoint={self.step})"
            )

    def recall(self, rows: Iterable[Mapping[str, Any]], steps: Iterable[int]) -> None:
        """The best of the log's rows whose steps have a checkpoint, as process 0 reads them."""
        kept = set(steps)
        for row in rows:
            if row["step"] in kept:
                self.update(row, row["step"])
        found = np.array([self.value, -1 if self.step is None else self.step], np.float64)
        value, step = distributed.of_main(found)
        self.value, self.step = float(value), int(step) if step >= 0 else None


def check_best(config, players: Mapping[str, Player]) -> None:
    """Raises InputError when config.checkpoint.best is nothing that validation measures."""
    best = config.checkpoint.best
    measured = [
        f"validation/{name}/{term}"
        for name, player in players.items()
        for term in ("loss", *(row.name for row in player.rows))
    ]
    if best and best not in measured:
        raise InputError(
            f"config.checkpoint.best '{best}' is not measured: {nearest(best, measured)}"
        )
    if best and not config.train.eval_every:
        raise InputError("config.checkpoint.best needs validation: set config.train.eval_every")


def validator(
    config, family: Family, players: Mapping[str, Player], devices: Parallel
) -> Callable[..., dict[str, float]]:
    """(variables, source) -> means over the source of every player's terms and loss, in evaluation
    mode.

    The noise of an example depends on its index alone, and the weights are those of the last step,
    so that values of different steps compare."""
    last, size = config.train.steps, config.train.batch_size
    space = spaces.from_config(config)

    @programs.jit
    def totals(variables, batch, index):
        keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(index)
        mask = batch.pop("mask").astype(jnp.float32)
        outputs, _ = family.forward(variables, space.enter(batch, keys), Call(False, keys))
        sums = {}
        for name, player in players.items():
            values = objective.evaluate(player.rows, outputs, keys.shape[0])
            loss = sum(
                row.weight(last) * (last >= row.start) * values[row.name] for row in player.rows
            )
            for term, value in {"loss": loss, **values}.items():
                sums[f"{name}/{term}"] = jnp.sum(mask * value)
        return sums

    def run(variables, source):
        sums = []
        for i, batch in enumerate(data.eval_batches(source, size)):
            index = np.arange(i * size, (i + 1) * size)
            sums.append(totals(variables, *jax.tree.map(devices.rows, (batch, index))))
        sums = jax.device_get(sums)
        return {
            f"validation/{name}": float(sum(each[name] for each in sums)) / len(source.images)
            for name in sums[0]
        }

    return run
