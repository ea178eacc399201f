"""Hinge losses over a batch of pairs: against all wrong partners, or against the hardest one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def sum_hinge(first: Tensor, second: Tensor, margin: float | Tensor = 0.2) -> Tensor:
    """Every wrong partner in the batch that comes within ``margin`` of the right one costs what it is too near.

        loss = sum_i sum_{j != i} [m - s_ii + s_ij]_+ + [m - s_ii + s_ji]_+,   s_ij = <first_i, second_j>

    It is summed over the batch, as is usual, not averaged: with plain gradient descent the step grows with the batch.
    first, second (..., n, dim), row i of the one belongs to row i of the other, rows of length one for cosine scores;
    leading axes are separate batches, each with a loss of its own. margin : >= 0, one for all or one for each batch
    (...). Returns (...), >= 0; 0 where all are far enough, and 0 for a batch of one.
    Errors: shapes that differ, a margin below 0. Source: R. Kiros, R. Salakhutdinov & R. S. Zemel, "Unifying
    Visual-Semantic Embeddings with Multimodal Neural Language Models", 2014, https://arxiv.org/abs/1411.2539.

    >>> import torch
    >>> first, second = torch.eye(2), torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    >>> round(float(sum_hinge(first, second, 0.3)), 4)  # own 0.6 and 1, wrong 0 and 0.8: 0.1 by row, 0.5 by column
    0.6
    """
    violations, other = _violations(first, second, margin)
    return violations.sum(dim=(-2, -1)) + other.sum(dim=(-2, -1))


def hardest_hinge(first: Tensor, second: Tensor, margin: float | Tensor = 0.2) -> Tensor:
    """Only the nearest wrong partner in the batch costs, one in each direction.

        loss = sum_i max_{j != i} [m - s_ii + s_ij]_+ + max_{j != i} [m - s_ii + s_ji]_+

    It cares about the first place of the ranking, and one wrong label in the batch is enough to lead it astray. From
    fresh weights all scores are alike and it can stay at about ``2 * n * margin``. Shapes, errors and sum over the
    batch as in :func:`sum_hinge`, of which it is never above. Source: F. Faghri, D. J. Fleet, J. R. Kiros & S. Fidler,
    "VSE++: Improving Visual-Semantic Embeddings with Hard Negatives", BMVC 2018, https://arxiv.org/abs/1707.05612.

    >>> import torch
    >>> first = torch.tensor([[1.0], [1.0], [1.0]])  # all scores are 1: every wrong partner is a margin too near
    >>> round(float(hardest_hinge(first, first, 0.2)), 4), round(float(sum_hinge(first, first, 0.2)), 4)
    (1.2, 2.4)
    """
    violations, other = _violations(first, second, margin)
    return violations.amax(dim=-1).sum(dim=-1) + other.amax(dim=-2).sum(dim=-1)


def _violations(first: Tensor, second: Tensor, margin: float | Tensor) -> tuple[Tensor, Tensor]:
    """How far each wrong partner is too near: of rows of ``first`` (..., i, j), and of rows of ``second``."""
    import torch

    if first.ndim < 2 or first.shape != second.shape:
        raise ValueError(
            f"two batches (..., n, dim) of one shape are needed; got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    margins = torch.as_tensor(margin, dtype=first.dtype, device=first.device)
    if not bool((margins >= 0).all()):
        raise ValueError(f"margin must be 0 or more; got {margin}")
    margins = margins[..., None, None]
    scores = first @ second.transpose(-2, -1)
    own = scores.diagonal(dim1=-2, dim2=-1)
    itself = torch.eye(scores.shape[-1], dtype=torch.bool, device=scores.device)
    found = [(margins - right + scores).clamp(min=0).masked_fill(itself, 0.0) for right in
             (own.unsqueeze(-1), own.unsqueeze(-2))]  # fmt: skip
    return found[0], found[1]
