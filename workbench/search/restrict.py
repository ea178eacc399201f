"""What a consumer changes about the scores of a row: a bias per column, columns left out, columns allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from workbench.search.definition import Array
from workbench.search.tile import Tile
from workbench.types import FloatArray, IntArray, Relevance, check_unique

Which = Literal["queries", "gallery"]
_LARGEST_BIAS = 1e30
_WIDE = 2**31
"""Larger than any number of columns: row * _WIDE + column names a pair by one integer."""


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
        chosen = None if bias_row is None else _which("bias_row", bias_row, n_rows, len(stack))
        return cls(np.atleast_2d(stack), chosen)

    def apply(self, tile: Tile) -> tuple[Array, FloatArray]:
        """Screened ranking scores of a tile and their error: casting and subtracting add a few roundings."""
        if self.stack is None:
            return tile.scores, tile.error
        part = self.stack[:, tile.columns]
        rounding = 8 * float(np.finfo(tile.scores.dtype).eps) * (tile.reach + np.abs(part).max())
        cast = tile.kernels.laid_out(part.astype(tile.scores.dtype))
        return tile.scores - (cast if self.chosen is None else cast[self.chosen[tile.rows]]), tile.error + rounding

    def at(self, rows: IntArray, columns: IntArray) -> FloatArray | float:
        if self.stack is None:
            return 0.0
        values: FloatArray = self.stack[0 if self.chosen is None else self.chosen[rows], columns]
        return values


@dataclass(frozen=True, eq=False)
class Scope:
    """The columns a row may see: all but ``indptr, items`` (compressed rows), and of these the allowed ones.

    allow (n_masks, n_columns) bool or None; mask (n_rows,) names the mask of each row. left (n_rows,) columns in scope.
    """

    indptr: IntArray
    items: IntArray
    allow: npt.NDArray[np.bool_] | None
    mask: IntArray
    left: IntArray

    @classmethod
    def of(
        cls,
        exclude: Relevance | None,
        allow: npt.ArrayLike | None,
        allow_row: npt.ArrayLike | None,
        n_rows: int,
        n_columns: int,
    ) -> Scope:
        indptr, items = np.zeros(n_rows + 1, np.int64), np.zeros(0, np.int64)
        if exclude is not None:
            check_shape("exclude", exclude, n_rows, n_columns)
            indptr, items = exclude.positives.indptr, exclude.positives.items
        masks, mask = _masks(allow, allow_row, n_rows, n_columns)
        scope = cls(indptr, items, masks, mask, np.zeros(n_rows, np.int64))
        left = np.full(n_rows, n_columns) if masks is None else masks.sum(axis=1)[mask]
        return cls(indptr, items, masks, mask, left - np.bincount(scope.pairs[0], minlength=n_rows))

    @property
    def everything(self) -> bool:
        return self.allow is None and not len(self.items)

    @property
    def pairs(self) -> tuple[IntArray, IntArray]:
        """(rows, columns) of the excluded pairs that a mask would let through."""
        rows = np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))
        if self.allow is None:
            return rows, self.items
        inside = self.allow[self.mask[rows], self.items]
        return rows[inside], self.items[inside]

    def sees(self, rows: IntArray, columns: IntArray) -> npt.NDArray[np.bool_]:
        """Whether each pair is in scope, (n_pairs,)."""
        out = np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))
        seen: npt.NDArray[np.bool_] = ~np.isin(pair_keys(rows, columns), pair_keys(out, self.items))
        return seen if self.allow is None else seen & self.allow[self.mask[rows], columns]

    def excluded(self, tile: Tile) -> tuple[IntArray, IntArray]:
        """Positions (i, j) in the tile of the excluded pairs."""
        edges = self.indptr[tile.row_start : tile.rows.stop + 1]
        i = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
        j = self.items[edges[0] : edges[-1]] - tile.column_start
        here = (j >= 0) & (j < tile.n_columns)
        return i[here], j[here]

    def hidden(self, tile: Tile) -> npt.NDArray[np.bool_]:
        """(m, n) the pairs of a tile that are out of scope."""
        if self.allow is None:
            out = np.zeros((tile.n_rows, tile.n_columns), bool)
        else:
            out = ~self.allow[:, tile.columns][self.mask[tile.rows]]
        out[self.excluded(tile)] = True
        return out


@dataclass(frozen=True, eq=False, kw_only=True)
class OneSided:
    """What every consumer can be told: whose items are the rows, and which columns a row may see.

    of : "queries" or "gallery". exclude : (n_rows, n_columns) pairs whose positives (grade > 0) are left out, such as
    :func:`same_items`. allow : (n_columns,) bool, the only columns to look at, or a stack (n_masks, n_columns) with
    ``allow_row`` (n_rows,) naming the mask of each row.
    """

    of: Which = "queries"
    exclude: Relevance | None = None
    allow: npt.ArrayLike | None = None
    allow_row: npt.ArrayLike | None = None

    def __post_init__(self) -> None:
        if self.of not in ("queries", "gallery"):
            raise ValueError(f"of must be 'queries' or 'gallery'; got {self.of!r}")

    def scope(self, n_rows: int, n_columns: int) -> Scope:
        return Scope.of(self.exclude, self.allow, self.allow_row, n_rows, n_columns)


def pair_keys(rows: IntArray, columns: IntArray) -> IntArray:
    """(n_pairs,) one integer for each pair, ascending in row and then column."""
    return rows * _WIDE + columns


def same_items(query_ids: Sequence[str], gallery_ids: Sequence[str]) -> Relevance:
    """The pairs whose two sides are one and the same item, to be left out of a search of a set in itself.

    Matches ids, never positions: a duplicate of the query under another id is a legitimate result. Both lists must hold
    unique ids. Give the result to ``exclude=``.

    >>> same_items(["b", "x"], ["a", "b", "c"]).row(0)[0]
    array([1])
    """
    queries, gallery = check_unique(query_ids, "query"), check_unique(gallery_ids, "item")
    place = {name: j for j, name in enumerate(gallery)}
    rows = [i for i, name in enumerate(queries) if name in place]
    columns = [place[queries[i]] for i in rows]
    return Relevance.from_pairs(rows, columns, n_queries=len(queries), n_gallery=len(gallery))


def _masks(
    allow: npt.ArrayLike | None, allow_row: npt.ArrayLike | None, n_rows: int, n_columns: int
) -> tuple[npt.NDArray[np.bool_] | None, IntArray]:
    if allow is None:
        if allow_row is not None:
            raise ValueError("allow_row names rows of a stack of masks, but allow was not given")
        return None, np.zeros(n_rows, np.int64)
    masks = np.asarray(allow)
    wanted = f"({n_columns},), or (n_masks, {n_columns}) together with allow_row ({n_rows},)"
    if masks.dtype != np.bool_ or masks.ndim not in (1, 2) or masks.shape[-1] != n_columns:
        raise ValueError(f"allow must be True or False for each column, {wanted}; got {masks.dtype} {masks.shape}")
    if (masks.ndim == 2) != (allow_row is not None):
        given = "with" if allow_row is not None else "without"
        raise ValueError(f"allow must be {wanted}; got {masks.shape} {given} allow_row")
    stack = np.atleast_2d(masks)
    chosen = np.zeros(n_rows, np.int64) if allow_row is None else _which("allow_row", allow_row, n_rows, len(stack))
    return stack, chosen


def _which(name: str, given: npt.ArrayLike, n_rows: int, n_choices: int) -> IntArray:
    chosen = np.asarray(given)
    whole = chosen.shape == (n_rows,) and chosen.dtype.kind in "iu"
    if not whole or not (0 <= chosen.min() <= chosen.max() < n_choices):
        raise ValueError(f"{name} must be ({n_rows},) whole numbers in 0..{n_choices - 1}; got {chosen!r:.80}")
    return chosen.astype(np.int64)


def check_shape(name: str, relevance: Relevance, n_rows: int, n_columns: int) -> None:
    if (relevance.n_queries, relevance.n_gallery) != (n_rows, n_columns):
        raise ValueError(
            f"{name} is ({relevance.n_queries}, {relevance.n_gallery}) but ({n_rows}, {n_columns}) is needed: rows are "
            "the items named by of=; use relevance.T for of='gallery'"
        )


def id_order(ids: Sequence[str] | None, n: int) -> IntArray:
    """(n,) place of each item in ascending order of id."""
    if ids is None:
        return np.arange(n)
    names = check_unique(ids, "item")
    if len(names) != n:
        raise ValueError(f"{len(names)} ids for {n} items; ids are those of the side that is retrieved")
    place = np.empty(n, np.int64)
    place[sorted(range(n), key=names.__getitem__)] = np.arange(n)
    return place
