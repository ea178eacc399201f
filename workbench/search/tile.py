"""The score matrix in tiles, each with a proof of how far its scores can be from the scores of the pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from workbench.search.definition import Array, Screen, error_factor
from workbench.search.kernels import Kernels
from workbench.search.side import Side, exact_scores
from workbench.types import FloatArray, IntArray

_BFLOAT16_ROUNDING = 2.0**-8


@dataclass(frozen=True, eq=False)
class Tile:
    """Screened scores of some rows against some columns, with what is needed to know how far they can be trusted.

    scores : (m, n) screened scores in the layout of ``kernels``; bfloat16 as bit patterns (int16). row_start,
    column_start : where the tile lies. rows_of, columns_of : the two whole sides. n_rows, n_columns : of the tile.
    factor, underflow, relative : a screened score s is within ``error + relative * |s|`` of the score of its pair.
    """

    row_start: int
    column_start: int
    n_rows: int
    n_columns: int
    scores: Array
    rows_of: Side
    columns_of: Side
    factor: float
    underflow: float
    relative: float
    kernels: Kernels = field(repr=False)

    @property
    def rows(self) -> slice:
        return slice(self.row_start, self.row_start + self.n_rows)

    @property
    def columns(self) -> slice:
        return slice(self.column_start, self.column_start + self.n_columns)

    @cached_property
    def reach(self) -> FloatArray:
        """(m,) no score in the row is larger than this in absolute value (Cauchy-Schwarz)."""
        return self.rows_of.norms[self.rows] * float(self.columns_of.norms[self.columns].max())

    @cached_property
    def error(self) -> FloatArray:
        """(m,) how far any screened score of the row can be from the score of its pair."""
        row, row_moved = self.rows_of.norms[self.rows], self.rows_of.moved[self.rows]
        column = float(self.columns_of.norms[self.columns].max())
        column_moved = float(self.columns_of.moved[self.columns].max())
        cast = (row + row_moved) * (column + column_moved)
        return self.factor * cast + row_moved * column + (row + row_moved) * column_moved + self.underflow

    @cached_property
    def T(self) -> Tile:
        """The same tile seen from the gallery: its items are the rows."""
        scores = self.kernels.transposed(self.scores, self.n_rows, self.n_columns)
        return Tile(
            self.column_start, self.row_start, self.n_columns, self.n_rows, scores, self.columns_of, self.rows_of,
            self.factor, self.underflow, self.relative, self.kernels,
        )  # fmt: skip

    def exact(self, i: IntArray, j: IntArray) -> FloatArray:
        """Pair scores at positions (i, j) of the tile. Refuses to go on if a screened score broke its bound."""
        at, to = i + self.row_start, j + self.column_start
        scores = exact_scores(self.kernels, self.rows_of, self.columns_of, at, to)
        screened = self.kernels.values(self.scores, i, j)
        check_bound(screened, scores, self.error[i] + self.relative * np.abs(screened))
        return scores


def check_bound(screened: FloatArray, exact: FloatArray, error: FloatArray) -> None:
    """Refuse to go on if a screened score is farther from the score of the pair than rounding can explain."""
    apart = np.abs(screened - exact)
    if (apart > error).any():
        raise FloatingPointError(
            f"a matrix product is {apart.max():.3g} away from the score of the pair, more than rounding can explain; "
            "the linear algebra library computes with less precision than it says: switch off its reduced-precision "
            "mode or use screen='float64'"
        )


class Product(Protocol):
    """A matrix product in the screening precision: ``cast`` brings vectors there, ``multiply`` gives the scores."""

    def cast(self, vectors: Array, n_padded: int) -> Any: ...
    def multiply(self, left: Any, right: Any) -> Array: ...


class NumpyProduct:
    """The product of the linear algebra library behind numpy, strip by strip in the threads of the kernels."""

    def __init__(self, dtype: str, kernels: Kernels) -> None:
        self.dtype, self.kernels, self.out = np.dtype(dtype), kernels, np.empty(0)

    def cast(self, vectors: Array, n_padded: int) -> Array:
        return padded(vectors, n_padded, self.dtype)

    def multiply(self, left: Array, right: Array) -> Array:
        shape = (len(left), len(right))
        if self.out.size != shape[0] * shape[1]:
            self.out = np.empty(shape, self.dtype)
        out = self.out.reshape(shape)

        def strip(part: slice) -> None:
            np.matmul(left[part], right.T, out=out[part])

        self.kernels.in_parallel(strip, len(left), len(left))
        return out


class TorchProduct:
    """The product of torch, in float32 or float64, on any of its devices."""

    def __init__(self, dtype: str, device: str) -> None:
        import torch

        self.torch, self.dtype, self.device = torch, dtype, device
        self.out = torch.empty(0, dtype=getattr(torch, dtype), device=device)

    def cast(self, vectors: Array, n_padded: int) -> Any:
        return self.torch.from_numpy(np.require(padded(vectors, n_padded, np.dtype(self.dtype)), requirements="W")).to(
            self.device
        )

    def multiply(self, left: Any, right: Any) -> Array:
        shape = (len(left), len(right))
        if self.out.numel() != shape[0] * shape[1]:
            self.out = self.out.new_empty(shape)
        return np.asarray(self.torch.mm(left, right.T, out=self.out.view(shape)).cpu().numpy())


class Bfloat16Product(TorchProduct):
    """The product of torch in bfloat16, summed in float32, on a processor; scores are bit patterns."""

    def __init__(self, kernels: Kernels) -> None:
        super().__init__("bfloat16", "cpu")
        self.kernels, self.threads = kernels, self.torch.get_num_threads()

    def cast(self, vectors: Array, n_padded: int) -> Any:
        return self.torch.from_numpy(self.kernels.bfloat16_bits(vectors, n_padded)).view(self.torch.bfloat16)

    def multiply(self, left: Any, right: Any) -> Array:
        shape = (len(left), len(right))
        if self.out.numel() != shape[0] * shape[1]:
            self.out = self.out.new_empty(shape)
        out = self.out.view(shape)

        def strip(part: slice) -> None:
            self.torch.set_num_threads(1)  # of this thread
            self.torch.mm(left[part], right.T, out=out[part])

        try:
            self.kernels.in_parallel(strip, len(left), len(left))
        finally:
            self.torch.set_num_threads(self.threads)
        return np.asarray(out.view(self.torch.int16).numpy())


def padded(vectors: Array, n: int, dtype: np.dtype[Any]) -> Array:
    """The vectors, contiguous in another precision and with rows of zeros up to n; a copy only where it differs."""
    if n == len(vectors) and type(vectors) is np.ndarray and vectors.dtype == dtype and vectors.flags.c_contiguous:
        return vectors
    out = np.zeros((n, vectors.shape[1]), dtype) if n > len(vectors) else np.empty((n, vectors.shape[1]), dtype)
    out[: len(vectors)] = vectors
    return out


def tiles(
    queries: Side, gallery: Side, *, shape: tuple[int, int], screen: Screen, kernels: Kernels, device: str = "cpu"
) -> Iterator[Tile]:
    """The score matrix in tiles of at most ``shape``; each block of the gallery is read once.

    A tile is valid until the next one is asked for: its scores live in a buffer that is used again.
    """
    dim = queries.vectors.shape[1]
    factor = error_factor(dim, screen)
    tiny = float(np.finfo("float64" if screen == "float64" else "float32").tiny)
    underflow = 2 * dim * tiny * (1 + queries.longest + gallery.longest)
    relative = _BFLOAT16_ROUNDING if screen == "bfloat16" else 0.0
    product = _product(screen, kernels, device)
    for column in range(0, len(gallery.vectors), shape[1]):
        part = gallery.vectors[column : column + shape[1]]
        block = product.cast(part, -(-len(part) // kernels.width) * kernels.width)
        gallery.release()
        for row in range(0, len(queries.vectors), shape[0]):
            own = queries.vectors[row : row + shape[0]]
            scores = kernels.laid_out(product.multiply(product.cast(own, len(own)), block))
            yield Tile(
                row, column, len(own), len(part), scores, queries, gallery, factor, underflow,
                relative, kernels,
            )  # fmt: skip
        queries.release()


def _product(screen: Screen, kernels: Kernels, device: str) -> Product:
    if screen == "bfloat16":
        return Bfloat16Product(kernels)
    return NumpyProduct(screen, kernels) if device == "cpu" else TorchProduct(screen, device)
