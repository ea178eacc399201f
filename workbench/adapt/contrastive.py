"""Contrastive losses for an image with one text, or with one in each of several languages, and a model to try them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[np.float32]
Weighting = Literal["code", "mean"]


def info_nce(first: Tensor, second: Tensor, tau: float | Tensor) -> Tensor:
    """Symmetric cross-entropy over a batch of pairs: row i of the one belongs to row i of the other.

    loss = (mean_i -log p(second_i | first_i) + mean_i -log p(first_i | second_i)) / 2,
    p(j | i) = exp(s_ij / tau) / sum over the batch

    first, second (n, dim), rows of length one for cosine scores. tau : temperature, > 0. Returns a scalar, >= 0.
    Errors: shapes that differ. Source: A. Radford et al., "Learning Transferable Visual Models From Natural Language
    Supervision", ICML 2021, https://arxiv.org/abs/2103.00020.

    >>> import torch
    >>> round(float(info_nce(torch.eye(2), torch.eye(2), 1.0)), 4)  # log(1 + 1 / e)
    0.3133
    """
    from torch.nn.functional import cross_entropy

    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(f"two batches (n, dim) of one shape are needed; got {_shape(first)} and {_shape(second)}")
    scores, own = first @ second.T / _checked(tau), _own(first)
    loss: Tensor = (cross_entropy(scores, own) + cross_entropy(scores.T, own)) / 2
    return loss


def one_to_k_loss(images: Tensor, texts: Tensor, tau: float | Tensor, *, weighting: Weighting = "code") -> Tensor:
    """1-to-K contrastive loss: every image against the texts of all images in all K languages at once.

    p(k, j | i) = exp(s(image_i, text_kj) / tau) / sum over all K * B texts
    p(i | k, j) = exp(s(image_i, text_kj) / tau) / sum over all B images
    "mean" : loss = (mean_ik -log p(k, i | i) + mean_ik -log p(i | k, i)) / 2
    "code" : loss = (sum_k mean_i -log p(k, i | i) + mean_ik -log p(i | k, i)) / (2 K)

    The K own texts of an image share one denominator, so that no language can win without the others losing: the
    smallest value is at 1/K for each, and the image-to-text part never falls below log K. "code" is what the authors'
    program does: it sums over the own texts in one direction and averages in the other, which weighs image to text K
    times as much as text to image; "mean" weighs the directions alike. With K = 1 both are :func:`info_nce`.

    images (B, dim), texts (K, B, dim), rows of length one for cosine scores; text (k, i) belongs to image i. tau :
    temperature, > 0 (the authors learn it from 0.07 within 0.001 to 0.5). Returns a scalar.
    Errors: other shapes, another weighting. Source: Z. Nie, R. Zhang, Z. Feng, H. Huang & X. Liu, "Improving the
    Consistency in Cross-Lingual Cross-Modal Retrieval with 1-to-K Contrastive Learning", KDD 2024,
    https://arxiv.org/abs/2406.18254.

    >>> import torch
    >>> images, texts = torch.eye(2), torch.eye(2).expand(3, 2, 2)
    >>> round(float(one_to_k_loss(images, texts, 0.01, weighting="mean")), 4)  # log(3) / 2
    0.5493
    """
    from torch.nn.functional import cross_entropy

    if weighting not in ("code", "mean"):
        raise ValueError(f"weighting must be 'code' or 'mean'; got {weighting!r}")
    if images.ndim != 2 or texts.ndim != 3 or texts.shape[1:] != images.shape or not len(texts):
        raise ValueError(f"images (B, dim) and texts (K, B, dim) are needed; got {_shape(images)} and {_shape(texts)}")
    n_languages, own = len(texts), _own(images)
    scores = images @ texts.flatten(0, 1).T / _checked(tau)  # (B, K * B), the texts of one language side by side
    by_language = scores.log_softmax(dim=1).reshape(len(images), n_languages, len(images))
    to_texts = -by_language.diagonal(dim1=0, dim2=2).mean()
    to_images = cross_entropy(scores.T, own.repeat(n_languages))
    share = 1.0 if weighting == "mean" else 1.0 / n_languages
    loss: Tensor = (to_texts + share * to_images) / 2
    return loss


def separate_losses(images: Tensor, texts: Tensor, tau: float | Tensor) -> Tensor:
    """Mean of K ordinary losses, one for each language with a denominator of its own: what 1-to-K is not.

    loss = mean_k info_nce(images, texts_k). It differs from :func:`one_to_k_loss` with weighting "mean" in one thing:
    texts of different languages never compete, so that nothing relates the scores of one language to another's.

    images (B, dim), texts (K, B, dim), tau as there. Returns a scalar, >= 0.

    >>> import torch
    >>> round(float(separate_losses(torch.eye(2), torch.eye(2).expand(3, 2, 2), 1.0)), 4)
    0.3133
    """
    import torch

    if texts.ndim != 3 or not len(texts):
        raise ValueError(f"texts (K, B, dim) are needed; got {_shape(texts)}")
    return torch.stack([info_nce(images, one, tau) for one in texts]).mean()


def pivot_loss(images: Tensor, texts: Tensor, tau: float | Tensor) -> Tensor:
    """Languages aligned through one of them: images with the first language, the first language with every other.

    loss = mean of info_nce(images, texts_0) and info_nce(texts_0, texts_k) for k = 1..K-1. No image is ever compared
    with a text of another language than the first, whose errors the others inherit.

    images (B, dim), texts (K, B, dim), tau as there. Returns a scalar, >= 0.

    >>> import torch
    >>> round(float(pivot_loss(torch.eye(2), torch.eye(2).expand(3, 2, 2), 1.0)), 4)
    0.3133
    """
    import torch

    if texts.ndim != 3 or not len(texts):
        raise ValueError(f"texts (K, B, dim) are needed; got {_shape(texts)}")
    pairs = [info_nce(images, texts[0], tau), *(info_nce(texts[0], other, tau) for other in texts[1:])]
    return torch.stack(pairs).mean()


class TwoMaps:
    """Two linear maps onto the unit sphere, one for each side: the smallest model that contrastive losses can train.

    seen (n_features, dim), said (n_terms, dim) : the maps, drawn from ``seed``. Sides are float32 rows of features,
    such as frozen image vectors and word counts.
    """

    def __init__(self, n_features: int, n_terms: int, *, dim: int, seed: int = 0) -> None:
        import torch

        made = torch.Generator().manual_seed(seed)
        self.seen = (torch.randn(n_features, dim, generator=made) / dim**0.5).requires_grad_()
        self.said = (torch.randn(n_terms, dim, generator=made) / dim**0.5).requires_grad_()

    def images(self, features: Tensor) -> Tensor:
        """(..., n_features) -> (..., dim), rows of length one."""
        from torch.nn.functional import normalize

        return normalize(features @ self.seen, dim=-1)

    def texts(self, terms: Tensor) -> Tensor:
        """(..., n_terms) -> (..., dim), rows of length one."""
        from torch.nn.functional import normalize

        return normalize(terms @ self.said, dim=-1)

    def vectors(self, features: Array, terms: Array) -> tuple[Array, Array]:
        """Both sides as arrays."""
        import torch

        with torch.no_grad():
            return self.images(torch.from_numpy(features)).numpy(), self.texts(torch.from_numpy(terms)).numpy()


def train_two_maps(
    features: Array,
    terms: Array,
    objective: Callable[[TwoMaps, Tensor, Tensor, np.random.Generator], Tensor],
    *,
    dim: int,
    steps: int,
    rate: float,
    seed: int = 0,
) -> TwoMaps:
    """Train :class:`TwoMaps` with Adam; the learning rate is ``rate`` and falls to zero over the second half.

    features (..., n_features), terms (..., n_terms) : float32, handed to ``objective`` as they are. objective(model,
    features, terms, rng) -> the loss of one step, on rows that it draws with ``rng``. The same arguments and number of
    threads give the same maps; the random state of torch is neither used nor changed.

    >>> eye = np.eye(4, dtype=np.float32)
    >>> all_rows = lambda model, one, other, rng: info_nce(model.images(one), model.texts(other), 0.1)
    >>> model = train_two_maps(eye, eye[::-1].copy(), all_rows, dim=4, steps=50, rate=0.1)
    >>> images, texts = model.vectors(eye, eye[::-1].copy())
    >>> (images @ texts.T).argmax(axis=1)
    array([0, 1, 2, 3])
    """
    import torch

    first, second = torch.from_numpy(features), torch.from_numpy(terms)
    model = TwoMaps(features.shape[-1], terms.shape[-1], dim=dim, seed=seed)
    maps, rng = (model.seen, model.said), np.random.default_rng(seed)
    memory = [(torch.zeros_like(one), torch.zeros_like(one)) for one in maps]
    for step in range(steps):
        gradients = torch.autograd.grad(objective(model, first, second, rng), maps)
        with torch.no_grad():
            for weight, gradient, moments in zip(maps, gradients, memory, strict=True):
                _adam(weight, gradient, moments, step, rate * min(1.0, 2 * (1 - step / steps)))
    return model


def _adam(weight: Tensor, gradient: Tensor, moments: tuple[Tensor, Tensor], step: int, rate: float) -> None:
    """One step of Adam, in place; ``torch.optim`` takes longer to import than a small model to train."""
    first, second = moments
    first.lerp_(gradient, 0.1)
    second.lerp_(gradient.square(), 0.001)
    spread = (second / (1 - 0.999 ** (step + 1))).sqrt_().add_(1e-8)
    weight.addcdiv_(first, spread, value=-rate / (1 - 0.9 ** (step + 1)))


def _own(batch: Tensor) -> Tensor:
    import torch

    return torch.arange(len(batch), device=batch.device)


def _shape(value: Tensor) -> tuple[int, ...]:
    return tuple(value.shape)


def _checked(tau: float | Tensor) -> float | Tensor:
    if not float(tau) > 0:
        raise ValueError(f"tau must be above 0; got {float(tau)}")
    return tau
