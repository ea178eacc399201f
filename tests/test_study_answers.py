"""Answers and arenas: Bradley-Terry against a general optimiser, Elo by hand, every planted defect found once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import minimize

from workbench.datasets.answers import DEFECTS, answer_world, clean_records, spoiled
from workbench.datasets.battles import battles
from workbench.diagnostics.answers import citation_support, segment, validate_answers
from workbench.statistics.arena import bradley_terry, elo
from workbench.studies.documents.answers import REFERENCE


def test_bradley_terry_is_the_maximum_of_the_likelihood() -> None:
    pairs, outcomes = battles([1100.0, 1000.0, 900.0], 300, ties=0.2, seed=1)

    def loss(strengths: np.ndarray) -> float:
        gap = strengths[pairs[:, 0]] - strengths[pairs[:, 1]]
        return float(-(outcomes * -np.log1p(np.exp(-gap)) + (1 - outcomes) * -np.log1p(np.exp(gap))).sum())

    best = minimize(loss, np.zeros(3), tol=1e-12).x
    expected = 1000 + 400 / np.log(10) * (best - best.mean())
    found = bradley_terry(pairs, outcomes, ("a", "b", "c"), n_resamples=0)
    np.testing.assert_allclose(found.rating, expected, atol=0.01)
    order = np.random.default_rng(0).permutation(300)
    again = bradley_terry(pairs[order], outcomes[order], ("a", "b", "c"), n_resamples=0)
    np.testing.assert_allclose(found.rating, again.rating, atol=1e-6)
    swapped = bradley_terry(pairs[:, ::-1], 1 - outcomes, ("a", "b", "c"), n_resamples=0)
    np.testing.assert_allclose(found.rating, swapped.rating, atol=1e-6)


@pytest.mark.slow
def test_intervals_cover_the_truth() -> None:
    true = np.array([1060.0, 1020.0, 980.0, 940.0])
    inside = []
    for seed in range(100):
        found = bradley_terry(*battles(true, 600, seed=seed), tuple("abcd"), n_resamples=200, seed=seed)
        inside.append((found.low <= true) & (true <= found.high))
    assert 0.91 <= np.mean(inside) <= 0.98, np.mean(inside)


def test_systems_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match="fall into 2 groups"):
        bradley_terry([[0, 1], [0, 1]], [1, 1], ("a", "b"))
    found = bradley_terry([[0, 1], [0, 1]], [1, 1], ("a", "b"), n_resamples=0, prior=1.0)
    assert found.rating[0] - found.rating[1] == pytest.approx(400 * np.log10(2.5 / 0.5))
    with pytest.raises(ValueError, match="two different systems"):
        bradley_terry([[0, 0]], [1], ("a", "b"))
    with pytest.raises(ValueError, match=r"must be \(1,\) of 1"):
        elo([[0, 1]], [2.0], 2)


def test_elo_by_hand() -> None:
    ratings = elo([[0, 1], [1, 0]], [1.0, 0.5], 2, k=10.0)
    first = 5.0  # equals meet
    second = 10 * (0.5 - 1 / (1 + 10 ** (2 * first / 400)))
    np.testing.assert_allclose(ratings, [1000 + first - second, 1000 - first + second])


@pytest.mark.parametrize("seed", range(5))
def test_ten_defects_give_ten_issues_and_a_clean_file_none(seed: int) -> None:
    world = answer_world(n_topics=20, seed=seed)
    clean = clean_records(world, seed=seed)
    assert validate_answers(clean, world.topics, reference=REFERENCE) == ()
    bad, planted = spoiled(clean, seed=seed)
    found = [one for one in validate_answers(bad, world.topics, reference=REFERENCE) if one.line]
    assert {one.line: one.kind for one in found} == planted
    assert len(found) == len(DEFECTS) == 10
    left = [one for one in validate_answers(bad, world.topics, reference=REFERENCE) if not one.line]
    assert {one.kind for one in left} == {"unanswered topic"}
    assert len(left) == 2  # the topics of the record that names another, and of the one that repeats the first


def test_words_are_counted_and_the_rest_is_named() -> None:
    record = {"run_id": "r", "topic_id": "1", "topic": "why", "references": ["a"], "response_length": 3,
              "answer": [{"text": "one two three", "citations": [0, True, -1]}]}  # fmt: skip
    kinds = [one.kind for one in validate_answers([record], {"1": "why"}, max_words=2)]
    assert kinds == ["too many words", "citation out of range", "citation out of range"]
    assert [one.kind for one in validate_answers([{}], {})] == ["missing field"] * 6


def test_windows_cover_every_sentence_and_none_is_inside_another() -> None:
    for n in range(40):
        windows = segment(["."] * n)
        assert {i for start, stop in windows for i in range(start, stop)} == set(range(n))
        assert all(one[1] < other[1] for one, other in pairwise(windows))


def test_support_is_counted_against_known_facts() -> None:
    world = answer_world(n_topics=3, n_facts=4, copies=5.0, seed=0)
    answers = [[(fact, [f"doc-{t}-{fact[-1]}#0"]) for fact in sorted(facts)] for t, facts in enumerate(world.facts)]
    assert citation_support(answers, world.evidence, world.facts).flat() == {
        "precision": 1.0,
        "recall": 1.0,
        "found": 1.0,
    }
    moved = [answers[1], answers[2], answers[0]]
    assert citation_support(moved, world.evidence, world.facts).found == 0.0
