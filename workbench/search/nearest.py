"""The nearest columns of every row, and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from workbench.search import definition
from workbench.search.definition import Array, Screen, lower
from workbench.search.kernels import Kernels
from workbench.search.restrict import Bias, OneSided, Scope, id_order
from workbench.search.side import Side, exact_scores
from workbench.search.tile import Tile, check_bound
from workbench.types import FloatArray, IntArray, Neighbours


@dataclass(frozen=True, eq=False)
class TopK(OneSided):
    """The k best columns of every row, with exact scores.

    Order: higher score first, equal scores by ascending id (compared as strings) or, without ``ids``, by position.

    k : 1 .. number of columns. bias : (n_columns,) subtracted from the scores, or a stack (n_biases, n_columns) with
    ``bias_row`` (n_rows,) naming the row of the stack each row uses. The ranking score is ``pair score - bias`` in
    float64. of : whose items are the rows. ids : of the columns. exclude : (n_rows, n_columns) pairs whose positives
    (grade > 0) are left out, such as :func:`~workbench.search.same_items`. allow : (n_columns,) bool, the only columns
    to look at, or a stack (n_masks, n_columns) with ``allow_row`` (n_rows,). At least k columns must remain for every
    row. Gives :class:`~workbench.types.Neighbours`; ``scores`` are ranking scores.
    """

    k: int
    bias: npt.ArrayLike | None = field(default=None, kw_only=True)
    bias_row: npt.ArrayLike | None = field(default=None, kw_only=True)
    ids: Sequence[str] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.k, bool) or int(self.k) != self.k or self.k < 1:
            raise ValueError(f"k must be a whole number of at least 1; got {self.k!r}")

    @property
    def screen(self) -> Screen:
        """The coarsest screening precision that serves: a bias may be large, then bfloat16 decides nothing."""
        return "bfloat16" if self.bias is None else "float32"

    def state_bytes(self, n_rows: int, n_columns: int) -> int:
        return n_rows * (16 * self.k + 12 * _capacity(self.k) + 40) + 8 * n_columns

    def begin(self, rows: Side, columns: Side, kernels: Kernels) -> TopKState:
        n_rows, n_columns = len(rows.vectors), len(columns.vectors)
        scope = self.scope(n_rows, n_columns)
        least = int(scope.left.min())
        if self.k > least:
            what = "to choose from" if scope.everything else "left after exclusion"
            raise ValueError(f"k = {self.k} exceeds the {least} items {what}; use k <= {least}")
        bias = Bias.of(self.bias, self.bias_row, n_rows, n_columns)
        best = Best(int(self.k), n_rows, id_order(self.ids, n_columns))
        return TopKState(best, bias, scope, rows, columns, kernels)


def _capacity(k: int) -> int:
    return 3 * k + 32


class Best:
    """The best k so far: exact scores, sorted, and the best score that had to be left out."""

    def __init__(self, k: int, n_rows: int, order: IntArray) -> None:
        self.order = order
        self.columns = np.full((n_rows, k), -1, np.int64)
        self.scores = np.full((n_rows, k), -np.inf)
        self.left_out = np.full(n_rows, -np.inf)


class Pending:
    """Columns that may be among the best k, with screened ranking scores that are within ``error`` (n_rows,)."""

    def __init__(self, capacity: int, n_rows: int) -> None:
        self.columns = np.empty((n_rows, capacity), np.int32)
        self.scores = np.empty((n_rows, capacity))
        self.count = np.zeros(n_rows, np.int64)
        self.error = np.zeros(n_rows)


class TopKState:
    """Candidates are kept with screened scores and scored exactly as late as possible, when few are left.

    ``floor`` (n_rows,): the k-th best exact ranking score is at least this. What cannot reach it is dropped.
    """

    def __init__(self, best: Best, bias: Bias, scope: Scope, rows: Side, columns: Side, kernels: Kernels) -> None:
        self.best, self.bias, self.scope, self.kernels = best, bias, scope, kernels
        self.rows, self.columns = rows, columns
        n_rows, self.k = best.columns.shape
        self.pending = Pending(_capacity(self.k), n_rows)
        self.floor = np.full(n_rows, -np.inf)
        self.relative = 0.0

    def update(self, tile: Tile) -> None:
        scores, error = self.bias.apply(tile)
        self._agree_on_error(tile, error)
        begin = np.zeros(tile.n_rows, np.int64)
        if self.scope.everything and (self.floor[tile.rows] == -np.inf).all():
            kth = self.kernels.kth_at_least(tile, scores, self.k)
            self.floor[tile.rows] = kth - error - tile.relative * np.abs(np.maximum(kth, np.finfo(np.float64).min))
        while True:
            self.kernels.collect(tile, scores, self._least(tile, error), self.scope, self.pending, begin)
            full = np.flatnonzero(begin < tile.n_columns)
            if not len(full):
                return
            self._make_room(full + tile.row_start)

    def _agree_on_error(self, tile: Tile, error: FloatArray) -> None:
        """One bound serves all that is pending in a row; where a tile's is far off, the row is settled first."""
        known, self.relative = self.pending.error[tile.rows], tile.relative
        apart = (self.pending.count[tile.rows] > 0) & ((error > 1.5 * known) | (known > 1.5 * error))
        if apart.any():
            self._settle(np.flatnonzero(apart) + tile.row_start)
        waiting = self.pending.count[tile.rows] > 0
        self.pending.error[tile.rows] = np.where(waiting, np.maximum(known, error), error)

    def _least(self, tile: Tile, error: FloatArray) -> Array:
        """The smallest screened ranking score that can still stand for the floor, in the precision of the tile."""
        least = self.floor[tile.rows] - error
        least = np.where(least > 0, least / (1 + tile.relative), least / (1 - tile.relative))
        return lower(least, np.float32 if tile.scores.dtype == np.int16 else tile.scores.dtype)

    def _make_room(self, rows: IntArray) -> None:
        """Drop from full rows what cannot be among the best k any more; settle rows that stay crowded."""
        self.kernels.drop(self.pending, rows, self.k, self.relative, self.floor)
        crowded = self.pending.count[rows] > self.pending.columns.shape[1] - 32
        if crowded.any():
            self._settle(rows[crowded])

    def _settle(self, rows: IntArray) -> None:
        """Score all that is pending in some rows by the definition."""
        many = rows[self.pending.count[rows] > self.k]
        self.kernels.drop(self.pending, many, self.k, self.relative, self.floor)
        per_row = self.pending.count[rows]
        step = max(1, definition.CHUNK_NUMBERS // 8)
        edges = np.searchsorted(np.cumsum(per_row), np.arange(step, per_row.sum() + step, step), "right")
        for part in np.split(rows, np.unique(edges)):
            self._settle_part(part)
        self.pending.count[rows] = 0
        self.floor[rows] = np.maximum(self.floor[rows], self.best.scores[rows, -1])

    def _settle_part(self, rows: IntArray) -> None:
        count = self.pending.count[rows]
        i = np.repeat(np.arange(len(rows)), count)
        place = np.arange(len(i)) - (np.cumsum(count) - count)[i]
        at, to = rows[i], self.pending.columns[rows[i], place].astype(np.int64)
        if not len(at):
            return
        screened = self.pending.scores[at, place]
        exact = exact_scores(self.kernels, self.rows, self.columns, at, to) - self.bias.at(at, to)
        check_bound(screened, exact, self.pending.error[at] + self.relative * np.abs(screened))
        self.kernels.settle(self.best, at, to, exact)

    def merge(self, other: TopKState) -> None:
        for each in (self, other):
            each._settle(np.flatnonzero(each.pending.count))
        rows, places = np.nonzero(other.best.columns >= 0)
        if len(rows):
            self.kernels.settle(self.best, rows, other.best.columns[rows, places], other.best.scores[rows, places])
        np.maximum(self.best.left_out, other.best.left_out, out=self.best.left_out)
        np.maximum(self.floor, self.best.scores[:, -1], out=self.floor)

    def finish(self) -> Neighbours:
        self._settle(np.flatnonzero(self.pending.count))
        best = self.best
        return Neighbours(best.columns, best.scores, len(best.order), True, best.left_out == best.scores[:, -1])


@dataclass(frozen=True, eq=False)
class TopKMean(OneSided):
    """Mean of the k best scores of every row, (n_rows,) float64; the same bits for any tiling.

    k, of, exclude, allow, allow_row : as in :class:`TopK`, from whose exact scores it is formed.
    """

    k: int
    screen: Screen = field(default="bfloat16", init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._best()

    def _best(self) -> TopK:
        return TopK(self.k, of=self.of, exclude=self.exclude, allow=self.allow, allow_row=self.allow_row)

    def state_bytes(self, n_rows: int, n_columns: int) -> int:
        return self._best().state_bytes(n_rows, n_columns)

    def begin(self, rows: Side, columns: Side, kernels: Kernels) -> TopKMeanState:
        return TopKMeanState(self._best().begin(rows, columns, kernels))


class TopKMeanState:
    """The state of a top-k search, averaged at the end."""

    def __init__(self, best: TopKState) -> None:
        self.best, self.update = best, best.update

    def merge(self, other: TopKMeanState) -> None:
        self.best.merge(other.best)

    def finish(self) -> FloatArray:
        return np.asarray(self.best.finish().scores.mean(axis=1), np.float64)


def k_occurrence(neighbours: Neighbours) -> IntArray:
    """(n_gallery,) how many queries have each gallery item among their k nearest; items never retrieved count 0.

    >>> lists = Neighbours(np.array([[0, 1], [1, 0], [1, 2]]), np.zeros((3, 2)), 5, True, np.zeros(3, bool))
    >>> k_occurrence(lists)
    array([2, 3, 1, 0, 0])
    """
    return np.bincount(neighbours.indices.ravel(), minlength=neighbours.n_gallery)
