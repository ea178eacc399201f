"""Exact ranks of the positives, and exact histograms: how many columns score above given thresholds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from workbench.search.definition import Array, Screen, lower, upper
from workbench.search.kernels import Kernels
from workbench.search.restrict import Bias, OneSided, Scope, check_shape, pair_keys
from workbench.search.side import Side, exact_scores
from workbench.search.tile import Tile
from workbench.types import FloatArray, IntArray, Ranks, Relevance


@dataclass(frozen=True, eq=False)
class Thresholds:
    """For the rows of one tile: sorted thresholds as screened scores see them, and the counts to fill.

    The thresholds of row i are ``start[i] : start[i] + size[i]`` of ``low`` and ``high``, ascending: a screened score
    above ``high`` is surely above the threshold, one below ``low`` surely below. above (m, most) : what is counted.
    """

    start: IntArray
    size: IntArray
    low: Array
    high: Array
    above: IntArray

    @classmethod
    def of(
        cls, first: IntArray, size: IntArray, targets: FloatArray, error: FloatArray, dtype: npt.DTypeLike
    ) -> Thresholds:
        """The targets ``first[i] : first[i] + size[i]`` of each row, widened by the error (m,) of its scores."""
        start = np.cumsum(size) - size
        source = np.arange(int(size.sum())) + np.repeat(first - start, size)
        wide = np.repeat(error, size)
        low, high = lower(targets[source] - wide, dtype), upper(targets[source] + wide, dtype)
        return cls(start, size, low, high, np.zeros((len(size), int(size.max(initial=0))), np.int64))


class Counter:
    """Counts per target over all tiles: columns strictly better, columns tied with it.

    targets : scores to count against; those of row i are ``first[i] : last[i]``, ascending (rows may share targets).
    known : keys (ascending) and exact ranking scores of pairs that need not be scored again.
    """

    def __init__(
        self,
        targets: FloatArray,
        first: IntArray,
        last: IntArray,
        bias: Bias,
        scope: Scope,
        known: tuple[IntArray, FloatArray],
        kernels: Kernels,
    ) -> None:
        self.targets, self.first, self.last, self.kernels = targets, first, last, kernels
        self.bias, self.scope, self.known = bias, scope, known
        self.better = np.zeros(len(targets), np.int64)
        self.tied = np.zeros(len(targets), np.int64)

    def update(self, tile: Tile) -> None:
        first = self.first[tile.rows]
        size = self.last[tile.rows] - first
        if not size.any():
            return
        scores, error = self.bias.apply(tile)
        thresholds = Thresholds.of(first, size, self.targets, error, tile.scores.dtype)
        for i, j in tile.kernels.count(tile, scores, thresholds, self.scope):
            self.decide(i + tile.row_start, self._exact(tile, i, j))
        place = np.arange(thresholds.above.shape[1])
        counted = place < size[:, None]
        index = (first[:, None] + place)[counted]
        begin = int(index.min())
        above = np.bincount(index - begin, thresholds.above[counted]).astype(np.int64)
        self.better[begin : begin + len(above)] += above

    def decide(self, rows: IntArray, scores: FloatArray, sign: int = 1) -> None:
        """Count exact ranking scores of some rows against every target of the row."""
        if not len(rows):
            return
        first, last = self.first[rows], self.last[rows]
        reached, passed = self.kernels.places(self.targets, first, last, scores)
        begin, end = int(first.min()), int(last.max())
        part = slice(begin, end)
        self.better[part] += sign * _covered(first - begin, reached - begin, end - begin)
        self.tied[part] += sign * _covered(reached - begin, passed - begin, end - begin)

    def _exact(self, tile: Tile, i: IntArray, j: IntArray) -> FloatArray:
        rows, columns = i + tile.row_start, j + tile.column_start
        keys, scores = self.known
        exact, new = np.empty(len(i)), np.ones(len(i), bool)
        if len(keys):
            wanted = pair_keys(rows, columns)
            place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            new = keys[place] != wanted
            exact[~new] = scores[place[~new]]
        exact[new] = tile.exact(i[new], j[new]) - self.bias.at(rows[new], columns[new])
        return exact

    def merge(self, other: Counter) -> None:
        self.better += other.better
        self.tied += other.tied


def _ascending(rows: IntArray, scores: FloatArray) -> IntArray:
    """The order by row and, within a row, by score: ``np.lexsort((scores, rows))`` in a third of the time."""
    order = np.argsort(scores)
    for shift in range(0, int(rows.max(initial=0)).bit_length(), 16):
        digits = ((rows[order] >> shift) & 0xFFFF).astype(np.uint16)
        order = order[np.argsort(digits, kind="stable")]
    return order


def _covered(first: IntArray, last: IntArray, n: int) -> IntArray:
    """(n,) how many of the ranges ``first : last`` hold each place."""
    opened, closed = np.bincount(first, minlength=n + 1), np.bincount(last, minlength=n + 1)
    return np.cumsum(opened - closed)[:n]


_PAIRS_PER_POSITIVE = 500
"""Pairs that float64 screening may cost more for each positive, which is what scoring its undecided pairs takes."""


@dataclass(frozen=True, eq=False)
class RankPositives(OneSided):
    """Exact rank of every positive of every row: how many columns score strictly higher, how many the same.

    relevance : (n_rows, n_columns), so for ``of="gallery"`` the transposed one; grades above zero are positives.
    Other positives of the same row count like any other column; a positive is never counted against itself.
    bias, bias_row, of, exclude, allow, allow_row : as in :class:`TopK`; columns out of scope do not count, and a
    positive out of scope is an error. Gives :class:`~workbench.types.Ranks`.
    Cost: an exact score and a place in a sorted list per positive, then a scan in which a pair is placed among the
    sorted positives of its row by a bucket, not compared with each. On 25,000 x 5,000 pairs, both directions,
    50 positives a query take six times as long as one.
    """

    relevance: Relevance
    bias: npt.ArrayLike | None = field(default=None, kw_only=True)
    bias_row: npt.ArrayLike | None = field(default=None, kw_only=True)

    @property
    def screen(self) -> Screen:
        """Every positive makes a few pairs undecided in float32; where they are many, a finer product is cheaper."""
        many = len(self.relevance.items) * _PAIRS_PER_POSITIVE > self.relevance.n_queries * self.relevance.n_gallery
        return "float64" if many else "float32"

    def state_bytes(self, n_rows: int, n_columns: int) -> int:
        excluded = 0 if self.exclude is None else len(self.exclude.items)
        return 96 * len(self.relevance.items) + 40 * excluded + 16 * n_rows

    def begin(self, rows: Side, columns: Side, kernels: Kernels) -> RankState:
        n_rows, n_columns = len(rows.vectors), len(columns.vectors)
        check_shape("relevance", self.relevance, n_rows, n_columns)
        bias = Bias.of(self.bias, self.bias_row, n_rows, n_columns)
        scope = self.scope(n_rows, n_columns)
        labelled = self.relevance.positives
        own, items = labelled.queries, labelled.items
        outside = np.flatnonzero(~scope.sees(own, items))
        if len(outside):
            raise ValueError(
                f"{len(outside)} of {len(items)} positives are excluded or not allowed (the first: row "
                f"{own[outside[0]]}, column {items[outside[0]]}); they have no rank: take them out of relevance"
            )
        scores = exact_scores(kernels, rows, columns, own, items) - bias.at(own, items)
        state = RankState(labelled, scores, bias, scope, kernels)
        out_rows, out_columns = scope.pairs
        if len(out_rows):
            hidden = exact_scores(kernels, rows, columns, out_rows, out_columns)
            state.counter.decide(out_rows, hidden - bias.at(out_rows, out_columns), sign=-1)
        return state


class RankState:
    """Counts per positive; the positives of a row are kept in ascending order of their score."""

    def __init__(self, labelled: Relevance, scores: FloatArray, bias: Bias, scope: Scope, kernels: Kernels) -> None:
        self.labelled = labelled
        self.order = _ascending(labelled.queries, scores)
        known = pair_keys(labelled.queries, labelled.items), scores
        edges = labelled.indptr
        self.counter = Counter(scores[self.order], edges[:-1], edges[1:], bias, scope, known, kernels)
        self.update = self.counter.update

    def merge(self, other: RankState) -> None:
        self.counter.merge(other.counter)

    def finish(self) -> Ranks:
        better, tied = np.empty(len(self.order), np.int64), np.empty(len(self.order), np.int64)
        better[self.order] = self.counter.better
        tied[self.order] = self.counter.tied - 1  # every positive meets itself once, with the same bits by definition
        p = self.labelled
        depth = np.full(p.n_queries, p.n_gallery, np.int64)
        return Ranks(p.indptr, p.items, p.grades, better, tied, depth, p.n_gallery)


@dataclass(frozen=True, eq=False)
class ScoreHistogram(OneSided):
    """How many pairs score in each bin, exactly: (n_edges + 1,) int64.

    edges : ascending. Entry 0 counts scores below the first edge, entry b those with ``edges[b - 1] <= score <
    edges[b]``, the last entry those at or above the last edge. exclude, allow, allow_row : as in :class:`TopK`.
    """

    edges: npt.ArrayLike
    screen: Screen = field(default="float32", init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        edges = np.asarray(self.edges, np.float64)
        if edges.ndim != 1 or not len(edges) or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
            raise ValueError(f"edges must be finite numbers in ascending order; got {self.edges!r:.80}")
        object.__setattr__(self, "edges", edges)

    def state_bytes(self, n_rows: int, n_columns: int) -> int:
        return 64 * np.size(self.edges) + 16 * n_rows

    def begin(self, rows: Side, columns: Side, kernels: Kernels) -> HistogramState:
        n_rows, n_columns = len(rows.vectors), len(columns.vectors)
        scope = self.scope(n_rows, n_columns)
        edges = np.asarray(self.edges, np.float64)
        first, last = np.zeros(n_rows, np.int64), np.full(n_rows, len(edges))
        nothing = np.zeros(0, np.int64), np.zeros(0)
        counter = Counter(edges, first, last, Bias.of(None, None, n_rows, n_columns), scope, nothing, kernels)
        out_rows, out_columns = scope.pairs
        if len(out_rows):
            counter.decide(out_rows, exact_scores(kernels, rows, columns, out_rows, out_columns), sign=-1)
        return HistogramState(counter, int(scope.left.sum()))


class HistogramState:
    """Counts of scores at or above every edge."""

    def __init__(self, counter: Counter, n_pairs: int) -> None:
        self.counter, self.n_pairs, self.update = counter, n_pairs, counter.update

    def merge(self, other: HistogramState) -> None:
        self.counter.merge(other.counter)

    def finish(self) -> IntArray:
        reached = self.counter.better + self.counter.tied
        return -np.diff(np.concatenate([[self.n_pairs], reached, [0]]))
