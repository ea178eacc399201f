"""The files of a run folder: names that are legal everywhere, tables and lists with one spelling."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from workbench.codec import to_plain
from workbench.files import write_atomically
from workbench.types import Neighbours, RankedLists

SCHEMA = 1


DRAWN = ("manifest.json", "report.html", "report.ipynb", "failure.json", "figures/")
"""What is not evidence: the file that holds the digests, and what can be drawn again from the rest."""


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a run folder that is evidence, by its path in the folder."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    kept = [name for name in names if not name.startswith(DRAWN)]
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in kept}


def safe_name(text: str) -> str:
    """A piece of a file name that is legal everywhere and says what it came from.

    >>> safe_name("folder:../My Photos?/x"), safe_name("open_clip:ViT-B-32@openai")
    ('folder-My-Photos-x', 'open_clip-ViT-B-32@openai')
    """
    plain = re.sub(r"[^A-Za-z0-9_@.-]+", "-", text.replace("../", "").replace("./", ""))
    return re.sub(r"-{2,}", "-", plain).strip("-. ")[:60].rstrip("-. ") or "unnamed"


def write_parquet(path: Path, columns: Mapping[str, Any]) -> None:
    """A table of plain columns; the same columns give the same bytes."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table(dict(columns)).replace_schema_metadata({"schema": str(SCHEMA)})
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink, compression="zstd")
    write_atomically(path, sink.getvalue().to_pybytes())


def read_parquet(path: Path) -> dict[str, Any]:
    """The columns of a table as lists (binary and text) or arrays (numbers)."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    numeric = {name for name in table.column_names if table.schema.field(name).type in _NUMBERS()}
    return {name: table[name].to_numpy() if name in numeric else table[name].to_pylist() for name in table.column_names}


def _NUMBERS() -> tuple[Any, ...]:
    import pyarrow

    return (pyarrow.int64(), pyarrow.int32(), pyarrow.float64(), pyarrow.float32(), pyarrow.bool_())


def write_trec(path: Path, lists: Neighbours | RankedLists, query_ids: Sequence[str], item_ids: Sequence[str]) -> None:
    """A TREC run: ``query Q0 item rank score tag``, ids percent-encoded, scores with all their digits."""
    queries, items = [quote(name, safe="") for name in query_ids], [quote(name, safe="") for name in item_ids]
    lines = [
        f"{queries[row]} Q0 {items[item]} {rank} {score!r} workbench\n"
        for row, (found, scores) in enumerate(map(lists.row, range(lists.n_queries)))
        for rank, (item, score) in enumerate(zip(found.tolist(), scores.tolist(), strict=True), start=1)
    ]
    write_atomically(path, "".join(lines).encode())


def results_json(results: Mapping[str, Any]) -> dict[str, Any]:
    return {"schema": SCHEMA, "results": to_plain(dict(results))}


def neighbour_columns(
    lists: Neighbours | RankedLists, query_ids: Sequence[str], item_ids: Sequence[str]
) -> dict[str, Any]:
    """The kept lists as flat columns."""
    import pyarrow

    rows = [lists.row(query) for query in range(lists.n_queries)]
    depths = [len(items) for items, _ in rows]
    queries = np.repeat(np.arange(lists.n_queries, dtype=np.int32), depths)
    items, scores = (np.concatenate([row[part] for row in rows]) for part in (0, 1))
    return {
        "query_id": pyarrow.DictionaryArray.from_arrays(queries, list(query_ids)),
        "item_id": pyarrow.DictionaryArray.from_arrays(items.astype(np.int32), list(item_ids)),
        "rank": np.concatenate([np.arange(1, depth + 1, dtype=np.int32) for depth in depths]),
        "score": scores,
    }
