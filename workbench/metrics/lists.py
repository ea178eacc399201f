"""Ranks of the positives from result lists or from a complete score matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from workbench.types import FloatArray, IntArray, Neighbours, RankedLists, Ranks, Relevance

Lists = RankedLists | Neighbours | Sequence[tuple[npt.ArrayLike, npt.ArrayLike]]
Unjudged = Literal["zero", "condensed"]
CHUNK = 1 << 18


def ranks_from_lists(lists: Lists, relevance: Relevance, *, unjudged: Unjudged = "zero") -> Ranks:
    """Ranks of the positives in result lists, which may be short.

    lists : :class:`workbench.types.RankedLists`, :class:`workbench.types.Neighbours`, or for each query a pair
    (items, scores) of equal length, in any order; the score alone decides (higher is closer) and equal scores are ties,
    among the items of the list only. An empty list has depth 0.
    unjudged : "zero" takes an item without a judgement for not relevant; "condensed" removes it before anything is
    counted (:func:`condensed`), which shortens the lists. A stored grade of 0 is a judgement.
    Errors: repeated item, item outside the gallery, NaN score, number of lists other than the number of queries.

    >>> relevance = Relevance.from_pairs([0, 0], [1, 3], n_queries=1, n_gallery=5)
    >>> ranks = ranks_from_lists([([4, 1, 2], [0.9, 0.5, 0.5])], relevance)
    >>> ranks.better, ranks.tied, ranks.depth
    (array([1, 5]), array([1, 0]), array([3]))
    >>> ranks_from_lists([([4, 1, 2], [0.9, 0.5, 0.5])], relevance, unjudged="condensed").better
    array([0, 5])
    """
    if unjudged not in ("zero", "condensed"):
        raise ValueError(f"unjudged must be 'zero' or 'condensed'; got {unjudged!r}")
    rows = condensed(lists, relevance) if unjudged == "condensed" else compressed(lists, relevance)
    keep = relevance.grades > 0
    indptr = np.concatenate([[0], np.cumsum(keep)])[relevance.indptr]
    items, queries = relevance.items[keep], relevance.queries[keep]
    better, tied = np.full(len(items), rows.n_gallery), np.zeros(len(items), dtype=np.int64)
    for first, last in _chunks(rows):
        part = np.arange(indptr[first], indptr[last])
        place, found = _find(rows, first, last, queries[part], items[part])
        listed, place = part[found], place[found]
        start, end = _tie_edges(rows, first, last, place)
        better[listed] = start - rows.indptr[queries[listed]]
        tied[listed] = end - start - 1
    return Ranks(indptr, items, relevance.grades[keep], better, tied, rows.depths, rows.n_gallery)


def ranks_from_scores(scores: npt.ArrayLike, relevance: Relevance) -> Ranks:
    """Ranks from a complete score matrix: for teaching and tests; a scan never needs the matrix.

    scores (n_queries, n_gallery), higher is closer. Errors: another shape, NaN.

    >>> relevance = Relevance.from_pairs([0, 1], [0, 2], n_queries=2, n_gallery=3)
    >>> ranks_from_scores([[0.1, 0.2, 0.3], [0.5, 0.5, 0.5]], relevance).better
    array([2, 0])
    """
    matrix = np.asarray(scores, dtype=np.float64)
    n_queries, n_gallery = expected = (relevance.n_queries, relevance.n_gallery)
    if matrix.shape != expected:
        raise ValueError(f"scores must be (n_queries, n_gallery) = {expected}; got {matrix.shape}")
    _check_numbers(matrix.ravel(), np.arange(n_queries + 1) * n_gallery)
    positives = relevance.positives
    better, tied = np.empty_like(positives.items), np.empty_like(positives.items)
    for query, row in enumerate(matrix):
        part = slice(positives.indptr[query], positives.indptr[query + 1])
        falling, own = np.sort(-row), -row[positives.items[part]]
        better[part] = np.searchsorted(falling, own, "left")
        tied[part] = np.searchsorted(falling, own, "right") - better[part] - 1
    depth = np.full(n_queries, n_gallery)
    return Ranks(positives.indptr, positives.items, positives.grades, better, tied, depth, n_gallery)


def condensed(lists: Lists, relevance: Relevance) -> RankedLists:
    """Result lists without their unjudged items, otherwise as they were: what is left is relevant or judged not to be.

    Only the order among judged items then counts, so a system is not punished for finding what nobody looked at, and
    not rewarded for finding more of what was judged: T. Sakai, "Alternatives to Bpref", SIGIR 2007, pages 71-78. The
    lists become shorter, often shorter than a cutoff: score them with ``short_lists="as is"``.
    lists and errors as for :func:`ranks_from_lists`.

    >>> relevance = Relevance.from_pairs([0, 0], [1, 3], [1, 0], n_queries=1, n_gallery=5)
    >>> condensed([([4, 1, 2, 3], [0.9, 0.8, 0.7, 0.6])], relevance).items
    array([1, 3])
    """
    rows = compressed(lists, relevance)
    queries, keep = relevance.queries, np.zeros(len(rows.items), dtype=bool)
    for first, last in _chunks(rows):
        part = slice(relevance.indptr[first], relevance.indptr[last])
        place, found = _find(rows, first, last, queries[part], relevance.items[part])
        keep[place[found]] = True
    indptr = np.concatenate([[0], np.cumsum(keep)])[rows.indptr]
    return RankedLists(indptr, rows.items[keep], rows.scores[keep], rows.n_gallery)


def compressed(lists: Lists, relevance: Relevance) -> RankedLists:
    """Result lists of any form as compressed rows, held against the queries and the gallery of the relevance.

    lists and errors as for :func:`ranks_from_lists`; an item given twice is found when ranks are made.

    >>> relevance = Relevance.from_pairs([0], [1], n_queries=2, n_gallery=5)
    >>> compressed([([4, 1], [0.9, 0.5]), ([], [])], relevance).depths
    array([2, 0])
    """
    indptr, items, scores = _parts(lists, relevance.n_gallery)
    if len(indptr) - 1 != relevance.n_queries:
        raise ValueError(
            f"{len(indptr) - 1} lists for {relevance.n_queries} queries; give an empty list where there is none"
        )
    if indptr[0] != 0 or (np.diff(indptr) < 0).any():
        raise ValueError("the indptr of ranked lists must rise from 0")
    _check_numbers(scores, indptr)
    if len(items) and not (0 <= items.min() and items.max() < relevance.n_gallery):
        query = _owner(indptr, (items < 0) | (items >= relevance.n_gallery))
        named = items[indptr[query] : indptr[query + 1]]
        raise ValueError(
            f"the list of query {query} names items {named.min()}..{named.max()}, outside 0..{relevance.n_gallery - 1}"
        )
    return lists if isinstance(lists, RankedLists) else RankedLists(indptr, items, scores, relevance.n_gallery)


def _parts(lists: Lists, n_gallery: int) -> tuple[IntArray, IntArray, FloatArray]:
    """(indptr, items, scores) of any form of lists."""
    if isinstance(lists, RankedLists | Neighbours):
        if lists.n_gallery != n_gallery:
            raise ValueError(
                f"the lists are over a gallery of {lists.n_gallery} items and the relevance over {n_gallery}; "
                "both must number the same items"
            )
        if isinstance(lists, RankedLists):
            return lists.indptr, lists.items, lists.scores
        return np.arange(lists.n_queries + 1) * lists.k, lists.indices.ravel(), lists.scores.ravel()
    pairs = [(np.asarray(given, np.int64), np.asarray(numbers, np.float64)) for given, numbers in lists]
    for query, (given, numbers) in enumerate(pairs):
        if given.ndim != 1 or given.shape != numbers.shape:
            raise ValueError(
                f"the list of query {query} has items {given.shape} and scores {numbers.shape}; "
                "one score per item is needed"
            )
    indptr = np.cumsum([0, *(len(given) for given, _ in pairs)])
    nothing = (np.empty(0, np.int64), np.empty(0))
    items, scores = (np.concatenate(column) for column in zip(nothing, *pairs, strict=True))
    return indptr, items, scores


def _owner(indptr: IntArray, wrong: npt.NDArray[np.bool_]) -> int:
    """The query that owns the first wrong entry."""
    return int(np.searchsorted(indptr, np.argmax(wrong), "right")) - 1


def _check_numbers(scores: FloatArray, indptr: IntArray) -> None:
    if not len(scores) or not np.isnan(scores.min()):
        return
    query = _owner(indptr, np.isnan(scores))
    bad = int(np.isnan(scores[indptr[query] : indptr[query + 1]]).sum())
    raise ValueError(f"the list of query {query} has {bad} scores that are NaN; a rank needs numbers")


def _chunks(rows: RankedLists) -> Iterator[tuple[int, int]]:
    """Runs of queries of about CHUNK entries, at least one query, such that the keys of :func:`_find` fit 64 bits."""
    cost = rows.indptr + np.arange(len(rows.indptr))
    most = max(1, (1 << 62) // (rows.n_gallery * max(CHUNK, int(rows.depths.max())) * 2))
    first = 0
    while first < rows.n_queries:
        last = int(np.searchsorted(cost, cost[first] + CHUNK, "right")) - 1
        last = max(first + 1, min(last, first + most))
        yield first, last
        first = last


def _find(
    rows: RankedLists, first: int, last: int, queries: IntArray, items: IntArray
) -> tuple[IntArray, npt.NDArray[np.bool_]]:
    """(position in ``rows.items``, whether there is one) of some (query, item) pairs of the queries first..last - 1.

    One sorted key per entry: query and item in the high bits, the position in the low ones.
    """
    start, end = int(rows.indptr[first]), int(rows.indptr[last])
    bits, n = (end - start).bit_length(), rows.n_gallery
    if start == end:
        return np.zeros(len(queries), np.int64), np.zeros(len(queries), bool)
    lengths = rows.depths[first:last]
    keys = np.repeat(np.arange(last - first) * n, lengths)
    keys += rows.items[start:end]
    keys <<= bits
    keys += np.arange(end - start)
    keys = _sorted_keys(keys, lengths)
    twice = (keys[1:] ^ keys[:-1]) < 1 << bits
    if twice.any():
        query, item = divmod(int(keys[np.argmax(twice)]) >> bits, n)
        raise ValueError(f"the list of query {first + query} holds item {item} more than once; keep each item once")
    wanted = ((queries - first) * n + items) << bits
    near = keys[np.minimum(np.searchsorted(keys, wanted), end - start - 1)]
    return start + (near & ((1 << bits) - 1)), near >> bits == wanted >> bits


def _tie_edges(rows: RankedLists, first: int, last: int, place: IntArray) -> tuple[IntArray, IntArray]:
    """Where, with each list in falling order, the tie groups of some positions begin and end (exclusive)."""
    start, end = int(rows.indptr[first]), int(rows.indptr[last])
    scores, opens = rows.scores[start:end], np.zeros(end - start + 1, dtype=bool)
    opens[rows.indptr[first : last + 1] - start] = True
    if not ((scores[1:] <= scores[:-1]) | opens[1:-1]).all():
        order = _falling_order(rows, first, last)
        now = np.empty_like(order)
        now[order] = np.arange(len(order))
        scores, place = scores[order], now[place - start] + start
    opens[1:-1] |= scores[1:] != scores[:-1]
    if opens.all():
        return place, place + 1
    edges = np.flatnonzero(opens)
    group = np.searchsorted(edges, place - start, "right")
    return start + edges[group - 1], start + edges[group]


def _falling_order(rows: RankedLists, first: int, last: int) -> IntArray:
    """The positions of some lists, list by list from the highest score to the lowest."""
    lengths, scores = rows.depths[first:last], -rows.scores[rows.indptr[first] : rows.indptr[last]]
    wide = _side_by_side(scores, lengths, np.inf)
    if wide is None:
        return np.lexsort((scores, np.repeat(np.arange(last - first), lengths)))
    order = np.argsort(wide, axis=1)
    begin = rows.indptr[first:last, None] - rows.indptr[first]
    return np.asarray((order + begin)[order < lengths[:, None]])


def _sorted_keys(keys: IntArray, lengths: IntArray) -> IntArray:
    """Keys that ascend over rows already, sorted row by row, which is faster than all at once."""
    last = np.iinfo(np.int64).max
    wide = _side_by_side(keys, lengths, last)
    if wide is None:
        keys.sort()
        return keys
    wide.sort(axis=1)
    return np.asarray(wide.ravel() if wide.size == len(keys) else wide[wide < last])


def _side_by_side(values: npt.NDArray[Any], lengths: IntArray, fill: float) -> npt.NDArray[Any] | None:
    """Rows of similar length as a matrix, the short ones filled up; None where that would be mostly filling."""
    shape = (len(lengths), int(lengths.max()))
    if shape[0] * shape[1] == len(values):
        return values.reshape(shape)
    if shape[0] * shape[1] > 4 * len(values):
        return None
    wide = np.full(shape, fill, dtype=values.dtype)
    wide[np.arange(shape[1]) < lengths[:, None]] = values
    return wide
