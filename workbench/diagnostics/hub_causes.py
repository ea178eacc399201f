"""What goes with being a hub, who suffers from hubs, and which words the hubs share.

Everything here describes. That the hubs lie near the centre of the queries does not show that they are hubs because
of it; whether a correction helps has to be measured by repairing and scoring again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata

from workbench.diagnostics.hubness import hub_threshold
from workbench.search import k_occurrence
from workbench.statistics import GroupDifference, group_difference, holm
from workbench.types import FloatArray, IntArray, Neighbours, Relevance

if TYPE_CHECKING:
    import pandas as pd

CAUSES = {
    "gallery_centroid": "cosine to the centroid of the gallery",
    "query_centroid": "cosine to the centroid of the queries, held out",
    "norm": "length of the vector",
}
SAME_LENGTH = 1e-4
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


@dataclass(frozen=True)
class Cause:
    """Spearman correlation of the retrieval counts with one property of the items, a key of CAUSES, with its interval.

    NaN where the property (or the count) is the same for all items.
    """

    name: str
    correlation: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class HubCauses:
    """What goes with being retrieved often, and which queries get hubs: :func:`hub_causes`.

    occurrence (n_gallery,) : times retrieved; items with hub_threshold or more are hubs. hub_places (n_queries,) :
    share of a query's k places held by hubs. first_wrong (n_queries,) : 1 where the first wrong item of the list is a
    hub, 0 where it is not, -1 where the list holds no wrong item or relevance was not given. difference : mean value of
    queries whose first wrong item is a hub minus mean of the others, or None. There are no findings: what goes together
    carries no verdict.
    """

    direction: str
    k: int
    occurrence: IntArray
    hub_threshold: int
    causes: tuple[Cause, ...]
    hub_places: FloatArray
    first_wrong: IntArray
    difference: GroupDifference | None
    level: float
    n_resamples: int
    seed: int

    @property
    def hubs(self) -> IntArray:
        """Indices of the hubs, most often retrieved first."""
        order = np.argsort(-self.occurrence, kind="stable")
        return order[: int((self.occurrence >= self.hub_threshold).sum())]

    def cause(self, name: str) -> Cause:
        """One of the correlations by name, a key of CAUSES."""
        known = {cause.name: cause for cause in self.causes}
        if name not in known:
            raise KeyError(f"no cause {name!r}; there are {', '.join(known)}")
        return known[name]

    def worst_queries(self, n: int = 10) -> tuple[IntArray, FloatArray]:
        """(indices, shares) of the n queries with most places held by hubs; equal shares in order of index."""
        order = np.argsort(-self.hub_places, kind="stable")[:n]
        return order, self.hub_places[order]

    def table(self) -> pd.DataFrame:
        """One row per property: its correlation with the retrieval counts, and the interval."""
        import pandas as pd

        rows = [(CAUSES[cause.name], cause.correlation, cause.low, cause.high) for cause in self.causes]
        found = pd.DataFrame(rows, columns=["goes with retrieval counts", "Spearman", "low", "high"])
        return found.set_index("goes with retrieval counts")

    def flat(self) -> dict[str, float]:
        """Correlations, mean share of places held by hubs and the difference, by ``direction/name@k``; finite only."""
        named = {f"occurrence_by_{cause.name}": cause.correlation for cause in self.causes}
        named["hub_places"] = float(self.hub_places.mean())
        named["hub_first_wrong_difference"] = self.difference.value if self.difference else nan
        prefix = f"{self.direction}/" if self.direction else ""
        return {f"{prefix}{name}@{self.k}": value for name, value in named.items() if isfinite(value)}

    def _repr_html_(self) -> str:
        return str(self.table().to_html(float_format=lambda value: f"{value:.3g}", na_rep=""))


def hub_causes(
    lists: Neighbours,
    gallery_vectors: npt.ArrayLike,
    query_vectors: npt.ArrayLike,
    *,
    direction: str = "",
    clusters: npt.ArrayLike | None = None,
    gallery_clusters: npt.ArrayLike | None = None,
    relevance: Relevance | None = None,
    values: npt.ArrayLike | None = None,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> HubCauses:
    """Correlate how often items are retrieved with where they lie and how long they are; find who gets the hubs.

        cosine to the gallery centroid : g . mean(gallery), both of length one
        cosine to the query centroid, held out : counts of one half of the queries against the centroid of the other
            half, and the reverse; mean of the two correlations
        length : |g| of the vectors as given; NaN when all have one length (within 1e-4 of it)

    Held out, because with the same queries on both sides the correlation is positive for items without any preferred
    place: an item that happens to lie near these queries is retrieved by them (0.36 for 500 random queries, 480 random
    items, 64 dimensions, k = 10; held out 0.01). Half of the queries count less exactly, which makes it too small
    rather than too large. The correlation with the gallery's centroid is about -0.1 for such items: close ones compete
    for the same places. When the gallery searches itself (equal vectors on both sides) the two centroids are
    one, held out and without the item itself, and the row of the gallery is left out.

    lists : top-k, (n_queries, k). gallery_vectors (n_gallery, dim), query_vectors (n_queries, dim), any length > 0.
    clusters (n_queries,), gallery_clusters (n_gallery,) : labels of queries and of items that belong together (captions
    of one image); kept whole in halves and draws. relevance (n_queries, n_gallery) and values (n_queries,), a metric
    per query, NaN not scored: compares queries whose first wrong item is a hub with the others. Such queries may simply
    be harder, so the difference is no effect of hubs.
    Interval: percentile bootstrap over gallery items (their clusters). Not a permutation test: with thousands of items
    any small correlation is significant, its size is what counts. The queries are taken as they are.
    Errors: sizes that differ, vectors of length zero, values without relevance, fewer than two queries or items.
    Hubs near the centroid: M. Radovanović, A. Nanopoulos, M. Ivanović, JMLR 11, 2010,
    https://jmlr.org/papers/v11/radovanovic10a.html.

    >>> gallery = np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 3.0], [-1.0, 0.5]])
    >>> lists = Neighbours(np.array([[0, 1], [0, 1], [1, 0]]), np.zeros((3, 2)), 4, True, np.zeros(3, bool))
    >>> found = hub_causes(lists, gallery, [[1.0, 0.0], [1.0, 0.1], [1.0, 0.2]], n_resamples=100)
    >>> found.occurrence, round(found.cause("query_centroid").correlation, 3)
    (array([3, 3, 0, 0]), 0.894)
    """
    items, queries = _directions(gallery_vectors, "gallery"), _directions(query_vectors, "queries")
    owner = _labels(clusters, len(queries), "clusters", "queries")
    item_owner = _labels(gallery_clusters, len(items), "gallery_clusters", "gallery items")
    _check(lists, items, queries, relevance, values, level, n_resamples)
    occurrence = k_occurrence(lists)
    limit = hub_threshold(lists.n_queries, lists.n_gallery, lists.k)
    pairs = _properties(lists, occurrence, items, queries, owner, np.asarray(gallery_vectors, np.float64), seed)
    causes = _correlations(pairs, item_owner, level, n_resamples, seed)
    is_hub = occurrence >= limit
    first_wrong = np.full(lists.n_queries, -1) if relevance is None else _first_wrong(lists, relevance, is_hub)
    difference = None
    if values is not None:
        scored = np.where(first_wrong < 0, np.nan, np.asarray(values, np.float64))
        difference = group_difference(scored, first_wrong == 1, owner, level=level)
    return HubCauses(
        direction, lists.k, occurrence, limit, causes, is_hub[lists.indices].mean(axis=1), first_wrong, difference,
        level, n_resamples, seed,
    )  # fmt: skip


def _directions(vectors: npt.ArrayLike, what: str) -> FloatArray:
    """Rows scaled to length one, in float64."""
    wide = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(wide, axis=1) if wide.ndim == 2 else np.zeros(1)
    if not np.isfinite(lengths).all() or not lengths.all():
        bad = int((~(np.isfinite(lengths) & (lengths > 0))).sum())
        raise ValueError(
            f"{what} must be (n, dim) vectors of length above zero; got shape {wide.shape}, {bad} of length zero or "
            "not finite: drop these items"
        )
    return np.asarray(wide / lengths[:, None])


def _labels(labels: npt.ArrayLike | None, n: int, name: str, what: str) -> IntArray:
    if labels is None:
        return np.arange(n)
    codes = np.unique(np.asarray(labels), return_inverse=True)[1]
    if np.shape(labels) != (n,):
        raise ValueError(f"{name} must hold one label for each of {n} {what}; got shape {np.shape(labels)}")
    return codes.ravel()


def _check(
    lists: Neighbours, items: FloatArray, queries: FloatArray, relevance: Relevance | None,
    values: npt.ArrayLike | None, level: float, n_resamples: int,
) -> None:  # fmt: skip
    sizes = (lists.n_queries, lists.n_gallery)
    if sizes != (len(queries), len(items)) or items.shape[1] != queries.shape[1]:
        raise ValueError(
            f"lists are of {sizes[0]} queries on {sizes[1]} items, but there are query vectors {queries.shape} and "
            f"gallery vectors {items.shape}; are queries and gallery swapped?"
        )
    if min(sizes) < 2:
        raise ValueError(f"a correlation needs at least two queries and two items; got {sizes[0]} and {sizes[1]}")
    if relevance is not None and (relevance.n_queries, relevance.n_gallery) != sizes:
        raise ValueError(f"relevance is ({relevance.n_queries}, {relevance.n_gallery}) for lists of {sizes}")
    if values is not None and (relevance is None or np.shape(values) != (sizes[0],)):
        raise ValueError(
            f"values must be ({sizes[0]},), one per query, and come with relevance, which tells the first wrong item; "
            f"got {np.shape(values)} and {'no relevance' if relevance is None else 'relevance'}"
        )
    if not 0 < level < 1 or n_resamples < 100:
        raise ValueError(f"level must lie between 0 and 1, n_resamples be 100 or more; got {level}, {n_resamples}")


def _properties(
    lists: Neighbours, occurrence: IntArray, items: FloatArray, queries: FloatArray, owner: IntArray,
    vectors: FloatArray, seed: int,
) -> dict[str, list[tuple[IntArray, FloatArray]]]:  # fmt: skip
    """Per cause the (counts, property) whose correlations are averaged."""
    alone = np.array_equal(items, queries)
    half = np.random.default_rng([seed, 7]).permutation(owner.max() + 1)[owner] % 2
    held_out = []
    for side in (0, 1):
        counts = np.bincount(lists.indices[half == side].ravel(), minlength=len(items))
        held_out.append((counts, _closeness(items, queries, half != side, alone)))
    lengths = np.linalg.norm(vectors, axis=1)
    same = np.ptp(lengths) <= SAME_LENGTH * lengths.mean()
    pairs = {"query_centroid": held_out, "norm": [(occurrence, np.zeros(len(items)) if same else lengths)]}
    if alone:
        return pairs
    return {"gallery_centroid": [(occurrence, _closeness(items, items, np.ones(len(items), bool), False))]} | pairs


def _closeness(items: FloatArray, others: FloatArray, used: npt.NDArray[np.bool_], alone: bool) -> FloatArray:
    """(n_gallery,) cosine to the mean of the used ones; ``alone``: an item among them is not part of its own mean."""
    total = others[used].sum(axis=0)
    if not alone:
        length = float(np.linalg.norm(total))
        return np.asarray(items @ total / length) if length > 0 else np.zeros(len(items))
    own = used.astype(np.float64)
    along = items @ total
    squared = total @ total - 2 * own * along + own
    return np.asarray((along - own) / np.sqrt(np.maximum(squared, np.finfo(np.float64).tiny)))


def _correlations(
    pairs: dict[str, list[tuple[IntArray, FloatArray]]], owner: IntArray, level: float, n_resamples: int, seed: int
) -> tuple[Cause, ...]:
    """Spearman correlations with percentile intervals; all causes see the same draws of items."""
    ready = {name: [tuple(map(_weighted_ranks, pair)) for pair in many] for name, many in pairs.items()}
    rng, n_clusters = np.random.default_rng(seed), int(owner.max()) + 1
    draws = np.empty((n_resamples, len(ready)))
    for row in draws:
        weights = np.bincount(rng.integers(n_clusters, size=n_clusters), minlength=n_clusters)[owner]
        row[:] = _means(ready, weights)
    tails = [(1 - level) / 2, (1 + level) / 2]
    once = _means(ready, np.ones(len(owner), np.int64))
    causes = []
    for name, value, drawn in zip(ready, once, draws.T, strict=True):
        known = isfinite(value) and np.isfinite(drawn).any()
        low, high = np.nanquantile(drawn, tails) if known else (nan, nan)
        causes.append(Cause(name, value, float(low), float(high)))
    return tuple(causes)


def _means(ready: dict[str, Any], weights: IntArray) -> list[float]:
    return [float(np.mean([_correlation(x(weights), y(weights), weights) for x, y in many])) for many in ready.values()]


def _weighted_ranks(values: npt.NDArray[Any]) -> Callable[[IntArray], FloatArray]:
    """A function of how often each item was drawn, giving the mean rank of each value among the drawn."""
    group = (rankdata(values, method="dense") - 1).astype(np.int64)

    def ranks(weights: IntArray) -> FloatArray:
        drawn = np.bincount(group, weights=weights)
        return np.asarray((np.cumsum(drawn) - (drawn - 1) / 2)[group])

    return ranks


def _correlation(x: FloatArray, y: FloatArray, weights: IntArray) -> float:
    """Pearson correlation with integer weights; NaN when one side is constant."""
    n = weights.sum()
    a, b = x - weights @ x / n, y - weights @ y / n
    spread = float(np.sqrt((weights @ a**2) * (weights @ b**2)))
    return float(weights @ (a * b)) / spread if spread > 1e-12 * n else nan


def _first_wrong(lists: Neighbours, relevance: Relevance, is_hub: npt.NDArray[np.bool_]) -> IntArray:
    """(n_queries,) 1 if the first item that is not a positive is a hub, 0 if not, -1 without such an item."""
    right = relevance.grades > 0
    known = relevance.queries[right] * lists.n_gallery + relevance.items[right]
    wrong = ~np.isin(np.arange(lists.n_queries)[:, None] * lists.n_gallery + lists.indices, known)
    first = lists.indices[np.arange(lists.n_queries), wrong.argmax(axis=1)]
    return np.where(wrong.any(axis=1), is_hub[first].astype(np.int64), -1)


@dataclass(frozen=True, eq=False)
class SharedWords:
    """Words that some items have more often than the rest, most over-represented first: :func:`shared_words`.

    in_hubs, in_rest : items whose captions hold the word. log_odds : log odds ratio under the prior; z : over its
    standard deviation. p_holm : one-sided, corrected for all n_words that were tested.
    """

    words: tuple[str, ...]
    in_hubs: IntArray
    in_rest: IntArray
    log_odds: FloatArray
    z: FloatArray
    p_holm: FloatArray
    n_hubs: int
    n_rest: int
    n_words: int
    prior: float

    def table(self) -> pd.DataFrame:
        """One row per word."""
        import pandas as pd

        columns = {
            f"of {self.n_hubs:,} hubs": self.in_hubs, f"of {self.n_rest:,} others": self.in_rest,
            "log odds ratio": self.log_odds, "z": self.z, "p (Holm)": self.p_holm,
        }  # fmt: skip
        return pd.DataFrame(columns, index=pd.Index(self.words, name="word"))

    def flat(self) -> dict[str, float]:
        """z of every word shown, by ``shared_words/word``."""
        return {f"shared_words/{word}": float(z) for word, z in zip(self.words, self.z, strict=True)}

    def _repr_html_(self) -> str:
        return str(self.table().to_html(float_format=lambda value: f"{value:.3g}"))


def shared_words(
    captions: Sequence[str],
    hubs: npt.ArrayLike,
    *,
    item_of: npt.ArrayLike | None = None,
    n: int = 20,
    prior: float | None = None,
) -> SharedWords:
    """Which words the captions of hubs share, against the captions of all other items.

        a_w = prior * (count of w among all) / (all counts)
        log odds ratio = log((y_w + a_w) / (n_h + a - y_w - a_w)) - log((x_w + a_w) / (n_r + a - x_w - a_w))
        variance = 1 / (y_w + a_w) + 1 / (x_w + a_w),   z = log odds ratio / sqrt(variance)

    y_w, x_w : hubs and other items with the word in any of their captions; n_h, n_r, a : sums over words. A word counts
    once per item, not per occurrence, because captions of one picture repeat each other and the variance takes counts
    as independent. captions : texts. hubs : indices of items. item_of (n_captions,) : the item each caption belongs to,
    by default its own position. n : words to keep. prior : weight of the prior in words, by default n_h (or n_r if
    smaller). Words are runs of letters and digits in lower case; function words stay, and score only if unbalanced;
    scripts without spaces are not cut. Errors: no captions, indices outside, no hubs or nothing else, no words.
    B. L. Monroe, M. P. Colaresi, K. M. Quinn, "Fightin' Words", Political Analysis 16, 2008,
    https://doi.org/10.1093/pan/mpn018. Differs: counts items, and the prior has a size that follows the data.

    >>> found = shared_words(["a blank wall", "a grey wall", "a cat", "a dog", "a red bus"], [0, 1])
    >>> found.words[:2], found.in_hubs[:2], found.in_rest[:2], found.z[:2].round(2)
    (('wall', 'blank'), array([2, 1]), array([0, 0]), array([1.2 , 0.79]))
    """
    owner = np.arange(len(captions)) if item_of is None else np.asarray(item_of)
    chosen = _chosen(captions, owner, hubs, n, prior)
    of_item: dict[int, set[str]] = {}
    for item, caption in zip(owner.tolist(), captions, strict=True):
        of_item.setdefault(item, set()).update(_WORD.findall(str(caption).lower()))
    counted = [Counter(word for item, words in of_item.items() if (item in chosen) == side for word in words)
               for side in (True, False)]  # fmt: skip
    words = sorted(counted[0].keys() | counted[1].keys())
    if not words:
        raise ValueError(f"the {len(captions)} captions hold no word (letters or digits); nothing can be compared")
    y, x = (np.array([count[word] for word in words], np.int64) for count in counted)
    weight = float(prior if prior is not None else max(min(y.sum(), x.sum()), 1))
    log_odds, z = _log_odds(y, x, weight)
    p = np.asarray(holm(norm.sf(z)))
    order = np.lexsort((np.arange(len(words)), -z))[:n]
    n_hubs = len(chosen & of_item.keys())
    return SharedWords(
        tuple(words[i] for i in order), y[order], x[order], log_odds[order], z[order], p[order], n_hubs,
        len(of_item) - n_hubs, len(words), weight,
    )  # fmt: skip


def _chosen(captions: Sequence[str], owner: IntArray, hubs: npt.ArrayLike, n: int, prior: float | None) -> set[int]:
    """The hubs as a set, all arguments checked."""
    if isinstance(captions, str) or not len(captions) or owner.shape != (len(captions),):
        raise ValueError(f"captions must be a list of texts with one item_of each; got {len(captions)}, {owner.shape}")
    items, chosen = set(owner.tolist()), set(np.asarray(hubs, np.int64).ravel().tolist())
    inside = chosen & items
    if not inside or inside == items:
        raise ValueError(
            f"{len(inside)} of {len(items)} items with captions are hubs; words are compared between hubs and others, "
            "so there must be some of each"
        )
    if n < 1 or (prior is not None and not 0 < prior < np.inf):
        raise ValueError(f"n must be at least 1 and prior a number of words above 0; got {n} and {prior}")
    return chosen


def _log_odds(y: IntArray, x: IntArray, prior: float) -> tuple[FloatArray, FloatArray]:
    """(log odds ratio, z) of every word, y and x its counts on the two sides."""
    share = prior * (y + x) / (y + x).sum()
    odds = [(c + share) / np.maximum(c.sum() + prior - c - share, np.finfo(np.float64).tiny) for c in (y, x)]
    ratio = np.log(odds[0] / odds[1])
    return ratio, ratio / np.sqrt(1 / (y + share) + 1 / (x + share))
