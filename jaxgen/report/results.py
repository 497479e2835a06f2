"""What a report is made of, as frozen values, and the JSON that keeps them (`results.json`).

Every number is finite or None. A share is a fraction with the unit "%"; readers see it in per cent.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from jaxgen.errors import InputError, nearest
from jaxgen.plain import plain

CORNERS = ("quality", "speed", "diversity")  # of the trilemma, in the order in which they are read
KINDS = (*CORNERS, "check")  # a check guards the comparison (copies, missing classes); nobody wins


@dataclass(frozen=True)
class Estimate:
    """A number with its standard deviation, both None where there is none. values: by seed."""

    mean: float | None = None
    std: float | None = None
    values: tuple[float | None, ...] = ()

    @property
    def spread(self) -> float:
        """The standard deviation; 0 where there is none."""
        return self.std or 0.0

    def scaled(self, factor: float) -> "Estimate":
        mean = None if self.mean is None else factor * self.mean
        return Estimate(mean, factor * self.spread)


NONE = Estimate()


@dataclass(frozen=True)
class Score:
    """What a score means and how it is shown.

    corner: one of KINDS. unit: "%", "ms", "nats" or "". digits: the decimals of the shown number.
    main: whether it stands in the short table and takes part in the reading; the first main score
    of a corner ranks and plots. floor: of disjoint sets of real images. explain: a plain sentence.
    """

    id: str
    name: str
    corner: str
    higher_is_better: bool
    unit: str = ""
    digits: int = 2
    explain: str = ""
    main: bool = True
    floor: Estimate | None = None

    def __post_init__(self):
        if self.corner not in KINDS:
            hint = nearest(self.corner, KINDS)
            raise InputError(
                f"score '{self.id}' stands in an unknown corner '{self.corner}': {hint}"
            )

    @property
    def real(self) -> Estimate:
        """The floor, or an empty estimate."""
        return self.floor or NONE

    @property
    def scale(self) -> float:
        """What a value is multiplied by before a reader sees it."""
        return 100.0 if self.unit == "%" else 1.0

    def times_real(self, estimate: Estimate) -> float | None:
        """An estimate as a multiple of that of real images: 1 is as good as they are.

        None without a floor, and where it is not positive beyond its own noise, as that of an
        unbiased estimate may be."""
        real = self.real
        if estimate.mean is None or real.mean is None or real.mean <= real.spread:
            return None
        return estimate.mean / real.mean

    @property
    def arrow(self) -> str:
        return "↑" if self.higher_is_better else "↓"

    @property
    def title(self) -> str:
        """The name with the unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclass(frozen=True)
class System:
    """One system of a comparison.

    training: {"steps", "seconds", "images"}. sampler: its options. nfe: network calls per sample.
    cost: {"compile_seconds" (of sampling), "sampling_memory_bytes", "training_images_per_second",
    "training_flops_per_image", "sampling_flops_per_image", "best_batch"}, each may be absent.
    scores: by id. curves: {"<player>/<term>": [[step, value], ...]}. grid: the PNG file of its
    samples, relative to the report's folder."""

    name: str
    config: str = ""
    workdir: str = ""
    parameters: int | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    sampler: Mapping[str, Any] = field(default_factory=dict)
    nfe: int | None = None
    cost: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Estimate] = field(default_factory=dict)
    curves: Mapping[str, Any] = field(default_factory=dict)
    grid: str | None = None

    def of(self, score: Score) -> Estimate:
        """This system's estimate of a score; an empty one where it has none."""
        return self.scores.get(score.id, NONE)


@dataclass(frozen=True)
class Axis:
    """What systems that differ in one number differ in. values: one for each system, or None."""

    name: str
    values: tuple[float | None, ...]
    log: bool = False


@dataclass(frozen=True)
class Results:
    """A whole comparison.

    question: one or two plain sentences. protocol, machine: {what: text, number, list or mapping}.
    requirements: such as "latency_ms<=5". reference_grid: a PNG file of real images."""

    title: str
    systems: tuple[System, ...]
    scores: tuple[Score, ...]
    question: str = ""
    created: str = ""
    command: str = ""
    commit: str = ""
    machine: Mapping[str, Any] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    requirements: tuple[str, ...] = ()
    reference_grid: str | None = None
    axis: Axis | None = None

    def __post_init__(self):
        if self.axis and len(self.axis.values) != len(self.systems):
            raise InputError(
                f"the axis '{self.axis.name}' has {len(self.axis.values)} values for "
                f"{len(self.systems)} systems"
            )

    @cached_property
    def by_corner(self) -> tuple[Score, ...]:
        """All scores, corner by corner; in a corner their order stays."""
        return tuple(sorted(self.scores, key=lambda score: KINDS.index(score.corner)))

    def main(self, *corners: str) -> list[Score]:
        """The main scores of these corners, or of all."""
        return [s for s in self.by_corner if s.main and s.corner in (corners or KINDS)]

    @property
    def leading(self) -> list[Score]:
        """The first main score of each corner that has one: those of the Pareto front."""
        return [scores[0] for corner in CORNERS if (scores := self.main(corner))]


def estimates(record: Mapping[str, Any]) -> dict[str, Estimate]:
    """The scores or floors of a record of `evaluate`, by id."""
    return {name: _value(Estimate, name, each) for name, each in plain(record).items()}


def score_values(rows: Iterable[Mapping[str, Any]]) -> tuple[Score, ...]:
    """What `evaluation.scores.describe` says, as values."""

    def floor(row):
        return _value(Estimate, "floor", row["floor"]) if row.get("floor") else None

    return tuple(_value(Score, "score", {**row, "floor": floor(row)}) for row in rows)


def to_json(results: Results) -> dict[str, Any]:
    """The results as JSON holds them. Fields that are None are left out."""

    def present(items):
        return {name: value for name, value in items if value is not None}

    return plain(dataclasses.asdict(results, dict_factory=present))


def from_json(json: Mapping[str, Any]) -> Results:
    """The inverse of `to_json`. A number that is not finite becomes None.

    Unknown fields are dropped. Raises InputError for what is no comparison."""
    json = plain(json)
    systems = [
        _value(System, "system", {**each, "scores": estimates(each.get("scores") or {})})
        for each in json.get("systems", ())
    ]
    scores = score_values(json.get("scores", ()))
    axis = _value(Axis, "axis", json["axis"]) if json.get("axis") else None
    parts = {"systems": tuple(systems), "scores": scores, "axis": axis}
    return _value(Results, "results", {**json, **parts})


def _value(kind: type, where: str, json: Mapping[str, Any]) -> Any:
    """A dataclass from JSON: its own fields, lists as tuples; null means the default."""
    given = {f.name: json[f.name] for f in dataclasses.fields(kind) if json.get(f.name) is not None}
    try:
        return kind(**{n: tuple(v) if isinstance(v, list) else v for n, v in given.items()})
    except TypeError as error:
        raise InputError(f"not a comparison's {where}: {error}") from None
