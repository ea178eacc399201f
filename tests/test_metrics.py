"""Metrics equal a slow count over every order of the tied items, and chance for a scorer that knows nothing."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from reference import metric_of_list, metric_over_orders

from workbench.metrics import (
    METRICS,
    Metric,
    aggregate,
    definition,
    parse_metric,
    per_query,
    per_query_all,
    ranks_from_lists,
    ranks_from_scores,
)
from workbench.types import Ranks, Relevance

NAMES = [
    "hit@1",
    "hit@3",
    "R@1",
    "R@3",
    "P@2",
    "P@5",
    "R-precision",
    "AP",
    "AP@3",
    "AP(norm=min)@3",
    "AP(norm=hits)",
    "AP(norm=hits)@2",
    "AP(norm=hits)@4",
    "mAP@R",
    "nDCG",
    "nDCG@2",
    "nDCG(gain=exp)@4",
    "nDCG(gain=exp)",
    "MRR",
    "RR@2",
    "RR@4",
    "MedR",
    "MeanR",
    "mINP",
]
COMPLETE = ("MedR", "MeanR", "mINP")  # fmt: skip


def one_query(scores: list[float], grades: list[float]) -> Ranks:
    items = [item for item, grade in enumerate(grades) if grade > 0]
    relevance = Relevance.from_pairs(
        [0] * len(items), items, [grades[item] for item in items], n_queries=1, n_gallery=len(scores)
    )
    return ranks_from_scores([scores], relevance)


def worlds(n: int) -> list[tuple[list[float], list[float]]]:
    """Small lists with many ties and grades, at least one positive each."""
    rng = np.random.default_rng(3)
    found = []
    while len(found) < n:
        size = int(rng.integers(1, 7))
        grades = rng.choice([0, 0, 1, 2, 3], size).astype(float)
        if grades.any():
            found.append((rng.integers(0, int(rng.integers(1, 5)), size).astype(float).tolist(), grades.tolist()))
    return found


# ---- values ----


@pytest.mark.parametrize("name", NAMES)
def test_expected_worst_and_best_equal_the_count_over_every_order(name: str) -> None:
    metric = parse_metric(name)
    checked = 0
    for scores, grades in worlds(100):
        if (metric.k or 0) > len(scores):
            continue
        values = per_query(metric, one_query(scores, grades))
        mean, smallest, largest = metric_over_orders(name, scores, grades)
        worst, best = (largest, smallest) if METRICS[metric.name].lower_is_better else (smallest, largest)
        np.testing.assert_allclose(
            [values.expected[0], values.worst[0], values.best[0]], [mean, worst, best], rtol=1e-12, atol=1e-14
        )
        checked += 1
    assert checked >= 20


@pytest.mark.parametrize("name", [name for name in NAMES if name not in COMPLETE])
def test_short_lists_taken_as_is_score_what_they_miss_as_never_found(name: str) -> None:
    for scores, grades in worlds(40):
        items = [item for item, grade in enumerate(grades) if grade > 0]
        n_gallery = len(scores) + 2
        relevance = Relevance.from_pairs(
            [0] * (len(items) + 1), [*items, n_gallery - 1], [*(grades[i] for i in items), 2.0],
            n_queries=1, n_gallery=n_gallery,
        )  # fmt: skip
        ranks = ranks_from_lists([(range(len(scores)), scores)], relevance)
        values = per_query(name, ranks, short_lists="as is")
        mean, worst, best = metric_over_orders(name, scores, grades, missing=[2.0])
        np.testing.assert_allclose(
            [values.expected[0], values.worst[0], values.best[0]], [mean, worst, best], rtol=1e-12, atol=1e-14
        )


@pytest.mark.parametrize("name", NAMES)
def test_without_ties_many_queries_equal_the_loop_one_by_one(name: str) -> None:
    rng = np.random.default_rng(5)
    n_queries, n_gallery = 30, 47
    scores = rng.permuted(np.tile(np.arange(n_gallery, dtype=float), (n_queries, 1)), axis=1)
    grades = np.where(rng.random((n_queries, n_gallery)) < 0.15, rng.integers(1, 4, (n_queries, n_gallery)), 0)
    grades[:, 0] = 1
    rows, columns = np.nonzero(grades)
    relevance = Relevance.from_pairs(
        rows, columns, grades[rows, columns], n_queries=n_queries, n_gallery=n_gallery
    )  # fmt: skip
    values = per_query(name, ranks_from_scores(scores, relevance))
    for query in range(n_queries):
        ordered = grades[query, np.argsort(-scores[query])].astype(float).tolist()
        everything = [grade for grade in ordered if grade > 0]
        slow = metric_of_list(name, ordered, len(everything), everything)
        assert values.expected[query] == pytest.approx(slow, rel=1e-12)
    assert np.array_equal(values.expected, values.worst)
    assert np.array_equal(values.expected, values.best)


def test_one_list_with_twelve_positives_as_published_for_four_libraries() -> None:
    """Hits at ranks 1, 3 and 6 of 10 and nine positives never found: the names that collide, side by side."""
    scores = np.arange(10, 0, -1.0)
    relevance = Relevance.from_pairs([0] * 12, [0, 2, 5, *range(10, 19)], n_queries=1, n_gallery=20)
    ranks = ranks_from_lists([(range(10), scores)], relevance)
    expected = {"AP@10": 0.181, "AP(norm=min)@10": 0.217, "AP(norm=hits)@10": 0.722, "R@10": 0.25, "hit@10": 1.0}
    for name, value in expected.items():
        assert round(float(per_query(name, ranks).expected[0]), 3) == value
    assert per_query("R-precision", ranks, short_lists="as is").expected[0] == 0.25


# ---- chance ----


@pytest.mark.parametrize("name", NAMES)
def test_a_constant_scorer_gets_exactly_chance(name: str) -> None:
    """Chance = mean over every permutation of the gallery."""
    grades = [0.0, 1.0, 0.0, 3.0, 0.0, 0.0]
    everything = [1.0, 3.0]
    values = per_query(name, one_query([0.5] * 6, grades))
    chance = np.mean([metric_of_list(name, list(order), 2, everything) for order in itertools.permutations(grades)])
    assert values.expected[0] == pytest.approx(chance, rel=1e-12)
    lower = METRICS[parse_metric(name).name].lower_is_better
    assert (values.worst[0] - values.expected[0]) * (1 if lower else -1) >= 0


@pytest.mark.parametrize(("n_gallery", "n_positives", "k"), [(1000, 1, 10), (1000, 5, 10), (25_000, 500, 100)])
def test_chance_of_hit_and_recall_in_closed_form(n_gallery: int, n_positives: int, k: int) -> None:
    relevance = Relevance.from_pairs(
        [0] * n_positives, range(n_positives), n_queries=1, n_gallery=n_gallery
    )  # fmt: skip
    ranks = ranks_from_scores(np.zeros((1, n_gallery)), relevance)
    miss = math.comb(n_gallery - n_positives, k) / math.comb(n_gallery, k)
    assert per_query(f"hit@{k}", ranks).expected[0] == pytest.approx(1 - miss, rel=1e-12)
    assert per_query(f"R@{k}", ranks).expected[0] == pytest.approx(k / n_gallery, rel=1e-12)
    assert per_query("MeanR", ranks).expected[0] == pytest.approx((n_gallery + 1) / (n_positives + 1), rel=1e-12)


def giant(start: int, size: int, n_positives: int, n_gallery: int) -> Ranks:
    """One tie group of any size: the positives among ``size`` items behind ``start`` others."""
    each = np.full(n_positives, 1)
    return Ranks(
        [0, n_positives], np.arange(n_positives), each, each * start, each * (size - 1), [n_gallery], n_gallery
    )  # fmt: skip


@pytest.mark.parametrize(("start", "size", "n_positives"), [(0, 4000, 7), (3000, 5000, 2), (700, 900, 400)])
def test_large_tie_groups_equal_the_sum_over_their_places(start: int, size: int, n_positives: int) -> None:
    n_gallery = start + size + 11
    ranks = giant(start, size, n_positives, n_gallery)
    places = np.arange(start + 1, start + size + 1)
    ahead = 1 + np.arange(size) * (n_positives - 1) / (size - 1)
    average = math.fsum(ahead / places) / size
    assert per_query("AP", ranks).expected[0] == pytest.approx(average, rel=1e-12)
    spread = math.fsum(n_positives / size / np.log2(places + 1))
    ideal = math.fsum(1 / np.log2(np.arange(2, n_positives + 2)))
    assert per_query("nDCG", ranks).expected[0] == pytest.approx(spread / ideal, rel=1e-11)
    total = math.comb(size, n_positives)
    first = [math.comb(size - i, n_positives - 1) / total for i in range(1, size - n_positives + 2)]
    reciprocal = math.fsum(chance / (start + i) for i, chance in enumerate(first, start=1))
    assert per_query("MRR", ranks).expected[0] == pytest.approx(reciprocal, rel=1e-11)
    last = [math.comb(i - 1, n_positives - 1) / total for i in range(n_positives, size + 1)]
    penalty = math.fsum(n_positives * chance / (start + i) for i, chance in enumerate(last, start=n_positives))
    assert per_query("mINP", ranks).expected[0] == pytest.approx(penalty, rel=1e-11)
    half = start + size // 3
    by_hits = 0.0
    for hits in range(1, min(size // 3, n_positives) + 1):
        n = size // 3
        chance = math.comb(n_positives, hits) * math.comb(size - n_positives, n - hits) / math.comb(size, n)
        run = 1 + np.arange(n) * (hits - 1) / (n - 1)
        by_hits += chance * math.fsum(run / places[:n]) / n
    assert per_query(f"AP(norm=hits)@{half}", ranks).expected[0] == pytest.approx(by_hits, rel=1e-10)


def test_mean_inverse_negative_penalty_of_positives_at_ranks_2_and_5() -> None:
    """Two positives, the harder one at rank 5: 2/5. A third one tied with the last two places makes it 3/6."""
    assert per_query("mINP", one_query([6, 5, 4, 3, 2, 1, 0], [0, 1, 0, 0, 1, 0, 0])).expected[0] == 2 / 5
    tied = per_query("mINP", one_query([6, 5, 4, 3, 2, 2, 0], [0, 1, 0, 0, 1, 0, 0]))
    assert (tied.best[0], tied.worst[0]) == (2 / 5, 2 / 6)
    assert tied.expected[0] == pytest.approx((2 / 5 + 2 / 6) / 2)


def test_many_metrics_at_once_equal_each_one_alone() -> None:
    ranks = ranks_from_scores(
        np.random.default_rng(2).integers(0, 5, (9, 11)),
        Relevance.from_pairs(np.repeat(np.arange(8), 2), np.arange(16) % 11, n_queries=9, n_gallery=11),
    )
    together = per_query_all([*NAMES, parse_metric("hit@2"), "AP(norm=all)@3"], ranks)
    assert list(together) == [*NAMES, "hit@2"]
    for name, values in together.items():
        alone = per_query(name, ranks)
        for side in ("expected", "worst", "best"):
            np.testing.assert_array_equal(getattr(values, side), getattr(alone, side))
    assert per_query_all([], ranks) == {}


def test_the_first_million_places_lose_no_digits() -> None:
    """Two tied positives at the far end: the sum is two fractions, so cancellation would show."""
    ranks = giant(999_990, 2, 2, 1_000_000)
    exact = (1 / 999_991 + 2 / 999_992) / 2
    assert per_query("AP", ranks).expected[0] == pytest.approx(exact, rel=1e-12)
    assert per_query("MRR", giant(0, 1_000_000, 1, 1_000_000)).expected[0] == pytest.approx(
        math.fsum(1 / x for x in range(1, 1_000_001)) / 1_000_000, rel=1e-13
    )


# ---- edges ----


def test_a_query_without_positives_has_no_value_and_is_counted() -> None:
    relevance = Relevance.from_pairs([0, 2, 1], [1, 3, 0], [1, 1, 0], n_queries=3, n_gallery=5)
    values = per_query("hit@2", ranks_from_scores(np.tile(np.arange(5.0), (3, 1)), relevance))
    assert np.isnan([values.expected[1], values.worst[1], values.best[1]]).all()
    assert (values.n_scored, values.n_missing) == (2, 1)
    assert aggregate("hit@2", values.expected) == 0.5
    assert np.isnan(aggregate("hit@2", [np.nan]))


def test_no_query_has_a_positive() -> None:
    relevance = Relevance.from_pairs([], [], n_queries=2, n_gallery=3)
    ranks = ranks_from_scores(np.zeros((2, 3)), relevance)
    for name in ("hit@1", "AP(norm=hits)@2", "nDCG@3", "MRR", "MedR", "R-precision", "P@1"):
        assert np.isnan(per_query(name, ranks).expected).all()


def test_a_gallery_of_one_item() -> None:
    ranks = one_query([0.3], [1.0])
    for name in ("hit@1", "R@1", "P@1", "AP", "nDCG", "MRR", "MedR", "R-precision", "mAP@R", "AP(norm=hits)@1"):
        assert per_query(name, ranks).expected[0] == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["hit@7", "nDCG@7", "AP(norm=min)@7"])
def test_a_cutoff_beyond_the_gallery_is_refused_with_both_numbers(name: str) -> None:
    with pytest.raises(ValueError, match=r"needs 7 ranked items, more than the gallery of 5 items"):
        per_query(name, one_query([1.0, 2.0, 3.0, 4.0, 5.0], [0, 1, 0, 0, 1]))


@pytest.mark.parametrize("name", ["hit@4", "AP", "nDCG", "MRR", "R-precision"])
def test_a_list_shorter_than_the_metric_needs_is_refused_unless_taken_as_is(name: str) -> None:
    relevance = Relevance.from_pairs([0] * 4 + [1], [0, 1, 2, 5, 3], n_queries=2, n_gallery=8)
    ranks = ranks_from_lists([([0, 1, 4], [3, 2, 1]), ([], [])], relevance)
    with pytest.raises(ValueError, match=r"more than its list of 3 items \(query 0"):
        per_query(name, ranks)
    values = per_query(name, ranks, short_lists="as is")
    assert values.expected[1] == 0.0
    with pytest.raises(ValueError, match="did you mean 'as is'"):
        per_query(name, ranks, short_lists="asis")  # type: ignore[arg-type]


def test_ranks_of_positives_need_complete_rankings() -> None:
    relevance = Relevance.from_pairs([0], [2], n_queries=1, n_gallery=9)
    ranks = ranks_from_lists([([2, 3], [1.0, 0.5])], relevance)
    for name, instead in zip(COMPLETE, ("RR@k", "RR@k", "AP@k"), strict=True):
        with pytest.raises(ValueError, match=f"give complete rankings or use {instead}"):
            per_query(name, ranks, short_lists="as is")


def test_ranks_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValueError, match="more positives share a score"):
        per_query("hit@1", Ranks([0, 2], [0, 1], [1, 1], [3, 3], [0, 0], [9], 9))
    with pytest.raises(ValueError, match="deeper than the ranked items"):
        per_query("hit@1", Ranks([0, 1], [0], [1], [5], [0], [4], 9))


def test_inputs_stay_as_they_are_and_gallery_order_is_irrelevant() -> None:
    rng = np.random.default_rng(1)
    scores, shuffle = rng.integers(0, 4, (6, 9)).astype(float), rng.permutation(9)
    rows, columns = np.nonzero(rng.random((6, 9)) < 0.4)
    one = Relevance.from_pairs(rows, columns, n_queries=6, n_gallery=9)
    other = Relevance.from_pairs(rows, np.argsort(shuffle)[columns], n_queries=6, n_gallery=9)
    scores.flags.writeable = False
    for name in NAMES:
        np.testing.assert_array_equal(
            per_query(name, ranks_from_scores(scores, one)).expected,
            per_query(name, ranks_from_scores(scores[:, shuffle], other)).expected,
        )


# ---- lists ----


def test_ranks_from_lists_count_better_and_tied_items() -> None:
    relevance = Relevance.from_pairs([0, 0, 1, 1], [0, 4, 2, 3], [1, 2, 1, 0], n_queries=3, n_gallery=6)
    ranks = ranks_from_lists([([3, 4, 5, 1], [0.2, 0.9, 0.9, 0.95]), ([2], [7.0]), ([], [])], relevance)
    assert ranks.better.tolist() == [6, 1, 0]
    assert ranks.tied.tolist() == [0, 1, 0]
    assert ranks.depth.tolist() == [4, 1, 0]
    assert ranks.grades.tolist() == [1, 2, 1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([([1, 1], [0.1, 0.2])], "holds item 1 more than once"),
        ([([1, 9], [0.1, 0.2])], "outside 0..4"),
        ([([1, 2], [0.1, np.nan])], "1 scores that are NaN"),
        ([([1, 2], [0.1])], "one score per item"),
        ([], "0 lists for 1 queries"),
    ],
)
def test_broken_lists_are_refused(given: list[tuple[list[int], list[float]]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ranks_from_lists(given, Relevance.from_pairs([0], [1], n_queries=1, n_gallery=5))


def test_scores_of_another_shape_are_refused() -> None:
    relevance = Relevance.from_pairs([0], [1], n_queries=2, n_gallery=5)
    with pytest.raises(ValueError, match=r"= \(2, 5\); got \(5, 2\)"):
        ranks_from_scores(np.zeros((5, 2)), relevance)


# ---- names ----


@pytest.mark.parametrize("name", [*NAMES, "AP(norm=hits)@50"])
def test_names_survive_the_round_trip(name: str) -> None:
    assert str(parse_metric(name)) == name
    assert parse_metric(str(parse_metric(name))) == parse_metric(name)
    assert hash(parse_metric(name)) == hash(parse_metric(name))


def test_defaults_are_not_printed_and_do_not_make_another_metric() -> None:
    assert str(parse_metric("AP(norm=all)@10")) == "AP@10"
    assert parse_metric("nDCG(gain=linear)") == Metric("nDCG")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ndgc@10", "did you mean 'nDCG'"),
        ("recall@10", "unknown metric 'recall'"),
        ("hit", "needs a cutoff, such as hit@10"),
        ("RR", "without a cutoff it is called MRR"),
        ("MRR@10", "use RR@10"),
        ("MedR@5", "takes no cutoff"),
        ("mAP@R@3", "cannot read"),
        ("hit@0", "whole number >= 1"),
        ("hit@-3", "whole number >= 1"),
        ("hit@ten", "cannot read"),
        ("AP(norm=mim)@3", "did you mean 'min'"),
        ("AP(nrom=min)@3", "did you mean 'norm'"),
        ("hit(norm=min)@3", "unknown parameter of hit"),
        ("AP(norm=min)", "needs a cutoff"),
        ("AP(norm=min,norm=hits)@3", "given twice"),
        ("AP(norm)@3", "cannot read"),
        ("", "cannot read"),
    ],
)
def test_wrong_names_say_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        parse_metric(text)


def test_every_metric_has_a_sentence() -> None:
    for name in NAMES:
        sentence = definition(name)
        assert sentence
        assert "{" not in sentence
    assert "first 10 places" in definition("hit@10")
    assert "smaller of its positives and the cutoff" in definition("AP(norm=min)@10")


def test_metrics_and_statistics_leave_torch_and_pandas_out() -> None:
    code = (
        "import sys, workbench.metrics, workbench.statistics\n"
        "print([name for name in ('torch', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
