"""From the config's table of weighted terms to one loss per player.

loss(player, step) = sum_i weight_i(step) * mean_b term_i(outputs)_b
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen import ranges
from jaxgen.calls import Mean, local_mean
from jaxgen.errors import InputError, lookup
from jaxgen.ranges import Count, Whole, call_with_options

Outputs = Mapping[str, Any]
Term = Callable[[Outputs], Float[Array, "B"]]

TERMS = {  # name -> factory(**options) -> term; imported when asked for
    "reconstruction": "jaxgen.losses.elbo:reconstruction",
    "kl": "jaxgen.losses.elbo:kl",
    "importance_weighted": "jaxgen.losses.elbo:importance_weighted",
    "critic": "jaxgen.losses.adversarial:critic",
    "adversarial": "jaxgen.losses.adversarial:adversarial",
    "r1": "jaxgen.losses.adversarial:r1",
    "r2": "jaxgen.losses.adversarial:r2",
    "gradient_penalty": "jaxgen.losses.adversarial:gradient_penalty_term",
    "denoising": "jaxgen.losses.denoising:denoising",
    "variational_bound": "jaxgen.losses.denoising:variational_bound",
    "feature": "jaxgen.losses.perceptual:feature",
    "pixel": "jaxgen.losses.perceptual:pixel",
}


class WeightedTerm(NamedTuple):
    """One row of a player's table.

    weight: step -> float32. start: first step at which the term counts. every: it is computed at
    every `every`-th step only and then weighs `every` times as much (lazy regularisation, Karras et
    al. 2020, appendix B)."""

    name: str
    term: Term
    weight: Callable[[Any], Any]
    start: int
    every: int


def weight_schedule(where: str, weight) -> Callable[[Any], Any]:
    """A number, or a mapping {init, end, steps}: linear from init to end over `steps` steps, then
    constant.
    """
    if isinstance(weight, Mapping) and set(weight) == {"init", "end", "steps"}:
        for name, hint in {"init": float, "end": float, "steps": Count}.items():
            ranges.check(f"{where}.weight.{name}", hint, weight[name])
        init, end, steps = weight["init"], weight["end"], weight["steps"]
        return lambda step: jnp.float32(init + (end - init) * jnp.clip(step / steps, 0.0, 1.0))
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise InputError(f"{where}.weight must be a number or {{init, end, steps}}, not {weight!r}")
    ranges.check(f"{where}.weight", float, weight)
    return lambda step: jnp.float32(weight)


def build(player: str, table: Mapping[str, Mapping[str, Any]]) -> tuple[WeightedTerm, ...]:
    """The rows of `player`'s table `{name: {weight, start, every, term, **options}}`.

    A row is named after its term, or says which it is with `term`. Raises InputError for unknown
    terms and options, and for values out of range."""
    place = f"config.players.{player}.terms"
    if not table:
        raise InputError(f"{place} is empty: name at least one loss term")
    rows = []
    for name, row in table.items():
        where = f"{place}.{name}"
        if not isinstance(row, Mapping):
            raise InputError(f"{where} must be a section {{weight, start, ...}}, not {row!r}")
        options = dict(row)
        term_name = options.pop("term", name)
        weight = weight_schedule(where, options.pop("weight", 1.0))
        start, every = options.pop("start", 0), options.pop("every", 1)
        ranges.check(f"{where}.start", Whole, start)
        ranges.check(f"{where}.every", Count, every)
        factory = lookup(TERMS, f"loss term of {where}", term_name)
        term = call_with_options(where, factory, options)
        rows.append(WeightedTerm(name, term, weight, start, every))
    return tuple(rows)


def _per_example(row: WeightedTerm, outputs: Outputs, batch_size: int) -> Float[Array, "B"]:
    try:
        value = row.term(outputs)
    except KeyError as error:
        raise InputError(
            f"loss term '{row.name}' needs the output {error}, which this wiring does not give: "
            f"it has {', '.join(sorted(outputs))}"
        ) from None
    if value.shape != (batch_size,):
        raise ValueError(
            f"loss term '{row.name}' must return one number per example, not shape {value.shape}"
        )
    return value.astype(jnp.float32)


def evaluate(
    rows: tuple[WeightedTerm, ...], outputs: Outputs, batch_size: int
) -> dict[str, Float[Array, "B"]]:
    """Every term's unweighted value per example, by name; `outputs` hold the whole batch."""
    outputs = {**outputs, "batch_mean": local_mean}
    return {row.name: _per_example(row, outputs, batch_size) for row in rows}


def loss(
    rows: tuple[WeightedTerm, ...], outputs: Outputs, step, batch_size: int, mean: Mean = local_mean
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The player's scalar loss at `step`, and the mean of each term before weighting (0 where it
    was not computed).

    mean: over the global batch; terms that couple examples read it as outputs["batch_mean"].
    """
    outputs = {**outputs, "batch_mean": mean}
    total, means = jnp.float32(0.0), {}
    for row in rows:
        compute = lambda row=row: jnp.mean(_per_example(row, outputs, batch_size))  # noqa: E731
        weight = row.weight(step) * row.every
        if row.start or row.every > 1:
            active = (step >= row.start) & (step % row.every == 0)
            means[row.name] = jax.lax.cond(active, compute, lambda: jnp.float32(0.0))
        else:
            means[row.name] = compute()
        total += weight * means[row.name]
    return total, means
