"""Contrastive losses against plain loops, their gradients against closed forms and differences, and the small model."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from workbench.adapt.contrastive import (  # noqa: E402
    TwoMaps,
    info_nce,
    one_to_k_loss,
    pivot_loss,
    separate_losses,
    train_two_maps,
)

B, K, DIM, TAU = 5, 3, 4, 0.3


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    made = torch.Generator().manual_seed(seed)
    images = torch.randn(B, DIM, generator=made, dtype=torch.float64)
    texts = torch.randn(K, B, DIM, generator=made, dtype=torch.float64)
    return torch.nn.functional.normalize(images, dim=-1), torch.nn.functional.normalize(texts, dim=-1)


def by_loops(images: np.ndarray, texts: np.ndarray) -> tuple[float, float]:
    """(sum over own texts, mean over images; mean over all texts), each pair on its own."""
    to_texts = to_images = 0.0
    for i in range(B):
        below = sum(np.exp(images[i] @ texts[m, j] / TAU) for m in range(K) for j in range(B))
        for k in range(K):
            own = np.exp(images[i] @ texts[k, i] / TAU)
            to_texts -= np.log(own / below) / B
            to_images -= np.log(own / sum(np.exp(images[j] @ texts[k, i] / TAU) for j in range(B))) / (K * B)
    return to_texts, to_images


def test_one_to_k_is_the_loop() -> None:
    images, texts = batch()
    to_texts, to_images = by_loops(images.numpy(), texts.numpy())
    code = float(one_to_k_loss(images, texts, TAU, weighting="code"))
    mean = float(one_to_k_loss(images, texts, TAU, weighting="mean"))
    assert code == pytest.approx((to_texts + to_images) / 2 / K, abs=1e-12)
    assert mean == pytest.approx((to_texts / K + to_images) / 2, abs=1e-12)


def test_the_default_is_the_published_weighting() -> None:
    images, texts = batch()
    assert one_to_k_loss(images, texts, TAU) == one_to_k_loss(images, texts, TAU, weighting="code")


@pytest.mark.parametrize("weighting", ["code", "mean"])
def test_one_language_is_the_ordinary_loss(weighting: str) -> None:
    images, texts = batch()
    for loss in (one_to_k_loss(images, texts[:1], TAU, weighting=weighting), separate_losses(images, texts[:1], TAU)):
        assert float(loss) == pytest.approx(float(info_nce(images, texts[0], TAU)), abs=1e-12)


def test_ordinary_loss_is_symmetric_and_known() -> None:
    images, texts = batch()
    assert float(info_nce(images, texts[0], TAU)) == pytest.approx(float(info_nce(texts[0], images, TAU)), abs=1e-12)
    same = torch.ones(B, DIM)
    assert float(info_nce(same, same, 1.0)) == pytest.approx(np.log(B), abs=1e-6)
    assert float(one_to_k_loss(same, same.expand(K, B, DIM), 1.0, weighting="mean")) == pytest.approx(
        (np.log(K * B) + np.log(B)) / 2, abs=1e-6
    )


@pytest.mark.parametrize("loss", [one_to_k_loss, separate_losses, pivot_loss])
def test_gradients_are_differences(loss: object) -> None:
    images, texts = (one.requires_grad_() for one in batch())
    assert torch.autograd.gradcheck(lambda i, t: loss(i, t, TAU), (images, texts))  # type: ignore[operator]


def test_gradient_in_closed_form() -> None:
    """Of "mean" at a text: (p(text | image) - 1/K of its own + (p(image | text) - own) / K) image / (2 B tau)."""
    images, texts = batch(1)
    texts.requires_grad_()
    (found,) = torch.autograd.grad(one_to_k_loss(images, texts, TAU, weighting="mean"), texts)
    scores = torch.einsum("id,kjd->ikj", images, texts.detach()) / TAU
    down = torch.softmax(scores.flatten(1), dim=1).reshape(B, K, B)
    across = torch.softmax(scores, dim=0)
    own = torch.eye(B, dtype=torch.float64)[:, None, :]
    pull = ((down - own / K) + (across - own) / K) / (2 * B * TAU)
    assert torch.allclose(found, torch.einsum("ikj,id->kjd", pull, images), atol=1e-12)


def test_own_texts_compete() -> None:
    """With a common denominator a gain in one language pushes its sisters; with separate ones it cannot."""
    images, texts = batch(2)
    texts.requires_grad_()
    scale = torch.tensor([3.0, 1.0, 1.0], dtype=torch.float64)[:, None, None]
    (alone,) = torch.autograd.grad(separate_losses(images, texts, TAU), texts)
    (louder,) = torch.autograd.grad(separate_losses(images, texts * scale, TAU), texts)
    assert torch.allclose(alone[1:], louder[1:])
    (alone,) = torch.autograd.grad(one_to_k_loss(images, texts, TAU), texts)
    (louder,) = torch.autograd.grad(one_to_k_loss(images, texts * scale, TAU), texts)
    assert not torch.allclose(alone[1:], louder[1:], atol=1e-4)


def test_smallest_value_is_even_over_languages() -> None:
    far = torch.eye(B, dtype=torch.float64)
    even = far.expand(K, B, B)
    least = float(one_to_k_loss(far, even, 0.01, weighting="mean"))
    assert least == pytest.approx(np.log(K) / 2, abs=1e-9)
    uneven = torch.stack([far, 0.9 * far, 0.9 * far])
    assert float(one_to_k_loss(far, uneven, 0.01, weighting="mean")) > least + 0.5
    assert float(separate_losses(far, uneven, 0.01)) == pytest.approx(0.0, abs=1e-9)


def test_pivot_never_sees_the_images_from_elsewhere() -> None:
    images, texts = batch()
    images.requires_grad_()
    others = torch.cat([texts[:1], texts[1:].flip(2)])
    (before,), (after,) = (torch.autograd.grad(pivot_loss(images, one, TAU), images) for one in (texts, others))
    assert torch.equal(before, after)
    parts = [info_nce(images, texts[0], TAU), info_nce(texts[0], texts[1], TAU), info_nce(texts[0], texts[2], TAU)]
    assert pivot_loss(images, texts, TAU).item() == pytest.approx(sum(one.item() for one in parts) / K, abs=1e-12)


def test_wrong_arguments_are_named() -> None:
    images, texts = batch()
    with pytest.raises(ValueError, match="weighting must be"):
        one_to_k_loss(images, texts, TAU, weighting="sum")  # type: ignore[arg-type]
    for wrong in (texts[0], texts[:, :4], texts[:0]):
        with pytest.raises(ValueError, match="texts"):
            one_to_k_loss(images, wrong, TAU)
    with pytest.raises(ValueError, match="tau must be above 0"):
        one_to_k_loss(images, texts, 0.0)
    with pytest.raises(ValueError, match="one shape"):
        info_nce(images, texts[0, :4], TAU)
    for loss in (separate_losses, pivot_loss):
        with pytest.raises(ValueError, match="texts"):
            loss(images, texts[0], TAU)


def test_adam_is_torchs() -> None:
    rng = np.random.default_rng(0)
    features, terms = rng.normal(size=(6, 5)).astype(np.float32), rng.normal(size=(6, 7)).astype(np.float32)

    def objective(model: TwoMaps, one: torch.Tensor, other: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        return info_nce(model.images(one), model.texts(other), 0.5)

    ours = train_two_maps(features, terms, objective, dim=3, steps=12, rate=0.05, seed=4)
    model = TwoMaps(5, 7, dim=3, seed=4)
    optimizer = torch.optim.Adam([model.seen, model.said])
    for step in range(12):
        optimizer.param_groups[0]["lr"] = 0.05 * min(1.0, 2 * (1 - step / 12))
        optimizer.zero_grad()
        objective(model, torch.from_numpy(features), torch.from_numpy(terms), rng).backward()
        optimizer.step()
    assert torch.allclose(ours.seen, model.seen, atol=1e-5)
    assert torch.allclose(ours.said, model.said, atol=1e-5)
    images, texts = ours.vectors(features[:4], terms)
    assert images.shape == (4, 3)
    assert texts.shape == (6, 3)
    assert np.allclose(np.linalg.norm(images, axis=1), 1, atol=1e-6)


def test_training_leaves_the_random_state_of_torch() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    eye = np.eye(4, dtype=np.float32)
    train_two_maps(eye, eye, lambda m, a, b, rng: info_nce(m.images(a), m.texts(b), 0.5), dim=2, steps=2, rate=0.1)
    assert torch.equal(torch.rand(2), expected)
