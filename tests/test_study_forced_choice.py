"""Forced choices: tasks are solved by what they ask for and by nothing else, and the hinge goes down its slope."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.adapt.preference import hinge_head
from workbench.datasets.choices import CONTENT, DIM, FORMS, STYLE, TASKS, Choice, ChoiceWorld
from workbench.diagnostics.transfer import transfer_matrix
from workbench.metrics import forced_choice


def accuracy(questions: Choice, head: np.ndarray | None = None) -> float:
    return float(forced_choice(questions.scores(head), questions.right).expected.mean())


def keep(world: ChoiceWorld, *parts: slice) -> np.ndarray:
    """A head that keeps some of content, style and wear, in the world's own axes."""
    kept = np.zeros(DIM)
    for part in parts:
        kept[part] = 1
    return np.asarray(world._turn.T @ np.diag(kept) @ world._turn)


def test_tasks_are_about_what_they_say() -> None:
    world = ChoiceWorld(seed=3)
    content, style, wear = slice(0, CONTENT), slice(CONTENT, CONTENT + STYLE), slice(CONTENT + STYLE, DIM)
    for task in ("same content", "same content, new styles"):
        questions = world.questions(task, 1000, seed=1)
        assert accuracy(questions, keep(world, content)) > 0.9 > 0.2 > accuracy(questions, keep(world, style))
    asked = world.questions("style in words", 1000, seed=1)
    assert accuracy(asked, keep(world, style)) > 0.9
    assert accuracy(asked, keep(world, content)) == pytest.approx(0.5, abs=0.06)
    odd = world.questions("odd one out", 1000, seed=1)
    assert accuracy(odd, keep(world, content)) > 0.9
    assert accuracy(odd, keep(world, wear)) == pytest.approx(1 / 3, abs=0.06)


def test_right_answers_are_in_either_place_alike_and_questions_repeat() -> None:
    world = ChoiceWorld(seed=0)
    for task in (*TASKS, *FORMS):
        one, again = (world.questions(task, 600, seed=4) for _ in range(2))
        places = np.bincount(one.right) / 600
        assert places == pytest.approx(1 / one.candidates.shape[1], abs=0.07)
        assert np.array_equal(one.candidates, again.candidates)
        assert not np.array_equal(one.candidates, world.questions(task, 600, seed=5).candidates)
    with pytest.raises(ValueError, match="no task 'x'"):
        world.questions("x", 2, seed=0)


def test_one_step_of_the_hinge_goes_down_the_slope_of_a_slow_loop() -> None:
    world, rate, margin = ChoiceWorld(seed=1), 1e-4, 3.0  # a margin that nobody reaches: every question counts
    drawn = [world.questions(task, 1, seed=2) for task in ("same content", "caption")]
    tasks = [Choice(*(np.repeat(part, 4, axis=0) for part in (one.reference, one.candidates, one.right)), one.images)
             for one in drawn]  # fmt: skip

    def loss(head: np.ndarray) -> float:
        total = 0.0
        for task in tasks:
            scores = task.scores(head)
            for row, right in enumerate(task.right.tolist()):
                total += max(0.0, margin - (scores[row, right] - scores[row, 1 - right])) / len(task.right)
        return total

    head = hinge_head(tasks, DIM, steps=1, rate=rate, margin=margin, seed=0)
    slope = np.zeros((DIM, DIM))
    for i, j in np.ndindex(DIM, DIM):
        moved = np.zeros((DIM, DIM))
        moved[i, j] = 1e-6
        slope[i, j] = (loss(np.eye(DIM) + moved) - loss(np.eye(DIM) - moved)) / 2e-6
    big = np.abs(slope) > 1e-6
    assert loss(np.eye(DIM)) > 0
    assert (np.sign(np.eye(DIM) - head)[big] == np.sign(slope)[big]).all()  # Adam's first step is rate x sign


def test_gains_and_losses_by_hand() -> None:
    found = transfer_matrix(
        {"zero": {"a": [1, 0.5, 0], "b": 0.8}, "on a": {"a": 0.9, "b": 0.6}, "all": {"a": 0.7, "b": 0.9}},
        baseline="zero", trained={"on a": ["a"], "all": ["a", "b"]},
    )  # fmt: skip
    assert found.gained("on a") == pytest.approx(0.4)
    assert found.forgot("on a") == pytest.approx(-0.2)
    assert found.gained("all") == pytest.approx(0.1)
    assert np.isnan(found.forgot("all"))
    assert found.table()[0] == {"model": "zero", "a": 50.0, "b": 80.0}
    with pytest.raises(ValueError, match="tried on a; expected a, b"):
        transfer_matrix({"zero": {"a": 0.5, "b": 0.5}, "x": {"a": 0.5}}, baseline="zero", trained={})
    with pytest.raises(ValueError, match=r"lie in 0\.\.1"):
        transfer_matrix({"zero": {"a": 50.0}}, baseline="zero", trained={})
