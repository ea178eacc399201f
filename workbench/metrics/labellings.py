"""Labellings that give the highest, or the lowest, free places of a ranking to extra positives, and what they score.

A labelling is held as blocks of neighbouring positives, so that a value costs the judged items of its query, never the
gallery. :mod:`workbench.metrics.extremes` chooses how many extra positives there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from workbench.metrics.kernels import _harmonic
from workbench.metrics.named import Metric
from workbench.types import FloatArray, IntArray, Ranks

Flags = npt.NDArray[np.bool_]
CHUNK = 1_000_000
#: Metrics whose cutoff is the number of positives, extra ones included.
MOVING = ("R-precision", "mAP@R")


class Blocks(NamedTuple):
    """Labellings as runs of neighbouring positives, some empty.

    Per block: labelling, start (places ahead), hits (its length), before (positives ahead), inside (how many of its
    places count). Per labelling: positives.
    """

    labelling: IntArray
    start: IntArray
    hits: IntArray
    before: IntArray
    inside: IntArray
    positives: IntArray

    def per(self, values: npt.ArrayLike) -> FloatArray:
        """Sum over the blocks of each labelling."""
        sums = np.bincount(self.labelling, np.asarray(values, np.float64), minlength=len(self.positives))
        return sums.astype(np.float64)


@dataclass(frozen=True, eq=False)
class Places:
    """The judged places of every query, in the order of ties that is best (up) or worst for labelled positives.

    row, place (from 1, ascending within a row), positive (or judged wrong) : per judged item. Per query: size (places
    there are), depth (places that were ranked: behind them nothing is found), positives (as labelled), unjudged, tied
    (some judged item is), across (one is, across the cutoff of AP(norm=hits)).
    """

    metric: Metric
    up: bool
    row: IntArray
    place: IntArray
    positive: Flags
    size: IntArray
    depth: IntArray
    positives: IntArray
    unjudged: IntArray
    tied: Flags
    across: Flags
    n_gallery: int

    @cached_property
    def indptr(self) -> IntArray:
        return np.searchsorted(self.row, np.arange(len(self.size) + 1))

    @cached_property
    def ahead(self) -> IntArray:
        """Free places ahead of each judged one."""
        return np.asarray(self.place - 1 - (np.arange(len(self.place)) - self.indptr[self.row]))

    @property
    def free(self) -> IntArray:
        return np.asarray(self.size - np.diff(self.indptr))

    def cut(self, rows: IntArray, positives: IntArray) -> IntArray:
        """How many places count, for some queries with that many positives."""
        k = self.n_gallery if self.metric.k is None else self.metric.k
        return np.minimum(positives if self.metric.name in MOVING else k, self.depth[rows])

    def free_within(self, cut: IntArray) -> IntArray:
        """Free places of each query among its first ``cut``."""
        return np.asarray(cut - np.bincount(self.row[self.place <= cut[self.row]], minlength=len(cut)))

    def free_place(self, number: IntArray) -> IntArray:
        """Where the ``number``-th free place (from 1) of each query is."""
        rows, wide = np.arange(len(self.size)), self.n_gallery + 2
        ahead = np.searchsorted(self.row * wide + self.ahead, rows * wide + number) - self.indptr[:-1]
        return np.asarray(number + ahead)

    @cached_property
    def pieces(self) -> tuple[IntArray, IntArray, IntArray, IntArray, IntArray]:
        """indptr, start, length, free places ahead, kind of the free runs (-1) and judged places (0, 1), in order."""
        at, indptr = 2 * np.arange(len(self.place)) + 1 + self.row, 2 * self.indptr + np.arange(len(self.size) + 1)
        start, ahead, kind = np.zeros(indptr[-1], np.int64), np.zeros(indptr[-1], np.int64), np.full(indptr[-1], -1)
        start[at], start[at + 1], kind[at] = self.place - 1, self.place, self.positive
        ahead[at + 1] = self.ahead
        end = np.append(start[1:], 0)
        end[indptr[1:] - 1] = self.size
        return indptr, start, end - start, ahead, kind

    def value(self, rows: IntArray, extra: IntArray) -> FloatArray:
        """The metric of some queries, each with that many extra positives in its highest (up) or lowest places."""
        cost = np.cumsum(np.diff(self.pieces[0])[rows])
        steps = np.arange(CHUNK, int(cost[-1]) if len(cost) else 0, CHUNK)
        edges = np.unique([0, *np.searchsorted(cost, steps), len(rows)])
        parts = [self._value(rows[a:b], extra[a:b]) for a, b in pairwise(edges)]
        return np.concatenate([np.empty(0), *parts])

    def _value(self, rows: IntArray, extra: IntArray) -> FloatArray:
        indptr, *columns = self.pieces
        counts = np.diff(indptr)[rows]
        first = np.cumsum(counts) - counts
        labelling = np.repeat(np.arange(len(rows)), counts)
        source = np.arange(len(labelling)) + (indptr[rows] - first)[labelling]
        start, length, ahead, kind = (column[source] for column in columns)
        upper = np.clip((extra if self.up else self.free[rows] - extra)[labelling] - ahead, 0, length)
        hits = np.where(kind >= 0, kind, upper if self.up else length - upper)
        start = start if self.up else start + np.where(kind >= 0, 0, upper)
        before = np.cumsum(hits) - hits
        before -= before[first][labelling]
        positives = self.positives[rows] + extra
        inside = np.clip(self.cut(rows, positives)[labelling] - start, 0, hits)
        return FORMULAS[self.metric.name](Blocks(labelling, start, hits, before, inside, positives), self.metric)


def places_of(metric: Metric, ranks: Ranks, wrong: Ranks | None, *, up: bool) -> Places:
    """Places from the ranks of the labelled and of the judged wrong. What a list lacks lies behind it, in any order."""
    if wrong is not None and (wrong.n_queries, wrong.n_gallery) != (ranks.n_queries, ranks.n_gallery):
        raise ValueError(
            f"wrong holds {wrong.n_queries} queries over {wrong.n_gallery} items and ranks {ranks.n_queries} over "
            f"{ranks.n_gallery}; both must come from one search"
        )
    sides, n, n_queries = [ranks] if wrong is None else [ranks, wrong], ranks.n_gallery, ranks.n_queries
    row, better, tied = (np.concatenate([getattr(side, name) for side in sides])
                         for name in ("queries", "better", "tied"))  # fmt: skip
    positive, missing = np.arange(len(row)) < len(ranks.items), better >= n
    depth = np.minimum(ranks.depth, n - np.bincount(row[missing], minlength=n_queries))
    start, length = np.where(missing, depth[row], better), np.where(missing, (n - depth)[row], tied + 1)
    order = np.lexsort((positive != up, start, row))
    row, start, length, positive = row[order], start[order], length[order], positive[order]
    place = _in_groups(row, start, length, positive == up)
    size, across = np.full(n_queries, n), np.zeros(n_queries, bool)
    unjudged, some_tied = n - np.bincount(row, minlength=n_queries), np.zeros(n_queries, bool)
    some_tied[row[(length > 1) & ~missing[order]]] = True
    if metric.params == (("norm", "hits"),):
        size = np.minimum(depth, n if metric.k is None else metric.k)
        end = size[row]
        across[row[(start < end) & (start + length > end)]] = True
        row, place, positive = (part[place <= end] for part in (row, place, positive))
    return Places(
        metric, up, row, place, positive, size, depth, ranks.positives_per_query, unjudged, some_tied, across, n
    )


def _in_groups(row: IntArray, start: IntArray, length: IntArray, first: Flags) -> IntArray:
    """A place for every judged item: within each tie group ``first`` ones at its top, the others at its bottom."""
    if not len(row):
        return np.empty(0, np.int64)
    opens = np.flatnonzero(np.append(True, (row[1:] != row[:-1]) | (start[1:] != start[:-1])))
    many = np.diff(np.append(opens, len(row)))
    group = np.repeat(np.arange(len(opens)), many)
    if (many[group] > length).any():
        raise ValueError("these ranks contradict themselves: more judged items share a score than items do")
    number = np.arange(len(row)) - opens[group]
    return np.asarray(start + np.where(first, number, length - many[group] + number) + 1)


def _within(b: Blocks, metric: Metric) -> FloatArray:
    return b.per(b.inside) / b.positives


def _precision(b: Blocks, metric: Metric) -> FloatArray:
    return b.per(b.inside) / (metric.k or 1)


def _hit(b: Blocks, metric: Metric) -> FloatArray:
    return (b.per(b.inside) > 0).astype(np.float64)


def _reciprocal(b: Blocks, metric: Metric) -> FloatArray:
    return b.per(((b.before == 0) & (b.inside > 0)) / (b.start + 1))


def _first_rank(b: Blocks, metric: Metric) -> FloatArray:
    return b.per(((b.before == 0) & (b.hits > 0)) * (b.start + 1))


def _last_rank(b: Blocks, metric: Metric) -> FloatArray:
    final = (b.before + b.hits == b.positives[b.labelling]) & (b.hits > 0)
    return b.per(final * (b.before + b.hits) / np.maximum(b.start + b.hits, 1))


def _average_precision(b: Blocks, metric: Metric) -> FloatArray:
    norm = metric.option("norm") if metric.name == "AP" else "all"
    below = b.per(b.inside) if norm == "hits" else b.positives
    if norm == "min" and metric.k is not None:
        below = np.minimum(below, metric.k)
    return b.per(b.inside + (b.before - b.start) * _harmonic(b.start, b.inside)) / np.maximum(below, 1)


def _discounted(b: Blocks, metric: Metric) -> FloatArray:
    deepest = int(max((b.start + b.hits).max(initial=0), b.positives.max(initial=0)))
    table = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, deepest + 2)))])
    ideal: FloatArray = table[b.positives if metric.k is None else np.minimum(b.positives, metric.k)]
    return b.per(table[b.start + b.inside] - table[b.start]) / ideal


FORMULAS: dict[str, Callable[[Blocks, Metric], FloatArray]] = {
    "hit": _hit, "R": _within, "P": _precision, "R-precision": _within, "AP": _average_precision,
    "mAP@R": _average_precision, "nDCG": _discounted, "MRR": _reciprocal, "RR": _reciprocal, "MedR": _first_rank,
    "MeanR": _first_rank, "mINP": _last_rank,
}  # fmt: skip
