"""Requirements on a run: met, not met, or undecided because the interval holds both answers."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from workbench.metrics import METRICS, parse_metric
from workbench.runs import Run
from workbench.statistics import cluster_bootstrap
from workbench.types import Finding

Answer = Literal["met", "not met", "undecided"]
KEYS = ("metric", "direction", "slice", "at least", "at most", "reason")
VERDICTS: dict[str, Any] = {"met": "ok", "not met": "problem", "undecided": "look"}


@dataclass(frozen=True)
class Requirement:
    """One line of a policy: a metric of a direction, perhaps of a slice of its queries, and the bound it must keep."""

    metric: str
    direction: str
    slice: tuple[tuple[str, str], ...]
    side: Literal["at least", "at most"]
    bound: float
    reason: str

    def __str__(self) -> str:
        where = "".join(f", {name}={value}" for name, value in self.slice)
        return f"{self.direction}/{self.metric}{where} {self.side} {self.bound:g}"


@dataclass(frozen=True)
class Judged:
    """A requirement held against one system. value, low, high : with the 95 % interval; n : queries."""

    system: str
    requirement: Requirement
    value: float
    low: float
    high: float
    n: int
    answer: Answer

    def finding(self) -> Finding:
        """The answer among the findings of a report: problem where a requirement is not met."""
        words = {
            "met": "Every value in the interval meets it.",
            "not met": "No value in the interval meets it.",
            "undecided": "The interval holds values on both sides of the bound: more queries would decide.",
        }[self.answer]
        share = "" if self.requirement.metric in ("MedR", "MeanR") else "%"
        interval = (self.low, self.high) if math.isfinite(self.low) else None
        return Finding(
            f"policy/{self.system}: {self.requirement}", self.value, interval, self.requirement.bound,
            f"your policy: {self.requirement.reason}", VERDICTS[self.answer], f"{self.answer.capitalize()}. {words}",
            share,  # type: ignore[arg-type]
        )  # fmt: skip


def answer(requirement: Requirement, low: float, high: float) -> Answer:
    """Met when the whole interval keeps the bound, not met when none of it does, else undecided.

    The bound itself keeps it: an interval that begins at the bound of "at least" is met.

    >>> rule = Requirement("hit@1", "t2i", (), "at least", 0.5, "contract")
    >>> answer(rule, 0.5, 0.6), answer(rule, 0.4, 0.5), answer(rule, 0.4, 0.49)
    ('met', 'undecided', 'not met')
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return "undecided"
    least, most = (low, high) if requirement.side == "at least" else (-high, -low)
    bound = requirement.bound if requirement.side == "at least" else -requirement.bound
    return "met" if least >= bound else "not met" if most < bound else "undecided"


def read_policy(path: str | Path) -> tuple[Requirement, ...]:
    """A JSON list of {"metric", "direction", "slice" (optional), "at least" or "at most", "reason"}.

    slice : an object such as {"language": "de"}, columns of the per-query table. Bounds are fractions (0.8, not 80) or
    ranks. Every other key, a missing one and an unknown metric are errors that name the entry.
    """
    path = Path(path)
    try:
        given = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_each_once)
    except ValueError as error:
        raise ValueError(f"{path.name} is no JSON ({error}); expected a list of requirements") from None
    if not isinstance(given, list) or not given:
        raise ValueError(f'{path.name}: expected a list of requirements, each like {{"metric": "hit@1", ...}}')
    return tuple(_requirement(f"{path.name}, requirement {number}", one) for number, one in enumerate(given, start=1))


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"a field stands twice among {', '.join(names)}")
    return dict(pairs)


def _requirement(where: str, given: Any) -> Requirement:
    if not isinstance(given, dict):
        raise ValueError(f"{where}: expected an object with {', '.join(KEYS)}; got {given!r}")
    for name in given:
        if name not in KEYS:
            near = difflib.get_close_matches(name.replace("_", " "), KEYS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{where}: unknown field {name!r}{hint} Fields are {', '.join(KEYS)}")
    missing = [name for name in ("metric", "direction", "reason") if not isinstance(given.get(name), str)]
    sides = [name for name in ("at least", "at most") if name in given]
    if missing or len(sides) != 1:
        what = f"the text of {', '.join(missing)}" if missing else "exactly one of 'at least' and 'at most'"
        raise ValueError(f"{where}: it needs {what}")
    try:
        metric = str(parse_metric(given["metric"]))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    bound = _bound(where, given[sides[0]], metric)
    chosen = _slice(where, given.get("slice", {}))
    return Requirement(metric, given["direction"], chosen, sides[0], bound, given["reason"])  # type: ignore[arg-type]


def _bound(where: str, value: Any, metric: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{where}: the bound must be a number of at least 0; got {value!r}")
    if value > 1 and not METRICS[parse_metric(metric).name].lower_is_better:
        raise ValueError(f"{where}: bounds of {metric} are fractions in 0..1, such as 0.8 for 80 %; got {value}")
    return float(value)


def _slice(where: str, given: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(given, dict):
        raise ValueError(f'{where}: slice must be an object such as {{"language": "de"}}; got {given!r}')
    return tuple((str(name), str(value)) for name, value in given.items())


def judge(
    runs: Sequence[Run], labels: Sequence[str], policy: Sequence[Requirement], *, n_resamples: int, seed: int
) -> tuple[Judged, ...]:
    """Every requirement held against every run."""
    how = {"n_resamples": n_resamples, "seed": seed}
    return tuple(_judged(run, label, rule, how) for label, run in zip(labels, runs, strict=True) for rule in policy)


def _judged(run: Run, label: str, rule: Requirement, how: Mapping[str, int]) -> Judged:
    key, table = f"{rule.direction}/{rule.metric}", run.per_query
    if key not in run.metrics:
        raise ValueError(f"the policy asks for {key}, but {run.path.name} has {', '.join(run.metrics)}")
    entry = run.metrics[key]
    if not rule.slice and entry["value"] is not None:
        value, low, high = (float("nan") if entry[name] is None else entry[name] for name in ("value", "low", "high"))
        return Judged(label, rule, value, low, high, entry["n"], answer(rule, low, high))
    mine = np.array([name == rule.direction for name in table["direction"]])
    for name, value in rule.slice:
        mine &= _inside(run, name, value, mine)
    if rule.metric not in table and not rule.slice:
        raise ValueError(f"the policy asks for {key}, which could not be measured in {run.path.name}")
    if rule.metric not in table:
        raise ValueError(f"the policy asks for a slice of {key}, which {run.path.name} does not have query by query")
    values = np.asarray(table[rule.metric], dtype=np.float64)[mine]
    if np.isnan(values).all():
        raise ValueError(f"the policy asks for {rule}, but no such query of {run.path.name} has a right item")
    statistic = METRICS[parse_metric(rule.metric).name].aggregator
    found = cluster_bootstrap(values, np.asarray(table["cluster_id"])[mine], statistic=statistic, **how)
    return Judged(label, rule, found.value, found.low, found.high, found.n, answer(rule, found.low, found.high))


def _inside(run: Run, name: str, value: str, mine: np.ndarray) -> np.ndarray:
    """The queries whose column has the value; the column may be named without its modality."""
    table = run.per_query
    columns = [column for column in table if ":" in column]
    found = [column for column in columns if name in (column, column.partition(":")[2])]
    found = [column for column in found if any(table[column][row] is not None for row in np.flatnonzero(mine))]
    if len(found) != 1:
        raise ValueError(
            f"the policy slices by {name!r}, which is {len(found)} columns of these queries of {run.path.name}; it has "
            f"{', '.join(columns) or 'none'}"
        )
    inside = np.array([cell is not None and str(cell) == value for cell in table[found[0]]])
    if not (inside & mine).any():
        values = sorted({str(cell) for cell, own in zip(table[found[0]], mine, strict=True) if own})
        raise ValueError(f"no query of {run.path.name} has {name}={value!r}; there is {', '.join(values[:20])}")
    return inside
