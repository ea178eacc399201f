"""What a hit rate would be in a smaller gallery, exactly, and a labelled guess for a larger one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, ndtr, ndtri

from workbench.statistics.bootstrap import Interval, cluster_bootstrap
from workbench.statistics.clusters import cluster_standard_error
from workbench.types import FloatArray, IntArray, Ranks

Kept = Literal["all", "one"]


@dataclass(frozen=True)
class GallerySize:
    """A hit rate at one gallery size: :func:`gallery_curve` and :func:`gallery_extrapolation`.

    value : share of hits. low, high : interval at ``level`` over clusters of queries. extrapolated : the size is beyond
    the gallery that was searched, so the value is a guess under a model.
    """

    size: int
    k: int
    kept: str
    value: float
    low: float
    high: float
    level: float
    n: int
    n_clusters: int
    n_missing: int
    extrapolated: bool
    method: str
    warnings: tuple[str, ...]

    def flat(self) -> dict[str, Any]:
        """Plain values, in a fixed order."""
        return asdict(self)


def hits_at_size(ranks: Ranks, size: int, *, k: int, kept: Kept = "all") -> FloatArray:
    """Chance that each query is a hit@k in a random gallery of ``size`` items of the one searched, in closed form.

        P(hit) = P(at most k - 1 of the r - 1 better items are drawn) = sum_{i < k} C(r-1, i) C(N-r+1, d-i) / C(N, d)

    d distractors are drawn from the query's N items that are not its positives; items equal in score come in random
    order. kept : "all" keeps every positive of the query and draws d = size - positives; "one" keeps a random one of
    them, takes the others out and draws d = size - 1, so that queries with few and many positives are asked alike.
    With one positive per query both are the same. ranks : of complete rankings; k >= 1; size from k and (kept "all")
    from the largest number of positives to the items ranked. Returns (n_queries,), NaN without positives. Errors: a
    positive of unknown rank, a size outside that range (:func:`gallery_extrapolation` is for larger ones).

    >>> from workbench.types import Ranks
    >>> third_of_four = Ranks([0, 1], [0], [1.0], [2], [0], [4], 4)
    >>> hits_at_size(third_of_four, 2, k=1).round(3)      # the one distractor must be the one below it
    array([0.333])
    """
    first = _places(ranks, kept)
    n_items = ranks.depth[first.query]
    needed = int(first.positives.max(initial=1)) if kept == "all" else 1
    if not max(k, needed) <= size <= int(n_items.min(initial=size)) or k < 1:
        raise ValueError(
            f"size must lie between {max(k, needed)} (k and the positives kept) and {n_items.min(initial=size)} items "
            f"ranked, with k >= 1; got size {size} and k {k}; for larger galleries use gallery_extrapolation"
        )
    pool, drawn = n_items - first.positives, size - np.where(kept == "all", first.positives, 1)
    hits = np.empty(len(first.query))
    for one in np.unique(np.stack([pool, drawn], axis=1), axis=0):
        mine = (pool == one[0]) & (drawn == one[1])
        hits[mine] = _over_ties(_hit_table(int(one[0]), int(one[1]), k), first.take(mine))
    return first.average(hits)


def gallery_curve(
    ranks: Ranks,
    sizes: Sequence[int],
    clusters: npt.ArrayLike,
    *,
    k: int = 1,
    kept: Kept = "all",
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> tuple[GallerySize, ...]:
    """How a hit rate falls as the gallery grows, up to the gallery searched: one entry per size.

        value(m) = mean over queries of P(hit@k in a random gallery of m items)

    :func:`hits_at_size` with the interval of :func:`workbench.statistics.cluster_bootstrap`; at the full size it is the
    expected hit@k itself. The interval is about other queries, not other items. ranks, k, kept, errors: as there;
    clusters (n_queries,).

    >>> from workbench.types import Ranks
    >>> ranks = Ranks([0, 1, 2], [0, 1], [1.0, 1.0], [2, 0], [0, 0], [4, 4], 4)
    >>> [round(point.value, 3) for point in gallery_curve(ranks, [2, 3, 4], [0, 1])]
    [0.667, 0.5, 0.5]
    """
    found = []
    for size in sizes:
        hits = hits_at_size(ranks, size, k=k, kept=kept)
        interval = cluster_bootstrap(hits, clusters, level=level, n_resamples=n_resamples, seed=seed)
        method = f"hypergeometric, {kept} of the positives kept; {interval.method}"
        found.append(_point(size, k, kept, interval, method))
    return tuple(found)


def gallery_extrapolation(
    ranks: Ranks, size: int, clusters: npt.ArrayLike, *, k: int = 1, kept: Kept = "all", level: float = 0.95
) -> GallerySize:
    """A guess of the hit rate in a gallery larger than the one searched, up to ten times: an extrapolation.

        probit(value(m)) = z_N + (z_N - z_h) * log(m / N) / log(N / h),   z = probit(hit rate), h = N / 2

    A straight line in probit of the rate over log size, through the exact rates at half and at full size; new items are
    taken to be like those searched. The interval (on the probit scale, clustered) is about other queries only: the line
    itself was off by up to 0.02 at twice and 0.08 at ten times the gallery in five simulated worlds. Errors: a size not
    between the gallery and ten times it, a rate of 0 or 1 at half or full size, rankings of unlike depth; others as
    :func:`hits_at_size`.

    >>> from workbench.types import Ranks
    >>> ranks = Ranks([0, 1, 2, 3, 4], [0] * 4, [1.0] * 4, [0, 1, 2, 3], [0] * 4, [8] * 4, 8)
    >>> point = gallery_extrapolation(ranks, 16, range(4))
    >>> round(point.value, 3), point.extrapolated      # 0.493 of 4, 0.25 of 8
    (0.092, True)
    """
    full = int(ranks.depth.max(initial=0))
    if (ranks.depth != full).any() or not full < size <= 10 * full:
        raise ValueError(
            f"all queries must rank the same gallery, and size lie above it and within ten times; got {size} for "
            f"rankings of {ranks.depth.min(initial=full)}..{full} items; gallery_curve is for sizes up to it"
        )
    hits = [hits_at_size(ranks, m, k=k, kept=kept) for m in (full // 2, full)]
    rates = np.array([np.nanmean(hit) for hit in hits])
    if not ((rates > 0) & (rates < 1)).all():
        raise ValueError(
            f"hit@{k} is {rates[0]:g} at {full // 2} and {rates[1]:g} at {full} items: rates of 0 and 1 have no slope "
            "to continue; use another k"
        )
    z, steps = ndtri(rates), np.log(size / full) / np.log(full / (full // 2))
    weights = np.array([-steps, 1 + steps])
    slopes = weights * np.sqrt(2 * np.pi) * np.exp(z**2 / 2)
    spread = cluster_standard_error(slopes[0] * hits[0] + slopes[1] * hits[1], clusters)
    middle, half = float(weights @ z), float(ndtri((1 + level) / 2) * spread)
    interval = cluster_bootstrap(hits[1], clusters, level=level, n_resamples=100)
    words = f"Extrapolated from {full} to {size} items: the interval leaves out the error of the model."
    interval = replace(
        interval, value=float(ndtr(middle)), low=float(ndtr(middle - half)), high=float(ndtr(middle + half)),
        warnings=(words, *interval.warnings),
    )  # fmt: skip
    method = f"extrapolated: probit line over log size from {full // 2} and {full} items, {kept} of the positives kept"
    return _point(size, k, kept, interval, method, extrapolated=True)


def _point(size: int, k: int, kept: str, found: Interval, method: str, *, extrapolated: bool = False) -> GallerySize:
    return GallerySize(
        size, k, kept, found.value, found.low, found.high, found.level, found.n, found.n_clusters, found.n_missing,
        extrapolated, method, found.warnings,
    )  # fmt: skip


class _Places(NamedTuple):
    """Kept positives, each with its query, the query's positives, and the negatives better than it and tied with it.

    group : positives of the tie group of which the first counts; n_queries.
    """

    query: IntArray
    positives: IntArray
    better: IntArray
    tied: IntArray
    group: IntArray
    n_queries: int

    def take(self, mine: npt.NDArray[np.bool_]) -> _Places:
        query, positives, better, tied, group, n_queries = self
        return _Places(query[mine], positives[mine], better[mine], tied[mine], group[mine], n_queries)

    def average(self, hits: FloatArray) -> FloatArray:
        """Mean over the kept positives of each query, NaN where there is none."""
        counts = np.bincount(self.query, minlength=self.n_queries)
        with np.errstate(invalid="ignore"):
            found: FloatArray = np.bincount(self.query, hits, minlength=self.n_queries) / counts
        return found


def _places(ranks: Ranks, kept: Kept) -> _Places:
    """The best tie group of each query (kept "all") or each positive without the others (kept "one")."""
    if kept not in ("all", "one"):
        raise ValueError(f"unknown value of kept {kept!r}; allowed: all, one")
    if (ranks.better >= ranks.depth[ranks.queries]).any():
        raise ValueError(
            f"{int((ranks.better >= ranks.depth[ranks.queries]).sum())} positives were not retrieved, so their rank "
            "is unknown; gallery sizes need complete rankings"
        )
    order = np.lexsort((ranks.better, ranks.queries))
    query, better, tied = ranks.queries[order], ranks.better[order], ranks.tied[order]
    keys = query * (int(better.max(initial=0)) + 1) + better
    first = np.searchsorted(keys, keys)
    group = np.searchsorted(keys, keys, side="right") - first
    before = first - np.searchsorted(query, query)
    places = _Places(
        query, ranks.positives_per_query[query], better - before, tied + 1 - group, group, ranks.n_queries
    )  # fmt: skip
    if kept == "all":
        return places.take((before == 0) & (np.arange(len(query)) == first))
    return places._replace(group=np.ones_like(group))


def _hit_table(pool: int, drawn: int, k: int) -> FloatArray:
    """Chance that at most k - 1 of the r better items are among ``drawn`` of ``pool``, for r = 0 .. pool."""
    better = np.arange(pool + 1)
    if drawn == pool:
        return (better < k).astype(np.float64)
    logs = gammaln(np.arange(pool + 1) + 1.0)
    chance = np.zeros(pool + 1)
    for i in range(min(k - 1, drawn) + 1):
        r = better[i : pool - drawn + i + 1]
        others, rest = pool - r, drawn - i
        ways = logs[r] - logs[i] - logs[r - i] + logs[others] - logs[rest] - logs[others - rest]
        chance[r] += np.exp(ways - logs[pool] + logs[drawn] + logs[pool - drawn])
    return np.where(better < k, 1.0, np.minimum(chance, 1.0))


def _over_ties(table: FloatArray, places: _Places) -> FloatArray:
    """Mean of the table at the negatives ahead of the first positive, its tie group in random order."""
    b, t, h = places.better, places.tied, places.group
    running = np.concatenate([[0.0], np.cumsum(table)])
    mean = np.where(t == 0, table[b], (running[b + t + 1] - running[b]) / (t + 1))
    several, inverse = np.unique(np.stack([b, t, h], axis=1)[(t > 0) & (h > 1)], axis=0, return_inverse=True)
    values = [_first_of_several(table, *row) for row in several.tolist()]
    mean[(t > 0) & (h > 1)] = np.array(values)[inverse.ravel()] if values else 0.0
    return mean


def _first_of_several(table: FloatArray, better: int, tied: int, group: int) -> float:
    """Sum over j of P(j of the tied negatives precede the first of ``group`` positives) * table[better + j]."""
    ahead = np.arange(tied + 1)
    ways = gammaln(tied - ahead + group) - gammaln(tied - ahead + 1.0) - gammaln(group)
    every = gammaln(tied + group + 1.0) - gammaln(tied + 1.0) - gammaln(group + 1.0)
    return float(np.exp(ways - every) @ table[better + ahead])
