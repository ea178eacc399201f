"""S37: the study's own arithmetic, what its arms must satisfy, and that its imitations change the verdict."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from workbench.compose import Mixing
from workbench.datasets.scenes.templates import TASKS, evaluate_templates
from workbench.studies.composed import conditions as study
from workbench.studies.ledger import StudyResult, run_study

pytest.importorskip("torch")


@lru_cache
def tiny() -> StudyResult:
    return run_study(study.STUDY, size="tiny")


def test_hits_are_those_of_the_public_evaluation() -> None:
    images, texts = study._drawn(1)
    asked = study._asked(1, "test", (120, 300), 12, images, texts)
    for one in asked.values():
        for mixing in (Mixing(), Mixing(0.0), Mixing(0.8, inputs="raw")):
            queries = mixing(one.references, one.conditions)
            found = evaluate_templates(queries, one.pool[one.templates.gallery], one.templates.target)
            assert one.hit(mixing) == pytest.approx(100 * found["hit@1"].expected.mean(), abs=1e-9)


def test_the_splits_share_no_content_and_no_template_of_validation_is_tested() -> None:
    worlds = {split: study._scenes(0, split, (40, 80)) for split in ("train", "val", "test")}
    contents = {split: {scene.content for scene in found} for split, found in worlds.items()}
    assert not contents["train"] & contents["val"] | contents["train"] & contents["test"]
    assert not contents["val"] & contents["test"]
    assert all(len({scene.arrangement for scene in found}) == 120 for found in worlds.values())


def test_drawn_vectors_know_the_words_of_their_scenes_and_nothing_of_the_rest() -> None:
    images, texts = study._drawn(0)
    scenes = study._scenes(0, "train", (200, 0))
    seen, said = images(scenes), texts(["a red shape", "color"])
    red = np.array([scene.objects[0].color == "red" for scene in scenes])
    scores = (seen / np.linalg.norm(seen, axis=1, keepdims=True)) @ said.T
    assert scores[red, 0].mean() - scores[~red, 0].mean() > 4 * scores[~red, 0].std() / np.sqrt(red.sum())
    assert abs(scores[red, 1].mean() - scores[~red, 1].mean()) < 4 * scores[:, 1].std() / np.sqrt(red.sum())
    assert np.linalg.norm(seen, axis=1).mean() > 3 * np.linalg.norm(said, axis=1).mean()


def test_centring_takes_a_gap_out_that_a_plain_average_keeps() -> None:
    rng = np.random.default_rng(0)
    image, text = rng.normal(size=(9, 40)), rng.normal(size=(9, 40))
    unit = lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)  # noqa: E731
    image = unit(image) + 3 * np.eye(40)[0]
    centred = study._Centred(unit(image).mean(0), unit(text).mean(0), Mixing())
    expected = unit(unit(unit(image) - unit(image).mean(0)) + unit(unit(text) - unit(text).mean(0)))
    np.testing.assert_allclose(centred(image, text), expected, atol=1e-5)
    assert abs(centred(image, text)[:, 0].mean()) < 0.1 < Mixing()(image, text)[:, 0].mean()


def test_the_lesser_of_the_two_tasks_that_validation_names() -> None:
    names = dict.fromkeys(study.AVERAGES, 10.0)
    arms = {task: {**names, "Combiner": value} for task, value in zip(TASKS, (50.0, 20.0, 30.0, 5.0), strict=True)}
    gains = dict(zip(TASKS, (1.0, 3.0, 2.0, 0.0), strict=True))
    assert study._lesser_of_two(gains, arms) == TASKS[1]
    arms[TASKS[2]][study.RAW] = 29.0
    assert study._lesser_of_two(gains, arms) == TASKS[2]


def test_a_constant_scorer_is_perfect_under_a_stable_sort_and_at_chance_with_ties_counted() -> None:
    found = study._constant(60)
    assert found["constant, stable sort"] == 100
    assert found["constant, ties counted"] == pytest.approx(100 / 15, abs=1e-9)
    assert found["chance"] == 100 / 15


def test_arms_are_shares_and_blind_arms_are_blind() -> None:
    result = tiny()
    for arms in result.values().values():
        assert all(0 <= value <= 200 for values in arms.values() for value in values)
    mean = result.values()[study.MEAN]
    for name in ("random", "average, conditions shuffled"):
        assert np.mean(mean[name]) < 14
    assert study.STUDY.measure(1, "tiny") == result.seeds[1]


def test_with_the_imitations_the_verdict_changes() -> None:
    result = tiny()
    pairs = list(zip(result.verdict.claims, result.fake.claims, strict=True))
    changed = [own.claim.says for own, fake in pairs if own.answer == "holds" and fake.answer != "holds"]
    assert "a constant scorer gets chance when ties are counted" in changed
    assert "the text alone does little better than guess between the target and its distractors" in changed
    assert "without its distractors the text alone does at least twice as well" in changed
    assert "the average beats both shortcuts" in changed
    assert result.fake.answer == "inconclusive"
