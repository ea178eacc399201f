"""The lesson on improvements: its world is as described, its answers are taken, its statements can fail."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from workbench.datasets.rival import (
    Captioned,
    Heads,
    RivalWorld,
    averaged,
    cosines,
    hit_rates,
    rival_world,
    train_heads,
)
from workbench.datasets.rival import _gradients as gradients
from workbench.metrics import per_query, ranks_from_scores
from workbench.shipped import find
from workbench.types import Relevance

LESSON = find("notebooks/learn") / "03_is_the_improvement_real.ipynb"
ANSWERS = ["0.6415", "0.06", "0.822", "9", "1"]
Floats = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def world() -> RivalWorld:
    return rival_world(n_images=40, n_train=50, n_fresh=2, seed=3)


def loss(pictures: Floats, captions: Floats, image: Floats, text: Floats) -> float:
    """The symmetric cross-entropy, pair by pair."""
    u, v = pictures @ image, captions @ text
    total = 0.0
    for i in range(len(u)):
        cos = [v[i] @ u[j] / np.linalg.norm(v[i]) / np.linalg.norm(u[j]) / 0.1 for j in range(len(u))]
        back = [v[j] @ u[i] / np.linalg.norm(v[j]) / np.linalg.norm(u[i]) / 0.1 for j in range(len(u))]
        total -= cos[i] - np.log(np.exp(cos).sum()) + back[i] - np.log(np.exp(back).sum())
    return total / (2 * len(u))


def test_the_gradient_is_that_of_the_loss() -> None:
    rng = np.random.default_rng(0)
    pictures, captions = rng.normal(size=(2, 6, 5))
    image, text = rng.normal(size=(2, 5, 3))
    found = gradients(pictures, captions, image, text)
    for place in np.ndindex(5, 3):
        step = np.zeros((5, 3))
        step[place] = 1e-6
        for which, (by_image, by_text) in enumerate(((step, 0 * step), (0 * step, step))):
            up = loss(pictures, captions, image + by_image, text + by_text)
            down = loss(pictures, captions, image - by_image, text - by_text)
            assert found[which][place] == pytest.approx((up - down) / 2e-6, abs=1e-5)


def test_hit_rates_are_those_of_the_metrics(world: RivalWorld) -> None:
    heads = train_heads(world.train, seed=1, n_checkpoints=2)
    for number, row in enumerate(hit_rates(heads, world.test)):
        scores = cosines(heads, world.test, checkpoint=number)
        assert scores.shape == (200, 40)
        assert np.abs(scores).max() <= 1 + 1e-6
        assert np.array_equal(row, per_query("hit@1", ranks_from_scores(scores, world.test.relevance)).expected)


def test_ties_of_hit_rates_are_shared() -> None:
    """Two equal pictures: their captions are right half of the time."""
    pictures = np.eye(32, dtype=np.float32)[[0, 0, 1]]
    owner = np.repeat(np.arange(3), 2)
    right = Relevance.from_pairs(np.arange(6), owner, n_queries=6, n_gallery=3)
    heads = Heads(np.eye(32, 16, dtype=np.float32)[None], np.eye(32, 16, dtype=np.float32)[None])
    assert hit_rates(heads, Captioned(pictures, pictures[owner], owner, right)).tolist() == [[0.5] * 4 + [1.0] * 2]


def test_sets_share_no_picture_and_are_repeatable(world: RivalWorld) -> None:
    again = rival_world(n_images=40, n_train=50, n_fresh=2, seed=3)
    sets = [world.train, world.validation, world.test, *world.fresh]
    for mine, other in zip(sets, [again.train, again.validation, again.test, *again.fresh], strict=True):
        assert np.array_equal(mine.images, other.images)
        assert np.array_equal(mine.texts, other.texts)
    everything = np.concatenate([each.images for each in sets])
    assert len(np.unique(everything, axis=0)) == len(everything) == 50 + 4 * 40
    assert not np.array_equal(rival_world(n_images=40, seed=4).test.images, world.test.images)
    assert np.array_equal(world.test.text_image, np.repeat(np.arange(40), 5))


def test_the_seed_of_a_training_is_all_that_differs(world: RivalWorld) -> None:
    first, same, other = (train_heads(world.train, seed=seed, n_checkpoints=3) for seed in (1, 1, 2))
    assert np.array_equal(first.text, same.text)
    assert np.array_equal(first.image, same.image)
    assert not np.allclose(first.text, other.text)
    assert not np.allclose(first.text[0], first.text[1])
    shorter = train_heads(world.train, seed=1, n_checkpoints=1)
    assert np.array_equal(shorter.image[0], first.image[0])


def test_training_teaches_and_averaging_is_the_mean(world: RivalWorld) -> None:
    heads = train_heads(world.train, seed=1, n_checkpoints=4)
    assert hit_rates(heads, world.test).mean() > 10 / 40
    mean = averaged(heads, last=3)
    assert np.allclose(mean.image[0], (heads.image[1] + heads.image[2] + heads.image[3]) / 3, atol=1e-6)
    assert np.allclose(mean.text[0], heads.text[1:].mean(axis=0))
    assert len(mean) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rival_world(n_images=1), "n_images must be a whole number, at least 2; got 1"),
        (lambda: rival_world(n_train=31), "n_train .* at least 32"),
        (lambda: rival_world(n_fresh=0), "n_fresh"),
        (lambda: rival_world(seed=True), "seed"),
        (lambda: train_heads(rival_world(n_images=2).train, seed=0, n_checkpoints=0), "n_checkpoints .* got 0"),
        (lambda: averaged(Heads(np.zeros((2, 1, 1), np.float32), np.zeros((2, 1, 1), np.float32))), r"1\.\.2"),
    ],
)
def test_what_cannot_be_made_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def drawing(text: str) -> bool:
    return "plots.figure(" in text or "plots.panels(" in text


def lesson(parameters: str = "", changes: Mapping[str, str] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The lesson without its figures, run in this process: the names it leaves, and what each cell shows by its text.

    parameters : in place of the parameters cell. changes : texts to replace, each of them in one cell, once.
    """
    cells = json.loads(LESSON.read_text(encoding="utf-8"))["cells"]
    sources = [source(cell) for cell in cells if cell["cell_type"] == "code" and not drawing(source(cell))]
    sources[0] = parameters or sources[0]
    for old, new in (changes or {}).items():
        place = [number for number, text in enumerate(sources) if old in text]
        assert len(place) == 1, f"{old} must stand in one cell; found in {len(place)}"
        sources[place[0]] = sources[place[0]].replace(old, new, 1)
    names: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    for text in sources:
        tree = ast.parse(text)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "lesson", "exec"), names)
        if isinstance(last, ast.Expr):
            shown[text] = eval(compile(ast.Expression(last.value), "lesson", "eval"), names)
    return names, shown


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 11, 15])
def test_the_statements_hold_in_other_worlds(seed: int) -> None:
    names, _ = lesson(f"seed: int = {seed}\nn_images: int = 300")
    assert names["left_over"].low < 0 < names["left_over"].high
    assert names["naive"].p_value < 0.05
    assert names["kept"].low > 0
    assert min(names["from_ties"], names["from_seeds"], names["from_checkpoints"]) > 0


def answered() -> dict[str, str]:
    """Each question with its answer; the question is known by the line below it."""
    cells = [source(cell) for cell in json.loads(LESSON.read_text(encoding="utf-8"))["cells"]]
    questions = [text for text in cells if text.startswith("mine = None")]
    return {q: q.replace("None", answer, 1) for q, answer in zip(questions, ANSWERS, strict=True)}


def test_the_table_tempts_the_answers_are_taken_and_the_verdict_is_heard() -> None:
    names, shown = lesson(changes={**answered(), "verdict = None": 'verdict = "wait"'})
    assert 0.025 < names["claim"] < 0.035
    assert names["naive"].p_value < 0.05
    assert names["found"]["pictures"].p_value < 0.05
    assert [each for text, each in shown.items() if text.startswith("mine = ")] == ["right"] * len(ANSWERS)
    (said,) = [each for text, each in shown.items() if text.startswith("answer = ")]
    assert "you were waiting for" in said


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("by_hand = (wins - losses) / n", "by_hand = wins / n"),
        ("np.sqrt(1 / 2), rtol", "1, rtol"),
        ("seed=each) for each in range(20)", "seed=0) for each in range(20)"),
        ("averaged(run), world.test)[0] for run", "averaged(run, last=1), world.test)[0] for run"),
        ("means[range(10, 20), choice[10:]]", "means[range(10, 20), choice[:10]]"),
        ('verdict = None', 'verdict = "perhaps"'),
        ("mine = None\nright = holm", "mine = 0.02\nright = holm"),
    ],
    ids=["by hand", "asked twice", "one seed", "nothing averaged", "wrong runs", "perhaps", "wrong answer"],
)  # fmt: skip
def test_a_wrong_step_stops_the_lesson(right: str, wrong: str) -> None:
    with pytest.raises(AssertionError) as caught:
        lesson(changes={right: wrong})
    assert "must stand in one cell" not in str(caught.value)
