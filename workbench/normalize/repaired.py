"""A repaired search: what to search with in place of the raw vectors, and the search itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from workbench.search import RankPositives, TopK, scan
from workbench.search.restrict import id_order
from workbench.threads import thread_count
from workbench.types import FloatArray, IntArray, Neighbours, Ranks, Relevance

Vectors = npt.NDArray[np.floating]
ScoreTransform = Callable[[FloatArray], FloatArray]
_NUMBERS = 2**22
_GRID = 2.0**-33


@dataclass(frozen=True, eq=False)
class Repaired:
    """Queries and a gallery to search, with what is done to their scores.

    bias : (n_gallery,) to subtract, or a stack with ``bias_row`` (n_queries,), as :class:`workbench.search.TopK` takes
    them. transform : maps scores (m, n_gallery) of some queries to repaired ones, for repairs that are no bias.
    """

    queries: Vectors
    gallery: Vectors
    bias: FloatArray | None = None
    bias_row: IntArray | None = None
    transform: ScoreTransform | None = None

    def search(
        self, k: int, relevance: Relevance, *, ids: Sequence[str] | None = None, memory: int = 2**28
    ) -> tuple[Neighbours, Ranks]:
        """The k nearest of every query, and the ranks of its positives; ties as in :func:`workbench.search.scan`."""
        return search_all([self], k, relevance, ids=ids, memory=memory)[0]


def search_all(
    several: Sequence[Repaired], k: int, relevance: Relevance, *, ids: Sequence[str] | None = None, memory: int = 2**28
) -> list[tuple[Neighbours, Ranks]]:
    """:meth:`Repaired.search` for several repairs; those that share their vectors share a pass over the pairs,
    as many as half of the memory holds the states of."""
    found: dict[int, tuple[Neighbours, Ranks]] = {}
    groups: dict[tuple[int, int], list[int]] = {}
    for i, one in enumerate(several):
        if one.transform is not None:
            found[i] = _search_blocks(one, one.transform, k, relevance, ids)
        else:
            groups.setdefault((id(one.queries), id(one.gallery)), []).append(i)
    for members in groups.values():
        shape = len(several[members[0]].queries), len(several[members[0]].gallery)
        pairs = {i: _consumers(several[i], k, relevance, ids) for i in members}
        each = max(sum(one.state_bytes(*shape) for one in pair) for pair in pairs.values())
        together = max(1, memory // (2 * each))
        for start in range(0, len(members), together):
            batch = members[start : start + together]
            wanted = [one for i in batch for one in pairs[i]]
            results = scan(several[batch[0]].queries, several[batch[0]].gallery, wanted, memory=memory)
            found |= dict(zip(batch, zip(results[::2], results[1::2], strict=True), strict=True))
    return [found[i] for i in range(len(several))]


def _consumers(one: Repaired, k: int, relevance: Relevance, ids: Sequence[str] | None) -> tuple[TopK, RankPositives]:
    return (
        TopK(k, bias=one.bias, bias_row=one.bias_row, ids=ids),
        RankPositives(relevance, bias=one.bias, bias_row=one.bias_row),
    )


def score_blocks(queries: Vectors, gallery: Vectors) -> Iterator[FloatArray]:
    """The score matrix in float64, some rows (about 32 MB) at a time.

    Scores are rounded to 2^-33 of the largest possible one: a matrix product gives equal items scores that differ in
    the last bits, and their ties would be lost.
    """
    items = np.asarray(gallery, np.float64)
    step = max(1, _NUMBERS // len(items))
    for start in range(0, len(queries), step):
        yield _rounded_scores(queries[start : start + step], items)


def _rounded_scores(queries: Vectors, items: FloatArray) -> FloatArray:
    part = np.asarray(queries, np.float64)
    reach = np.sqrt(np.einsum("ij,ij->i", items, items).max() * np.einsum("ij,ij->i", part, part).max())
    grid = 2.0 ** np.ceil(np.log2(max(reach, np.finfo(np.float64).tiny))) * _GRID
    scores = part @ items.T
    scores /= grid
    np.round(scores, out=scores)
    scores *= grid
    return scores


def _search_blocks(
    one: Repaired, transform: ScoreTransform, k: int, relevance: Relevance, ids: Sequence[str] | None
) -> tuple[Neighbours, Ranks]:
    """Block after block of queries, one block per thread at a time: a transform is bound by memory, not by products."""
    n_gallery, truth = len(one.gallery), relevance.positives
    if not 1 <= k <= n_gallery:
        raise ValueError(f"k = {k} must be between 1 and the {n_gallery} items of the gallery")
    place = id_order(ids, n_gallery)
    items, step = np.asarray(one.gallery, np.float64), max(1, _NUMBERS // n_gallery)

    def searched(start: int) -> tuple[npt.NDArray[Any], ...]:
        scores = transform(_rounded_scores(one.queries[start : start + step], items))
        edges = truth.indptr[start : start + len(scores) + 1]
        ranks = _ranks(scores, edges - edges[0], truth.items[edges[0] : edges[-1]])
        return *_nearest(scores, k, place), *ranks

    with ThreadPoolExecutor(thread_count()) as threads:
        parts = list(threads.map(searched, range(0, len(one.queries), step)))
    indices, values, tied, better, equal = (np.concatenate(part) for part in zip(*parts, strict=True))
    depth = np.full(truth.n_queries, n_gallery)
    ranks = Ranks(truth.indptr, truth.items, truth.grades, better, equal, depth, n_gallery)
    return Neighbours(indices, values, n_gallery, True, tied), ranks


def _nearest(scores: FloatArray, k: int, place: IntArray) -> tuple[IntArray, FloatArray, npt.NDArray[np.bool_]]:
    """(m, k) items and scores, best first, ties by ``place``; (m,) whether an item outside ties with the last."""
    n = scores.shape[1]
    kth = np.partition(scores, n - k, axis=1)[:, n - k, None]
    rows, items = np.nonzero(scores >= kth)
    values = scores[rows, items]
    best = np.lexsort((place[items], -values, rows))
    found = np.bincount(rows, minlength=len(scores))
    first = best[(np.cumsum(found) - found)[:, None] + np.arange(k)]
    return items[first], values[first], found > k


def _ranks(scores: FloatArray, edges: IntArray, items: IntArray) -> tuple[IntArray, IntArray]:
    """For every positive how many items of its row score higher, and how many others the same."""
    better, tied = np.zeros(len(items), np.int64), np.zeros(len(items), np.int64)
    size = np.diff(edges)
    for place in range(int(size.max(initial=0))):
        rows = np.flatnonzero(size > place)
        at = edges[rows] + place
        own = scores[rows, items[at]][:, None]
        part = scores if len(rows) == len(scores) else scores[rows]
        better[at] = (part > own).sum(axis=1)
        tied[at] = (part == own).sum(axis=1) - 1
    return better, tied
