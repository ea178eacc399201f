"""Published numbers from a CSV file: they stand beside measured ones, marked unpaired, and are never tested."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.metrics import parse_metric

NAMES, ABOUT = ("system", "name", "model"), ("source", "year", "note")


@dataclass(frozen=True)
class PublishedRow:
    """One system as its authors report it. values : "t2i/hit@1" -> fraction (ranks as they are)."""

    name: str
    source: str
    values: dict[str, float]


def read_published(path: str | Path, wanted: Sequence[str]) -> tuple[tuple[PublishedRow, ...], list[str]]:
    """The rows of a CSV with a column ``system``, optionally ``source``, and columns such as ``t2i/hit@1``.

    wanted : the metrics that are compared; other columns are left out and named in a note. Shares above 1 anywhere mean
    that the whole table is in per cent, which a note says too. Errors name the line: no number, no name, a share above
    100 per cent, no column that is compared.
    """
    path = Path(path)
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    columns = list(rows[0]) if rows else []
    key = next((name for name in columns if name and name.strip().lower() in NAMES), None)
    if key is None:
        raise ValueError(f"{path.name}: expected a header with a column 'system' and rows; it has {columns or 'none'}")
    metrics = {name: _metric(path, name) for name in columns if name != key and str(name).lower() not in ABOUT}
    used = {name: metric for name, metric in metrics.items() if metric in wanted}
    if not used:
        raise ValueError(
            f"{path.name}: no column is one of the compared metrics {', '.join(wanted)}; it has {', '.join(metrics)}; "
            "name columns direction/metric, or choose metrics="
        )
    cells = {
        (number, name): _number(path, number, row, name)
        for number, row in enumerate(rows, start=2) for name in used if (row[name] or "").strip()
    }  # fmt: skip
    shares = [value for (_, name), value in cells.items() if _is_share(used[name])]
    per_cent = any(value > 1 for value in shares)
    if any(not 0 <= value <= (100 if per_cent else 1) for value in shares):
        raise ValueError(f"{path.name}: shares must lie in 0..1 or 0..100 per cent; got {min(shares)}..{max(shares)}")
    found = tuple(
        PublishedRow(
            _name(path, number, row, key), next((str(row[c]) for c in columns if str(c).lower() == "source"), ""),
            {m: cells[number, c] / (100 if per_cent and _is_share(m) else 1)
             for c, m in used.items() if (number, c) in cells},
        )
        for number, row in enumerate(rows, start=2)
    )  # fmt: skip
    notes = [f"{path.name} is read as {'per cent' if per_cent else 'fractions'}; its rows are unpaired."]
    left = [name for name in metrics if name not in used]
    return found, notes + ([f"{path.name}: columns not compared here: {', '.join(left)}."] if left else [])


def _metric(path: Path, column: str | None) -> str:
    direction, slash, name = str(column).partition("/")
    try:
        if not slash or "2" not in direction:
            raise ValueError("it has no direction")
        return f"{direction}/{parse_metric(name)}"
    except ValueError as error:
        raise ValueError(
            f"{path.name}: cannot read the column {column!r} ({error}); columns are system, source, year, note, and "
            "direction/metric such as t2i/hit@1"
        ) from None


def _number(path: Path, line: int, row: dict[str, str], name: str) -> float:
    text = row[name].strip().removesuffix("%").strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{path.name}, line {line}: {name} = {row[name]!r} is no number; leave the cell empty instead")
    return value


def _name(path: Path, line: int, row: dict[str, str], key: str) -> str:
    name = (row[key] or "").strip()
    if not name:
        raise ValueError(f"{path.name}, line {line}: the system has no name")
    return name


def _is_share(metric: str) -> bool:
    return not metric.endswith(("MedR", "MeanR"))
