"""Repairs that ask how often the two ends of a pair are as close to others: mutual proximity and rank correction.

The query's side is read off its own row of scores, the item's side is learnt from a bank of other queries. Only the
order of scores matters, or their mean and deviation, so that any scores will do; mutual proximity is usually written
for distances, ``d = 1 - score``: a distance is exceeded where a score is undercut.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr

from workbench.normalize.scaling import RESOLUTION, checked_blocks, checked_scores
from workbench.types import FloatArray

BANK_LIMIT = 2**26
"""How many bank scores (bank queries x gallery items) a repair may keep: 512 MB in float64."""

JOINT_LIMIT = 2**22
"""How many bank scores joint mutual proximity may keep: a gallery of 2,048. Every query meets all of them."""


def mutual_proximity_gaussian(
    scores: npt.ArrayLike,
    query_mean: npt.ArrayLike,
    query_deviation: npt.ArrayLike,
    gallery_mean: npt.ArrayLike,
    gallery_deviation: npt.ArrayLike,
) -> FloatArray:
    """Logarithm of the mutual proximity of two independent normal distributions.

        repaired[q, g] = log Phi((s - mean_q) / deviation_q) + log Phi((s - mean_g) / deviation_g)

    scores (n_queries, n_gallery); mean and standard deviation of the scores of each query (n_queries,) and of each item
    (n_gallery,). Phi is the standard normal distribution function: the chance that another score is lower.
    Returns (n_queries, n_gallery) <= 0, higher is closer; ``exp`` of it is the published similarity.

    >>> mutual_proximity_gaussian([[0.3, 0.5]], [0.3], [0.1], [0.3, 0.5], [0.1, 0.2]).round(3)  # log 1/4, log .977/2
    array([[-1.386, -0.716]])
    """
    raw = np.asarray(scores, np.float64)
    own = (raw - np.asarray(query_mean)[:, None]) / np.maximum(query_deviation, RESOLUTION)[:, None]
    item = (raw - np.asarray(gallery_mean)) / np.maximum(gallery_deviation, RESOLUTION)
    return np.asarray(log_ndtr(own) + log_ndtr(item), np.float64)


@dataclass(frozen=True, eq=False)
class MutualProximityGaussian:
    """Mutual proximity of any queries and one gallery, normal and independent: close counts if it is for both.

    See :func:`mutual_proximity_gaussian`. mean, deviation (n_gallery,) : of an item's scores with the bank queries,
    deviation with divisor n_bank; those of a query are over its own row. A score equal to the mean of constant scores
    has probability 1/2 (log 1/4 for both sides); deviations below RESOLUTION count as RESOLUTION.
    Needs a query bank. Cost: one pass of the bank, two numbers per item; two normal distribution functions per score.
    Source: Schnitzer, Flexer, Schedl, Widmer: Local and global scaling reduce hubs in space. JMLR 13, 2012,
    https://jmlr.org/papers/v13/schnitzer12a.html. Official code multiplies probabilities, which underflow for far
    pairs, leaves each object out of its own statistics (all are of one kind) and sets its distance to itself to 0.

    >>> repair = MutualProximityGaussian.fit([[[0.2, 0.7], [0.4, 0.3]]])
    >>> repair.mean, repair.deviation
    (array([0.3, 0.5]), array([0.1, 0.2]))
    """

    mean: FloatArray
    deviation: FloatArray

    @classmethod
    def fit(cls, blocks: Iterable[npt.ArrayLike]) -> Self:
        """From blocks (m, n_gallery) of scores of bank queries."""
        n_bank, origin = 0, np.zeros(1)
        first = second = np.zeros(1)
        for scores in checked_blocks(blocks):
            origin = origin if n_bank else scores[0].copy()
            n_bank += len(scores)
            moved = scores - origin
            first, second = first + moved.sum(axis=0), second + (moved**2).sum(axis=0)
        drift = first / n_bank
        return cls(origin + drift, np.sqrt(np.maximum(second / n_bank - drift**2, 0)))

    def __call__(self, scores: npt.ArrayLike) -> FloatArray:
        """(m, n_gallery) repaired scores of m queries, higher is closer."""
        raw = checked_scores(scores, len(self.mean))
        return mutual_proximity_gaussian(raw, raw.mean(axis=1), raw.std(axis=1), self.mean, self.deviation)


@dataclass(frozen=True, eq=False)
class _SortedBank:
    """What is kept by the repairs that count bank queries: all their scores, ascending within each item."""

    bank: FloatArray

    @classmethod
    def fit(cls, blocks: Iterable[npt.ArrayLike]) -> Self:
        """From blocks (m, n_gallery) of scores of bank queries."""
        bank = _whole_bank(blocks, BANK_LIMIT, "MutualProximityGaussian, which keeps two numbers per item")
        bank.sort(axis=1)
        return cls(bank.T)


@dataclass(frozen=True, eq=False)
class MutualProximityEmpirical(_SortedBank):
    """Mutual proximity of any queries and one gallery, by counting, the two sides independent.

        repaired[q, g] = (share of gallery items h with s[q, h] < s[q, g])
                         * (share of bank queries b with s[b, g] < s[q, g])

    No shape of the distributions is assumed; the price is the whole bank in memory, and ties: a product of two shares
    has few values, and it is 0 wherever one of them is (constant scores give 0 throughout).
    bank (n_bank, n_gallery) : scores of the bank queries, ascending within each item.
    Needs a query bank with n_bank * n_gallery <= BANK_LIMIT. Cost: a sort, then a binary search per score.
    Source: Schnitzer et al., JMLR 2012, https://jmlr.org/papers/v13/schnitzer12a.html, which counts objects that are
    farther from *both* ends; between queries and items of another kind no object has a score with both. Where that
    holds, see :class:`MutualProximityJoint`.

    >>> MutualProximityEmpirical.fit([[[0.2, 0.7], [0.4, 0.3]]])([[0.3, 0.5]])  # 0 of 2 * 1 of 2, 1 of 2 * 1 of 2
    array([[0.  , 0.25]])
    """

    def __call__(self, scores: npt.ArrayLike) -> FloatArray:
        """(m, n_gallery) repaired scores of m queries, 0 to 1, higher is closer."""
        raw = checked_scores(scores, self.bank.shape[1])
        own = _places(raw) / raw.shape[1]
        item = _counts_below(self.bank, raw, "left") / len(self.bank)
        return np.asarray(own * item, np.float64)


@dataclass(frozen=True, eq=False)
class MutualProximityJoint:
    """Mutual proximity as first defined: the share of objects that are farther from both ends of a pair.

        repaired[q, g] = share of objects h with s[q, h] < s[q, g] and bank[h, g] < s[q, g]

    Row h of the bank and column h of a query's scores must be the same object: the bank is the gallery itself, searched
    with itself (image to image), or holds the partner of each item. Constant scores give 0 throughout.
    bank (n_gallery, n_gallery) : scores of the objects with the gallery.
    Cost: n_gallery^2 comparisons per query, so n_gallery^2 <= JOINT_LIMIT.
    Source: Schnitzer et al., JMLR 2012, https://jmlr.org/papers/v13/schnitzer12a.html. An object is never farther from
    itself than another, so that the two ends never count; like the official code, the divisor is n_gallery nonetheless.

    >>> bank = [[1.0, 0.2, 0.1], [0.2, 1.0, 0.6], [0.1, 0.6, 1.0]]
    >>> MutualProximityJoint.fit([bank])([[0.9, 0.5, 0.3]]).round(3)  # items 1 and 2 are farther from both, then none
    array([[0.667, 0.   , 0.   ]])
    """

    bank: FloatArray

    @classmethod
    def fit(cls, blocks: Iterable[npt.ArrayLike]) -> Self:
        """From blocks (m, n_gallery) of scores of the objects, in the order of the gallery."""
        bank = _whole_bank(blocks, JOINT_LIMIT, "MutualProximityGaussian or MutualProximityEmpirical").T
        if bank.shape[0] != bank.shape[1]:
            raise ValueError(
                f"joint mutual proximity needs one bank row per gallery item, the same object; got {bank.shape[0]} "
                f"rows for {bank.shape[1]} items; for a bank of other queries use MutualProximityEmpirical"
            )
        return cls(np.ascontiguousarray(bank))

    def __call__(self, scores: npt.ArrayLike) -> FloatArray:
        """(m, n_gallery) repaired scores of m queries, 0 to 1, higher is closer."""
        raw = checked_scores(scores, len(self.bank))
        farther = [((row[:, None] < row) & (self.bank < row)).mean(axis=0) for row in raw]
        return np.reshape(np.asarray(farther, np.float64), raw.shape)


@dataclass(frozen=True, eq=False)
class RankCorrection(_SortedBank):
    """Globally corrected retrieval: an item prefers the queries that are the nearest to it.

        repaired[q, g] = s[q, g] - rank[q, g],   rank = number of bank queries b with s[b, g] > s[q, g]

    A hub is close to everything, so that most queries rank low with it. The score itself decides between equal ranks
    (and outweighs a rank where scores differ by more than 1). Constant scores are left as they are.
    bank (n_bank, n_gallery) : scores of the bank queries, ascending within each item.
    Needs a query bank with n_bank * n_gallery <= BANK_LIMIT. Cost: a sort, then a binary search per score.
    Source: Dinu, Lazaridou, Baroni: Improving zero-shot learning by mitigating the hubness problem. ICLR workshop 2015,
    https://arxiv.org/abs/1412.6568. There the scored queries are part of the bank, so that ranks begin at 1 and depend
    on the other test queries; here a rank is 0 to n_bank.

    >>> RankCorrection.fit([[[0.2, 0.7], [0.4, 0.3]]])([[0.3, 0.5], [0.1, 0.9]])  # ranks 1 1 and 2 0
    array([[-0.7, -0.5], [-1.9,  0.9]])
    """

    def __call__(self, scores: npt.ArrayLike) -> FloatArray:
        """(m, n_gallery) repaired scores of m queries, higher is closer."""
        raw = checked_scores(scores, self.bank.shape[1])
        return raw - (len(self.bank) - _counts_below(self.bank, raw, "right"))


def _whole_bank(blocks: Iterable[npt.ArrayLike], limit: int, instead: str) -> FloatArray:
    """(n_gallery, n_bank) all scores, items along the rows, or an error as soon as they are more than the limit."""
    parts: list[FloatArray] = []
    n_bank = 0
    for scores in checked_blocks(blocks):
        n_bank += len(scores)
        if n_bank * scores.shape[1] > limit:
            raise ValueError(
                f"{n_bank} or more bank rows x {scores.shape[1]} gallery items exceed the {limit} scores that this "
                f"repair may keep; draw at most {limit // scores.shape[1]} rows for the bank, or use {instead}"
            )
        parts.append(scores.T.copy())
    return np.concatenate(parts, axis=1)


def _counts_below(ascending: FloatArray, values: FloatArray, side: Literal["left", "right"]) -> FloatArray:
    """How many of a column's sorted numbers are below ("left") or not above ("right") each value of the column."""
    counts = np.empty((values.shape[1], values.shape[0]), np.float64)
    for item, known in enumerate(ascending.T):
        counts[item] = known.searchsorted(values[:, item], side)
    return counts.T


def _places(values: FloatArray) -> FloatArray:
    """How many numbers of its row are smaller than each number."""
    order = values.argsort(axis=1)
    ascending = np.take_along_axis(values, order, axis=1)
    first = np.ones(values.shape, np.bool_)
    np.not_equal(ascending[:, 1:], ascending[:, :-1], out=first[:, 1:])
    smaller = np.maximum.accumulate(np.where(first, np.arange(values.shape[1]), 0), axis=1)
    counts = np.empty(values.shape, np.float64)
    np.put_along_axis(counts, order, smaller, axis=1)
    return counts
