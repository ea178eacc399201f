"""Tables of strings beside the data: CSV, JSON lines or Parquet, read as plain text columns."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

READABLE = (".csv", ".jsonl", ".parquet")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a table as dictionaries. CSV values are strings; JSON lines and Parquet keep their types."""
    if path.suffix == ".csv":
        return _read_csv(path)
    if path.suffix == ".jsonl":
        return _read_jsonl(path)
    if path.suffix == ".parquet":
        import pyarrow.parquet

        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
        return rows
    raise ValueError(f"{path.name}: a table must end in {', '.join(READABLE)}; got {path.suffix or 'no ending'!r}")


def _read_csv(path: Path) -> list[dict[str, Any]]:
    csv.field_size_limit(2**24)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            rows: list[dict[str, Any]] = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"{path.name} cannot be read as UTF-8 CSV: {error}; save it as comma-separated UTF-8"
        ) from None
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise ValueError(
                f"{path.name} row {number} has {'more' if None in row else 'fewer'} fields than the header "
                f"{reader.fieldnames}; put values that hold commas in double quotes"
            )
    return rows


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path.name} line {number} is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path.name} line {number} must be a JSON object; got {type(row).__name__}")
        rows.append(row)
    return rows


def require_columns(rows: Sequence[Mapping[str, Any]], needed: Iterable[str], where: str) -> None:
    """An error that names the missing column, the ones that are there, and the likely misspelling."""
    if not rows:
        raise ValueError(f"{where} holds no rows")
    present = list(rows[0])
    for name in needed:
        missing = next((number for number, row in enumerate(rows) if row.get(name) is None), None)
        if name not in present or missing is not None:
            nearest = get_close_matches(name, present, n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest and nearest[0] != name else ""
            place = "" if name not in present else f" (first missing in row {missing})"
            raise ValueError(f"{where} needs a column {name!r}{place}; it has {present}{hint}")


def metadata_columns(rows: Sequence[Mapping[str, Any]], used: Iterable[str]) -> dict[str, np.ndarray]:
    """Every column that the loader does not use, as an array of strings ("" where a row has no value)."""
    skip = set(used)
    names = dict.fromkeys(name for row in rows for name in row if name not in skip)
    return {name: np.array(["" if row.get(name) is None else str(row[name]) for row in rows]) for name in names}
