"""Exposure of groups: shares, skew, NDKL by hand and by slow loops; chance by simulation; verdicts by planted truth."""

from __future__ import annotations

import json
from collections import Counter
from math import log, log2

import numpy as np
import pytest
from scipy import stats

from workbench.codec import from_plain, to_plain
from workbench.diagnostics import random_lists
from workbench.diagnostics.exposure import Exposure, exposure
from workbench.diagnostics.random_lists import ndkl, ndkl_of_random_lists, random_places
from workbench.types import Neighbours, RankedLists, Relevance

NAMED = {"column": "maker", "direction": "t2i"}


def slow_ndkl(groups: list[str], reference: dict[str, float]) -> float:
    """One list, prefix by prefix, as the paper writes it."""
    total = weights = 0.0
    for length in range(1, len(groups) + 1):
        shares = {group: count / length for group, count in Counter(groups[:length]).items()}
        divergence = sum(share * log(share / reference[group]) for group, share in shares.items())
        total += divergence / log2(length + 1)
        weights += 1 / log2(length + 1)
    return total / weights


def drawn(seed: int, n_queries: int, groups: np.ndarray, k: int, weight: dict[str, float] | None = None) -> np.ndarray:
    """Lists without replacement; groups may be likelier than others."""
    rng = np.random.default_rng(seed)
    favour = np.array([(weight or {}).get(group, 1.0) for group in groups])
    keys = rng.exponential(size=(n_queries, len(groups))) / favour
    return np.argsort(keys, axis=1)[:, :k]


def gallery(seed: int = 0, n: int = 120) -> np.ndarray:
    return np.random.default_rng(seed).choice(["a", "b", "c"], size=n, p=[0.5, 0.3, 0.2])


def relevant_to(groups: np.ndarray, n_queries: int, wanted: np.ndarray, seed: int = 0) -> Relevance:
    """One right item per query, from the group wanted."""
    rng = np.random.default_rng(seed)
    items = [rng.choice(np.flatnonzero(groups == group)) for group in wanted]
    return Relevance.from_pairs(np.arange(n_queries), items, n_queries=n_queries, n_gallery=len(groups))


def test_shares_and_skew_by_hand() -> None:
    relevance = Relevance.from_pairs([0, 0, 1], [0, 2, 3], n_queries=3, n_gallery=5)
    found = exposure([[0, 1], [0, 2], [1, 0]], list("aabbb"), relevance, **NAMED, k=2)
    assert found.groups == ("a", "b")
    assert found.n_places.tolist() == [5, 1]
    assert found.n_items.tolist() == [2, 3]
    np.testing.assert_allclose(found.share_top, [5 / 6, 1 / 6])
    np.testing.assert_allclose(found.share_gallery, [0.4, 0.6])
    np.testing.assert_allclose(found.share_relevant, [0.25, 0.75])  # query 0: half and half; query 1: b; query 2: none
    np.testing.assert_allclose(found.excess, [(0.5 + 0.5) / 2, -(0.5 + 0.5) / 2])
    np.testing.assert_allclose(found.skew, [log(5 / 6 / 0.4), log(1 / 6 / 0.6)])
    assert found.n_scored == 2
    assert found.flat()["t2i/skew@2 maker=a"] == pytest.approx(log(5 / 6 / 0.4))


def test_ndkl_by_hand_and_by_the_slow_loop() -> None:
    assert ndkl([[0, 1]], [0.5, 0.5])[0] == pytest.approx(log(2) / (1 + 1 / log2(3)))
    groups = gallery()
    reference = {name: float((groups == name).mean()) for name in "abc"}
    lists = drawn(1, 30, groups, 7)
    expected = [slow_ndkl([groups[item] for item in row], reference) for row in lists]
    np.testing.assert_allclose(ndkl(np.searchsorted(list("abc"), groups[lists]), [*reference.values()]), expected)
    assert exposure(lists, groups, **NAMED, k=7).ndkl == pytest.approx(np.mean(expected))


def test_ndkl_of_empty_short_and_impossible_lists() -> None:
    values = ndkl([[-1, -1], [0, -1], [1, 0]], [1.0, 0.0])
    assert np.isnan(values[0])
    assert values[1] == 0
    assert np.isinf(values[2])


@pytest.mark.parametrize("size", [1, 7, 40])
def test_places_of_random_lists_are_hypergeometric(size: int) -> None:
    first, law = random_places(size, 40, [5])
    held = np.arange(first, first + 6)
    np.testing.assert_allclose(law[:6], stats.hypergeom.pmf(held, 40, size, 5), atol=1e-12)
    depths = [5] * 30 + [3] * 10 + [0]
    first, law = random_places(size, 40, depths)
    rng, weights = np.random.default_rng(0), [size, 40 - size]
    totals = sum(rng.multivariate_hypergeometric(weights, depth, size=20_000)[:, 0] for depth in depths)
    mean = law @ (first + np.arange(len(law)))
    assert law.sum() == pytest.approx(1)
    assert mean == pytest.approx(180 * size / 40)
    observed = np.bincount(totals, minlength=first + len(law))[first : first + len(law)] / 20_000
    assert np.abs(np.cumsum(observed) - np.cumsum(law)).max() < 1.95 / np.sqrt(20_000)


def test_many_lists_keep_the_law_exact() -> None:
    first, law = random_places(300, 1000, np.full(25_000, 10))
    held = first + np.arange(len(law))
    mean = law @ held
    spread = np.sqrt(law @ (held - mean) ** 2)
    assert mean == pytest.approx(75_000)
    assert law.sum() == pytest.approx(1)
    assert spread == pytest.approx(np.sqrt(25_000 * 10 * 0.3 * 0.7 * 990 / 999), rel=1e-6)


def test_ndkl_of_random_lists_has_the_exact_mean_and_the_right_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = gallery()
    sizes = np.unique(groups, return_counts=True)[1]
    depths = np.r_[np.full(60, 5), np.full(40, 2)]
    draws, expected, per_draw = ndkl_of_random_lists(sizes, sizes / 120, depths, 2000, 0)
    codes = np.searchsorted(list("abc"), groups)
    slow = np.array([
        np.mean(ndkl(np.where(np.arange(5) < depths[:, None], codes[drawn(seed, 100, groups, 5)], -1), sizes / 120))
        for seed in range(300)
    ])  # fmt: skip
    assert per_draw == 100
    assert expected == pytest.approx(slow.mean(), abs=4 * slow.std() / np.sqrt(300))
    assert draws.std() == pytest.approx(slow.std(), rel=0.2)
    monkeypatch.setattr(random_lists, "LISTS", 40_000)
    fewer, same, per_draw = ndkl_of_random_lists(sizes, sizes / 120, depths, 2000, 0)
    assert per_draw == 20
    assert same == expected
    assert fewer.std() == pytest.approx(draws.std(), rel=0.1)
    assert fewer.mean() == pytest.approx(expected, rel=0.01)


def test_random_lists_raise_no_alarm() -> None:
    groups, alarms, ndkl_alarms, looks = gallery(), 0, 0, 0
    for seed in range(100):
        found = exposure(drawn(seed, 40, groups, 5), groups, **NAMED, k=5, n_null=99, seed=seed)
        alarms += bool((found.p_holm < 0.05).any())
        ndkl_alarms += found.ndkl_p <= 0.05
        looks += found.findings()[0].verdict != "ok"
    assert looks <= alarms <= stats.binom.isf(0.001, 100, 0.05)
    assert ndkl_alarms <= stats.binom.isf(0.001, 100, 0.05)


def test_a_favoured_group_is_found_and_relevance_decides_what_it_means() -> None:
    groups, n_queries = gallery(n=400), 300
    lists = drawn(0, n_queries, groups, 10, {"b": 6.0})
    unknown = exposure(lists, groups, **NAMED, k=10, n_null=200)
    assert unknown.groups[0] == "b"
    assert unknown.findings()[0].verdict == "look"
    assert unknown.ndkl_p < 0.01
    assert "not known without relevance" in unknown.findings()[0].advice
    share = float(unknown.share_top[0])
    asked = np.where(np.arange(n_queries) < share * n_queries, "b", np.where(np.arange(n_queries) % 5 < 3, "a", "c"))
    explained = exposure(lists, groups, relevant_to(groups, n_queries, asked), **NAMED, k=10, n_null=200)
    assert explained.findings()[0].verdict == "ok"
    assert "what the queries ask for" in explained.findings()[0].advice
    fair = np.random.default_rng(0).choice(groups, size=n_queries)
    twice = drawn(0, n_queries, groups, 10, {"b": 12.0})
    against = exposure(twice, groups, relevant_to(groups, n_queries, fair), **NAMED, k=10, n_null=200)
    finding = against.findings()[0]
    assert finding.verdict == "problem"
    assert finding.value is not None
    assert finding.interval is not None
    assert finding.interval[0] < finding.value < finding.interval[1]
    assert "either" in finding.advice


def test_held_against_the_relevant() -> None:
    groups, n_queries = gallery(n=400), 300
    asked = np.random.default_rng(0).choice(["a", "b"], size=n_queries)
    relevance = relevant_to(groups, n_queries, asked)
    lists = np.stack([np.random.default_rng(q).choice(np.flatnonzero(groups == group), 10, replace=False)
                      for q, group in enumerate(asked)])  # fmt: skip
    found = exposure(lists, groups, relevance, **NAMED, k=10, reference="relevant", n_null=100)
    a = found.groups.index("a")
    assert np.isnan(found.ndkl)  # c is never relevant: no divergence from a share of zero
    assert found.ratio[a] == pytest.approx(1)
    assert found.findings()[0].verdict == "ok"
    assert found.excess[a] == 0
    assert found.p[a] == 1
    shuffled = exposure(lists[::-1], groups, relevance, **NAMED, k=10, reference="relevant", n_null=100)
    assert shuffled.excess_low[a] <= 0 <= shuffled.excess_high[a]
    with pytest.raises(ValueError, match="needs at least one relevant item"):
        exposure(lists, groups, **NAMED, k=10, reference="relevant")


def test_random_lists_empty_their_urn() -> None:
    lists = random_lists._random_lists(np.array([2, 0, 3]), 500, 5, 0)
    np.testing.assert_array_equal(np.sort(lists, axis=1), np.tile([0, 0, 2, 2, 2], (500, 1)))
    assert (lists[:, 0] == 2).mean() == pytest.approx(0.6, abs=0.1)


def test_intervals_are_those_of_a_mean_over_queries() -> None:
    groups = gallery()
    relevance = relevant_to(groups, 40, np.tile(["a", "b"], 20))
    lists = drawn(0, 40, groups, 5)
    found = exposure(lists, groups, relevance, **NAMED, k=5, n_null=50)
    g, quantile = found.groups.index("b"), stats.t.ppf(0.975, 39)
    shares = (groups[lists] == "b").mean(axis=1)
    apart = shares - np.tile([0.0, 1.0], 20)
    assert found.high[g] - shares.mean() == pytest.approx(quantile * shares.std(ddof=1) / np.sqrt(40))
    assert found.excess_high[g] - apart.mean() == pytest.approx(quantile * apart.std(ddof=1) / np.sqrt(40))


def test_intervals_widen_when_queries_come_in_clusters() -> None:
    groups = gallery()
    lists = np.repeat(drawn(0, 40, groups, 5), 5, axis=0)
    alone = exposure(lists, groups, **NAMED, k=5, n_null=50)
    together = exposure(lists, groups, **NAMED, k=5, n_null=50, clusters=np.repeat(np.arange(40), 5))
    once = exposure(lists[::5], groups, **NAMED, k=5, n_null=50)
    assert ((together.high - together.low) > 1.8 * (alone.high - alone.low)).all()
    np.testing.assert_allclose(together.high, once.high)


def test_ragged_lists_pool_their_places_and_skip_the_empty() -> None:
    lists = RankedLists(np.array([0, 3, 3, 4]), np.array([0, 1, 2, 4]), np.array([3.0, 2.0, 1.0, 5.0]), 5)
    found = exposure(lists, list("aabbb"), **NAMED, k=2)
    assert found.n_places.tolist() == [2, 1]
    assert found.n_lists == 2
    np.testing.assert_allclose(found.share_top, [2 / 3, 1 / 3])
    assert found.ndkl == pytest.approx((slow_ndkl(["a", "a"], {"a": 0.4}) + slow_ndkl(["b"], {"b": 0.6})) / 2)


def test_neighbours_and_their_indices_agree() -> None:
    groups = gallery()
    indices = drawn(0, 30, groups, 6)
    scores = -np.arange(180.0).reshape(30, 6)
    lists = Neighbours(indices, scores, 120, True, np.zeros(30, bool))
    assert to_plain(exposure(lists, groups, **NAMED, k=4)) == to_plain(exposure(indices, groups, **NAMED, k=4))


def test_a_group_without_a_place_is_pooled_to_minus_infinity_and_survives() -> None:
    groups = np.r_[np.full(90, "a"), np.full(30, "b")]
    found = exposure(drawn(0, 50, groups[:90], 5), groups, **NAMED, k=5)
    assert found.skew[1] == -np.inf
    assert found.ratio[1] == 0
    assert "t2i/skew@5 maker=b" not in found.flat()
    finding = found.findings()[0]
    assert finding.value == 0
    assert finding.verdict == "look"
    assert from_plain(to_plain(found), {"Exposure": Exposure}).skew[1] == -np.inf


def test_missing_and_single_items_are_shown_and_not_judged() -> None:
    groups = np.array(["a"] * 60 + ["b"] * 50 + [""] * 9 + ["hub"])
    lists = drawn(0, 60, groups, 5, {"hub": 1000.0})
    found = exposure(lists, groups, **NAMED, k=5)
    hub = found.groups.index("hub")
    assert found.groups[-1] == "(none)"
    assert np.isnan(found.p[[hub, 3]]).all()
    assert found.note("hub").startswith("too few")
    assert found.findings()[0].verdict == "ok"
    assert found.share_top.sum() == pytest.approx(1)


@pytest.mark.parametrize(("groups", "words"), [(["a"] * 9, "the same value (a)"), ([""] * 9, "no value at all")])
def test_one_group_is_not_measurable(groups: list[str], words: str) -> None:
    found = exposure([[0, 1], [2, 3]], groups, **NAMED, k=2)
    assert found.findings()[0].verdict == "not measurable"
    assert words in found.findings()[0].advice
    assert words in found._repr_html_()
    assert found.flat() == {}
    assert to_plain(from_plain(to_plain(found), {"Exposure": Exposure})) == to_plain(found)


def test_empty_relevance_and_empty_lists() -> None:
    groups = gallery()
    nothing = Relevance.from_pairs([], [], n_queries=30, n_gallery=120)
    found = exposure(drawn(0, 30, groups, 5), groups, nothing, **NAMED, k=5)
    assert np.isnan(found.share_relevant).all()
    assert np.isnan(found.excess).all()
    assert found.n_scored == 0
    empty = RankedLists(np.zeros(4, np.int64), np.zeros(0, np.int64), np.zeros(0), 120)
    assert exposure(empty, groups, **NAMED, k=5).findings()[0].verdict == "not measurable"


def test_the_whole_gallery_as_list_leaves_nothing_to_chance() -> None:
    groups = np.array(list("aaaaabbbbbbb"))
    found = exposure(drawn(0, 20, groups, 12), groups, **NAMED, k=12)
    np.testing.assert_allclose(found.skew, 0, atol=1e-12)
    np.testing.assert_allclose(found.null_low, found.share_gallery)
    assert (found.p == 1).all()
    assert found.findings()[0].verdict == "ok"


def test_numeric_columns_are_cut() -> None:
    found = exposure(drawn(0, 30, gallery(), 5), np.arange(120), **NAMED, k=5)
    assert len(found.groups) == 4
    assert "quantiles" in found.rule
    assert (found.n_items == 30).all()


def test_round_trip_table_and_plot() -> None:
    groups = gallery()
    relevance = relevant_to(groups, 30, np.repeat(["a", "b", "c"], 10))
    found = exposure(drawn(0, 30, groups, 5), groups, relevance, **NAMED, k=5)
    plain = json.loads(json.dumps(to_plain(found), allow_nan=False))
    again = from_plain(plain, {"Exposure": Exposure})
    assert to_plain(again) == to_plain(found)
    assert again.findings() == found.findings()
    assert again.flat() == found.flat()
    assert found.table().loc["a", "share of gallery"] == (groups == "a").mean()
    drawn_at = [line.get_xdata() for line in found.plot().lines]
    assert any(np.array_equal(x, 100 * found.share_top) for x in drawn_at)
    assert any(np.array_equal(x, 100 * found.share_relevant) for x in drawn_at)


def test_same_seed_same_bytes_and_inputs_untouched() -> None:
    groups, lists = gallery(), drawn(0, 30, gallery(), 5)
    lists.flags.writeable = groups.flags.writeable = False
    first, second = (exposure(lists, groups, **NAMED, k=5, seed=3) for _ in range(2))
    assert to_plain(first) == to_plain(second)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"k": 6}, "k must lie in 1..5"),
        ({"k": 0}, "k must lie in 1..5"),
        ({"k": 4}, "at least 4"),
        ({"neighbours": [[0, 7, 1]]}, "indices must lie in 0..4"),
        ({"neighbours": [[0, -1, 1]]}, "RankedLists instead"),
        ({"neighbours": [[0, 0, 1]]}, "hold an item twice"),
        ({"neighbours": [[0.5, 1.0, 2.0]]}, "whole numbers"),
        ({"reference": "world"}, "'gallery' or 'relevant'"),
        ({"n_null": 0}, "n_null at least 1"),
        ({"clusters": [1, 2, 3]}, "one label per query"),
        ({"relevance": Relevance.from_pairs([0], [0], n_queries=5, n_gallery=2)}, "columns gallery items"),
    ],
)
def test_refusals(change: dict[str, object], words: str) -> None:
    given: dict[str, object] = {"neighbours": [[0, 1, 2], [2, 1, 0]], "item_groups": list("aabbb"), "k": 2} | change
    with pytest.raises(ValueError, match=words):
        exposure(**given, **NAMED)  # type: ignore[arg-type]
