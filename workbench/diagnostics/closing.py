"""What closing the modality gap does to every metric: measured, paired, with means that have not seen the queries.

Much of a gap cancels. With dot products q . g of a query q, whatever is added to every item adds the same number to all
scores of q, and its order stays: moving the gallery onto the queries, lengths as they are, changes no ranking at all.
Moving the queries by d adds d . g to item g, for every query alike: a bias of the gallery, nothing where all items are
equally close to d. Only that bias, and scaling to length one again after a move, can change a result, for good or bad.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from workbench.metrics import per_query_all
from workbench.normalize.bank import Bank, cross_fit_folds
from workbench.normalize.embedding import (
    EmbeddingTransform,
    fit_gap_shift,
    fit_renormalized_centering,
    fit_whitening,
)
from workbench.search import RankPositives, scan
from workbench.statistics import holm, paired_difference
from workbench.types import Finding, FloatArray, IntArray, Relevance, Verdict

if TYPE_CHECKING:
    import pandas as pd

Vectors = npt.NDArray[np.floating]
Fit = Callable[[Vectors, Vectors], EmbeddingTransform]
SOURCE = "no difference; paired randomisation test at 5 %, Holm over all ways of closing and all metrics"


def fit_items_moved(gallery: npt.ArrayLike, query_bank: npt.ArrayLike) -> EmbeddingTransform:
    """The gallery moves onto the queries' centroid, lengths as they come out: changes no ranking, by algebra.

        item' = item - gap,   query' = query,   gap = mean of the gallery - mean of the query bank

    >>> fit_items_moved(np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]])).gallery
    array([[1., 0.]])
    """
    items, gap = _items_and_gap(gallery, query_bank)
    return EmbeddingTransform(items - gap, np.zeros(items.shape[1]))


def fit_queries_moved(gallery: npt.ArrayLike, query_bank: npt.ArrayLike) -> EmbeddingTransform:
    """The queries move onto the gallery's centroid, lengths as they come out: adds gap . item to all scores of an item.

        query' = query + gap,   item' = item,   gap = mean of the gallery - mean of the query bank

    >>> fit_queries_moved(np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]]))([[1.0, 0.0]])
    array([[0., 1.]])
    """
    items, gap = _items_and_gap(gallery, query_bank)
    return EmbeddingTransform(items, -gap)


def fit_centering(gallery: npt.ArrayLike, query_bank: npt.ArrayLike) -> EmbeddingTransform:
    """Each side loses its mean, lengths as they come out; orders as :func:`workbench.normalize.local.mean_centering`.

        query' = query - mean of the query bank,   item' = item - mean of the gallery

    >>> fit_centering(np.eye(2), np.array([[1.0, 0.0]])).gallery
    array([[ 0.5, -0.5],
           [-0.5,  0.5]])
    """
    items = np.asarray(gallery, np.float64)
    return EmbeddingTransform(items - items.mean(axis=0), np.asarray(query_bank, np.float64).mean(axis=0))


@dataclass(frozen=True)
class WayOfClosing:
    """One way to close a gap. judged : whether it counts for the verdict; whitening does more than close a gap, and
    what moves the gallery alone does nothing."""

    summary: str
    fit: Fit
    judged: bool = True


CLOSINGS: Mapping[str, WayOfClosing] = {
    "items moved": WayOfClosing("gallery onto the queries, lengths kept: cancels", fit_items_moved, judged=False),
    "queries moved": WayOfClosing("queries onto the gallery, lengths kept: a bias per item", fit_queries_moved),
    "shift": WayOfClosing("both sides half-way, length one again", fit_gap_shift),
    "centring": WayOfClosing("each side loses its mean, lengths kept: a bias per item", fit_centering),
    "centring, length one": WayOfClosing("each side loses its mean, length one again", fit_renormalized_centering),
    "whitening": WayOfClosing(
        "centred, all directions stretched to equal variance, faint ones too, length one", fit_whitening, judged=False
    ),
}


@dataclass(frozen=True)
class Closed:
    """One metric under one way of closing. difference : after minus before on the same queries, with its paired
    interval. p_holm : corrected over all ways of closing and metrics of the direction. gap_before, gap_after : distance
    of the centroids of the scored queries and their gallery, as they are compared."""

    way: str
    metric: str
    before: float
    after: float
    difference: float
    low: float
    high: float
    p_holm: float
    wins: int
    losses: int
    n: int
    minimum_detectable: float
    gap_before: float
    gap_after: float


@dataclass(frozen=True)
class Closing:
    """What closing the gap does to one direction. provenance : whose queries gave the mean; n_bank : how many."""

    direction: str
    provenance: str
    n_bank: int
    outcomes: tuple[Closed, ...]

    @property
    def metric(self) -> str:
        """The first metric, which is drawn."""
        return self.outcomes[0].metric

    @property
    def first(self) -> tuple[Closed, ...]:
        """The first metric under every way of closing."""
        return tuple(one for one in self.outcomes if one.metric == self.metric)

    def table(self) -> pd.DataFrame:
        """One row per way of closing and metric; values are shares."""
        import pandas as pd

        names = ("way", "metric", "before", "after", "difference", "low", "high", "p_holm", "gap_before", "gap_after")
        return pd.DataFrame([{name: getattr(one, name) for name in names} for one in self.outcomes])

    def plot(self, ax: Any = None) -> Any:
        """Differences of the first metric with their intervals."""
        from workbench.plots import space

        return space.closing_differences(self, ax)

    def findings(self) -> list[Finding]:
        """Whether closing the gap raises a metric."""
        return [_finding(self)]

    def flat(self) -> dict[str, float]:
        """Differences by ``direction/metric closed(way)``."""
        return {f"{self.direction}/{one.metric} closed({one.way})": one.difference for one in self.outcomes}

    def _repr_html_(self) -> str:
        return str(self.table().to_html(index=False, float_format=lambda value: f"{value:.3g}"))


@dataclass(frozen=True, eq=False)
class Half:
    """Queries and items (indices) that are scored together, and the queries that teach their mean."""

    queries: IntArray
    items: IntArray
    bank: Bank


def close_the_gap(
    queries: Vectors, gallery: Vectors, relevance: Relevance, clusters: npt.ArrayLike,
    gallery_clusters: npt.ArrayLike | None = None, *, bank: Bank | None = None, direction: str = "t2i",
    metrics: Sequence[str] = ("hit@1", "R@10", "MRR"), ways: Sequence[str] = tuple(CLOSINGS), seed: int = 0,
    n_resamples: int = 2000, memory: int = 2**28,
) -> Closing:  # fmt: skip
    """Every metric before and after closing the gap in each of several ways, paired on the same queries.

    queries (n_queries, dim), gallery (n_gallery, dim), relevance (n_queries, n_gallery). clusters (n_queries,),
    gallery_clusters (n_gallery,) : the image each query and item belongs to, in one numbering: for interval and halves.
    bank : other queries, whose mean is used for the whole gallery (``Bank(..., "transductive")`` for the scored
    queries themselves); None: *halves*. The images are split in two, the queries of a half are scored against the items
    of that half with the mean of the other half's queries (:func:`workbench.normalize.cross_fit_folds`): both values
    are then those of a gallery of half the size. The mean of the gallery is that of the items searched.
    metrics : names, higher is better; the first is drawn. ways : of :data:`CLOSINGS`.
    Raises ValueError for unknown ways, one cluster, a cutoff above the items of a half, queries that are in the bank.
    Sources: Liang et al., NeurIPS 2022, https://arxiv.org/abs/2203.02053 (shift; the gap's effect went either way);
    those of :mod:`workbench.normalize.embedding` for the others.

    >>> items = np.eye(6)
    >>> one = Relevance.from_pairs(range(6), range(6), n_queries=6, n_gallery=6)
    >>> found = close_the_gap(items + 2, items, one, range(6), range(6), metrics=["hit@1"], ways=["items moved"])
    >>> found.outcomes[0].after, found.outcomes[0].difference, round(found.outcomes[0].gap_before, 3)  # 2 sqrt(6)
    (1.0, 0.0, 4.899)
    """
    unknown = [name for name in ways if name not in CLOSINGS]
    if unknown or not ways or not metrics:
        raise ValueError(f"ways must name some of {', '.join(CLOSINGS)}, and metrics some metric; got {unknown}")
    own = np.asarray(clusters)
    if bank is None:
        if gallery_clusters is None:
            raise ValueError("halves need gallery_clusters, the image of each item; or give a bank")
        parts = halves(queries, own, np.asarray(gallery_clusters), seed)
    else:
        bank.refuse_overlap(queries, "scored queries")
        parts = [Half(np.arange(len(queries)), np.arange(len(gallery)), bank)]
    values: dict[str, dict[str, FloatArray]] = {}
    gaps: dict[str, float] = {}
    for name in ("", *ways):
        values[name] = {metric: np.full(len(queries), np.nan) for metric in metrics}
        apart = []
        for part in parts:
            left, right = changed(name, queries, gallery, part)
            (ranks,) = scan(left, right, [RankPositives(relevance.take(part.queries, part.items))], memory=memory)
            for metric, found in per_query_all(list(metrics), ranks).items():
                values[name][metric][part.queries] = found.expected
            apart.append(float(np.linalg.norm(left.mean(axis=0) - right.mean(axis=0))))
        gaps[name] = float(np.average(apart, weights=[len(part.queries) for part in parts]))
    settings: dict[str, Any] = {"seed": seed, "n_resamples": n_resamples}
    outcomes = [one for metric in metrics for one in _compared(values, gaps, own, metric, ways, settings)]
    return Closing(direction, _provenance(parts), min(len(part.bank) for part in parts), _corrected(outcomes))


def halves(queries: Vectors, clusters: npt.ArrayLike, gallery_clusters: npt.ArrayLike, seed: int) -> list[Half]:
    """The two halves of the images; queries of the other half that are also in this one are left out of its bank.

    >>> one, other = halves(np.eye(4), [0, 1, 2, 3], [0, 1, 2, 3, 3], seed=0)
    >>> np.sort(np.concatenate([one.items, other.items])), len(one.bank)
    (array([0, 1, 2, 3, 4]), 2)
    """
    of_query, of_item = np.asarray(clusters), np.asarray(gallery_clusters)
    folds = cross_fit_folds(np.concatenate([of_query, of_item]), seed)
    query_fold, item_fold = folds[: len(of_query)], folds[len(of_query) :]
    found = []
    for fold in (0, 1):
        mine, items, others = (np.flatnonzero(at) for at in (query_fold == fold, item_fold == fold, query_fold != fold))
        if not (len(mine) and len(items) and len(others)):
            raise ValueError("a half of the images has no queries or no items; more images are needed")
        found.append(Half(mine, items, Bank(queries[others], "cross-fit", "other half").without(queries[mine])))
    return found


def changed(way: str, queries: Vectors, gallery: Vectors, part: Half) -> tuple[Vectors, Vectors]:
    """The queries and items of a part, as they are (way "") or with the gap closed."""
    mine, items = queries[part.queries], gallery[part.items]
    if not way:
        return mine, items
    fitted = CLOSINGS[way].fit(items, part.bank.vectors)
    return fitted(mine), fitted.gallery


def _items_and_gap(gallery: npt.ArrayLike, query_bank: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    items = np.asarray(gallery, np.float64)
    return items, items.mean(axis=0) - np.asarray(query_bank, np.float64).mean(axis=0)


def _provenance(parts: Sequence[Half]) -> str:
    bank = parts[0].bank
    return "cross-fit, in halves" if len(parts) > 1 else bank.provenance + (f" ({bank.name})" if bank.name else "")


def _compared(
    values: Mapping[str, Mapping[str, FloatArray]], gaps: Mapping[str, float], clusters: npt.NDArray[Any], metric: str,
    ways: Sequence[str], settings: Mapping[str, Any],
) -> list[Closed]:  # fmt: skip
    """One metric under every way of closing."""
    raw, found = values[""][metric], []
    for way in ways:
        now = values[way][metric]
        paired = paired_difference(raw, now, clusters, **settings)
        before, after = (float(np.nanmean(each)) if paired.n else float("nan") for each in (raw, now))
        found.append(
            Closed(
                way, metric, before, after, paired.value, paired.low, paired.high, paired.p_value, paired.wins,
                paired.losses, paired.n, paired.minimum_detectable, gaps[""], gaps[way],
            )
        )  # fmt: skip
    return found


def _corrected(outcomes: Sequence[Closed]) -> tuple[Closed, ...]:
    """With Holm's correction over all that was scored."""
    adjusted = holm([one.p_holm for one in outcomes])
    return tuple(replace(one, p_holm=float(p)) for one, p in zip(outcomes, adjusted, strict=True))


def _finding(closing: Closing) -> Finding:
    name = f"space/closing {closing.direction}"
    judged = [one for one in closing.outcomes if CLOSINGS[one.way].judged and one.n and np.isfinite(one.low)]
    if not judged:
        return Finding(
            name, None, None, 0.0, SOURCE, "not measurable",
            "No query has a right item, or all of them belong to one image, or no way of closing the gap was tried.",
        )  # fmt: skip
    raised, lowered = ([one for one in judged if one.p_holm <= 0.05 and one.difference * sign > 0] for sign in (1, -1))
    best = max(raised or [one for one in judged if one.metric == judged[0].metric], key=lambda one: one.difference)
    distance = (
        f"The centroids are {best.gap_before:.2f} apart, {best.gap_after:.2f} after {best.way} ({closing.provenance})."
    )
    verdict: Verdict = "look" if raised else "ok"
    if raised:
        advice = (
            f" That changes {best.metric} by {100 * best.difference:+.1f} points: some items are closer to all queries "
            "than others, and it costs. Read it with the hubness findings; report both numbers if you deploy it."
        )
    else:
        advice = f" Closing the gap has not been shown to raise {best.metric}: leave it open, however a map shows it."
        if np.isfinite(best.minimum_detectable):
            advice += f" Differences below {100 * best.minimum_detectable:.1f} points would often go unnoticed here."
    if lowered:
        worst = min(lowered, key=lambda one: one.difference)
        advice += (
            f" {len(lowered)} of {len(judged)} comparisons are shown to fall, the farthest {worst.metric} by "
            f"{worst.way} ({100 * worst.difference:+.1f})."
        )
    return Finding(name, best.difference, (best.low, best.high), 0.0, SOURCE, verdict, distance + advice, "points")
