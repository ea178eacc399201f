"""Repairs for hubness that are one number per gallery item: a bias, subtracted from every score of that item.

A method exists in two forms that agree. ``METHODS[name](bank_scores, ...)`` takes the scores of a bank of other queries
as a matrix and returns the bias; it is short enough to read. ``STATISTICS[name](...)`` says which single statistic of
an item's bank scores the method needs, so that a streaming pass can deliver it without the matrix, and turns the
statistic into the bias:

    statistic = STATISTICS["csls"](k=10)                     # kind 'top-k mean', parameter 10, weight 0.5
    bias = statistic.bias(values_per_item)

A bias is only as honest as its bank: see :data:`Provenance` and :func:`cross_fit_folds`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from workbench.normalize.local import check_k, csls
from workbench.normalize.softmax import check_beta, inverted_softmax
from workbench.types import FloatArray, IntArray

Kind = Literal["log-sum-exp", "top-k mean"]
Provenance = Literal["inductive", "cross-fit", "transductive"]
"""Where bank queries come from: another split, the other fold of the images, or the scored queries themselves."""

_GRID_BITS = 33


@dataclass(frozen=True)
class BankStatistic:
    """One number per gallery item, from its scores against a bank, and the bias it becomes.

    kind : "log-sum-exp" (parameter beta: ``log(sum_b exp(beta s)) / beta``) or "top-k mean" (parameter k: mean of the k
    largest). weight : bias per unit of the statistic.
    """

    kind: Kind
    parameter: float
    weight: float

    def bias(self, values: npt.ArrayLike) -> FloatArray:
        """``weight * values``, rounded to one part in 2^33 (1e-10) of the largest.

        Equal gallery items must get equal biases, or their ties would be broken by the rounding of a sum. The rounding
        here is coarser than that of a float64 sum and finer than that of float32 vectors.

        >>> BankStatistic("top-k mean", 10, 0.5).bias([0.5, 0.25])
        array([0.25 , 0.125])
        """
        raw = self.weight * np.asarray(values, np.float64)
        if raw.ndim != 1 or not np.isfinite(raw).all():
            raise ValueError(f"one finite number per gallery item is needed; got shape {raw.shape}")
        grid = 2.0 ** (np.frexp(np.abs(raw).max())[1] - _GRID_BITS)
        return np.asarray(np.round(raw / grid) * grid, np.float64)


def inverted_softmax_statistic(*, beta: float = 20.0) -> BankStatistic:
    """What :func:`inverted_softmax` needs to know of each gallery item.

    >>> inverted_softmax_statistic(beta=50.0)
    BankStatistic(kind='log-sum-exp', parameter=50.0, weight=1.0)
    """
    return BankStatistic("log-sum-exp", check_beta(beta), 1.0)


def csls_statistic(*, k: int = 10) -> BankStatistic:
    """What :func:`csls` needs to know of each gallery item.

    >>> csls_statistic()
    BankStatistic(kind='top-k mean', parameter=10, weight=0.5)
    """
    return BankStatistic("top-k mean", check_k(k), 0.5)


METHODS: dict[str, Callable[..., FloatArray]] = {
    "inverted softmax": inverted_softmax,
    "csls": csls,
}
STATISTICS: dict[str, Callable[..., BankStatistic]] = {
    "inverted softmax": inverted_softmax_statistic,
    "csls": csls_statistic,
}


def cross_fit_folds(clusters: npt.ArrayLike, seed: int) -> IntArray:
    """Two folds of clusters, 0 and 1, of equal size (fold 0 one larger if the number is odd).

    For data without a training split: each fold is a small test set of its own, repaired with the queries of the other.
    Score the queries of fold f against the gallery items *of fold f only*, with a bias estimated from the queries of
    fold ``1 - f`` against these items, and compare with the raw scores *of the same halves*. No label then touches the
    repair: neither the right item nor any of its competitors has a query of its own in the bank, as with a bank from
    another split. The gain is that of a gallery of half the size.

    Do not score against the whole gallery with such a bias: the fold of a query then tells where its answer is. All
    competitors in the other fold have their own queries in the bank and are marked down for it, the right item never
    is; that alone can be worth several points of hit@1. Leaving the pairs of an item and its own queries out of the
    bank (``exclude=`` of the bank statistics) turns the error round where items resemble each other: the queries of a
    look-alike in the other fold count against the right item, and not the other way about.

    clusters : one label per image (or per cluster of images that belong together). Captions take the fold of their
    image: ``folds[text_image]``. seed : of the draw; folds depend on it and on the set of labels, not on their order.
    Returns (n,) int64, parallel to ``clusters``.

    >>> cross_fit_folds(["b", "a", "c", "a"], seed=0)
    array([0, 0, 1, 0])
    """
    labels = np.asarray(clusters)
    if labels.ndim != 1:
        raise ValueError(f"clusters must be one label per item, (n,); got {labels.shape}")
    names, place = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"two folds need at least 2 clusters; got {len(names)}")
    fold = np.zeros(len(names), np.int64)
    fold[np.random.default_rng(seed).permutation(len(names))[: len(names) // 2]] = 1
    return fold[place]


__all__ = [
    "METHODS",
    "STATISTICS",
    "BankStatistic",
    "Kind",
    "Provenance",
    "cross_fit_folds",
    "csls",
    "csls_statistic",
    "inverted_softmax",
    "inverted_softmax_statistic",
]
