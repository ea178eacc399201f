"""Hinge losses against slow loops, their gradients against finite differences, and what they must never do."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from workbench.adapt.hinge import hardest_hinge, sum_hinge  # noqa: E402


def batch(n: int, dim: int, seed: int, *, double: bool = False):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)
    made = torch.tensor(rng.normal(size=(2, n, dim)), dtype=torch.float64 if double else torch.float32)
    return torch.nn.functional.normalize(made, dim=-1)


def slow(first, second, margin: float, how) -> float:  # type: ignore[no-untyped-def]
    """Anchor by anchor, negative by negative; ``how`` is sum or max."""
    n, total = len(first), 0.0
    for i in range(n):
        own = float(first[i] @ second[i])
        for score in (lambda j: float(first[i] @ second[j]), lambda j: float(first[j] @ second[i])):  # noqa: B023
            total += how([max(0.0, margin - own + score(j)) for j in range(n) if j != i] or [0.0])
    return total


@pytest.mark.parametrize(("n", "dim", "margin"), [(1, 3, 0.2), (2, 3, 0.2), (7, 4, 0.2), (7, 4, 0.0), (9, 2, 1.5)])
def test_equals_the_loop(n: int, dim: int, margin: float) -> None:
    first, second = batch(n, dim, n, double=True)
    assert float(sum_hinge(first, second, margin)) == pytest.approx(slow(first, second, margin, sum))
    assert float(hardest_hinge(first, second, margin)) == pytest.approx(slow(first, second, margin, max))


def test_separate_batches_with_margins_of_their_own() -> None:
    pairs = [batch(5, 3, seed) for seed in range(6)]
    first, second = (torch.stack([pair[i] for pair in pairs]).unflatten(0, (2, 3)) for i in (0, 1))
    margins = torch.linspace(0.0, 0.5, 6).unflatten(0, (2, 3))
    for loss in (sum_hinge, hardest_hinge):
        found = loss(first, second, margins)
        assert found.shape == (2, 3)
        for a, b in product(range(2), range(3)):
            alone = loss(first[a, b], second[a, b], float(margins[a, b]))
            assert float(found[a, b]) == pytest.approx(float(alone), abs=1e-6)


@pytest.mark.parametrize("loss", [sum_hinge, hardest_hinge])
def test_gradients_follow_the_values(loss) -> None:  # type: ignore[no-untyped-def]
    first, second = (side.clone().requires_grad_() for side in batch(5, 3, 3, double=True))
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, 0.3), (first, second))


def test_the_hardest_moves_one_partner_each_way_and_the_sum_all_near_ones() -> None:
    """Row 0 has two wrong partners that are too near; only the nearest gets a gradient from the hardest hinge."""
    first = torch.eye(3)
    second = torch.tensor([[0.5, 0.0, 0.0], [0.4, 1.0, 0.0], [0.45, 0.0, 1.0]], requires_grad=True)
    (hardest,) = torch.autograd.grad(hardest_hinge(first, second, 0.2), second)
    (summed,) = torch.autograd.grad(sum_hinge(first, second, 0.2), second)
    assert hardest[:, 0].tolist() == [-1.0, 0.0, 1.0]
    assert summed[:, 0].tolist() == [-2.0, 1.0, 1.0]


def test_order_of_pairs_and_sides_does_not_matter() -> None:
    first, second = batch(8, 4, 1)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    for loss in (sum_hinge, hardest_hinge):
        value = float(loss(first, second))
        assert float(loss(second, first)) == pytest.approx(value, rel=1e-5)
        assert float(loss(first[order], second[order])) == pytest.approx(value, rel=1e-5)
    assert float(hardest_hinge(first, second)) <= float(sum_hinge(first, second))
    assert float(sum_hinge(torch.eye(6), torch.eye(6), 1.0)) == 0.0
    assert float(hardest_hinge(first[:2], second[:2])) == pytest.approx(float(sum_hinge(first[:2], second[:2])))


def test_collapsed_vectors_cost_what_the_text_says() -> None:
    same = torch.ones(6, 1)
    assert float(hardest_hinge(same, same, 0.2)) == pytest.approx(2 * 6 * 0.2)
    assert float(sum_hinge(same, same, 0.2)) == pytest.approx(2 * 6 * 5 * 0.2)


@pytest.mark.parametrize("loss", [sum_hinge, hardest_hinge])
def test_refuses(loss) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \(3, 3\)"):
        loss(torch.ones(2, 3), torch.ones(3, 3))
    with pytest.raises(ValueError, match="one shape"):
        loss(torch.ones(3), torch.ones(3))
    with pytest.raises(ValueError, match="margin must be 0 or more"):
        loss(torch.eye(2), torch.eye(2), -0.1)
    with pytest.raises(ValueError, match="margin must be 0 or more"):
        loss(torch.eye(2), torch.eye(2), float("nan"))
