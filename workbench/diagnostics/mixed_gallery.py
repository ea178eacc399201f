"""Images and texts in one gallery: how many of the first places go to the modality that nobody asked for.

Here a modality gap does harm that it does not do in a gallery of one kind: it is added to the scores of one kind and
not of the other, so all items of the queries' own kind may come before the first of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from workbench.diagnostics.closing import CLOSINGS, Half, changed, halves
from workbench.metrics import per_query
from workbench.search import RankPositives, TopK, same_items, scan
from workbench.statistics import cluster_bootstrap, paired_difference
from workbench.types import Finding, FloatArray, IntArray, Neighbours, Relevance, Verdict

if TYPE_CHECKING:
    import pandas as pd

Vectors = npt.NDArray[np.floating]
PerK = dict[int, tuple[FloatArray, FloatArray, FloatArray]]
EXCESS_LOOK = 0.1
EXCESS_SOURCE = (
    "the share of the wrong modality in the gallery, which a ranking blind to modality gives, and a tenth of the "
    "places more: convention of this project"
)


@dataclass(frozen=True)
class MixedPlaces:
    """The first k places, with or without closing the gap.

    way : "" as the vectors are, in the whole gallery; else a key of CLOSINGS, in halves. wrong : mean share of the
    first k places held by the wrong modality, with interval; wrong_before : the same halves before closing.
    hit : hit@k in the mixed gallery; hit_before : of the same queries in a gallery of the asked modality (way ""), or
    in the mixed one before closing; hit_change with its paired interval. NaN where nothing is known to be right.
    blind : the share of the wrong modality among all items, what a ranking blind to modality gives. tied : share of the
    queries whose k-th place is tied across the two modalities.
    """

    k: int
    way: str
    wrong: float
    low: float
    high: float
    wrong_before: float
    wrong_change: float
    wrong_change_low: float
    wrong_change_high: float
    hit: float
    hit_before: float
    hit_change: float
    hit_low: float
    hit_high: float
    blind: float
    tied: float
    n: int


@dataclass(frozen=True)
class MixedGallery:
    """Queries of one modality that ask for another, in a gallery that holds both. asking, asked : the modalities.

    The same lists answer queries that ask for their own modality: what is wrong for one is right for the other.
    """

    direction: str
    asking: str
    asked: str
    n_asked: int
    n_own: int
    places: tuple[MixedPlaces, ...]

    def table(self) -> pd.DataFrame:
        """One row per cutoff, requested modality and way of closing; values are shares."""
        import pandas as pd

        rows: list[dict[str, Any]] = []
        for one in self.places:
            both = (self.asked, one.wrong, one.low, one.high, one.wrong_before, one.blind), (
                self.asking, 1 - one.wrong, 1 - one.high, 1 - one.low, 1 - one.wrong_before, 1 - one.blind,
            )  # fmt: skip
            for wanted, wrong, low, high, before, blind in both:
                rows.append(
                    {"queries": self.asking, "asked for": wanted, "k": one.k, "gap": one.way or "as it is",
                     "wrong modality": wrong, "low": low, "high": high, "before": before, "blind": blind}
                )  # fmt: skip
        return pd.DataFrame(rows)

    def plot(self, ax: Any = None) -> Any:
        """Wrong places by cutoff, before and after."""
        from workbench.plots import space

        return space.wrong_modality([self], ax)

    def findings(self) -> list[Finding]:
        """Whether the wrong modality holds more places than it would in a ranking blind to modality."""
        return [_finding(self)]

    def flat(self) -> dict[str, float]:
        """``direction/wrong-modality@k``, and ``... closed(way)``."""
        return {
            f"{self.direction}/wrong-modality@{one.k}{f' closed({one.way})' if one.way else ''}": one.wrong
            for one in self.places
        }

    def _repr_html_(self) -> str:
        return str(self.table().to_html(index=False, float_format=lambda value: f"{value:.3g}", na_rep=""))


def mixed_gallery(
    queries: Vectors, gallery: Vectors, clusters: npt.ArrayLike, gallery_clusters: npt.ArrayLike, *,
    relevance: Relevance | None = None, query_ids: Sequence[str] | None = None, direction: str = "t2i",
    modalities: tuple[str, str] = ("text", "image"), ks: Sequence[int] = (1, 10),
    ways: Sequence[str] = ("shift", "centring, length one"), max_queries: int = 1000, seed: int = 0,
    n_resamples: int = 2000, memory: int = 2**28,
) -> MixedGallery:  # fmt: skip
    """wrong-modality@k: queries ask for the gallery's modality, in a gallery that also holds all queries' own kind.

        wrong-modality@k = mean over queries of (items of the queries' own modality in the first k places) / k

    queries (n_queries, dim) are also the items of the wrong modality; the query itself is left out of the gallery by
    id. gallery (n_gallery, dim) : the modality asked for. clusters, gallery_clusters : the image of each, in one
    numbering. relevance (n_queries, n_gallery) : adds hit@k, in the mixed gallery and in that of one modality. Another
    text of the same image is of the wrong modality, however well it fits. Ties of the k-th place count by
    expectation: places left times the share of the wrong modality in the tie. modalities : of queries and gallery.
    ways : of :data:`workbench.diagnostics.closing.CLOSINGS`; each is measured in halves of the images with the mean of
    the other half's queries, before and after in the same halves. Empty: the gallery as it is only. max_queries : of
    more, the queries of clusters drawn with the seed ask (n says how many); the gallery stays whole.
    Raises ValueError for k above the items to choose from (of a half, with ways), fewer than two queries.
    On the effect: "Closing the Modality Gap for Mixed Modality Search", 2025, https://arxiv.org/abs/2507.19054; the
    share of wrong places is a measure of this project.

    >>> found = mixed_gallery(np.eye(3)[[0, 0, 1]], np.eye(3)[:2], [0, 0, 1], [0, 1], ks=[1], ways=[], n_resamples=100)
    >>> found.places[0].wrong, found.places[0].blind  # texts 0 and 1 tie with image 0: half, half, 0
    (0.3333333333333333, 0.5)
    """
    if not ks or min(ks) < 1:
        raise ValueError(f"ks must name cutoffs of at least 1; got {list(ks)}")
    unknown = [name for name in ways if name not in CLOSINGS]
    if unknown:
        raise ValueError(f"ways must be some of {', '.join(CLOSINGS)}; got {unknown[0]!r}")
    own, names = np.asarray(clusters), [str(i) for i in range(len(queries))] if query_ids is None else list(query_ids)
    one = _World(queries, gallery, names, relevance, tuple(ks), memory, _asking(own, max_queries, seed))
    settings: dict[str, Any] = {"seed": seed, "n_resamples": n_resamples}
    everything = [(one.asking, one.mixed())]
    alone, blind = one.alone(), (len(queries) - 1) / (len(queries) + len(gallery) - 1)
    places = [_places("", k, _gathered(everything, k, len(own)), alone.get(k), blind, own, settings) for k in ks]
    if ways:
        parts = halves(queries, own, np.asarray(gallery_clusters), seed)
        before = [one.half("", part) for part in parts]
        shares = [(len(part.queries) - 1) / (len(part.queries) + len(part.items) - 1) for part in parts]
        blind = float(np.average(shares, weights=[len(part.queries) for part in parts]))
        for way in ways:
            after = [one.half(way, part) for part in parts]
            for k in ks:
                raw = _gathered(before, k, len(own))
                places.append(_places(way, k, _gathered(after, k, len(own)), raw[1], blind, own, settings, raw[0]))
    return MixedGallery(direction, *modalities, len(gallery), len(queries), tuple(places))


@dataclass(frozen=True, eq=False)
class _World:
    queries: Vectors
    gallery: Vectors
    names: Sequence[str]
    relevance: Relevance | None
    ks: tuple[int, ...]
    memory: int
    asking: IntArray

    def half(self, way: str, part: Half) -> tuple[IntArray, PerK]:
        """The queries of a half that ask, and what they find."""
        names = [self.names[query] for query in part.queries]
        truth = None if self.relevance is None else self.relevance.take(part.queries, part.items)
        left, right = changed(way, self.queries, self.gallery, part)
        asking = np.flatnonzero(np.isin(part.queries, self.asking))
        if not len(asking):
            return asking, {k: (np.zeros(0),) * 3 for k in self.ks}
        return part.queries[asking], _World(left, right, names, truth, self.ks, self.memory, asking).mixed()

    def alone(self) -> dict[int, FloatArray]:
        """hit@k of every query in the gallery of the asked modality."""
        if self.relevance is None:
            return {}
        truth = self.relevance.take(self.asking, np.arange(len(self.gallery)))
        (ranks,) = scan(self.queries[self.asking], self.gallery, [RankPositives(truth)], memory=self.memory)
        found = {k: np.full(len(self.queries), np.nan) for k in self.ks if k <= len(self.gallery)}
        for k, hits in found.items():
            hits[self.asking] = per_query(f"hit@{k}", ranks).expected
        return found

    def mixed(self) -> PerK:
        """By k: share of wrong places, hit@k, whether the k-th place is tied across modalities; (n_asking,) each."""
        n, size = len(self.queries), len(self.gallery)
        if n < 2 or max(self.ks) > n + size - 1:
            raise ValueError(
                f"k = {max(self.ks)} of {n + size - 1} items besides the query itself ({n} queries, {size} of the "
                "modality asked for); it takes two queries and k at most that many"
            )
        items, queries = np.concatenate([self.gallery, self.queries]), self.queries[self.asking]
        asked = np.arange(n + size) < size
        same = same_items([self.names[query] for query in self.asking], self.names)
        out = Relevance.from_pairs(same.queries, same.items + size, n_queries=len(queries), n_gallery=n + size)
        depths = min(max(self.ks), size), min(max(self.ks), n - 1)
        sides = [(asked, depths[0]), (~asked, depths[1])]
        consumers: list[Any] = [TopK(depth, allow=mask, exclude=out) for mask, depth in sides]
        if self.relevance is not None:
            truth = self.relevance.take(self.asking, np.arange(size))
            consumers.append(RankPositives(_widened(truth, n + size), exclude=out))
        lists = scan(queries, items, consumers, memory=self.memory)
        blank = np.full(len(queries), np.nan)
        hits = [per_query(f"hit@{k}", lists[2]).expected if len(lists) > 2 else blank for k in self.ks]
        kth = _KthPlace(queries, items, out, (asked, ~asked), tuple(lists[:2]), self.memory)
        return {k: (*kth.wrong_share(k), hit) for k, hit in zip(self.ks, hits, strict=True)}


@dataclass(frozen=True, eq=False)
class _KthPlace:
    """The best of either modality of every query, and what ties with the k-th of both together."""

    queries: Vectors
    items: Vectors
    out: Relevance
    masks: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]
    lists: tuple[Neighbours, Neighbours]
    memory: int

    def wrong_share(self, k: int) -> tuple[FloatArray, FloatArray]:
        """(n_queries,) expected share of the second modality in the first k places; whether a tie spans both."""
        together = np.sort(np.concatenate([found.scores for found in self.lists], axis=1), axis=1)[:, ::-1]
        level = together[:, k - 1]
        better = [(found.scores > level[:, None]).sum(axis=1) for found in self.lists]
        tied = [self._tied(side, level) for side in (0, 1)]
        left = k - better[0] - better[1]
        wrong = (better[1] + left * tied[1] / (tied[0] + tied[1])) / k
        undecided = (tied[0] > 0) & (tied[1] > 0) & (left < tied[0] + tied[1])
        return wrong, undecided.astype(np.float64)

    def _tied(self, side: int, level: FloatArray) -> IntArray:
        """Items of one modality with exactly the score of the k-th place; lists that end in the tie are looked up."""
        found = self.lists[side]
        counts: IntArray = (found.scores == level[:, None]).sum(axis=1)
        cut = np.flatnonzero(found.kth_tied & (found.scores[:, -1] == level))
        if not len(cut):
            return counts
        n = self.out.n_gallery
        last = Relevance.from_pairs(np.arange(len(cut)), found.indices[cut, -1], n_queries=len(cut), n_gallery=n)
        consumer = RankPositives(last, allow=self.masks[side], exclude=self.out.take(cut, np.arange(n)))
        (ranks,) = scan(self.queries[cut], self.items, [consumer], memory=self.memory)
        counts[cut] = ranks.tied + 1
        return counts


def _widened(relevance: Relevance, n_gallery: int) -> Relevance:
    return Relevance(relevance.indptr, relevance.items, relevance.grades, n_gallery)


def _asking(clusters: npt.NDArray[Any], most: int, seed: int) -> IntArray:
    """All queries, or those of clusters drawn with the seed, at least one cluster and about ``most`` queries."""
    if len(clusters) <= most:
        return np.arange(len(clusters))
    names, place = np.unique(clusters, return_inverse=True)
    order = np.random.default_rng([seed, 1]).permutation(len(names))  # not the draw of the halves
    reach = np.cumsum(np.bincount(place)[order])
    drawn = order[: max(1, int(np.searchsorted(reach, most, side="right")))]
    return np.flatnonzero(np.isin(place, drawn))


def _gathered(parts: Sequence[tuple[IntArray, PerK]], k: int, n: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(wrong, hit, tied) of all n queries in their order, NaN for those that do not ask."""
    wrong, tied, hit = np.full((3, n), np.nan)
    for rows, found in parts:
        wrong[rows], tied[rows], hit[rows] = found[k]
    return wrong, hit, tied


def _places(
    way: str, k: int, found: tuple[FloatArray, FloatArray, FloatArray], hit_before: FloatArray | None, blind: float,
    clusters: npt.NDArray[Any], settings: dict[str, Any], wrong_before: FloatArray | None = None,
) -> MixedPlaces:  # fmt: skip
    wrong, hit, tied = found
    share = cluster_bootstrap(wrong, clusters, **settings)
    blank = (float("nan"),) * 4
    moved, hits = blank, blank[:1] * 5
    if wrong_before is not None:
        change = paired_difference(wrong_before, wrong, clusters, **settings)
        moved = float(np.nanmean(wrong_before)), change.value, change.low, change.high
    if hit_before is not None and not np.isnan(hit_before).all():
        change = paired_difference(hit_before, hit, clusters, **settings)
        hits = float(np.nanmean(hit)), float(np.nanmean(hit_before)), change.value, change.low, change.high
    return MixedPlaces(
        k, way, share.value, share.low, share.high, *moved, *hits, blind, float(np.nanmean(tied)), share.n
    )  # fmt: skip


def _finding(mixed: MixedGallery) -> Finding:
    raw = max((one for one in mixed.places if not one.way), key=lambda one: one.k)
    name, threshold = f"space/mixed gallery {mixed.direction}", raw.blind + EXCESS_LOOK * (1 - raw.blind)
    verdict: Verdict = "look" if raw.low > threshold else "ok"
    advice = (
        f"Of the first {raw.k} places of {mixed.asking} queries that ask for the {mixed.asked} modality in a gallery "
        f"of both, {raw.wrong:.1%} are of the wrong one; {raw.blind:.1%} of the items are."
    )
    closed = [one for one in mixed.places if one.way and one.k == raw.k]
    if verdict == "look":
        advice += " Search the modality that is asked for alone, or calibrate the two kinds of scores."
        if closed:
            best = min(closed, key=lambda one: one.wrong)
            advice += f" With the gap closed ({best.way}, in halves): {best.wrong_before:.1%} to {best.wrong:.1%}."
    if not np.isfinite(raw.low):
        return Finding(name, None, None, threshold, EXCESS_SOURCE, "not measurable", f"One image only. {advice}")
    return Finding(name, raw.wrong, (raw.low, raw.high), threshold, EXCESS_SOURCE, verdict, advice, "%")
