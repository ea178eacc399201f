"""Repairs by optimal transport: every gallery item is to receive the same share of what the bank queries give."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workbench.normalize.softmax import bank_scores, check_beta, inverted_softmax
from workbench.types import FloatArray


@dataclass(frozen=True, eq=False)
class Sinkhorn:
    """bias (n_gallery,) to subtract from the scores; iterations done; change : the largest change of a bias in the last
    one, in units of the score; converged : whether that is at most the tolerance asked for."""

    bias: FloatArray
    iterations: int
    change: float
    converged: bool


def sinkhorn(
    blocks: Callable[[], Iterable[FloatArray]], *, beta: float, max_iter: int = 50, tolerance: float = 1e-3,
    start: FloatArray | None = None,
) -> Sinkhorn:  # fmt: skip
    """Gallery bias of Sinkhorn scaling: the plan between bank queries and gallery whose margins are uniform.

        plan[b, g] = exp(a[b] + beta (s[b, g] - 1) + u[g]),  every row sums to 1 / n_bank, every column to 1 / n_gallery
        bias[g] = -u[g] / beta

    One iteration fits the rows, then the columns, in the log domain: nothing overflows or vanishes at any beta.
    blocks : a function that gives the bank scores (any rows, n_gallery) block by block, all rows once per call; one
    pass over them is one iteration. beta > 0 : inverse temperature, 1 / the regularisation. tolerance : in units of the
    score. max_iter : at least 1. start (n_gallery,) : the bias to begin with, default the same for all items.
    The dual-bank form (DBSN) is the same with the gallery bank's columns beside those of the gallery.
    Cost: a matrix product and two exponentials per pair and iteration; memory is that of one block.
    Sources: Cuturi, Sinkhorn distances, NIPS 2013, https://arxiv.org/abs/1306.0895; as a hubness repair: Huang, Qiu,
    Church, Hubless nearest neighbor search for bilingual lexicon induction, ACL 2019, and Pan et al., dual-bank
    Sinkhorn normalisation, https://github.com/ppanzx/DBSN, whose code always stops after 10 iterations, converged or
    not (``max_iter=10, tolerance=0`` gives its numbers).

    >>> scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1]])  # a hub: all queries like item 0 better
    >>> found = sinkhorn(lambda: [scores], beta=10.0)
    >>> (found.bias[0] - found.bias[1]).round(3), found.converged
    (np.float64(0.8), True)
    """
    check_beta(beta)
    if max_iter < 1:
        raise ValueError(f"max_iter must be at least 1; got {max_iter}")
    n_bank = sum(len(block) for block in blocks())
    potential = None if start is None else -beta * np.asarray(start, np.float64)
    change, iterations = np.inf, 0
    while iterations < max_iter and change > tolerance:
        iterations += 1
        fresh = _columns(blocks(), potential, beta, n_bank)
        change = np.inf if potential is None else float(np.abs(fresh - potential).max()) / beta
        potential = fresh
    assert potential is not None
    return Sinkhorn(-potential / beta, iterations, change, change <= tolerance)


def sinkhorn_bias(bank: npt.ArrayLike, *, n_iter: int = 4, beta: float = 20.0) -> FloatArray:
    """Gallery bias after a few rounds of Sinkhorn scaling that begin where the inverted softmax ends.

        b[g] = 1 / sum_q P[q, g]  with  P = exp(beta * bank);  n_iter times  a = 1 / (P b),  b = 1 / (a P)
        bias[g] = -log(b[g]) / beta

    bank (n_bank, n_gallery) : scores of bank queries, higher is closer. n_iter : 0 gives the inverted softmax, many
    give what :func:`sinkhorn` settles at. beta > 0 : inverse temperature. Returns (n_gallery,) in units of the score;
    subtract it. In the log domain throughout; the scaling a of the bank queries is of no use and is not returned.
    Source: Wang, Sung, Cheng, Bertasius, Bansal: Unified coarse-to-fine alignment for video-text retrieval. ICCV 2023,
    https://arxiv.org/abs/2309.10091, whose code does four rounds in float32, where small P become zero.

    >>> bank = np.log([[6.0, 1.0], [1.0, 1.0], [1.0, 2.0]])
    >>> np.exp(sinkhorn_bias(bank, n_iter=0, beta=1.0)).round(3)  # 1 / b: the column sums
    array([8., 4.])
    >>> np.exp(sinkhorn_bias(bank, n_iter=1, beta=1.0)).round(3)  # a = 1, 8/3, 8/5, then the column sums of a P
    array([10.267,  6.867])
    """
    scores = bank_scores(bank)
    if np.isinf(scores).any():
        raise ValueError("bank scores must be finite; a pair left out (minus infinity) has no meaning for a plan")
    if n_iter < 0:
        raise ValueError(f"n_iter must be at least 0; got {n_iter}")
    bias = inverted_softmax(scores, beta=beta)
    if n_iter:
        n_bank, n_gallery = scores.shape
        found = sinkhorn(lambda: [scores], beta=beta, max_iter=n_iter, tolerance=0, start=bias)
        bias = found.bias + n_iter * np.log(n_bank / n_gallery) / beta
    return bias


def _columns(blocks: Iterable[FloatArray], potential: FloatArray | None, beta: float, n_bank: int) -> FloatArray:
    """New column potentials, from row potentials that fit the old ones."""
    largest = total = np.zeros(0)
    for block in blocks:
        exponents = beta * (block - 1)
        n_gallery = block.shape[1]
        if not len(largest):
            largest, total = np.full(n_gallery, -np.inf), np.zeros(n_gallery)
        before = np.full(n_gallery, -np.log(n_gallery)) if potential is None else potential
        if before.shape != (n_gallery,):
            raise ValueError(f"start must have shape {(n_gallery,)}, one bias per gallery item; got {before.shape}")
        rows = _log_sum_exp(exponents + before, axis=1)
        exponents -= (np.log(n_bank) + rows)[:, None]
        joint = np.maximum(largest, exponents.max(axis=0))
        total = total * np.exp(largest - joint) + np.exp(exponents - joint).sum(axis=0)
        largest = joint
    return np.asarray(-np.log(len(largest)) - (largest + np.log(total)), np.float64)


def _log_sum_exp(exponents: FloatArray, axis: int) -> FloatArray:
    largest = exponents.max(axis=axis, keepdims=True)
    exponents -= largest
    return np.asarray(largest.squeeze(axis) + np.log(np.exp(exponents, out=exponents).sum(axis=axis)), np.float64)
