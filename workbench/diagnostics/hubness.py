"""Hubness: do a few gallery items crowd out the rest, beyond what chance does for these sizes?

The raw skewness of how often items are retrieved cannot be compared between directions or depths: when every query
picks k items at random it is 0.14 for 2,500 queries on 500 items at k = 10, 0.74 for 500 queries on 2,500 items, and
2.29 for the latter at k = 1. Every number here therefore stands beside its distribution under that chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, isfinite, nan, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from workbench.search import k_occurrence
from workbench.statistics import cluster_bootstrap
from workbench.types import Finding, FloatArray, IntArray, Neighbours, Verdict

if TYPE_CHECKING:
    import pandas as pd

MAX_TIED_SHARE = 0.01
HUB_SHARE = (0.05, 0.30)
ANTIHUB_EXCESS = (0.05, 0.20)
HUB_SOURCE = (
    "convention of this project: a trained CLIP gives hubs 1-21 % of the top-10 places on small photo sets, networks "
    "with random weights 58 % and more; 'look' from 5 %, 'problem' from 30 %"
)
ANTIHUB_SOURCE = (
    "convention of this project: the share chance leaves unretrieved for these sizes plus 5 points for 'look', "
    "plus 20 points for 'problem'"
)
TIE_SOURCE = "convention of this project: with more than 1 % of the k-th places tied, the tie rule picks the items"
MEASURES = {
    "skewness": "skewness of the retrieval counts",
    "max_occurrence": "most often retrieved item (times)",
    "hub_share": "share of result places held by hubs",
    "antihub_share": "share of items never retrieved",
    "robin_hood": "share of places to move for equality",
    "gini": "Gini coefficient of the retrieval counts",
}


@dataclass(frozen=True)
class Measure:
    """One number with its distribution under chance.

    z is (value - chance mean) / chance standard deviation, NaN when the chance band is a single value (no scale to
    measure in). p_value is the Monte-Carlo share of chance draws at least as large, (1 + count) / (1 + draws), so that
    it is never zero.
    """

    name: str
    value: float
    chance: float
    low: float
    high: float
    z: float
    p_value: float


@dataclass(frozen=True, eq=False)
class Hubness:
    """How often each gallery item is retrieved, against chance for the same sizes.

    occurrence : (n_gallery,) times each item is among the k closest of a query; it sums to k x n_queries.
    measures : skewness, maximum, share of places held by hubs, share never retrieved, Robin Hood index, Gini
        coefficient.
    hub_threshold : an item retrieved at least this often is a hub (see :func:`hub_threshold`).
    hub_interval : 95 % cluster bootstrap over queries of the share of places these hubs hold, the set of hubs fixed.
    chance_items, chance_low, chance_high : how many items are retrieved exactly 0, 1, 2, ... times under chance, up to
        the largest count or the hub threshold: mean and central band.
    tied_share : share of queries whose k-th place is tied.
    """

    direction: str
    k: int
    n_queries: int
    occurrence: IntArray
    measures: tuple[Measure, ...]
    hub_threshold: int
    hub_interval: tuple[float, float]
    skewness_closed_form: float
    chance_items: FloatArray
    chance_low: FloatArray
    chance_high: FloatArray
    tied_share: float
    exact: bool
    level: float
    n_null: int
    seed: int

    @property
    def n_gallery(self) -> int:
        return len(self.occurrence)

    @property
    def mean_occurrence(self) -> float:
        """The fair share: k x n_queries / n_gallery."""
        return self.k * self.n_queries / self.n_gallery

    @property
    def hubs(self) -> IntArray:
        """Indices of the hubs, most often retrieved first."""
        return self.worst(int((self.occurrence >= self.hub_threshold).sum()))[0]

    @property
    def antihubs(self) -> IntArray:
        """Indices of the items no query retrieves."""
        return np.flatnonzero(self.occurrence == 0)

    def measure(self, name: str) -> Measure:
        """One of the measures by name, a key of MEASURES."""
        known = {measure.name: measure for measure in self.measures}
        if name not in known:
            raise KeyError(f"no measure {name!r}; there are {', '.join(known)}")
        return known[name]

    def worst(self, n: int = 10) -> tuple[IntArray, IntArray]:
        """(indices, counts) of the n most often retrieved items; equal counts in ascending order of index."""
        order = np.argsort(-self.occurrence, kind="stable")[:n]
        return order, self.occurrence[order]

    def table(self) -> pd.DataFrame:
        """One row per measure: value, chance mean and band, z, p."""
        import pandas as pd

        band = f"{100 * self.level:g} % of chance"
        rows = [
            {"measure": MEASURES[m.name], "value": m.value, "chance": m.chance, f"{band}, low": m.low,
             f"{band}, high": m.high, "z": m.z, "p": m.p_value}
            for m in self.measures
        ]  # fmt: skip
        return pd.DataFrame(rows).set_index("measure")

    def plot(self, ax: Any = None) -> Any:
        """Histogram of the retrieval counts with the chance band and the hub threshold."""
        from workbench.plots import curves

        return curves.k_occurrence(self, ax)

    def findings(self) -> list[Finding]:
        """One finding about hubs, one about items nobody retrieves."""
        return [_hub_finding(self), _antihub_finding(self)]

    def flat(self) -> dict[str, float]:
        """Measures and their z by ``direction/name@k``; undefined values are left out."""
        pairs = [(m.name, m.value) for m in self.measures] + [(f"{m.name}_z", m.z) for m in self.measures]
        named = {f"{self.direction}/{name}@{self.k}": float(value) for name, value in pairs if isfinite(value)}
        return named | {f"{self.direction}/kth_tied_share@{self.k}": self.tied_share}

    def _repr_html_(self) -> str:
        return self.table().to_html(float_format=lambda value: f"{value:.3g}")


def hubness(
    neighbours: Neighbours,
    *,
    direction: str,
    clusters: npt.ArrayLike | None = None,
    seed: int = 0,
    n_null: int = 1000,
    level: float = 0.95,
) -> Hubness:
    """Count how often each gallery item is retrieved and compare with queries that pick k distinct items at random.

    occurrence[g] = number of queries with g among their k closest
    skewness      = mean((occurrence - mean)^3) / sd^3, over all items, the never retrieved ones included
    Robin Hood    = sum |occurrence - mean| / (2 k n_queries), the share of places to move until all items are equal
    Gini          = sum_{g,h} |occurrence[g] - occurrence[h]| / (2 n_gallery k n_queries), 0 when all items are equal

    neighbours : top-k lists of (n_queries, k); any number of queries and gallery items. clusters : (n_queries,) labels
    of queries that move together, such as the image of each caption (default: every query its own). level : width of
    the chance band. n_null : simulated chance draws; each has exactly k distinct items per query.
    Within one modality: ``scan(x, x, [TopK(k, exclude=same_items(ids, ids))])``. Chance still draws from all n items,
    though an item cannot retrieve itself; that makes the variance of its counts too large by the factor
    (n - 1)(n - k) / (n (n - 1 - k)): 1.0003 for n = 200 and k = 10, 1.005 for n = 50, 1.06 for n = 20.
    Chance takes queries as independent; five captions of one image are not, which alone widens the counts: z and p
    overstate. Verdicts therefore rest on the shares.
    Raises ValueError when a list repeats an item or holds an index outside the gallery.
    Reference: M. Radovanovic, A. Nanopoulos, M. Ivanovic, "Hubs in Space: Popular Nearest Neighbors in
    High-Dimensional Data", JMLR 11, 2010, https://jmlr.org/papers/v11/radovanovic10a.html (k-occurrence, skewness);
    R. Feldbauer, M. Leodolter, C. Plant, A. Flexer, "Fast Approximate Hubness Reduction for Large High-Dimensional
    Data", ICBK 2018 (Robin Hood index). Differs from both: rectangular data, and a chance distribution.

    >>> lists = Neighbours(np.array([[0], [0], [0], [1]]), np.zeros((4, 1)), 3, True, np.zeros(4, bool))
    >>> result = hubness(lists, direction="t2i", n_null=100)
    >>> result.occurrence, round(result.measure("antihub_share").value, 3), result.measure("gini").value
    (array([3, 1, 0]), 0.333, 0.5)
    """
    _check(neighbours, n_null, level)
    n_queries, k, n_gallery = neighbours.n_queries, neighbours.k, neighbours.n_gallery
    occurrence = k_occurrence(neighbours)
    limit = hub_threshold(n_queries, n_gallery, k)
    longest = min(int(occurrence.max()), limit) + 1
    draws, items = [], []
    for counts in chance_occurrence(n_queries, n_gallery, k, n_draws=n_null, seed=seed):
        draws.append(_measures(counts, limit))
        items.append(_items_per_count(counts, longest))
    null, spectrum = np.concatenate(draws), np.concatenate(items)
    tails = [(1 - level) / 2, (1 + level) / 2]
    observed = _measures(occurrence[None], limit)[0]
    low, high = np.quantile(spectrum, tails, axis=0)
    held = (occurrence >= limit)[neighbours.indices].mean(axis=1)
    found = cluster_bootstrap(held, np.arange(n_queries) if clusters is None else clusters, seed=seed)
    return Hubness(
        direction=direction, k=k, n_queries=n_queries, occurrence=occurrence,
        measures=tuple(_against(*row, tails) for row in zip(MEASURES, observed, null.T, strict=True)),
        hub_threshold=limit, hub_interval=(found.low, found.high),
        skewness_closed_form=chance_skewness(n_queries, n_gallery, k),
        chance_items=spectrum.mean(axis=0), chance_low=low, chance_high=high,
        tied_share=float(np.mean(neighbours.kth_tied)), exact=neighbours.exact, level=level, n_null=n_null, seed=seed,
    )  # fmt: skip


def hub_threshold(n_queries: int, n_gallery: int, k: int) -> int:
    """The smallest count that makes an item a hub: more than chance gives, and at least twice the fair share.

    By chance an item's count is binomial with n_queries trials and p = k / n_gallery. The threshold is the larger of
    twice its mean and the smallest t with P(count >= t) <= 0.01 / n_gallery, so that a gallery without hubs shows one
    in at most one case of a hundred. (The common rule "at least 2 k" holds for as many queries as items only.)
    A threshold above n_queries means that no item can be a hub: too few queries, or k above half of the gallery.
    >>> hub_threshold(100_000, 100, 10), hub_threshold(100, 1000, 1)
    (20000, 4)
    """
    beyond_chance = int(binom.isf(0.01 / n_gallery, n_queries, k / n_gallery)) + 1
    return max(beyond_chance, ceil(2 * k * n_queries / n_gallery))


def chance_skewness(n_queries: int, n_gallery: int, k: int) -> float:
    """Skewness of one item's count under chance: (1 - 2p) / sqrt(n_queries p (1 - p)) with p = k / n_gallery.

    The skewness measured over one gallery scatters around it. NaN for k = n_gallery.

    >>> round(chance_skewness(2500, 500, 10), 2), round(chance_skewness(500, 2500, 1), 2)
    (0.14, 2.23)
    """
    p = k / n_gallery
    return (1 - 2 * p) / sqrt(n_queries * p * (1 - p)) if p < 1 else nan


def chance_occurrence(
    n_queries: int, n_gallery: int, k: int, *, n_draws: int, seed: int = 0
) -> Iterator[npt.NDArray[np.int64]]:
    """Batches (draws, n_gallery) of occurrence counts when every query picks k distinct items at random.

    Exact for all sizes: each row sums to k x n_queries and no query counts an item twice. Two samplers of the same
    distribution are used, whichever needs fewer random numbers; memory stays near 32 MB.

    >>> next(chance_occurrence(7, 3, 2, n_draws=4)).sum(axis=1)
    array([14, 14, 14, 14])
    """
    rng = np.random.default_rng(seed)
    if k == n_gallery:
        yield np.full((n_draws, n_gallery), n_queries, dtype=np.int64)
        return
    few_collisions = k * (k - 1) <= n_gallery
    by_query = few_collisions and n_queries * k <= 2 * n_gallery * (k + 1)
    batch = max(1, 4_000_000 // max(n_gallery, n_queries * k if by_query else 0))
    for start in range(0, n_draws, batch):
        size = min(batch, n_draws - start)
        yield (_draw_by_query if by_query else _draw_by_item)(rng, size, n_queries, n_gallery, k)


def _draw_by_query(rng: np.random.Generator, size: int, n_queries: int, n_gallery: int, k: int) -> IntArray:
    """k draws with replacement per query; a query with a repeat draws all of its k again (rejection is exact)."""
    picks = rng.integers(n_gallery, size=(size * n_queries, k), dtype=np.int32)
    pending = np.arange(len(picks)) if k > 1 else np.arange(0)
    while len(pending):
        ordered = np.sort(picks[pending], axis=1)
        pending = pending[(ordered[:, 1:] == ordered[:, :-1]).any(axis=1)]
        picks[pending] = rng.integers(n_gallery, size=(len(pending), k), dtype=np.int32)
    draw = np.repeat(np.arange(size), n_queries * k)
    return np.bincount(draw * n_gallery + picks.ravel(), minlength=size * n_gallery).reshape(size, n_gallery)


def _draw_by_item(rng: np.random.Generator, size: int, n_queries: int, n_gallery: int, k: int) -> IntArray:
    """Item by item: each of the queries with j places left takes this one of m remaining items with chance j / m."""
    places_left = np.zeros((k + 1, size), dtype=np.int64)
    places_left[k] = n_queries
    counts = np.empty((size, n_gallery), dtype=np.int64)
    chance = np.arange(k + 1)[:, None]
    for item in range(n_gallery):
        taken = rng.binomial(places_left, np.minimum(chance / (n_gallery - item), 1.0))
        places_left -= taken
        places_left[:-1] += taken[1:]
        counts[:, item] = taken.sum(axis=0)
    return counts


def _measures(counts: IntArray, limit: int) -> FloatArray:
    """(draws, 6) the measures in the order of MEASURES, for counts of (draws, n_gallery).

    Taken from how many items have each count: the counts are many, their different values few.
    """
    fewest, n_gallery = int(counts.min()), counts.shape[1]
    values = np.arange(fewest, int(counts.max()) + 1)
    items = _items_per_count(counts - fewest, len(values))
    total = items @ values
    centred = values - (total / n_gallery)[:, None]
    spread = np.sqrt((items * centred**2).sum(axis=1) / n_gallery)
    with np.errstate(invalid="ignore", divide="ignore"):
        skewness = (items * centred**3).sum(axis=1) / n_gallery / spread**3
    held = items[:, values >= limit] @ values[values >= limit] / total
    robin_hood = (items * np.abs(centred)).sum(axis=1) / (2 * total)
    never = items[:, values == 0].sum(axis=1) / n_gallery
    below = np.cumsum(items, axis=1)
    gini = (below * (n_gallery - below)).sum(axis=1) / (n_gallery * total)
    return np.column_stack([skewness, counts.max(axis=1), held, never, robin_hood, gini])


def _items_per_count(counts: IntArray, longest: int) -> IntArray:
    """(draws, longest) how many items have exactly 0, 1, ... occurrences; longer counts are not kept."""
    draw = np.repeat(np.arange(len(counts)), counts.shape[1])
    cells = draw * (longest + 1) + np.minimum(counts, longest).ravel()
    return np.bincount(cells, minlength=len(counts) * (longest + 1)).reshape(len(counts), -1)[:, :longest]


def _against(name: str, value: float, null: FloatArray, tails: list[float]) -> Measure:
    mean, spread = float(null.mean()), float(null.std())
    low, high = np.quantile(null, tails)
    # A difference in the last bits is not a difference: identical counts may be averaged in another order.
    at_least = int((null >= value - 1e-12 * max(1.0, abs(value))).sum()) if isfinite(value) else len(null)
    z = (value - mean) / spread if high - low > 1e-12 else nan
    return Measure(name, float(value), mean, float(low), float(high), z, (1 + at_least) / (1 + len(null)))


def _check(neighbours: Neighbours, n_null: int, level: float) -> None:
    if neighbours.n_queries < 1 or neighbours.k < 1:
        raise ValueError(f"hubness needs at least one query and k >= 1; got lists of shape {neighbours.indices.shape}")
    if not 0 < level < 1:
        raise ValueError(f"level is the width of the chance band, between 0 and 1; got {level}")
    if n_null < 1:
        raise ValueError(f"n_null must be at least 1; got {n_null}, 1000 is usual")
    indices = np.sort(neighbours.indices, axis=1)
    if indices.min() < 0 or indices.max() >= neighbours.n_gallery:
        raise ValueError(
            f"indices must lie in 0..{neighbours.n_gallery - 1}; got {indices.min()}..{indices.max()} (approximate "
            "indexes pad short lists with -1: search deeper, or exactly)"
        )
    repeats = (indices[:, 1:] == indices[:, :-1]).any(axis=1)
    if repeats.any():
        raise ValueError(
            f"{int(repeats.sum())} of {len(indices)} lists hold an item twice (first: query {int(repeats.argmax())}); "
            "a list must name k different items"
        )


def _not_measurable(result: Hubness, name: str) -> Finding | None:
    """Why no verdict can be given, or None when one can."""
    if result.tied_share > MAX_TIED_SHARE:
        limit, source, advice = MAX_TIED_SHARE, TIE_SOURCE, (
            f"{100 * result.tied_share:.3g} % of the queries have a tie at place {result.k}, so the tie rule decides "
            "which items count as retrieved. Look for duplicate items, a collapsed encoder or coarse (binary, "
            "low-precision) scores."
        )  # fmt: skip
    elif result.hub_threshold > result.n_queries:
        limit, source, advice = float(result.hub_threshold), "definition of a hub (hub_threshold)", (
            f"With {result.n_queries:,} queries on {result.n_gallery:,} items at k = {result.k} an item would have to "
            f"be retrieved {result.hub_threshold:,} times to be a hub, more often than there are queries. "
            "Use more queries or a smaller k."
        )  # fmt: skip
    else:
        return None
    return Finding(name, None, None, limit, source, "not measurable", advice)


def _grade(value: float, limits: tuple[float, float]) -> Verdict:
    return "problem" if value >= limits[1] else "look" if value >= limits[0] else "ok"


def _hub_finding(result: Hubness) -> Finding:
    name, measure = f"{result.direction}/hubness", result.measure("hub_share")
    if (blocked := _not_measurable(result, name)) is not None:
        return blocked
    verdict = _grade(measure.value, HUB_SHARE)
    n_hubs, most = len(result.hubs), int(result.occurrence.max())
    held = (
        f"{n_hubs:,} of {result.n_gallery:,} items are hubs (retrieved {result.hub_threshold:,} times or more; fair "
        f"share {result.mean_occurrence:.3g}) and hold {100 * measure.value:.3g} % of all top-{result.k} places; the "
        f"most frequent is retrieved {most:,} times."
    )
    advice = {
        "ok": "Nothing to repair.",
        "look": "Look at the worst hubs; whether a correction (a gallery bias) raises the scores has to be measured.",
        "problem": "These items crowd out the right ones: look at them for blank or generic content, then try a "
        "hubness correction and compare with intervals.",
    }
    threshold = HUB_SHARE[1] if verdict == "problem" else HUB_SHARE[0]
    note = "" if result.exact else " The lists come from an approximate index, which can itself favour some items."
    interval = result.hub_interval if isfinite(result.hub_interval[0]) else None
    return Finding(
        name, measure.value, interval, threshold, HUB_SOURCE, verdict, f"{held} {advice[verdict]}{note}", "%"
    )


def _antihub_finding(result: Hubness) -> Finding:
    name, measure = f"{result.direction}/antihubs", result.measure("antihub_share")
    if (blocked := _not_measurable(result, name)) is not None:
        return blocked
    beyond = measure.value > measure.high
    verdict = _grade(measure.value - measure.chance, ANTIHUB_EXCESS) if beyond else "ok"
    threshold = measure.chance + (ANTIHUB_EXCESS[1] if verdict == "problem" else ANTIHUB_EXCESS[0])
    seen = (
        f"{len(result.antihubs):,} of {result.n_gallery:,} items ({100 * measure.value:.3g} %) are in no "
        f"top-{result.k} list; chance leaves out {100 * measure.chance:.3g} %."
    )
    advice = {
        "ok": "That is what these sizes explain, or close to it.",
        "look": "Some items are hard to reach by any query; see whether they have something in common.",
        "problem": "A large part of the gallery cannot be reached by any query at this depth.",
    }
    return Finding(name, measure.value, None, threshold, ANTIHUB_SOURCE, verdict, f"{seen} {advice[verdict]}", "%")
