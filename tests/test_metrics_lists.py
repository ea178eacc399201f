"""Ranks from result lists of every form equal a slow comparison item by item; unjudged items, counted or removed."""

from __future__ import annotations

import numpy as np
import pytest
from reference import metric_over_orders, metric_places

from workbench.metrics import condensed, judged_share, lists, per_query, ranks_from_lists, ranks_from_scores
from workbench.types import Neighbours, RankedLists, Ranks, Relevance

N_QUERIES, N_GALLERY = 23, 31
Pairs = list[tuple[np.ndarray, np.ndarray]]


def some_lists(rng: np.random.Generator, form: str) -> Pairs:
    """Result lists with and without ties, falling or in any order, of one length or of many."""
    found = []
    for query in range(N_QUERIES):
        depth = {"even": 12, "ragged": int(rng.integers(0, N_GALLERY + 1)), "one long": 2}[form.split(", ")[0]]
        if form.startswith("one long") and query == 7:
            depth = N_GALLERY
        scores = rng.integers(-3, 6, depth).astype(float) if "tied" in form else rng.permutation(depth) - 4.5
        if "falling" in form:
            scores = -np.sort(-scores)
        if "infinite" in form and depth:
            scores[scores == scores.min()] = -np.inf
        found.append((rng.permutation(N_GALLERY)[:depth], scores))
    return found


def some_relevance(rng: np.random.Generator) -> Relevance:
    rows, columns = np.nonzero(rng.random((N_QUERIES, N_GALLERY)) < 0.25)
    grades = rng.choice([-1, 0, 1, 2], len(rows))
    chosen = (rows != 3) & (rows != N_QUERIES - 1)  # two queries that nobody judged
    return Relevance.from_pairs(
        rows[chosen], columns[chosen], grades[chosen], n_queries=N_QUERIES, n_gallery=N_GALLERY
    )  # fmt: skip


def compress(pairs: Pairs) -> RankedLists:
    indptr = np.cumsum([0, *(len(items) for items, _ in pairs)])
    return RankedLists(
        indptr, np.concatenate([i for i, _ in pairs]), np.concatenate([s for _, s in pairs]), N_GALLERY
    )  # fmt: skip


def assert_equal(one: Ranks, other: Ranks) -> None:
    for name in ("indptr", "items", "grades", "better", "tied", "depth"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


FORMS = [
    "even, falling", "even, tied falling", "even", "even, tied", "even, tied infinite", "ragged, falling",
    "ragged, tied falling", "ragged, tied", "ragged", "ragged, tied infinite", "one long", "one long, tied",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("chunk", [1, 40, 1 << 18])
def test_ranks_equal_a_comparison_of_every_item(form: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "CHUNK", chunk)
    rng = np.random.default_rng([len(form), chunk])
    pairs, relevance = some_lists(rng, form), some_relevance(rng)
    ranks = ranks_from_lists(pairs, relevance)
    checked = 0
    for query, (items, scores) in enumerate(pairs):
        judged, grades = relevance.row(query)
        wanted, part = judged[grades > 0], slice(ranks.indptr[query], ranks.indptr[query + 1])
        assert ranks.items[part].tolist() == wanted.tolist()
        assert ranks.grades[part].tolist() == grades[grades > 0].tolist()
        places = [metric_places(items.tolist(), scores.tolist(), item) or (N_GALLERY, 0) for item in wanted]
        assert list(zip(ranks.better[part], ranks.tied[part], strict=True)) == places
        checked += len(places)
    assert checked > 50
    assert ranks.depth.tolist() == [len(items) for items, _ in pairs]
    assert_equal(ranks, ranks_from_lists(compress(pairs), relevance))


def test_keys_that_would_not_fit_64_bits_are_made_for_fewer_queries_at_a_time() -> None:
    huge, rng = 1 << 41, np.random.default_rng(3)
    items = rng.integers(0, huge, (50, 4)) | 1
    relevance = Relevance.from_pairs(np.arange(50), items[:, 2], n_queries=50, n_gallery=huge)
    rows = RankedLists(np.arange(51) * 4, items.ravel(), np.tile([4.0, 3, 2, 1], 50), huge)
    assert max(last - first for first, last in lists._chunks(rows)) < 50
    assert ranks_from_lists(rows, relevance).better.tolist() == [2] * 50


def test_lists_of_equal_length_may_come_as_neighbours() -> None:
    rng = np.random.default_rng(8)
    pairs, relevance = some_lists(rng, "even, tied falling"), some_relevance(rng)
    indices, scores = (np.stack(column) for column in zip(*pairs, strict=True))
    nearest = Neighbours(indices, scores, N_GALLERY, True, np.zeros(N_QUERIES, bool))
    assert_equal(ranks_from_lists(nearest, relevance), ranks_from_lists(pairs, relevance))


def test_a_complete_list_has_the_ranks_of_the_score_matrix() -> None:
    rng = np.random.default_rng(4)
    scores, relevance = rng.integers(0, 9, (N_QUERIES, N_GALLERY)).astype(float), some_relevance(rng)
    complete = [(np.arange(N_GALLERY), row) for row in scores]
    assert_equal(ranks_from_scores(scores, relevance), ranks_from_lists(complete, relevance))


def test_plus_and_minus_zero_are_one_score() -> None:
    relevance = Relevance.from_pairs([0], [1], n_queries=1, n_gallery=3)
    for scores in ([0.0, -0.0], [-0.0, 0.0]):
        assert ranks_from_lists([([0, 1], scores)], relevance).tied.tolist() == [1]


# ---- errors ----


@pytest.mark.parametrize(
    ("items", "scores", "message"),
    [
        ([4, 1, 2, 1], [3, 2, 1, 0], "the list of query 1 holds item 1 more than once"),
        ([4, 1, 2, 3], [3, 2, np.nan, 0], "the list of query 1 has 1 scores that are NaN"),
        ([4, 1, -2, 3], [3, 2, 1, 0], r"the list of query 1 names items -2\.\.4, outside 0\.\.5"),
        ([4, 1, 2, 6], [3, 2, 1, 0], r"the list of query 1 names items 1\.\.6, outside 0\.\.5"),
    ],
)
def test_errors_name_the_query(items: list[int], scores: list[float], message: str) -> None:
    relevance = Relevance.from_pairs([0], [1], n_queries=3, n_gallery=6)
    for others in (([0, 1, 2, 3], [4, 3, 2, 1]), ([], [])):
        with pytest.raises(ValueError, match=message):
            ranks_from_lists([others, (items, scores), others], relevance)
        with pytest.raises(ValueError, match=message):
            condensed([others, (items, scores), others], relevance)


def test_compressed_rows_are_checked_as_lists_are() -> None:
    relevance = Relevance.from_pairs([0], [1], n_queries=2, n_gallery=6)
    with pytest.raises(ValueError, match="the list of query 1 holds item 5 more than once"):
        ranks_from_lists(RankedLists([0, 1, 3], [5, 5, 5], [3, 2, 1], 6), relevance)
    with pytest.raises(ValueError, match="the list of query 0 has 1 scores that are NaN"):
        ranks_from_lists(RankedLists([0, 1, 3], [5, 5, 4], [np.nan, 2, 1], 6), relevance)
    with pytest.raises(ValueError, match="a gallery of 7 items and the relevance over 6"):
        ranks_from_lists(RankedLists([0, 1, 3], [5, 5, 4], [3, 2, 1], 7), relevance)
    with pytest.raises(ValueError, match="1 lists for 2 queries"):
        ranks_from_lists(RankedLists([0, 3], [5, 3, 4], [3, 2, 1], 6), relevance)
    with pytest.raises(ValueError, match="must rise from 0"):
        ranks_from_lists(RankedLists([0, 4, 3], [5, 3, 4], [3, 2, 1], 6), relevance)
    with pytest.raises(ValueError, match="'zero' or 'condensed'; got 'drop'"):
        ranks_from_lists([([], []), ([], [])], relevance, unjudged="drop")  # type: ignore[arg-type]


def test_a_score_matrix_with_nan_names_the_query() -> None:
    relevance = Relevance.from_pairs([0], [1], n_queries=2, n_gallery=3)
    with pytest.raises(ValueError, match="query 1 has 2 scores that are NaN"):
        ranks_from_scores([[1, 2, 3], [np.nan, 1, np.nan]], relevance)


# ---- unjudged items ----


def worlds(n: int) -> list[tuple[list[float], list[float], list[bool]]]:
    """(scores, grades, judged) of small lists with many ties; a grade above zero is always a judgement."""
    rng, found = np.random.default_rng(9), []
    while len(found) < n:
        size = int(rng.integers(1, 7))
        grades = rng.choice([0, 0, 1, 3], size).astype(float)
        judged = (grades > 0) | (rng.random(size) < 0.5)
        if grades.any():
            found.append((rng.integers(0, 3, size).astype(float).tolist(), grades.tolist(), judged.tolist()))
    return found


def judgements(grades: list[float], judged: list[bool]) -> Relevance:
    items = np.flatnonzero(judged)
    return Relevance.from_pairs(
        np.zeros(len(items)), items, np.array(grades)[items], n_queries=1, n_gallery=len(grades) + 2
    )  # fmt: skip


@pytest.mark.parametrize("k", [1, 2, 4])
def test_judged_share_equals_the_count_over_every_order(k: int) -> None:
    split = 0
    for scores, grades, judged in worlds(60):
        values = judged_share([(range(len(scores)), scores)], judgements(grades, judged), k, short_lists="as is")
        slow = metric_over_orders(f"P@{k}", scores, [float(yes) for yes in judged])
        np.testing.assert_allclose([values.expected[0], values.worst[0], values.best[0]], slow, rtol=1e-12)
        split += slow[1] < slow[2]
    assert split > 5


def test_judged_share_of_lists_side_by_side() -> None:
    """Query 1 has no judgement at all: its share is 0 and not missing."""
    relevance = Relevance.from_pairs([0, 0, 2], [4, 1, 0], [1, 0, -1], n_queries=3, n_gallery=6)
    given = [([4, 2, 1], [3, 2, 1]), ([4, 2, 1], [3, 2, 1]), ([5, 0], [1, 1])]
    values = judged_share(given, relevance, 2)
    assert values.expected.tolist() == [0.5, 0.0, 0.5]
    with pytest.raises(ValueError, match=r"judged@3 needs 3 .* list of 2 items of query 2 \(1 of 3 lists"):
        judged_share(given, relevance, 3)
    assert judged_share(given, relevance, 3, short_lists="as is").expected.tolist() == pytest.approx([2 / 3, 0, 1 / 3])
    for k in (0, 1.5, True):
        with pytest.raises(ValueError, match="whole number >= 1"):
            judged_share(given, relevance, k)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'refuse' or 'as is'; got 'asis'"):
        judged_share(given, relevance, 2, short_lists="asis")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["hit@2", "R@1", "P@3", "AP", "AP(norm=hits)@2", "nDCG@3", "MRR", "R-precision"])
def test_condensed_lists_equal_the_count_over_every_order(name: str) -> None:
    changed = 0
    for scores, grades, judged in worlds(60):
        given, relevance = [(range(len(scores)), scores)], judgements(grades, judged)
        values = per_query(name, ranks_from_lists(given, relevance, unjudged="condensed"), short_lists="as is")
        slow = metric_over_orders(name, scores, grades, judged=judged)
        np.testing.assert_allclose([values.expected[0], values.worst[0], values.best[0]], slow, rtol=1e-12)
        as_zero = per_query(name, ranks_from_lists(given, relevance), short_lists="as is").expected[0]
        changed += as_zero < values.expected[0] - 1e-9
    assert changed > 2


def test_condensed_lists_keep_order_scores_and_judged_items(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(12)
    pairs, relevance = some_lists(rng, "ragged, tied"), some_relevance(rng)
    for chunk in (1, 50, 1 << 18):
        monkeypatch.setattr(lists, "CHUNK", chunk)
        rows = condensed(pairs, relevance)
        for query, (items, scores) in enumerate(pairs):
            keep = np.isin(items, relevance.row(query)[0])
            assert rows.row(query)[0].tolist() == items[keep].tolist()
            assert rows.row(query)[1].tolist() == scores[keep].tolist()
    assert_equal(ranks_from_lists(rows, relevance), ranks_from_lists(pairs, relevance, unjudged="condensed"))
    again = condensed(rows, relevance)
    np.testing.assert_array_equal(again.items, rows.items)


def test_two_systems_change_places_when_unjudged_items_are_removed() -> None:
    """A finds the right item behind two that nobody looked at, B behind one that was judged wrong: B leads with
    "zero", A with "condensed"."""
    relevance = Relevance.from_pairs([0, 0], [0, 1], [1, 0], n_queries=1, n_gallery=6)
    a, b = [([4, 5, 0], [3, 2, 1])], [([1, 0, 4], [3, 2, 1])]
    zero = [per_query("MRR", ranks_from_lists(x, relevance), short_lists="as is").expected[0] for x in (a, b)]
    assert zero == pytest.approx([1 / 3, 1 / 2])
    removed = [
        per_query("MRR", ranks_from_lists(x, relevance, unjudged="condensed"), short_lists="as is").expected[0]
        for x in (a, b)
    ]
    assert removed == [1.0, 0.5]
