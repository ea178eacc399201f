"""A linear head for image vectors that learns from pairwise choices, of one task or of several at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.types import FloatArray


def hinge_head(
    tasks: Sequence[Any], dim: int, *, steps: int, rate: float, batch: int = 128, margin: float = 0.05, seed: int = 0
) -> FloatArray:
    """Train a head W (dim, dim), begun at the identity, so that right candidates are closer than wrong ones.

        loss = sum over tasks of mean over questions of max(0, margin - (cos(x, right) - cos(x, wrong)))

    Images are multiplied by W, texts stay as they are: the text encoder is frozen. One batch of every task a step, the
    losses added with equal weight; Adam with learning rate ``rate``.
    tasks : choices with two candidates each: ``reference`` (n, dim), ``candidates`` (n, 2, dim), ``right`` (n,) and
    ``images`` ("reference", "candidates" or "both"). margin : in cosines. Deterministic for a seed.
    Source: S. Ghazanfari et al., "Towards Unified Benchmark and Models for Multi-Modal Perceptual Metrics", 2024,
    https://arxiv.org/abs/2412.10594, which tunes the image encoder by this loss.
    """
    import torch
    from torch.nn.functional import cosine_similarity

    if not tasks:
        raise ValueError("at least one task is needed")
    if any(one.candidates.shape[1] != 2 for one in tasks):
        raise ValueError("a pairwise hinge needs questions with two candidates")
    dice = np.random.default_rng(seed)
    head = torch.eye(dim, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([head], lr=rate)
    for _ in range(steps):
        losses = []
        for task in tasks:
            rows = dice.integers(len(task.right), size=min(batch, len(task.right)))
            reference, candidates = torch.from_numpy(task.reference[rows]), torch.from_numpy(task.candidates[rows])
            reference = reference if task.images == "candidates" else reference @ head
            candidates = candidates if task.images == "reference" else candidates @ head
            close = cosine_similarity(reference[:, None], candidates, dim=-1)
            sign = torch.from_numpy(np.where(task.right[rows] == 0, 1.0, -1.0))
            losses.append(torch.relu(margin - sign * (close[:, 0] - close[:, 1])).mean())
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return np.asarray(head.detach().numpy())
