"""The formulas: from tie groups of positives to the expected, worst and best value of every query.

Only tie groups that hold a positive are looked at, in closed form, so that a group may be the whole gallery.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import digamma

from workbench.types import FloatArray, IntArray, Ranks

if TYPE_CHECKING:
    from workbench.metrics import Metric

Triple = tuple[FloatArray, FloatArray, FloatArray]


def _sums(owner: IntArray, values: npt.ArrayLike, n: int) -> FloatArray:
    return np.bincount(owner, np.asarray(values, np.float64), minlength=n).astype(np.float64)


class Groups(NamedTuple):
    """Tie groups that hold a retrieved positive, by query and position, and the positives themselves.

    Per group: query, start (items strictly better), size, hits (positives in it), before (positives ahead of it).
    Per retrieved positive: group, gain-free order ``positive`` into Ranks. Per query: positives (retrieved or not).
    """

    query: IntArray
    start: IntArray
    size: IntArray
    hits: IntArray
    before: IntArray
    group: IntArray
    positive: IntArray
    positives: IntArray
    ranks: Ranks

    def per(self, values: npt.ArrayLike) -> FloatArray:
        """Sum over the groups of each query, (n_queries,)."""
        return _sums(self.query, values, len(self.positives))

    def inside(self, k: IntArray) -> IntArray:
        """How many places of each group lie within the cutoff of its query."""
        places: IntArray = np.minimum(np.maximum(k[self.query] - self.start, 0), self.size)
        return places


def tie_groups(ranks: Ranks) -> Groups:
    absent = ranks.better >= ranks.n_gallery
    if (ranks.better[~absent] + ranks.tied[~absent] >= ranks.depth[ranks.queries][~absent]).any():
        raise ValueError("these ranks contradict themselves: a positive lies deeper than the ranked items of its query")
    kept = np.flatnonzero(~absent)
    positive = kept[np.lexsort((ranks.better[kept], ranks.queries[kept]))]
    query, start = ranks.queries[positive], ranks.better[positive]
    opens = np.ones(len(positive), dtype=bool)
    opens[1:] = (np.diff(query) != 0) | (np.diff(start) != 0)
    first = np.flatnonzero(opens)
    hits = np.diff(np.append(first, len(positive)))
    size = ranks.tied[positive][first] + 1
    if (hits > size).any():
        raise ValueError("these ranks contradict themselves: more positives share a score than items do")
    before = first - np.searchsorted(query, query[first])
    group = np.cumsum(opens) - 1
    return Groups(
        query[first], start[first], size, hits, before, group, positive, ranks.positives_per_query, ranks
    )  # fmt: skip


def _harmonic(start: npt.ArrayLike, n: npt.ArrayLike) -> FloatArray:
    """Sum of 1/x over x = start + 1 .. start + n, to a relative error near 1e-15 at any depth."""
    y, n = np.asarray(start, np.float64) + 1, np.asarray(n, np.float64)
    z = y + n
    far = np.log1p(n / y) + n / (2 * y * z) + (y**-2 - z**-2) / 12 - (y**-4 - z**-4) / 120
    near = digamma(z) - digamma(y)
    return np.where(n == 1, 1 / y, np.where(y > 200, far, near))


def _none_of(size: IntArray, hits: IntArray, n: IntArray) -> FloatArray:
    """Chance that n random places of a group hold none of its positives: C(size - hits, n) / C(size, n)."""
    fewer, more = np.minimum(hits, n), np.maximum(hits, n)
    chance = np.ones(len(size))
    for j in range(int(fewer.max(initial=0))):
        chance *= np.where(j < fewer, np.maximum(size - more - j, 0) / np.maximum(size - j, 1), 1.0)
    return chance


def _lead(g: Groups) -> Groups:
    """Only the first group of each query: the one that decides where the first positive is."""
    lead = g.before == 0
    return g._replace(
        query=g.query[lead], start=g.start[lead], size=g.size[lead], hits=g.hits[lead], before=g.before[lead]
    )


def hit(groups: Groups, k: IntArray, metric: Metric) -> Triple:
    g = _lead(groups)
    n = g.inside(k)
    some = np.where(g.hits == 1, n / g.size, 1 - _none_of(g.size, g.hits, n))
    return g.per(some), g.per(n > g.size - g.hits), g.per(n > 0)


def first_rank(groups: Groups, k: IntArray, metric: Metric) -> Triple:
    g = _lead(groups)
    return (
        g.per(g.start + (g.size + 1) / (g.hits + 1)),
        g.per(g.start + g.size - g.hits + 1),
        g.per(g.start + 1),
    )


def _mean_reciprocal(start: IntArray, size: IntArray, hits: IntArray, n: IntArray) -> FloatArray:
    """E[1 / rank of the first positive], 0 behind place n, for groups given as arrays: blocks of similar length."""
    values = np.where(hits == 1, _harmonic(start, n) / size, 0.0)
    # Behind 45 * size / hits places the chance that no positive came yet is below exp(-45).
    terms = np.minimum(np.minimum(n, size - hits + 1), np.ceil(45 * size / hits).astype(np.int64))
    todo = np.flatnonzero(hits > 1)
    todo = todo[np.argsort(terms[todo], kind="stable")]
    while len(todo):
        rows = max(1, int(np.searchsorted(np.arange(1, len(todo) + 1) * terms[todo], 2_000_000, "right")))
        now, todo = todo[:rows], todo[rows:]
        place = np.arange(1, terms[now].max(initial=0) + 1)
        left = np.maximum(size[now, None] - place + 1, 1)
        still_none = np.cumprod(np.maximum(1 - hits[now, None] / left, 0), axis=1)
        here = np.concatenate([np.ones((len(now), 1)), still_none[:, :-1]], axis=1) * hits[now, None] / left
        values[now] = np.where(place <= terms[now, None], here / (start[now, None] + place), 0.0).sum(axis=1)
    return values


def reciprocal_rank(groups: Groups, k: IntArray, metric: Metric) -> Triple:
    g = _lead(groups)
    n = g.inside(k)
    kinds, which = np.unique(np.stack([g.start, g.size, g.hits, n]), axis=1, return_inverse=True)
    expected = _mean_reciprocal(*kinds)[np.ravel(which)]
    late = g.size - g.hits + 1
    return g.per(expected), g.per((late <= n) / (g.start + late)), g.per((n > 0) / (g.start + 1))


def found(g: Groups, k: IntArray, metric: Metric) -> Triple:
    """Positives within the cutoff, divided by all positives (R, R-precision) or by the cutoff (P)."""
    n = g.inside(k)
    below = k if metric.name == "P" else np.maximum(g.positives, 1)
    return (
        g.per(g.hits * n / g.size) / below,
        g.per(np.maximum(n - (g.size - g.hits), 0)) / below,
        g.per(np.minimum(g.hits, n)) / below,
    )


def _spread(before: IntArray, start: IntArray, size: IntArray, hits: IntArray, n: IntArray) -> FloatArray:
    """Expected sum of precisions at the positives in the first n places of a group (McSherry & Najork 2008).

    Place start + i holds a positive with chance hits/size; given that, before + 1 + (i-1)(hits-1)/(size-1) positives
    are expected up to it. Summed over i = 1..n with harmonic numbers, so that a group may be the whole gallery.
    """
    slope = (hits - 1) / np.maximum(size - 1, 1)
    return hits / np.maximum(size, 1) * (n * slope + (before + 1 - (start + 1) * slope) * _harmonic(start, n))


def _packed(before: IntArray, start: IntArray, hits: IntArray) -> FloatArray:
    """Sum of precisions when the positives take the places start + 1 .. start + hits one after the other."""
    return hits + (before - start) * _harmonic(start, hits)


def average_precision(g: Groups, k: IntArray, metric: Metric) -> Triple:
    norm = metric.option("norm") if metric.name == "AP" else "all"
    if norm == "hits":
        return _average_precision_by_hits(g, k)
    below = np.maximum(np.minimum(g.positives, k) if norm == "min" else g.positives, 1)
    n = g.inside(k)
    late, early = np.maximum(n - (g.size - g.hits), 0), np.minimum(g.hits, n)
    return (
        g.per(_spread(g.before, g.start, g.size, g.hits, n)) / below,
        g.per(_packed(g.before, g.start + n - late, late)) / below,
        g.per(_packed(g.before, g.start, early)) / below,
    )


def _hypergeometric(size: IntArray, hits: IntArray, n: IntArray) -> FloatArray:
    """Chance of 0, 1, 2, ... positives among n random places of a group: (n_groups, most possible + 1)."""
    h = np.arange(int(np.minimum(hits, n).max()) + 1)
    size, hits, n = size[:, None], hits[:, None], n[:, None]
    possible = (h >= n - (size - hits)) & (h <= np.minimum(hits, n))
    step = (hits - h + 1) * (n - h + 1) / np.maximum(h * (size - hits - n + h), 1)
    logs = np.cumsum(np.log(np.where(possible & (h > 0) & (h > n - (size - hits)), step, 1.0)), axis=1)
    chance = np.where(possible, np.exp(logs - np.max(np.where(possible, logs, -np.inf), axis=1, keepdims=True)), 0.0)
    return np.asarray(chance / chance.sum(axis=1, keepdims=True))


def _average_precision_by_hits(g: Groups, k: IntArray) -> Triple:
    """AP divided by the positives within the cutoff: their number is random where the cutoff splits a tie group."""
    n = g.inside(k)
    whole, split = n == g.size, (n > 0) & (n < g.size)
    found = g.per(g.hits * whole)
    sums = (
        g.per(_spread(g.before, g.start, g.size, g.hits, n) * whole),
        g.per(_packed(g.before, g.start + g.size - g.hits, g.hits) * whole),
        g.per(_packed(g.before, g.start, g.hits) * whole),
    )
    expected, worst, best = (total / np.maximum(found, 1) for total in sums)
    if split.any():
        query, before, start, places = g.query[split], g.before[split, None], g.start[split, None], n[split, None]
        chance = _hypergeometric(g.size[split], g.hits[split], n[split])
        h = np.minimum(np.arange(chance.shape[1]), places)
        in_list = np.maximum(before + h, 1)
        spread = (sums[0][query, None] + _spread(before, start, places, h, places)) / in_list
        late = (sums[1][query, None] + _packed(before, start + places - h, h)) / in_list
        early = (sums[2][query, None] + _packed(before, start, h)) / in_list
        expected[query] = (chance * spread).sum(axis=1)
        worst[query] = np.where(chance > 0, late, np.inf).min(axis=1)
        best[query] = np.where(chance > 0, early, -np.inf).max(axis=1)
    return expected, worst, best


def _gains(grades: FloatArray, metric: Metric) -> FloatArray:
    return grades if metric.option("gain") == "linear" else np.exp2(grades) - 1


def _within(gains: FloatArray, places: IntArray, query: IntArray, k: IntArray) -> FloatArray:
    """Discounted gain of each query when each positive sits at the given place."""
    worth = np.where(places <= k[query], gains / np.log2(places + 1.0), 0.0)
    return _sums(query, worth, len(k))


def ndcg(g: Groups, k: IntArray, metric: Metric) -> Triple:
    """Gain of a tie group spread evenly over its places (McSherry & Najork 2008); ideal over all positives."""
    n = g.inside(k)
    gains = _gains(g.ranks.grades, metric)
    mean_gain = _sums(g.group, gains[g.positive], len(g.size)) / g.size
    ends = g.start + n
    table = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, int(ends.max(initial=0)) + 2)))])
    start = np.minimum(g.start, len(table) - 1)
    discount = np.where(n == 1, 1 / np.log2(g.start + 2.0), np.where(n > 0, table[ends] - table[start], 0.0))
    order = np.lexsort((gains[g.positive], g.group))  # lowest gain first in each group
    place = np.arange(len(order)) - (np.cumsum(g.hits) - g.hits)[g.group] + 1
    query, sorted_gains = g.query[g.group], gains[g.positive][order]
    early = g.start[g.group] + g.hits[g.group] + 1 - place
    late = (g.start + g.size - g.hits)[g.group] + place
    ideal_order = np.lexsort((-gains, g.ranks.queries))
    ideal_place = np.arange(len(gains)) - g.ranks.indptr[g.ranks.queries] + 1
    ideal = _within(gains[ideal_order], ideal_place, g.ranks.queries, k)
    below = np.where(ideal > 0, ideal, 1.0)
    return (
        g.per(mean_gain * discount) / below,
        _within(sorted_gains, late, query, k) / below,
        _within(sorted_gains, early, query, k) / below,
    )
