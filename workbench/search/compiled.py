"""The inner loops of a scan, compiled by numba: for large searches. Results equal those of ``plain``.

Scores are laid out as (rows, blocks, 128).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from workbench.search import loops
from workbench.search.definition import Array, Screen
from workbench.types import FloatArray, IntArray

if TYPE_CHECKING:
    from workbench.search.nearest import Best, Pending
    from workbench.search.ranks import Thresholds
    from workbench.search.restrict import Scope
    from workbench.search.tile import Tile

_WIDTH = 128
_FOUND = 2**15
"""Undecided pairs that a thread hands over at a time."""


class Compiled:
    """Kernels compiled by numba, with a pool of threads for the time of one scan.

    The linear algebra library is held to one thread meanwhile: its own threads would wait for the next product at full
    speed and take the processor from the loops between two products.
    """

    width = _WIDTH

    def __init__(self, threads: int) -> None:
        self.threads, self.pool = threads, ThreadPoolExecutor(threads)
        self.buffer = np.empty(0, np.uint8)

    def __enter__(self) -> Compiled:
        self.limits = threadpool_limits(1, user_api="blas")
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()
        self.limits.restore_original_limits()

    def tile_limits(self, screen: Screen, consumers: Sequence[Any]) -> tuple[int, tuple[int, int]]:
        """Bytes for one pair of a tile (its transpose and a biased copy included), and the largest tile."""
        item = {"bfloat16": 2, "float32": 4, "float64": 8}[screen]
        turned = any(each.of == "gallery" for each in consumers)
        biased = any(getattr(each, "bias", None) is not None for each in consumers)
        return item * (1 + turned + biased), (2048, 8192 // item)

    def measure(self, vectors: Array, screen: Screen, norms: FloatArray, moved: FloatArray) -> None:
        """As :meth:`workbench.search.plain.Plain.measure`."""
        narrow = screen == "bfloat16"
        self._run(lambda start, stop: loops.measure(vectors, narrow, norms, moved, start, stop), len(vectors))

    def bfloat16_bits(self, vectors: Array, n_padded: int) -> Array:
        """(n_padded, dim) the vectors in bfloat16, rounded to nearest, and rows of zeros."""
        bits = np.zeros((n_padded, vectors.shape[1]), np.int16)
        self._run(lambda start, stop: loops.cast(vectors, bits, start, stop), len(vectors))
        return bits

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
        self._run(lambda start, stop: loops.transpose(flat, out, start, stop), n_columns)
        return out.reshape(n_columns, -1, _WIDTH)

    def _run(self, work: Callable[[int, int], Any], n: int) -> list[Any]:
        """Call ``work(start, stop)`` on equal parts of 0..n in threads; their results in order."""
        parts = max(1, min(self.threads, n))
        edges = [n * part // parts for part in range(parts + 1)]
        return list(self.pool.map(work, edges[:-1], edges[1:]))

    def in_parallel(self, work: Callable[[slice], None], n: int, least: int) -> None:
        """Call ``work`` for parts of 0..n of ``least`` rows, in threads that take equal shares."""

        def share(start: int, stop: int) -> None:
            for first in range(start, stop, least):
                work(slice(first, min(first + least, stop)))

        self._run(share, n)

    def pair_scores(self, queries: Array, gallery: Array, rows: IntArray, columns: IntArray) -> FloatArray:
        scores = np.empty(len(rows))
        if len(rows):
            self._run(
                lambda start, stop: loops.pair_scores(queries, gallery, rows, columns, scores, start, stop), len(rows)
            )
        return scores

    def collect(self, tile: Tile, scores: Array, least: Array, scope: Scope, pending: Pending, begin: IntArray) -> None:
        """As :meth:`workbench.search.plain.Plain.collect`."""
        keys = _bfloat16_keys(least) if scores.dtype == np.int16 else least
        allow, at = _mask(scope), (tile.row_start, tile.column_start)
        self._run(
            lambda start, stop: loops.collect(
                scores, tile.n_columns, keys, begin, at, scope.indptr, scope.items, allow, scope.mask,
                pending.columns, pending.scores, pending.count, start, stop,
            ),
            tile.n_rows,
        )  # fmt: skip

    def count(
        self, tile: Tile, scores: Array, thresholds: Thresholds, scope: Scope
    ) -> Iterator[tuple[IntArray, IntArray]]:
        """As :meth:`workbench.search.plain.Plain.count`, in batches."""
        t, allow, mask = thresholds, _mask(scope), scope.mask[tile.rows]
        n_blocks = scores.shape[1]
        block_of = np.where(t.size > 0, 0, n_blocks)

        def work(start: int, stop: int) -> tuple[IntArray, IntArray]:
            i, j = np.empty(_FOUND, np.int64), np.empty(_FOUND, np.int64)
            m = loops.count(
                scores, tile.n_columns, t.start, t.size, t.low, t.high, t.above, allow, mask, tile.column_start,
                block_of, i, j, start, stop,
            )  # fmt: skip
            return i[:m], j[:m]

        while (block_of < n_blocks).any():
            yield from self._run(work, tile.n_rows)

    def places(
        self, targets: FloatArray, first: IntArray, last: IntArray, scores: FloatArray
    ) -> tuple[IntArray, IntArray]:
        """As :meth:`workbench.search.plain.Plain.places`."""
        reached, passed = np.empty(len(scores), np.int64), np.empty(len(scores), np.int64)
        self._run(
            lambda start, stop: loops.places(targets, first, last, scores, reached, passed, start, stop), len(scores)
        )
        return reached, passed

    def kth_at_least(self, tile: Tile, scores: Array, k: int) -> FloatArray:
        """(m,) screened scores that k columns of the row reach: the k-th of the maxima of groups of eight columns."""
        blocks = tile.n_columns // _WIDTH
        if blocks * loops.GROUPS < k:
            return np.full(tile.n_rows, -np.inf)
        best = np.empty((tile.n_rows, blocks, loops.GROUPS), scores.dtype)
        self._run(lambda start, stop: loops.group_maxima(scores, tile.n_columns, best, start, stop), tile.n_rows)
        flat = best.reshape(tile.n_rows, -1)
        kth = np.partition(flat, flat.shape[1] - k, axis=1)[:, flat.shape[1] - k]
        if kth.dtype == np.int16:
            kth = ((kth ^ ((kth >> 15) & np.int16(0x7FFF))).astype(np.int32) << 16).view(np.float32)
        return np.asarray(kth, np.float64)

    def drop(self, pending: Pending, rows: IntArray, k: int, relative: float, floor: FloatArray) -> None:
        """As :meth:`workbench.search.plain.Plain.drop`."""
        p = pending
        lists = p.columns, p.scores, p.count, p.error
        self._run(lambda start, stop: loops.drop(rows, k, relative, *lists, floor, start, stop), len(rows))

    def settle(self, best: Best, rows: IntArray, columns: IntArray, scores: FloatArray) -> None:
        """As :meth:`workbench.search.plain.Plain.settle`; pairs of one row must be next to each other."""
        parts = np.searchsorted(rows, rows[[len(rows) * part // self.threads for part in range(self.threads)]])
        edges = [*parts.tolist(), len(rows)]
        list(
            self.pool.map(
                lambda start, stop: loops.settle(
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
    return np.asarray(np.where(keys == 0, -1, keys), np.int16)
