"""The run folder of a comparison: results, tables, values per query, and a manifest that names no place."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import workbench
from workbench.evaluate.comparison.findings import findings
from workbench.evaluate.comparison.tables import write_tables
from workbench.evaluate.scores import definitions
from workbench.files import canonical_hash, write_json
from workbench.machine import git_revision, hardware, versions
from workbench.meter import Meter
from workbench.runs import SCHEMA, file_digests, results_json, safe_name, write_parquet

if TYPE_CHECKING:
    from workbench.evaluate.comparison import Compared, Gain, SystemScore

WIDTHS = ("no-content", "no-images", "full")


def comparison_name(found: Compared, parameters: Mapping[str, Any]) -> str:
    """``compare__{dataset}__{n}-runs__{8 hex of parameters and compared runs}``."""
    hashed = {name: value for name, value in parameters.items() if name not in ("run", "runs")}
    for name in ("published", "policy"):
        if hashed[name]:
            hashed[name] = canonical_hash(Path(hashed[name]).read_text(encoding="utf-8"))
    digest = canonical_hash([hashed, *([one.label, one.manifest_sha256] for one in found.systems)])[:8]
    dataset = safe_name(str(found.runs[0].manifest["card"]["name"]))
    return f"compare__{dataset}__{len(found.runs)}-runs__{digest}"


def write_comparison(
    path: Path, found: Compared, results: dict[str, Any], parameters: Mapping[str, Any], meter: Meter
) -> None:  # fmt: skip
    pictures = results.pop("pictures")
    entries = {f"{one.metric} gain({one.system})": _entry(one) for one in results["gains"]}
    if not entries:
        entries = {one.metric: _own(one) for one in results["scores"]}
    write_json(path / "metrics.json", {"schema": SCHEMA, **entries})
    flat = [one.flat() for one in findings(results)]
    write_json(path / "findings.json", {"schema": SCHEMA, "findings": flat, "unreadable": []})
    write_json(path / "results.json", results_json(results))
    write_parquet(path / "per_query.parquet", _per_query(found))
    if pictures:
        write_parquet(path / "thumbnails.parquet", {"id": list(pictures), "picture": list(pictures.values())})
    write_tables(path, results, names=parameters["names"])
    meter.stop()
    write_json(path / "manifest.json", _manifest(path, found, parameters, meter))


def _entry(one: Gain) -> dict[str, Any]:
    values = {"value": one.difference, "low": one.low, "high": one.high, "p": one.p_value, "p_holm": one.p_holm}
    return {name: _plain(value) for name, value in values.items()} | {"n": one.n, "clusters": one.n_clusters}


def _own(one: SystemScore) -> dict[str, Any]:
    values = {"value": one.value, "low": one.low, "high": one.high}
    return {name: _plain(value) for name, value in values.items()} | {"n": one.n, "clusters": one.clusters}


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _per_query(found: Compared) -> dict[str, Any]:
    """One row per direction and query, one column per system and metric."""
    columns: dict[str, list[Any]] = {"direction": [], "query_id": [], "cluster_id": []}
    for one in found.directions:
        columns["direction"] += [one.direction] * len(one.ids)
        columns["query_id"] += one.ids
        columns["cluster_id"] += one.clusters.tolist()
    for place, label in enumerate(found.labels):
        for name in found.directions[0].values:
            values = np.concatenate([one.values[name][place] for one in found.directions])
            columns[f"{label}/{name}"] = [None if np.isnan(value) else value for value in values.tolist()]
    return columns


def _manifest(path: Path, found: Compared, parameters: Mapping[str, Any], meter: Meter) -> dict[str, Any]:
    base = found.runs[found.baseline].manifest
    widths = [run.manifest["parameters"].get("share", "full") for run in (*found.runs, *found.validation)]
    own = {name: Path(str(parameters[name])).name for name in ("published", "policy") if parameters[name]}
    own |= {"baseline": found.systems[found.baseline].folder} if parameters["baseline"] else {}
    folders = [run.path.resolve().name for run in (*found.runs, *found.validation)]
    return {
        "schema": SCHEMA, "workbench": workbench.__version__, "git_revision": git_revision(), "report": "compare",
        "files": file_digests(path),
        "parameters": {**parameters, **own, "runs": folders, "run": ""},
        "share": min(widths, key=WIDTHS.index),
        "compared": [
            {"label": one.label, "folder": one.folder, "manifest_sha256": one.manifest_sha256,
             "content_hash": one.content_hash} for one in found.systems
        ],
        "card": base["card"], "encoder": {"source": ", ".join(dict.fromkeys(one.encoder for one in found.systems))},
        "protocol": _protocol(found, parameters), "versions": versions(), "hardware": hardware(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": {name: round(seconds, 3) for name, seconds in meter.seconds.items()},
        "peak_memory_bytes": meter.peak_bytes,
    }  # fmt: skip


def _protocol(found: Compared, parameters: Mapping[str, Any]) -> dict[str, str]:
    base = found.runs[found.baseline].manifest.get("protocol", {})
    names = list(found.directions[0].values)
    n_tests = len(found.candidates) * len(found.measured())
    return {
        **{name: base[name] for name in ("data", "content hash", "relevance", "ties") if name in base},
        "baseline": found.labels[found.baseline],
        "systems": "; ".join(found.labels),
        "intervals": f"95 % cluster bootstrap, captions of one image are one cluster, paired; "
        f"{parameters['n_resamples']:,} resamples, seed {parameters['seed']}",
        "tests": f"paired randomisation test, whole clusters change sign; Holm's correction over {n_tests} comparisons",
        "places": "simultaneous 95 % sets of places, all systems of one metric at once",
        **definitions(names),
    }  # fmt: skip
