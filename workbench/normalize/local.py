"""Corrections by neighbourhood: an item is marked down by how close its nearest bank queries are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from workbench.normalize.softmax import bank_scores
from workbench.types import FloatArray


def csls(bank: npt.ArrayLike, *, k: int = 10) -> FloatArray:
    """Gallery bias of cross-domain similarity local scaling: half the mean score of an item's k nearest bank queries.

        bias[g] = r_g / 2,   r_g = mean of the k largest bank[:, g]

    The published score ``2 s - r_q - r_g`` orders the gallery of a query q as ``s - bias[g]`` does: r_q, the mean over
    the k items nearest to q, is the same for the whole gallery and needs not be known.

    bank : (n_bank, n_gallery) cosine scores of bank queries against the gallery, higher is closer; minus infinity marks
    a pair that is left out. In the paper the bank is the scored queries themselves (transductive).
    k : 1 .. number of bank queries left for every item; 10 in the paper.
    Returns (n_gallery,) in units of the score; subtract it from any scores against this gallery.
    Source: Conneau, Lample, Ranzato, Denoyer, Jegou: Word translation without parallel data. ICLR 2018,
    https://arxiv.org/abs/1710.04087

    >>> csls([[0.9, 0.1], [0.7, 0.3], [0.0, 0.2]], k=2)  # (0.9 + 0.7) / 4 and (0.3 + 0.2) / 4
    array([0.4  , 0.125])
    """
    scores, k = bank_scores(bank), check_k(k)
    fewest = int(np.isfinite(scores).sum(axis=0).min())
    if k > fewest:
        raise ValueError(f"k = {k} exceeds the {fewest} bank queries left for some item; use k <= {fewest}")
    return np.asarray(np.sort(scores, axis=0)[-k:].mean(axis=0) / 2, np.float64)


def check_k(k: int) -> int:
    """The neighbourhood size, or an error."""
    if isinstance(k, bool) or int(k) != k or k < 1:
        raise ValueError(f"k must be a whole number of at least 1; got {k!r}")
    return int(k)


def nnn(bank: npt.ArrayLike, *, k: int = 16, alpha: float = 0.75) -> FloatArray:
    """Gallery bias of nearest neighbour normalisation: a share of an item's mean score with its k nearest bank queries.

        bias[g] = alpha * r_g,   r_g = mean of the k largest bank[:, g]

    bank, k : as in :func:`csls`. alpha : 0 .. about 1.5, chosen on validation data together with k in the paper.
    Returns (n_gallery,) in units of the score; alpha = 1/2 is :func:`csls` with a bank.
    Source: Chowdhury, Wang, Shenoy, Kiela, Schwettmann, Thrush: Nearest neighbor normalization improves multimodal
    retrieval. EMNLP 2024, https://arxiv.org/abs/2410.24114

    >>> nnn([[0.9, 0.1], [0.7, 0.3], [0.0, 0.2]], k=2, alpha=1.0)
    array([0.8 , 0.25])
    """
    return 2 * float(alpha) * csls(bank, k=k)


def mean_centering(bank: npt.ArrayLike) -> FloatArray:
    """Gallery bias of centring: an item's mean score over the bank queries.

        bias[g] = mean_b bank[b, g] = mean query . item g

    ``(query - mean query) . item`` orders the gallery of a query as ``s - bias[g]`` does.
    Source: Suzuki, Hara, Shimbo, Saerens, Fukumizu: Centering similarity measures to reduce hubs. EMNLP 2013,
    https://aclanthology.org/D13-1058. There vectors of one kind lose their common mean; here queries lose theirs.

    >>> mean_centering([[0.9, 0.1], [0.7, 0.3]])
    array([0.8, 0.2])
    """
    return np.asarray(bank_scores(bank).mean(axis=0), np.float64)
