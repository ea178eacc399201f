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

    wanted : the metrics that are compared; other columns are left out and named in a note. Shares above 1 or a % sign
    anywhere mean that the whole table is in per cent, which a note says too. Errors name the line: no number, no name,
    more or fewer cells than the header. Others: a share above 100 per cent, no column that is compared, one twice.
    """
    path = Path(path)
    columns, numbered = _read(path)
    key = next((name for name in columns if name.strip().lower() in NAMES), None)
    if key is None:
        raise ValueError(f"{path.name}: expected a header with a column 'system' and rows; it has {columns or 'none'}")
    metrics = {name: _metric(path, name) for name in columns if name != key and name.lower() not in ABOUT}
    used = {name: metric for name, metric in metrics.items() if metric in wanted}
    if len(set(used.values())) < len(used):
        raise ValueError(f"{path.name}: two columns hold the same metric ({', '.join(used)}); keep one of each")
    if not used:
        raise ValueError(
            f"{path.name}: no column is one of the compared metrics {', '.join(wanted)}; it has {', '.join(metrics)}; "
            "name columns direction/metric, or choose metrics="
        )
    cells = {
        (number, name): _number(path, number, row, name)
        for number, row in numbered for name in used if row[name].strip()
    }  # fmt: skip
    shares = [value for (_, name), value in cells.items() if _is_share(used[name])]
    marked = any(row[name].strip().endswith("%") for _, row in numbered for name in used)
    per_cent = marked or any(value > 1 for value in shares)
    if any(not 0 <= value <= (100 if per_cent else 1) for value in shares):
        raise ValueError(f"{path.name}: shares must lie in 0..1 or 0..100 per cent; got {min(shares)}..{max(shares)}")
    found = tuple(
        PublishedRow(
            _name(path, number, row, key), next((row[c] for c in columns if c.lower() == "source"), ""),
            {m: cells[number, c] / (100 if per_cent and _is_share(m) else 1)
             for c, m in used.items() if (number, c) in cells},
        )
        for number, row in numbered
    )  # fmt: skip
    notes = [f"{path.name} is read as {'per cent' if per_cent else 'fractions'}; its rows are unpaired."]
    left = [name for name in metrics if name not in used]
    return found, notes + ([f"{path.name}: columns not compared here: {', '.join(left)}."] if left else [])


def _read(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The header and every row with the number of its (last) line."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            found = [(reader.line_num, cells) for cells in reader if cells]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is no CSV in UTF-8 ({error})") from None
    if len(set(header)) < len(header):
        raise ValueError(f"{path.name}: two columns have the same name in {header}; keep one of each")
    for line, cells in found:
        if len(cells) != len(header):
            raise ValueError(
                f"{path.name}, line {line}: {len(cells)} cells under {len(header)} columns; put a text that holds a "
                "comma in quotes"
            )
    return header if found else [], [(line, dict(zip(header, cells, strict=True))) for line, cells in found]


def _metric(path: Path, column: str) -> str:
    direction, slash, name = column.partition("/")
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
    name = row[key].strip()
    if not name:
        raise ValueError(f"{path.name}, line {line}: the system has no name")
    return name


def _is_share(metric: str) -> bool:
    return not metric.endswith(("MedR", "MeanR"))
