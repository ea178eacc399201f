"""A smooth maximum of every row at a temperature: the bank statistic behind inverted softmax and its relatives."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from workbench.search import definition
from workbench.search.definition import Screen
from workbench.search.kernels import Kernels
from workbench.search.restrict import OneSided, Scope
from workbench.search.side import Side
from workbench.search.tile import Tile
from workbench.types import FloatArray


@dataclass(frozen=True, eq=False)
class LogSumExp(OneSided):
    """A smooth maximum of every row: ``log(sum_columns exp(beta * score)) / beta``, (n_rows,) float64.

    beta > 0 : inverse temperature. of : whose items are the rows. exclude : (n_rows, n_columns) pairs whose positives
    (grade > 0) are left out; allow, allow_row : as in :class:`TopK`. The sum over the ``n_left`` remaining columns is
    then scaled by ``n_columns / n_left``, so that rows with fewer columns are not favoured. A row with nothing left is
    an error.
    Scores come from a float64 product and are added in tile order: the same tiles give the same bits, other tiles
    agree to 1e-12 of the largest score or of 1 / beta, whichever is greater.
    """

    beta: float
    screen: Screen = field(default="float64", init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.beta < np.inf:
            raise ValueError(f"beta must be a positive number; got {self.beta!r}")

    def state_bytes(self, n_rows: int, n_columns: int) -> int:
        return 16 * n_rows

    def begin(self, rows: Side, columns: Side, kernels: Kernels) -> LogSumExpState:
        n_rows, n_columns = len(rows.vectors), len(columns.vectors)
        scope = self.scope(n_rows, n_columns)
        if not scope.left.all():
            raise ValueError(f"a row has all its {n_columns} columns excluded; its log-sum is not defined")
        return LogSumExpState(float(self.beta), scope, n_rows, n_columns)


_SMALL = 300.0
"""Up to here the exponential of an exponent, and of its negative, is far inside the range of float64."""


class LogSumExpState:
    """A reference exponent, the largest so far or 0 where all are small, and the sum of exponentials relative to it."""

    def __init__(self, beta: float, scope: Scope, n_rows: int, n_columns: int) -> None:
        self.beta, self.scope, self.n_columns = beta, scope, n_columns
        self.largest, self.total = np.full(n_rows, -np.inf), np.zeros(n_rows)

    def update(self, tile: Tile) -> None:
        hidden = None if self.scope.everything else self.scope.hidden(tile)
        small = self.beta * float(tile.reach.max()) < _SMALL

        def add(part: slice) -> None:
            scores = tile.scores[part].reshape(part.stop - part.start, -1)[:, : tile.n_columns]
            if hidden is not None:
                scores = np.where(hidden[part], -np.inf, scores)
            if small:
                largest, exponents = np.zeros(len(scores)), self.beta * scores
            else:
                largest = scores.max(axis=1)
                exponents = scores - np.where(largest > -np.inf, largest, 0.0)[:, None]
                exponents *= self.beta
            rows = slice(tile.row_start + part.start, tile.row_start + part.stop)
            self._add(rows, self.beta * largest, np.exp(exponents, out=exponents).sum(axis=1))

        least = max(1, definition.CHUNK_NUMBERS // 4 // max(tile.n_columns, 1))
        tile.kernels.in_parallel(add, tile.n_rows, least)

    def _add(self, rows: slice, largest: FloatArray, total: FloatArray) -> None:
        joint = np.maximum(self.largest[rows], largest)
        base = np.where(joint > -np.inf, joint, 0.0)
        self.total[rows] = self.total[rows] * np.exp(self.largest[rows] - base) + total * np.exp(largest - base)
        self.largest[rows] = joint

    def merge(self, other: LogSumExpState) -> None:
        self._add(slice(None), other.largest, other.total)

    def finish(self) -> FloatArray:
        return (self.largest + np.log(self.total) + np.log(self.n_columns / self.scope.left)) / self.beta
