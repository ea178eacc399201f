"""One exact pass over all pairs of two sides, in tiles, without ever holding the full score matrix.

The score of a pair is defined once, by :func:`pair_scores`. A matrix product is faster but rounds differently for
different tile shapes, threads and machines, so it is used for screening only: a proven bound on its error says which
comparisons are certain, and the few others are decided by the definition. Results therefore depend neither on how the
work is cut nor on the precision of the product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from workbench.types import FloatArray, IntArray

Array = npt.NDArray[Any]
Side = Literal["queries", "gallery"]
Screen = Literal["float32", "float64"]

BYTES_PER_PAIR = 160
"""Working memory for one pair of a tile when every pair of it is undecided: indices, exact scores and a sort."""
_CHUNK_NUMBERS = 2**18
_LARGEST_BIAS = 1e30
_LARGEST_NORM: dict[str, float] = {"float32": 1e15, "float64": 1e150}


def pair_scores(queries: Array, gallery: Array, rows: npt.ArrayLike, columns: npt.ArrayLike) -> FloatArray:
    """The score of each pair ``(rows[i], columns[i])``: the definition everything else is held against.

    Products of coordinates are formed in float64 and added by halves: the last half of the row onto the first, again
    and again, until one number is left. Every step is an elementwise IEEE operation, so the bits of a score depend on
    its two vectors only, not on the other pairs asked for, their order, the memory layout, threads or machine.

    queries (n_queries, dim), gallery (n_gallery, dim) : real vectors. rows, columns (n_pairs,) : indices.
    Returns (n_pairs,) float64. Memory beyond the result is bounded by a few megabytes.

    >>> pair_scores(np.array([[1.0, 2.0, 3.0]]), np.array([[4.0, 5.0, 6.0], [0.0, 1.0, 0.0]]), [0, 0], [0, 1])
    array([32.,  2.])
    """
    left, right = np.asarray(queries), np.asarray(gallery)
    at, to = np.asarray(rows, np.int64).ravel(), np.asarray(columns, np.int64).ravel()
    if len(at) != len(to):
        raise ValueError(f"{len(at)} rows but {len(to)} columns; one of each per pair is needed")
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
        raise ValueError(f"queries {left.shape} and gallery {right.shape} must be (n, dim) with the same dim")
    scores = np.empty(len(at))
    step = max(1, _CHUNK_NUMBERS // left.shape[1])
    for start in range(0, len(at), step):
        part = slice(start, start + step)
        scores[part] = _sum_by_halves(np.multiply(left[at[part]], right[to[part]], dtype=np.float64))
    return scores


def _sum_by_halves(products: FloatArray) -> FloatArray:
    """Row sums in an order fixed by the width alone; overwrites its argument."""
    width = products.shape[1]
    while width > 1:
        half = width // 2
        products[:, :half] += products[:, width - half : width]
        width -= half
    return products[:, 0]


def _gamma(operations: int, screen: Screen) -> float:
    """n u / (1 - n u): the relative error of n roundings (Higham, Accuracy and Stability, 2002, lemma 3.1)."""
    spoiled = operations * float(np.finfo(screen).eps) / 2
    if spoiled >= 0.5:
        raise ValueError(f"vectors of {operations - 2} dimensions are too long to screen in {screen}; use float64")
    return spoiled / (1 - spoiled)


def error_factor(dim: int, screen: Screen) -> float:
    """Factor f with |screened score - pair score| <= f |query| |item|, apart from underflow.

    A product of two cast vectors, summed in any order, with or without fused operations, spoils each term by at most
    ``dim + 2`` roundings (two casts, one multiplication, dim - 1 additions): gamma_(dim + 2) of the screening
    precision. To this comes the rounding of the definition itself, log2(dim) + 2 roundings in float64. One part in a
    million is added for the rounding of the bound and of the norms, and eight roundings in float64 for the arithmetic
    of the comparisons themselves.

    >>> round(error_factor(512, "float32") / 2**-24, 1)
    514.0
    """
    defined = _gamma(math.ceil(math.log2(dim)) + 10, "float64")
    return (_gamma(dim + 2, screen) + defined) * (1 + 1e-6)


@dataclass(frozen=True, eq=False)
class Tile:
    """Screened scores of some rows against some columns, with what is needed to know how far they can be trusted.

    scores (m, n) : screened scores. row_start, column_start : where the tile lies. row_norms (m,), column_norms (n,).
    row_vectors, column_vectors : the whole sides. factor, underflow : the error bound is
    ``factor * |row| * max |column| + underflow``.
    """

    row_start: int
    column_start: int
    scores: Array
    row_norms: FloatArray
    column_norms: FloatArray
    row_vectors: Array
    column_vectors: Array
    factor: float
    underflow: float

    @property
    def rows(self) -> slice:
        return slice(self.row_start, self.row_start + self.scores.shape[0])

    @property
    def columns(self) -> slice:
        return slice(self.column_start, self.column_start + self.scores.shape[1])

    @property
    def reach(self) -> FloatArray:
        """(m,) no score in the row is larger than this in absolute value (Cauchy-Schwarz)."""
        return self.row_norms * float(self.column_norms.max())

    @property
    def error(self) -> FloatArray:
        """(m,) how far any screened score of the row can be from the pair score."""
        return self.factor * self.reach + self.underflow

    @property
    def T(self) -> Tile:
        """The same tile seen from the gallery: its items are the rows."""
        return Tile(
            self.column_start, self.row_start, self.scores.T, self.column_norms, self.row_norms,
            self.column_vectors, self.row_vectors, self.factor, self.underflow,
        )  # fmt: skip

    def exact(self, i: IntArray, j: IntArray) -> FloatArray:
        """Pair scores at positions (i, j) of the tile. Refuses to go on if a screened score broke its bound."""
        scores = pair_scores(self.row_vectors, self.column_vectors, i + self.row_start, j + self.column_start)
        apart = np.abs(self.scores[i, j] - scores)
        if (apart > self.error[i]).any():
            raise FloatingPointError(
                f"a {self.scores.dtype} matrix product is {apart.max():.3g} away from the score of the pair, more than "
                "rounding can explain; the linear algebra library computes with less precision than it says: switch "
                "off its reduced-precision mode or use screen='float64'"
            )
        return scores


@dataclass(frozen=True, eq=False)
class Bias:
    """A bias per column, or a stack of biases and, for each row, the one to use; no bias if ``stack`` is None."""

    stack: FloatArray | None
    chosen: IntArray | None

    @classmethod
    def of(cls, bias: npt.ArrayLike | None, bias_row: npt.ArrayLike | None, n_rows: int, n_columns: int) -> Bias:
        if bias is None:
            if bias_row is not None:
                raise ValueError("bias_row names rows of a stack of biases, but no bias was given")
            return cls(None, None)
        stack = np.asarray(bias, np.float64)
        if stack.ndim not in (1, 2) or stack.shape[-1] != n_columns or (stack.ndim == 2) != (bias_row is not None):
            raise ValueError(
                f"bias must be ({n_columns},), or (n_biases, {n_columns}) together with bias_row ({n_rows},); got "
                f"{stack.shape} {'without' if bias_row is None else 'with'} bias_row; is it for the other direction?"
            )
        if not (np.abs(stack) < _LARGEST_BIAS).all():
            raise ValueError(f"bias must be finite and smaller than {_LARGEST_BIAS:g} in absolute value")
        return cls(np.atleast_2d(stack), None if bias_row is None else _check_bias_row(bias_row, n_rows, len(stack)))

    def apply(self, tile: Tile) -> tuple[Array, FloatArray]:
        """Screened ranking scores of a tile and their error: casting and subtracting add a few roundings."""
        if self.stack is None:
            return tile.scores, tile.error
        part = self.stack[:, tile.columns]
        rounding = 8 * float(np.finfo(tile.scores.dtype).eps) * (tile.reach + np.abs(part).max())
        cast = part.astype(tile.scores.dtype)
        return tile.scores - (cast if self.chosen is None else cast[self.chosen[tile.rows]]), tile.error + rounding

    def at(self, rows: IntArray, columns: IntArray) -> FloatArray | float:
        if self.stack is None:
            return 0.0
        values: FloatArray = self.stack[0 if self.chosen is None else self.chosen[rows], columns]
        return values


def _check_bias_row(bias_row: npt.ArrayLike, n_rows: int, n_biases: int) -> IntArray:
    chosen = np.asarray(bias_row)
    if chosen.shape != (n_rows,) or chosen.dtype.kind not in "iu" or not (0 <= chosen.min() <= chosen.max() < n_biases):
        raise ValueError(f"bias_row must be ({n_rows},) whole numbers in 0..{n_biases - 1}; got {chosen!r:.80}")
    return chosen.astype(np.int64)


def lower(values: FloatArray, dtype: npt.DTypeLike) -> Array:
    """The values in another precision, rounded down, never below the least finite number."""
    rounded: Array = np.maximum(np.nextafter(values.astype(dtype), -np.inf, dtype=dtype), np.finfo(dtype).min)
    return rounded


def upper(values: FloatArray, dtype: npt.DTypeLike) -> Array:
    """The values in another precision, rounded up."""
    rounded: Array = np.nextafter(values.astype(dtype), np.inf, dtype=dtype)
    return rounded


def positions(mask: Array) -> tuple[IntArray, IntArray]:
    """Row and column of every true entry, read in memory order."""
    if mask.flags.f_contiguous and not mask.flags.c_contiguous:
        j, i = np.divmod(np.flatnonzero(mask.T), mask.shape[0])
    else:
        i, j = np.divmod(np.flatnonzero(mask), mask.shape[1])
    return i, j


class Accumulator(Protocol):
    """The running state of one consumer. ``merge`` takes the state of the same consumer over other tiles."""

    def update(self, tile: Tile) -> None: ...
    def merge(self, other: Any) -> None: ...
    def finish(self) -> Any: ...


class Consumer(Protocol):
    """What a scan feeds. ``of`` says whose items are the rows; the consumer itself never changes."""

    @property
    def of(self) -> Side: ...
    @property
    def screen(self) -> Screen: ...
    def state_bytes(self, n_rows: int, n_columns: int) -> int: ...
    def begin(self, rows: Array, columns: Array) -> Accumulator: ...


def scan(
    queries: Array,
    gallery: Array,
    consumers: Sequence[Consumer],
    *,
    memory: int = 256 * 2**20,
    screen: Screen = "float32",
    progress: Callable[[int, int], None] | None = None,
) -> list[Any]:
    """Stream all pairs once and return the result of each consumer, in the order given.

    queries (n_queries, dim), gallery (n_gallery, dim) : float32 or float64, finite; a ``np.memmap`` is read in blocks.
    consumers : :class:`TopK`, :class:`RankPositives`, :class:`LogSumExp`, :class:`TopKMean`, any number of each.
    memory : bytes of working memory, consumers' state included, inputs not. It changes the speed, not the results
    (sums of floats: 1e-12).
    screen : precision of the matrix product. float64 is taken where a consumer needs it, or where the vectors are so
    long or short that float32 could overflow.
    progress : called as ``progress(tiles_done, tiles_in_all)``.

    >>> from workbench.search import TopK
    >>> nearest, = scan(np.eye(2), np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), [TopK(2)])
    >>> nearest.indices
    array([[1, 2],
           [0, 2]])
    """
    left, right = _checked(queries, "queries"), _checked(gallery, "gallery")
    if left.shape[1] != right.shape[1]:
        raise ValueError(
            f"queries have {left.shape[1]} dimensions and the gallery has {right.shape[1]}; "
            "both sides must come from the same embedding space"
        )
    norms = _norms(left, "queries"), _norms(right, "gallery")
    chosen = _choose_screen(screen, consumers, norms)
    shape = _tile_shape(len(left), len(right), left.shape[1], memory - _state_bytes(consumers, left, right), memory)
    states = [each.begin(left, right) if each.of == "queries" else each.begin(right, left) for each in consumers]
    total = -(-len(left) // shape[0]) * -(-len(right) // shape[1])
    for done, tile in enumerate(tiles(left, right, norms=norms, shape=shape, screen=chosen), start=1):
        for consumer, state in zip(consumers, states, strict=True):
            state.update(tile if consumer.of == "queries" else tile.T)
        if progress is not None:
            progress(done, total)
    return [state.finish() for state in states]


def tiles(
    queries: Array, gallery: Array, *, norms: tuple[FloatArray, FloatArray], shape: tuple[int, int], screen: Screen
) -> Iterator[Tile]:
    """The score matrix in tiles of at most ``shape``; each block of the gallery is read once."""
    dim = queries.shape[1]
    factor = error_factor(dim, screen)
    underflow = 2 * dim * float(np.finfo(screen).tiny) * (1 + float(norms[0].max()) + float(norms[1].max()))
    for column in range(0, len(gallery), shape[1]):
        columns = slice(column, column + shape[1])
        block = np.ascontiguousarray(gallery[columns], dtype=screen)
        for row in range(0, len(queries), shape[0]):
            rows = slice(row, row + shape[0])
            scores = np.ascontiguousarray(queries[rows], dtype=screen) @ block.T
            yield Tile(row, column, scores, norms[0][rows], norms[1][columns], queries, gallery, factor, underflow)


def _checked(vectors: Array, name: str) -> Array:
    array = np.asarray(vectors)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must have shape (n, dim) with n, dim >= 1; got {array.shape}")
    if array.dtype not in (np.float32, np.float64):
        raise ValueError(f"{name} must be float32 or float64; got {array.dtype}: convert with .astype(np.float32)")
    return array


def _norms(vectors: Array, name: str) -> FloatArray:
    """(n,) lengths in float64, read in chunks; NaN and infinity are an error."""
    step = max(1, _CHUNK_NUMBERS // vectors.shape[1])
    lengths = np.empty(len(vectors))
    for start in range(0, len(vectors), step):
        part = vectors[start : start + step].astype(np.float64)
        lengths[start : start + step] = np.sqrt(np.einsum("ij,ij->i", part, part))
    bad = np.flatnonzero(~(lengths <= _LARGEST_NORM["float64"]))
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {len(vectors)} {name} vectors hold NaN or infinity or are longer than "
            f"{_LARGEST_NORM['float64']:g} (first row: {bad[0]}); drop them or encode them again"
        )
    return lengths


def _choose_screen(screen: Screen, consumers: Sequence[Consumer], norms: tuple[FloatArray, FloatArray]) -> Screen:
    if screen not in ("float32", "float64"):
        raise ValueError(f"screen must be 'float32' or 'float64'; got {screen!r}")
    longest = max(float(norms[0].max()), float(norms[1].max()))
    wide = longest > _LARGEST_NORM["float32"] or any(each.screen == "float64" for each in consumers)
    return "float64" if wide else screen


def _state_bytes(consumers: Sequence[Consumer], queries: Array, gallery: Array) -> int:
    sizes = {"queries": (len(queries), len(gallery)), "gallery": (len(gallery), len(queries))}
    return 8 * (len(queries) + len(gallery)) + sum(each.state_bytes(*sizes[each.of]) for each in consumers)


def _tile_shape(n_queries: int, n_gallery: int, dim: int, free: int, memory: int) -> tuple[int, int]:
    """Rows and columns of a tile whose pairs and cast vectors fit into ``free`` bytes."""
    per_item = 8 * dim
    room = free - 4 * 8 * _CHUNK_NUMBERS
    side = int((math.sqrt(4 * per_item**2 + 4 * BYTES_PER_PAIR * max(room, 0)) - 2 * per_item) / (2 * BYTES_PER_PAIR))
    if side < 1:
        needed = memory - room + BYTES_PER_PAIR + 4 * per_item
        raise ValueError(
            f"memory={memory} bytes is too little: the results and the smallest tile need about {needed} bytes"
        )
    rows = min(n_queries, side)
    columns = min(n_gallery, max(side, (room - rows * per_item) // (rows * BYTES_PER_PAIR + per_item)))
    rows = min(n_queries, max(rows, (room - columns * per_item) // (columns * BYTES_PER_PAIR + per_item)))
    return rows, columns
