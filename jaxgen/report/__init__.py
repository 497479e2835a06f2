"""A comparison as a table in the terminal, as `results.json` and as a self-contained `report.html`.

Knows nothing of training: everything comes from one frozen value, `Results`.
"""

from jaxgen.report.output import write
from jaxgen.report.ranking import requirement
from jaxgen.report.results import (
    Axis,
    Estimate,
    Results,
    Score,
    System,
    estimates,
    from_json,
    score_values,
    to_json,
)
from jaxgen.report.table import printable, record_table, table
from jaxgen.report.words import chosen, reading

__all__ = [
    "Axis", "Estimate", "Results", "Score", "System", "chosen", "estimates", "from_json",
    "printable", "reading", "record_table", "requirement", "score_values", "table", "to_json",
    "write",
]  # fmt: skip
