"""Train what is missing of an experiment, evaluate all of it, and write report.html."""

import sys

from jaxgen.arguments import several
from jaxgen.commands.common import CONFIG, file_config, need, say

FLAGS = (
    *CONFIG,
    several(
        "require", [], 'constraint such as "latency_ms<=5" or "coverage>=0.8"; may be repeated'
    ),
)


def run(values) -> int:
    from jaxgen import report
    from jaxgen.compare import Stopped, compare

    need(values, "config", "workdir")
    experiment = file_config(values)
    try:
        results, path = compare(
            experiment, values.workdir, require=values.require, progress=values.progress
        )
    except Stopped as stop:
        say("stopped and saved; the same command goes on from there")
        return 128 + stop.number
    for line in (report.table(results, sys.stdout.encoding), *report.chosen(results)):
        say(line)
    say(f"\nreport: {path}")
    return 0
