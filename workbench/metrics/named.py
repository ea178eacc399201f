"""Metrics by name: what each name means, and its value for every query."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from workbench.metrics import kernels
from workbench.types import FloatArray, IntArray, Ranks

ShortLists = Literal["refuse", "as is"]


@dataclass(frozen=True)
class Metric:
    """The name of a metric as a value: printed form, parsed form, column name and key are the same string.

    name : a key of :data:`METRICS`. params : (name, value) pairs; defaults are dropped, so equal metrics compare equal.
    k : the cutoff, >= 1, or None. Errors: unknown name or parameter, cutoff missing where needed or given where not.

    >>> str(Metric("AP", (("norm", "min"),), 50)), Metric("AP", (("norm", "all"),), 50) == parse_metric("AP@50")
    ('AP(norm=min)@50', True)
    """

    name: str
    params: tuple[tuple[str, str], ...] = ()
    k: int | None = None

    def __post_init__(self) -> None:
        entry = _lookup(self.name)
        given = dict(self.params)
        if len(given) != len(self.params):
            raise ValueError(f"a parameter of {self.name} is given twice: {self.params}")
        for param, value in given.items():
            _check_choice(param, tuple(entry.options), f"parameter of {self.name}")
            _check_choice(value, entry.options[param], f"value of {param} in {self.name}")
        kept = tuple(sorted((p, v) for p, v in given.items() if v != entry.options[p][0]))
        object.__setattr__(self, "params", kept)
        _check_cutoff(self, entry)

    def __str__(self) -> str:
        inside = ",".join(f"{param}={value}" for param, value in self.params)
        return self.name + (f"({inside})" if inside else "") + ("" if self.k is None else f"@{self.k}")

    def option(self, param: str) -> str:
        """The value of a parameter, its default when it was not given."""
        return dict(self.params).get(param, _lookup(self.name).options[param][0])


class Definition(NamedTuple):
    """One line of :data:`METRICS`: how a metric is computed, summarised and explained."""

    compute: Callable[[kernels.Groups, IntArray, Metric], kernels.Triple]
    aggregator: Literal["mean", "median"]
    cutoff: Literal["required", "optional", "none", "positives"]
    sentence: str
    options: Mapping[str, tuple[str, ...]] = {}
    lower_is_better: bool = False
    complete: bool = False


@dataclass(frozen=True, eq=False)
class MetricValues:
    """One metric for every query: (n_queries,) float64 each; NaN for a query without positives.

    expected : mean over random orders of tied items; worst, best : the extremes over those orders ("worst" is the
    larger number where lower is better). All three agree for a query none of whose positives is tied.
    """

    metric: Metric
    expected: FloatArray
    worst: FloatArray
    best: FloatArray
    n_scored: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_scored", int(np.isfinite(self.expected).sum()))

    @property
    def n_missing(self) -> int:
        """Queries without positives: they have no value and are left out of every aggregate."""
        return len(self.expected) - self.n_scored


def _lookup(name: str) -> Definition:
    _check_choice(name, tuple(METRICS), "metric")
    return METRICS[name]


def _check_choice(given: str, allowed: Sequence[str], what: str) -> None:
    if given in allowed:
        return
    lowered = {choice.lower(): choice for choice in allowed}
    near = difflib.get_close_matches(given.lower(), lowered, n=1, cutoff=0.5)
    hint = f"did you mean {lowered[near[0]]!r}? " if near else ""
    raise ValueError(f"unknown {what} {given!r}; {hint}allowed: {', '.join(allowed) or 'none'}")


def _check_cutoff(metric: Metric, entry: Definition) -> None:
    name, k = metric.name, metric.k
    instead = {"MRR": f"; use RR@{k}", "RR": "; without a cutoff it is called MRR"}.get(name, "")
    if k is None:
        if entry.cutoff == "required":
            raise ValueError(f"{name} needs a cutoff, such as {name}@10{instead}")
        if metric.params == (("norm", "min"),):
            raise ValueError("AP(norm=min) needs a cutoff, such as AP(norm=min)@50; without one it equals AP")
        return
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(f"the cutoff of {name} must be a whole number >= 1; got {k!r}")
    if entry.cutoff not in ("required", "optional"):
        raise ValueError(f"{name} takes no cutoff, but @{k} was given{instead}")


def parse_metric(text: str) -> Metric:
    """A metric from its name, the inverse of ``str``: ``name[(param=value,...)]@k``.

    Errors: wrong grammar, unknown name (with the nearest one), unknown parameter, missing or superfluous cutoff.

    >>> parse_metric("nDCG(gain=exp)@10")
    Metric(name='nDCG', params=(('gain', 'exp'),), k=10)
    """
    if text in METRICS:
        return Metric(text)
    match = re.fullmatch(r"(?P<name>[A-Za-z-]+)(?:\((?P<params>[^()]+)\))?(?:@(?P<k>-?\d+))?", text)
    pairs = [pair.split("=") for pair in (match["params"] or "").split(",") if pair] if match else []
    if match is None or any(len(pair) != 2 for pair in pairs):
        raise ValueError(
            f"cannot read the metric {text!r}; expected name[(param=value,...)]@k, such as hit@10 or AP(norm=min)@50"
        )
    k = None if match["k"] is None else int(match["k"])
    return Metric(match["name"], tuple((param, value) for param, value in pairs), k)


#: Every metric: name -> how it is computed, summarised over queries, cut, and said in one sentence.
METRICS: dict[str, Definition] = {
    "hit": Definition(
        kernels.hit, "mean", "required",
        "share of queries with at least one positive {cut} (also printed as R@k or success@k)",
    ),
    "R": Definition(kernels.found, "mean", "required", "mean fraction of a query's positives found {cut}"),
    "P": Definition(kernels.found, "mean", "required", "mean fraction of the places {cut} that hold a positive"),
    "R-precision": Definition(
        kernels.found, "mean", "positives", "mean fraction of a query's R positives found in the first R places"
    ),
    "AP": Definition(
        kernels.average_precision, "mean", "optional",
        "mean over queries of the summed precisions at the positives {cut}, divided by {norm}",
        {"norm": ("all", "min", "hits")},
    ),
    "mAP@R": Definition(
        kernels.average_precision, "mean", "positives",
        "mean over queries of the summed precisions at the positives in the first R places, divided by R, the number "
        "of the query's positives",
    ),
    "nDCG": Definition(
        kernels.ndcg, "mean", "optional",
        "mean discounted gain {cut} relative to the ideal order of all positives, with {gain} and discount "
        "1/log2(place + 1)",
        {"gain": ("linear", "exp")},
    ),
    "MRR": Definition(kernels.reciprocal_rank, "mean", "none", "mean of 1/rank of the first positive"),
    "RR": Definition(
        kernels.reciprocal_rank, "mean", "required", "mean of 1/rank of the first positive, 0 if none {cut}"
    ),
    "MedR": Definition(
        kernels.first_rank, "median", "none", "median rank of the first positive, from 1",
        lower_is_better=True, complete=True,
    ),
    "MeanR": Definition(
        kernels.first_rank, "mean", "none", "mean rank of the first positive, from 1",
        lower_is_better=True, complete=True,
    ),
    "mINP": Definition(
        kernels.inverse_negative_penalty, "mean", "none",
        "mean over queries of the number of positives divided by the rank of the last one (mean inverse negative "
        "penalty)",
        complete=True,
    ),
}  # fmt: skip

_WORDS = {
    "all": "the number of all its positives (as trec_eval does)",
    "min": "the smaller of its positives and the cutoff",
    "hits": "the number of positives found (as torchmetrics does)",
    "linear": "the grade as gain",
    "exp": "gain 2^grade - 1",
}


def definition(metric: Metric | str) -> str:
    """What the metric measures, in one sentence for the protocol card.

    >>> definition("R@10")
    "mean fraction of a query's positives found in the first 10 places"
    """
    metric = _as_metric(metric)
    entry = METRICS[metric.name]
    places = "place" if metric.k == 1 else f"{metric.k} places"
    cut = "in the whole ranking" if metric.k is None else f"in the first {places}"
    return entry.sentence.format(cut=cut, **{param: _WORDS[metric.option(param)] for param in entry.options})


def _as_metric(metric: Metric | str) -> Metric:
    return metric if isinstance(metric, Metric) else parse_metric(metric)


def _check_depth(metric: Metric, ranks: Ranks, needed: IntArray, short_lists: str) -> None:
    """Refuse lists too short for the metric; "as is" scores what they miss as never found."""
    _check_choice(short_lists, ("refuse", "as is"), "value of short_lists")
    scored = ranks.positives_per_query > 0
    short = np.flatnonzero(scored & (ranks.depth < needed))
    complete = METRICS[metric.name].complete
    if not len(short) or (short_lists == "as is" and not complete):
        return
    depth, need = int(ranks.depth[short[0]]), int(needed[short[0]])
    what = f"the gallery of {depth} items" if depth == ranks.n_gallery else f"its list of {depth} items"
    advice = (
        "the rank of what was not retrieved is unknown, so give complete rankings or use "
        + ("AP@k" if metric.name == "mINP" else "RR@k")
        if complete
        else "use a smaller cutoff, give longer lists, or score what is missing as never found with short_lists='as is'"
    )
    raise ValueError(
        f"{metric} needs {need} ranked items, more than {what} (query {short[0]}; {len(short)} of {int(scored.sum())} "
        f"queries with positives are this short); {advice}"
    )


def per_query(metric: Metric | str, ranks: Ranks, *, short_lists: ShortLists = "refuse") -> MetricValues:
    """One metric for every query, with its range over the orders of tied items.

    expected is the mean over uniformly random orders within groups of equal score, in closed form: hypergeometric for
    hit, reciprocal rank, first and last rank; F. McSherry & M. Najork, "Computing information retrieval performance
    measures efficiently in the presence of tied scores", ECIR 2008, https://doi.org/10.1007/978-3-540-78646-7_38, for
    AP and nDCG. A constant scorer therefore gets exactly chance.

    ranks : :class:`workbench.types.Ranks`. Returns three (n_queries,) float64 arrays, NaN for a query without
    positives. Values lie in 0..1, ranks in 1..n_gallery. A positive missing from a list contributes 0.
    short_lists : "refuse" a cutoff beyond the ranked items (and any list shorter than the gallery for a metric without
    cutoff), or take lists "as is" and score what they miss as never found, like trec_eval. MedR, MeanR and mINP always
    need complete rankings.

    >>> from workbench.types import Relevance
    >>> from workbench.metrics import ranks_from_scores
    >>> constant = ranks_from_scores(np.zeros((1, 4)), Relevance.from_pairs([0], [2], n_queries=1, n_gallery=4))
    >>> values = per_query("hit@1", constant)
    >>> values.expected, values.worst, values.best
    (array([0.25]), array([0.]), array([1.]))
    """
    (values,) = per_query_all([metric], ranks, short_lists=short_lists).values()
    return values


def per_query_all(
    metrics: Sequence[Metric | str], ranks: Ranks, *, short_lists: ShortLists = "refuse"
) -> dict[str, MetricValues]:
    """Several metrics for every query: the values of :func:`per_query` by name, with the tie groups found once.

    Errors: as :func:`per_query`, for the first metric that cannot be computed.

    >>> from workbench.types import Relevance
    >>> from workbench.metrics import ranks_from_scores
    >>> ranks = ranks_from_scores([[0.3, 0.2, 0.1]], Relevance.from_pairs([0], [1], n_queries=1, n_gallery=3))
    >>> {name: float(values.expected[0]) for name, values in per_query_all(["hit@1", "MRR"], ranks).items()}
    {'hit@1': 0.0, 'MRR': 0.5}
    """
    found = {}
    groups = kernels.tie_groups(ranks)
    tied = groups.per(groups.size > 1) > 0
    for metric in map(_as_metric, metrics):
        cutoff = ranks.n_gallery if metric.k is None else metric.k
        by_positives = METRICS[metric.name].cutoff == "positives"
        k = groups.positives if by_positives else np.full(ranks.n_queries, cutoff, dtype=np.int64)
        _check_depth(metric, ranks, k, short_lists)
        found[str(metric)] = _values(metric, groups, k, tied)
    return found


def _values(metric: Metric, groups: kernels.Groups, k: IntArray, tied: npt.NDArray[np.bool_]) -> MetricValues:
    entry = METRICS[metric.name]
    expected, worst, best = entry.compute(groups, k, metric)
    expected = np.where(groups.positives > 0, expected, np.nan)
    low, high = (np.maximum, np.minimum) if entry.lower_is_better else (np.minimum, np.maximum)
    # Rounding may leave the expected value a last bit outside the range.
    worst = np.where(tied, low(worst, expected), expected)
    best = np.where(tied, high(best, expected), expected)
    return MetricValues(metric, expected, worst, best)


def aggregate(metric: Metric | str, values: npt.ArrayLike) -> float:
    """The number that is printed for a metric: the mean of its per-query values, the median for MedR.

    values (n_queries,): NaN (a query without positives) is left out; NaN when nothing is left.

    >>> aggregate("hit@1", [1.0, 0.0, np.nan]), aggregate("MedR", [1.0, 2.0, 90.0])
    (0.5, 2.0)
    """
    scored = np.asarray(values, dtype=np.float64)
    scored = scored[~np.isnan(scored)]
    if not len(scored):
        return float("nan")
    return float(np.median(scored) if METRICS[_as_metric(metric).name].aggregator == "median" else scored.mean())
