"""Retrieval metrics from the ranks of the positives, one value per query, with ties counted.

A metric's name is a value: ``name[(param=value,...)]@k``. Every metric is given three times: its expected value when
items of equal score are in random order, and its worst and best value over all such orders. Everything is computed
from the tie groups that hold a positive, so the cost depends on the number of positives, never on the gallery.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import digamma

from workbench.types import FloatArray, IntArray, Ranks, Relevance

Triple = tuple[FloatArray, FloatArray, FloatArray]
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

    compute: Callable[[_Groups, IntArray, Metric], Triple]
    aggregator: Literal["mean", "median"]
    cutoff: Literal["required", "optional", "none", "positives"]
    sentence: str
    options: Mapping[str, tuple[str, ...]] = {}
    lower_is_better: bool = False


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
            f"cannot read the metric {text!r}; expected name[(param=value,...)]@k, such as AP(norm=min)@50"
        )
    k = None if match["k"] is None else int(match["k"])
    return Metric(match["name"], tuple((param, value) for param, value in pairs), k)


def _sums(owner: IntArray, values: npt.ArrayLike, n: int) -> FloatArray:
    return np.bincount(owner, np.asarray(values, np.float64), minlength=n).astype(np.float64)


class _Groups(NamedTuple):
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


def _tie_groups(ranks: Ranks) -> _Groups:
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
    return _Groups(
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


def _lead(g: _Groups) -> _Groups:
    """Only the first group of each query: the one that decides where the first positive is."""
    lead = g.before == 0
    return g._replace(
        query=g.query[lead], start=g.start[lead], size=g.size[lead], hits=g.hits[lead], before=g.before[lead]
    )


def _hit(groups: _Groups, k: IntArray, metric: Metric) -> Triple:
    g = _lead(groups)
    n = g.inside(k)
    some = np.where(g.hits == 1, n / g.size, 1 - _none_of(g.size, g.hits, n))
    return g.per(some), g.per(n > g.size - g.hits), g.per(n > 0)


def _first_rank(groups: _Groups, k: IntArray, metric: Metric) -> Triple:
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


def _reciprocal_rank(groups: _Groups, k: IntArray, metric: Metric) -> Triple:
    g = _lead(groups)
    n = g.inside(k)
    kinds, which = np.unique(np.stack([g.start, g.size, g.hits, n]), axis=1, return_inverse=True)
    expected = _mean_reciprocal(*kinds)[np.ravel(which)]
    late = g.size - g.hits + 1
    return g.per(expected), g.per((late <= n) / (g.start + late)), g.per((n > 0) / (g.start + 1))


def _found(g: _Groups, k: IntArray, metric: Metric) -> Triple:
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


def _average_precision(g: _Groups, k: IntArray, metric: Metric) -> Triple:
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


def _average_precision_by_hits(g: _Groups, k: IntArray) -> Triple:
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


def _ndcg(g: _Groups, k: IntArray, metric: Metric) -> Triple:
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


#: Every metric: name -> how it is computed, summarised over queries, cut, and said in one sentence.
METRICS: dict[str, Definition] = {
    "hit": Definition(
        _hit, "mean", "required", "share of queries with at least one positive {cut} (also printed as R@k or success@k)"
    ),
    "R": Definition(_found, "mean", "required", "mean fraction of a query's positives found {cut}"),
    "P": Definition(_found, "mean", "required", "mean fraction of the places {cut} that hold a positive"),
    "R-precision": Definition(
        _found, "mean", "positives", "mean fraction of a query's R positives found in the first R places"
    ),
    "AP": Definition(
        _average_precision, "mean", "optional",
        "mean over queries of the summed precisions at the positives {cut}, divided by {norm}",
        {"norm": ("all", "min", "hits")},
    ),
    "mAP@R": Definition(
        _average_precision, "mean", "positives",
        "mean over queries of the summed precisions at the positives in the first R places, divided by R, the number "
        "of the query's positives",
    ),
    "nDCG": Definition(
        _ndcg, "mean", "optional",
        "mean discounted gain {cut} relative to the ideal order of all positives, with {gain} and discount "
        "1/log2(place + 1)",
        {"gain": ("linear", "exp")},
    ),
    "MRR": Definition(_reciprocal_rank, "mean", "none", "mean of 1/rank of the first positive"),
    "RR": Definition(_reciprocal_rank, "mean", "required", "mean of 1/rank of the first positive, 0 if not {cut}"),
    "MedR": Definition(_first_rank, "median", "none", "median rank of the first positive, from 1", {}, True),
    "MeanR": Definition(_first_rank, "mean", "none", "mean rank of the first positive, from 1", {}, True),
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
    cut = "in the whole ranking" if metric.k is None else f"in the first {metric.k} places"
    return entry.sentence.format(cut=cut, **{param: _WORDS[metric.option(param)] for param in entry.options})


def _as_metric(metric: Metric | str) -> Metric:
    return metric if isinstance(metric, Metric) else parse_metric(metric)


def _check_depth(metric: Metric, ranks: Ranks, needed: IntArray, short_lists: str) -> None:
    """Refuse lists too short for the metric; "as is" scores what they miss as never found."""
    _check_choice(short_lists, ("refuse", "as is"), "value of short_lists")
    scored = ranks.positives_per_query > 0
    short = np.flatnonzero(scored & (ranks.depth < needed))
    full_only = METRICS[metric.name].lower_is_better
    if not len(short) or (short_lists == "as is" and not full_only):
        return
    depth, need = int(ranks.depth[short[0]]), int(needed[short[0]])
    what = f"the gallery of {depth} items" if depth == ranks.n_gallery else f"its list of {depth} items"
    advice = (
        "the rank of what was not retrieved is unknown, so give complete rankings or use RR@k"
        if full_only
        else "use a smaller cutoff, give longer lists, or score what is missing as never found with short_lists='as is'"
    )
    raise ValueError(
        f"{metric} needs {need} ranked items, more than {what} (query {short[0]}; {len(short)} of {int(scored.sum())} "
        f"queries with positives are this short); {advice}"
    )


def per_query(metric: Metric | str, ranks: Ranks, *, short_lists: ShortLists = "refuse") -> MetricValues:
    """One metric for every query, with its range over the orders of tied items.

    expected is the mean over uniformly random orders within groups of equal score, in closed form: hypergeometric for
    hit, reciprocal rank and first rank; F. McSherry & M. Najork, "Computing information retrieval performance measures
    efficiently in the presence of tied scores", ECIR 2008, https://doi.org/10.1007/978-3-540-78646-7_38, for AP and
    nDCG. A constant scorer therefore gets exactly chance.

    ranks : :class:`workbench.types.Ranks`. Returns three (n_queries,) float64 arrays, NaN for a query without
    positives. Values lie in 0..1, ranks in 1..n_gallery. A positive missing from a list contributes 0.
    short_lists : "refuse" a cutoff beyond the ranked items (and any list shorter than the gallery for a metric without
    cutoff), or take lists "as is" and score what they miss as never found, like trec_eval. MedR and MeanR always need
    complete rankings.

    >>> constant = ranks_from_scores(np.zeros((1, 4)), Relevance.from_pairs([0], [2], n_queries=1, n_gallery=4))
    >>> values = per_query("hit@1", constant)
    >>> values.expected, values.worst, values.best
    (array([0.25]), array([0.]), array([1.]))
    """
    metric = _as_metric(metric)
    positives = ranks.positives_per_query
    cutoff: npt.ArrayLike = ranks.n_gallery if metric.k is None else metric.k
    k = positives if METRICS[metric.name].cutoff == "positives" else np.full(ranks.n_queries, cutoff, dtype=np.int64)
    _check_depth(metric, ranks, k, short_lists)
    groups = _tie_groups(ranks)
    expected, worst, best = METRICS[metric.name].compute(groups, k, metric)
    tied = groups.per(groups.size > 1) > 0
    low, high = (np.maximum, np.minimum) if METRICS[metric.name].lower_is_better else (np.minimum, np.maximum)
    worst = np.where(tied, low(worst, expected), expected)
    best = np.where(tied, high(best, expected), expected)
    expected, worst, best = (np.where(positives > 0, values, np.nan) for values in (expected, worst, best))
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


def _check_list(items: IntArray, scores: FloatArray, query: int, n_gallery: int) -> None:
    where = f"the list of query {query}"
    if items.ndim != 1 or items.shape != scores.shape:
        raise ValueError(f"{where} has items {items.shape} and scores {scores.shape}; one score per item is needed")
    if np.isnan(scores).any():
        raise ValueError(f"{where} has {int(np.isnan(scores).sum())} scores that are NaN; a rank needs numbers")
    if len(items) and not (0 <= items.min() and items.max() < n_gallery):
        raise ValueError(f"{where} names items {items.min()}..{items.max()}, outside 0..{n_gallery - 1}")
    if len(np.unique(items)) != len(items):
        values, counts = np.unique(items, return_counts=True)
        raise ValueError(f"{where} holds item {values[counts > 1][0]} more than once; keep each item once")


def ranks_from_lists(lists: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]], relevance: Relevance) -> Ranks:
    """Ranks of the positives in result lists, which may be short.

    lists : for each query (items, scores), gallery indices and numbers of equal length, in any order; the score alone
    decides (higher is closer) and equal scores are ties, among the items of the list only. An empty list has depth 0.
    Errors: repeated item, item outside the gallery, NaN score, number of lists other than the number of queries.

    >>> relevance = Relevance.from_pairs([0, 0], [1, 3], n_queries=1, n_gallery=5)
    >>> ranks = ranks_from_lists([([4, 1, 2], [0.9, 0.5, 0.5])], relevance)
    >>> ranks.better, ranks.tied, ranks.depth
    (array([1, 5]), array([1, 0]), array([3]))
    """
    if len(lists) != relevance.n_queries:
        raise ValueError(
            f"{len(lists)} lists for {relevance.n_queries} queries; give an empty list where there is none"
        )
    positives, n_gallery = relevance.positives, relevance.n_gallery
    better = np.full(len(positives.items), n_gallery, dtype=np.int64)
    tied = np.zeros(len(positives.items), dtype=np.int64)
    depth = np.zeros(relevance.n_queries, dtype=np.int64)
    for query, (given, numbers) in enumerate(lists):
        items, scores = np.asarray(given, dtype=np.int64), np.asarray(numbers, dtype=np.float64)
        _check_list(items, scores, query, n_gallery)
        depth[query] = len(items)
        rows = np.arange(positives.indptr[query], positives.indptr[query + 1])
        _, places, found = np.intersect1d(items, positives.items[rows], assume_unique=True, return_indices=True)
        falling = np.sort(-scores)
        first = np.searchsorted(falling, -scores[places], "left")
        better[rows[found]] = first
        tied[rows[found]] = np.searchsorted(falling, -scores[places], "right") - first - 1
    return Ranks(positives.indptr, positives.items, positives.grades, better, tied, depth, n_gallery)


def ranks_from_scores(scores: npt.ArrayLike, relevance: Relevance) -> Ranks:
    """Ranks from a complete score matrix: for teaching and tests; a scan never needs the matrix.

    scores (n_queries, n_gallery), higher is closer. Errors: another shape, NaN.

    >>> relevance = Relevance.from_pairs([0, 1], [0, 2], n_queries=2, n_gallery=3)
    >>> ranks_from_scores([[0.1, 0.2, 0.3], [0.5, 0.5, 0.5]], relevance).better
    array([2, 0])
    """
    matrix = np.asarray(scores, dtype=np.float64)
    expected = (relevance.n_queries, relevance.n_gallery)
    if matrix.shape != expected:
        raise ValueError(f"scores must be (n_queries, n_gallery) = {expected}; got {matrix.shape}")
    return ranks_from_lists([(np.arange(expected[1]), row) for row in matrix], relevance)
