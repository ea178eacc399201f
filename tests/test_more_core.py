"""Bounds and series of the core at the places where a small slip would change no result of ordinary size."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from workbench.metrics import forced_choice, per_query
from workbench.metrics.explanation import OWN, Ranking, explain
from workbench.search import ScoreHistogram, definition
from workbench.search.nearest import Pending
from workbench.search.plain import Plain
from workbench.search.side import Side
from workbench.search.tile import Tile
from workbench.statistics import (
    group_difference,
    groups,
    minimum_detectable,
    minimum_detectable_hits,
    rank_sets,
    systems,
)
from workbench.statistics.clusters import clustered
from workbench.types import Ranks


def test_limits_are_rounded_outwards() -> None:
    values = np.array([0.0, 1.0, -1.0, 1 / 3, -1 / 3, 1e-30, 1e10, 16777217.0, 1e-300])
    low, high = definition.lower(values, np.float32), definition.upper(values, np.float32)
    assert low.dtype == high.dtype == np.float32
    assert (low.astype(np.float64) < values).all()
    assert (high.astype(np.float64) > values).all()
    nearest = values.astype(np.float32)
    assert (np.nextafter(low, np.float32(np.inf)) == nearest).all()
    assert (np.nextafter(high, np.float32(-np.inf)) == nearest).all()
    np.testing.assert_array_equal(definition.lower(values, np.float64), values)
    np.testing.assert_array_equal(definition.upper(values, np.float64), values)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_least_limit_is_finite(dtype: type) -> None:
    assert definition.lower(np.array([-np.inf]), dtype)[0] == np.finfo(dtype).min


def test_the_error_of_a_cast_product_is_attained_by_parallel_vectors() -> None:
    """Rows of length 3 and 1 moved by 1/2 and 0, columns of length 4 and 2 moved by 1/4 and 1/8, all along one line."""
    rows, columns = np.array([[3.0], [1.0]]), np.array([[2.0], [4.0], [1.0]])
    row_moved, column_moved = np.array([0.5, 0.0]), np.array([0.125, 0.25, 0.0])

    def tile(factor: float, underflow: float) -> Tile:
        return Tile(
            row_start=0, column_start=0, n_rows=2, n_columns=3, scores=np.zeros((2, 3)),
            rows_of=Side(rows, np.abs(rows[:, 0]), row_moved), columns_of=Side(columns, columns[:, 0], column_moved),
            factor=factor, underflow=underflow, relative=0.0, kernels=Plain(),
        )  # fmt: skip

    cast = (rows[:, 0] + row_moved)[:, None] * (columns[:, 0] + column_moved)
    apart = np.abs(cast - rows @ columns.T).max(axis=1)
    np.testing.assert_array_equal(tile(0.0, 0.0).error, apart)
    np.testing.assert_array_equal(tile(0.5, 0.25).error, apart + 0.5 * cast.max(axis=1) + 0.25)
    np.testing.assert_array_equal(tile(0.5, 0.25).reach, [12.0, 4.0])
    np.testing.assert_array_equal(tile(0.5, 0.25).T.reach, [6.0, 12.0, 3.0])


@pytest.mark.parametrize("start", [200, 203, 260, 1000, 10**6])
@pytest.mark.parametrize("size", [2, 3, 10, 400])
def test_reciprocal_ranks_behind_two_hundred_places_keep_their_digits(start: int, size: int) -> None:
    """One positive among ``size`` tied items: the mean of 1 / place over their places."""
    n_gallery = start + size + 3
    ranks = Ranks([0, 1], [0], [1], [start], [size - 1], [n_gallery], n_gallery)
    expected = math.fsum(1 / place for place in range(start + 1, start + size + 1)) / size
    assert per_query("MRR", ranks).expected[0] == pytest.approx(expected, rel=2e-15, abs=0)


def test_our_own_line_says_how_far_ties_reach() -> None:
    why = [
        explain("MRR", Ranking([0, 1, 0], scores, n_positives=1))[OWN].why
        for scores in ([0.9, 0.5, 0.1], [0.9, 0.5, 0.5])
    ]
    assert why[0].endswith("no tie touches a positive here")
    assert why[1].endswith("from 0.333 (worst order) to 0.500 (best)")


@pytest.mark.parametrize("power", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("plan", [minimum_detectable, minimum_detectable_hits])
def test_a_power_that_no_study_has_is_refused(plan: Callable[..., float], power: float) -> None:
    with pytest.raises(ValueError, match="power between alpha and 1"):
        plan(50, 0.1, power=power)


@pytest.mark.parametrize("scale", [2.0**-20, 2.0**20])
def test_places_of_systems_do_not_depend_on_the_unit_of_the_values(scale: float) -> None:
    rng = np.random.default_rng(1)
    values = np.array([[0.0], [0.3], [0.5], [0.9]]) + 0.4 * rng.standard_normal((4, 30))
    here, there = rank_sets(values, range(30)), rank_sets(values * scale, range(30))
    assert 0 < here.beats.sum() < 6
    np.testing.assert_array_equal(here.beats, there.beats)


def test_the_critical_value_counts_the_data_among_the_draws() -> None:
    """At most one of twenty draws may exceed it; fewer than nineteen resamples cannot show anything at 5 %."""
    found = [systems._quantile(np.arange(n, 0.0, -1.0), 0.95) for n in (18, 19, 20, 38, 39, 40)]
    assert found == [math.inf, 19, 20, 38, 38, 39]


def test_the_error_under_labels_drawn_anew_equals_all_the_ways_to_draw_them() -> None:
    """Straddling clusters: the mean square over all choices of who is in the group. Others: their common spread."""
    rng = np.random.default_rng(2)
    member = [[1, 1, 0], [1, 0, 0, 0], [1, 1], [1, 1, 1], [0, 0], [0], [0, 0, 0]]
    values = [rng.standard_normal(len(cluster)) + 1 for cluster in member]
    mean = np.concatenate(values).mean()
    n_in = sum(map(sum, member))
    n_out = sum(map(len, member)) - n_in

    def moved(x: np.ndarray, chosen: tuple[int, ...]) -> float:
        inside = np.isin(np.arange(len(x)), chosen)
        return float((x[inside].sum() / n_in - x[~inside].sum() / n_out) ** 2)

    total, whole = 0.0, []
    for labels, x in zip(member, (own - mean for own in values), strict=True):
        if 0 < sum(labels) < len(labels):
            ways = [moved(x, chosen) for chosen in itertools.combinations(range(len(x)), sum(labels))]
            total += sum(ways) / len(ways)
        else:
            whole.append((x.sum() ** 2, len(x), n_in if labels[0] else n_out))
    spread = sum(square for square, _, _ in whole) / sum(size for _, size, _ in whole)
    total += sum(spread * size / n**2 for _, size, n in whole)

    owner = np.repeat(np.arange(len(member)), [len(cluster) for cluster in member])
    flags = np.concatenate(member).astype(float)
    rows = clustered([np.concatenate(values), flags], owner)
    counts = np.stack([rows.sums(rows.columns[:, 1]), rows.sums(1 - rows.columns[:, 1])])
    assert groups._pooled_error(rows, counts) == pytest.approx(math.sqrt(total), rel=1e-12)


def test_an_undefined_order_leaves_what_lies_behind_the_tie_in_the_ideal() -> None:
    """Place 2 is tied between a positive and another; a second positive, behind both, is part of the best order."""
    found = explain("nDCG@2", Ranking([0, 1, 0, 1] + 14 * [0], [0.9, 0.5, 0.5, 0.4] + 14 * [0.1]))
    second = 1 / math.log2(3)
    assert (found["ranx"].value, found["ranx"].low) == (None, 0.0)
    assert found["ranx"].high == pytest.approx(second / (1 + second))


def test_no_question_is_not_called_a_broken_indptr() -> None:
    with pytest.raises(ValueError, match="there is no question"):
        forced_choice([], 0, indptr=[0])
    with pytest.raises(ValueError, match="indptr must run from 0"):
        forced_choice([1.0, 2.0], 0, indptr=[])


def test_what_a_tool_does_not_offer_comes_last() -> None:
    groups = explain("MAP@2", Ranking([1, 0, 1]))._grouped("called")
    assert [key == ("",) for key, _ in groups] == [False] * (len(groups) - 1) + [True]


def test_precision_over_found_positives_divides_by_nothing_that_is_zero() -> None:
    """Tie groups of unlike size and share of positives, cut anywhere: no division by zero, no logarithm below it."""
    groups_of = [(0, 2, 1), (1, 9, 8), (2, 7, 1), (0, 12, 6), (3, 4, 4)]
    indptr = np.cumsum([0, *(hits for _, _, hits in groups_of)])
    start, size, hits = (np.array(column) for column in zip(*groups_of, strict=True))
    better, tied = np.repeat(start, hits), np.repeat(size - 1, hits)
    items = np.concatenate([np.arange(n) for n in hits])
    ranks = Ranks(indptr, items, np.ones(len(items)), better, tied, np.full(5, 20), 20)
    with np.errstate(all="raise", under="ignore"):
        for k in range(1, 15):
            values = per_query(f"AP(norm=hits)@{k}", ranks)
            assert (values.worst <= values.expected).all()
            assert (values.expected <= values.best).all()


def test_edges_of_a_histogram_must_rise() -> None:
    for edges in ([0.0, 0.5, 0.5], [0.5, 0.0], [], [[0.0, 1.0]], [0.0, math.inf]):
        with pytest.raises(ValueError, match="edges must be finite numbers in ascending order"):
            ScoreHistogram(edges)


@pytest.mark.parametrize("member", [[1, 0, 1], [1, 0, 1, 2], [1, 0, 1, math.nan]])
def test_membership_is_yes_or_no_for_every_value(member: list[float]) -> None:
    with pytest.raises(ValueError, match=r"in_group must hold True or False for each of \(4,\) values"):
        group_difference([0.0, 1.0, 1.0, 0.0], member, range(4))


def test_the_largest_difference_is_taken_over_ordered_pairs_still_undecided() -> None:
    """One system is beaten by all others: its column is decided, its row is not; another beats all: the reverse."""
    totals = np.random.default_rng(5).standard_normal((50, 4))
    scale = np.array([[0.0, 0.0, 0.0, 0.0], [2.0, 0.0, 1.0, 0.0], [1.0, 0.5, 0.0, 0.0], [3.0, 1.0, 2.0, 0.0]])
    expected = [
        max(max(scale[j, k] * (row[j] - row[k]) for j, k in itertools.product(range(4), repeat=2)), 0.0)
        for row in totals
    ]
    np.testing.assert_allclose(systems._largest(totals, scale), expected, rtol=1e-12)


def test_a_finished_row_is_not_collected_again_while_another_has_yet_to_begin() -> None:
    """Row 0 was full before its first column, row 1 is done with the tile."""
    scores = np.array([[0.1, 0.9, 0.8], [0.7, 0.9, 0.8]])
    side = Side(np.ones((3, 1)), np.ones(3), np.zeros(3))
    tile = Tile(
        row_start=0, column_start=4, n_rows=2, n_columns=3, scores=scores, rows_of=side, columns_of=side,
        factor=0.0, underflow=0.0, relative=0.0, kernels=Plain(),
    )  # fmt: skip
    pending, begin = Pending(4, 2), np.array([0, 3])
    Plain().collect(tile, scores, np.array([0.5, 0.5]), SimpleNamespace(everything=True), pending, begin)
    assert pending.count.tolist() == [2, 0]
    assert pending.columns[0, :2].tolist() == [5, 6]
    assert begin.tolist() == [3, 3]
