"""The Combiner: a small network that makes one query vector of a reference image and a condition, and its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from workbench.types import FloatArray, unit_vectors

SCALE = 100.0
_LAYERS = ("image", "text", "hidden", "output", "gate_hidden", "gate")


@dataclass(frozen=True, eq=False)
class Combiner:
    r"""A trained Combiner as plain arrays; calling it needs no torch.

    With image i and text t of length one, :math:`r = [\mathrm{relu}(W_t t), \mathrm{relu}(W_i i)]`, the query is

    .. math:: q = W_o \mathrm{relu}(W_h r) + s t + (1 - s) i, \quad s = \sigma(w_g \mathrm{relu}(W_g r))

    scaled to length one (biases left out here). weights : "LAYER.weight" and "LAYER.bias" of the layers image, text,
    hidden, output, gate_hidden, gate. losses : training loss of each step up to here. steps : how many.
    Source: A. Baldrati, M. Bertini, T. Uricchio, A. Del Bimbo, "Effective conditioned and composed image retrieval
    combining CLIP-based features", CVPR 2022, https://doi.org/10.1109/CVPR52688.2022.02080. It differs in that inputs
    are scaled to length one; the published code takes the encoder's vectors as they come.
    """

    weights: Mapping[str, npt.NDArray[np.float32]]
    losses: tuple[float, ...] = ()

    @property
    def steps(self) -> int:
        """How many steps it was trained."""
        return len(self.losses)

    def __call__(self, images: npt.ArrayLike, texts: npt.ArrayLike) -> FloatArray:
        """images, texts (n, dim), row by row; returns (n, dim) float64 of length one."""
        image, text = _sides(images, texts)
        joint = np.concatenate([_relu(self._layer("text", text)), _relu(self._layer("image", image))], axis=1)
        share = self._gate(joint)
        query = self._layer("output", _relu(self._layer("hidden", joint))) + share * text + (1 - share) * image
        return np.asarray(query / np.linalg.norm(query, axis=1, keepdims=True))

    def gate(self, images: npt.ArrayLike, texts: npt.ArrayLike) -> FloatArray:
        """The share s of the text in the mix of the raw features, (n,), in 0..1."""
        image, text = _sides(images, texts)
        joint = np.concatenate([_relu(self._layer("text", text)), _relu(self._layer("image", image))], axis=1)
        return self._gate(joint)[:, 0]

    def _gate(self, joint: FloatArray) -> FloatArray:
        return np.asarray(1 / (1 + np.exp(-self._layer("gate", _relu(self._layer("gate_hidden", joint))))))

    def _layer(self, name: str, rows: FloatArray) -> FloatArray:
        weight, bias = (np.asarray(self.weights[f"{name}.{part}"], np.float64) for part in ("weight", "bias"))
        return np.asarray(rows @ weight.T + bias)


def train_combiner(
    images: npt.ArrayLike,
    texts: npt.ArrayLike,
    targets: npt.ArrayLike,
    *,
    projection: int | None = None,
    hidden: int | None = None,
    checkpoints: Sequence[int] = (200,),
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.01,
    dropout: float = 0.5,
    seed: int = 0,
) -> tuple[Combiner, ...]:
    """Train on triplets over frozen vectors; one Combiner for each number of steps in ``checkpoints``.

    Loss: cross-entropy of 100 cos(query, target) with the targets of the batch as candidates, from query to target
    only. images, texts, targets (n_triplets, dim), row by row. projection, hidden : widths, by default 4 dim and
    8 dim as published (2560 and 5120 for dim = 640). AdamW; every batch is drawn without repetition. The same
    arguments give the same weights on the same machine with the same number of threads.
    Errors: shapes that differ, fewer triplets than a batch, checkpoints that do not rise.

    >>> eye = np.eye(4)
    >>> tuple(one.steps for one in train_combiner(eye, eye[::-1], eye, checkpoints=(1, 3), batch_size=4))
    (1, 3)
    """
    image, text = _sides(images, texts)
    goal = unit_vectors(targets)
    if goal.shape != image.shape:
        raise ValueError(f"targets must have the shape of images {image.shape}; got {goal.shape}")
    if not 2 <= batch_size <= len(goal):
        raise ValueError(f"batch_size must lie in 2..{len(goal)}, the number of triplets; got {batch_size}")
    if not checkpoints or list(checkpoints) != sorted(set(checkpoints)) or checkpoints[0] < 1:
        raise ValueError(f"checkpoints must be rising numbers of steps, such as (100, 200); got {tuple(checkpoints)}")
    return _train(
        (image, text, goal), projection or 4 * image.shape[1], hidden or 8 * image.shape[1], tuple(checkpoints),
        batch_size, {"lr": learning_rate, "weight_decay": weight_decay}, dropout, seed,
    )  # fmt: skip


def _train(
    triplets: Sequence[FloatArray], projection: int, hidden: int, checkpoints: tuple[int, ...], batch_size: int,
    optimizer: Mapping[str, float], dropout: float, seed: int,
) -> tuple[Combiner, ...]:  # fmt: skip
    import torch
    from torch.nn.functional import cross_entropy

    sides = [torch.from_numpy(np.asarray(side, np.float32)) for side in triplets]
    found, losses = [], []
    rows = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = _layers(sides[0].shape[1], projection, hidden)
        adam = _AdamW(list(layers.parameters()), **optimizer)
        for step in range(1, checkpoints[-1] + 1):
            picked = torch.from_numpy(rows.permutation(len(sides[0]))[:batch_size])
            image, text, target = (side[picked] for side in sides)
            scores = SCALE * _forward(layers, image, text, dropout) @ target.T
            loss = cross_entropy(scores, torch.arange(batch_size))
            adam.step(torch.autograd.grad(loss, adam.parameters))
            losses.append(float(loss.detach()))
            if step in checkpoints:
                weights = {name: value.detach().numpy().copy() for name, value in layers.state_dict().items()}
                found.append(Combiner(weights, tuple(losses)))
    return tuple(found)


class _AdamW:
    """The steps of ``torch.optim.AdamW``, whose import costs more than the training of a small Combiner.

    I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019, https://arxiv.org/abs/1711.05101.
    """

    def __init__(self, parameters: list[Any], *, lr: float, weight_decay: float) -> None:
        self.parameters, self.lr, self.decay = parameters, lr, weight_decay
        self.means = [one.detach() * 0 for one in parameters]
        self.squares = [one.detach() * 0 for one in parameters]
        self.steps = 0

    def step(self, gradients: Sequence[Any], beta: float = 0.9, gamma: float = 0.999, epsilon: float = 1e-8) -> None:
        """One step, in place."""
        self.steps += 1
        rate = self.lr / (1 - beta**self.steps)
        for one, gradient, mean, square in zip(self.parameters, gradients, self.means, self.squares, strict=True):
            mean.lerp_(gradient, 1 - beta)
            square.mul_(gamma).addcmul_(gradient, gradient, value=1 - gamma)
            root = (square / (1 - gamma**self.steps)).sqrt_().add_(epsilon)
            one.data.mul_(1 - self.lr * self.decay).addcdiv_(mean, root, value=-rate)


def _layers(dim: int, projection: int, hidden: int) -> Any:
    from torch.nn import Linear, ModuleDict

    sizes = ((dim, projection), (dim, projection), (2 * projection, hidden), (hidden, dim), (2 * projection, hidden))
    return ModuleDict({name: Linear(*size) for name, size in zip(_LAYERS, (*sizes, (hidden, 1)), strict=True)})


def _forward(layers: Any, image: Any, text: Any, dropout: float) -> Any:
    """The queries of a batch in training mode, with dropout behind every rectifier."""
    import torch
    from torch.nn.functional import dropout as dropped
    from torch.nn.functional import normalize

    joint = torch.cat([dropped(layers[n](side).relu(), dropout) for n, side in (("text", text), ("image", image))], 1)
    share = torch.sigmoid(layers["gate"](dropped(layers["gate_hidden"](joint).relu(), dropout)))
    query = layers["output"](dropped(layers["hidden"](joint).relu(), dropout))
    return normalize(query + share * text + (1 - share) * image, dim=1)


def _sides(images: npt.ArrayLike, texts: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    image, text = (np.asarray(unit_vectors(side), np.float64) for side in (images, texts))
    if image.shape != text.shape:
        raise ValueError(f"images and texts must both be (n, dim), row by row; got {image.shape} and {text.shape}")
    return image, text


def _relu(rows: FloatArray) -> FloatArray:
    return np.asarray(np.maximum(rows, 0))
