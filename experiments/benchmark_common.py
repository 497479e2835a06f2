"""What the benchmarks share: interleaved repeats, sides in processes of their own, the record and
its table.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Side = Callable[[], float]


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _serve(connection, make, arguments) -> None:
    try:
        run = make(*arguments)
    except Exception as error:  # whatever it is, the other process has to hear of it
        connection.send(f"{type(error).__name__}: {error}")
        raise
    connection.send("")
    with contextlib.suppress(EOFError):
        while True:
            connection.send(run(*connection.recv()))


@contextlib.contextmanager
def in_process(make: Callable[..., Callable], *arguments: Any) -> Iterator[Callable]:
    """The function that `make(*arguments)` returns, living in a process of its own, where calls run
    one at a time.

    Two libraries in one process disturb each other: idle threads of one spin on the cores that the
    other computes on. Raises RuntimeError, with the reason, where `make` fails."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, make, arguments), daemon=True)
    process.start()
    there.close()
    with contextlib.suppress(EOFError):
        reason = "the process died"
        reason = here.recv()
    if reason:
        process.join()
        raise RuntimeError(reason)

    def call(*values):
        here.send(values)
        return here.recv()

    try:
        yield call
    finally:
        here.close()
        process.join()


def interleave(sides: Mapping[str, Side], repeats: int) -> dict[str, list[float]]:
    """The sides' measurements, taken in turn (A B A B ...) so that a change of the machine's load
    meets all of them.
    """
    measured = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            measured[name].append(side())
    return measured


def race(
    makers: Mapping[str, tuple], repeats: int, seconds: float, missing: dict[str, str]
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """(the sides' measurements taken in turn, steps per repeat by side), each side
    `make(*arguments)` in its own process.

    A side is a function of the number of steps, chosen so that a repeat takes about `seconds`. The
    first has to run; why another one cannot is noted in `missing`."""
    with contextlib.ExitStack() as stack:
        sides, steps = {}, {}
        for name, (make, *arguments) in makers.items():
            try:
                run = stack.enter_context(in_process(make, *arguments))
            except RuntimeError as error:
                if not sides:
                    raise
                missing[name] = str(error).splitlines()[0]
                continue
            start = time.perf_counter()
            run(3)
            steps[name] = max(1, round(3 * seconds / (time.perf_counter() - start)))
            sides[name] = lambda run=run, count=steps[name]: run(count)
        return interleave(sides, repeats), steps


def trainer(settings: Any, longest: int) -> tuple[Callable[[int], float], Any]:
    """(function that measures steps per second over so many steps, cost of the compiled program):
    the system trained as `jaxgen train` does it, `longest` steps in a call, on data kept on the
    device."""
    import jax
    import numpy as np

    from jaxgen import data, families
    from jaxgen.training import dispatch, parallel, players, state, step

    family = families.build(settings)
    table = players.build(settings, family)
    per_step, devices, costs = players.batches_per_step(table), parallel.build(), []
    source = data.from_config(settings, "train").everything()
    steps = dispatch.build(
        step.build(settings, family, table, devices),
        dispatch.resident(source, settings, per_step, devices),
        per_step * settings.train.batch_size,
        longest,
        devices,
        costs.append,
    )
    now = devices.enter(devices.create(state.initial(settings, family, table)))

    def run(count: int) -> float:
        nonlocal now
        start = time.perf_counter()
        for done in range(longest, count + 1, longest):
            now, metrics = steps(now, longest)
            if done % 100 == 0:
                np.asarray(next(iter(metrics.values())))
        jax.block_until_ready(now)
        return count / (time.perf_counter() - start)

    run(longest)
    return run, costs[0]


def compare(measured: Mapping[str, list[float]], ours: str, theirs: str) -> dict[str, float]:
    """`ours` / `theirs` by repeat: median, lowest and highest."""
    ratios = [a / b for a, b in zip(measured[ours], measured[theirs], strict=True)]
    return {"median": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}


def parse(
    arguments: Sequence[str] | None = None, only: Sequence[str] = (), **texts: str
) -> argparse.Namespace:
    """--out and --smoke; --only, where there are several things to measure; and an option of text
    for each of `texts`, which explain them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default="", help="JSON file to write")
    parser.add_argument("--smoke", action="store_true", help="next to no work, to see that it runs")
    if only:
        parser.add_argument("--only", default="", choices=only, help="measure this one only")
    for name, text in texts.items():
        parser.add_argument(f"--{name}", default="", help=text)
    return parser.parse_args(arguments)


def record(doc: str, **fields: Any) -> dict[str, Any]:
    """`fields` beside what is needed to read them: the protocol stated in a script's docstring,
    machine, load, commit.
    """
    from jaxgen.evaluation import record

    stated = next(
        " ".join(part.split()) for part in doc.split("\n\n") if part.startswith("Protocol:")
    )
    where = {"machine": record.machine(), "load": os.getloadavg()[0], "commit": record.commit()}
    return {"protocol": stated, **fields, **where}


def write(path: str, content: Mapping[str, Any]) -> None:
    """Save a record, where a path is given."""
    if path:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with open(path, "w") as file:
            file.write(json.dumps(content, indent=2) + "\n")
        print(f"written: {path}")


def show(unit: str, measured: Mapping[str, list[float]]) -> None:
    """A line per side."""
    print(f"{'':>28}  {'median':>10} {'lowest':>10} {'highest':>10}  {unit}")
    for name, values in measured.items():
        print(
            f"{name:>28}  {statistics.median(values):10.4g} {min(values):10.4g} {max(values):10.4g}"
        )


def verdict(what: str, ratio: Mapping[str, float], target: str) -> None:
    """The line to look at."""
    print(
        f"{what}: {ratio['median']:.2f} x (repeats {ratio['lowest']:.2f} to "
        f"{ratio['highest']:.2f}); target {target}"
    )
