"""Worlds of vectors in which it is known what is wrong: a meter is tried here before it is believed elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workbench.types import FloatArray, IntArray, Relevance, unit_vectors

COMMON = 0.7
"""What all vectors have in common, as a part of their length 1: two random vectors of a side have a cosine near 0.5."""
_STREAMS = ("clusters", "items", "queries", "bank items", "bank queries", "hubs")
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class HubbyWorld:
    """Queries and a gallery, a bank of each from other items, and what is true of them; all vectors of length one.

    queries (n_queries, dim), gallery (n_gallery, dim) : float32. query_item (n_queries,) : the one right item of each
    query, also the cluster of a bootstrap. relevance : the same, (n_queries, n_gallery).
    hubs : ascending indices of the planted hubs; empty at strength 0. clusters (n_gallery,) : items of one label
    resemble each other; without clusters every item has its own.
    query_bank (n_bank, dim), gallery_bank (n_bank_gallery, dim) : of items that are not in the gallery (inductive),
    without hubs. bank_item (n_bank,) : the right item of each bank query in gallery_bank.
    """

    queries: Vectors
    gallery: Vectors
    query_item: IntArray
    relevance: Relevance
    hubs: IntArray
    clusters: IntArray
    query_bank: Vectors
    gallery_bank: Vectors
    bank_item: IntArray


def hubby_world(
    *, n_gallery: int = 300, queries_per_item: int = 5, dim: int = 32, n_hubs: int = 6, hub_strength: float = 1.0,
    gap: float = 0.5, noise: float = 1.2, n_clusters: int = 0, spread: float = 0.0, bank_shift: float = 0.0,
    n_bank: int = 500, n_bank_gallery: int = 200, seed: int = 0,
) -> HubbyWorld:  # fmt: skip
    """A world of vectors with planted hubs, in which diagnostics and repairs of hubness can be held against the truth.

        item  = sqrt(1 - gap^2 / 4) unit(0.7 common + 0.714 u)  -  gap / 2 across     u random, of length one
        query = sqrt(1 - gap^2 / 4) unit(0.7 common + 0.714 v)  +  gap / 2 across     v = unit(u + noise z), |z| near 1
        hub   = unit(item + hub_strength centre)                                      centre = unit(mean of the queries)

    ``common`` is the first axis, ``across`` the second, u and v live on the other dim - 2.

    Sizes, in items and vectors
        n_gallery >= 2, queries_per_item >= 1 : n_queries is their product. n_bank, n_bank_gallery >= 1 : bank queries
        take turns over the bank items. seed >= 0 : of all draws; the same arguments give the same bytes, and turning a
        dial leaves the random numbers of the others as they were.
    dim >= 4
        More dimensions make the task easier at the same noise.
    n_hubs 0..n_gallery, hub_strength >= 0
        How many items are hubs, and how far each is pulled towards the middle of the queries, in lengths of the item; 0
        plants none. The skewness soon reaches the most that n_hubs can give; the share of places they hold rises on.
    gap 0 <= gap < 2
        Distance of the centroids of the two sides (but for chance and hubs), in lengths of a vector. Without hubs it
        changes no ranking: all scores shrink and shift alike. A hub is pulled across it: the wider, the more it costs.
    noise >= 0
        Length of what a query adds to its item, in lengths of u: the cosine of u and v is near 1 / sqrt(1 + noise^2).
    n_clusters 0..n_gallery
        Items of a cluster have a cosine near 0.5 in u: fewer clusters, more look-alikes, lower hit@1. 0 makes none. The
        bank has the same clusters.
    spread 0..1
        How unequally far from the middle vectors lie: 0 all alike; 1 as in a normal distribution, u and v being
        multiplied by sqrt(chi^2 / (dim - 2)). With it the dimension makes hubs that nobody planted; without it not.
    bank_shift 0..1
        Every bank query is turned by bank_shift x 90 degrees: at 0 the bank is of the domain of the queries, at 1 it
        has nothing in common with them. The gallery bank stays in the domain. With an odd dim the last axis stays.

    With k = 10 and the other dials at their defaults, :func:`workbench.diagnostics.hubness` finds all planted hubs and
    no others from ``hub_strength`` 0.25 on, with or without a gap, and none at strength 0.
    Returns :class:`HubbyWorld`. Raises ValueError for a value outside its range.
    Sources: M. Radovanovic, A. Nanopoulos, M. Ivanovic, "Hubs in Space: Popular Nearest Neighbors in High-Dimensional
    Data", JMLR 11, 2010, https://jmlr.org/papers/v11/radovanovic10a.html (hubs lie near the centre; the dimension makes
    them); W. Liang, Y. Zhang, Y. Kwon, S. Yeung, J. Zou, "Mind the Gap: Understanding the Modality Gap in Multi-modal
    Contrastive Representation Learning", NeurIPS 2022, https://arxiv.org/abs/2203.02053 (common direction, and gap).

    >>> world = hubby_world(gap=0.5, noise=0.0, n_hubs=0)
    >>> world.queries.shape, world.gallery.shape, world.relevance.row(7)[0], world.hubs.size
    ((1500, 32), (300, 32), array([1]), 0)
    >>> round(float(world.queries[7] @ world.gallery[1]), 3)  # without noise 1 - gap^2 / 2
    0.875
    """
    _check_counts(
        n_gallery=(n_gallery, 2, None), queries_per_item=(queries_per_item, 1, None), dim=(dim, 4, None),
        n_hubs=(n_hubs, 0, n_gallery), n_clusters=(n_clusters, 0, n_gallery), n_bank=(n_bank, 1, None),
        n_bank_gallery=(n_bank_gallery, 1, None), seed=(seed, 0, None),
    )  # fmt: skip
    _check_dials(
        hub_strength=(hub_strength, np.inf), gap=(gap, 2.0), noise=(noise, np.inf), spread=(spread, 1.0),
        bank_shift=(bank_shift, 1.0),
    )  # fmt: skip
    draws = {name: np.random.default_rng([seed, number]) for number, name in enumerate(_STREAMS)}
    kinds = _directions(draws["clusters"], n_clusters, dim - 2)
    items = _items(draws["items"], n_gallery, dim, kinds)
    bank_items = _items(draws["bank items"], n_bank_gallery, dim, kinds)
    own, bank_own = np.repeat(np.arange(n_gallery), queries_per_item), np.arange(n_bank) % n_bank_gallery
    queries = _queries(draws["queries"], items[own], noise, spread, gap)
    bank = _queries(draws["bank queries"], bank_items[bank_own], noise, spread, gap)
    gallery = _placed(draws["items"], items, spread, -gap)
    hubs = np.sort(draws["hubs"].permutation(n_gallery)[: n_hubs if hub_strength > 0 else 0])
    gallery[hubs] += hub_strength * _unit(queries.mean(axis=0, keepdims=True))
    return HubbyWorld(
        queries=unit_vectors(queries), gallery=unit_vectors(gallery), query_item=own,
        relevance=Relevance.from_pairs(np.arange(len(own)), own, n_queries=len(own), n_gallery=n_gallery),
        hubs=hubs, clusters=np.arange(n_gallery) % (n_clusters or n_gallery),
        query_bank=unit_vectors(_turned(bank, bank_shift)),
        gallery_bank=unit_vectors(_placed(draws["bank items"], bank_items, spread, -gap)), bank_item=bank_own,
    )  # fmt: skip


def _check_counts(**counts: tuple[int, int, int | None]) -> None:
    """Each is (value, least, most); no most is None."""
    for name, (value, least, most) in counts.items():
        whole = not isinstance(value, bool) and isinstance(value, (int, np.integer))
        if not whole or value < least or (most is not None and value > most):
            reach = f"at least {least}" if most is None else f"{least}..{most} (n_gallery = {most})"
            raise ValueError(f"{name} must be a whole number, {reach}; got {value!r}")


def _check_dials(**dials: tuple[float, float]) -> None:
    """Each is (value, most), from zero; the gap ends below its most, where nothing but the gap would be left."""
    for name, (value, most) in dials.items():
        if not 0 <= value <= most or not np.isfinite(value) or (name == "gap" and value == most):
            reach = "of 0 or more" if most == np.inf else f"from 0 to {'below ' if name == 'gap' else ''}{most:g}"
            raise ValueError(f"{name} must be a finite number {reach}; got {value!r}")


def _unit(rows: FloatArray) -> FloatArray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float64)


def _directions(rng: np.random.Generator, n: int, width: int) -> FloatArray:
    return _unit(rng.normal(size=(n, width)))


def _items(rng: np.random.Generator, n: int, dim: int, kinds: FloatArray) -> FloatArray:
    """(n, dim - 2) what is particular to each item; items take turns over the clusters."""
    own = _directions(rng, n, dim - 2)
    return own if not len(kinds) else _unit(own + kinds[np.arange(n) % len(kinds)])


def _queries(rng: np.random.Generator, items: FloatArray, noise: float, spread: float, gap: float) -> FloatArray:
    added = rng.normal(size=items.shape) / np.sqrt(items.shape[1])
    return _placed(rng, _unit(items + noise * added), spread, gap)


def _placed(rng: np.random.Generator, particular: FloatArray, spread: float, gap: float) -> FloatArray:
    """(n, dim) vectors of length one on their side of the gap."""
    n, width = particular.shape
    lengths = (rng.chisquare(width, size=(n, 1)) / width) ** (spread / 2)
    within = _unit(np.hstack([np.full((n, 1), COMMON), np.sqrt(1 - COMMON**2) * lengths * particular]))
    return np.insert(np.sqrt(1 - gap**2 / 4) * within, 1, gap / 2, axis=1)


def _turned(vectors: FloatArray, shift: float) -> FloatArray:
    """Every vector turned by shift x 90 degrees, in the planes of the axes (j, j + dim // 2)."""
    half, angle = vectors.shape[1] // 2, shift * np.pi / 2
    first, second, rest = np.split(vectors, [half, 2 * half], axis=1)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.hstack([cos * first - sin * second, sin * first + cos * second, rest])
