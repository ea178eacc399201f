"""Repairs that change the vectors: the repaired score is the dot product of a changed query and a changed item.

Every ``fit_...(gallery, query_bank, gallery_bank, ...)`` takes vectors (n, dim), usually of length one, and returns an
:class:`EmbeddingTransform`. The query bank are other queries, the gallery bank other items; a method that does not need
one ignores it, and None will do. Equal items get exactly equal vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workbench.normalize.bank import fingerprints
from workbench.normalize.local import check_k
from workbench.normalize.scaling import RESOLUTION
from workbench.types import FloatArray

Vectors = npt.NDArray[np.floating]

_NUMBERS = 2**22


@dataclass(frozen=True, eq=False)
class EmbeddingTransform:
    """A repaired gallery, and what is to be done to queries so that dot products with it are the repaired scores.

        query' = [unit((query - center) @ matrix), appended]

    gallery (n_gallery, dim'). center (dim,) and matrix (dim, dim'') as in the formula, None for the identity. unit :
    whether rows are scaled to length one; a row without length (a query at the centre) stays zero. appended : numbers
    put after every query.

    >>> EmbeddingTransform(np.eye(3), np.array([1.0, 0.0]), unit=True, appended=(1.0,))([[4.0, 4.0]])
    array([[0.6, 0.8, 1. ]])
    """

    gallery: FloatArray
    center: FloatArray
    matrix: FloatArray | None = None
    unit: bool = False
    appended: tuple[float, ...] = ()

    def __call__(self, queries: npt.ArrayLike) -> FloatArray:
        """(n, dim') changed queries."""
        rows = _moved(_checked(queries, "queries", len(self.center)), self.center, self.matrix, self.unit)
        return np.concatenate([rows, np.tile(np.asarray(self.appended, np.float64), (len(rows), 1))], axis=1)


def fit_invgc(
    gallery: npt.ArrayLike, query_bank: npt.ArrayLike | None, gallery_bank: npt.ArrayLike | None,
    *, rate_gallery: float = 1.0, rate_query: float = 1.0,
) -> EmbeddingTransform:  # fmt: skip
    """Inverse graph convolution: every item moves away from the bank items and bank queries that it resembles.

        item' = unit(unit(item - rate_gallery * A(gallery bank)) + unit(item - rate_query * A(query bank)))
        A(bank) = mean over bank rows b of (item . b - level) * b,   level = mean of item . b over all items and rows

    Queries stay as they are. rate_gallery, rate_query >= 0 : of the bank they are named after; they belong to
    validation data. The paper aims at larger distances between vectors, not at hubs; rates of 1 hardly touch a planted
    hub, rates of 4 do.
    Needs both banks. Cost: one pass of each bank and of the gallery, each n * dim^2: the mean over the bank is a
    product of the item with the bank's second moments, so that no item meets a bank row.
    Source: Jian, Wang: InvGC: robust cross-modal retrieval by inverse graph convolution. Findings of EMNLP 2023,
    https://arxiv.org/abs/2310.13276. The formula is that of the official code's output, which the tests
    reproduce: the weights of a graph are its similarities less their mean over the whole graph (so that an item's
    repair depends a little on the other items), divided by the number of bank rows.

    >>> bank = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> fit_invgc(np.array([[0.6, 0.8]]), bank, bank).gallery.round(3)  # level 0.7: (0.65, 0.75) to length one
    array([[0.655, 0.756]])
    """

    def away(rows: FloatArray, bank: Vectors, middle_item: FloatArray) -> FloatArray:
        middle, moment = _moments(bank)
        return rows @ moment - (middle_item @ middle) * middle

    return _inverse_convolution(gallery, query_bank, gallery_bank, rate_gallery, rate_query, away)


def fit_invgc_local(
    gallery: npt.ArrayLike, query_bank: npt.ArrayLike | None, gallery_bank: npt.ArrayLike | None,
    *, rate_gallery: float = 1.0, rate_query: float = 1.0, share: float = 0.1,
) -> EmbeddingTransform:  # fmt: skip
    """Inverse graph convolution with a local graph: an item moves away from its nearest bank rows only.

        as fit_invgc, with A(bank) = mean over the item's nearest rows b of (item . b) * b

    share, 0 < share <= 1 : the floor(share * n_bank) nearest rows of each bank, at least one or an error; rows that
    tie with the last of them count as well.
    Needs both banks. Cost: every item meets every row of both banks twice, a block of items at a time.
    Source: as :func:`fit_invgc`, LocalAdj. In the official code's output the weights of a local graph are the bare
    similarities, without the mean that is taken from those of the full graph: share = 1 is not :func:`fit_invgc`.

    >>> bank = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> fit_invgc_local(np.array([[0.6, 0.8]]), bank, bank, share=0.5).gallery  # 0.8 - 0.8 * 1 is left of the second
    array([[1., 0.]])
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1; got {share!r}")

    def away(rows: FloatArray, bank: Vectors, middle_item: FloatArray) -> FloatArray:
        known = np.asarray(bank, np.float64)
        edges = int(np.floor(share * len(known) + 1e-9))
        if edges < 1:
            raise ValueError(
                f"share = {share:g} of {len(known)} bank rows is less than one; use a larger share or bank"
            )
        return np.concatenate([_nearest_pull(part, known, edges) for part in _parts(rows, len(known))])

    return _inverse_convolution(gallery, query_bank, gallery_bank, rate_gallery, rate_query, away)


def fit_renormalized_centering(
    gallery: npt.ArrayLike, query_bank: npt.ArrayLike | None, gallery_bank: npt.ArrayLike | None = None
) -> EmbeddingTransform:
    """Re-normalised centring: each side loses its mean vector, and what is left is scaled to length one.

        query' = unit(query - mean of the query bank),   item' = unit(item - mean of the gallery)

    Needs a query bank. Cost: one pass of the bank and one of the gallery.
    Source: Suzuki, Hara, Shimbo, Saerens, Fukumizu: Centering similarity measures to reduce hubs. EMNLP 2013,
    https://aclanthology.org/D13-1058: vectors of one kind lose their common mean, lengths stay. Two kinds have two
    means; without new lengths the repair would be :func:`workbench.normalize.local.mean_centering`, a bias.

    >>> bank = np.array([[1.0, 0.0], [0.0, 1.0]])  # mean (0.5, 0.5)
    >>> fit_renormalized_centering(bank, bank).gallery.round(3)
    array([[ 0.707, -0.707], [-0.707,  0.707]])
    """
    return _two_sided(gallery, query_bank, "re-normalised centring", lambda covariance: None)


def fit_all_but_the_top(
    gallery: npt.ArrayLike, query_bank: npt.ArrayLike | None, gallery_bank: npt.ArrayLike | None = None,
    *, n_components: int = 3,
) -> EmbeddingTransform:  # fmt: skip
    """All-but-the-top: vectors lose their mean and what they have in the few directions in which all vary most.

        x' = unit((x - mean of its side) @ (I - U U^T)),   U = n_components first eigenvectors of the mean covariance

    The covariance is the mean of that of the query bank and that of the gallery, each about its own mean, so that both
    sides lose the same directions and the gap between the two kinds is none of them.
    n_components, 1 .. dim - 1 : about dim / 100 in the paper; it belongs to validation data.
    Needs a query bank. Cost: n * dim^2 for the bank and the gallery each, and an eigendecomposition of dim x dim.
    Source: Mu, Viswanath: All-but-the-top: simple and effective postprocessing for word representations. ICLR 2018,
    https://arxiv.org/abs/1702.01417: there for vectors of one kind, compared by cosine afterwards (hence unit here).

    >>> bank = np.array([[0.0, 3.0, 0.0], [0.0, -3.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    >>> abs(fit_all_but_the_top(bank, bank, n_components=1)([[0.0, 5.0, 2.0]])).round(6)  # the second axis is lost
    array([[0., 0., 1.]])
    """

    def project(covariance: FloatArray) -> FloatArray:
        n = check_k(n_components)
        if n >= len(covariance):
            raise ValueError(f"n_components = {n} leaves nothing of {len(covariance)} dimensions; use a smaller one")
        top = np.linalg.eigh(covariance)[1][:, -n:]
        return np.asarray(np.eye(len(covariance)) - top @ top.T, np.float64)

    return _two_sided(gallery, query_bank, "all-but-the-top", project)


def fit_whitening(
    gallery: npt.ArrayLike, query_bank: npt.ArrayLike | None, gallery_bank: npt.ArrayLike | None = None,
    *, n_components: int = 0,
) -> EmbeddingTransform:  # fmt: skip
    """Whitening: vectors are turned and stretched until all directions vary alike, and the faint ones are dropped.

        x' = unit((x - mean of its side) @ U diag(v)^(-1/2)),   U, v = n_components first eigenpairs of the covariance

    The covariance is the mean of the two sides', as in :func:`fit_all_but_the_top`.
    n_components, 1 .. number of directions in which the vectors vary; 0 takes them all, which blows up noise when the
    bank is not much larger than dim.
    Needs a query bank. Cost: as :func:`fit_all_but_the_top`.
    Source: Su, Cao, Liu, Ou: Whitening sentence representations for better semantics and faster retrieval. 2021,
    https://arxiv.org/abs/2103.15316: there for vectors of one kind, compared by cosine afterwards (hence unit here).

    >>> bank = np.array([[0.0, 3.0], [0.0, -3.0], [1.0, 0.0], [-1.0, 0.0]])  # deviations 1 : 3
    >>> abs(fit_whitening(bank, bank)([[1.0, 3.0]])).round(3)
    array([[0.707, 0.707]])
    """

    def whiten(covariance: FloatArray) -> FloatArray:
        variance, directions = np.linalg.eigh(covariance)
        rank = int((variance > 1e-10 * max(variance[-1], RESOLUTION)).sum())
        n = check_k(n_components or max(rank, 1))
        if n > rank:
            raise ValueError(f"n_components = {n} exceeds the {rank} directions in which the vectors vary; use fewer")
        return np.asarray((directions[:, -n:] / np.sqrt(variance[-n:]))[:, ::-1], np.float64)

    return _two_sided(gallery, query_bank, "whitening", whiten)


def fit_gap_shift(
    gallery: npt.ArrayLike, query_bank: npt.ArrayLike | None, gallery_bank: npt.ArrayLike | None = None,
    *, amount: float = 0.5,
) -> EmbeddingTransform:  # fmt: skip
    """Gap shift: the two kinds of vectors move along the line between their means, towards each other or apart.

        item' = unit(item - amount * gap),   query' = unit(query + amount * gap)
        gap = mean of the gallery - mean of the query bank

    amount : 0.5 closes the gap (until lengths are one again), 0 only scales to length one, negative widens it. It does
    not claim to help; whether it does belongs to validation data.
    Needs a query bank. Cost: one pass of the bank and one of the gallery.
    Source: Liang, Zhang, Kwon, Yeung, Zou: Mind the gap: understanding the modality gap in multi-modal contrastive
    representation learning. NeurIPS 2022, https://arxiv.org/abs/2203.02053; the means there are of the scored pairs.

    >>> moved = fit_gap_shift(np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]]))  # gap (-1, 1): both to (0.5, 0.5)
    >>> moved.gallery.round(3), moved([[1.0, 0.0]]).round(3)
    (array([[0.707, 0.707]]), array([[0.707, 0.707]]))
    """
    items = _checked(gallery, "gallery")
    gap = _moments(items)[0] - _moments(_needed(query_bank, items, "gap shift", "query bank"))[0]
    return EmbeddingTransform(_moved(items, amount * gap, None, True), -amount * gap, unit=True)


def fit_dissim_global(
    gallery: npt.ArrayLike, query_bank: npt.ArrayLike | None, gallery_bank: npt.ArrayLike | None = None,
    *, share: float = 0.5,
) -> EmbeddingTransform:  # fmt: skip
    """Global dissimilarity (DisSim): squared distances less those of both ends to the centroid.

        dissim = |q - g|^2 - |q - c|^2 - |g - c|^2 = -2 (q - c) . (g - c)
        query' = q - c,   item' = g - c,   c = share * mean of the query bank + (1 - share) * mean of the gallery

    The score is -dissim / 2. share, 0 .. 1 : where between the two kinds the centroid lies; 0 needs no query bank; 1
    orders as :func:`workbench.normalize.local.mean_centering`.
    Cost: one pass of the bank and one of the gallery.
    Source: Hara, Suzuki, Kobayashi, Fukumizu, Radovanovic: Flattening the density gradient for eliminating spatial
    centrality to reduce hubness. AAAI 2016, https://doi.org/10.1609/aaai.v30i1.10240: vectors of one kind, with one
    centroid.

    >>> fit_dissim_global(np.array([[1.0, 0.0], [0.0, 1.0]]), None, share=0.0).gallery
    array([[ 0.5, -0.5], [-0.5,  0.5]])
    """
    items = _checked(gallery, "gallery")
    if not 0 <= share <= 1:
        raise ValueError(f"share must be between 0 and 1; got {share!r}")
    center = (1 - share) * _moments(items)[0]
    if share:
        center = center + share * _moments(_needed(query_bank, items, "global DisSim", "query bank"))[0]
    return EmbeddingTransform(items - center, center)


def fit_dissim_local(
    gallery: npt.ArrayLike, query_bank: npt.ArrayLike | None, gallery_bank: npt.ArrayLike | None = None, *, k: int = 10
) -> EmbeddingTransform:
    """Local dissimilarity (DisSim): squared distances less those of both ends to the centroids of their neighbours.

        dissim = |q - g|^2 - |q - c_q|^2 - |g - c_g|^2,   c_g = centroid of the k bank queries nearest to item g
        query' = [q, 1],   item' = [g, (|g - c_g|^2 - |g|^2) / 2]

    The score is -dissim / 2 up to terms of the query alone, which do not change its order and are left out; so its own
    neighbours need not be known. k, 1 .. bank queries. Ties for the k-th place go to any of the tied.
    Needs a query bank. Cost: every item meets every bank query (a block of items at a time).
    Source: Hara et al., AAAI 2016, https://doi.org/10.1609/aaai.v30i1.10240: one kind of vectors, neighbours among
    all of them. A hub of the queries lies amid them, close to c_g, and is marked down; its own kind would not tell.

    >>> bank = np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> fit_dissim_local(np.array([[0.6, 0.8]]), bank, k=2).gallery.round(3)  # c = (.5, .5): (.01 + .09 - 1) / 2
    array([[ 0.6 ,  0.8 , -0.45]])
    """
    items = _checked(gallery, "gallery")
    bank = np.asarray(_needed(query_bank, items, "local DisSim", "query bank"), np.float64)
    k = check_k(k)
    if k > len(bank):
        raise ValueError(f"k = {k} exceeds the {len(bank)} bank queries; use k <= {len(bank)}")

    def extended(rows: FloatArray) -> FloatArray:
        radius = np.concatenate([_radius(part, bank, k) for part in _parts(rows, len(bank))])
        return np.column_stack([rows, (radius - (rows**2).sum(axis=1)) / 2])

    return EmbeddingTransform(_rowwise(items, extended), np.zeros(items.shape[1]), appended=(1.0,))


def _inverse_convolution(
    gallery: npt.ArrayLike,
    query_bank: npt.ArrayLike | None,
    gallery_bank: npt.ArrayLike | None,
    rate_gallery: float,
    rate_query: float,
    away: Callable[[FloatArray, Vectors, FloatArray], FloatArray],
) -> EmbeddingTransform:
    if not (0 <= rate_gallery < np.inf and 0 <= rate_query < np.inf):
        raise ValueError(f"rates must be numbers of at least 0; got {rate_gallery!r} and {rate_query!r}")
    items = _checked(gallery, "gallery")
    others = _needed(gallery_bank, items, "InvGC", "gallery bank")
    queries = _needed(query_bank, items, "InvGC", "query bank")
    middle = _moments(items)[0]

    def repaired(rows: FloatArray) -> FloatArray:
        sides = ((others, rate_gallery), (queries, rate_query))
        return _unit(sum((_unit(rows - rate * away(rows, bank, middle)) for bank, rate in sides), np.zeros(1)))

    return EmbeddingTransform(_rowwise(items, repaired), np.zeros(items.shape[1]))


def _two_sided(
    gallery: npt.ArrayLike,
    query_bank: npt.ArrayLike | None,
    method: str,
    matrix_of: Callable[[FloatArray], FloatArray | None],
) -> EmbeddingTransform:
    """Each side loses its own mean; both are multiplied with one matrix, made of their mean covariance."""
    items = _checked(gallery, "gallery")
    bank = _needed(query_bank, items, method, "query bank")
    (of_items, moment_items), (of_queries, moment_queries) = _moments(items), _moments(bank)
    within = moment_items - np.outer(of_items, of_items) + moment_queries - np.outer(of_queries, of_queries)
    matrix = matrix_of(within / 2)
    changed = _rowwise(items, lambda rows: _moved(rows, of_items, matrix, True))
    return EmbeddingTransform(changed, of_queries, matrix, unit=True)


def _moved(rows: FloatArray, center: FloatArray, matrix: FloatArray | None, unit: bool) -> FloatArray:
    """(rows - center) @ matrix; with unit=True of length one, and zero where only rounding is left of a row."""
    moved = rows - center if matrix is None else (rows - center) @ matrix
    if not unit:
        return moved
    stretch = 1.0 if matrix is None else float(np.linalg.norm(matrix, 2))
    moved[_length(moved) <= RESOLUTION * stretch * (_length(rows) + _length(center[None]))] = 0
    return _unit(moved)


def _length(rows: FloatArray) -> FloatArray:
    return np.asarray(np.sqrt((rows**2).sum(axis=1)), np.float64)


def _unit(rows: FloatArray) -> FloatArray:
    """Rows of length one; a row without length stays zero."""
    length = _length(rows)[:, None]
    return np.asarray(rows / np.where(length > 0, length, 1), np.float64)


def _rowwise(rows: FloatArray, change: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """The change of every row, made once per distinct row: a matrix product may give equal rows other last bits."""
    _, first, place = np.unique(fingerprints(rows), return_index=True, return_inverse=True)
    return change(rows[first])[place]


def _parts(rows: FloatArray, n_bank: int) -> Iterator[FloatArray]:
    """Blocks of rows whose scores with the bank are some million numbers."""
    step = max(1, _NUMBERS // n_bank)
    return (rows[start : start + step] for start in range(0, len(rows), step))


def _moments(vectors: Vectors) -> tuple[FloatArray, FloatArray]:
    """(dim,) mean and (dim, dim) second moments about zero, a block of rows at a time."""
    dim = vectors.shape[1]
    total, moment = np.zeros(dim), np.zeros((dim, dim))
    step = max(1, _NUMBERS // dim)
    for start in range(0, len(vectors), step):
        wide = np.asarray(vectors[start : start + step], np.float64)
        total += wide.sum(axis=0)
        moment += wide.T @ wide
    return total / len(vectors), moment / len(vectors)


def _nearest_pull(rows: FloatArray, bank: FloatArray, edges: int) -> FloatArray:
    """(m, dim) mean over the nearest bank rows, ties included, of score times bank row."""
    scores = rows @ bank.T
    level = np.round(scores / RESOLUTION)
    kept = level >= np.partition(level, len(bank) - edges, axis=1)[:, len(bank) - edges, None]
    return np.asarray(np.where(kept, scores, 0) @ bank / kept.sum(axis=1, keepdims=True), np.float64)


def _radius(rows: FloatArray, bank: FloatArray, k: int) -> FloatArray:
    """(m,) squared distance of each row to the centroid of its k nearest bank rows."""
    apart = (bank**2).sum(axis=1) - 2 * rows @ bank.T
    nearest = np.argpartition(apart, k - 1, axis=1)[:, :k]
    centroid = np.stack([bank[places].mean(axis=0) for places in nearest])
    return np.asarray(((rows - centroid) ** 2).sum(axis=1), np.float64)


def _checked(vectors: npt.ArrayLike, what: str, dim: int | None = None) -> FloatArray:
    found = np.asarray(vectors, np.float64)
    if found.ndim != 2 or found.shape[1] == 0 or (dim is None and len(found) == 0):
        raise ValueError(f"{what} must be vectors (n, dim) with n, dim >= 1; got {found.shape}")
    if dim is not None and found.shape[1] != dim:
        raise ValueError(f"{what} have {found.shape[1]} dimensions, the repair was fitted to vectors of {dim}")
    if not np.isfinite(found).all():
        raise ValueError(f"{what} hold NaN or infinity; drop these items or encode them again")
    return found


def _needed(bank: npt.ArrayLike | None, items: FloatArray, method: str, what: str) -> Vectors:
    """The bank, or an error that names what is missing or does not fit."""
    if bank is None:
        raise ValueError(f"{method} needs a {what}, vectors (n, dim) of other queries or items; got None")
    found = np.asarray(bank)
    if found.ndim != 2 or 0 in found.shape or found.shape[1] != items.shape[1]:
        raise ValueError(f"the {what} must be vectors (n, {items.shape[1]}), as the gallery's; got {found.shape}")
    if not np.isfinite(found).all():
        raise ValueError(f"the {what} holds NaN or infinity; drop these rows or encode them again")
    return found
