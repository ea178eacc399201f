"""Rank agreement against slow loops, printed values of its authors, and lists whose agreement is known beforehand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from workbench.diagnostics.rank_agreement import (
    RankAgreement,
    delta_relative_improvement,
    effect_ratio,
    rank_agreement,
    rmse,
    tau_ap,
)
from workbench.types import Neighbours, RankedLists

Scored = dict[str, float]


def lists(rows: list[Scored], items: list[str]) -> RankedLists:
    """Lists over named items, best first, equal scores in the order given."""
    ordered = [sorted(row.items(), key=lambda pair: -pair[1]) for row in rows]
    indptr = np.cumsum([0, *(len(row) for row in ordered)])
    place = {name: i for i, name in enumerate(items)}
    flat = [pair for row in ordered for pair in row]
    return RankedLists(indptr, [place[name] for name, _ in flat], [score for _, score in flat], len(items))


def compare(first: list[Scored], second: list[Scored], *, k: int = 10, p: float = 0.9) -> RankAgreement:
    items = sorted({name for row in (*first, *second) for name in row} | {"unused 1", "unused 2", "unused 3"})
    queries = [f"q{i}" for i in range(len(first))]
    ids = (queries, items)
    return rank_agreement(lists(first, items), lists(second, items), first_ids=ids, second_ids=ids, k=k, p=p)


def down(names: str) -> Scored:
    """One item per letter, best first."""
    return {name: float(-i) for i, name in enumerate(names)}


# ---- slow references -------------------------------------------------------------------------------------------------


def groups_of(row: Scored) -> list[list[str]]:
    return [sorted(n for n in row if row[n] == s) for s in sorted(set(row.values()), reverse=True)]


def upto(groups: list[list[str]], d: int) -> set[str]:
    """Items whose tie group begins at rank d or before."""
    held: set[str] = set()
    for group in groups:
        if len(held) + 1 > d:
            break
        held |= set(group)
    return held


def slow_endless(first: list[list[str]], second: list[list[str]], p: float, depth: int) -> float:
    """RBO of two long lists of tie groups by its definition, cut at a depth where nothing is left."""
    total = 0.0
    for d in range(1, depth + 1):
        a, b = upto(first, d), upto(second, d)
        total += (1 - p) / p * p**d * 2 * len(a & b) / (len(a) + len(b))
    return total


def slow_bounds(first: Scored, second: Scored, p: float, depth: int = 130) -> tuple[float, float]:
    """Lists continued with items that match nowhere, and with the ones that match as soon as possible."""
    a, b = groups_of(first), groups_of(second)
    strange = [[f"only first {i}"] for i in range(depth)], [[f"only second {i}"] for i in range(depth)]
    low = slow_endless(a + strange[0], b + strange[1], p, depth)
    more_a = [[name] for group in b for name in group if name not in first]
    more_b = [[name] for group in a for name in group if name not in second]
    alike = [[f"both {i}"] for i in range(depth)]
    return low, slow_endless(a + more_a + alike, b + more_b + alike, p, depth)


def slow_point(first: Scored, second: Scored, p: float, depth: int = 400) -> float:
    """The shorter list goes on agreeing as at its end; behind both, agreement stays."""
    short, long = sorted((first, second), key=len)
    s, end = len(short), len(long)
    a, b = groups_of(short), groups_of(long)

    def agreement(d: int) -> float:
        seen = upto(a, d) & upto(b, d)
        if d <= s:
            return 2 * len(seen) / (len(upto(a, d)) + len(upto(b, d)))
        return 2 * (len(seen) + (d - s) * (agreement(s) if s else 0.0)) / (d + len(upto(b, d)))

    return sum((1 - p) / p * p**d * agreement(min(d, end)) for d in range(1, depth + 1))


def slow_tau(estimate: Scored, truth: Scored) -> float:
    """The mean over every order of all items, which breaks the ties of both lists; unstated orders never agree."""
    names = sorted({*estimate, *truth})
    if len(names) == 1:
        return 1.0 if set(estimate) == set(truth) else -1.0

    def ordered(row: Scored, place: dict[str, int]) -> list[str]:
        return sorted(names, key=lambda name: (-row.get(name, -math.inf), place[name]))

    values = []
    for order in itertools.permutations(range(len(names))):
        place = dict(zip(names, order, strict=True))
        guess, right = ordered(estimate, place), ordered(truth, place)
        total = 0.0
        for i in range(1, len(names)):
            agree = sum(
                right.index(above) < right.index(guess[i])
                and all(above in row or guess[i] in row for row in (estimate, truth))
                for above in guess[:i]
            )
            total += agree / i
        values.append(2 * total / (len(names) - 1) - 1)
    return float(np.mean(values))


def random_rows(rng: np.random.Generator, n: int, letters: str, most: int) -> list[Scored]:
    """Lists of zero to ``most`` items with many ties."""
    return [
        {name: float(rng.integers(0, 4)) for name in rng.permutation(list(letters))[: rng.integers(0, most + 1)]}
        for _ in range(n)
    ]


@pytest.mark.parametrize("p", [0.5, 0.8])
def test_rbo_and_its_bounds_equal_the_definition(p: float) -> None:
    rng = np.random.default_rng(1)
    first, second = random_rows(rng, 25, "abcdefgh", 7), random_rows(rng, 25, "abcdefgh", 7)
    first, second = [*first, {}], [*second, {}]
    found = compare(first, second, p=p)
    empty = np.array([not a and not b for a, b in zip(first, second, strict=True)])
    assert empty.any()
    assert np.isnan(found.rbo[empty]).all()
    assert np.isnan(found.rbo_low[empty]).all()
    assert np.isnan(found.overlap[empty]).all()
    for i in np.flatnonzero(~empty):
        low, high = slow_bounds(first[i], second[i], p)
        assert found.rbo_low[i] == pytest.approx(low, abs=1e-11), (first[i], second[i])
        assert found.rbo_high[i] == pytest.approx(high, abs=1e-11), (first[i], second[i])
        assert found.rbo[i] == pytest.approx(slow_point(first[i], second[i], p), abs=1e-11), (first[i], second[i])
        assert low - 1e-12 <= found.rbo[i] <= high + 1e-12
    np.testing.assert_allclose(found.residual, found.rbo_high - found.rbo_low)


def test_rbo_equals_the_example_of_the_authors_of_its_ties() -> None:
    """M. Corsi & J. Urbano, SIGIR 2024; values printed in the README of github.com/julian-urbano/sigir2024-rbo."""
    one = {"red": 5, "blue": 4, "green": 4, "yellow": 3, "pink": 2}
    two = {"blue": 5, "red": 5, "white": 4, "yellow": 3, "black": 3, "purple": 3, "green": 2}
    found = compare([one], [two], p=0.95)
    printed = {"rbo": 0.7068257, "rbo_low": 0.3429684, "rbo_high": 0.9049857, "residual": 0.5620173}
    for name, value in printed.items():
        assert getattr(found, name)[0] == pytest.approx(value, abs=5e-8)


def test_tau_ap_equals_the_mean_over_all_orders() -> None:
    rng = np.random.default_rng(2)
    first, second = random_rows(rng, 40, "abcde", 5), random_rows(rng, 40, "abcde", 5)
    found = compare(first, second)
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        if not a and not b:
            assert np.isnan(found.tau_ap[i])
            continue
        forth, back = slow_tau(a, b), slow_tau(b, a)
        assert tau_ap((list(a), list(a.values())), (list(b), list(b.values()))) == pytest.approx(forth, abs=1e-12)
        assert found.tau_ap[i] == pytest.approx((forth + back) / 2, abs=1e-12), (a, b)


def test_tau_ap_weighs_the_top() -> None:
    """By hand: swapping the first two of four gives 2/3 (0 + 1 + 1) - 1, the last two 2/3 (1 + 1 + 2/3) - 1."""
    truth = (list("abcd"), [4, 3, 2, 1])
    assert tau_ap((list("bacd"), [4, 3, 2, 1]), truth) == pytest.approx(1 / 3)
    assert tau_ap((list("abdc"), [4, 3, 2, 1]), truth) == pytest.approx(7 / 9)
    assert tau_ap((list("dcba"), [4, 3, 2, 1]), truth) == pytest.approx(-1)
    assert tau_ap((list("abcd"), [1, 1, 1, 1]), truth) == pytest.approx(0)


def test_overlap_counts_a_group_that_the_cutoff_cuts_as_a_whole() -> None:
    found = compare([down("abcd"), {"a": 2, "b": 1, "c": 1, "d": 0}], [down("abxy"), down("abxy")], k=2)
    np.testing.assert_allclose(found.overlap, [1.0, 2 * 2 / (3 + 2)])


# ---- what must hold --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 3, 10, 25])
def test_identical_lists_agree_completely_however_short(length: int) -> None:
    row = down("abcdefghijklmnopqrstuvwxyz"[:length])
    tied = dict.fromkeys(row, 0.0)
    found = compare([row, tied], [dict(row), dict(tied)])
    for values in (found.rbo, found.rbo_high, found.tau_ap, found.overlap):
        assert values.tolist() == [1.0, 1.0]
    assert found.identical.all()
    assert found.rbo_low[0] < 1


@pytest.mark.parametrize("sizes", [(1, 1), (1, 5), (3, 3), (7, 2), (0, 4), (1, 0)])
def test_lists_without_a_common_item_agree_nowhere(sizes: tuple[int, int]) -> None:
    first, second = down("abcdefg"[: sizes[0]]), down("tuvwxyz"[: sizes[1]])
    found = compare([first], [second])
    assert (found.rbo[0], found.rbo_low[0], found.tau_ap[0], found.overlap[0]) == (0, 0, -1, 0)
    assert not found.identical.any()


def test_neither_names_nor_the_order_within_ties_play_a_part() -> None:
    rng = np.random.default_rng(3)
    first, second = random_rows(rng, 40, "abcdefgh", 8), random_rows(rng, 40, "abcdefgh", 8)
    found = compare(first, second)
    other = dict(zip("abcdefgh", rng.permutation(list("stuvwxyz")).tolist(), strict=True))

    def renamed(rows: list[Scored]) -> list[Scored]:
        return [{other[name]: row[name] for name in sorted(row, key=lambda _: rng.random())} for row in rows]

    again = compare(renamed(first), renamed(second))
    back = compare(second, first)
    for name in ("rbo", "rbo_low", "rbo_high", "overlap", "tau_ap"):
        np.testing.assert_allclose(getattr(again, name), getattr(found, name), atol=1e-14, rtol=0)
        np.testing.assert_allclose(getattr(back, name), getattr(found, name), atol=1e-14, rtol=0)


def test_queries_and_items_are_matched_by_id() -> None:
    one = RankedLists([0, 2, 4], [0, 1, 2, 0], [2.0, 1.0, 2.0, 1.0], 3)
    two = RankedLists([0, 2, 4, 5], [3, 0, 2, 1, 1], [2.0, 1.0, 5.0, 4.0, 1.0], 4)
    found = rank_agreement(
        one, two, first_ids=(["p", "q"], ["a", "b", "c"]), second_ids=(["q", "p", "z"], ["a", "b", "other", "c"])
    )
    assert found.queries == ("p", "q")
    assert (found.n_only_first, found.n_only_second) == (0, 1)
    np.testing.assert_array_equal(found.identical, [False, True])
    assert found.overlap.tolist() == [0.5, 1.0]
    assert found.flat()["queries"] == 2
    assert {row["measure"]: row["query"] for row in found.rows()}["overlap@10"] == "p"


def test_kept_neighbours_and_lists_in_any_order_are_the_same() -> None:
    near = Neighbours(np.array([[2, 0], [1, 3]]), np.array([[0.9, 0.8], [0.7, 0.7]]), 5, True, np.zeros(2, bool))
    shuffled = RankedLists([0, 2, 4], [0, 2, 3, 1], [0.8, 0.9, 0.7, 0.7], 5)
    found = rank_agreement(near, shuffled)
    assert found.identical.all()
    assert found.rbo.tolist() == [1.0, 1.0]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    first, second = random_rows(rng, 30, "abcdefgh", 8), random_rows(rng, 30, "abcdefgh", 8)
    found = compare(first, second)
    monkeypatch.setattr("workbench.diagnostics.rank_agreement._CELLS", 300)
    again = compare(first, second)
    for name in ("rbo", "rbo_low", "rbo_high", "overlap", "tau_ap"):
        np.testing.assert_allclose(getattr(again, name), getattr(found, name), atol=1e-14, rtol=0)


def test_what_cannot_be_compared_is_refused() -> None:
    one = RankedLists([0, 2], [0, 1], [2.0, 1.0], 3)
    with pytest.raises(ValueError, match="scores that are NaN"):
        rank_agreement(one, RankedLists([0, 2], [0, 1], [2.0, np.nan], 3))
    with pytest.raises(ValueError, match="more than once"):
        rank_agreement(one, RankedLists([0, 2], [1, 1], [2.0, 1.0], 3))
    with pytest.raises(ValueError, match="galleries of 3 and 4"):
        rank_agreement(one, RankedLists([0, 2], [0, 1], [2.0, 1.0], 4))
    with pytest.raises(ValueError, match="no common query among 1 and 1"):
        rank_agreement(one, one, first_ids=(["q"], list("abc")), second_ids=(["r"], list("abc")))
    with pytest.raises(ValueError, match="both sides or of neither"):
        rank_agreement(one, one, first_ids=(["q"], list("abc")))
    with pytest.raises(ValueError, match="1 query ids and 2 item ids for 1 lists over 3"):
        rank_agreement(one, one, first_ids=(["q"], list("ab")), second_ids=(["q"], list("ab")))
    for bad in ({"k": 0}, {"p": 0.0}, {"p": 1.0}):
        with pytest.raises(ValueError, match="k must be at least 1 and p between"):
            rank_agreement(one, one, **bad)
    with pytest.raises(ValueError, match="one score per item"):
        tau_ap((["a"], [1.0, 2.0]), (["a"], [1.0]))


# ---- does a gain repeat ----------------------------------------------------------------------------------------------


def test_effects_equal_loops_and_may_rest_on_other_queries() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.random(40), rng.random(40) + 0.3
    c, d = rng.random(25), rng.random(25) + 0.2
    first, second = sum(b) / 40 - sum(a) / 40, sum(d) / 25 - sum(c) / 25
    assert effect_ratio(a, b, c, d) == pytest.approx(second / first)
    loop = first / (sum(a) / 40) - second / (sum(c) / 25)
    assert delta_relative_improvement(a, b, c, d) == pytest.approx(loop)
    assert rmse(a, b) == pytest.approx(math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / 40))
    assert (effect_ratio(a, b, a, b), delta_relative_improvement(a, b, a, b), rmse(a, a)) == (1, 0, 0)
    assert effect_ratio(a, b, b, a) == pytest.approx(-1)


def test_unscored_queries_are_left_out_and_the_rest_is_refused() -> None:
    holes = [0.25, np.nan, 0.75], [0.5, np.nan, 1.0]
    assert effect_ratio(*holes, *holes) == 1.0
    assert rmse(*holes) == 0.25
    with pytest.raises(ValueError, match="1 queries are scored by only one"):
        rmse([0.1, np.nan], [0.1, 0.2])
    with pytest.raises(ValueError, match="no query is scored"):
        rmse([np.nan], [np.nan])
    with pytest.raises(ValueError, match="infinite"):
        rmse([np.inf], [0.0])
    with pytest.raises(ValueError, match="same queries"):
        effect_ratio([0.1], [0.1, 0.2], [0.1], [0.2])
    with pytest.raises(ValueError, match="no gain"):
        effect_ratio([0.5], [0.5], [0.1], [0.2])
    with pytest.raises(ValueError, match="mean 0"):
        delta_relative_improvement([0.0], [0.5], [0.1], [0.2])
