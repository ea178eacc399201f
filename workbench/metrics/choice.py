"""Forced choice: one right candidate among a few wrong ones."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from workbench.metrics.kernels import TiedValues
from workbench.types import FloatArray, IntArray


def forced_choice(
    scores: npt.ArrayLike,
    right: npt.ArrayLike,
    *,
    indptr: npt.ArrayLike | None = None,
    against: Literal["all", "each"] = "all",
) -> TiedValues:
    """Does the right candidate score highest? One value per question; their mean is the forced-choice accuracy.

    against "all" : 1 when the right candidate scores above every wrong one; in a tie of t at the top 1/t is expected,
    0 is the worst and 1 the best order. "each" : the share of wrong candidates below the right one, a tie counting one
    half. With two candidates (2AFC) both are the same. A constant scorer gets 1/m and 1/2.

    scores (n_questions, n_candidates), higher is closer; or one flat array with ``indptr`` (n_questions + 1,) when
    questions have different numbers of candidates, two or more each. right (n_questions,), or one number for all: the
    place of the right candidate within its question. Returns (n_questions,) each, in 0..1.
    Errors: another shape, fewer than two candidates, a place that does not exist, NaN.
    Source of the two-candidate tasks: S. Ghazanfari et al., "Towards Unified Benchmark and Models for Multi-Modal
    Perceptual Metrics", 2024, https://arxiv.org/abs/2412.10594 (their code lets the first candidate win a tie).

    >>> forced_choice([[0.9, 0.1], [0.5, 0.5], [0.2, 0.7]], 0).expected
    array([1. , 0.5, 0. ])
    """
    if against not in ("all", "each"):
        raise ValueError(f"against must be 'all' or 'each'; got {against!r}")
    flat, edges = _questions(scores, indptr)
    sizes, place = np.diff(edges), np.broadcast_to(np.asarray(right, dtype=np.int64), (len(edges) - 1,))
    wrong = np.flatnonzero((place < 0) | (place >= sizes))
    if len(wrong):
        raise ValueError(
            f"question {wrong[0]} has {sizes[wrong[0]]} candidates, so its right one cannot be {place[wrong[0]]} "
            "(places count from 0)"
        )
    own = np.repeat(flat[edges[:-1] + place], sizes)
    better, tied = np.add.reduceat(flat > own, edges[:-1]), np.add.reduceat(flat == own, edges[:-1]) - 1
    if against == "each":
        most = sizes - 1
        below = most - better - tied
        return TiedValues((below + tied / 2) / most, below / most, (below + tied) / most)
    top = better == 0
    return TiedValues(top / (tied + 1), (top & (tied == 0)).astype(np.float64), top.astype(np.float64))


def _questions(scores: npt.ArrayLike, indptr: npt.ArrayLike | None) -> tuple[FloatArray, IntArray]:
    """(flat scores, edges), checked."""
    values = np.asarray(scores, dtype=np.float64)
    if indptr is None:
        if values.ndim != 2:
            raise ValueError(
                f"scores must be (n_questions, n_candidates), got {values.shape}; flat scores need an indptr"
            )
        edges = np.arange(len(values) + 1) * values.shape[1]
    else:
        edges = np.asarray(indptr, dtype=np.int64)
        if values.ndim != 1 or edges.ndim != 1 or len(edges) < 1 or edges[0] != 0 or edges[-1] != len(values):
            raise ValueError(f"indptr must run from 0 to the number of flat scores; got scores {values.shape}")
    few = np.flatnonzero(np.diff(edges) < 2)
    if len(edges) < 2 or len(few):
        which = f"question {few[0]} has {np.diff(edges)[few[0]]}" if len(few) else "there is no question"
        raise ValueError(f"a choice needs two candidates or more, but {which}")
    unknown = np.isnan(values.ravel())
    if unknown.any():
        question = int(np.searchsorted(edges, np.argmax(unknown), "right")) - 1
        raise ValueError(f"question {question} has a score that is NaN; a choice needs numbers")
    return values.ravel(), edges
