"""The numbers of a run counted again from what the run kept: values per query, lists, judgements, vectors.

Each check raises a ValueError that names the file at fault, or says in words what it has recounted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.metrics import Metric, aggregate, parse_metric, per_query, ranks_from_lists, ranks_from_scores
from workbench.runs.world import World
from workbench.search import pair_scores
from workbench.statistics import cluster_bootstrap
from workbench.types import FloatArray, IntArray, RankedLists, Ranks

if TYPE_CHECKING:
    from workbench.runs.reading import Run

SLACK = 1e-9
MOST_RESAMPLES = 100_000
MOST_PAIRS, MOST_PRODUCTS = 4_000_000, 200_000_000
BY_THE_FIRST = ("hit", "RR", "MRR", "MedR", "MeanR")
"""Metrics that the first right item decides."""


def headline(run: Run, world: World) -> str:
    """Value, interval, n and clusters of every metric of metrics.json, from the values per query."""
    names = metric_names(run)
    given = {key.partition("/")[2] for key in run.metrics if key.partition("/")[0] == world.name}
    if given != set(names):
        odd = ", ".join(sorted(given ^ set(names)))
        raise ValueError(f"metrics.json and the parameter metrics of manifest.json differ in {world.name}: {odd:.200}")
    resamples = _resamples(run.manifest["parameters"])
    for name in names:
        entry, values = run.metrics[f"{world.name}/{name}"], world.values(name)
        if values.dtype != np.float64 or np.isinf(values).any():
            raise ValueError(f"per_query.parquet: {name} of {world.name} holds what is no finite number")
        expected = _counted(parse_metric(name), values, world.values("cluster_id"), resamples)
        _hold(entry, expected, f"metrics.json: {world.name}/{name}", "the values in per_query.parquet give")
        _check_measurable(world, parse_metric(name), values)
    intervals = "with their intervals" if resamples else "without their intervals (no usable n_resamples and seed)"
    return f"{len(names)} metrics of {len(world.queries):,} queries follow from per_query.parquet, {intervals}"


def metric_names(run: Run) -> list[str]:
    """The metrics that the parameters ask for, as they are printed."""
    asked = run.manifest["parameters"].get("metrics")
    if not isinstance(asked, list) or not all(isinstance(name, str) for name in asked):
        raise ValueError(f"manifest.json: the parameter metrics is {asked!r:.60}; expected a list of names")
    return [str(parse_metric(name)) for name in asked]


def _resamples(parameters: Mapping[str, Any]) -> dict[str, int]:
    """n_resamples and seed, where they are sane: a stranger's folder may ask for any amount of work."""
    wanted = {name: parameters.get(name) for name in ("n_resamples", "seed")}
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in wanted.values()):
        return {}
    return wanted if 100 <= wanted["n_resamples"] <= MOST_RESAMPLES and wanted["seed"] >= 0 else {}  # type: ignore


def _counted(metric: Metric, values: FloatArray, clusters: np.ndarray, resamples: Mapping[str, int]) -> dict[str, Any]:
    if np.isnan(values).all():
        return {"value": None, "low": None, "high": None, "n": 0, "clusters": 0}
    scored = ~np.isnan(values)
    expected: dict[str, Any] = {
        "value": aggregate(metric, values), "n": int(scored.sum()), "clusters": len(np.unique(clusters[scored])),
    }  # fmt: skip
    if resamples:
        statistic = "median" if metric.name == "MedR" else "mean"
        found = cluster_bootstrap(values, clusters, statistic=statistic, **resamples)  # type: ignore[arg-type]
        expected |= {"low": _plain(found.low), "high": _plain(found.high)}
    return expected


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _hold(entry: Mapping[str, Any], expected: Mapping[str, Any], what: str, source: str) -> None:
    for name, value in expected.items():
        stated = entry.get(name)
        if (stated is None) != (value is None) or (
            value is not None and abs(stated - value) > SLACK * max(1.0, abs(value))
        ):
            raise ValueError(f"{what} has {name} {stated!r:.40}, but {source} {value!r}")


def _check_measurable(world: World, metric: Metric, values: FloatArray) -> None:
    """Without a single value a metric must be one that cannot be had here."""
    if world.listed or world.relevance is None or not np.isnan(values).all():
        return
    if world.relevance.n_positives and not (metric.k is not None and metric.k > world.n_gallery):
        raise ValueError(
            f"per_query.parquet has no value of {metric} in {world.name}, though {world.relevance.n_positives:,} pairs "
            f"are right and the gallery has {world.n_gallery:,} items"
        )


def from_lists(run: Run, world: World, lists: RankedLists) -> str:
    """Values per query from lists and judgements, as far as the lists reach, and the brackets and chance of metrics."""
    assert world.relevance is not None
    safe = _certain_places(run, world, lists)
    ranks = ranks_from_lists(lists, world.relevance)
    ranks = replace(ranks, depth=np.full(ranks.n_queries, world.n_gallery))
    first, everything = _known(ranks, safe)
    source = f"layers/neighbours_{world.name}.parquet and layers/relevance.parquet give"
    _check_first(world, ranks, np.arange(ranks.n_queries), first, source)
    counted = total = 0
    for name in metric_names(run):
        metric, values = parse_metric(name), world.values(name)
        if np.isnan(values).all() and ranks.n_queries:
            continue
        known = _decided(metric, ranks, safe, first, everything)
        found = per_query(metric, ranks, short_lists="as is")
        _check_values(world, name, values, found.expected, known, np.arange(ranks.n_queries), source)
        expected: dict[str, Any] = {}
        if known.all():
            expected = {side: _plain(aggregate(metric, getattr(found, side))) for side in ("worst", "best")}
        if world.gallery_known:
            expected["chance"] = _plain(aggregate(metric, per_query(metric, _constant(ranks)).expected))
        _hold(run.metrics[f"{world.name}/{name}"], expected, f"metrics.json: {world.name}/{name}", source)
        counted, total = counted + int(known.sum()), total + len(known)
    return f"{counted:,} of {total:,} values per query follow from the kept lists and judgements" + (
        "" if counted == total else "; the others are decided deeper than the lists reach"
    )


def _certain_places(run: Run, world: World, lists: RankedLists) -> IntArray:
    """For each query the places whose items and ties are known: all of a whole ranking, else those above the last
    score, which an item outside of the list may share."""
    depth = run.manifest["parameters"].get("depth")
    limit = depth if isinstance(depth, int) else int(lists.depths.max(initial=0))
    whole = lists.depths < limit if world.listed else lists.depths == world.n_gallery
    above = [int((scores > scores[-1]).sum()) if len(scores) else 0 for _, scores in map(lists.row, range(len(whole)))]
    return np.where(whole, np.iinfo(np.int64).max, above)


def _known(ranks: Ranks, safe: IntArray) -> tuple[np.ndarray, np.ndarray]:
    """Per query: is the tie group of the first right item known; are those of all right items."""
    inside = ranks.better < safe[ranks.queries]
    count = np.bincount(ranks.queries, inside, ranks.n_queries)
    whole = safe == np.iinfo(np.int64).max
    return whole | (count > 0), whole | (count == ranks.positives_per_query)


def _decided(metric: Metric, ranks: Ranks, safe: IntArray, first: np.ndarray, everything: np.ndarray) -> np.ndarray:
    """The queries whose value of a metric the certain places decide."""
    reach = ranks.positives_per_query if metric.name in ("R-precision", "mAP@R") else metric.k or ranks.n_gallery
    return (reach <= safe) | everything | (first & (metric.name in BY_THE_FIRST))


def _constant(ranks: Ranks) -> Ranks:
    n = len(ranks.items)
    return replace(ranks, better=np.zeros(n, np.int64), tied=np.full(n, ranks.n_gallery - 1))


def _check_values(
    world: World, name: str, stated: FloatArray, found: FloatArray, known: np.ndarray, rows: IntArray, source: str
) -> None:
    """stated : of all queries. found, known : of the queries ``rows``."""
    given = stated[rows]
    close = (np.isnan(given) & np.isnan(found)) | (np.abs(given - found) <= SLACK * np.maximum(1, np.abs(found)))
    wrong = known & ~close
    if wrong.any():
        row = int(np.argmax(wrong))
        more = f" ({int(wrong.sum()):,} values differ)" if wrong.sum() > 1 else ""
        raise ValueError(
            f"per_query.parquet: {name} of {world.name} query {world.queries[rows[row]]!r:.60} is {given[row]:g}, but "
            f"{source} {found[row]:g}{more}"
        )


def _check_first(world: World, ranks: Ranks, rows: IntArray, known: np.ndarray, source: str) -> None:
    """n_better, n_tied and best_place of the first right item."""
    better, tied, place = (np.zeros(len(rows)), np.zeros(len(rows)), np.full(len(rows), np.nan))
    for query in range(len(rows)):
        part = slice(ranks.indptr[query], ranks.indptr[query + 1])
        if part.start < part.stop and ranks.better[part].min() < ranks.n_gallery:
            best = int(np.argmin(ranks.better[part])) + part.start
            together = int((ranks.better[part] == ranks.better[best]).sum())
            better[query], tied[query] = ranks.better[best], ranks.tied[best]
            place[query] = better[query] + (tied[query] + 2) / ((together if tied[query] else 1) + 1)
    known = known | (ranks.positives_per_query == 0)
    for name, found in (("n_better", better), ("n_tied", tied), ("best_place", place)):
        _check_values(world, name, world.values(name), found, known, rows, source)


def stored_vectors(run: Run, path: Path) -> tuple[dict[str, np.ndarray], str]:
    """The kept vectors, whose digests must be those of embeddings.json."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    from workbench.datasets import content_digest

    shown, about = "layers/embeddings.safetensors", run.embeddings
    try:
        arrays = load(path.read_bytes())
    except SafetensorError as error:
        raise ValueError(f"{shown} is damaged ({error}); evaluate again") from error
    if set(arrays) != set(about):
        raise ValueError(f"{shown} holds {sorted(arrays)}, but layers/embeddings.json describes {sorted(about)}")
    for name, entry in about.items():
        found = arrays[name]
        if found.ndim != 2 or not np.isfinite(found).all():
            raise ValueError(
                f"{shown}: the {name} vectors {found.shape} hold NaN or infinity, or are no (n, dim) table"
            )
        facts = {"n": found.shape[0], "dim": found.shape[1], "dtype": found.dtype.name, "sha256": content_digest(found)}
        for key, value in facts.items():
            if entry.get(key) != value:
                stated = f"layers/embeddings.json has {entry.get(key)!r:.80}"
                raise ValueError(f"{shown}: {key} of the {name} vectors is {value}, but {stated}")
    _check_each(run, arrays)
    return arrays, f"{' and '.join(arrays)} vectors have the digests of layers/embeddings.json"


def _check_each(run: Run, arrays: Mapping[str, np.ndarray]) -> None:
    """The digest of every vector in items.parquet, where the version that wrote it kept them."""
    from workbench.datasets import content_digest

    items = run.items
    stated = items.get("vector_digest", [""] * len(items["id"]))
    for name, vectors in arrays.items():
        rows = [row for row, modality in enumerate(items["modality"]) if modality == name]
        for row, vector in zip(rows, vectors, strict=False):
            if stated[row] and stated[row] != content_digest(vector)[: len(stated[row])]:
                raise ValueError(
                    f"layers/items.parquet: the vector_digest of {items['id'][row]!r:.60} is {stated[row]!r:.40}, not "
                    "that of its vector in layers/embeddings.safetensors"
                )


def from_vectors(run: Run, world: World, lists: RankedLists, queries: np.ndarray, gallery: np.ndarray) -> str:
    """Scores, lists and values per query of a sample of queries, spread evenly, from the vectors alone."""
    if (len(queries), len(gallery)) != (len(world.queries), len(world.gallery)):
        raise ValueError(
            f"layers/embeddings.safetensors has {len(queries)} and {len(gallery)} vectors for {len(world.queries)} "
            f"queries and {len(world.gallery)} items"
        )
    n, dim = gallery.shape
    size = min(len(queries), max(1, min(MOST_PAIRS, MOST_PRODUCTS // dim) // n))
    rows = np.unique(np.linspace(0, len(queries) - 1, size).astype(np.int64))
    scores = pair_scores(queries, gallery, np.repeat(rows, n), np.tile(np.arange(n), len(rows))).reshape(-1, n)
    order = np.argsort(np.array(world.gallery, dtype=object))
    by_id = np.empty(n, np.int64)
    by_id[order] = np.arange(n)
    for row, own in zip(rows, scores, strict=True):
        items, kept = lists.row(row)
        best = np.lexsort((by_id, -own))[: len(items)]
        if not (np.array_equal(best, items) and np.array_equal(own[best], kept)):
            raise ValueError(
                f"layers/neighbours_{world.name}.parquet: the list of query {world.queries[row]!r:.60} is not what its "
                "vector in layers/embeddings.safetensors gives"
            )
    if world.relevance is not None:
        _values_from_scores(run, world, rows, scores)
    return f"scores, lists and values of {len(rows):,} of {len(queries):,} queries follow from the kept vectors"


def _values_from_scores(run: Run, world: World, rows: IntArray, scores: FloatArray) -> None:
    assert world.relevance is not None
    ranks = ranks_from_scores(scores, world.relevance.take(rows, np.arange(world.n_gallery)))
    known, source = np.ones(len(rows), bool), "layers/embeddings.safetensors and layers/relevance.parquet give"
    _check_first(world, ranks, rows, known, source)
    for name in metric_names(run):
        metric, values = parse_metric(name), world.values(name)
        if not np.isnan(values).all():
            _check_values(world, name, values, per_query(metric, ranks).expected, known, rows, source)
