"""Run folders: what an evaluation leaves behind, written atomically and read back with checks.

metrics.json      direction/metric -> value, low, high, worst, best, n, clusters (fractions 0-1)
findings.json     verdicts, worst first
results.json      what the report draws
per_query.parquet one row per direction and query
run_t2i.trec ...  ranked lists, ids percent-encoded
thumbnails.parquet  the pictures the report shows
layers/           items.parquet, embeddings.json, neighbours_{direction}.parquet
manifest.json     parameters, versions, hardware, timings: the only file with time, host facts or file names
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from workbench.codec import from_plain, to_plain
from workbench.files import write_atomically, write_json
from workbench.types import Finding, Neighbours

SCHEMA = 1


def safe_name(text: str) -> str:
    """A piece of a file name that is legal everywhere and says what it came from.

    >>> safe_name("folder:../My Photos?/x"), safe_name("open_clip:ViT-B-32@openai")
    ('folder-My-Photos-x', 'open_clip-ViT-B-32@openai')
    """
    plain = re.sub(r"[^A-Za-z0-9_@.-]+", "-", text.replace("../", "").replace("./", ""))
    return re.sub(r"-{2,}", "-", plain).strip("-. ")[:60].rstrip("-. ") or "unnamed"


def without_place(source: str) -> str:
    """A source as it may leave the machine: of an absolute path only the last part is kept.

    >>> without_place("folder:/home/ada/photos"), without_place("scenes"), without_place("folder:data/x")
    ('folder:.../photos', 'scenes', 'folder:data/x')
    """
    name, colon, where = source.partition(":")
    if not colon:
        return source
    parts = []
    for path in where.split(","):
        plain = path.replace("\\", "/")
        absolute = plain.startswith(("/", "~")) or re.match(r"[A-Za-z]:/", plain)
        parts.append(".../" + plain.rstrip("/").rpartition("/")[2] if absolute else path)
    return name + colon + ",".join(parts)


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


def write_trec(path: Path, lists: Neighbours, query_ids: Sequence[str], item_ids: Sequence[str]) -> None:
    """A TREC run: ``query Q0 item rank score tag``, ids percent-encoded, scores with all their digits."""
    queries, items = [quote(name, safe="") for name in query_ids], [quote(name, safe="") for name in item_ids]
    lines = [
        f"{queries[row]} Q0 {items[item]} {rank} {score!r} workbench\n"
        for row, (found, scores) in enumerate(zip(lists.indices.tolist(), lists.scores.tolist(), strict=True))
        for rank, (item, score) in enumerate(zip(found, scores, strict=True), start=1)
    ]
    write_atomically(path, "".join(lines).encode())


class RunFolder:
    """A folder being written: ``NAME.partial`` until :meth:`finish` renames it, ``NAME.failed`` after :meth:`fail`."""

    def __init__(self, out: Path, name: str) -> None:
        self.name = name
        self.path = _free(out, f"{name}.partial")
        self.path.mkdir(parents=True)

    def finish(self) -> Path:
        """Rename to the final name, with ``-2``, ``-3``, ... when it is taken."""
        return self._rename("")

    def fail(self, where: str, error: str) -> Path:
        """Keep what there is, with ``failure.json`` saying where it stopped."""
        write_json(self.path / "failure.json", {"schema": SCHEMA, "stage": where, "error": error})
        return self._rename(".failed")

    def _rename(self, ending: str) -> Path:
        target = _free(self.path.parent, self.name + ending)
        self.path.rename(target)
        self.path = target
        return target


def _free(out: Path, name: str) -> Path:
    stem, dot, ending = name.rpartition(".") if name.endswith((".partial", ".failed")) else (name, "", "")
    number = 1
    while (path := out / (f"{stem}{'' if number == 1 else f'-{number}'}{dot}{ending}")).exists():
        number += 1
    return path


class Run:
    """A finished run folder, read lazily and validated on reading.

    >>> Run("no-such-folder")
    Traceback (most recent call last):
    FileNotFoundError: no-such-folder is no run folder (it has no manifest.json); give one that ...
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / "manifest.json").is_file():
            raise FileNotFoundError(
                f"{self.path} is no run folder (it has no manifest.json); give one that `workbench evaluate` wrote"
            )
        self.manifest = self._json("manifest.json")

    def __repr__(self) -> str:
        return f"Run({self.path.name!r}, {len(self.metrics)} metrics, {len(self.findings)} findings)"

    def _json(self, name: str) -> dict[str, Any]:
        content = json.loads((self.path / name).read_text(encoding="utf-8"))
        if content.get("schema") != SCHEMA:
            raise ValueError(
                f"{self.path.name}/{name} has schema {content.get('schema')!r}, this version reads {SCHEMA}; "
                "draw it with the version of workbench named in its manifest.json"
            )
        return dict(content)

    @cached_property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """``"t2i/hit@1"`` -> value, low, high, worst, best, n, clusters."""
        return {name: entry for name, entry in self._json("metrics.json").items() if name != "schema"}

    @cached_property
    def findings(self) -> list[Finding]:
        return [
            Finding(**{**entry, "interval": None if entry["interval"] is None else tuple(entry["interval"])})
            for entry in self._json("findings.json")["findings"]
        ]

    @cached_property
    def results(self) -> dict[str, Any]:
        """The results behind the report's pictures, restored as the dataclasses that computed them."""
        from workbench.evaluate import RESULT_TYPES

        return dict(from_plain(self._json("results.json")["results"], RESULT_TYPES))

    @cached_property
    def thumbnails(self) -> dict[str, bytes]:
        """Image id -> JPEG or PNG bytes, for the pictures that were kept."""
        path = self.path / "thumbnails.parquet"
        if not path.exists():
            return {}
        columns = read_parquet(path)
        return dict(zip(columns["id"], columns["picture"], strict=True))

    @cached_property
    def per_query(self) -> dict[str, Any]:
        return read_parquet(self.path / "per_query.parquet")

    def neighbours(self, direction: str) -> dict[str, Any]:
        """Columns query_id, item_id, rank, score of the kept lists."""
        return read_parquet(self.path / "layers" / f"neighbours_{direction}.parquet")


def results_json(results: Mapping[str, Any]) -> dict[str, Any]:
    return {"schema": SCHEMA, "results": to_plain(dict(results))}


def neighbour_columns(lists: Neighbours, query_ids: Sequence[str], item_ids: Sequence[str]) -> dict[str, Any]:
    """The kept lists as flat columns."""
    import pyarrow

    queries = np.repeat(np.arange(lists.n_queries, dtype=np.int32), lists.k)
    return {
        "query_id": pyarrow.DictionaryArray.from_arrays(queries, list(query_ids)),
        "item_id": pyarrow.DictionaryArray.from_arrays(lists.indices.ravel().astype(np.int32), list(item_ids)),
        "rank": np.tile(np.arange(1, lists.k + 1, dtype=np.int32), lists.n_queries),
        "score": lists.scores.ravel(),
    }
