"""What a scan can be asked for: nearest items, exact ranks of positives, log-sums and means of the best scores.

A consumer is a description that never changes; ``begin`` makes its running state, which takes tiles in any order and
can be merged with the state of the same consumer over other tiles. Consumers are written for *rows* that look for
*columns*; with ``of="gallery"`` the gallery items are the rows and the queries the columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from workbench.search.exact import Array, Bias, Screen, Side, Tile, lower, pair_scores, positions, upper
from workbench.types import FloatArray, IntArray, Neighbours, Ranks, Relevance, check_unique

_FEW = 8
"""Rows with at most this many positives are counted by whole-tile comparisons, others by bisection, row by row."""


@dataclass(frozen=True, eq=False)
class TopK:
    """The k best columns of every row, with exact scores.

    Order: higher score first, equal scores by ascending id (compared as strings) or, without ``ids``, by position.

    k : 1 .. number of columns. bias : (n_columns,) subtracted from the scores, or a stack (n_biases, n_columns) with
    ``bias_row`` (n_rows,) naming the row of the stack each row uses. The ranking score is ``pair score - bias`` in
    float64. of : whose items are the rows. ids : of the columns. exclude : (n_rows, n_columns) pairs whose positives
    (grade > 0) are left out; at least k columns must remain for every row.
    Gives :class:`~workbench.types.Neighbours`; ``scores`` are ranking scores.
    """

    k: int
    bias: npt.ArrayLike | None = field(default=None, kw_only=True)
    bias_row: npt.ArrayLike | None = field(default=None, kw_only=True)
    of: Side = field(default="queries", kw_only=True)
    ids: Sequence[str] | None = field(default=None, kw_only=True)
    exclude: Relevance | None = field(default=None, kw_only=True)
    screen: Screen = field(default="float32", init=False)

    def __post_init__(self) -> None:
        _check_side(self.of)
        if isinstance(self.k, bool) or int(self.k) != self.k or self.k < 1:
            raise ValueError(f"k must be a whole number of at least 1; got {self.k!r}")

    def state_bytes(self, n_rows: int, n_columns: int) -> int:
        return n_rows * (2 * 8 * self.k + 8) + 8 * n_columns

    def begin(self, rows: Array, columns: Array) -> TopKState:
        exclusion = _Exclusion.of(self.exclude, len(rows), len(columns))
        left = len(columns) - exclusion.most_in_a_row
        if self.k > left:
            what = "left after exclusion" if self.exclude is not None else "to choose from"
            raise ValueError(f"k = {self.k} exceeds the {left} items {what}; use k <= {left}")
        bias = Bias.of(self.bias, self.bias_row, len(rows), len(columns))
        return TopKState(int(self.k), bias, exclusion, _id_order(self.ids, len(columns)), len(rows))


class TopKState:
    """Best k so far: exact scores, sorted, and the best score that had to be left out."""

    def __init__(self, k: int, bias: Bias, exclusion: _Exclusion, order: IntArray, n_rows: int) -> None:
        self.k, self.bias, self.exclusion, self.order = k, bias, exclusion, order
        self.columns = np.full((n_rows, k), -1, np.int64)
        self.scores = np.full((n_rows, k), -np.inf)
        self.left_out = np.full(n_rows, -np.inf)

    def update(self, tile: Tile) -> None:
        scores, error = self.exclusion.apply(tile, *self.bias.apply(tile))
        i, j = positions(self._candidates(scores, error, self.scores[tile.rows, -1]))
        rows, columns = i + tile.row_start, j + tile.column_start
        self._insert(rows, columns, tile.exact(i, j) - self.bias.at(rows, columns))

    def _candidates(self, scores: Array, error: FloatArray, kth: FloatArray) -> Array:
        """Everything that could be among the best k. A row whose k-th score is still poor takes it from the tile."""
        chosen = scores >= lower(kth - error, scores.dtype)[:, None]
        crowded = np.flatnonzero(np.count_nonzero(chosen, axis=1) > 4 * self.k)
        if len(crowded):
            place = scores.shape[1] - self.k
            part = scores[crowded]
            best = np.partition(part, place, axis=1)[:, place].astype(np.float64)
            least = np.maximum(kth[crowded], best - error[crowded]) - error[crowded]
            chosen[crowded] = part >= lower(least, scores.dtype)[:, None]
        return chosen

    def _insert(self, rows: IntArray, columns: IntArray, scores: FloatArray) -> None:
        touched = np.unique(rows)
        every_row = np.concatenate([np.repeat(touched, self.k), rows])
        every_column = np.concatenate([self.columns[touched].ravel(), columns])
        every_score = np.concatenate([self.scores[touched].ravel(), scores])
        order = np.lexsort((self.order[every_column], -every_score, every_row))
        sizes = np.unique(every_row, return_counts=True)[1]
        first = np.repeat(np.cumsum(sizes) - sizes, sizes)
        place = np.arange(len(order)) - first
        inside, next_best = order[place < self.k], order[place == self.k]
        self.columns[touched] = every_column[inside].reshape(-1, self.k)
        self.scores[touched] = every_score[inside].reshape(-1, self.k)
        out = every_row[next_best]
        self.left_out[out] = np.maximum(self.left_out[out], every_score[next_best])

    def merge(self, other: TopKState) -> None:
        rows, places = np.nonzero(other.columns >= 0)
        self._insert(rows, other.columns[rows, places], other.scores[rows, places])
        self.left_out = np.maximum(self.left_out, other.left_out)

    def finish(self) -> Neighbours:
        return Neighbours(self.columns, self.scores, len(self.order), True, self.left_out == self.scores[:, -1])


@dataclass(frozen=True, eq=False)
class RankPositives:
    """Exact rank of every positive of every row: how many columns score strictly higher, how many the same.

    relevance : (n_rows, n_columns), so for ``of="gallery"`` the transposed one; grades above zero are positives.
    Other positives of the same row count like any other column; a positive is never counted against itself.
    bias, bias_row, of : as in :class:`TopK`. Gives :class:`~workbench.types.Ranks`.
    Cost: one exact score per positive, then a scan whose cost does not grow with the number of positives of a row.
    """

    relevance: Relevance
    bias: npt.ArrayLike | None = field(default=None, kw_only=True)
    bias_row: npt.ArrayLike | None = field(default=None, kw_only=True)
    of: Side = field(default="queries", kw_only=True)
    screen: Screen = field(default="float32", init=False)

    def __post_init__(self) -> None:
        _check_side(self.of)

    def state_bytes(self, n_rows: int, n_columns: int) -> int:
        return 80 * len(self.relevance.items) + 16 * n_rows

    def begin(self, rows: Array, columns: Array) -> RankState:
        _check_shape("relevance", self.relevance, len(rows), len(columns))
        bias = Bias.of(self.bias, self.bias_row, len(rows), len(columns))
        labelled = self.relevance.positives
        own = labelled.queries
        targets = pair_scores(rows, columns, own, labelled.items) - bias.at(own, labelled.items)
        return RankState(labelled, targets, bias)


class RankState:
    """Counts per positive; the positives of a row are kept in ascending order of their score."""

    def __init__(self, labelled: Relevance, targets: FloatArray, bias: Bias) -> None:
        self.labelled, self.bias = labelled, bias
        self.order = np.lexsort((targets, labelled.queries))
        self.targets = targets[self.order]
        self.better = np.zeros(len(targets), np.int64)
        self.tied = np.zeros(len(targets), np.int64)

    def update(self, tile: Tile) -> None:
        scores, error = self.bias.apply(tile)
        edges = self.labelled.indptr[tile.row_start : tile.rows.stop + 1]
        start, size = edges[:-1], np.diff(edges)
        few = np.flatnonzero((size > 0) & (size <= _FEW))
        if len(few):
            part = scores if len(few) == len(size) else scores[few]
            self._count_few(tile, part, error[few], few, start[few], size[few])
        for i in np.flatnonzero(size > _FEW):
            self._count_many(tile, scores[i], error[i], int(i), slice(start[i], start[i] + size[i]))

    def _count_few(
        self, tile: Tile, scores: Array, error: FloatArray, at: IntArray, start: IntArray, size: IntArray
    ) -> None:
        """One comparison of the whole tile per positive of a row, at most ``_FEW``; undecided pairs looked up once."""
        place = np.arange(size.max())
        present = place < size[:, None]
        slots = np.where(present, start[:, None] + place, 0)
        targets = np.where(present, self.targets[slots], np.inf)
        unsure = np.zeros_like(scores, dtype=np.bool_)
        for low, high in zip((targets.T - error), (targets.T + error), strict=True):
            unsure |= (scores >= lower(low, scores.dtype)[:, None]) & (scores <= upper(high, scores.dtype)[:, None])
        i, j = positions(unsure)
        exact = self._exact(tile, at[i], j)
        sure = np.logical_not(unsure, out=unsure)
        for slot, target in enumerate(targets.T):
            above = np.count_nonzero((scores > target.astype(scores.dtype)[:, None]) & sure, axis=1)
            above += np.bincount(i[exact > target[i]], minlength=len(at))
            equal = np.bincount(i[exact == target[i]], minlength=len(at))
            here = present[:, slot]
            self.better[slots[here, slot]] += above[here]
            self.tied[slots[here, slot]] += equal[here]

    def _count_many(self, tile: Tile, scores: Array, error: float, i: int, part: slice) -> None:
        """Each column is placed among the sorted positives by bisection; one that could tie is looked up."""
        targets, wide = self.targets[part], scores.astype(np.float64)
        below = np.searchsorted(targets, lower(wide - error, wide.dtype), "left")
        (j,) = np.nonzero(below != np.searchsorted(targets, upper(wide + error, wide.dtype), "right"))
        exact = self._exact(tile, np.full(len(j), i), j)
        below[j] = np.searchsorted(targets, exact, "left")
        self.better[part] += len(wide) - np.cumsum(np.bincount(below, minlength=len(targets) + 1))[:-1]
        met = below[j][below[j] < np.searchsorted(targets, exact, "right")]
        groups = np.bincount(met, minlength=len(targets))
        self.tied[part] += groups[np.searchsorted(targets, targets, "left")]

    def _exact(self, tile: Tile, i: IntArray, j: IntArray) -> FloatArray:
        return tile.exact(i, j) - self.bias.at(i + tile.row_start, j + tile.column_start)

    def merge(self, other: RankState) -> None:
        self.better += other.better
        self.tied += other.tied

    def finish(self) -> Ranks:
        better, tied = np.empty_like(self.better), np.empty_like(self.tied)
        better[self.order] = self.better
        tied[self.order] = self.tied - 1  # every positive meets itself once, with the same bits by definition
        p = self.labelled
        depth = np.full(p.n_queries, p.n_gallery, np.int64)
        return Ranks(p.indptr, p.items, p.grades, better, tied, depth, p.n_gallery)


@dataclass(frozen=True, eq=False)
class LogSumExp:
    """A smooth maximum of every row: ``log(sum_columns exp(beta * score)) / beta``, (n_rows,) float64.

    beta > 0 : inverse temperature. of : whose items are the rows. exclude : (n_rows, n_columns) pairs whose positives
    (grade > 0) are left out; the sum over the ``n_left`` remaining columns is then scaled by ``n_columns / n_left``, so
    that rows with more exclusions are not favoured. A row with nothing left is an error.
    Scores come from a float64 product and are added in tile order: the same tiles give the same bits, other tiles
    agree to 1e-12 of the largest score or of 1 / beta, whichever is greater.
    """

    beta: float
    of: Side = field(default="queries", kw_only=True)
    exclude: Relevance | None = field(default=None, kw_only=True)
    screen: Screen = field(default="float64", init=False)

    def __post_init__(self) -> None:
        _check_side(self.of)
        if not 0 < self.beta < np.inf:
            raise ValueError(f"beta must be a positive number; got {self.beta!r}")

    def state_bytes(self, n_rows: int, n_columns: int) -> int:
        return 16 * n_rows

    def begin(self, rows: Array, columns: Array) -> LogSumExpState:
        exclusion = _Exclusion.of(self.exclude, len(rows), len(columns))
        if exclusion.most_in_a_row == len(columns):
            raise ValueError(f"a row has all its {len(columns)} columns excluded; its log-sum is not defined")
        return LogSumExpState(float(self.beta), exclusion, len(rows), len(columns))


class LogSumExpState:
    """Largest exponent so far and the sum of exponentials relative to it."""

    def __init__(self, beta: float, exclusion: _Exclusion, n_rows: int, n_columns: int) -> None:
        self.beta, self.exclusion, self.n_columns = beta, exclusion, n_columns
        self.largest, self.total = np.full(n_rows, -np.inf), np.zeros(n_rows)

    def update(self, tile: Tile) -> None:
        scores, _ = self.exclusion.apply(tile, tile.scores, tile.error)
        exponents = self.beta * scores
        largest = exponents.max(axis=1)
        exponents -= np.where(largest > -np.inf, largest, 0.0)[:, None]
        self._add(tile.rows, largest, np.exp(exponents, out=exponents).sum(axis=1))

    def _add(self, rows: slice, largest: FloatArray, total: FloatArray) -> None:
        joint = np.maximum(self.largest[rows], largest)
        base = np.where(joint > -np.inf, joint, 0.0)
        self.total[rows] = self.total[rows] * np.exp(self.largest[rows] - base) + total * np.exp(largest - base)
        self.largest[rows] = joint

    def merge(self, other: LogSumExpState) -> None:
        self._add(slice(None), other.largest, other.total)

    def finish(self) -> FloatArray:
        kept = self.n_columns - self.exclusion.per_row
        return (self.largest + np.log(self.total) + np.log(self.n_columns / kept)) / self.beta


@dataclass(frozen=True, eq=False)
class TopKMean:
    """Mean of the k best scores of every row, (n_rows,) float64; the same bits for any tiling.

    k, of, exclude : as in :class:`TopK`, from whose exact scores it is formed.
    """

    k: int
    of: Side = field(default="queries", kw_only=True)
    exclude: Relevance | None = field(default=None, kw_only=True)
    screen: Screen = field(default="float32", init=False)

    def __post_init__(self) -> None:
        self._best()

    def _best(self) -> TopK:
        return TopK(self.k, of=self.of, exclude=self.exclude)

    def state_bytes(self, n_rows: int, n_columns: int) -> int:
        return self._best().state_bytes(n_rows, n_columns)

    def begin(self, rows: Array, columns: Array) -> TopKMeanState:
        return TopKMeanState(self._best().begin(rows, columns))


class TopKMeanState:
    """The state of a top-k search, averaged at the end."""

    def __init__(self, best: TopKState) -> None:
        self.best, self.update = best, best.update

    def merge(self, other: TopKMeanState) -> None:
        self.best.merge(other.best)

    def finish(self) -> FloatArray:
        return np.asarray(self.best.scores.mean(axis=1), np.float64)


def k_occurrence(neighbours: Neighbours) -> IntArray:
    """(n_gallery,) how many queries have each gallery item among their k nearest; items never retrieved count 0.

    >>> lists = Neighbours(np.array([[0, 1], [1, 0], [1, 2]]), np.zeros((3, 2)), 5, True, np.zeros(3, bool))
    >>> k_occurrence(lists)
    array([2, 3, 1, 0, 0])
    """
    return np.bincount(neighbours.indices.ravel(), minlength=neighbours.n_gallery)


@dataclass(frozen=True, eq=False)
class _Exclusion:
    """Pairs that are not to be seen, in compressed rows."""

    pairs: Relevance | None
    per_row: IntArray

    @classmethod
    def of(cls, exclude: Relevance | None, n_rows: int, n_columns: int) -> _Exclusion:
        if exclude is None:
            return cls(None, np.zeros(n_rows, np.int64))
        _check_shape("exclude", exclude, n_rows, n_columns)
        return cls(exclude.positives, exclude.positives_per_query)

    @property
    def most_in_a_row(self) -> int:
        return int(self.per_row.max())

    def apply(self, tile: Tile, scores: Array, error: FloatArray) -> tuple[Array, FloatArray]:
        """The same scores with minus infinity at the excluded pairs; the tile itself is left alone."""
        if self.pairs is None:
            return scores, error
        edges = self.pairs.indptr[tile.row_start : tile.rows.stop + 1]
        i = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
        j = self.pairs.items[edges[0] : edges[-1]] - tile.column_start
        here = (j >= 0) & (j < scores.shape[1])
        hidden = scores.copy(order="K")
        hidden[i[here], j[here]] = -np.inf
        return hidden, error


def _id_order(ids: Sequence[str] | None, n: int) -> IntArray:
    """(n,) place of each item in ascending order of id."""
    if ids is None:
        return np.arange(n)
    names = check_unique(ids, "item")
    if len(names) != n:
        raise ValueError(f"{len(names)} ids for {n} items; ids are those of the side that is retrieved")
    place = np.empty(n, np.int64)
    place[sorted(range(n), key=names.__getitem__)] = np.arange(n)
    return place


def _check_shape(name: str, relevance: Relevance, n_rows: int, n_columns: int) -> None:
    if (relevance.n_queries, relevance.n_gallery) != (n_rows, n_columns):
        raise ValueError(
            f"{name} is ({relevance.n_queries}, {relevance.n_gallery}) but ({n_rows}, {n_columns}) is needed: rows are "
            "the items named by of=; use relevance.T for of='gallery'"
        )


def _check_side(of: Any) -> None:
    if of not in ("queries", "gallery"):
        raise ValueError(f"of must be 'queries' or 'gallery'; got {of!r}")
