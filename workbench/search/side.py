"""One side of a comparison: its vectors, in memory or in a file larger than memory, and what bounds their scores."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from workbench.search import definition
from workbench.search.definition import Array, Screen
from workbench.search.kernels import Kernels
from workbench.types import FloatArray, IntArray

LARGEST_NORM: dict[str, float] = {"bfloat16": 1e15, "float32": 1e15, "float64": 1e150}


@dataclass(frozen=True, eq=False)
class Side:
    """One side of the comparison.

    vectors (n, dim). norms (n,) : lengths in float64. moved (n,) : how far casting to bfloat16 moves each vector, an
    upper bound; zero for other precisions, whose casting is in :func:`~workbench.search.definition.error_factor`.
    """

    vectors: Array
    norms: FloatArray
    moved: FloatArray

    @classmethod
    def of(cls, vectors: Array, name: str, kernels: Kernels, screen: Screen = "float32") -> Side:
        array = np.asarray(vectors)
        if array.ndim != 2 or 0 in array.shape:
            raise ValueError(f"{name} must have shape (n, dim) with n, dim >= 1; got {array.shape}")
        if array.dtype not in (np.float32, np.float64):
            raise ValueError(f"{name} must be float32 or float64; got {array.dtype}: convert with .astype(np.float32)")
        side = cls(array, np.empty(len(array)), np.zeros(len(array)))
        side._measure(name, kernels, screen)
        return side

    def _measure(self, name: str, kernels: Kernels, screen: Screen) -> None:
        """Lengths, read in blocks; NaN and infinity are an error."""
        step = max(1, 8 * definition.CHUNK_NUMBERS // self.vectors.shape[1])
        for start in range(0, len(self.vectors), step):
            part = slice(start, start + step)
            kernels.measure(self.vectors[part], screen, self.norms[part], self.moved[part])
            self.release()
        bad = np.flatnonzero(~(self.norms <= LARGEST_NORM["float64"]))
        if len(bad):
            raise ValueError(
                f"{len(bad)} of {len(self.vectors)} {name} vectors hold NaN or infinity or are longer than "
                f"{LARGEST_NORM['float64']:g} (first row: {bad[0]}); drop them or encode them again"
            )

    @cached_property
    def _map(self) -> np.memmap[Any, Any] | None:
        """The file mapping behind the vectors, if giving back its pages loses nothing."""
        base: Any = self.vectors
        while base is not None and not isinstance(getattr(base, "base", None), mmap.mmap):
            base = getattr(base, "base", None)
        kept = isinstance(base, np.memmap) and base.mode != "c" and hasattr(mmap, "MADV_DONTNEED")
        return base if kept else None

    def release(self) -> None:
        """Let the system take back the pages of a memory-mapped file: they are read again when needed."""
        if self._map is not None:
            mapping: Any = self._map.base
            mapping.madvise(mmap.MADV_DONTNEED)

    def some(self, rows: IntArray) -> tuple[Array, IntArray]:
        """Vectors that hold the given rows, and where: the vectors themselves, or a copy of these rows of a file.

        Touching one vector of a mapped file can make megabytes around it resident, so these are read one by one.
        """
        if self._map is None or self._map.filename is None or not self.vectors.flags.c_contiguous:
            return self.vectors, rows
        wanted, where = np.unique(rows, return_inverse=True)
        found = np.empty((len(wanted), self.vectors.shape[1]), self.vectors.dtype)
        start = self._map.offset + self.vectors.ctypes.data - self._map.ctypes.data
        with open(self._map.filename, "rb", buffering=0) as file:
            for row, vector in zip(wanted.tolist(), found, strict=True):
                file.seek(start + row * found.strides[0])
                if file.readinto(vector.data) != vector.nbytes:
                    raise OSError(f"{self._map.filename} ends before vector {row}; it was cut while it was searched")
        return found, where

    @property
    def longest(self) -> float:
        return float(self.norms.max())


def exact_scores(kernels: Kernels, rows: Side, columns: Side, at: IntArray, to: IntArray) -> FloatArray:
    """The scores of pairs by the definition, (n_pairs,), a few megabytes at a time where a side lies in a file."""
    step = max(1, 8 * definition.CHUNK_NUMBERS // rows.vectors.shape[1])
    if rows._map is None and columns._map is None:
        return kernels.pair_scores(rows.vectors, columns.vectors, at, to)
    scores = np.empty(len(at))
    for start in range(0, len(at), step):
        part = slice(start, start + step)
        (left, i), (right, j) = rows.some(at[part]), columns.some(to[part])
        scores[part] = kernels.pair_scores(left, right, i, j)
    return scores
