"""The formulas: from tie groups of positives to the expected, worst and best value of every query.

Only tie groups that hold a positive are looked at, in closed form, so that a group may be the whole gallery.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import digamma

from workbench.types import FloatArray, IntArray, Ranks

if TYPE_CHECKING:
    from workbench.metrics import Metric

Triple = tuple[FloatArray, FloatArray, FloatArray]


@dataclass(frozen=True, eq=False)
class TiedValues:
    """One number per query, three times: expected under random order of equal scores, and the worst and best order."""

    expected: FloatArray
    worst: FloatArray
    best: FloatArray


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

    def only(self, chosen: npt.NDArray[np.bool_]) -> Groups:
        """Some of the groups, for a formula that looks at groups alone."""
        return self._replace(
            query=self.query[chosen], start=self.start[chosen], size=self.size[chosen], hits=self.hits[chosen],
            before=self.before[chosen],
        )  # fmt: skip

    def inside(self, k: IntArray) -> IntArray:
        """How many places of each group lie within the cutoff of its query."""
        places: IntArray = np.minimum(np.maximum(k[self.query] - self.start, 0), self.size)
        return places


def tie_groups(ranks: Ranks) -> Groups:
    queries, absent = ranks.queries, ranks.better >= ranks.n_gallery
    if (~absent & (ranks.better + ranks.tied >= ranks.depth[queries])).any():
        raise ValueError("these ranks contradict themselves: a positive lies deeper than the ranked items of its query")
    kept = np.flatnonzero(~absent)
    # Within a tie group by grade: no sum depends on how the gallery is numbered.
    positive = kept[np.lexsort((ranks.grades[kept], ranks.better[kept], queries[kept]))]
    query, start = queries[positive], ranks.better[positive]
    opens = np.ones(len(positive), dtype=bool)
    opens[1:] = (query[1:] != query[:-1]) | (start[1:] != start[:-1])
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
    """Sum of 1/x over x = start + 1 .. start + n, to a relative error below 1e-12 at any depth."""
    y, n = np.broadcast_arrays(np.asarray(start, np.float64) + 1, np.asarray(n, np.float64))
    total = n / y
    many = n > 1
    if many.any():
        y, n = y[many], n[many]
        z = y + n
        far = np.log1p(n / y) + n / (2 * y * z) + (y**-2 - z**-2) / 12 - (y**-4 - z**-4) / 120
        total[many] = np.where(y > 200, far, digamma(z) - digamma(y))
    return np.asarray(total)


def _none_of(size: IntArray, hits: IntArray, n: IntArray) -> FloatArray:
    """Chance that n random places of a group hold none of its positives: C(size - hits, n) / C(size, n)."""
    fewer, more = np.minimum(hits, n), np.maximum(hits, n)
    chance = np.ones(len(size))
    for j in range(int(fewer.max(initial=0))):
        chance *= np.where(j < fewer, np.maximum(size - more - j, 0) / np.maximum(size - j, 1), 1.0)
    return chance


def _lead(g: Groups) -> Groups:
    """Only the first group of each query: the one that decides where the first positive is."""
    return g.only(g.before == 0)


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


def _mean_reciprocal(start: IntArray, size: IntArray, hits: IntArray, n: IntArray, *, last: bool = False) -> FloatArray:
    """E[1 / rank of the first (or last) positive of a tie group], 0 behind place n."""
    values = _harmonic(start, n) / size
    many = np.flatnonzero(hits > 1)
    if len(many):
        kinds = np.stack([part[many] for part in (start, size, hits, n)])
        kinds, which = np.unique(kinds, axis=1, return_inverse=True)
        values[many] = _mean_reciprocal_of_many(*kinds, last=last)[np.ravel(which)]
    return values


def _mean_reciprocal_of_many(
    start: IntArray, size: IntArray, hits: IntArray, n: IntArray, *, last: bool
) -> FloatArray:  # fmt: skip
    """Term by term, for groups of several positives in blocks of similar length; the last is the first from behind."""
    values = np.zeros(len(hits))
    # Behind 45 * size / hits places the chance that no positive came yet is below exp(-45).
    terms = np.minimum(np.minimum(n, size - hits + 1), np.ceil(45 * size / hits).astype(np.int64))
    todo = np.argsort(terms, kind="stable")
    while len(todo):
        rows = max(1, int(np.searchsorted(np.arange(1, len(todo) + 1) * terms[todo], 2_000_000, "right")))
        now, todo = todo[:rows], todo[rows:]
        place = np.arange(1, terms[now].max() + 1)
        left = np.maximum(size[now, None] - place + 1, 1)
        still_none = np.cumprod(np.maximum(1 - hits[now, None] / left, 0), axis=1)
        here = np.concatenate([np.ones((len(now), 1)), still_none[:, :-1]], axis=1) * hits[now, None] / left
        rank = start[now, None] + (left if last else place)
        values[now] = np.where(place <= terms[now, None], here / rank, 0.0).sum(axis=1)
    return values


def reciprocal_rank(groups: Groups, k: IntArray, metric: Metric) -> Triple:
    g = _lead(groups)
    n = g.inside(k)
    late = g.size - g.hits + 1
    return (
        g.per(_mean_reciprocal(g.start, g.size, g.hits, n)),
        g.per((late <= n) / (g.start + late)),
        g.per((n > 0) / (g.start + 1)),
    )


def inverse_negative_penalty(groups: Groups, k: IntArray, metric: Metric) -> Triple:
    """All positives, divided by the rank of the last one; 0 when a positive is nowhere in the ranking.

    M. Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook", TPAMI 2021,
    https://arxiv.org/abs/2001.04193.
    """
    final = groups.before + groups.hits == groups.positives[groups.query]
    g = groups.only(final)
    return (
        g.per((g.before + g.hits) * _mean_reciprocal(g.start, g.size, g.hits, g.size, last=True)),
        g.per((g.before + g.hits) / (g.start + g.size)),
        g.per((g.before + g.hits) / (g.start + g.hits)),
    )


def found(g: Groups, k: IntArray, metric: Metric) -> Triple:
    """Positives within the cutoff, divided by all positives (R, R-precision) or by the cutoff (P)."""
    below = k if metric.name == "P" else np.maximum(g.positives, 1)
    expected, worst, best = positives_within(g, k)
    return expected / below, worst / below, best / below


def positives_within(g: Groups, k: IntArray) -> Triple:
    n = g.inside(k)
    return (
        g.per(g.hits * n / g.size),
        g.per(np.maximum(n - (g.size - g.hits), 0)),
        g.per(np.minimum(g.hits, n)),
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
