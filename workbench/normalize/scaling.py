"""Repairs that divide a distance by how far apart the neighbours of its two ends are: local scaling and NICDM.

Distances are ``1 - score`` of cosine scores, cut at 0. The query's side of a repair is read off its own row of scores,
the item's side is learnt from a bank of other queries, streamed once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from workbench.normalize.local import check_k
from workbench.types import FloatArray

RESOLUTION = 2.0**-33
"""Distances and deviations below this (1e-10, in units of a cosine) are rounding; they are taken to be this large."""

_COSINE_SLACK = 1e-5


def distances(scores: npt.ArrayLike) -> FloatArray:
    """``1 - score``, cut at 0, of cosine scores.

    Raises ValueError for scores outside -1 .. 1 (1e-5 is forgiven as rounding): they are no cosines.

    >>> distances([[1.0, 0.25, -1.0]])
    array([[0.  , 0.75, 2.  ]])
    """
    cosines = np.asarray(scores, np.float64)
    largest = float(np.abs(cosines).max(initial=0.0))
    if not largest <= 1 + _COSINE_SLACK:
        raise ValueError(
            f"a distance 1 - score needs cosine scores between -1 and 1, but one has size {largest:.6g}; scale the "
            "vectors to length one first (unit_vectors), or use mutual proximity, which takes any scores"
        )
    return np.maximum(1 - cosines, 0)


def local_scaling(scores: npt.ArrayLike, query_radius: npt.ArrayLike, gallery_radius: npt.ArrayLike) -> FloatArray:
    """Logarithm of the locally scaled affinity: a distance counts in units of the two neighbourhoods.

        repaired[q, g] = - d[q, g]^2 / (r_q * r_g),   d = 1 - score

    scores (n_queries, n_gallery) cosines; query_radius (n_queries,), gallery_radius (n_gallery,) distances to the k-th
    neighbour. Returns (n_queries, n_gallery) <= 0, higher is closer; ``exp`` of it is the published affinity.

    >>> local_scaling([[0.5, 0.8]], [0.5], [0.5, 0.1])  # -0.25 / 0.25 and -0.04 / 0.05
    array([[-1. , -0.8]])
    """
    squares = distances(scores) ** 2
    own, item = np.maximum(query_radius, RESOLUTION), np.maximum(gallery_radius, RESOLUTION)
    return np.asarray(-squares / (own[:, None] * item), np.float64)


def nicdm(scores: npt.ArrayLike, query_mean: npt.ArrayLike, gallery_mean: npt.ArrayLike) -> FloatArray:
    """Minus the non-iterative contextual dissimilarity: a distance over the mean distances to near neighbours.

        repaired[q, g] = - d[q, g] * M / sqrt(m_q * m_g),   d = 1 - score,   M = geometric mean of all m_g

    scores (n_queries, n_gallery) cosines; query_mean (n_queries,), gallery_mean (n_gallery,) mean distances to the k
    nearest. Returns (n_queries, n_gallery) <= 0, in units of a distance, higher is closer.

    >>> nicdm([[0.5, 0.8]], [0.4], [0.4, 0.1])  # M = 0.2: -0.5 * 0.2 / 0.4 and -0.2 * 0.2 / 0.2
    array([[-0.25, -0.2 ]])
    """
    own, item = np.maximum(query_mean, RESOLUTION), np.maximum(gallery_mean, RESOLUTION)
    typical = np.exp(np.log(item).mean())
    return np.asarray(-distances(scores) * typical / np.sqrt(own[:, None] * item), np.float64)


@dataclass(frozen=True, eq=False)
class LocalScaling:
    """Local scaling of the scores of any queries against one gallery: items in dense places no longer win everything.

    See :func:`local_scaling`. radius (n_gallery,) : distance of an item to its k-th nearest bank query; the radius of a
    query is its distance to its k-th nearest gallery item. Equal distances everywhere give -1, all zero give 0.
    k : well above the number of bank queries that belong to one item; with fewer, the radius tells how well an item
    suits its own queries, and an item that suits them badly becomes more of a hub.
    Needs a query bank. Cost: one pass of the bank, k numbers per item; a k-th place per query.
    Source: Zelnik-Manor, Perona: Self-tuning spectral clustering. NIPS 2004,
    https://papers.nips.cc/paper/2619-self-tuning-spectral-clustering; against hubs: Schnitzer et al., JMLR 2012. There
    all objects are of one kind, and official code leaves the object itself out of its own neighbours; with a bank of
    other queries there is nothing to leave out.

    >>> LocalScaling.fit([[[0.9, 0.2], [0.8, 0.1]]], k=1)([[0.5, 0.6]]).round(3)  # d = 0.5, 0.4; r_q = 0.4; r_g below
    array([[-6.25, -0.5 ]])
    """

    radius: FloatArray
    k: int

    @classmethod
    def fit(cls, blocks: Iterable[npt.ArrayLike], *, k: int = 7) -> Self:
        """From blocks (m, n_gallery) of cosine scores of bank queries; 1 <= k <= bank queries and gallery items."""
        return cls(distances(nearest_scores(blocks, k)[-1]), check_k(k))

    def __call__(self, scores: npt.ArrayLike) -> FloatArray:
        """(m, n_gallery) repaired scores of m queries, higher is closer."""
        raw = checked_scores(scores, len(self.radius))
        return local_scaling(raw, distances(largest_first(raw, self.k)[:, -1]), self.radius)


@dataclass(frozen=True, eq=False)
class Nicdm:
    """NICDM of the scores of any queries against one gallery: as local scaling, with a mean for the k-th distance.

    See :func:`nicdm`. mean_distance (n_gallery,) : of an item to its k nearest bank queries; that of a query is to its
    k nearest gallery items. Equal distances everywhere are left as they are. k : as in :class:`LocalScaling`.
    Needs a query bank. Cost: one pass of the bank, k numbers per item; the k nearest per query.
    Source: Jegou, Harzallah, Schmid: A contextual dissimilarity measure for accurate and efficient image search. CVPR
    2007, https://doi.org/10.1109/CVPR.2007.382970; without its iterations: Schnitzer, Flexer, Schedl, Widmer: Local and
    global scaling reduce hubs in space. JMLR 13, 2012, https://jmlr.org/papers/v13/schnitzer12a.html. The factor M, the
    same for all pairs, is taken over the gallery here and over all objects, of one kind, there.

    >>> Nicdm.fit([[[0.6, 0.9], [0.5, 0.8]]], k=1)([[0.5, 0.6]]).round(2)  # the example of nicdm(), the query's own m
    array([[-0.25, -0.4 ]])
    """

    mean_distance: FloatArray
    k: int

    @classmethod
    def fit(cls, blocks: Iterable[npt.ArrayLike], *, k: int = 10) -> Self:
        """From blocks (m, n_gallery) of cosine scores of bank queries; 1 <= k <= bank queries and gallery items."""
        return cls(distances(nearest_scores(blocks, k)).mean(axis=0), check_k(k))

    def __call__(self, scores: npt.ArrayLike) -> FloatArray:
        """(m, n_gallery) repaired scores of m queries, higher is closer."""
        raw = checked_scores(scores, len(self.mean_distance))
        return nicdm(raw, distances(largest_first(raw, self.k)).mean(axis=1), self.mean_distance)


def checked_scores(scores: npt.ArrayLike, n_gallery: int | None = None) -> FloatArray:
    """Scores (m, n_gallery) in float64, or an error that names the shape or the value."""
    found = np.asarray(scores, np.float64)
    if found.ndim != 2 or found.shape[1] != (n_gallery or max(found.shape[1], 1)):
        wanted = "n_gallery >= 1" if n_gallery is None else str(n_gallery)
        raise ValueError(f"scores of queries against the whole gallery, (m, {wanted}), are needed; got {found.shape}")
    if not np.isfinite(found).all():
        raise ValueError("scores hold NaN or infinity; this repair needs every score of a bank query and of a query")
    return found


def checked_blocks(blocks: Iterable[npt.ArrayLike]) -> Iterator[FloatArray]:
    """The blocks of a bank in float64, all as wide as the first; an error if they hold no row."""
    n_gallery, n_bank = None, 0
    for block in blocks:
        scores = checked_scores(block, n_gallery)
        n_gallery, n_bank = scores.shape[1], n_bank + len(scores)
        if len(scores):
            yield scores
    if not n_bank:
        raise ValueError("the bank is empty; give scores of at least one bank query against the gallery")


def nearest_scores(blocks: Iterable[npt.ArrayLike], k: int) -> FloatArray:
    """(k, n_gallery) the k largest bank scores of every item, largest first, from one pass."""
    k, n_bank, best = check_k(k), 0, None
    for scores in checked_blocks(blocks):
        n_bank += len(scores)
        pool = scores if best is None else np.concatenate([best, scores])
        best = pool if len(pool) <= k else np.partition(pool, len(pool) - k, axis=0)[len(pool) - k :]
    assert best is not None
    for size, what in ((n_bank, "bank queries"), (best.shape[1], "items of the gallery")):
        if k > size:
            raise ValueError(f"k = {k} exceeds the {size} {what}; use k <= {size}")
    return np.sort(best, axis=0)[::-1]


def largest_first(scores: FloatArray, k: int) -> FloatArray:
    """(m, k) the k largest scores of every row, largest first."""
    n = scores.shape[1]
    return np.sort(np.partition(scores, n - k, axis=1)[:, n - k :], axis=1)[:, ::-1]
