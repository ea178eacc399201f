"""What is known of every query before anybody looks, and which unlabelled items could still change it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from workbench.metrics import Metric, parse_metric, per_query, ranks_from_lists
from workbench.metrics.lists import Lists, compressed
from workbench.types import FloatArray, IntArray, RankedLists, Relevance

Labels = Literal["all", "pool"]
Unlabelled = Literal["leave out", "count"]
ShortLists = Literal["refuse", "as is"]
BY_PLACES = ("hit", "P", "RR")
BY_POOL = ("R", "AP", "nDCG")
DEEP = "it depends on items behind every cutoff, which no judge of the first places sees; use RR@k"
REASONS = {
    "R": "it divides by the number of all positives, also those that no list holds",
    "AP": "it divides by the number of all positives, also those that no list holds; AP(norm=hits)@k does not",
    "nDCG": "it divides by the best order of all positives, also those that no list holds",
    "R-precision": "its cutoff is the number of all positives, which is unknown",
    "mAP@R": "its cutoff is the number of all positives, which is unknown",
    "MRR": DEEP, "MedR": DEEP, "MeanR": DEEP, "mINP": DEEP,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Reach:
    """What judging can change: :func:`reach`.

    as_labelled (n_queries,) : the metric with every unlabelled item taken for wrong, 0 without a positive.
    lowest, highest (n_queries,) : what it could become; 0 and 1 where one more right item can lower the metric.
    labelled (n_queries,) : whether any item is labelled right.
    indptr, items : compressed rows, the unlabelled items of each query within the cutoff.
    """

    metric: Metric
    as_labelled: FloatArray
    lowest: FloatArray
    highest: FloatArray
    labelled: npt.NDArray[np.bool_]
    indptr: IntArray
    items: IntArray

    @property
    def open(self) -> npt.NDArray[np.bool_]:
        """(n_queries,) whether judgements could move the query's value."""
        return self.highest > self.lowest

    @property
    def queries(self) -> IntArray:
        """The query of each pair, parallel to ``items``."""
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))


def estimable(metric: Metric | str, labels: Labels = "all") -> Metric:
    """The metric, if judging the first places can tell its value; an error with the reason if not.

    labels : "all", as if everything had been judged; "pool", as if nothing outside the pool were right.

    >>> str(estimable("hit@10"))
    'hit@10'
    """
    given = metric if isinstance(metric, Metric) else parse_metric(metric)
    if labels not in ("all", "pool"):
        raise ValueError(f"labels must be 'all' or 'pool'; got {labels!r}")
    by_places = given.name in BY_PLACES or (given.name == "AP" and given.option("norm") == "hits")
    if given.k is not None and (by_places or (labels == "pool" and given.name in BY_POOL)):
        return given
    instead = "it needs a cutoff, such as AP@10" if given.name in BY_POOL and given.k is None else REASONS[given.name]
    pool = "" if labels == "pool" or given.name not in BY_POOL else '; or ask for it with labels="pool" and say so'
    raise ValueError(
        f"{given} cannot be estimated by judging: {instead}. What the first k places decide can be: hit@k, P@k, RR@k, "
        f"AP(norm=hits)@k{pool}"
    )


def monotone(metric: Metric) -> bool:
    """Whether one more right item never lowers it (R: where no tie crosses the cutoff).

    >>> monotone(parse_metric("P@5")), monotone(parse_metric("nDCG@5"))
    (True, False)
    """
    return metric.name in (*BY_PLACES, "R")


def reach(
    lists: Lists, relevance: Relevance, metric: Metric | str, *, labels: Labels = "all",
    short_lists: ShortLists = "refuse",
) -> Reach:  # fmt: skip
    """Which queries and which of their unlabelled items decide the metric; a label of grade 0 is a label.

    A query that nothing can move is known: for hit@k every query with a labelled item in its first k places.
    Items that tie with the last place within the cutoff count as within it, as far as the lists hold them.
    lists and errors as for :func:`workbench.metrics.ranks_from_lists`; errors of :func:`estimable`.

    >>> relevance = Relevance.from_pairs([0, 1], [3, 0], n_queries=2, n_gallery=4)
    >>> lists = [([3, 1], [0.9, 0.5]), ([2, 3], [0.9, 0.5])]
    >>> found = reach(lists, relevance, "hit@2")
    >>> found.as_labelled, found.open, found.items
    (array([1., 0.]), array([False,  True]), array([1, 2, 3]))
    """
    wanted = estimable(metric, labels)
    rows = compressed(lists, relevance)
    indptr, items, across = _unlabelled(rows, relevance, wanted.k or 0)
    value = values_under(rows, relevance, wanted, short_lists)
    labelled, value = ~np.isnan(value), np.nan_to_num(value)
    queries, some = np.repeat(np.arange(len(value)), np.diff(indptr)), np.diff(indptr) > 0
    lowest, highest = np.where(some, 0.0, value), np.where(some, 1.0, value)
    if monotone(wanted):
        every = values_under(rows, with_pairs(relevance, queries, items), wanted, short_lists)
        rises = some & ~(across & (wanted.name == "R"))
        lowest, highest = np.where(rises, value, lowest), np.where(rises, np.fmax(every, value), highest)
    return Reach(wanted, value, lowest, highest, labelled, indptr, items)


def values_under(rows: RankedLists, relevance: Relevance, metric: Metric, short_lists: ShortLists) -> FloatArray:
    """The metric of every query under some labels, NaN without a positive."""
    return per_query(metric, ranks_from_lists(rows, relevance), short_lists=short_lists).expected


def with_pairs(
    relevance: Relevance, queries: npt.ArrayLike, items: npt.ArrayLike, grades: npt.ArrayLike | None = None
) -> Relevance:
    """The labels with further pairs; where both speak of a pair, the labels hold.

    >>> labels = Relevance.from_pairs([0], [1], n_queries=1, n_gallery=3)
    >>> with_pairs(labels, [0, 0], [1, 2], [0, 1]).grades
    array([1., 1.])
    """
    rows, columns = np.asarray(queries, np.int64), np.asarray(items, np.int64)
    values = np.ones(len(rows)) if grades is None else np.asarray(grades, np.float64)
    new = ~np.isin(rows * relevance.n_gallery + columns, relevance.queries * relevance.n_gallery + relevance.items)
    return Relevance.from_pairs(
        np.concatenate([relevance.queries, rows[new]]), np.concatenate([relevance.items, columns[new]]),
        np.concatenate([relevance.grades, values[new]]),
        n_queries=relevance.n_queries, n_gallery=relevance.n_gallery,
    )  # fmt: skip


def _unlabelled(rows: RankedLists, relevance: Relevance, k: int) -> tuple[IntArray, IntArray, npt.NDArray[np.bool_]]:
    """Per query the unlabelled items of its first k places and of what ties with the last of them, ascending.

    Last, (n_queries,) whether there are such ties across the cutoff.
    """
    found, across = [], np.zeros(rows.n_queries, bool)
    for query in range(rows.n_queries):
        items, scores = rows.row(query)
        if len(items) > k:
            items = items[scores >= np.partition(scores, len(scores) - k)[len(scores) - k]]
        across[query] = len(items) > k
        found.append(np.setdiff1d(items, relevance.row(query)[0]))
    return np.cumsum([0, *map(len, found)]), np.concatenate(found).astype(np.int64), across
