"""Run folders: what an evaluation leaves behind, written atomically and read back with checks.

metrics.json      direction/metric -> value, low, high, worst, best, n, clusters (fractions 0-1)
findings.json     verdicts, worst first
results.json      what the report draws
per_query.parquet one row per direction and query
run_t2i.trec ...  ranked lists, ids percent-encoded
thumbnails.parquet  the pictures the report shows
layers/           items.parquet, relevance.parquet, embeddings.json, neighbours_{direction}.parquet
manifest.json     parameters, versions, hardware, timings, digests of the files: the only file with time or host facts
"""

from __future__ import annotations

from workbench.runs.evidence import certify, evidence
from workbench.runs.folder import RunFolder
from workbench.runs.formats import (
    SCHEMA,
    file_digests,
    neighbour_columns,
    read_parquet,
    results_json,
    safe_name,
    write_parquet,
    write_trec,
)  # fmt: skip
from workbench.runs.gather import table
from workbench.runs.reading import Run

__all__ = [
    "SCHEMA", "Run", "RunFolder", "certify", "evidence", "file_digests", "neighbour_columns", "read_parquet",
    "results_json", "safe_name", "table", "write_parquet", "write_trec",
]  # fmt: skip
