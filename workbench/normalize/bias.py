"""Repairs that are one number per gallery item: a bias, subtracted from every score of that item.

Each is a weighted sum of statistics of the item's scores against a bank, which a streaming pass delivers without the
score matrix. The functions in ``softmax`` and ``local`` say the same for a matrix of bank scores, to be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from workbench.normalize.bank import fingerprints
from workbench.normalize.local import check_k
from workbench.normalize.softmax import check_beta
from workbench.search import LogSumExp, TopKMean, pair_scores, scan
from workbench.types import FloatArray

Kind = Literal["log-sum-exp", "top-k mean", "mean"]
Of = Literal["query bank", "gallery bank"]
Vectors = npt.NDArray[np.floating]


@dataclass(frozen=True)
class BankStatistic:
    """One number per gallery item, from its scores against a bank, and its weight in the bias.

    kind : "log-sum-exp" (parameter beta: ``log(sum_b exp(beta s)) / beta``), "top-k mean" (parameter k: mean of the k
    largest) or "mean". of : which bank.
    """

    kind: Kind
    parameter: float
    weight: float
    of: Of = "query bank"

    def values(self, bank: Vectors, gallery: Vectors, memory: int) -> FloatArray:
        """(n_gallery,) the statistic, from one pass over the bank."""
        if self.kind == "mean":
            middle = bank.mean(axis=0, dtype=np.float64)
            return pair_scores(middle[None], gallery, np.zeros(len(gallery), np.int64), np.arange(len(gallery)))
        consumer: Any = (
            LogSumExp(self.parameter, of="gallery")
            if self.kind == "log-sum-exp"
            else TopKMean(int(self.parameter), of="gallery")
        )
        return np.asarray(scan(bank, gallery, [consumer], memory=memory)[0], np.float64)


def tied_for_equal_items(bias: npt.ArrayLike, gallery: Vectors) -> FloatArray:
    """The bias (n_gallery,), exactly the same for equal rows of the gallery (n_gallery, dim).

    The rounding of a long sum may differ between equal items in the last bits, and would break their ties. Biases that
    are within 1e-10 of each other (of the largest) are looked at; of equal items, the first has its way.

    >>> tied_for_equal_items([0.3, 0.1 + 0.2, 0.3], np.array([[1.0], [1.0], [2.0]]))
    array([0.3, 0.3, 0.3])
    """
    found = np.array(bias, np.float64)
    if found.shape != (len(gallery),) or not np.isfinite(found).all():
        raise ValueError(f"one finite number per gallery item is needed; got shape {found.shape}")
    order = np.argsort(found, kind="stable")
    apart = np.diff(found[order]) > 1e-10 * np.abs(found).max()
    for group in np.split(order, np.flatnonzero(apart) + 1):
        if len(group) > 1:
            group = np.sort(group)
            _, first, same = np.unique(fingerprints(gallery[group]), return_index=True, return_inverse=True)
            found[group] = found[group[first[same]]]
    return found


def bank_bias(
    gallery: Vectors, query_bank: Vectors | None, gallery_bank: Vectors | None, statistics: Sequence[BankStatistic],
    *, memory: int = 2**28,
) -> FloatArray:  # fmt: skip
    """(n_gallery,) the weighted sum of the statistics, in units of the score.

    >>> csls = csls_statistics(k=1)
    >>> bank_bias(np.eye(2), np.array([[0.6, 0.8], [1.0, 0.0]]), None, csls)  # half the best score of each item
    array([0.5, 0.4])
    """
    banks = {"query bank": query_bank, "gallery bank": gallery_bank}
    total = np.zeros(len(gallery))
    for each in statistics:
        bank = banks[each.of]
        if bank is None:
            raise ValueError(f"this repair needs a {each.of}; none was given")
        total += each.weight * each.values(bank, gallery, memory)
    return tied_for_equal_items(total, gallery)


def inverted_softmax_statistics(*, beta: float) -> tuple[BankStatistic, ...]:
    """What :func:`~workbench.normalize.softmax.inverted_softmax` needs to know of each gallery item."""
    return (BankStatistic("log-sum-exp", check_beta(beta), 1.0),)


def dual_statistics(*, beta: float, beta_gallery: float) -> tuple[BankStatistic, ...]:
    """What :func:`~workbench.normalize.softmax.dual_inverted_softmax` needs to know of each gallery item."""
    both = check_beta(beta) + check_beta(beta_gallery)
    return (
        BankStatistic("log-sum-exp", beta, beta / both),
        BankStatistic("log-sum-exp", beta_gallery, beta_gallery / both, "gallery bank"),
    )


def csls_statistics(*, k: int) -> tuple[BankStatistic, ...]:
    """What :func:`~workbench.normalize.local.csls` needs to know of each gallery item."""
    return (BankStatistic("top-k mean", check_k(k), 0.5),)


def nnn_statistics(*, k: int, alpha: float) -> tuple[BankStatistic, ...]:
    """What :func:`~workbench.normalize.local.nnn` needs to know of each gallery item."""
    return (BankStatistic("top-k mean", check_k(k), float(alpha)),)


def centering_statistics() -> tuple[BankStatistic, ...]:
    """What :func:`~workbench.normalize.local.mean_centering` needs to know of each gallery item."""
    return (BankStatistic("mean", np.nan, 1.0),)
