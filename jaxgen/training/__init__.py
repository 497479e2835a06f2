"""Training, written once for all systems: state, step, loop, compilation, checkpoints, logs."""

from jaxgen import programs
from jaxgen.training import players as _players
from jaxgen.training import state as _state
from jaxgen.training import step as _step
from jaxgen.training.hooks import Hook, Moment
from jaxgen.training.loop import train
from jaxgen.training.state import TrainState, variables

__all__ = ["Hook", "Moment", "TrainState", "create", "train", "variables"]


def create(config, family):
    """(state at step 0, compiled train step `(state, batch) -> (state, metrics)`) for notebooks.

    batch: {"image": uint8 [B,H,W,C], "label": int32 [B]}. The step takes over the state's memory:
    use what it returns."""
    players = _players.build(config, family)
    return _state.init(config, family, players), programs.jit(
        _step.build(config, family, players), donate_argnums=0
    )
