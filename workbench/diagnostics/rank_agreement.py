"""Do two systems, or two runs of one, return the same items in the same order, and does a gain repeat?

Items and queries are matched by id; names and the order of ids within a tie play no part. Lists may be short and of
unequal length: identical lists agree completely however short, lists without a common item not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from workbench.types import FloatArray, IntArray, Neighbours, RankedLists, check_unique

Ids = tuple[Sequence[str], Sequence[str]]
_CELLS = 2_000_000


@dataclass(frozen=True, eq=False)
class RankAgreement:
    """How alike two sets of ranked lists are, query by query: :func:`rank_agreement`.

    Arrays are (n_queries,) over the queries that both have; NaN where both lists are empty. rbo : extrapolated, 0..1.
    rbo_low, rbo_high : what it could be once the lists go on. tau_ap : -1..1, mean of both directions. overlap : of the
    first k places, 0..1. identical : same items in the same tie groups. queries : ids, or positions as text.
    n_only_first, n_only_second : queries that only one of them has.
    """

    rbo: FloatArray
    rbo_low: FloatArray
    rbo_high: FloatArray
    tau_ap: FloatArray
    overlap: FloatArray
    identical: npt.NDArray[np.bool_]
    queries: tuple[str, ...]
    n_only_first: int
    n_only_second: int
    k: int
    p: float

    @property
    def residual(self) -> FloatArray:
        """(n_queries,) rbo_high - rbo_low: how much the unseen rest of the lists could matter."""
        return self.rbo_high - self.rbo_low

    def rows(self) -> list[dict[str, Any]]:
        """One row per measure: mean, lowest value and the query it belongs to."""
        measures = {
            f"RBO(p={self.p:g})": self.rbo, f"RBO(p={self.p:g}) lower bound": self.rbo_low,
            f"RBO(p={self.p:g}) upper bound": self.rbo_high, "tau-ap": self.tau_ap, f"overlap@{self.k}": self.overlap,
        }  # fmt: skip
        return [{"measure": name, **self._summary(values)} for name, values in measures.items()]

    def _summary(self, values: FloatArray) -> dict[str, Any]:
        scored = np.flatnonzero(~np.isnan(values))
        if not len(scored):
            return {"mean": float("nan"), "lowest": float("nan"), "query": "", "n": 0}
        least = scored[np.argmin(values[scored])]
        return {
            "mean": float(values[scored].mean()),
            "lowest": float(values[least]),
            "query": self.queries[least],
            "n": len(scored),
        }

    def flat(self) -> dict[str, float]:
        """Means by name, the share of identical lists, and how many queries were compared."""
        means = {row["measure"]: row["mean"] for row in self.rows()}
        share = float(self.identical.mean()) if len(self.identical) else float("nan")
        return {**means, "identical lists": share, "queries": float(len(self.queries))}


def rank_agreement(
    first: RankedLists | Neighbours,
    second: RankedLists | Neighbours,
    *,
    first_ids: Ids | None = None,
    second_ids: Ids | None = None,
    k: int = 10,
    p: float = 0.9,
) -> RankAgreement:
    """How alike are two sets of ranked lists? Rank-biased overlap, tau-ap and overlap of the first k, for every query.

        A_d = 2 |S_d & L_d| / (|S_d| + |L_d|);   RBO = (1 - p) / p * sum_d A_d p^d;   overlap@k = A_k of what is listed

    S_d holds every item whose tie group begins at rank d or before: tied items occupy the same rank (the variant
    RBO^w). The point value extrapolates: the shorter list (length s) is taken to go on agreeing at A_s, and beyond the
    longer one agreement stays as it is; the bounds take the unseen items (untied) to match nowhere, or everywhere. A
    tie that goes on behind the end of a list cannot be seen and is taken to end there. tau_ap: :func:`tau_ap`.
    first_ids, second_ids : (query ids, gallery ids) of each; without them positions are the names, so that both must be
    of one collection. k >= 1; 0 < p < 1 is how far down the reader goes: rank d has weight p^d, 10 ranks hold 65 % of
    it at 0.9. Lists in any order; the scores decide. An empty list against a filled one agrees nowhere.
    Errors: no common query, repeated items, NaN scores, ids of another number, k or p out of range.
    W. Webber, A. Moffat & J. Zobel, "A similarity measure for indefinite rankings", ACM TOIS 28, 2010,
    https://doi.org/10.1145/1852102.1852106; ties: M. Corsi & J. Urbano, "The treatment of ties in rank-biased overlap",
    SIGIR 2024, https://doi.org/10.1145/3626772.3657700.

    >>> one, two = RankedLists([0, 2], [0, 1], [2.0, 1.0], 3), RankedLists([0, 2], [0, 2], [2.0, 1.0], 3)
    >>> found = rank_agreement(one, two, p=0.5)      # 1/2 * 1 + 1/4 * 1/2, and the rest stays at 1/2
    >>> found.rbo, found.overlap
    (array([0.75]), array([0.5]))
    """
    if isinstance(k, bool) or k < 1 or not 0 < p < 1:
        raise ValueError(f"k must be at least 1 and p between 0 and 1; got k = {k} and p = {p}")
    if (first_ids is None) != (second_ids is None):
        raise ValueError("give the ids of both sides or of neither: items are matched by id, never by position")
    sides = [_Side.of(lists, ids) for lists, ids in ((first, first_ids), (second, second_ids))]
    if first_ids is None and first.n_gallery != second.n_gallery:
        raise ValueError(
            f"galleries of {first.n_gallery} and {second.n_gallery} items; give first_ids and second_ids to match them"
        )
    known = set(sides[1].queries)
    common = [name for name in sides[0].queries if name in known]
    if not common:
        raise ValueError(
            f"no common query among {len(sides[0].queries)} and {len(sides[1].queries)}; are both of one collection?"
        )
    names: dict[str, int] = {}
    left, right = (side.taken(common, names) for side in sides)
    columns = [
        _compared(left, right, part, k, p, len(names))
        for part in _blocks(np.maximum(left.depths, right.depths))
    ]  # fmt: skip
    rbo, low, high, tau, overlap, same = (np.concatenate(column) for column in zip(*columns, strict=True))
    return RankAgreement(
        rbo, low, high, tau, overlap, same.astype(bool), tuple(common),
        len(sides[0].queries) - len(common), len(sides[1].queries) - len(common), k, p,
    )  # fmt: skip


def tau_ap(estimate: tuple[Sequence[str], npt.ArrayLike], truth: tuple[Sequence[str], npt.ArrayLike]) -> float:
    """Rank correlation that counts errors near the top most, of two lists that may be short and hold other items.

        tau_ap = 2 / (N - 1) * sum_{i=2..N} C(i) / (i - 1) - 1

    N items are in either list; those missing from one stand behind its end, in no order. C(i) counts the items above
    rank i of the estimate that the truth also puts above the item at rank i. A list states the order of two items if it
    holds at least one of them; an order that one of the lists does not state counts as not agreeing (the penalty of 1
    of Fagin et al.), so that lists without a common item get -1, identical ones 1, and one item against itself 1. Ties:
    the expected value when one random order of all items breaks the ties of both lists; a pair tied in both therefore
    agrees, a pair tied in one of them agrees half of the time. Not symmetric.
    estimate, truth : (ids, scores), higher is closer, any order. Returns -1..1, NaN for two empty lists. Errors:
    repeated ids, NaN scores, lengths that differ.
    E. Yilmaz, J. A. Aslam & S. Robertson, "A new rank correlation coefficient for information retrieval", SIGIR 2008,
    https://doi.org/10.1145/1390334.1390435; ties by expectation: J. Urbano & M. Marrero, "The treatment of ties in AP
    correlation", ICTIR 2017, https://doi.org/10.1145/3121050.3121106 (there both lists break ties independently);
    missing items: R. Fagin, R. Kumar & D. Sivakumar, "Comparing top k lists", SIAM J. Discrete Mathematics 17, 2003.

    >>> round(tau_ap((["a", "b", "c"], [3, 2, 1]), (["b", "a", "c"], [3, 2, 1])), 3)   # 2/2 * (0/1 + 2/2) - 1
    0.0
    """
    names: dict[str, int] = {}
    left, right = (_Side.alone(*given).taken([""], names) for given in (estimate, truth))
    return float(_tau_ap(_union(left, right, np.array([0, 1]), len(names)))[0])


def effect_ratio(
    baseline: npt.ArrayLike, advanced: npt.ArrayLike, baseline_again: npt.ArrayLike, advanced_again: npt.ArrayLike
) -> float:
    """Does a gain repeat? The mean improvement of the second experiment as a multiple of the first one's.

        ER = mean(advanced_again - baseline_again) / mean(advanced - baseline)

    1 : the same gain; above 1 a larger one, 0 to 1 a smaller one, below 0 a loss. The two of one experiment hold the
    same queries in the same order; the second experiment may have other queries, of another number (replication), as
    only means are compared. A query that neither scores (both NaN) is left out. Errors: lengths that differ within an
    experiment, queries scored by only one, no query scored, infinite values, a first gain of exactly 0.
    T. Breuer et al., "How to measure the reproducibility of system-oriented IR experiments", SIGIR 2020,
    https://doi.org/10.1145/3397271.3401036.

    >>> effect_ratio([0.25, 0.5], [0.5, 0.75], [0.5, 0.5, 0.5], [1.0, 0.5, 0.375])      # a gain of 1/8 where it was 1/4
    0.5
    """
    before, after = _gains(baseline, advanced), _gains(baseline_again, advanced_again)
    if before[1] == before[0]:
        raise ValueError("the first experiment shows no gain (exactly 0), so no other gain is a multiple of it")
    return (after[1] - after[0]) / (before[1] - before[0])


def delta_relative_improvement(
    baseline: npt.ArrayLike, advanced: npt.ArrayLike, baseline_again: npt.ArrayLike, advanced_again: npt.ArrayLike
) -> float:
    """How much of a relative gain is lost the second time? 0 : none, above 0 : the gain shrank, below 0 : it grew.

        dRI = RI - RI_again;   RI = (mean(advanced) - mean(baseline)) / mean(baseline)

    Arguments, errors and source as for :func:`effect_ratio`; also an error: a baseline with mean 0.

    >>> delta_relative_improvement([0.5, 0.5], [0.5, 0.75], [0.25, 0.5, 0.75], [0.5, 0.5, 0.5])      # 25 % becomes 0 %
    0.25
    """
    relative = []
    for low, high in (_gains(baseline, advanced), _gains(baseline_again, advanced_again)):
        if low == 0:
            raise ValueError("a baseline has the mean 0, so a gain relative to it has no size; compare differences")
        relative.append((high - low) / low)
    return relative[0] - relative[1]


def rmse(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """How far apart two runs of one system are query by query: sqrt(mean((first - second)^2)), 0 when they repeat.

    first, second (n_queries,) on the same queries in the same order; for other queries it is not defined. NaN in both
    is left out. Errors and source as for :func:`effect_ratio`.

    >>> rmse([0.0, 1.0], [0.6, 0.2])      # sqrt((0.36 + 0.64) / 2)
    0.7071067811865476
    """
    a, b = _scored(first, second)
    return float(np.sqrt(((a - b) ** 2).mean()))


def _gains(baseline: npt.ArrayLike, advanced: npt.ArrayLike) -> tuple[float, float]:
    a, b = _scored(baseline, advanced)
    return float(a.mean()), float(b.mean())


def _scored(a: npt.ArrayLike, b: npt.ArrayLike) -> FloatArray:
    """(2, n) the values of the queries that both score."""
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(
            f"two systems on the same queries in the same order are needed; got {first.shape}, {second.shape}"
        )
    lonely = int((np.isnan(first) != np.isnan(second)).sum())
    if lonely or np.isinf(first).any() or np.isinf(second).any():
        raise ValueError(
            f"{lonely} queries are scored by only one system, or values are infinite; compare on common ones"
        )
    if np.isnan(first).all():
        raise ValueError("no query is scored; there is nothing to compare")
    return np.stack([first, second])[:, ~np.isnan(first)]


@dataclass(frozen=True, eq=False)
class _Side:
    """Ranked lists whose queries and items have names."""

    lists: RankedLists
    queries: tuple[str, ...]
    items: tuple[str, ...]

    @classmethod
    def of(cls, lists: RankedLists | Neighbours, ids: Ids | None) -> _Side:
        if isinstance(lists, Neighbours):
            indptr = np.arange(lists.n_queries + 1) * lists.k
            lists = RankedLists(indptr, lists.indices.ravel(), lists.scores.ravel(), lists.n_gallery)
        sizes = (lists.n_queries, lists.n_gallery)
        given = tuple(tuple(str(i) for i in range(size)) for size in sizes) if ids is None else ids
        queries, items = check_unique(given[0], "query"), check_unique(given[1], "item")
        if (len(queries), len(items)) != sizes:
            raise ValueError(
                f"{len(queries)} query ids and {len(items)} item ids for {sizes[0]} lists over {sizes[1]} items"
            )
        return cls(lists, queries, items)

    @classmethod
    def alone(cls, ids: Sequence[str], scores: npt.ArrayLike) -> _Side:
        names, values = check_unique(ids, "item"), np.asarray(scores, dtype=np.float64)
        if values.shape != (len(names),):
            raise ValueError(f"{len(names)} items and scores {values.shape}; one score per item is needed")
        return cls(RankedLists(np.array([0, len(names)]), np.arange(len(names)), values, len(names)), ("",), names)

    def taken(self, queries: Sequence[str], names: dict[str, int]) -> _Ordered:
        """The lists of some queries, best first, items numbered in common."""
        place = {name: row for row, name in enumerate(self.queries)}
        rows = np.array([place[name] for name in queries], np.int64)
        depths, begin = self.lists.depths[rows], self.lists.indptr[rows]
        indptr = np.concatenate([[0], np.cumsum(depths)])
        owner = np.repeat(np.arange(len(rows)), depths)
        entries = np.arange(indptr[-1]) - indptr[owner] + begin[owner]
        listed, codes = np.unique(self.lists.items[entries], return_inverse=True)
        numbers = np.array([names.setdefault(self.items[i], len(names)) for i in listed.tolist()], np.int64)
        items, scores = numbers[codes] if len(codes) else codes, self.lists.scores[entries]
        if np.isnan(scores).any():
            query = queries[owner[np.argmax(np.isnan(scores))]]
            raise ValueError(f"the list of query {query!r} has scores that are NaN; a rank needs numbers")
        order = np.lexsort((items, -scores, owner))
        items, scores = items[order], scores[order]
        opens = np.r_[True, (scores[1:] != scores[:-1]) | (owner[1:] != owner[:-1])][: len(items)]
        begins = np.maximum.accumulate(np.where(opens, np.arange(len(items)), 0))
        found = _Ordered(indptr, owner, items, begins - indptr[owner] + 1)
        found.check(queries, len(names))
        return found


@dataclass(frozen=True, eq=False)
class _Ordered:
    """Lists best first: for each entry its query, its item and the rank at which its tie group begins."""

    indptr: IntArray
    owner: IntArray
    items: IntArray
    top: IntArray

    @property
    def depths(self) -> IntArray:
        return np.diff(self.indptr)

    def check(self, queries: Sequence[str], n_items: int) -> None:
        keys = np.sort(self.owner * n_items + self.items)
        twice = np.flatnonzero(keys[1:] == keys[:-1])
        if len(twice):
            query = queries[int(keys[twice[0]] // n_items)]
            raise ValueError(f"the list of query {query!r} holds an item more than once; keep each item once")

    def entries(self, part: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """(query counted from the first, item, top) of the queries part[0] .. part[1] - 1."""
        where = slice(self.indptr[part[0]], self.indptr[part[1]])
        return self.owner[where] - part[0], self.items[where], self.top[where]


def _blocks(depths: IntArray) -> list[IntArray]:
    """Runs of queries whose pairs of items stay within a few megabytes."""
    cost = np.cumsum(4 * np.maximum(depths, 1) ** 2)
    edges = np.unique(np.searchsorted(cost, np.arange(0, cost[-1], _CELLS), "left"))
    return [np.array(pair) for pair in zip(edges, [*edges[1:], len(depths)], strict=True)]


def _compared(
    left: _Ordered, right: _Ordered, part: IntArray, k: int, p: float, n_items: int
) -> tuple[FloatArray, ...]:
    """rbo, its bounds, tau-ap, overlap@k and whether the lists are identical, for some queries."""
    both = _union(left, right, part, n_items)
    same, filled = (both[0] == both[1]).all(axis=1), (both > 0).any(axis=(0, 2))
    tau = (_tau_ap(both) + _tau_ap(both[::-1])) / 2
    rbo, low, high = _rbo(both, p)
    # Identical lists get 1 to the last bit.
    rbo, high, tau = (np.where(same & filled, 1.0, measure) for measure in (rbo, high, tau))
    return rbo, low, high, tau, _overlap(both, k), same.astype(np.float64)


def _union(left: _Ordered, right: _Ordered, part: IntArray, n_items: int) -> IntArray:
    """(2, n_queries, width) the rank at which each item's tie group begins in each list.

    0 : not in the list, though in the other; -1 : filling.
    """
    sides = [side.entries(part) for side in (left, right)]
    keys = np.concatenate([query * n_items + item for query, item, _ in sides])
    union, codes = np.unique(keys, return_inverse=True)
    owner = union // max(n_items, 1)
    counts = np.bincount(owner, minlength=part[1] - part[0])
    place = np.arange(len(union)) - np.repeat(np.cumsum(counts) - counts, counts)
    tops = np.full((2, len(counts), int(counts.max(initial=0))), -1, np.int64)
    tops[:, owner, place] = 0
    at = 0
    for side, (_, _, top) in enumerate(sides):
        where = codes[at : at + len(top)]
        tops[side, owner[where], place[where]] = top
        at += len(top)
    return tops


def _counted(tops: IntArray, depth: int) -> IntArray:
    """(n_queries, depth) how many entries have a rank of 1 .. d."""
    n = len(tops)
    rows, columns = np.nonzero((tops > 0) & (tops <= depth))
    cells = np.bincount(rows * depth + tops[rows, columns] - 1, minlength=n * depth)
    return np.cumsum(cells.reshape(n, depth), axis=1)


def _common(both: IntArray) -> IntArray:
    """The rank from which an item is in both lists, 0 if it never is."""
    return np.asarray(np.where((both > 0).all(axis=0), both.max(axis=0), 0))


def _overlap(both: IntArray, k: int) -> FloatArray:
    shared = ((_common(both) > 0) & (_common(both) <= k)).sum(axis=1)
    listed = ((both > 0) & (both <= k)).sum(axis=(0, 2))
    return np.divide(2.0 * shared, listed, out=np.full(len(listed), np.nan), where=listed > 0)


def _rbo(both: IntArray, p: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Extrapolated RBO, lower and upper bound."""
    lengths = (both > 0).sum(axis=2)
    s, longest = lengths.min(axis=0)[:, None], lengths.max(axis=0)[:, None]
    d = np.arange(1, max(int(longest.max(initial=0)), 1) + 1)
    seen = _counted(_common(both), len(d)).astype(np.float64)
    sizes = [
        np.where(d <= length[:, None], _counted(tops, len(d)), d) for tops, length in zip(both, lengths, strict=True)
    ]
    total = sizes[0] + sizes[1]
    unseen = np.maximum(d - s, 0)
    agreed = np.where(s > 0, np.take_along_axis(2 * seen / total, np.maximum(s - 1, 0), axis=1), 0.0)
    last = np.take_along_axis(seen, np.maximum(longest - 1, 0), axis=1)
    inside, weight = d <= longest, (1 - p) / p * p**d
    point = (np.where(inside, 2 * (seen + agreed * unseen) / total, 0) * weight).sum(axis=1)
    low = (np.where(inside, 2 * seen / total, 0) * weight).sum(axis=1)
    high = (np.where(inside, 2 * (seen + unseen) / total, 0) * weight).sum(axis=1)
    with np.errstate(invalid="ignore"):
        final = ((last + agreed * (longest - s)) / longest)[:, 0]
    point += final * p ** longest[:, 0]
    least, most = _beyond(last, s, longest, p)
    empty = longest[:, 0] == 0
    return tuple(np.where(empty, np.nan, np.clip(x, 0, 1)) for x in (point, low + least, high + most))  # type: ignore[return-value]


def _beyond(last: FloatArray, s: IntArray, longest: IntArray, p: float) -> tuple[FloatArray, FloatArray]:
    """What the ranks behind both lists add to RBO at least and at most."""
    met = s + longest - last
    d = np.arange(1, int(met.max(initial=1)) + 1)
    weight = (1 - p) / p * p**d
    behind = d > longest
    rest = -np.log1p(-p) * (1 - p) / p - (np.where(behind, 0, 1 / d) * weight).sum(axis=1)
    most = np.where(behind & (d <= met), (2 * d - s - longest + last) / d, 0)
    return last[:, 0] * np.maximum(rest, 0), (most * weight).sum(axis=1) + p ** met[:, 0]


def _tau_ap(both: IntArray) -> FloatArray:
    """tau_ap of the first against the second, (n_queries,): see :func:`tau_ap`.

    An item of a tie group of t that begins behind r others is at place j of it with chance 1 / t; an item e of another
    group precedes it in the random order with chance j / (t + 1), another one of its group with (j - 1) / (t - 1).
    """
    used, absent = both[0] >= 0, both == 0
    n = used.sum(axis=1)
    levels = np.where(absent, np.iinfo(np.int64).max, both)
    above, tied = zip(*((x[:, :, None] < x[:, None, :], x[:, :, None] == x[:, None, :]) for x in levels), strict=True)
    pairs = used[:, :, None] & used[:, None, :] & ~np.eye(used.shape[1], dtype=bool)
    stated = pairs & ~(absent[:, :, None, :] & absent[:, :, :, None]).any(axis=0)
    before, same = above[0] & pairs, tied[0] & pairs
    higher, equal = above[1] & stated, tied[1] & stated
    r, t = before.sum(axis=1), same.sum(axis=1) + 1
    a, b, g = (cells.sum(axis=1) for cells in (before & higher, before & equal, same & (higher | equal)))
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, used.shape[1] + 1))])
    inverse = harmonic[np.maximum(r + t - 1, 0)] - harmonic[np.maximum(r - 1, 0)]
    ranks = t - (r == 0)
    expected = (
        a * inverse + b / (t + 1) * (ranks - (r - 1) * inverse) + g / np.maximum(t - 1, 1) * (ranks - r * inverse)
    )
    total = np.where(used, expected / t, 0).sum(axis=1)
    single = np.where((_common(both) > 0).sum(axis=1) > 0, 1.0, -1.0)
    return np.where(n > 1, 2 * total / np.maximum(n - 1, 1) - 1, np.where(n == 1, single, np.nan))
