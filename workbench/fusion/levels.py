"""Scores of clips at three levels of detail: whole clip, frame, patch and word; pooled by interaction, then added.

A clip has frames, a frame has patches, a sentence has words, all as vectors in one space. Each level gives a score
matrix; a bias of every level's own may be taken off before they are added.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from workbench.types import FloatArray

LEVELS = ("clip", "frame", "patch")
TAU = 0.01
BLOCK = 16


class Pool(Protocol):
    """Turns the scores along the last axis into one; ``mask`` says which of them count (default all)."""

    def __call__(self, scores: FloatArray, *, mask: npt.ArrayLike | None = None) -> FloatArray: ...


def isa_weights(
    scores: npt.ArrayLike, *, mask: npt.ArrayLike | None = None, mix: npt.ArrayLike | None = None, tau: float = TAU
) -> FloatArray:
    """How much each part of an item counts for a query: parts that answer it weigh more.

        weights = softmax( softmax(scores / tau) @ mix / tau )

    Arguments and source as for :func:`pool_isa`. Returns weights of the shape of the scores that sum to 1 along the
    last axis, 0 where the mask is False.

    >>> isa_weights([0.50, 0.51], tau=0.5).round(3)  # softmax of 1.00, 1.02 is 0.495, 0.505; then of 0.99, 1.01
    array([0.495, 0.505])
    >>> isa_weights([0.50, 0.51]).round(3)  # softmax of 50, 51 is 0.269, 0.731; then of 26.9, 73.1
    array([0., 1.])
    """
    values, counted = _parts_first(scores, mask)
    return np.moveaxis(_weights(values, counted, mix, tau), 0, -1)


def pool_isa(
    scores: npt.ArrayLike, *, mask: npt.ArrayLike | None = None, mix: npt.ArrayLike | None = None, tau: float = TAU
) -> FloatArray:
    """Interaction-weighted mean of the last axis: one score of an item from the scores of its parts.

        pooled = sum_n weights[n] scores[n],  weights as in :func:`isa_weights`

    scores (..., n): of one query against the n parts of an item. mask : boolean, broadcast to the scores; parts that
    are False take no part at all; each row needs one that is True. mix (n, n): how parts lend weight to each other,
    learned in the paper; default the identity. tau > 0 : temperature of both softmaxes.
    Returns (...,), between the smallest and the largest score. With the identity and the published tau of 0.01 the
    second softmax turns nearly every row into its maximum: one part has all the weight unless several are alike.
    Source: Wang, Sung, Cheng, Bertasius, Bansal: Unified coarse-to-fine alignment for video-text retrieval. ICCV 2023,
    https://arxiv.org/abs/2309.10091. The published code has no mask, so that padded words take part.

    >>> pool_isa([0.2, 0.6])  # the better frame, nearly alone
    np.float64(0.6)
    >>> pool_isa([0.2, 0.6], tau=1e6).round(6)  # hot: the plain mean
    np.float64(0.4)
    """
    values, counted = _parts_first(scores, mask)
    weights = _weights(values, counted, mix, tau)
    weights *= values
    return np.asarray(weights.sum(axis=0))[()]


def pool_mean(scores: npt.ArrayLike, *, mask: npt.ArrayLike | None = None) -> FloatArray:
    """Plain mean of the last axis over the parts that count: the control of :func:`pool_isa`, same arguments.

    >>> pool_mean([0.2, 0.6, 5.0], mask=[True, True, False])
    np.float64(0.4)
    """
    values, counted = _parts_first(scores, mask)
    if counted is None:
        return np.asarray(values.mean(axis=0))[()]
    return np.asarray(np.where(counted, values, 0.0).sum(axis=0) / counted.sum(axis=0))[()]


def pool_max(scores: npt.ArrayLike, *, mask: npt.ArrayLike | None = None) -> FloatArray:
    """Best of the last axis among the parts that count: what :func:`pool_isa` comes to when it is cold.

    >>> pool_max([0.2, 0.6, 5.0], mask=[True, True, False])
    np.float64(0.6)
    """
    values, counted = _parts_first(scores, mask)
    return np.asarray((values if counted is None else np.where(counted, values, -np.inf)).max(axis=0))[()]


def clip_vectors_of(frames: npt.ArrayLike) -> FloatArray:
    """One unit vector per clip: the mean of its frames, each scaled to length one, and scaled again.

    frames (n_gallery, n_frames, dim) -> (n_gallery, dim). Errors: a frame of length zero, frames that cancel out.

    >>> clip_vectors_of([[[3.0, 0.0], [0.0, 4.0]]]).round(4)
    array([[0.7071, 0.7071]])
    """
    return _unit(_unit(np.asarray(frames, np.float64)).mean(axis=1))


def level_scores(
    sentences: npt.ArrayLike, words: npt.ArrayLike, clips: npt.ArrayLike, frames: npt.ArrayLike,
    patches: npt.ArrayLike, *, word_mask: npt.ArrayLike | None = None, pool: Pool = pool_isa, block: int = BLOCK,
) -> Iterator[FloatArray]:  # fmt: skip
    """Scores of sentences against clips at three levels, (3, rows, n_gallery) for one block of sentences after another.

        clip    s . c
        frame   pool over frames f of s . f
        patch   with g[w, p] = w . p :  (pool_p pool_w g + pool_w pool_p g) / 2, over all patches of all frames

    sentences (n_queries, dim), words (n_queries, n_words, dim), clips (n_gallery, dim) such as
    :func:`clip_vectors_of` makes them, frames (n_gallery, n_frames, dim), patches (n_gallery, n_frames, n_patches,
    dim). Dot products of the vectors as they are given: scale them to length one for cosines. word_mask
    (n_queries, n_words): which words there are. pool : :func:`pool_isa`, :func:`pool_mean` or :func:`pool_max`.
    block : sentences at a time; memory is a few times block x n_gallery x n_words x n_frames x n_patches numbers,
    time their product with n_queries. ``np.concatenate(list(...), axis=1)`` is the whole of a small problem.
    Source: Wang et al., ICCV 2023, https://arxiv.org/abs/2309.10091 (see :func:`pool_isa`), with all learned matrices
    at the identity they start from. The published code multiplies the first two levels by the learned scale of CLIP
    and leaves the third, whose patches are not scaled to length one, as it is.

    >>> s, w, f = [[1.0, 0.0]], [[[1.0, 0.0], [0.0, 1.0]]], [[[1.0, 0.0], [0.0, 1.0]]]
    >>> patches = [[[[0.0, 1.0]], [[0.6, 0.8]]]]
    >>> next(level_scores(s, w, clip_vectors_of(f), f, patches)).round(2).ravel()
    array([0.71, 1.  , 1.  ])
    """
    s, w, c, f, p = (np.asarray(part, np.float64) for part in (sentences, words, clips, frames, patches))
    _check_shapes(s, w, c, f, p)
    if block < 1:
        raise ValueError(f"block must be at least 1; got {block}")
    there = np.ones(w.shape[:2], bool) if word_mask is None else np.asarray(word_mask, bool)
    if there.shape != w.shape[:2] or not there.any(axis=1).all():
        raise ValueError(f"word_mask must have shape {w.shape[:2]} with a word in every row; got {there.shape}")
    flat = p.reshape(len(p), -1, p.shape[-1])
    for start in range(0, len(s), block):
        rows = slice(start, start + block)
        of_frames = pool(np.einsum("qd,cfd->qcf", s[rows], f, optimize=True))
        yield np.stack([s[rows] @ c.T, of_frames, _patch_level(w[rows], there[rows], flat, pool)])


def fuse_levels(
    levels: npt.ArrayLike, *, biases: npt.ArrayLike | None = None, weights: npt.ArrayLike | None = None
) -> FloatArray:
    """Sum of levels, each with its own bias taken off.

        fused[q, g] = sum_l weights[l] (levels[l, q, g] - biases[l, g])

    levels (n_levels, n_queries, n_gallery), or a block of queries; biases (n_levels, n_gallery), default none; weights
    (n_levels,), default 1 / n_levels each. Returns (n_queries, n_gallery).

    >>> fuse_levels([[[0.9, 0.1]], [[0.2, 0.4]]], biases=[[0.8, 0.0], [0.0, 0.0]]).round(2)
    array([[0.15, 0.25]])
    """
    scores = np.asarray(levels, np.float64)
    if scores.ndim != 3:
        raise ValueError(f"levels must have shape (n_levels, n_queries, n_gallery); got {scores.shape}")
    n_levels, _, n_gallery = scores.shape
    shares = np.full(n_levels, 1 / n_levels) if weights is None else np.asarray(weights, np.float64)
    taken = np.zeros((n_levels, n_gallery)) if biases is None else np.asarray(biases, np.float64)
    if shares.shape != (n_levels,) or taken.shape != (n_levels, n_gallery):
        raise ValueError(
            f"{n_levels} levels over {n_gallery} items need weights {(n_levels,)} and biases {(n_levels, n_gallery)}; "
            f"got {shares.shape} and {taken.shape}"
        )
    return np.asarray(np.tensordot(shares, scores, axes=1) - shares @ taken)


def _patch_level(words: FloatArray, there: npt.NDArray[np.bool_], patches: FloatArray, pool: Pool) -> FloatArray:
    """(rows, n_gallery): words first and patches second, patches first and words second, and the mean of the two."""
    rows, n_words, dim = words.shape
    n_gallery, n_patches, _ = patches.shape
    pairs = (words.reshape(-1, dim) @ patches.reshape(-1, dim).T).reshape(rows, n_words, n_gallery, n_patches)
    by_word = pool(pairs.transpose(0, 2, 3, 1), mask=there[:, None, None, :])
    by_patch = pool(pairs)
    return (pool(by_word) + pool(by_patch.transpose(0, 2, 1), mask=there[:, None, :])) / 2


def _parts_first(scores: npt.ArrayLike, mask: npt.ArrayLike | None) -> tuple[FloatArray, npt.NDArray[np.bool_] | None]:
    """Scores and mask with the parts along the first axis, where sums over few parts are fast."""
    values = np.asarray(scores, np.float64)
    if not values.ndim or not values.shape[-1]:
        raise ValueError(f"scores need a last axis with at least one part to pool; got shape {values.shape}")
    first = np.ascontiguousarray(np.moveaxis(values, -1, 0))
    if mask is None:
        return first, None
    given = np.atleast_1d(np.asarray(mask, bool))
    counted = np.broadcast_to(given, values.shape)
    if not given.any(axis=-1).all():
        raise ValueError("a row of scores has no part left: each needs one that the mask says True of")
    return first, np.moveaxis(counted, -1, 0)


def _weights(
    values: FloatArray, counted: npt.NDArray[np.bool_] | None, mix: npt.ArrayLike | None, tau: float
) -> FloatArray:
    if not tau > 0:
        raise ValueError(f"tau must be a positive number; got {tau!r}")
    inner = _softmax(values / tau, counted)
    if mix is not None:
        matrix = np.asarray(mix, np.float64)
        if matrix.shape != (len(values),) * 2:
            raise ValueError(f"mix must have shape {(len(values),) * 2}, parts by parts; got {matrix.shape}")
        inner = np.tensordot(matrix.T, inner, axes=1)
    inner /= tau
    return _softmax(inner, counted)


def _softmax(exponents: FloatArray, counted: npt.NDArray[np.bool_] | None) -> FloatArray:
    """Softmax over the first axis, in the place of the exponents."""
    if counted is not None:
        np.copyto(exponents, -np.inf, where=~counted)
    exponents -= exponents.max(axis=0)
    np.exp(exponents, out=exponents)
    exponents /= exponents.sum(axis=0)
    return exponents


def _unit(vectors: FloatArray) -> FloatArray:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not (norms > 0).all():
        raise ValueError("a vector has length zero or NaN, so it has no direction; drop that item")
    return np.asarray(vectors / norms)


def _check_shapes(s: FloatArray, w: FloatArray, c: FloatArray, f: FloatArray, p: FloatArray) -> None:
    shapes = {"sentences": s, "words": w, "clips": c, "frames": f, "patches": p}
    said = ", ".join(f"{name} {part.shape}" for name, part in shapes.items())
    right_axes = (s.ndim, w.ndim, c.ndim, f.ndim, p.ndim) == (2, 3, 2, 3, 4)
    if not right_axes or len({part.shape[-1] for part in shapes.values()}) > 1:
        raise ValueError(f"vectors of one dimension are needed, with 2, 3, 2, 3 and 4 axes; got {said}")
    if len(s) != len(w) or not len(c) == len(f) == len(p) or f.shape[1] != p.shape[1]:
        raise ValueError(f"words must belong to the sentences, frames and patches to the clips; got {said}")
