"""Ranks of the positives from result lists or from a complete score matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from workbench.types import FloatArray, IntArray, Ranks, Relevance


def _check_list(items: IntArray, scores: FloatArray, query: int, n_gallery: int) -> None:
    where = f"the list of query {query}"
    if items.ndim != 1 or items.shape != scores.shape:
        raise ValueError(f"{where} has items {items.shape} and scores {scores.shape}; one score per item is needed")
    if np.isnan(scores).any():
        raise ValueError(f"{where} has {int(np.isnan(scores).sum())} scores that are NaN; a rank needs numbers")
    if len(items) and not (0 <= items.min() and items.max() < n_gallery):
        raise ValueError(f"{where} names items {items.min()}..{items.max()}, outside 0..{n_gallery - 1}")
    if len(np.unique(items)) != len(items):
        values, counts = np.unique(items, return_counts=True)
        raise ValueError(f"{where} holds item {values[counts > 1][0]} more than once; keep each item once")


def ranks_from_lists(lists: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]], relevance: Relevance) -> Ranks:
    """Ranks of the positives in result lists, which may be short.

    lists : for each query (items, scores), gallery indices and numbers of equal length, in any order; the score alone
    decides (higher is closer) and equal scores are ties, among the items of the list only. An empty list has depth 0.
    Errors: repeated item, item outside the gallery, NaN score, number of lists other than the number of queries.

    >>> relevance = Relevance.from_pairs([0, 0], [1, 3], n_queries=1, n_gallery=5)
    >>> ranks = ranks_from_lists([([4, 1, 2], [0.9, 0.5, 0.5])], relevance)
    >>> ranks.better, ranks.tied, ranks.depth
    (array([1, 5]), array([1, 0]), array([3]))
    """
    if len(lists) != relevance.n_queries:
        raise ValueError(
            f"{len(lists)} lists for {relevance.n_queries} queries; give an empty list where there is none"
        )
    positives, n_gallery = relevance.positives, relevance.n_gallery
    better = np.full(len(positives.items), n_gallery, dtype=np.int64)
    tied = np.zeros(len(positives.items), dtype=np.int64)
    depth = np.zeros(relevance.n_queries, dtype=np.int64)
    for query, (given, numbers) in enumerate(lists):
        items, scores = np.asarray(given, dtype=np.int64), np.asarray(numbers, dtype=np.float64)
        _check_list(items, scores, query, n_gallery)
        depth[query] = len(items)
        rows = np.arange(positives.indptr[query], positives.indptr[query + 1])
        _, places, found = np.intersect1d(items, positives.items[rows], assume_unique=True, return_indices=True)
        falling = np.sort(-scores)
        first = np.searchsorted(falling, -scores[places], "left")
        better[rows[found]] = first
        tied[rows[found]] = np.searchsorted(falling, -scores[places], "right") - first - 1
    return Ranks(positives.indptr, positives.items, positives.grades, better, tied, depth, n_gallery)


def ranks_from_scores(scores: npt.ArrayLike, relevance: Relevance) -> Ranks:
    """Ranks from a complete score matrix: for teaching and tests; a scan never needs the matrix.

    scores (n_queries, n_gallery), higher is closer. Errors: another shape, NaN.

    >>> relevance = Relevance.from_pairs([0, 1], [0, 2], n_queries=2, n_gallery=3)
    >>> ranks_from_scores([[0.1, 0.2, 0.3], [0.5, 0.5, 0.5]], relevance).better
    array([2, 0])
    """
    matrix = np.asarray(scores, dtype=np.float64)
    expected = (relevance.n_queries, relevance.n_gallery)
    if matrix.shape != expected:
        raise ValueError(f"scores must be (n_queries, n_gallery) = {expected}; got {matrix.shape}")
    return ranks_from_lists([(np.arange(expected[1]), row) for row in matrix], relevance)
