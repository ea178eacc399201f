"""rSum, rank dispersion and forced choice equal the stored outputs, the slow count and the algebra."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from reference import metric_orders

from workbench.metrics import (
    aggregate,
    forced_choice,
    per_query,
    r_sum,
    rank_dispersion,
    ranks_from_lists,
    ranks_from_scores,
)
from workbench.types import Relevance

Shared = Callable[[str], Path]

# ---- rSum ----


def test_r_sum_adds_six_hit_rates_in_per_cent() -> None:
    """Four captions of two images; by hand: t2i first places right for 3 of 4, i2t for 1 of 2."""
    scores = np.array([[0.9, 0.1], [0.8, 0.3], [0.2, 0.7], [0.95, 0.6]])
    relevance = Relevance.from_pairs([0, 1, 2, 3], [0, 0, 1, 1], n_queries=4, n_gallery=2)
    directions = {"t2i": (scores, relevance), "i2t": (scores.T, relevance.T)}
    values = {
        f"{name}/{metric}": aggregate(metric, per_query(metric, ranks_from_scores(*world)).expected)
        for name, world in directions.items()
        for metric in ("hit@1", "hit@2", "R@1", "MRR")
    }
    assert values["t2i/hit@1"] == 0.75
    assert values["i2t/hit@1"] == 0.5
    assert values["i2t/R@1"] == 0.25
    assert r_sum(values, cutoffs=(1, 2)) == 75 + 50 + 100 + 100


def test_r_sum_of_a_perfect_system_is_600() -> None:
    assert r_sum({f"{way}/hit@{k}": 1.0 for way in ("a2t", "t2a") for k in (1, 5, 10)}) == 600.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"t2i/hit@1": 0.5}, "two opposite directions, such as t2i and i2t; got t2i"),
        ({}, "got no direction"),
        ({"t2i/R@1": 0.5, "i2t/R@1": 0.5}, r"no direction .*R@k is another metric"),
        ({"t2i/hit@1": 0.5, "t2v/hit@1": 0.5}, "got t2i, t2v"),
        ({"t2i/hit@1": 0.5, "i2t/hit@1": 0.5, "t2v/hit@1": 0.5}, "got i2t, t2i, t2v"),
        ({"t2i/hit@1": 0.5, "i2t/hit@1": 0.5, "t2i/hit@5": 0.5}, "needs i2t/hit@5, which is not among the values"),
        ({"t2i/hit@1": 50.0, "i2t/hit@1": 0.5}, "divide per cents by 100"),
        ({"t2i/hit@1": np.nan, "i2t/hit@1": 0.5}, "t2i/hit@1 is nan"),
        ({"t2i/hit@1": -0.1, "i2t/hit@1": 0.5}, "fractions in 0..1"),
    ],
)
def test_r_sum_refuses_what_it_cannot_add(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        r_sum(values, cutoffs=(1, 5) if "which is not" in message else (1,))


# ---- dispersion of ranks ----


def test_difference_mean_rank_variance_of_its_authors_is_a_mean_standard_deviation(shared: Shared) -> None:
    """The stored ranks count from 0, which no kind but "log" sees. "std" gives the number the authors' code prints
    (46.24), "var" what the name promises (2,414.8)."""
    file = np.load(shared("golden/metrics_mrv.npz"), allow_pickle=False)
    ranks = np.stack([file[language] for language in ("en", "de", "ja", "zh")], axis=1) + 1
    assert ranks.shape == (2000, 4)
    assert rank_dispersion(ranks).mean() == pytest.approx(float(file["official"]), rel=1e-12)
    assert rank_dispersion(ranks).mean() == pytest.approx(float(file["mean_std"]), rel=1e-12)
    assert rank_dispersion(ranks, kind="var").mean() == pytest.approx(float(file["mean_variance"]), rel=1e-12)
    assert rank_dispersion(ranks, clamp=129).mean() < rank_dispersion(ranks).mean()


def test_dispersion_of_two_items_by_hand() -> None:
    ranks = [[1, 2, 3], [4, 4, 4]]
    assert rank_dispersion(ranks, kind="var").tolist() == pytest.approx([2 / 3, 0])
    assert rank_dispersion(ranks, kind="std").tolist() == pytest.approx([np.sqrt(2 / 3), 0])
    logs = np.log([1, 2, 3])
    assert rank_dispersion(ranks, kind="log")[0] == pytest.approx(np.sqrt(np.mean((logs - logs.mean()) ** 2)))
    assert rank_dispersion([[1, 2], [500, 1000]], kind="log").tolist() == pytest.approx([np.log(2) / 2] * 2)


def test_a_clamp_takes_far_ranks_for_one_and_lets_missing_items_in() -> None:
    assert rank_dispersion([[1, 5000], [3, np.inf]], clamp=11).tolist() == [5.0, 4.0]
    assert rank_dispersion([[1, 5000]], clamp=11, kind="var").tolist() == [25.0]
    assert rank_dispersion([[50, 5000]], clamp=11, kind="log").tolist() == [0.0]


@pytest.mark.parametrize(
    ("ranks", "options", "message"),
    [
        ([[1], [2]], {}, r"two versions or more; got \(2, 1\)"),
        ([1, 2, 3], {}, r"got \(3,\)"),
        ([[1, 2], [0, 4]], {}, r"count from 1 and may not be NaN, but item 1 has \[0.0, 4.0\]"),
        ([[1, np.nan]], {}, "item 0 has"),
        ([[1, np.inf]], {}, "infinite rank has no dispersion"),
        ([[1, np.inf]], {"clamp": np.inf}, "infinite rank has no dispersion"),
        ([[1, 2]], {"clamp": 0}, "clamp must be a rank, 1 or more; got 0"),
        ([[1, 2]], {"clamp": np.nan}, "clamp must be a rank"),
        ([[1, 2]], {"kind": "variance"}, "'std', 'var' or 'log'; got 'variance'"),
    ],
)
def test_ranks_without_a_dispersion_are_refused(
    ranks: list[list[float]], options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        rank_dispersion(ranks, **options)  # type: ignore[arg-type]


# ---- forced choice ----


@pytest.mark.parametrize("against", ["all", "each"])
def test_forced_choice_equals_the_count_over_every_order(against: str) -> None:
    rng = np.random.default_rng(6)
    questions = [rng.integers(0, 3, int(rng.integers(2, 6))).astype(float).tolist() for _ in range(60)]
    right = [int(rng.integers(0, len(scores))) for scores in questions]
    indptr = np.cumsum([0, *map(len, questions)])
    values = forced_choice(np.concatenate(questions), right, indptr=indptr, against=against)  # type: ignore[arg-type]
    for i, (scores, place) in enumerate(zip(questions, right, strict=True)):
        ahead = [order.index(place) for order in metric_orders(scores)]
        wins = [float(n == 0) if against == "all" else 1 - n / (len(scores) - 1) for n in ahead]
        assert values.expected[i] == pytest.approx(np.mean(wins), abs=1e-12)
        assert (values.worst[i], values.best[i]) == pytest.approx((min(wins), max(wins)), abs=1e-12)


def test_forced_choice_is_hit_at_1_in_a_gallery_of_the_candidates() -> None:
    scores = np.random.default_rng(7).integers(0, 6, (40, 5)).astype(float)
    relevance = Relevance.from_pairs(np.arange(40), np.full(40, 2), n_queries=40, n_gallery=5)
    hits, choice = per_query("hit@1", ranks_from_scores(scores, relevance)), forced_choice(scores, 2)
    for side in ("expected", "worst", "best"):
        np.testing.assert_array_equal(getattr(choice, side), getattr(hits, side))


def test_a_constant_scorer_gets_one_of_m_and_one_half() -> None:
    assert forced_choice(np.ones((3, 4)), [0, 1, 3]).expected.tolist() == [0.25] * 3
    assert forced_choice(np.ones((3, 4)), 1, against="each").expected.tolist() == [0.5] * 3


def test_difference_a_tie_of_two_candidates_is_half_right_wherever_the_right_one_stands() -> None:
    """Code that takes the first maximum, as UniSim-Bench does, calls a tie right exactly when candidate 0 is right."""
    tied, right = np.ones((2, 2)), np.array([0, 1])
    assert (tied.argmax(axis=1) == right).tolist() == [True, False]
    values = forced_choice(tied, right)
    assert values.expected.tolist() == [0.5, 0.5]
    assert (values.worst.tolist(), values.best.tolist()) == ([0, 0], [1, 1])
    np.testing.assert_array_equal(forced_choice(tied, right, against="each").expected, values.expected)


@pytest.mark.parametrize(
    ("scores", "right", "options", "message"),
    [
        ([[1, 2], [3, 4]], [0, 2], {}, "question 1 has 2 candidates, so its right one cannot be 2"),
        ([[1, 2], [3, 4]], -1, {}, "question 0 has 2 candidates, so its right one cannot be -1"),
        ([[1], [3]], 0, {}, "two candidates or more, but question 0 has 1"),
        (np.empty((0, 3)), 0, {}, "there is no question"),
        ([1, 2, 3], 0, {}, "flat scores need an indptr"),
        ([1, 2, 3], 0, {"indptr": [0, 2]}, "indptr must run from 0 to the number of flat scores"),
        ([1, 2, 3], 0, {"indptr": [0, 2, 3]}, "question 1 has 1"),
        ([[1, 2], [3, np.nan]], 0, {}, "question 1 has a score that is NaN"),
        ([[1, 2]], 0, {"against": "any"}, "'all' or 'each'; got 'any'"),
    ],
)
def test_questions_that_are_none_are_refused(
    scores: object, right: object, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        forced_choice(scores, right, **options)  # type: ignore[arg-type]


def test_pairs_of_different_numbers_of_candidates() -> None:
    values = forced_choice([0.1, 0.9, 0.4, 0.4, 0.2], [1, 0], indptr=[0, 2, 5])
    assert values.expected.tolist() == [1.0, 0.5]
    each = forced_choice([0.1, 0.9, 0.4, 0.4, 0.2], [1, 0], indptr=[0, 2, 5], against="each")
    assert each.expected.tolist() == [1.0, 0.75]
    listed = [([0, 1], [0.1, 0.9]), ([0, 1, 2], [0.4, 0.4, 0.2])]
    relevance = Relevance.from_pairs([0, 1], [1, 0], n_queries=2, n_gallery=3)
    hits = per_query("hit@1", ranks_from_lists(listed, relevance))
    np.testing.assert_array_equal(values.expected, hits.expected)
