"""Corrections on a softmax scale: an item is marked down by how loudly a bank of other queries calls for it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from workbench.types import FloatArray


def inverted_softmax(bank: npt.ArrayLike, *, beta: float = 20.0) -> FloatArray:
    """Gallery bias of the inverted softmax: items that many other queries like are marked down.

        bias[g] = log( sum_b exp(beta * bank[b, g]) ) / beta

    The published score ``exp(beta * s) / sum_b exp(beta * bank[b, g])`` orders the gallery of a query exactly as
    ``s - bias[g]`` does, and the logarithm cannot overflow.

    bank : (n_bank, n_gallery) scores of bank queries against the gallery, higher is closer; minus infinity marks a pair
    that is left out. The sum over the n_left pairs of an item is scaled by n_bank / n_left, so that items with more
    pairs left out are not favoured.
    beta > 0 : inverse temperature, in units of 1 / score. The best value depends on the encoder: published code for
    cosine scores uses 20, 30 and 50 among others. Choose it on a validation split, never on the scored queries.
    Returns (n_gallery,) in units of the score; subtract it from any scores against this gallery.
    Source: Smith, Turban, Hamblin, Hammerla: Offline bilingual word vectors, orthogonal transformations and the
    inverted softmax. ICLR 2017, https://arxiv.org/abs/1702.03859

    >>> inverted_softmax([[0.0, 0.5], [0.0, 0.5], [0.0, 0.5]], beta=1.0).round(4)  # log 3 and log 3 + 0.5
    array([1.0986, 1.5986])
    """
    exponents = check_beta(beta) * bank_scores(bank)
    left = np.isfinite(exponents).sum(axis=0)
    if not left.all():
        raise ValueError(f"{int((left == 0).sum())} gallery items have all {len(exponents)} bank queries left out")
    largest = exponents.max(axis=0)
    sums = largest + np.log(np.exp(exponents - largest).sum(axis=0)) + np.log(len(exponents) / left)
    return np.asarray(sums / beta, np.float64)


def check_beta(beta: float) -> float:
    """The inverse temperature, or an error."""
    if not 0 < beta < np.inf:
        raise ValueError(f"beta must be a positive number; got {beta!r}")
    return float(beta)


def bank_scores(bank: npt.ArrayLike) -> FloatArray:
    """Bank scores as float64, or an error that names the shape or the NaN."""
    scores = np.asarray(bank, np.float64)
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(f"bank must have shape (n_bank, n_gallery) with n_bank, n_gallery >= 1; got {scores.shape}")
    if np.isnan(scores).any() or (scores == np.inf).any():
        raise ValueError("bank scores hold NaN or plus infinity; only minus infinity has a meaning (pair left out)")
    return scores


def dual_inverted_softmax(
    query_bank: npt.ArrayLike, gallery_bank: npt.ArrayLike, *, beta: float = 20.0, beta_gallery: float = 20.0
) -> FloatArray:
    """Gallery bias of the two-bank inverted softmax (DualIS): loud for other queries, or close to other items.

        bias[g] = (log sum_b exp(beta * query_bank[b, g]) + log sum_c exp(beta_gallery * gallery_bank[c, g]))
                  / (beta + beta_gallery)

    query_bank (n_bank, n_gallery), gallery_bank (n_other, n_gallery) : scores of bank queries and of *other* gallery
    items against the gallery. Item-to-item cosines spread wider than query-to-item ones in CLIP, so that equal betas
    give the gallery bank the greater say; betas belong to validation data.
    Source: Wang, Jian, Xue: Balance act: mitigating hubness in cross-modal retrieval with query and gallery banks.
    EMNLP 2023, https://arxiv.org/abs/2310.11612. The official ``db_norm`` normalises the gallery bank's matrix in place
    of the test matrix, so that its result does not depend on the test queries.

    >>> dual_inverted_softmax([[0.0, 0.5]], [[0.2, 0.2]], beta=1.0, beta_gallery=1.0)
    array([0.1 , 0.35])
    """
    of_queries = beta * inverted_softmax(query_bank, beta=beta)
    of_gallery = beta_gallery * inverted_softmax(gallery_bank, beta=beta_gallery)
    return (of_queries + of_gallery) / (beta + beta_gallery)
