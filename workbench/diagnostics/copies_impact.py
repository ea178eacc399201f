"""What copies and leaks are worth: every metric again as if they were not there, and the difference in points.

Nothing is approximated: labels that change are scored anew, items that leave are left out of a new exact search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from workbench.metrics import METRICS, parse_metric, per_query_all
from workbench.search import RankPositives, scan
from workbench.statistics.clusters import clustered
from workbench.types import Finding, FloatArray, IntArray, Relevance, Verdict, check_unique

if TYPE_CHECKING:
    import pandas as pd

RIGHT, ONE, REMOVED, NOT_ITSELF = "copies count as right", "one of each kept", "leaked items removed", "itself excluded"
PROBLEM_POINTS = 0.01
IMPACT_SOURCE = (
    "convention of this project: 'look' when the interval of the difference excludes 0, 'problem' from one point on, "
    "as much as papers report as progress"
)


@dataclass(frozen=True)
class ImpactRow:
    """One metric of one direction, as it is and after one change.

    level : what is held to be the same. change : what is done about it. before, after : mean over the queries scored
    then (n_before, n_after of them; n_items left in the gallery). difference = after - before, with its interval over
    clusters. reason : why there is no number; the values are NaN then.
    """

    direction: str
    metric: str
    level: str
    change: str
    before: float = float("nan")
    after: float = float("nan")
    difference: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    n_before: int = 0
    n_after: int = 0
    n_items: int = 0
    reason: str = ""

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0

    @property
    def moved(self) -> bool:
        """Whether the metric changed at all: in its mean, or in some draw of clusters."""
        return bool(self.difference) or self.low < 0 or self.high > 0


@dataclass(frozen=True, eq=False)
class CopiesImpact:
    """Rows of all directions and metrics. name : "copies" or "leaks". level : of the intervals."""

    name: str
    rows: tuple[ImpactRow, ...]
    level: float

    def table(self) -> pd.DataFrame:
        """One row per metric, level and change that could be measured."""
        import pandas as pd

        columns = ("direction", "metric", "level", "change", "before", "after", "difference", "low", "high",
                   "n_before", "n_after", "n_items")  # fmt: skip
        return pd.DataFrame([{name: getattr(row, name) for name in columns} for row in self.known], columns=columns)

    @property
    def known(self) -> tuple[ImpactRow, ...]:
        """Rows with a number."""
        return tuple(row for row in self.rows if not row.reason)

    def plot(self, ax: Any = None) -> Any:
        """The differences with their intervals."""
        from workbench.plots import copies

        return copies.impact(self, ax)

    def findings(self) -> list[Finding]:
        """One finding: the largest clear difference in the first metric, or the largest one."""
        return [_finding(self)]

    def flat(self) -> dict[str, float]:
        """Differences by ``name/direction/metric level, change``."""
        return {
            f"{self.name}/{row.direction}/{row.metric} {row.level}, {row.change}": row.difference for row in self.known
        }

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, float_format=lambda value: f"{value:.4f}")


@dataclass(frozen=True, eq=False)
class World:
    """One direction as it is: vectors of both sides, labels, and which queries move together.

    queries (n_queries, dim), gallery (n_gallery, dim), relevance (n_queries, n_gallery), clusters (n_queries,): put
    copies of one picture in one cluster. metrics : names; those of which less is better (ranks) are left out.
    measured : the values of every query as it is, metric -> (n_queries,), where they are known already.
    """

    direction: str
    queries: npt.ArrayLike
    gallery: npt.ArrayLike
    relevance: Relevance
    clusters: IntArray
    metrics: tuple[str, ...]
    level: float = 0.95
    n_resamples: int = 2000
    seed: int = 0
    memory: int = 256 * 2**20
    measured: Mapping[str, FloatArray] | None = None

    @cached_property
    def as_is(self) -> dict[str, FloatArray]:
        """The values of every query with nothing changed."""
        return self.values(self.relevance) if self.measured is None else dict(self.measured)

    def values(
        self, relevance: Relevance, queries: IntArray | None = None, items: IntArray | None = None,
        *, exclude: Relevance | None = None,
    ) -> dict[str, FloatArray]:  # fmt: skip
        """Metric -> (n_queries,) values of a new exact search; NaN for queries that are left out or have no positive.

        queries, items : positions that stay, ascending (None: all). A metric that looks deeper than the gallery is
        left out.
        """
        every = np.arange(relevance.n_queries), np.arange(relevance.n_gallery)
        rows, columns = (all_of if kept is None else kept for all_of, kept in zip(every, (queries, items), strict=True))
        names = [m for m in map(parse_metric, self.metrics)
                 if not METRICS[m.name].lower_is_better and (m.k or 0) <= len(columns)]  # fmt: skip
        found = {str(name): np.full(relevance.n_queries, np.nan) for name in names}
        if len(rows) and len(columns) and names:
            vectors = np.asarray(self.queries)[rows], np.asarray(self.gallery)[columns]
            consumer = RankPositives(relevance.take(rows, columns), exclude=exclude)
            (ranks,) = scan(*vectors, [consumer], memory=self.memory)
            for name, values in per_query_all(names, ranks).items():
                found[name][rows] = values.expected
        return found


def shared_relevance(relevance: Relevance, query_groups: npt.ArrayLike, item_groups: npt.ArrayLike) -> Relevance:
    """Labels in which a group shares its positives: what is right for one query or item is right for its copies.

        grade'(q, g) = max of grade(a, b) over queries a of q's group and items b of g's group, where positive

    query_groups (n_queries,), item_groups (n_gallery,) : equal numbers are copies. Pairs judged not right stay so
    unless a copy is right.

    >>> labels = Relevance.from_pairs([0], [1], n_queries=2, n_gallery=3)
    >>> shared_relevance(labels, [0, 0], [5, 7, 7]).row(1)[0]
    array([1, 2])
    """
    groups = [np.unique(np.asarray(given), return_inverse=True)[1].ravel() for given in (query_groups, item_groups)]
    if (len(groups[0]), len(groups[1])) != (relevance.n_queries, relevance.n_gallery):
        raise ValueError(
            f"one group per query and per item is needed, {relevance.n_queries} and {relevance.n_gallery}; got "
            f"{len(groups[0])} and {len(groups[1])}"
        )
    right = relevance.positives
    of_query, of_item = groups[0][right.queries], groups[1][right.items]
    order = np.lexsort((-right.grades, of_item, of_query))
    pairs = np.stack([of_query[order], of_item[order]])
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(pairs) != 0).any(axis=0)
    rows, columns, grades = _spread(pairs[:, first], right.grades[order][first], groups)
    judged = relevance.grades <= 0
    keys = rows * relevance.n_gallery + columns
    stays = ~np.isin(relevance.queries[judged] * relevance.n_gallery + relevance.items[judged], keys)
    return Relevance.from_pairs(
        np.concatenate([rows, relevance.queries[judged][stays]]),
        np.concatenate([columns, relevance.items[judged][stays]]),
        np.concatenate([grades, relevance.grades[judged][stays]]),
        n_queries=relevance.n_queries, n_gallery=relevance.n_gallery,
    )  # fmt: skip


def _spread(pairs: IntArray, grades: FloatArray, groups: Sequence[IntArray]) -> tuple[IntArray, IntArray, FloatArray]:
    """All (query, item, grade) of pairs of groups."""
    order = [np.argsort(group, kind="stable") for group in groups]
    size = [np.bincount(group) for group in groups]
    start = [np.cumsum(sizes) - sizes for sizes in size]
    wide = size[1][pairs[1]]
    times = size[0][pairs[0]] * wide
    pair = np.repeat(np.arange(len(times)), times)
    place = np.arange(len(pair)) - np.repeat(np.cumsum(times) - times, times)
    row = order[0][start[0][pairs[0]][pair] + place // wide[pair]]
    column = order[1][start[1][pairs[1]][pair] + place % wide[pair]]
    return row, column, grades[pair]


def copies_impact(world: World, level: str, query_groups: npt.ArrayLike, item_groups: npt.ArrayLike) -> list[ImpactRow]:
    """What copies are worth in one direction, in two ways: they count as right, or the gallery keeps one of each.

    Both use :func:`shared_relevance`; for the second the gallery keeps the first item of each group and is searched
    anew. Every query stays. level : what is held to be the same, for the table. Without copies nothing is searched: the
    difference is 0 in every metric, exactly. Raises ValueError when the groups do not fit.
    difference = mean after - mean before, in shares of 1; the interval is a bootstrap over whole clusters, paired.

    >>> world = World("i2i", np.eye(2), np.array([[.9, 0], [.9, 0], [0, 1]]),
    ...               Relevance.from_pairs([0, 1], [1, 2], n_queries=2, n_gallery=3), np.arange(2), ("hit@1",))
    >>> [(row.change, row.before, row.after) for row in copies_impact(world, "same picture", [0, 1], [0, 0, 2])]
    [('copies count as right', 0.75, 1.0), ('one of each kept', 0.75, 1.0)]
    """
    groups = [np.asarray(given) for given in (query_groups, item_groups)]
    shared, before = shared_relevance(world.relevance, *groups), world.as_is
    kept = np.sort(np.unique(groups[1], return_index=True)[1])
    if all(len(np.unique(given)) == len(given) for given in groups):
        return [*_rows(world, level, RIGHT, before, before), *_rows(world, level, ONE, before, before)]
    after = before if _equal(shared, world.relevance) else world.values(shared)
    rows = _rows(world, level, RIGHT, before, after)
    if len(kept) == len(groups[1]):
        return [*rows, *_rows(world, level, ONE, before, {}, reason="the gallery holds no copies")]
    return [*rows, *_rows(world, level, ONE, before, world.values(shared, items=kept), n_items=len(kept))]


def _equal(one: Relevance, other: Relevance) -> bool:
    return all(np.array_equal(getattr(one, part), getattr(other, part)) for part in ("indptr", "items", "grades"))


def removal_impact(
    world: World, level: str, *, queries: npt.ArrayLike, items: npt.ArrayLike, change: str = REMOVED
) -> list[ImpactRow]:
    """What some queries and items are worth: the metrics without them, minus the metrics with them.

    queries (n_queries,) bool, items (n_gallery,) bool : what leaves. A query all of whose right items leave is not
    scored afterwards. The interval holds the two means against each other in every draw of clusters.

    >>> world = World("t2i", np.eye(3), np.eye(3)[[0, 2]],
    ...               Relevance.from_pairs([0, 1, 2], [0, 0, 1], n_queries=3, n_gallery=2), np.arange(3), ("hit@1",))
    >>> row, = removal_impact(world, "leaked", queries=np.array([False, True, False]), items=np.zeros(2, bool))
    >>> round(row.before, 3), row.after, row.n_after
    (0.833, 1.0, 2)
    """
    leaving, gone = np.asarray(queries, bool), np.asarray(items, bool)
    if (len(leaving), len(gone)) != (world.relevance.n_queries, world.relevance.n_gallery):
        raise ValueError(
            f"one mark per query and per item is needed, {world.relevance.n_queries} and {world.relevance.n_gallery}; "
            f"got {len(leaving)} and {len(gone)}"
        )
    before = world.as_is
    if not leaving.any() and not gone.any():
        return _rows(world, level, change, before, before)
    rows, columns = np.flatnonzero(~leaving), np.flatnonzero(~gone)
    return _rows(world, level, change, before, world.values(world.relevance, rows, columns), n_items=len(columns))


def self_match_impact(world: World, query_ids: Sequence[str], item_ids: Sequence[str]) -> list[ImpactRow]:
    """What it is worth that a query finds itself: searches within one modality, where both sides hold the same ids.

    The query's own item is left out of its gallery and of its positives. Where no id is on both sides there is nothing
    to exclude, and no row.

    >>> world = World("i2i", np.eye(2), np.eye(2), Relevance.from_pairs([0, 0, 1], [0, 1, 1], n_queries=2, n_gallery=2),
    ...               np.arange(2), ("hit@1",))
    >>> [(row.before, row.after, row.n_after) for row in self_match_impact(world, ["a", "b"], ["a", "b"])]
    [(1.0, 1.0, 1)]
    """
    from workbench.search import same_items

    out = same_items(check_unique(query_ids, "query"), check_unique(item_ids, "item"))
    if not out.n_positives:
        return []
    given, n_gallery = world.relevance, world.relevance.n_gallery
    stays = ~np.isin(given.queries * n_gallery + given.items, out.queries * n_gallery + out.items)
    left = Relevance.from_pairs(
        given.queries[stays], given.items[stays], given.grades[stays],
        n_queries=given.n_queries, n_gallery=n_gallery,
    )  # fmt: skip
    return _rows(world, "same id", NOT_ITSELF, world.as_is, world.values(left, exclude=out))


def _rows(
    world: World, level: str, change: str, before: Mapping[str, FloatArray], after: Mapping[str, FloatArray],
    *, n_items: int | None = None, reason: str = "",
) -> list[ImpactRow]:  # fmt: skip
    """One row per metric; ``before`` and ``after`` hold one value per query, NaN where it is not scored."""
    rows = []
    n_items = world.relevance.n_gallery if n_items is None else n_items
    for metric, old in before.items():
        row = ImpactRow(world.direction, metric, level, change)
        new = after.get(metric)
        if reason or new is None:
            rows.append(replace(row, reason=reason or f"only {n_items} items are left, fewer than it looks at"))
            continue
        n_before, n_after = int(np.isfinite(old).sum()), int(np.isfinite(new).sum())
        if not n_before or not n_after:
            rows.append(replace(row, reason="no query keeps a right item" if n_before else "no query has a right item"))
            continue
        start, end = float(np.nanmean(old)), float(np.nanmean(new))
        low, high = difference_interval(
            old, new, world.clusters, level=world.level, n_resamples=world.n_resamples, seed=world.seed
        )
        rows.append(replace(row, before=start, after=end, difference=end - start, low=low, high=high,
                            n_before=n_before, n_after=n_after, n_items=n_items))  # fmt: skip
    return rows


def difference_interval(
    before: npt.ArrayLike, after: npt.ArrayLike, clusters: npt.ArrayLike, *, level: float = 0.95,
    n_resamples: int = 2000, seed: int = 0,
) -> tuple[float, float]:  # fmt: skip
    """Percentile interval of mean(after) - mean(before) over draws of whole clusters; NaN with fewer than two clusters.

        d* = sum of the drawn clusters' after / their number scored after  -  the same of before

    before, after, clusters (n,); NaN = not scored, and the two need not be scored on the same queries. Where they are,
    this is the interval of :func:`~workbench.statistics.paired_difference` up to the draws.

    >>> difference_interval([0.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0, 1, 2], n_resamples=500)
    (0.0, 1.0)
    """
    old, new = np.asarray(before, np.float64), np.asarray(after, np.float64)
    scored = np.isfinite(old) | np.isfinite(new)
    if not scored.any():
        return float("nan"), float("nan")
    columns = np.nan_to_num(old), np.isfinite(old), np.nan_to_num(new), np.isfinite(new)
    rows = clustered([np.asarray(column, np.float64)[scored] for column in columns], np.asarray(clusters)[scored])
    sums = np.stack([rows.sums(column) for column in rows.columns.T], axis=1)
    if len(sums) < 2:
        return float("nan"), float("nan")
    if np.array_equal(old, new, equal_nan=True):
        return 0.0, 0.0
    rng = np.random.default_rng(seed)
    drawn = [rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums))) @ sums for _ in range(n_resamples)]
    total = np.array(drawn)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = total[:, 2] / total[:, 3] - total[:, 0] / total[:, 1]
    found = found[np.isfinite(found)]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2]) if len(found) else (np.nan, np.nan)
    return float(low), float(high)


def _finding(found: CopiesImpact) -> Finding:
    name, known = f"{found.name}/impact", [row for row in found.known if row.metric == found.rows[0].metric]
    if not known:
        reason = found.rows[0].reason if found.rows else "no metric is a mean over queries"
        return Finding(name, None, None, 0.0, IMPACT_SOURCE, "not measurable", f"Not measurable: {reason}.")
    most = max(known, key=lambda row: (row.clear, abs(row.difference), row.moved))
    interval = (most.low, most.high) if np.isfinite(most.low) else None
    what = f"{most.direction}/{most.metric}, {most.level}, {most.change}"
    verdict: Verdict = "ok"
    if most.clear:
        verdict = "problem" if abs(most.difference) >= PROBLEM_POINTS else "look"
    others = list(dict.fromkeys(row.metric for row in found.known if row.moved))
    if not others:
        advice = f"No {found.name} change any metric: as reported and without them the numbers are the same."
    elif not most.moved:
        advice = f"No {found.name} change {most.metric}, but they change {', '.join(others)}: see their differences."
    elif not most.clear:
        advice = f"The largest difference ({what}) cannot be told from none."
    else:
        advice = (
            f"{what}: {100 * most.after:.1f} instead of {100 * most.before:.1f} per cent. Report the number of the "
            "cleaned test beside the usual one, and never compare one with the other."
        )
    threshold = PROBLEM_POINTS if verdict == "problem" else 0.0
    return Finding(name, most.difference, interval, threshold, IMPACT_SOURCE, verdict, advice, "points")
