"""The inner loops of a scan, compiled by numba: for large searches. Results equal those of ``plain``.

Scores are laid out as (rows, blocks, 128): a block is looked at as a whole first, which the compiler turns into vector
instructions, and number by number only where something in it matters. The functions release the interpreter's lock and
run on parts of the rows in threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from numba.extending import overload

from workbench.search.definition import Array, Screen
from workbench.types import FloatArray, IntArray

if TYPE_CHECKING:
    from workbench.search.nearest import Best, Pending
    from workbench.search.ranks import Thresholds
    from workbench.search.restrict import Scope
    from workbench.search.tile import Tile

_WIDTH = 128
_FOUND = 2**15
_FEW = 64


def _cached(function: Callable[..., Any]) -> Any:
    """Compiled without the interpreter's lock, and kept on disk where a folder can be written."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)


def _key(x):  # type: ignore[no-untyped-def]
    """An order-preserving key of a score: itself, or for the bits of a bfloat16 an integer."""


def _number(x):  # type: ignore[no-untyped-def]
    """The score that is stored: itself, or what the bits of a bfloat16 stand for."""


@overload(_key)
def _(x):  # type: ignore[no-untyped-def]
    if isinstance(x, numba.types.Integer):
        return lambda x: np.int16(x ^ np.int16(np.int16(x >> 15) & np.int16(0x7FFF)))
    return lambda x: x


@overload(_number)
def _(x):  # type: ignore[no-untyped-def]
    if isinstance(x, numba.types.Integer):
        return lambda x: np.int32(np.int32(x) << np.int32(16)).view(np.float32)
    return lambda x: x


@_cached
def _excluded(items, first, last, column):  # type: ignore[no-untyped-def]
    while first < last:
        middle = (first + last) // 2
        if items[middle] < column:
            first = middle + 1
        else:
            last = middle
    return first


@_cached
def _collect(scores, n, least, begin, at, indptr, items, allow, mask, columns, values, count, start, stop):  # type: ignore[no-untyped-def]
    row_start, column_start = at
    capacity, width = columns.shape[1], scores.shape[2]
    for i in range(start, stop):
        row, t, c, until = row_start + i, least[i], count[row_start + i], n
        for b in range(begin[i] // width, scores.shape[1]):
            block = scores[i, b]
            found = np.int32(0)
            for j in range(block.shape[0]):
                found += np.int32(_key(block[j]) >= t)
            if found == 0:
                continue
            offset = b * width
            for j in range(max(begin[i] - offset, 0), min(width, n - offset)):
                if _key(block[j]) < t:
                    continue
                column = column_start + offset + j
                if len(items):
                    place = _excluded(items, indptr[row], indptr[row + 1], column)
                    if place < indptr[row + 1] and items[place] == column:
                        continue
                if allow.shape[0] and not allow[mask[row], column]:
                    continue
                if c == capacity:
                    until = offset + j
                    break
                columns[row, c] = column
                values[row, c] = _number(block[j])
                c += 1
            if until < n:
                break
        count[row] = c
        begin[i] = until


@_cached
def _count(scores, n, at, first, size, low, high, above, allow, mask, block_of, found_i, found_j, start, stop):  # type: ignore[no-untyped-def]
    width, m = scores.shape[2], 0
    most = above.shape[1]
    tally = np.zeros(most + 1, np.int64)
    seen = np.zeros(width, np.bool_)
    for i in range(start, stop):
        p0, p1 = first[i], first[i] + size[i]
        if size[i] == 0:
            continue
        lows, highs = low[p0:p1], high[p0:p1]
        for b in range(block_of[i], scores.shape[1]):
            if m + width > len(found_i):
                block_of[i] = b
                return m
            block, offset = scores[i, b], b * width
            if size[i] <= _FEW and offset + width <= n and allow.shape[0] == 0:
                unsure = False
                for p in range(size[i]):
                    over, reached = np.int32(0), np.int32(0)
                    for j in range(block.shape[0]):
                        over += np.int32(block[j] > highs[p])
                        reached += np.int32(block[j] >= lows[p])
                    above[i, p] += over
                    unsure |= over != reached
                if unsure:
                    for j in range(width):
                        for p in range(size[i]):
                            if lows[p] <= block[j] <= highs[p]:
                                seen[j] = True
                        if seen[j]:
                            seen[j] = False
                            found_i[m], found_j[m] = i, offset + j
                            m += 1
                            for p in range(size[i]):
                                above[i, p] -= np.int64(block[j] > highs[p])
                continue
            for j in range(min(width, n - offset)):
                if allow.shape[0] and not allow[mask[at[0] + i], at[1] + offset + j]:
                    continue
                below = np.searchsorted(highs, block[j])
                if below < size[i] and lows[below] <= block[j]:
                    found_i[m], found_j[m] = i, offset + j
                    m += 1
                else:
                    tally[below] += 1
        total = 0
        for p in range(size[i] - 1, -1, -1):
            total += tally[p + 1]
            above[i, p] += total
        tally[:] = 0
        block_of[i] = scores.shape[1]
    return m


@_cached
def _pair_scores(queries, gallery, rows, columns, scores, start, stop):  # type: ignore[no-untyped-def]
    dim = queries.shape[1]
    products = np.empty(dim)
    for p in range(start, stop):
        a, b = queries[rows[p]], gallery[columns[p]]
        for d in range(dim):
            products[d] = np.float64(a[d]) * np.float64(b[d])
        width = dim
        while width > 1:
            half = width // 2
            head, tail = products[:half], products[width - half : width]
            for d in range(half):
                head[d] += tail[d]
            width -= half
        scores[p] = products[0]


@_cached
def _settle(best_columns, best_scores, left_out, order, rows, columns, scores, start, stop):  # type: ignore[no-untyped-def]
    k = best_columns.shape[1]
    for p in range(start, stop):
        row, column, score = rows[p], columns[p], scores[p]
        place = k
        while place > 0:
            other, other_score = best_columns[row, place - 1], best_scores[row, place - 1]
            if other >= 0 and (other_score > score or (other_score == score and order[other] < order[column])):
                break
            place -= 1
        if place == k:
            left_out[row] = max(left_out[row], score)
            continue
        if best_columns[row, k - 1] >= 0:
            left_out[row] = max(left_out[row], best_scores[row, k - 1])
        for q in range(k - 1, place, -1):
            best_columns[row, q], best_scores[row, q] = best_columns[row, q - 1], best_scores[row, q - 1]
        best_columns[row, place], best_scores[row, place] = column, score


@_cached
def _transpose(scores, out, n_columns, start, stop):  # type: ignore[no-untyped-def]
    for j0 in range(start, stop, 32):
        for i0 in range(0, scores.shape[0], 32):
            for j in range(j0, min(j0 + 32, stop)):
                for i in range(i0, min(i0 + 32, scores.shape[0])):
                    out[j, i] = scores[i, j]


class Compiled:
    """Kernels compiled by numba, with a pool of threads for the time of one scan."""

    width = _WIDTH

    def __init__(self, threads: int) -> None:
        self.threads, self.pool = threads, ThreadPoolExecutor(threads)
        self.buffer = np.empty(0, np.uint8)

    def __enter__(self) -> Compiled:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()

    def tile_limits(self, screen: Screen, consumers: Sequence[Any]) -> tuple[int, tuple[int, int]]:
        """Bytes for one pair of a tile (its transpose and a biased copy included), and the largest tile."""
        item = {"bfloat16": 2, "float32": 4, "float64": 8}[screen]
        turned = any(each.of == "gallery" for each in consumers)
        biased = any(getattr(each, "bias", None) is not None for each in consumers)
        return item * (1 + turned + biased), (2048, 4096)

    def laid_out(self, values: Array) -> Array:
        missing = -values.shape[1] % _WIDTH
        padded = np.pad(values, ((0, 0), (0, missing))) if missing else values
        return padded.reshape(len(values), -1, _WIDTH)

    def values(self, scores: Array, i: IntArray, j: IntArray) -> FloatArray:
        picked = scores[i, j // _WIDTH, j % _WIDTH]
        if picked.dtype == np.int16:
            picked = (picked.astype(np.int32) << 16).view(np.float32)
        return np.asarray(picked, np.float64)

    def transposed(self, scores: Array, n_rows: int, n_columns: int) -> Array:
        n = -(-n_rows // _WIDTH) * _WIDTH
        if self.buffer.nbytes != n_columns * n * scores.itemsize:
            self.buffer = np.empty(n_columns * n * scores.itemsize, np.uint8)
        out = self.buffer.view(scores.dtype).reshape(n_columns, n)
        flat = scores.reshape(n_rows, -1)
        self._run(lambda start, stop: _transpose(flat, out, n_columns, start, stop), n_columns)
        return out.reshape(n_columns, -1, _WIDTH)

    def _run(self, work: Callable[[int, int], Any], n: int) -> list[Any]:
        """Call ``work(start, stop)`` on equal parts of 0..n in threads; their results in order."""
        parts = min(self.threads, n)
        edges = [n * part // parts for part in range(parts + 1)]
        return list(self.pool.map(work, edges[:-1], edges[1:]))

    def in_parallel(self, work: Callable[[slice], None], n: int, least: int) -> None:
        """Call ``work`` for parts of 0..n of ``least`` rows."""
        parts = [slice(start, min(start + least, n)) for start in range(0, n, least)]
        for _ in self.pool.map(work, parts):
            pass

    def pair_scores(self, queries: Array, gallery: Array, rows: IntArray, columns: IntArray) -> FloatArray:
        scores = np.empty(len(rows))
        if len(rows):
            self._run(lambda start, stop: _pair_scores(queries, gallery, rows, columns, scores, start, stop), len(rows))
        return scores

    def collect(self, tile: Tile, scores: Array, least: Array, scope: Scope, pending: Pending, begin: IntArray) -> None:
        """As :meth:`workbench.search.plain.Plain.collect`."""
        keys = _bfloat16_keys(least) if scores.dtype == np.int16 else least
        allow, at = _mask(scope), (tile.row_start, tile.column_start)
        self._run(
            lambda start, stop: _collect(
                scores, tile.n_columns, keys, begin, at, scope.indptr, scope.items, allow, scope.mask,
                pending.columns, pending.scores, pending.count, start, stop,
            ),
            tile.n_rows,
        )  # fmt: skip

    def count(
        self, tile: Tile, scores: Array, thresholds: Thresholds, scope: Scope
    ) -> Iterator[tuple[IntArray, IntArray]]:
        """As :meth:`workbench.search.plain.Plain.count`, in batches."""
        t, allow, at = thresholds, _mask(scope), (tile.row_start, tile.column_start)
        block_of = np.zeros(tile.n_rows, np.int64)
        n_blocks = scores.shape[1]

        def work(start: int, stop: int) -> tuple[IntArray, IntArray]:
            i, j = np.empty(_FOUND, np.int64), np.empty(_FOUND, np.int64)
            m = _count(
                scores, tile.n_columns, at, t.start, t.size, t.low, t.high, t.above, allow, scope.mask, block_of,
                i, j, start, stop,
            )  # fmt: skip
            return i[:m], j[:m]

        while (block_of[t.size > 0] < n_blocks).any():
            yield from self._run(work, tile.n_rows)

    def settle(self, best: Best, rows: IntArray, columns: IntArray, scores: FloatArray) -> None:
        """As :meth:`workbench.search.plain.Plain.settle`; pairs of one row must be next to each other."""
        parts = np.searchsorted(rows, rows[[len(rows) * part // self.threads for part in range(self.threads)]])
        edges = [*parts.tolist(), len(rows)]
        list(
            self.pool.map(
                lambda start, stop: _settle(
                    best.columns, best.scores, best.left_out, best.order, rows, columns, scores, start, stop
                ),
                edges[:-1], edges[1:],
            )
        )  # fmt: skip


def _mask(scope: Scope) -> Array:
    return np.zeros((0, 0), np.bool_) if scope.allow is None else scope.allow


def _bfloat16_keys(least: Array) -> Array:
    """The keys of float32 numbers rounded down to bfloat16; a zero includes the negative one."""
    bits = least.view(np.int32)
    cut = (bits >> 16).astype(np.int16)
    keys = cut ^ ((cut >> 15) & np.int16(0x7FFF))
    keys = np.where((bits < 0) & (bits & 0xFFFF != 0), keys - 1, keys)
    return np.minimum(keys, np.where(keys == 0, -1, keys)).astype(np.int16)
