"""A run folder from an analysis: every file but the manifest is a pure function of the inputs."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import workbench
from workbench.evaluate.analysis import Analysis, Ranked
from workbench.evaluate.prepare import Prepared
from workbench.evaluate.scores import definitions, first_positive
from workbench.files import canonical_hash, write_atomically, write_json
from workbench.machine import git_revision, hardware, versions
from workbench.meter import Meter
from workbench.runs import (
    SCHEMA,
    file_digests,
    neighbour_columns,
    results_json,
    safe_name,
    write_parquet,
    write_trec,
)  # fmt: skip
from workbench.types import Embeddings, RankedLists

TIE_RULE = "expected value under random tie order; lists order equal scores by ascending item id"
SCORE_RULE = "float64 dot product of the stored float32 vectors, summed in a fixed order"
NOT_HASHED = ("run", "memory_mb", "keep_embeddings")


def run_name(parameters: Mapping[str, Any], prepared: Prepared, report: str = "audit") -> str:
    """``{report}__{dataset}__{encoder}__{8 hex of parameters and content}``, legal on every file system."""
    hashed = {name: value for name, value in parameters.items() if name not in NOT_HASHED}
    sides = prepared.collection.images, prepared.collection.texts
    columns = [
        [side.modality, name, [str(value) for value in side.columns[name]]]
        for side in sides for name in sorted(side.columns)
    ]  # fmt: skip
    digest = canonical_hash([hashed, prepared.content_hash, dict(prepared.about), *columns])[:8]
    given = "vectors" if prepared.collection.lists is None else "lists"
    encoder = prepared.encoder.name if prepared.encoder is not None else given
    return f"{report}__{safe_name(prepared.collection.card.name)}__{safe_name(encoder)}__{digest}"


def write_run(path: Path, prepared: Prepared, analysis: Analysis, parameters: Mapping[str, Any]) -> None:
    """metrics, findings, results, per-query table, ranked lists, thumbnails and layers."""
    entries = {name: entry for one in analysis.ranked for name, entry in one.scores.entries().items()}
    write_json(path / "metrics.json", {"schema": SCHEMA, **entries})
    unreadable = [{"id": bad.id, "reason": bad.reason} for bad in prepared.collection.bad]
    findings = [one.flat() for one in analysis.findings]
    write_json(path / "findings.json", {"schema": SCHEMA, "findings": findings, "unreadable": unreadable})
    write_json(path / "results.json", results_json(analysis.results))
    write_parquet(path / "per_query.parquet", _per_query(analysis, prepared))
    if analysis.pictures:
        columns = {"id": list(analysis.pictures), "picture": list(analysis.pictures.values())}
        write_parquet(path / "thumbnails.parquet", columns)
    for one in analysis.ranked:
        ids, lists = (one.direction.queries.ids, one.direction.gallery.ids), one.lists
        if isinstance(lists, RankedLists):
            lists = lists.shortened(parameters["depth"])
        write_trec(path / f"run_{one.direction.name}.trec", lists, *ids)
        write_parquet(path / "layers" / f"neighbours_{one.direction.name}.parquet", neighbour_columns(lists, *ids))
    write_parquet(path / "layers" / "items.parquet", _items(prepared))
    write_parquet(path / "layers" / "relevance.parquet", _relevance(prepared))
    _write_embeddings(path / "layers", prepared, keep=parameters["keep_embeddings"])


def write_manifest(
    path: Path, prepared: Prepared, parameters: Mapping[str, Any], meter: Meter, *, report: str = "audit",
    shown: Iterable[str] | None = None,
) -> None:  # fmt: skip
    """The one file that knows about time and machine; it holds no user name, host name or absolute path.

    shown : names of the parameters that the report has; None for all.
    """
    write_json(
        path / "manifest.json",
        {
            "schema": SCHEMA,
            "workbench": workbench.__version__,
            "git_revision": git_revision(),
            "report": report,
            "files": file_digests(path),
            "parameters": {name: parameters[name] for name in (parameters if shown is None else shown)},
            "card": dict(prepared.collection.card.rows()) | {"content hash": prepared.content_hash},
            "encoder": _plain(dict(prepared.about)),
            "protocol": protocol(prepared, parameters),
            "notes": list(prepared.notes),
            "vectors": {"from cache": prepared.n_cached, "encoded now": prepared.n_encoded},
            "versions": versions(),
            "hardware": hardware(),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "seconds": {name: round(seconds, 3) for name, seconds in meter.seconds.items()},
            "peak_memory_bytes": meter.peak_bytes,
        },
    )


def protocol(prepared: Prepared, parameters: Mapping[str, Any]) -> dict[str, str]:
    """The protocol card: what has to be said beside the numbers, ready to be pasted into a paper."""
    counts, card = prepared.counts, prepared.collection.card
    encoder = prepared.encoder.name if prepared.encoder is not None else "ready-made vectors"
    clusters = len(np.unique(prepared.directions()[0].clusters))
    texts, images = counts.texts_are, counts.images_are
    together = "each query is its own cluster" if prepared.collection.one_way else "captions of one image are one"
    own = f"{counts.pairs:,} right pairs; right {images} per {prepared.texts.modality}: {counts.positives_per_text}"
    return {
        "data": f"{card.name}, split {parameters['split'] or 'as given'}: {counts.line()}",
        "content hash": prepared.content_hash[:16],
        "relevance": own if prepared.judged else f"none stated between {texts} and {images}",
        **_searched_how(prepared, encoder, parameters),
        "ties": TIE_RULE,
        "intervals": (
            f"95 % percentile bootstrap over {clusters:,} clusters ({together}), "
            f"{parameters['n_resamples']:,} resamples, seed {parameters['seed']}"
        ),
        "repairs": _repairs(prepared, parameters),
        **definitions(parameters["metrics"]),
    }


def _searched_how(prepared: Prepared, encoder: str, parameters: Mapping[str, Any]) -> dict[str, str]:
    if not isinstance(prepared.images, Embeddings):
        size = parameters["gallery_size"]
        return {
            "search": "done elsewhere; the scores in the lists decide, not the rank column",
            "gallery": f"{size:,} items, as stated" if size else "of unknown size; only what was returned or judged",
            "short lists": parameters["short_lists"],
        }
    text = f"; text template {parameters['text_template']!r}" if parameters["text_template"] else ""
    return {
        "encoder": f"{encoder}, {prepared.images.dim} dimensions, similarity {parameters['similarity']}{text}",
        "search": f"exact, whole gallery, no re-ranking; score of a pair: {SCORE_RULE}",
    }


def _repairs(prepared: Prepared, parameters: Mapping[str, Any]) -> str:
    if not isinstance(prepared.images, Embeddings) or not prepared.judged or not parameters["repairs"]:
        return "none"
    return f"{', '.join(parameters['repairs'])}; bank: {_bank(parameters['bank'])}"


def _bank(bank: str) -> str:
    if bank == "cross-fit":
        return "cross-fit in halves (the queries of one half of the images repair the other half, scored on its own)"
    return f"inductive (split {bank!r}, disjoint from what is scored)"


def _per_query(analysis: Analysis, prepared: Prepared) -> dict[str, Any]:
    tables = [_direction_rows(one, prepared) for one in analysis.ranked]
    names = list(dict.fromkeys(name for table in tables for name in table))
    return {name: [value for table in tables for value in table.get(name) or _blank(table)] for name in names}


def _blank(table: Mapping[str, list[Any]]) -> list[None]:
    return [None] * len(table["query_id"])


def _direction_rows(one: Ranked, prepared: Prepared) -> dict[str, list[Any]]:
    direction, places = one.direction, first_positive(one.ranks)
    found = (places["n_better"] >= 0) & (places["n_better"] < one.ranks.n_gallery)
    first_rank = np.where(found, places["place"], np.nan)
    collection = prepared.collection
    side = collection.texts if direction.queries.modality == collection.texts.modality else collection.images
    return {
        "direction": [direction.name] * len(direction.queries),
        "query_id": list(direction.queries.ids),
        "cluster_id": direction.clusters.tolist(),
        "best_place": _nullable(first_rank),
        "n_better": np.where(found, places["n_better"], 0).tolist(),
        "n_tied": np.where(found, places["n_tied"], 0).tolist(),
        **{name: _nullable(values.expected) for name, values in one.values.items()},
        **{f"{side.modality}:{name}": [str(value) for value in column] for name, column in side.columns.items()},
    }


def _nullable(values: np.ndarray) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def _items(prepared: Prepared) -> dict[str, list[str]]:
    sides = (
        (prepared.images, prepared.image_digests, prepared.image_inputs),
        (prepared.texts, prepared.text_digests, prepared.text_inputs),
    )
    return {
        "modality": [side.modality for side, _, _ in sides for _ in side.ids],
        "id": [name for side, _, _ in sides for name in side.ids],
        "content_sha256": [digest for _, digests, _ in sides for digest in digests],
        "input_sha256": [digest for _, _, inputs in sides for digest in inputs],
        "vector_digest": [digest for side, contents, _ in sides for digest in _vector_digests(side, contents)],
    }


def _vector_digests(side: Any, contents: tuple[str, ...]) -> list[str]:
    """The first 16 digits of the SHA-256 of every vector; none where contents are withheld: they would show through."""
    from workbench.datasets import content_digest

    withheld = any(digest.startswith("content-") for digest in contents)
    if withheld or not isinstance(side, Embeddings):
        return [""] * len(side.ids)
    return [content_digest(vector)[:16] for vector in side.vectors]


def _relevance(prepared: Prepared) -> dict[str, Any]:
    """The labelled pairs (grade 0: judged wrong) by id, in the direction text to image or query to document."""
    import pyarrow

    truth = prepared.collection.relevance
    sides = (("query_id", truth.queries, prepared.texts.ids), ("item_id", truth.items, prepared.images.ids))
    return {
        **{
            name: pyarrow.DictionaryArray.from_arrays(np.asarray(places, np.int32), list(ids))
            for name, places, ids in sides
        },
        "grade": truth.grades,
    }


def _write_embeddings(layers: Path, prepared: Prepared, *, keep: bool) -> None:
    from workbench.datasets import content_digest

    sides = [side for side in (prepared.images, prepared.texts) if isinstance(side, Embeddings)]
    if len({side.modality for side in sides}) < len(sides):
        raise ValueError(
            f"both sides are of the modality {sides[0].modality!r}, and a run keeps vectors by modality; give the "
            "sides two names, such as 'document' and 'query'"
        )
    described = {
        side.modality: _describe(side, content_digest(side.vectors)) | {"told_apart_by": _told_apart_by(side, prepared)}
        for side in sides
    }
    write_json(layers / "embeddings.json", {"schema": SCHEMA, "encoder": _plain(dict(prepared.about)), **described})
    if keep and sides:
        from safetensors.numpy import save

        arrays = {side.modality: np.ascontiguousarray(side.vectors) for side in sides}
        write_atomically(layers / "embeddings.safetensors", save(arrays))


def _told_apart_by(side: Embeddings, prepared: Prepared) -> str:
    """What content_sha256 in items.parquet is the digest of: of ready-made vectors the contents are rarely known."""
    known = prepared.encoder is not None or (side is prepared.texts and len(prepared.collection.texts.content))
    return "content" if known else "vector"


def _describe(side: Embeddings, digest: str) -> dict[str, Any]:
    return {"sha256": digest, "n": len(side), "dim": side.dim, "dtype": side.vectors.dtype.name}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)
