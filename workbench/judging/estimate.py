"""The metric as it would be if every item had a label, from a file of judgements and the lists that were scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from workbench.judging.judged import Judged, ids_digest, rows_of
from workbench.judging.pool import Plan
from workbench.judging.reach import Labels, Reach, ShortLists, Unlabelled, reach, values_under, with_pairs
from workbench.metrics import Metric
from workbench.metrics.lists import Lists, compressed
from workbench.statistics.judged_sample import KNOWN, SampledMean, judgements_for, stratified_mean
from workbench.types import Finding, FloatArray, IntArray, Relevance, Verdict

if TYPE_CHECKING:
    import pandas as pd

POINTS = 0.02
SOURCE = "convention of this project: gains that are published are often of two points"


class NotCovered(ValueError):
    """The judgements are sound, but made for another metric or other lists."""


@dataclass(frozen=True, eq=False)
class JudgedEstimate:
    """A metric under complete labels, estimated from judged queries: :func:`estimate_from_judged`.

    mean : the metric, estimated; its interval is about which queries were judged, the test set being fixed.
    as_labelled : the metric of the same queries with every unlabelled item taken for wrong.
    skipped_low, skipped_high : ``mean.value`` if nothing, or everything, were right in the queries that were skipped.
    n_pairs, n_right : pairs judged that count here, and how many of them were right. pairs_per_query : to be judged, on
    average. n_left_out : queries without a labelled positive. design : where the sample comes from. judge : the file.
    direction : of the lists, such as "t2i", for the name of the finding; "" leaves it out.
    """

    metric: str
    mean: SampledMean
    as_labelled: float
    skipped_low: float
    skipped_high: float
    n_skipped: int
    n_pairs: int
    n_right: int
    pairs_per_query: float
    n_left_out: int
    stratum_names: tuple[str, ...]
    labels: str
    design: str
    judge: str
    direction: str = ""

    @property
    def value(self) -> float:
        """The estimate."""
        return self.mean.value

    @property
    def interval(self) -> tuple[float, float]:
        """(low, high) of the estimate."""
        return self.mean.low, self.mean.high

    @property
    def gain(self) -> float:
        """What incomplete labels hide: the estimate minus the metric as labelled."""
        return self.mean.value - self.as_labelled

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on where the interval should not be trusted."""
        if not self.n_skipped:
            return self.mean.warnings
        return (
            *self.mean.warnings,
            f"{self.n_skipped} queries were skipped and are taken to be like those judged; were nothing or everything "
            f"right in them, the estimate would be {self.skipped_low:.3f} or {self.skipped_high:.3f}.",
        )

    def plan(self, half_width: float = POINTS) -> Plan:
        """Queries and pairs in all for an interval of plus or minus ``half_width``, with this sample as the pilot."""
        mean = self.mean
        n = judgements_for(half_width, mean.n, n_open=mean.n_open, spread=max(mean.spread, 1e-9), level=mean.level)
        return Plan(n, round(n * self.pairs_per_query))

    def table(self) -> pd.DataFrame:
        """One row per stratum: queries, how many were judged, and the mean change a judgement made."""
        import pandas as pd

        mean = self.mean
        rows = [("known without judging", mean.n_known, 0, 0.0)]
        rows += list(zip(self.stratum_names, mean.sizes.tolist(), mean.seen.tolist(), mean.means.tolist(), strict=True))
        return pd.DataFrame(rows, columns=["stratum", "queries", "judged", f"mean change of {self.metric}"]).set_index(
            "stratum"
        )

    def findings(self) -> list[Finding]:
        """One finding: by how much the labels understate the metric."""
        return [_finding(self)]

    def flat(self) -> dict[str, float]:
        """Numbers by ``judged/name``."""
        values = {
            "estimate": self.value, "low": self.mean.low, "high": self.mean.high, "as_labelled": self.as_labelled,
            "gain": self.gain, "queries_judged": self.mean.n_seen, "pairs_judged": self.n_pairs,
            "pairs_right": self.n_right, "queries_skipped": self.n_skipped,
        }  # fmt: skip
        return {f"judged/{name}": float(value) for name, value in values.items()}

    def _repr_html_(self) -> str:
        return self.table().to_html(float_format=lambda value: f"{value:.3g}")


def estimate_from_judged(
    lists: Lists, relevance: Relevance, judged: Judged, metric: Metric | str, *, query_ids: Sequence[str],
    item_ids: Sequence[str], labels: Labels = "all", unlabelled: Unlabelled = "leave out",
    level: float = 0.95, short_lists: ShortLists = "refuse", seed: int = 0,
) -> JudgedEstimate:  # fmt: skip
    """The metric of these lists as it would be with complete labels on this test set, with an interval.

        estimate = mean over queries of ( value as labelled + change );  change: known to be 0 where nothing unlabelled
        could matter, seen where a query was judged, and the stratum's mean of what was seen elsewhere

    (:func:`workbench.statistics.stratified_mean`). Exact for what the first k places decide: hit@k, P@k, RR@k,
    AP(norm=hits)@k. R@k, AP@k and nDCG@k depend on positives that no list holds: refused, unless labels="pool" asks for
    their value when nothing outside the judged pool is right. A label in ``relevance`` holds against a judgement.
    judged : :func:`read_judged`. A session's file says how its queries were drawn, and serves every metric and every
    system that its pool was made for. Of other qrels, the queries with a judgement are taken as a random sample of
    those that judging could move.
    unlabelled : "leave out" queries without a labelled positive, as metrics do, or "count" them.
    Errors: a metric that cannot be had; ids that do not fit; :class:`NotCovered` (a ValueError) where judged queries
    have unlabelled items in their first k places that were not judged, or the sample could not have drawn some query.

    >>> from workbench.judging import Entry, Judged
    >>> relevance = Relevance.from_pairs([0, 1, 2], [3, 0, 1], n_queries=3, n_gallery=4)
    >>> lists = [([3, 1], [0.9, 0.5]), ([2, 3], [0.9, 0.5]), ([0, 1], [0.9, 0.5])]
    >>> judged = Judged("a", (Entry("b", {"2": (0, 1.0)}), Entry("c", {"0": (0, 0.0)})))
    >>> found = estimate_from_judged(lists, relevance, judged, "hit@1", query_ids="abc", item_ids="0123")
    >>> round(found.as_labelled, 3), round(found.value, 3), found.mean.low == found.mean.high  # all of it was judged
    (0.333, 0.667, True)
    """
    before = reach(lists, relevance, metric, labels=labels, short_lists=short_lists)
    said = _said(judged, relevance, query_ids, item_ids)
    takes_part = before.labelled | (unlabelled == "count")
    if not takes_part.any():
        raise ValueError('no query has a labelled positive; unlabelled="count" scores them all')
    strata = _strata(judged, before, takes_part, said, query_ids)
    after = values_under(compressed(lists, relevance), said.labels, before.metric, short_lists)
    change = np.where(said.seen, np.nan_to_num(after) - before.as_labelled, np.nan)
    change[strata == KNOWN] = 0.0
    drawable = strata != KNOWN
    bounds = _bounds(before, drawable)
    mean = stratified_mean(change[takes_part], strata[takes_part], bounds=bounds, level=level, seed=seed)
    base, counted = float(before.as_labelled[takes_part].mean()), (said.seen & drawable)[said.queries]
    skipped, ends = said.skipped & drawable, (before.lowest, before.highest)
    low, high = (_point(np.where(skipped, end - before.as_labelled, change), strata)[takes_part].mean() for end in ends)
    return JudgedEstimate(
        metric=str(before.metric), mean=_shifted(mean, base), as_labelled=base, skipped_low=base + float(low),
        skipped_high=base + float(high), n_skipped=int(skipped.sum()), n_pairs=int(counted.sum()),
        n_right=int((said.grades[counted] > 0).sum()),
        pairs_per_query=float(np.diff(before.indptr)[drawable].mean()) if drawable.any() else 0.0,
        n_left_out=int((~takes_part).sum()), stratum_names=_names(judged, mean.strata), labels=labels,
        design=_design_words(judged), judge=judged.name,
    )  # fmt: skip


class _Said(NamedTuple):
    """Judgements in rows and columns; the labels with them; (n_queries,) which queries were judged, which skipped."""

    queries: IntArray
    items: IntArray
    grades: FloatArray
    labels: Relevance
    seen: npt.NDArray[np.bool_]
    skipped: npt.NDArray[np.bool_]


def _said(judged: Judged, relevance: Relevance, query_ids: Sequence[str], item_ids: Sequence[str]) -> _Said:
    given, n = judged.judgements(), len(query_ids)
    if (n, len(item_ids)) != (relevance.n_queries, relevance.n_gallery):
        raise ValueError(
            f"{n} query ids and {len(item_ids)} item ids for a relevance of "
            f"{relevance.n_queries} x {relevance.n_gallery}"
        )
    rows = rows_of(given.queries, query_ids, "queries", judged)
    columns = rows_of(given.items, item_ids, "items", judged)
    size = relevance.n_gallery
    new = ~np.isin(rows * size + columns, relevance.queries * size + relevance.items)
    rows, columns, grades = rows[new], columns[new], given.grades[new]
    skipped = rows_of(judged.skipped, query_ids, "queries", judged)
    return _Said(
        rows, columns, grades, with_pairs(relevance, rows, columns, grades), np.bincount(rows, minlength=n) > 0,
        np.bincount(skipped, minlength=n) > 0,
    )  # fmt: skip


def _strata(
    judged: Judged, before: Reach, takes_part: npt.NDArray[np.bool_], said: _Said, query_ids: Sequence[str]
) -> IntArray:
    """Stratum of every query that judging could move, -1 for the others; errors where the sample does not serve."""
    is_open, design = before.open & takes_part, judged.design
    strata = np.where(is_open, 0, KNOWN) if design is None else np.where(is_open, _drawn_from(judged, query_ids), KNOWN)
    if (never := is_open & (strata == KNOWN)).any():
        raise NotCovered(
            f"{before.metric} needs judgements of {int(never.sum())} queries that {judged.name}, made for "
            f"{design.metric if design else ''}, never draws; make a pool for all the metrics you want"
        )
    if is_open.any() and not (said.seen & is_open).any():
        raise NotCovered(f"{judged.name} judges none of the {int(is_open.sum())} queries that could change")
    size = said.labels.n_gallery
    wanted = before.queries * size + before.items
    missing = ~np.isin(wanted, said.queries * size + said.items) & (said.seen & is_open)[before.queries]
    if missing.any():
        lacking = np.unique(before.queries[missing])
        raise NotCovered(
            f"{len(lacking)} of {int((said.seen & is_open).sum())} judged queries have unlabelled items in their first "
            f"{before.metric.k} places that {judged.name} does not judge (query {query_ids[lacking[0]]!r}): these "
            "lists were not in its pool, or the cutoff is larger; use a smaller cutoff, or judge a pool of all lists"
        )
    return strata


def _drawn_from(judged: Judged, query_ids: Sequence[str]) -> IntArray:
    design = judged.design
    if design is None or design.queries != ids_digest(query_ids) or len(design.strata) != len(query_ids):
        raise ValueError(
            f"{judged.name} was drawn from other queries ({len(design.strata) if design else 0}, here "
            f"{len(query_ids)}), or in the other direction (it is {design.direction if design else 'unknown'})"
        )
    return design.strata


def _bounds(before: Reach, drawable: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """The least and greatest change that any open query can have."""
    if not drawable.any():
        return 0.0, 1.0
    below, above = before.lowest - before.as_labelled, before.highest - before.as_labelled
    return float(below[drawable].min()), float(above[drawable].max())


def _point(change: FloatArray, strata: IntArray) -> FloatArray:
    """The changes, with each stratum's mean where there is none."""
    filled = change.copy()
    for label in np.unique(strata):
        rows = strata == label
        filled[rows & np.isnan(change)] = np.nanmean(change[rows])
    return filled


def _shifted(mean: SampledMean, base: float) -> SampledMean:
    return replace(mean, value=mean.value + base, low=mean.low + base, high=mean.high + base)


def _names(judged: Judged, strata: IntArray) -> tuple[str, ...]:
    if judged.design is None:
        return ("queries that judging could move",) * len(strata)
    return tuple(judged.design.stratum_names[label] for label in strata)


def _design_words(judged: Judged) -> str:
    if judged.design is None:
        return "the judged queries are taken as a random sample of those that judging could move"
    design = judged.design
    return f"stratified sample of {design.n_queries} queries, drawn with seed {design.seed} for {design.metric}"


def _to_tell(found: JudgedEstimate) -> Plan:
    """Judgements in all that leave the threshold outside the interval, if the estimate stays: more than were made."""
    n = found.plan(max(abs(abs(found.gain) - POINTS), 1e-9)).queries
    n = min(max(n, found.mean.n_seen + 1), found.mean.n_open)
    return Plan(n, round(n * found.pairs_per_query))


def _finding(found: JudgedEstimate) -> Finding:
    low, high = found.mean.low - found.as_labelled, found.mean.high - found.as_labelled
    size = max(abs(low), abs(high))
    beyond = low > POINTS or high < -POINTS
    verdict: Verdict = "ok" if size <= POINTS else "look" if beyond else "not measurable"
    plan = _to_tell(found)
    advice = {
        "ok": f"Complete labels would hardly move {found.metric}: of {found.n_pairs:,} pairs that were judged "
        f"{found.n_right:,} are right.",
        "look": f"With complete labels {found.metric} would be {found.value:.3f}, not {found.as_labelled:.3f}: quote "
        "both, and do not compare systems that find what nobody labelled by the labels alone.",
        "not measurable": f"Judged so far, missing labels may or may not hide {100 * POINTS:g} points of "
        f"{found.metric}: judge {plan.queries:,} queries in all (about {plan.pairs:,} pairs) to tell, if the estimate "
        "stays.",
    }[verdict]
    words = " ".join((advice, *found.warnings))
    name = "/".join(filter(None, (found.direction, f"labels/judged {found.metric}")))
    return Finding(name, found.gain, (low, high), POINTS, SOURCE, verdict, words, "points")
