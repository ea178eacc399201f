"""Gated repairs: a bias only for queries whose nearest item is a likely hub."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workbench.normalize.local import check_k
from workbench.search import TopK, scan
from workbench.types import FloatArray, IntArray

Vectors = npt.NDArray[np.floating]


def activation_set(bank: Vectors, gallery: Vectors, *, k: int = 1, memory: int = 2**28) -> npt.NDArray[np.bool_]:
    """(n_gallery,) the items that are among the k nearest of any bank query: the candidates for hubs.

    >>> activation_set(np.array([[1.0, 0.0], [0.8, 0.6]]), np.eye(2))
    array([ True, False])
    """
    (nearest,) = scan(bank, gallery, [TopK(check_k(k))], memory=memory)
    return np.isin(np.arange(len(gallery)), nearest.indices)


@dataclass(frozen=True, eq=False)
class Gates:
    """Biases of one or two factors, and for each the items that switch it on.

    biases, weights : one (n_gallery,) bias per factor in units of the score, and its weight (the beta). A query uses
    the factors whose ``active`` (n_gallery,) holds its nearest item; with several, their weighted mean; with none, no
    bias.
    """

    biases: tuple[FloatArray, ...]
    weights: tuple[float, ...]
    active: tuple[npt.NDArray[np.bool_], ...]

    @property
    def stack(self) -> FloatArray:
        """(2 ** n_factors, n_gallery) the bias for every combination of factors; bit i of the row is factor i."""
        rows = [np.zeros(len(self.biases[0]))]
        for combination in range(1, 2 ** len(self.biases)):
            used = [i for i in range(len(self.biases)) if combination >> i & 1]
            weight = sum(self.weights[i] for i in used)
            rows.append(sum((self.weights[i] * self.biases[i] for i in used), np.zeros(len(self.biases[0]))) / weight)
        return np.stack(rows)

    def rows(self, queries: Vectors, gallery: Vectors, *, memory: int = 2**28) -> IntArray:
        """(n_queries,) the row of the stack for each query, by its raw nearest item."""
        (nearest,) = scan(queries, gallery, [TopK(1)], memory=memory)
        first = nearest.indices[:, 0]
        return np.asarray(sum(active[first].astype(np.int64) << i for i, active in enumerate(self.active)), np.int64)
