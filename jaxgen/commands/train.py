"""Train one system; goes on from its newest checkpoint."""

from jaxgen import files
from jaxgen.arguments import boolean, integer, text
from jaxgen.commands.common import CONFIG, file_config, need, say
from jaxgen.errors import InputError

FLAGS = (
    *CONFIG,
    boolean("profile", False, "write a trace of a few steps to WORKDIR/profile"),
    text("coordinator", None, "several processes: process 0's HOST:PORT"),
    integer("num_processes", None, "several processes: how many", lower_bound=1),
    integer("process_id", None, "several processes: which this is, from 0", lower_bound=0),
    integer("coordinator_timeout", 300, "several processes: seconds to meet in", lower_bound=1),
)


def run(values) -> int:
    from jaxgen import distributed

    need(values, "config", "workdir")
    if values.profile and files.is_remote(values.workdir):
        raise InputError(f"--profile needs a --workdir on this machine, not {values.workdir}")
    config = file_config(values)
    asked = distributed.Flags(
        values.coordinator, values.num_processes, values.process_id, values.coordinator_timeout
    )
    distributed.initialize(asked)  # before anything asks JAX for its devices
    from jaxgen.training import train

    result = train(config, values.workdir, progress=values.progress, profile=values.profile)
    tell = say if distributed.is_main() else lambda line: None
    step = int(result.state.step)
    if result.signal is not None:
        tell(f"stopped at step {step} and saved; the same command goes on from there")
        return 128 + result.signal
    tell(f"finished at step {step}: {values.workdir}")
    return 0
