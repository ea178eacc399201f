"""Tables of strings beside the data: CSV, JSON lines or Parquet, read as plain text columns.

Every reader here takes files from strangers: what another library says about a broken file becomes one sentence with
the file's name, and a file that would unfold into far more than it weighs is refused before it is read.
"""

from __future__ import annotations

import codecs
import csv
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

READABLE = (".csv", ".jsonl", ".parquet")
INFLATED_BYTES = 2 * 2**30
INFLATED_TIMES = 20
PADDED_BYTES = 64 * 2**20
CELL_BYTES = 8
EMPTY_CELLS = 10_000_000


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a table as dictionaries. CSV values are strings; JSON lines and Parquet keep their types.

    Parquet columns of lists or records are refused: how large they unfold cannot be known before they are read.
    Memory: some 30 times the file for text; Parquet is held against :func:`refuse_inflation` first.
    """
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise ValueError(f"{path.name}: a table must end in {', '.join(READABLE)}; got {path.suffix or 'no ending'!r}")
    require_file(path)
    return readers[path.suffix](path)


def require_file(path: Path) -> None:
    """An error unless this is an ordinary file: opening a pipe or a device could wait for ever."""
    if not os.path.isfile(path):
        what = "is not an ordinary file" if os.path.exists(path) else "does not exist"
        raise FileNotFoundError(f"{path} {what}; give the path of a file")


@contextmanager
def reading(name: str, kind: str, advice: str) -> Iterator[None]:
    """Whatever another library raises inside becomes one ValueError: the file, what it should be, what to try."""
    try:
        yield
    except Exception as error:  # decoders raise anything from KeyError to MemoryError; each means one broken file
        raise ValueError(f"{name} cannot be read as {kind} ({plain_reason(error)}); {advice}") from error


def plain_reason(error: BaseException) -> str:
    """The first 200 characters of what a library said, on one line, without the folders of a file."""
    if isinstance(error, UnicodeDecodeError):
        if error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "it is UTF-16"
        return f"can't decode byte 0x{error.object[error.start]:02x} at position {error.start} as UTF-8"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = " ".join(text.split()) or type(error).__name__
    return text if len(text) <= 200 else text[:200] + "..."


def refuse_inflation(name: str, inflated: int, stored: int, advice: str) -> None:
    """An error when a file would unfold into more than 2 GiB *and* more than 20 times its own size."""
    if inflated > INFLATED_BYTES and inflated > INFLATED_TIMES * stored:
        raise ValueError(
            f"{name} has {stored:,} bytes but unfolds into {inflated:,}; more than {INFLATED_BYTES:,} bytes and "
            f"{INFLATED_TIMES} times the file are refused, because so much may not fit into memory; {advice}"
        )


def parse_json(text: str | bytes, where: str, *, nan_is_null: bool = False) -> Any:
    """A JSON value; NaN (unless it is to be read as null), keys given twice and nesting without end are errors.

    >>> parse_json('{"a": [1, null]}', "x.json")
    {'a': [1, None]}
    """

    def constant(name: str) -> None:
        if not nan_is_null:
            raise ValueError(f"{name} is no JSON value; write null where a number is missing")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) != len(pairs):
            repeated = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise ValueError(f"the key {repeated[:80]!r} occurs twice in one object; keep one")
        return found

    try:
        return json.loads(text, parse_constant=constant, object_pairs_hook=unique)
    except RecursionError:
        raise ValueError(f"{where} is nested too deeply to be read; flatten it") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise ValueError(f"{where} is not JSON: {error.msg} at {place}column {error.colno}; correct it there") from None
    except ValueError as error:
        raise ValueError(f"{where} is not JSON: {plain_reason(error)}") from None


def read_json(path: Path, *, limit: int = INFLATED_BYTES) -> Any:
    """The JSON value in a UTF-8 file of at most ``limit`` bytes."""
    require_file(path)
    if (size := path.stat().st_size) > limit:
        raise ValueError(f"{path.name} has {size:,} bytes; at most {limit:,} are read; is it the right file?")
    with reading(path.name, "UTF-8 text", "save it as UTF-8"):
        text = path.read_text(encoding="utf-8-sig")
    return parse_json(text, path.name)


def _read_csv(path: Path) -> list[dict[str, Any]]:
    unreadable = reading(path.name, "UTF-8 CSV", "save it as comma-separated UTF-8")
    with unreadable, path.open(encoding="utf-8-sig", newline="") as file:
        first = next(_without_nul(file), "")
        if "," not in first and (mark := next((mark for mark in ";\t|" if mark in first), "")):
            names = {";": "semicolons", "\t": "tabs", "|": "bars"}
            raise ValueError(f"its columns are separated by {names[mark]}, not by commas")
        file.seek(0)
        header, *lines = [line for line in _csv_lines(file) if line] or [[]]
    header = [name or f"column {number}" for number, name in enumerate(header, start=1)]
    _refuse_repeated(header, path.name)
    for number, line in enumerate(lines, start=2):
        if len(line) != len(header):
            many = "more", "put values that hold commas in double quotes"
            said, advice = many if len(line) > len(header) else ("fewer", "a value that is missing still has its comma")
            raise ValueError(f"{path.name} row {number} has {said} fields than the header {shown(header)}; {advice}")
    return [dict(zip(header, line, strict=True)) for line in lines]


def _csv_lines(file: Iterable[str]) -> Iterator[list[str]]:
    try:
        yield from csv.reader(_without_nul(file), strict=True)
    except csv.Error as error:
        said = f"{error}: a double quote opens a value and is never closed" if "end of data" in str(error) else error
        raise ValueError(str(said)) from None


def _without_nul(file: Iterable[str]) -> Iterator[str]:
    for line in file:
        if "\0" in line:
            raise ValueError("it holds NUL bytes, as UTF-16 and binary files do")
        yield line


def _refuse_repeated(names: Sequence[str], where: str) -> None:
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise ValueError(f"{where} has more than one column {repeated[0][:80]!r}; give each column its own name")


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    with reading(path.name, "UTF-8 text", "save it as JSON lines in UTF-8"):
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = parse_json(line, f"{path.name} line {number}")
        if not isinstance(row, dict):
            raise ValueError(f"{path.name} line {number} must be a JSON object; got {type(row).__name__}")
        rows.append(row)
    return rows


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    """Rows batch by batch, so that repeated long values are counted before they are copied for every row."""
    import pyarrow.parquet

    stored, advice = path.stat().st_size, "split the table, or keep only the columns that are needed"
    problem = path.name, "Parquet", "write it again, for example with pandas.DataFrame.to_parquet"
    with reading(*problem):
        file = pyarrow.parquet.ParquetFile(path)
        # Not the metadata of single columns: pyarrow ends the process over one that is damaged.
        groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
        cells = file.metadata.num_rows * max(file.metadata.num_columns, 1)
        declared = max(sum(group.total_byte_size for group in groups), CELL_BYTES * cells)
        names = file.schema_arrow.names
        flat = [field.name for field in file.schema_arrow if _is_text(field.type)]
        nested = [field.name for field in file.schema_arrow if field.type.num_fields]
    if nested:
        raise ValueError(
            f"{path.name}: column {nested[0][:80]!r} holds lists or records; give plain values, or leave the column out"
        )
    refuse_inflation(path.name, declared, stored, advice)
    _refuse_repeated(names, path.name)
    batches: list[Any] = []
    unfolded = 0
    with reading(*problem):
        source = pyarrow.parquet.ParquetFile(path, read_dictionary=flat).iter_batches(batch_size=1024)
    while True:
        with reading(*problem):
            batch = next(source, None)
            if batch is not None:
                batch.validate(full=True)  # a spoilt file can decode to values that end the process when they are read
            unfolded += 0 if batch is None else sum(_unfolded(column) for column in batch.columns)
        if batch is None:
            break
        refuse_inflation(path.name, unfolded, stored, advice)
        batches.append(batch)
    with reading(*problem):
        return [row for batch in batches for row in batch.to_pylist()]


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary))


def _unfolded(column: Any) -> int:
    """Bytes of a column when each row has its own copy of its value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        return int(pc.sum(pc.binary_length(column.dictionary).take(column.indices)).as_py() or 0)
    return int(column.nbytes)


def require_columns(rows: Sequence[Mapping[str, Any]], needed: Iterable[str], where: str) -> None:
    """An error that names the missing column, the ones that are there, and the likely misspelling."""
    if not rows:
        raise ValueError(f"{where} holds no rows; it needs the columns {', '.join(needed)} and one row per item")
    present = list(rows[0])
    for name in needed:
        missing = next((number for number, row in enumerate(rows, start=1) if row.get(name) is None), None)
        if name not in present or missing is not None:
            nearest = get_close_matches(name, present, n=1)
            hint = f"; did you mean {nearest[0]!r}? then rename it" if nearest and nearest[0] != name else ""
            hint = hint or ("; the first line must name the columns" if where.endswith(".csv") else "; add it")
            place = "" if name not in present else f" (first missing in row {missing})"
            raise ValueError(f"{where} needs a column {name!r}{place}; it has {shown(present)}{hint}")


def shown(names: Iterable[str], *, most: int = 12) -> list[str]:
    """The first few names, each of 80 characters at most, for a message.

    >>> shown(["a", "b", "c"], most=2)
    ['a', 'b']
    """
    return [name if len(name) <= 80 else f"{name[:80]}..." for name in list(names)[:most]]


def metadata_columns(rows: Sequence[Mapping[str, Any]], used: Iterable[str]) -> dict[str, np.ndarray]:
    """Every column that the loader does not use, as an array of strings ("" where a row has no value).

    Rows of JSON may each bring other keys: more than 10 million empty cells that outnumber the filled ones twenty to
    one are an error.
    """
    skip = set(used)
    names = dict.fromkeys(name for row in rows for name in row if name not in skip)
    cells = len(names) * len(rows)
    if cells > EMPTY_CELLS and cells > INFLATED_TIMES * sum(map(len, rows)):
        raise ValueError(
            f"{len(rows):,} rows have {len(names):,} different columns, nearly all empty; keep the columns that most "
            "rows have"
        )
    return {name: strings("" if row.get(name) is None else row[name] for row in rows) for name in names}


def strings(values: Iterable[Any]) -> np.ndarray:
    """Text as an array (n,) of strings: fixed width, or Python strings where one long value would pad all the others.

    >>> strings(["a", 2]).tolist()
    ['a', '2']
    """
    texts = [str(value) for value in values]
    padded = 4 * len(texts) * max(map(len, texts), default=0)
    return np.array(texts, dtype=object if padded > PADDED_BYTES else str)
