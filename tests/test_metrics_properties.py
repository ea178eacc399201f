"""What may be renumbered, moved or scaled without changing one bit of any metric."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.metrics import METRICS, forced_choice, judged_share, parse_metric, per_query_all, rank_dispersion
from workbench.metrics.lists import condensed, ranks_from_lists, ranks_from_scores
from workbench.types import Ranks, Relevance

SIDES = ("expected", "worst", "best")
COMPLETE = [
    "hit@1", "hit@3", "R@2", "P@2", "R-precision", "AP", "AP@3", "AP(norm=min)@2", "AP(norm=hits)@2", "mAP@R", "nDCG",
    "nDCG(gain=exp)@3", "MRR", "RR@2", "MedR", "MeanR", "mINP",
]  # fmt: skip


class World:
    """Scores with many ties, real-valued grades and unjudged items, and a rearrangement of both sides."""

    def __init__(self, seed: int, n_levels: int) -> None:
        rng = np.random.default_rng(seed)
        self.n_queries, self.n_gallery = int(rng.integers(1, 6)), int(rng.integers(6, 12))
        shape = (self.n_queries, self.n_gallery)
        self.scores = rng.integers(0, n_levels, shape).astype(float)
        self.grades = np.where(rng.random(shape) < 0.4, rng.choice([0.0, 0.1, 0.7, 1.3, 2.9], shape), np.nan)
        self.queries, self.items = rng.permutation(self.n_queries), rng.permutation(self.n_gallery)
        self.depth = int(rng.integers(3, self.n_gallery + 1))

    def lists(self, rows: np.ndarray, columns: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """The same items of every query, whatever their numbers."""
        listed = np.isin(columns, np.arange(self.depth))
        return [(np.flatnonzero(listed), self.scores[row, columns[listed]]) for row in rows]

    def relevance(self, rows: np.ndarray, columns: np.ndarray) -> Relevance:
        grades = self.grades[np.ix_(rows, columns)]
        query, item = np.nonzero(~np.isnan(grades))
        return Relevance.from_pairs(
            query, item, grades[query, item], n_queries=self.n_queries, n_gallery=self.n_gallery
        )  # fmt: skip


def assert_same(one: Ranks, other: Ranks, queries: np.ndarray, names: list[str]) -> None:
    """Bit for bit: query i of ``other`` is query ``queries[i]`` of ``one``."""
    before, after = (per_query_all(names, ranks, short_lists="as is") for ranks in (one, other))
    for name in names:
        for side in SIDES:
            left, right = getattr(before[name], side)[queries], getattr(after[name], side)
            assert left.tobytes() == right.tobytes(), f"{name} {side}"


worlds = st.builds(World, st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 4, 1000]))


def test_every_metric_is_among_the_properties() -> None:
    assert {parse_metric(name).name for name in COMPLETE} == set(METRICS)


@settings(max_examples=60, deadline=None)
@given(worlds)
def test_renumbering_queries_and_gallery_changes_no_bit(world: World) -> None:
    everyone, everything = np.arange(world.n_queries), np.arange(world.n_gallery)
    rows, columns = world.queries, world.items
    here, there = world.relevance(everyone, everything), world.relevance(rows, columns)
    one = ranks_from_scores(world.scores, here)
    other = ranks_from_scores(world.scores[np.ix_(rows, columns)], there)
    assert_same(one, other, rows, COMPLETE)
    names = [name for name in COMPLETE if not METRICS[parse_metric(name).name].complete]
    short, moved = world.lists(everyone, everything), world.lists(rows, columns)
    for policy in ("zero", "condensed"):
        pair = [ranks_from_lists(x, r, unjudged=policy) for x, r in ((short, here), (moved, there))]
        assert_same(pair[0], pair[1], rows, names)
    judged = [judged_share(x, r, 2) for x, r in ((short, here), (moved, there))]
    for side in SIDES:
        assert getattr(judged[0], side)[rows].tobytes() == getattr(judged[1], side).tobytes()


@settings(max_examples=40, deadline=None)
@given(worlds, st.integers(-1000, 1000), st.sampled_from([0.25, 2.0, 1024.0]))
def test_a_query_may_be_shifted_and_scaled_by_itself(world: World, shift: int, scale: float) -> None:
    """Only the order within a query counts. The numbers are chosen such that no sum is rounded, or ties would break."""
    relevance = world.relevance(np.arange(world.n_queries), np.arange(world.n_gallery))
    moved = world.scores.copy()
    moved[0] = moved[0] * scale + shift
    one, other = (ranks_from_scores(scores, relevance) for scores in (world.scores, moved))
    assert_same(one, other, np.arange(world.n_queries), COMPLETE)
    right = np.arange(world.n_queries) % world.n_gallery
    for against in ("all", "each"):
        choices = [forced_choice(scores, right, against=against) for scores in (world.scores, moved)]  # type: ignore[arg-type]
        for side in SIDES:
            assert getattr(choices[0], side).tobytes() == getattr(choices[1], side).tobytes()


@settings(max_examples=40, deadline=None)
@given(worlds)
def test_a_list_may_be_written_in_any_order(world: World) -> None:
    relevance = world.relevance(np.arange(world.n_queries), np.arange(world.n_gallery))
    written = world.lists(np.arange(world.n_queries), np.arange(world.n_gallery))
    turned = [(items[::-1], scores[::-1]) for items, scores in written]
    one, other = (ranks_from_lists(x, relevance) for x in (written, turned))
    for part in ("better", "tied", "depth"):
        np.testing.assert_array_equal(getattr(one, part), getattr(other, part))
    left, right = condensed(written, relevance), condensed(turned, relevance)
    for query in range(world.n_queries):
        np.testing.assert_array_equal(left.row(query)[0], right.row(query)[0][::-1])


@settings(max_examples=60, deadline=None)
@given(worlds)
def test_expected_values_lie_between_worst_and_best_and_in_their_range(world: World) -> None:
    relevance = world.relevance(np.arange(world.n_queries), np.arange(world.n_gallery))
    values = per_query_all(COMPLETE, ranks_from_scores(world.scores, relevance))
    nothing = relevance.positives_per_query == 0
    for name, found in values.items():
        worst, expected, best = found.worst, found.expected, found.best
        assert np.array_equal(np.isnan(expected), nothing), name
        scored = ~nothing
        if name in ("MedR", "MeanR"):
            worst, best = best, worst
            assert (worst[scored] >= 1).all(), name
            assert (best[scored] <= world.n_gallery).all(), name
        else:
            assert (worst[scored] >= 0).all(), name
            assert (best[scored] <= 1 + 1e-12).all(), name
        assert (worst[scored] <= expected[scored]).all(), name
        assert (expected[scored] <= best[scored]).all(), name


@settings(max_examples=30, deadline=None)
@given(worlds)
def test_dispersion_does_not_depend_on_the_order_of_items_or_on_where_ranks_begin(world: World) -> None:
    ranks = world.scores.astype(int) + 1
    for kind in ("std", "var", "log"):
        once = rank_dispersion(ranks, kind=kind)  # type: ignore[arg-type]
        assert once[world.queries].tobytes() == rank_dispersion(ranks[world.queries], kind=kind).tobytes()  # type: ignore[arg-type]
        moved = rank_dispersion(ranks[:, world.items], kind=kind)  # type: ignore[arg-type]
        assert moved == pytest.approx(once, rel=1e-9, abs=1e-9)
    assert rank_dispersion(ranks + 7) == pytest.approx(rank_dispersion(ranks), rel=1e-9, abs=1e-9)
