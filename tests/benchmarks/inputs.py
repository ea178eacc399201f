"""Vectors for the benchmarks, written once as .npy files that every process reads, and the float64 definition."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from workbench.search import pair_scores
from workbench.types import unit_vectors

World = Literal["sphere", "cone"]
Array = np.ndarray[Any, Any]
_CHUNK = 50_000
_FLOAT64_SLACK = 1e-12


def directions(rng: np.random.Generator, n: int, dim: int, world: World) -> Array:
    """(n, dim) unit vectors, float32: in all directions alike, or few strong ones around a common mean."""
    vectors = rng.standard_normal((n, dim), dtype=np.float32)
    if world == "cone":
        vectors *= np.arange(1, dim + 1, dtype=np.float32) ** -0.5
        vectors[:, : dim // 16 + 1] += 1.5
    return unit_vectors(vectors)


def near(rng: np.random.Generator, items: Array, noise: float, world: World) -> Array:
    """A unit vector near each item; noise is the length of what is added."""
    return unit_vectors(items + noise * directions(rng, len(items), items.shape[1], world))


def write_gallery(path: Path, rng: np.random.Generator, n: int, dim: int, world: World) -> Array:
    """A gallery written in chunks, as it may be larger than memory; one vector in a hundred is a copy of another."""
    gallery = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, dim))
    for start in range(0, n, _CHUNK):
        gallery[start : start + _CHUNK] = directions(rng, min(_CHUNK, n - start), dim, world)
    copies = rng.permutation(n)[: 2 * (n // 100)].reshape(2, -1)
    gallery[copies[0]] = gallery[copies[1]]
    return gallery


def plant_ties(rng: np.random.Generator, gallery: Array, queries: Array, size: int) -> None:
    """Near each query ``size`` items that no float32 product can order: copies, and copies changed in one last bit."""
    places = rng.permutation(len(gallery))[: size * len(queries)].reshape(len(queries), size)
    for query, rows in zip(queries, places, strict=True):
        cluster = np.repeat(near(rng, query[None], 0.1, "sphere"), size, axis=0)
        nudged = np.arange(1, size, 2)
        at = nudged, nudged % gallery.shape[1]
        cluster[at] = np.nextafter(cluster[at], np.float32(1))
        gallery[rows] = cluster


def defined_scores(queries: Array, gallery: Array) -> Array:
    """(n_queries, n_gallery) float64 products, right to the last bits but one: narrows down what must be looked up."""
    wide = queries.astype(np.float64)
    parts = [wide @ gallery[start : start + _CHUNK].astype(np.float64).T for start in range(0, len(gallery), _CHUNK)]
    return np.concatenate(parts, axis=1)


def defined_top_k(queries: Array, gallery: Array, k: int) -> tuple[Array, Array]:
    """(ids, scores), both (n_queries, k): pair scores in float64, equal ones in ascending order of position."""
    scores = defined_scores(queries, gallery)
    ids, best = np.empty((len(queries), k), np.int64), np.empty((len(queries), k))
    for q, row in enumerate(scores):
        candidates = np.flatnonzero(row >= np.partition(row, -k)[-k] - _FLOAT64_SLACK)
        exact = pair_scores(queries, gallery, np.full(len(candidates), q), candidates)
        order = np.lexsort((candidates, -exact))[:k]
        ids[q], best[q] = candidates[order], exact[order]
    return ids, best


def defined_ranks(queries: Array, gallery: Array, items: Array) -> tuple[Array, Array]:
    """(better, tied), both (n_queries, n_positives), of the positives ``items`` of each query."""
    scores = defined_scores(queries, gallery)
    better, tied = np.empty(items.shape, np.int64), np.empty(items.shape, np.int64)
    for q, row in enumerate(scores):
        for place, item in enumerate(items[q]):
            close = np.flatnonzero(np.abs(row - row[item]) <= _FLOAT64_SLACK)
            exact = pair_scores(queries, gallery, np.full(len(close), q), close)
            own = exact[close == item][0]
            better[q, place] = (row > row[item] + _FLOAT64_SLACK).sum() + (exact > own).sum()
            tied[q, place] = (exact == own).sum() - 1
    return better, tied
