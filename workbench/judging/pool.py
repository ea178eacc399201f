"""The pairs worth judging, the strata they are drawn from, and the order in which queries are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from workbench.files import canonical_hash
from workbench.judging.reach import Labels, Reach, ShortLists, Unlabelled, estimable, reach
from workbench.metrics import Metric
from workbench.metrics.lists import Lists
from workbench.statistics.judged_sample import KNOWN, judgements_for, stratified_order
from workbench.types import IntArray, Relevance

DIRECTIONS = ("t2i", "i2t")
MOST_STRATA = 36


class Plan(NamedTuple):
    """How much there is to judge: queries, and pairs (thumbnails) at the mean number per query."""

    queries: int
    pairs: int


@dataclass(frozen=True, eq=False)
class Pool:
    """Unlabelled (query, item) pairs that decide metrics, and the strata of the queries they belong to: :func:`pool`.

    metric, direction : what the pairs were chosen for (names, commas between), and which side asks.
    query_ids, item_ids : all of them. indptr, items : compressed rows, the items to judge for each query.
    strata (n_queries,) : -1 where no judgement is needed; stratum_names : of 0, 1, ...
    labels : the relevance the pool was made with, for control pairs.
    """

    metric: str
    direction: str
    query_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    indptr: IntArray
    items: IntArray
    strata: IntArray
    stratum_names: tuple[str, ...]
    labels: Relevance

    @property
    def n_open(self) -> int:
        """Queries that judgements could move."""
        return int((self.strata != KNOWN).sum())

    @property
    def n_pairs(self) -> int:
        """Pairs to judge if every open query were judged."""
        return int(np.diff(self.indptr)[self.strata != KNOWN].sum())

    @property
    def digest(self) -> str:
        """A hash of everything that decides which queries are drawn and which of their pairs are judged."""
        whole = [self.indptr.tolist(), self.items.tolist(), self.strata.tolist()]
        return canonical_hash([self.metric, self.direction, list(self.query_ids), list(self.item_ids), *whole])

    def row(self, query: int) -> IntArray:
        """The items to judge for one query, ascending."""
        return self.items[self.indptr[query] : self.indptr[query + 1]]

    def drawn(self, n_queries: int, *, seed: int) -> IntArray:
        """The rows of a stratified sample of open queries; a larger sample with the same seed holds the smaller one."""
        if not 1 <= n_queries <= max(self.n_open, 1):
            raise ValueError(
                f"n_queries must lie in 1..{self.n_open}, the queries that judging could move; got {n_queries}"
            )
        return stratified_order(self.strata, seed=seed)[:n_queries]

    def plan(self, half_width: float = 0.02, *, spread: float = 0.5, level: float = 0.95) -> Plan:
        """How many queries and pairs give an interval of plus or minus ``half_width``, before anybody has judged.

        spread : standard deviation of an open query's change; 0.5 is the worst case of a hit. After a pilot ask
        :meth:`workbench.judging.JudgedEstimate.plan`, which knows it.
        """
        n = judgements_for(half_width, len(self.query_ids), n_open=self.n_open, spread=spread, level=level)
        return Plan(n, round(n * self.n_pairs / max(self.n_open, 1)))


def pool(
    lists: Lists | Sequence[Lists], relevance: Relevance, metric: Metric | str | Sequence[Metric | str], *,
    query_ids: Sequence[str], item_ids: Sequence[str], direction: str = "t2i", evidence: npt.ArrayLike | None = None,
    n_strata: int = 3, labels: Labels = "all", unlabelled: Unlabelled = "leave out", short_lists: ShortLists = "refuse",
) -> Pool:  # fmt: skip
    """What to judge so that a metric can be estimated: every unlabelled item in the first k places of open queries.

    Whole queries are drawn, and all their open places judged, because hit@k or RR@k of a query cannot be told from some
    of its pairs. A query that no judgement can move (for hit@k: one already hit) is known and never drawn; so a file
    serves the metrics that its pool was made for. Strata: the metrics for which something labelled right is in reach,
    and within them groups of equal size by ``evidence`` if given.

    lists : of one system, or a list of RankedLists or Neighbours of several, whose places are pooled.
    metric : one, or several (hit@1 and hit@10: queries hit at 10 but not at 1 are drawn too).
    evidence : (n_queries,) a number that is larger where unlabelled positives are likelier, such as the best score of
    an unlabelled item by another encoder; n_strata : how many groups. direction : "t2i" or "i2t".
    unlabelled : "leave out" queries without a labelled positive, as metrics do, or "count" them too.

    >>> relevance = Relevance.from_pairs([0, 1, 2], [3, 0, 1], n_queries=3, n_gallery=4)
    >>> lists = [([3, 1], [0.9, 0.5]), ([2, 3], [0.9, 0.5]), ([0, 1], [0.9, 0.5])]
    >>> made = pool(lists, relevance, "hit@1", query_ids=["a", "b", "c"], item_ids=["0", "1", "2", "3"])
    >>> made.strata, made.row(1), made.n_pairs
    (array([-1,  0,  0]), array([2]), 2)
    """
    names = [metric] if isinstance(metric, str | Metric) else list(metric)
    wanted = [estimable(name, labels) for name in names]
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {DIRECTIONS}; got {direction!r}")
    if (len(query_ids), len(item_ids)) != (relevance.n_queries, relevance.n_gallery):
        raise ValueError(
            f"{len(query_ids)} query ids and {len(item_ids)} item ids for a relevance of "
            f"{relevance.n_queries} x {relevance.n_gallery}"
        )
    found = [
        [reach(one, relevance, name, labels=labels, short_lists=short_lists) for one in _systems(lists)]
        for name in wanted
    ]
    every = [one for systems in found for one in systems]
    is_open = np.any([one.open for one in every], axis=0) & (every[0].labelled | (unlabelled == "count"))
    indptr, items = _union(every, relevance.n_gallery)
    strata, words = _strata(found, is_open, evidence, n_strata)
    return Pool(
        ", ".join(map(str, wanted)), direction, tuple(map(str, query_ids)), tuple(map(str, item_ids)), indptr, items,
        strata, words, relevance,
    )  # fmt: skip


def _systems(lists: Lists | Sequence[Lists]) -> Sequence[Lists]:
    several = isinstance(lists, list | tuple) and bool(lists) and hasattr(lists[0], "n_gallery")
    return lists if several else [lists]  # type: ignore[return-value,list-item]


def _union(found: Sequence[Reach], n_gallery: int) -> tuple[IntArray, IntArray]:
    """Compressed rows of the pairs that could move a metric of a system."""
    keys = np.unique(np.concatenate([(one.queries * n_gallery + one.items)[one.open[one.queries]] for one in found]))
    counts = np.bincount(keys // n_gallery, minlength=len(found[0].open))
    return np.concatenate([[0], np.cumsum(counts)]), keys % n_gallery


def _strata(
    found: Sequence[Sequence[Reach]], is_open: npt.NDArray[np.bool_], evidence: npt.ArrayLike | None, n_strata: int
) -> tuple[IntArray, tuple[str, ...]]:
    """Stratum of each query, -1 where it is not open, and the names of the strata."""
    right = np.stack([np.any([one.as_labelled > 0 for one in systems], axis=0) for systems in found], axis=1)
    cut = np.zeros(len(is_open), np.int64)
    patterns, group = np.unique(right, axis=0, return_inverse=True)
    if evidence is not None:
        cut = _by_evidence(group.ravel(), np.asarray(evidence, np.float64), is_open, n_strata)
    keys = group.ravel() * n_strata + cut
    present = np.unique(keys[is_open])
    if len(present) > MOST_STRATA:
        raise ValueError(f"{len(present)} strata are too many to draw from; use fewer metrics or a smaller n_strata")
    strata = np.where(is_open, np.searchsorted(present, keys), KNOWN)
    metrics = [str(systems[0].metric) for systems in found]
    words = tuple(_words(metrics, patterns[key // n_strata]) for key in present.tolist())
    if evidence is None:
        return strata, words
    return strata, tuple(
        f"{word}, evidence group {key % n_strata + 1} of {n_strata}" for word, key in zip(words, present, strict=True)
    )


def _words(metrics: Sequence[str], right: npt.NDArray[np.bool_]) -> str:
    counted = [name for name, one in zip(metrics, right, strict=True) if one]
    return f"something labelled counts for {', '.join(counted)}" if counted else "nothing labelled in the first places"


def _by_evidence(group: IntArray, evidence: np.ndarray, is_open: npt.NDArray[np.bool_], n_strata: int) -> IntArray:
    """Within each group the part by evidence, 0 .. n_strata - 1, of equal size among the open queries."""
    if evidence.shape != group.shape or np.isnan(evidence).any():
        raise ValueError(f"evidence must be one number per query, ({len(group)},), without NaN; got {evidence.shape}")
    if not 1 <= n_strata <= 10:
        raise ValueError(f"n_strata must lie in 1..10; got {n_strata}")
    cut = np.zeros(len(group), np.int64)
    for name in np.unique(group[is_open]):
        rows = np.flatnonzero(is_open & (group == name))
        edges = np.quantile(evidence[rows], np.arange(1, n_strata) / n_strata)
        cut[rows] = np.searchsorted(edges, evidence[rows], "right")
    return cut
