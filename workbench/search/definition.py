"""What the score of a pair is, and how far a screened score can be from it.

The score is defined once, by :func:`pair_scores`. A matrix product is faster but rounds differently for different tile
shapes, threads and machines, so it only screens: a proven bound says which comparisons are certain, and the few others
are decided by the definition. Results therefore depend neither on how the work is cut nor on the precision.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from workbench.types import FloatArray, IntArray

Array = npt.NDArray[Any]
Screen = Literal["bfloat16", "float32", "float64"]
CHUNK_NUMBERS = 2**18
"""Coordinates in one working chunk: two megabytes in float64, which stay in a core's cache."""


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
    step = max(1, CHUNK_NUMBERS // left.shape[1])
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


def _gamma(operations: int, precision: str) -> float:
    """n u / (1 - n u): the relative error of n roundings (Higham, Accuracy and Stability, 2002, lemma 3.1)."""
    spoiled = operations * float(np.finfo(precision).eps) / 2
    if spoiled >= 0.5:
        raise ValueError(f"vectors of {operations - 2} dimensions are too long to screen in {precision}; use float64")
    return spoiled / (1 - spoiled)


def error_factor(dim: int, screen: Screen) -> float:
    """Factor f with |screened score - pair score| <= f |query| |item|, apart from underflow.

    A product of two cast vectors, summed in any order, with or without fused operations, spoils each term by at most
    ``dim + 2`` roundings (two casts, one multiplication, dim - 1 additions): gamma_(dim + 2) of the precision in which
    it is summed. To this comes the rounding of the definition itself, log2(dim) + 2 roundings in float64. One part in a
    million is added for the rounding of the bound and of the norms, and eight roundings in float64 for the arithmetic
    of the comparisons themselves. A bfloat16 product is summed in float32; what casting to bfloat16 costs is not in
    this factor but measured vector by vector (:class:`workbench.search.tile.Side`).

    >>> round(error_factor(512, "float32") / 2**-24, 1)
    514.0
    """
    defined = _gamma(math.ceil(math.log2(dim)) + 10, "float64")
    return (_gamma(dim + 2, "float64" if screen == "float64" else "float32") + defined) * (1 + 1e-6)


def lower(values: FloatArray, dtype: npt.DTypeLike) -> Array:
    """The values rounded down to float32, or as they are, never below the least finite number."""
    if np.dtype(dtype) == np.float64:
        return np.maximum(values, np.finfo(np.float64).min)
    rounded: Array = np.maximum(np.nextafter(values.astype(dtype), -np.inf, dtype=dtype), np.finfo(dtype).min)
    return rounded


def upper(values: FloatArray, dtype: npt.DTypeLike) -> Array:
    """The values rounded up to float32, or as they are."""
    if np.dtype(dtype) == np.float64:
        return values
    rounded: Array = np.nextafter(values.astype(dtype), np.inf, dtype=dtype)
    return rounded


def positions(mask: Array) -> tuple[IntArray, IntArray]:
    """Row and column of every true entry, read in memory order."""
    if mask.flags.f_contiguous and not mask.flags.c_contiguous:
        j, i = np.divmod(np.flatnonzero(mask.T), mask.shape[0])
    else:
        i, j = np.divmod(np.flatnonzero(mask), mask.shape[1])
    return i, j
