"""The inner loops of a scan in numpy: for small searches, and wherever numba is not installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.search import definition
from workbench.search.definition import Array, Screen, positions
from workbench.types import FloatArray, IntArray

if TYPE_CHECKING:
    from workbench.search.nearest import Best, Pending
    from workbench.search.ranks import Thresholds
    from workbench.search.restrict import Scope
    from workbench.search.tile import Tile

_FEW = 8
"""Rows with at most this many thresholds are counted by whole-tile comparisons, others by bisection, row by row."""


class Plain:
    """Kernels in numpy; scores are laid out as a matrix."""

    width = 1

    def tile_limits(self, screen: Screen, consumers: Sequence[Any]) -> tuple[int, tuple[int, int]]:
        """Bytes for one pair of a tile when every pair of it is undecided, and the largest tile."""
        return 160, (2**31, 2**31)

    def measure(self, vectors: Array, screen: Screen, norms: FloatArray, moved: FloatArray) -> None:
        """Fill in the lengths of some vectors and how far casting to bfloat16 moves them, if that is the screen."""
        step = max(1, definition.CHUNK_NUMBERS // vectors.shape[1])
        for start in range(0, len(vectors), step):
            part = vectors[start : start + step].astype(np.float64)
            norms[start : start + step] = np.sqrt(np.einsum("ij,ij->i", part, part))

    def bfloat16_bits(self, vectors: Array, n_padded: int) -> Array:
        raise NotImplementedError("bfloat16 scores are read by the compiled kernels only")

    def laid_out(self, values: Array) -> Array:
        return values

    def values(self, scores: Array, i: IntArray, j: IntArray) -> FloatArray:
        return np.asarray(scores[i, j], np.float64)

    def transposed(self, scores: Array, n_rows: int, n_columns: int) -> Array:
        return scores.T

    def in_parallel(self, work: Callable[[slice], None], n: int, least: int) -> None:
        """Call ``work`` for parts of 0..n of ``least`` rows, here one after the other."""
        for start in range(0, n, least):
            work(slice(start, min(start + least, n)))

    def pair_scores(self, queries: Array, gallery: Array, rows: IntArray, columns: IntArray) -> FloatArray:
        return definition.pair_scores(queries, gallery, rows, columns)

    def collect(self, tile: Tile, scores: Array, least: Array, scope: Scope, pending: Pending, begin: IntArray) -> None:
        """Append to ``pending`` what reaches ``least`` (m,) from column ``begin`` (m,) on; a full row stops there.

        Afterwards ``begin`` is the column to go on with, ``tile.n_columns`` where nothing is left.
        """
        chosen = scores >= least[:, None]
        if begin.any():
            chosen &= np.arange(tile.n_columns) >= begin[:, None]
        if not scope.everything:
            chosen &= ~scope.hidden(tile)
        i, j = np.nonzero(chosen)
        per_row = np.bincount(i, minlength=tile.n_rows)
        place = np.arange(len(i)) - (np.cumsum(per_row) - per_row)[i] + pending.count[tile.rows][i]
        fits = place < pending.columns.shape[1]
        rows = i + tile.row_start
        pending.columns[rows[fits], place[fits]] = j[fits] + tile.column_start
        pending.scores[rows[fits], place[fits]] = scores[i[fits], j[fits]]
        pending.count[tile.rows] += np.bincount(i[fits], minlength=tile.n_rows)
        begin[:] = tile.n_columns
        full, first = np.unique(i[~fits], return_index=True)
        begin[full] = j[~fits][first]

    def count(
        self, tile: Tile, scores: Array, thresholds: Thresholds, scope: Scope
    ) -> Iterator[tuple[IntArray, IntArray]]:
        """Count, for every threshold of a row, the columns surely above it; yield the pairs that need a closer look.

        A pair that is undecided for one threshold of its row is left out of the counts of all of them. Masks are heeded
        here; excluded pairs are taken off elsewhere.
        """
        start, size = thresholds.start, thresholds.size
        hidden = None if scope.allow is None else ~scope.allow[:, tile.columns][scope.mask[tile.rows]]
        few = np.flatnonzero((size > 0) & (size <= _FEW))
        if len(few):
            part = scores if len(few) == len(size) else scores[few]
            yield from self._count_few(part, thresholds, few, None if hidden is None else hidden[few])
        found: list[tuple[IntArray, IntArray]] = []
        for i in np.flatnonzero(size > _FEW):
            own = slice(start[i], start[i] + size[i])
            row = scores[i] if hidden is None else scores[i][~hidden[i]]
            below = np.searchsorted(thresholds.high[own], row, "left")
            unsure = below != np.searchsorted(thresholds.low[own], row, "right")
            above = np.bincount(below[~unsure], minlength=size[i] + 1)
            thresholds.above[i, : size[i]] += above.sum() - np.cumsum(above)[:-1]
            (j,) = np.nonzero(unsure)
            found.append((np.full(len(j), i), j if hidden is None else np.flatnonzero(~hidden[i])[j]))
        if found:
            yield np.concatenate([i for i, _ in found]), np.concatenate([j for _, j in found])

    def _count_few(
        self, scores: Array, thresholds: Thresholds, at: IntArray, hidden: Array | None
    ) -> Iterator[tuple[IntArray, IntArray]]:
        size = thresholds.size[at]
        place = np.arange(size.max())
        present = place < size[:, None]
        slots = np.where(present, thresholds.start[at][:, None] + place, 0)
        high = np.where(present, thresholds.high[slots], np.inf).astype(scores.dtype)
        low = np.where(present, thresholds.low[slots], np.inf).astype(scores.dtype)
        unsure = np.zeros_like(scores, dtype=np.bool_)
        for least, most in zip(low.T, high.T, strict=True):
            unsure |= (scores >= least[:, None]) & (scores <= most[:, None])
        if hidden is not None:
            unsure &= ~hidden
        i, j = positions(unsure)
        sure = np.logical_not(unsure, out=unsure)
        if hidden is not None:
            sure &= ~hidden
        for slot, most in enumerate(high.T):
            above = np.count_nonzero((scores > most[:, None]) & sure, axis=1)
            thresholds.above[at, slot] += np.where(present[:, slot], above, 0)
        yield at[i], j

    def places(
        self, targets: FloatArray, first: IntArray, last: IntArray, scores: FloatArray
    ) -> tuple[IntArray, IntArray]:
        """(n,) twice: the first place in the ascending slice ``first : last`` of the targets whose target is not below
        the score, and the first whose target is above it."""
        reached = _bisect(targets, first, last, scores, np.less)
        return reached, _bisect(targets, reached, last, scores, np.less_equal)

    def kth_at_least(self, tile: Tile, scores: Array, k: int) -> FloatArray:
        """(m,) screened scores that k columns of the row reach: the k-th best of the tile, or minus infinity."""
        if tile.n_columns < k:
            return np.full(tile.n_rows, -np.inf)
        place = tile.n_columns - k
        return np.asarray(np.partition(scores, place, axis=1)[:, place], np.float64)

    def drop(self, pending: Pending, rows: IntArray, k: int, relative: float, floor: FloatArray) -> None:
        """Drop what the k-th best of at least k screened scores of a row rules out, and raise its ``floor``."""
        waiting = np.arange(pending.scores.shape[1]) < pending.count[rows, None]
        scores, error = np.where(waiting, pending.scores[rows], 0.0), pending.error[rows]
        place = scores.shape[1] - k
        kth = np.partition(np.where(waiting, scores, -np.inf), place, axis=1)[:, place]
        floor[rows] = np.maximum(floor[rows], kth - error - relative * np.abs(kth))
        kept = waiting & (scores + error[:, None] + relative * np.abs(scores) >= floor[rows, None])
        i, j = np.nonzero(kept)
        count = kept.sum(axis=1)
        place_now = np.arange(len(i)) - (np.cumsum(count) - count)[i]
        columns = pending.columns[rows[i], j]
        pending.scores[rows[i], place_now] = scores[i, j]
        pending.columns[rows[i], place_now] = columns
        pending.count[rows] = count

    def settle(self, best: Best, rows: IntArray, columns: IntArray, scores: FloatArray) -> None:
        """Put pairs with exact scores, no pair twice, among the best k of their rows."""
        k = best.columns.shape[1]
        touched = np.unique(rows)
        every_row = np.concatenate([np.repeat(touched, k), rows])
        every_column = np.concatenate([best.columns[touched].ravel(), columns])
        every_score = np.concatenate([best.scores[touched].ravel(), scores])
        order = np.lexsort((best.order[every_column], -every_score, every_row))
        sizes = np.unique(every_row, return_counts=True)[1]
        place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        inside, next_best = order[place < k], order[place == k]
        best.columns[touched] = every_column[inside].reshape(-1, k)
        best.scores[touched] = every_score[inside].reshape(-1, k)
        out = every_row[next_best]
        best.left_out[out] = np.maximum(best.left_out[out], every_score[next_best])


def _bisect(targets: FloatArray, first: IntArray, last: IntArray, values: FloatArray, before: np.ufunc) -> IntArray:
    """For each value the first place in its ascending slice whose target is not ``before`` the value."""
    low, high = first.copy(), last.copy()
    open_ = low < high
    while open_.any():
        middle = (low + high) // 2
        right = open_ & before(targets[np.minimum(middle, len(targets) - 1)], values)
        low = np.where(right, middle + 1, low)
        high = np.where(open_ & ~right, middle, high)
        open_ = low < high
    return low
