"""How far missing labels can move a score: sharp bounds over all labellings of the unjudged.

    label_bounds(ranks, metrics, *, extra_positives=None, in_total=None, wrong=None, clusters=None, ...) -> LabelBounds

Counting the unjudged as all wrong and as all right bounds hit@k and P@k only: R@k, AP and nDCG can lie outside both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from workbench.metrics import METRICS, Metric, aggregate, parse_metric
from workbench.metrics.extremes import NEVER_FALLS, Extremes, course, extremes
from workbench.metrics.named import ShortLists
from workbench.statistics import Interval, cluster_bootstrap
from workbench.statistics.allocation import allocate
from workbench.types import Finding, FloatArray, IntArray, Ranks, Unit, Verdict

if TYPE_CHECKING:
    import pandas as pd

BOUNDS_SOURCE = (
    "width of the sampling interval of the same score; convention of this project: labels that leave more open than "
    "sampling does decide what the score can tell apart"
)
Unscored = Literal["left out", "may enter"]


@dataclass(frozen=True, eq=False)
class Bound:
    """One metric: its value as labelled, and the lowest and highest over all labellings.

    sampling : the value as labelled with its interval over queries. lowest, highest : means (medians for MedR) over the
    queries; for a rank the highest is the worst. per_labelled, per_lowest, per_highest (n_queries,) : what they are the
    means of, NaN where a query does not count. lowest_extra, highest_extra (n_queries,) : extra positives they take.
    n_tied : queries with a tied judged item, where the bounds hold but need not be attained.
    """

    metric: str
    sampling: Interval
    lowest: float
    highest: float
    per_labelled: FloatArray
    per_lowest: FloatArray
    per_highest: FloatArray
    lowest_extra: IntArray
    highest_extra: IntArray
    n_tied: int

    @property
    def labelled(self) -> float:
        return self.sampling.value

    @property
    def width(self) -> float:
        """What the labels leave open: highest - lowest."""
        return self.highest - self.lowest

    @property
    def sampling_width(self) -> float:
        """What sampling leaves open; NaN with one cluster."""
        return self.sampling.high - self.sampling.low


@dataclass(frozen=True, eq=False)
class LabelBounds:
    """Bounds of several metrics, the first of which decides the verdict.

    direction : such as "t2i", or empty. n_unscored : queries without a labelled positive. n_unjudged : pairs nobody
    judged. extra_positives, in_total : the most that may be missing per query and in all, None for any number.
    unscored : whether queries without a labelled positive are "left out" or "may enter".
    """

    direction: str
    n_queries: int
    n_unscored: int
    n_unjudged: int
    extra_positives: int | None
    in_total: int | None
    unscored: str
    bounds: tuple[Bound, ...]

    def __getitem__(self, metric: str) -> Bound:
        found = {bound.metric: bound for bound in self.bounds}
        if metric not in found:
            raise KeyError(f"no bound of {metric!r}; there are {', '.join(found)}")
        return found[metric]

    @property
    def limit(self) -> str:
        """How many labels may be missing, in words."""
        parts = [] if self.extra_positives is None else [f"at most {self.extra_positives:,} per query"]
        parts += [] if self.in_total is None else [f"at most {self.in_total:,} in all"]
        return " and ".join(parts) or "any number"

    def table(self) -> pd.DataFrame:
        """One row per metric: as labelled, lowest, highest, the widths, and the extra positives that the ends take."""
        import pandas as pd

        rows = [
            {"metric": one.metric, "as labelled": one.labelled, "lowest": one.lowest, "highest": one.highest,
             "labels leave open": one.width, "sampling leaves open": one.sampling_width,
             "extra positives, lowest": int(one.lowest_extra.sum()),
             "extra positives, highest": int(one.highest_extra.sum())}
            for one in self.bounds
        ]  # fmt: skip
        return pd.DataFrame(rows).set_index("metric")

    def plot(self, ax: Any = None) -> Any:
        """Per metric what the labels leave open, with the value as labelled and its sampling interval."""
        from workbench.plots import label_bounds as drawing

        return drawing.label_bounds(self, ax)

    def findings(self) -> list[Finding]:
        """One finding, about the first metric."""
        return [_finding(self)]

    def flat(self) -> dict[str, float]:
        """Ends by ``direction/metric/lowest`` and ``.../highest``; undefined ones are left out."""
        prefix = f"{self.direction}/" if self.direction else ""
        ends = {
            f"{prefix}{one.metric}/{end}": float(getattr(one, end))
            for one in self.bounds for end in ("lowest", "highest")
        }  # fmt: skip
        return {name: value for name, value in ends.items() if np.isfinite(value)}

    def _repr_html_(self) -> str:
        return self.table().to_html(float_format=lambda value: f"{value:.4g}", na_rep="")


def label_bounds(
    ranks: Ranks,
    metrics: Sequence[Metric | str],
    *,
    extra_positives: int | None = None,
    in_total: int | None = None,
    wrong: Ranks | None = None,
    clusters: npt.ArrayLike | None = None,
    unscored: Unscored = "left out",
    short_lists: ShortLists = "refuse",
    direction: str = "",
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> LabelBounds:
    """The lowest and highest score over all labellings of the unjudged, and what of it sampling explains.

        lowest, highest = min, max over the extra positives of mean_q metric_q(labelled_q + extra_q)
        with |extra_q| <= extra_positives for each query and sum_q |extra_q| <= in_total

    ranks : exact ranks of the labelled positives, by a scan or from lists. metrics : names; judged@k and forced choice
    have no bound of this kind. wrong : ranks of the items judged not relevant, which stay wrong.
    clusters (n_queries,) : queries that belong together, for the sampling interval; None: each on its own.
    unscored : a query without a labelled positive has no value. "left out": the bounds are about the other queries.
    "may enter": one more positive would give it a value, so that it counts wherever that makes an end lower or higher.
    Per query see :func:`workbench.metrics.extremes.extremes`, also for ties. Queries are labelled independently, so
    that the mean of the ends (for MedR their median) is the end of the mean. With in_total the budget is shared by
    :func:`workbench.statistics.allocation.allocate`, exactly, whether or not a query's course is concave; per query the
    courses cost up to in_total evaluations.
    Errors: as for extremes; no metric; in_total with MedR (a median is no sum) or with unscored="may enter".
    Source of the idea of such bounds: C. F. Manski, Partial Identification of Probability Distributions, Springer 2003;
    on incomplete judgements: A. Moffat & J. Zobel, "Rank-biased precision for measurement of retrieval effectiveness",
    ACM TOIS 27, 2008, https://doi.org/10.1145/1416950.1416952 (residuals).

    >>> from workbench.metrics import ranks_from_scores
    >>> from workbench.types import Relevance
    >>> labels = Relevance.from_pairs([0, 1], [0, 1], n_queries=2, n_gallery=3)
    >>> ranks = ranks_from_scores([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]], labels)
    >>> one = label_bounds(ranks, ["R@1"], extra_positives=1)["R@1"]
    >>> one.lowest, one.labelled, one.highest  # lowest: 1/2 and 0/2; highest: 1/1 and 1/2
    (0.25, 0.5, 0.75)
    """
    names = [parse_metric(one) if isinstance(one, str) else one for one in metrics]
    _check(names, in_total, unscored)
    groups = np.arange(ranks.n_queries) if clusters is None else np.asarray(clusters)
    bounds = []
    for metric in names:
        found = extremes(metric, ranks, extra_positives=extra_positives, wrong=wrong, short_lists=short_lists)
        statistic = METRICS[metric.name].aggregator
        sampling = cluster_bootstrap(
            found.labelled, groups, statistic=statistic, level=level, n_resamples=n_resamples, seed=seed
        )
        ends = [_end(found, ranks, wrong, in_total, unscored, high=high) for high in (False, True)]
        bounds.append(_bound(found, sampling, *ends))
    judged = len(ranks.items) + (0 if wrong is None else len(wrong.items))
    return LabelBounds(
        direction, ranks.n_queries, int((ranks.positives_per_query == 0).sum()),
        ranks.n_queries * ranks.n_gallery - judged, extra_positives, in_total, unscored, tuple(bounds),
    )  # fmt: skip


End = tuple[FloatArray, IntArray]


def _bound(found: Extremes, sampling: Interval, low: End, high: End) -> Bound:
    """The two ends summarised. A sum over clusters may differ in its last bit from one over queries: no end crosses."""
    ends = [
        sampling.value if np.array_equal(values, found.labelled, equal_nan=True) else aggregate(found.metric, values)
        for values, _ in (low, high)
    ]
    return Bound(
        str(found.metric), sampling, float(np.fmin(ends[0], sampling.value)), float(np.fmax(ends[1], sampling.value)),
        found.labelled, low[0], high[0], low[1], high[1], int((~found.sharp).sum()),
    )  # fmt: skip


def _check(metrics: Sequence[Metric], in_total: int | None, unscored: str) -> None:
    if not metrics:
        raise ValueError("label_bounds needs at least one metric, such as R@10")
    if unscored not in ("left out", "may enter"):
        raise ValueError(f"unscored must be 'left out' or 'may enter'; got {unscored!r}")
    if in_total is None:
        return
    if isinstance(in_total, bool) or in_total < 0:
        raise ValueError(f"in_total must be a whole number >= 0, or None for any number; got {in_total}")
    if unscored == "may enter":
        raise ValueError("in_total and unscored='may enter' cannot be had together; leave one of them out")
    medians = [str(metric) for metric in metrics if METRICS[metric.name].aggregator == "median"]
    if medians:
        raise ValueError(f"in_total bounds a sum over queries, and {medians[0]} is a median; leave it out, or in_total")


def _end(
    found: Extremes, ranks: Ranks, wrong: Ranks | None, in_total: int | None, unscored: Unscored, *, high: bool
) -> End:
    """(value of every query at one end of the aggregate, NaN where it does not count; extra positives it takes)."""
    values, used = (found.highest, found.highest_extra) if high else (found.lowest, found.lowest_extra)
    scored = ~np.isnan(found.labelled)
    if in_total is not None and int(used[scored].sum()) > in_total:
        return _shared(found, ranks, wrong, in_total, high=high)
    counts = scored if unscored == "left out" else scored | _entering(found, values, high=high)
    return np.where(counts, values, np.nan), np.where(counts, used, 0)


def _shared(found: Extremes, ranks: Ranks, wrong: Ranks | None, in_total: int, *, high: bool) -> End:
    """The end within a budget of extra positives for all queries together."""
    values, counts = course(found, ranks, in_total, high=high, wrong=wrong)
    worth = np.where(np.isnan(values), 0.0, values if high else -values)
    spent = allocate(worth, counts, in_total)
    return values[np.cumsum(counts + 1) - counts - 1 + spent], spent


def _entering(found: Extremes, values: FloatArray, *, high: bool) -> npt.NDArray[np.bool_]:
    """Queries without a labelled positive that make the end of the aggregate lower, or higher, if one of theirs is.

    The most extreme come first; each moves the aggregate as long as it lies beyond it, and from the first that does not
    no other does, for a mean and for a median alike.
    """
    scored, order = values[~np.isnan(found.labelled)], np.argsort(-values if high else values, kind="stable")
    order = order[np.isnan(found.labelled)[order] & ~np.isnan(values[order])]
    low, top = 0 if len(scored) else min(1, len(order)), len(order)
    while low < top:
        middle = (low + top) // 2
        now = aggregate(found.metric, np.append(scored, values[order[:middle]]))
        beyond = values[order[middle]] > now if high else values[order[middle]] < now
        low, top = (middle + 1, top) if beyond else (low, middle)
    enters = np.zeros(len(values), dtype=bool)
    enters[order[:low]] = True
    return enters


def _finding(result: LabelBounds) -> Finding:
    one = result.bounds[0]
    name = f"{result.direction}/labels/bounds" if result.direction else "labels/bounds"
    rank = METRICS[parse_metric(one.metric).name].lower_is_better
    unit: Unit = "" if rank else "points"
    if not np.isfinite(one.width):
        advice = f"No query has a labelled answer, so {one.metric} has no value and labels have nothing to move."
        return Finding(name, None, None, None, BOUNDS_SOURCE, "not measurable", advice, unit)
    limited = result.extra_positives is not None or result.in_total is not None or one.width == 0
    threshold = float(one.sampling_width) if np.isfinite(one.sampling_width) else None
    verdict: Verdict = "not measurable"
    if limited and threshold is not None:
        verdict = "look" if one.width > threshold else "ok"
    said = _said(result, one, rank) + _meaning(result, one, verdict, limited) + _caveats(result, one)
    return Finding(name, one.width, None, threshold, BOUNDS_SOURCE, verdict, said, unit)


def _shown(value: float, rank: bool) -> str:
    return f"{value:,.1f}" if rank else f"{100 * value:.1f} %"


def _said(result: LabelBounds, one: Bound, rank: bool) -> str:
    if one.width == 0:
        return f"No labelling of the {result.n_unjudged:,} unjudged pairs moves {one.metric} ({result.limit})."
    low, now, high = (_shown(value, rank) for value in (one.lowest, one.labelled, one.highest))
    return (
        f"If right answers are missing from the labels ({result.limit}), the labels alone leave {one.metric} anywhere "
        f"between {low} and {high}; as labelled it is {now}."
    )


def _meaning(result: LabelBounds, one: Bound, verdict: Verdict, limited: bool) -> str:
    if one.width == 0:
        return ""
    if verdict == "look":
        return " That is more than sampling leaves open: look at the candidates and judge a sample of them."
    if verdict == "ok":
        return " That is no more than sampling leaves open."
    if limited:
        return " With one cluster of queries there is no sampling interval to hold it against."
    lower = (
        " A missing label can only have made it look worse than it is"
        if parse_metric(one.metric).name in NEVER_FALLS
        else " Missing labels can flatter it as well"
    )
    return (
        f"{lower}. Without a limit the far end is nearly trivial and no verdict follows: state how many answers may be "
        "missing (extra_positives), or judge a sample."
    )


def _caveats(result: LabelBounds, one: Bound) -> str:
    words = f" {one.n_tied:,} queries have tied answers: there the bounds hold but may be wide." if one.n_tied else ""
    if result.n_unscored and result.unscored == "left out":
        words += f" {result.n_unscored:,} queries without a labelled answer are left out."
    return words
