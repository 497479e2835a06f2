"""What a config asks for, built and checked before the run's folder is touched."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxgen import config as config_lib
from jaxgen import data, families, files, spaces
from jaxgen.calls import Call
from jaxgen.errors import InputError
from jaxgen.losses import objective
from jaxgen.ranges import call_with_options
from jaxgen.sampling import sample_keys, sampler
from jaxgen.training import folder, parallel, validation
from jaxgen.training import players as players_lib
from jaxgen.training import state as state_lib
from jaxgen.training.players import Player


class System(NamedTuple):
    """A system and its data.

    per_step, examples: batches and examples that one train step consumes.
    create: () -> the state at step 0. shapes: of its leaves, with their shardings. records: the
    training data, and `described` what they are. held_out: the validation data; None where neither
    validation nor a grid of samples needs them. draw: samples for the grids.
    """

    family: families.Family
    players: dict[str, Player]
    devices: parallel.Parallel
    per_step: int
    examples: int
    create: Callable[[], state_lib.TrainState]
    shapes: state_lib.TrainState
    records: data.Records
    described: dict[str, Any]
    held_out: data.Table | None
    draw: Callable[..., Any]


def build(config, workdir: str, report: Callable[[str], None]) -> System:
    """The config's system. Raises InputError for whatever can be known to be wrong before the run
    is touched.
    """
    config_lib.check(config)
    folder.check_same_run(config, workdir, report)
    family = families.build(config)
    players = players_lib.build(config, family)
    validation.check_best(config, players)
    devices = parallel.from_config(config)
    create = state_lib.initial(config, family, players)
    shapes = jax.eval_shape(create)
    placed = devices.with_shardings(shapes)
    variables = state_lib.variables(shapes, averages=family.averages)
    check_terms(config, family, players, variables)
    check_sampling(config, family, variables)
    files.writable_folder(workdir)
    records = data.from_config(config, "train")
    for notice in records.notices:
        report(notice)
    described = folder.describe_data(records)
    folder.check_same_data(described, workdir)
    shown = config.train.sample_every and not all(k.classes for k in family.data.conditions.kinds)
    asked = config.train.eval_every or shown
    held_out = data.from_config(config, "validation").everything() if asked else None
    per_step = players_lib.batches_per_step(players)
    draw = sampler(family, config.sample.options, spaces.from_config(config))
    return System(
        family, players, devices, per_step, per_step * config.train.batch_size, create, placed,
        records, described, held_out, draw,
    )  # fmt: skip


def check_terms(config, family: families.Family, players: dict[str, Player], variables) -> None:
    """Raises InputError for a term that needs an output which the wiring does not give.

    variables: their shapes.
    """
    batch, keys = state_lib.blank_batch(config, family), sample_keys(0, 0, 1)

    def losses(variables):
        outputs, _ = family.forward(variables, batch, Call(True, keys))
        for name, player in players.items():
            try:
                objective.loss(player.rows, outputs, 0, 1)
            except InputError as error:
                raise InputError(f"config.players.{name}: {error}") from None

    jax.eval_shape(losses, variables)


def check_sampling(config, family: families.Family, variables) -> None:
    """Raises InputError for sampling and likelihood options that would fail only when they are
    used, after training.

    variables: their shapes.
    """
    draw = sampler(family, config.sample.options, spaces.from_config(config))
    spec = family.data.conditions
    condition = spec.blank(1) if spec else None
    jax.eval_shape(lambda v: draw(v, sample_keys(0, 0, 1), condition), variables)
    if family.log_prob is not None and config.evaluation.log_prob_images:
        batch, keys = state_lib.blank_batch(config, family), sample_keys(0, 0, 1)
        options = dict(config.evaluation.log_prob)

        def nats(v):
            return call_with_options(
                "config.evaluation.log_prob", family.log_prob, options, v, batch, keys
            ).nats

        jax.eval_shape(nats, variables)


def overview(state: state_lib.TrainState) -> str:
    """A table of all parameters (clu)."""
    from clu import parameter_overview

    table = parameter_overview.get_parameter_overview(state.params, include_stats=False)
    return re.sub(r"(\d)\.0\b", r"\1", table)  # clu's totals are floats where a scalar is counted
