"""Dense evaluations as people write them: the full score matrix, then sorting, counting, or the top of each row.

``clip_recipe`` does what CLIP_benchmark says it does (https://github.com/LAION-AI/CLIP_benchmark): the whole matrix in
torch, a matrix of right pairs, top k per batch as one-hot rows, the share of queries with any right item among them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.benchmarks.inputs import Array

KS = (1, 5, 10)
DIRECTIONS = ("t2i", "i2t")


def metrics_of_ranks(ranks: Array) -> dict[str, float]:
    """Every default metric from (n_queries, n_positives) ranks from 1, as many positives for every query."""
    ranks = np.sort(ranks, axis=1)
    first, n = ranks[:, 0], ranks.shape[1]
    found = ranks <= 10
    precision = np.arange(1, n + 1) / ranks
    ideal = (1 / np.log2(np.arange(1, n + 1) + 1))[:10].sum()
    values = {f"hit@{k}": (first <= k).mean() for k in KS} | {f"R@{k}": (ranks <= k).mean() for k in KS}
    return {
        **values,
        "MRR": (1 / first).mean(),
        "MedR": np.median(first),
        "MeanR": first.mean(),
        "AP@10": (np.where(found, precision, 0).sum(axis=1) / n).mean(),
        "nDCG@10": (np.where(found, 1 / np.log2(ranks + 1), 0).sum(axis=1) / ideal).mean(),
    }


def sorted_recipe(scores: Array, positives: Array, beta: float) -> dict[str, Any]:
    """One direction by sorting every row; positives (n_queries, p)."""
    order = np.argsort(-scores, axis=1)
    ranks = np.stack([np.argmax(order == item[:, None], axis=1) + 1 for item in positives.T], axis=1)
    return _with_the_rest(scores, ranks, np.bincount(order[:, :10].ravel(), minlength=scores.shape[1]), beta)


def counted_recipe(scores: Array, positives: Array, beta: float) -> dict[str, Any]:
    """One direction by counting what is above each positive, and partitioning for the first ten."""
    own = np.take_along_axis(scores, positives, axis=1)
    ranks = np.stack([(scores > score[:, None]).sum(axis=1) + 1 for score in own.T], axis=1)
    depth = min(10, scores.shape[1])
    top = np.argpartition(scores, -depth, axis=1)[:, -depth:]
    return _with_the_rest(scores, ranks, np.bincount(top.ravel(), minlength=scores.shape[1]), beta)


def _with_the_rest(scores: Array, ranks: Array, occurrence: Array, beta: float) -> dict[str, Any]:
    from scipy.special import logsumexp

    smooth = logsumexp(beta * scores, axis=1) / beta
    return {"ranks": ranks, "metrics": metrics_of_ranks(ranks), "occurrence": occurrence, "log_sum": smooth}


def clip_recipe(texts: Any, images: Any, own: Any, batch: int = 64) -> dict[str, dict[str, float]]:
    """Recall as CLIP papers mean it, both directions; tensors."""
    import torch

    scores = texts @ images.T
    right = torch.zeros_like(scores, dtype=torch.bool)
    right[torch.arange(len(own)), own] = True
    return {
        name: {f"hit@{k}": _clip_recall(matrix, truth, k, batch) for k in KS}
        for name, matrix, truth in (("t2i", scores, right), ("i2t", scores.T, right.T))
    }


def _clip_recall(scores: Any, right: Any, k: int, batch: int) -> float:
    import torch

    found = []
    for start in range(0, len(scores), batch):
        top = scores[start : start + batch].topk(min(k, scores.shape[1]), dim=1).indices
        chosen = torch.nn.functional.one_hot(top, num_classes=scores.shape[1]).sum(dim=1).bool()
        found.append((chosen & right[start : start + batch]).any(dim=1))
    return float(torch.cat(found).float().mean())
