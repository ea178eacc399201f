"""The Combiner: its forward pass against torch, its loss against a loop, and what it can learn."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.adapt.combiner import Combiner, train_combiner

pytest.importorskip("torch")


def triplets(n: int = 300, dim: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The target has the first half of the image and the second half of the text: no mix of the two can say that."""
    rng = np.random.default_rng(seed)
    image, text = rng.normal(size=(n, dim)), rng.normal(size=(n, dim))
    return image, text, np.concatenate([image[:, : dim // 2], text[:, dim // 2 :]], axis=1)


def top1(queries: np.ndarray, targets: np.ndarray) -> float:
    unit = targets / np.linalg.norm(targets, axis=1, keepdims=True)
    return float(((queries @ unit.T).argmax(1) == np.arange(len(unit))).mean())


def test_the_forward_pass_is_that_of_torch() -> None:
    import torch
    from torch import nn

    image, text, target = triplets(40)
    (made,) = train_combiner(image, text, target, projection=7, hidden=9, checkpoints=(3,), batch_size=16)
    layers = {
        name: nn.Linear(weight.shape[1], weight.shape[0])
        for name in ("image", "text", "hidden", "output", "gate_hidden", "gate")
        for weight in [made.weights[f"{name}.weight"]]
    }
    for name, layer in layers.items():
        layer.load_state_dict({part: torch.tensor(made.weights[f"{name}.{part}"]) for part in ("weight", "bias")})
    i, t = (nn.functional.normalize(torch.tensor(side, dtype=torch.float32)) for side in (image, text))
    with torch.no_grad():
        joint = torch.cat([layers["text"](t).relu(), layers["image"](i).relu()], 1)
        share = nn.Sequential(layers["gate_hidden"], nn.ReLU(), layers["gate"], nn.Sigmoid())(joint)
        query = nn.functional.normalize(layers["output"](layers["hidden"](joint).relu()) + share * t + (1 - share) * i)
    np.testing.assert_allclose(made(image, text), query.numpy(), atol=1e-5)
    np.testing.assert_allclose(made.gate(image, text), share[:, 0].numpy(), atol=1e-5)
    assert 0 < made.gate(image, text).min()
    assert made.gate(image, text).max() < 1


def test_without_layers_it_is_the_plain_average() -> None:
    image, text, _ = triplets(5)
    shapes = {
        "image": (4, 6),
        "text": (4, 6),
        "hidden": (3, 8),
        "output": (6, 3),
        "gate_hidden": (3, 8),
        "gate": (1, 3),
    }
    zero = {f"{name}.weight": np.zeros(shape, np.float32) for name, shape in shapes.items()}
    zero |= {f"{name}.bias": np.zeros(shape[0], np.float32) for name, shape in shapes.items()}
    mixed = image / np.linalg.norm(image, axis=1)[:, None] + text / np.linalg.norm(text, axis=1)[:, None]
    expected = mixed / np.linalg.norm(mixed, axis=1)[:, None]
    np.testing.assert_allclose(Combiner(zero)(image, text), expected, atol=1e-6)


def test_the_first_loss_is_the_cross_entropy_from_query_to_target_only() -> None:
    image, text, target = triplets(12)
    shown = {"checkpoints": (1,), "batch_size": 12, "dropout": 0.0, "projection": 8, "hidden": 8}
    (before,) = train_combiner(image, text, target, learning_rate=0.0, weight_decay=0.0, **shown)
    queries = before(image, text)
    unit = target / np.linalg.norm(target, axis=1)[:, None]
    scores = 100 * queries @ unit.T
    one_way = float(
        np.mean([np.log(np.exp(row - row.max()).sum()) + row.max() - row[i] for i, row in enumerate(scores)])
    )
    assert before.losses[0] == pytest.approx(one_way, rel=1e-4)
    other_way = float(np.mean(np.log(np.exp(scores - scores.max(0)).sum(0)) + scores.max(0) - np.diag(scores)))
    assert abs(one_way - other_way) > 1e-3 * one_way, "this world cannot tell the directions apart"


def test_the_optimizer_takes_the_steps_of_torch() -> None:
    import torch

    from workbench.adapt.combiner import _AdamW

    torch.manual_seed(0)
    mine, theirs = (torch.ones(4, 3, requires_grad=True) for _ in range(2))
    own = _AdamW([mine], lr=0.01, weight_decay=0.1)
    reference = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1)
    for _ in range(5):
        wanted = torch.randn(4, 3)
        reference.zero_grad()
        ((theirs - wanted) ** 3).sum().backward()
        reference.step()
        own.step(torch.autograd.grad(((mine - wanted) ** 3).sum(), [mine]))
    torch.testing.assert_close(mine, theirs)


def test_it_learns_what_no_mix_can_say_and_not_from_shuffled_conditions() -> None:
    image, text, target = triplets(1000)
    shown = {"checkpoints": (300,), "projection": 32, "hidden": 64, "dropout": 0.0, "learning_rate": 3e-3}
    (made,) = train_combiner(image, text, target, **shown)
    (blind,) = train_combiner(image, np.random.default_rng(1).permutation(text), target, **shown)
    asked = triplets(101, seed=9)
    mixes = [(1 - w) * asked[0] + w * asked[1] for w in np.arange(11) / 10]
    best = max(top1(mix, asked[2]) for mix in mixes)
    assert top1(made(*asked[:2]), asked[2]) > best + 0.15
    assert top1(blind(*asked[:2]), asked[2]) < best


def test_the_same_seed_gives_the_same_weights_and_checkpoints_are_stages_of_one_run() -> None:
    import torch

    image, text, target = triplets(50)
    shown = {"projection": 4, "hidden": 5, "batch_size": 20}
    state = torch.get_rng_state()
    early, late = train_combiner(image, text, target, checkpoints=(2, 5), **shown)
    assert torch.equal(state, torch.get_rng_state()), "the generator of others was touched"
    (again,) = train_combiner(image, text, target, checkpoints=(5,), **shown)
    (other,) = train_combiner(image, text, target, checkpoints=(5,), seed=1, **shown)
    assert late.losses == again.losses
    assert early.losses == late.losses[:2]
    assert early.steps == 2
    for name, value in late.weights.items():
        np.testing.assert_array_equal(value, again.weights[name])
    assert other.losses != late.losses


def test_lengths_of_the_inputs_do_not_matter() -> None:
    image, text, target = triplets(30)
    (made,) = train_combiner(image, text, target, projection=4, hidden=4, checkpoints=(2,), batch_size=10)
    np.testing.assert_allclose(made(90 * image, 22 * text), made(image, text), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 31}, "batch_size must lie in 2..30"),
        ({"batch_size": 1}, "batch_size must lie in 2..30"),
        ({"checkpoints": (3, 2), "batch_size": 8}, "rising"),
        ({"checkpoints": (), "batch_size": 8}, "rising"),
        ({"checkpoints": (0,), "batch_size": 8}, "rising"),
    ],
)
def test_errors_of_training(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_combiner(*triplets(30), **change)


def test_errors_of_shapes() -> None:
    image, text, target = triplets(30)
    with pytest.raises(ValueError, match="row by row"):
        train_combiner(image, text[:-1], target, batch_size=8)
    with pytest.raises(ValueError, match="targets must have the shape"):
        train_combiner(image, text, target[:, :-1], batch_size=8)
