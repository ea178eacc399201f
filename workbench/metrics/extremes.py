"""The lowest and the highest value of a metric over all labellings of the unjudged, query by query, in closed form.

Exchange: with the number of positives fixed, a metric never falls when one of them moves up past a place that is not
positive. So for j extra positives the best labelling takes the j highest free places, the worst the j lowest, and only
j is left to choose: :func:`_upper` and :func:`_lower` name the few that can be best, and say why. (AP(norm=hits) breaks
the rule, but only across its cutoff: it is bounded on what lies within.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from workbench.metrics.labellings import MOVING, Flags, Places, places_of
from workbench.metrics.named import METRICS, Metric, ShortLists, parse_metric, per_query
from workbench.types import FloatArray, IntArray, Ranks, Relevance

#: Values nearer than this are one value, computed in another order.
SAME = 1e-13
#: Values of all courses together; a budget that needs more is refused.
MOST_VALUES = 50_000_000
NEVER_FALLS = ("hit", "P", "RR", "MRR", "MedR", "MeanR")


@dataclass(frozen=True, eq=False)
class Extremes:
    """One metric for every query over all labellings of its unjudged items: (n_queries,) each.

    labelled : the expected value as labelled, NaN for a query without positives. lowest, highest : smallest and largest
    number ("highest" is the worst where lower is better); for a query without positives those it would have if one or
    more of its unjudged items were right, NaN if none can be. lowest_extra, highest_extra : how many extra positives
    the extreme takes. sharp : no judged item of the query is tied, see :func:`extremes`.
    """

    metric: Metric
    labelled: FloatArray
    lowest: FloatArray
    highest: FloatArray
    lowest_extra: IntArray
    highest_extra: IntArray
    sharp: Flags


class Course(NamedTuple):
    """An end of every query by the number of extra positives it may use: 0, 1, ... up to ``counts[q]``.

    values : flat, ``counts[q] + 1`` for query q; the first is the value as labelled.
    """

    values: FloatArray
    counts: IntArray


def judged_wrong(relevance: Relevance) -> Relevance:
    """The pairs judged *not* relevant, as a relevance of their own: its ranks say where those items are.

    >>> judged_wrong(Relevance.from_pairs([0, 0], [1, 3], [1, 0], n_queries=1, n_gallery=5)).items
    array([3])
    """
    keep, sizes = relevance.grades <= 0, {"n_queries": relevance.n_queries, "n_gallery": relevance.n_gallery}
    return Relevance.from_pairs(relevance.queries[keep], relevance.items[keep], **sizes)


def extremes(
    metric: Metric | str,
    ranks: Ranks,
    *,
    extra_positives: int | None = None,
    wrong: Ranks | None = None,
    short_lists: ShortLists = "refuse",
) -> Extremes:
    """The sharp bounds of a metric when any of the unjudged items may be right.

        lowest, highest = min, max of metric(labelled + extra) over sets of unjudged items, |extra| <= extra_positives

    ranks : :class:`workbench.types.Ranks` of the labelled positives; what nobody judged may be right.
    extra_positives : the most that may be missing per query; None: any number.
    wrong : ranks of the items *judged not relevant* (:func:`judged_wrong`); they stay wrong.
    short_lists : as for :func:`workbench.metrics.per_query`; unjudged items that a list lacks may be right as well.
    Ties: in a ranking without ties both ends are attained, by a labelling that can be named. With ties they hold over
    all labellings *and* orders of tied items: the expected value under any labelling lies inside, but none need attain
    them. Without extra positives both are the expected value. AP(norm=hits) gets 0 and 1 where a judged item is tied
    across the cutoff.
    Errors: as for per_query; a negative number; nDCG with unequal grades, as that of an extra positive would be a
    guess; ``wrong`` of another shape or at odds with ``ranks``.
    Cost: about 50 evaluations of each query's judged items; with ``wrong`` up to their number squared.

    >>> from workbench.metrics import ranks_from_scores
    >>> labels = Relevance.from_pairs([0], [0], n_queries=1, n_gallery=4)
    >>> found = extremes("AP", ranks_from_scores([[4.0, 3.0, 2.0, 1.0]], labels), extra_positives=1)
    >>> found.lowest, found.lowest_extra  # one more in place 4: (1/1 + 2/4) / 2
    (array([0.75]), array([1]))
    """
    metric = parse_metric(metric) if isinstance(metric, str) else metric
    if extra_positives is not None and (isinstance(extra_positives, bool) or extra_positives < 0):
        raise ValueError(f"extra_positives must be a whole number >= 0, or None for any number; got {extra_positives}")
    _check_grades(metric, ranks)
    labelled = per_query(metric, ranks, short_lists=short_lists).expected
    best, worst = (places_of(metric, ranks, wrong, up=up) for up in (True, False))
    allowed = best.unjudged if extra_positives is None else np.minimum(best.unjudged, extra_positives)
    falls = METRICS[metric.name].lower_is_better
    up = _end(best, _upper(best, np.minimum(allowed, best.free)), labelled, sign=-1 if falls else 1)
    down = _end(worst, _lower(worst, np.minimum(allowed, worst.free)), labelled, sign=1 if falls else -1)
    (lowest, fewest), (highest, most) = (up, down) if falls else (down, up)
    if metric.params == (("norm", "hits"),):
        behind = np.isnan(labelled) & (allowed > 0) & (best.unjudged > best.free)
        lowest, highest = np.where(behind, 0.0, lowest), np.where(behind, np.fmax(highest, 0.0), highest)
        unknown = best.across & (allowed > 0)
        lowest, highest = np.where(unknown, 0.0, lowest), np.where(unknown, 1.0, highest)
        fewest, most = (np.where(behind | unknown, np.maximum(count, 1), count) for count in (fewest, most))
    return Extremes(metric, labelled, lowest, highest, fewest, most, ~best.tied)


def course(found: Extremes, ranks: Ranks, limit: int, *, high: bool, wrong: Ranks | None = None) -> Course:
    """How far one end of ``found = extremes(...)`` moves with each extra positive, up to ``limit`` per query.

    A course stops where the end is reached. Queries without positives have one value, NaN. ranks and wrong as they were
    for ``found``. Cost: the sum of the counts x judged items; an error where the sum is above 5e7 (2 GB).

    >>> from workbench.metrics import ranks_from_scores
    >>> labels = Relevance.from_pairs([0], [2], n_queries=1, n_gallery=4)
    >>> ranks = ranks_from_scores([[4.0, 3.0, 2.0, 1.0]], labels)
    >>> course(extremes("P@2", ranks), ranks, 9, high=True).values
    array([0. , 0.5, 1. ])
    """
    end, used = (found.highest, found.highest_extra) if high else (found.lowest, found.lowest_extra)
    counts = np.where(np.isnan(found.labelled), 0, np.minimum(used, limit))
    if counts.sum() > MOST_VALUES:
        raise ValueError(
            f"a budget of {limit:,} in all takes {counts.sum():,} values of {found.metric}, too many to hold; lower "
            "it, or bound the extra positives of each query instead"
        )
    places = places_of(found.metric, ranks, wrong, up=high != METRICS[found.metric.name].lower_is_better)
    rows, first = np.repeat(np.arange(len(counts)), counts), np.cumsum(counts) - counts
    values = np.insert(places.value(rows, np.arange(len(rows)) - first[rows] + 1), first, found.labelled)
    last = np.cumsum(counts + 1) - 1
    reached = (counts > 0) & (counts == used)
    values[last[reached]] = end[reached]
    for query in np.flatnonzero(counts):
        part = slice(last[query] - counts[query], last[query] + 1)
        values[part] = (np.maximum if high else np.minimum).accumulate(values[part])
    return Course(values, counts)


def _check_grades(metric: Metric, ranks: Ranks) -> None:
    if metric.name == "nDCG" and len(ranks.grades) and np.ptp(ranks.grades):
        raise ValueError(
            f"{metric} has no bounds with unequal grades ({ranks.grades.min():g} to {ranks.grades.max():g}), as the "
            "grade of an unjudged item is unknown; give every positive the same grade, or leave nDCG out"
        )


Candidates = tuple[IntArray, IntArray]


def _end(places: Places, candidates: Candidates, labelled: FloatArray, *, sign: int) -> tuple[FloatArray, IntArray]:
    """The largest sign x value among some (query, number of extra positives) and the value as labelled."""
    rows, extra = candidates
    values = places.value(rows, extra)
    order = np.lexsort((extra, -np.round(sign * values, 13), rows))
    rows, first = np.unique(rows[order], return_index=True)
    values, extra = values[order][first], extra[order][first]
    found, used = labelled.copy(), np.zeros(len(labelled), np.int64)
    moved = ~(sign * values <= sign * labelled[rows] + SAME)
    found[rows[moved]], used[rows[moved]] = values[moved], extra[moved]
    return found, used


def _pairs(most: IntArray, *counts: npt.ArrayLike, rows: IntArray | None = None, extra: IntArray | None = None
           ) -> Candidates:  # fmt: skip
    """(query, extra) from counts per query, and from ``extra`` of some ``rows``; cut to 1..most, each once."""
    every = np.arange(len(most))
    given = [np.broadcast_to(np.asarray(count, np.int64), most.shape) for count in counts]
    rows = np.concatenate([every] * len(given) + ([] if rows is None else [rows]))
    extra = np.concatenate(given + ([] if extra is None else [extra]))
    extra = np.minimum(extra, most[rows])
    wide = int(most.max(initial=0)) + 1
    rows, extra = np.divmod(np.unique((rows * wide + extra)[extra > 0]), wide)
    return rows, extra


def _upper(places: Places, most: IntArray) -> Candidates:
    """The numbers of extra positives, in the highest free places, that can give the best value.

    R, P, hit, RR, ranks : each extra within the cutoff adds one above and at most one below the line, those behind it
        add nothing above. So as many as fit; for hit, RR and ranks the first decides.
    AP, nDCG : the extra at place p adds its precision and 1/q for each positive behind it within the cutoff (or the
        discount of p) above, and at most one (or the discount of place R + j + 1) below. With nothing judged wrong all
        places up to p are then positive, so that what it adds above is no less than below: as many as fit. Otherwise
        the ratio of the two rises along a run of free places, where the value can only fall and then rise, or rise: the
        ends of the runs decide. mINP : (R + j) / last place, likewise.
    R-precision, mAP@R : one more positive moves the cutoff N to N + 1. An extra that lands within adds, for mAP@R,
        1/q for every positive q behind it and its own precision, together at least (sum + 1) / N: the value rises. It
        does so too when place N + 1 is positive, and falls only when that place is judged wrong or was not ranked.
    """
    every = np.arange(len(most))
    fit = places.free_within(places.cut(every, np.full(len(most), places.n_gallery)))
    bad = ~places.positive
    if places.metric.name in MOVING:
        before_wrong = places.place[bad] - 1 - places.positives[places.row[bad]]
        return _pairs(most, 1, most, fit, places.depth - places.positives, rows=places.row[bad], extra=before_wrong)
    if places.metric.name in ("AP", "nDCG", "mINP") and bad.any():
        return _pairs(most, 1, most, fit, rows=places.row, extra=places.ahead)
    return _pairs(most, 1, fit)


def _lower(places: Places, most: IntArray) -> Candidates:
    """The numbers of extra positives, in the lowest free places, that can give the worst value.

    hit, P, RR, ranks : an extra positive never hurts. R : behind the cutoff each divides, within it each adds one above
        and one below: all that fit behind. mINP : (R + j) / last place is smallest for j = 1.
    AP, nDCG : a valley, see :func:`_valley`.
    R-precision, mAP@R : as long as the extras lie behind the cutoff N = R + j, the value falls with j, except when
        place N + 1 is labelled; from then on it rises, by the argument of :func:`_upper`.
    """
    name, every = places.metric.name, np.arange(len(most))
    if name in NEVER_FALLS:
        return _pairs(np.where(places.positives > 0, 0, most), 1)
    if name == "R":
        behind = places.free - places.free_within(places.cut(every, places.positives))
        return _pairs(most, 1, behind)
    if name in MOVING:
        good = places.positive
        before_label = places.place[good] - 1 - places.positives[places.row[good]]
        return _pairs(most, 1, most, _touching(places, most) - 1, rows=places.row[good], extra=before_label)
    return _pairs(most, 1) if name == "mINP" else _pairs(most, 1, _valley(places, most))


def _first(holds: Callable[[IntArray], Flags], low: IntArray, high: IntArray) -> IntArray:
    """The first number in low..high from which a condition holds, by bisection; ``high`` if it does nowhere."""
    while (low < high).any():
        middle = (low + high) // 2
        yes = holds(middle)
        low, high = np.where((low < high) & ~yes, middle + 1, low), np.where((low < high) & yes, middle, high)
    return low


def _touching(places: Places, most: IntArray) -> IntArray:
    """How many extra positives at the bottom it takes until one lies within the moving cutoff."""
    every = np.arange(len(most))

    def within(extra: IntArray) -> Flags:
        top = places.free_place(np.maximum(places.free - extra + 1, 1))
        return np.asarray(top <= places.cut(every, places.positives + extra))

    return _first(within, np.minimum(1, most), most + 1)


def _valley(places: Places, most: IntArray) -> IntArray:
    """Where AP or nDCG is lowest by the number of extra positives at the bottom: it falls, then rises.

    Value = A/B, and the next extra, at place p, adds a to A and b to B. b never grows. a never shrinks: the discount
    of p does not as p moves up, and for AP a = c/p + sum of 1/q over the positives q > p within the cutoff, with c - 1
    labelled ones ahead of p; moving up to p' past g labelled places changes it by (c - g)/p' - c/p + 1/p + the sum of
    1/q over the g, at least (c - g)(1/p' - 1/p) + 1/p > 0. So a/b never falls, and once a/b >= A/B, A/B rises for good,
    as a mediant does.
    """
    rows = np.flatnonzero(most > 0)
    found, limit = np.zeros(len(most), np.int64), most[rows]
    found[rows] = _first(
        lambda extra: places.value(rows, np.minimum(extra + 1, limit)) >= places.value(rows, extra),
        np.ones(len(rows), np.int64), limit,
    )  # fmt: skip
    return found
