"""What copies are worth: the reported difference is that of a collection reduced by hand and scored anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from workbench import codec
from workbench.diagnostics.copies_impact import (
    NOT_ITSELF,
    ONE,
    REMOVED,
    RIGHT,
    CopiesImpact,
    ImpactRow,
    World,
    copies_impact,
    difference_interval,
    removal_impact,
    self_match_impact,
    shared_relevance,
)
from workbench.metrics import aggregate, parse_metric, per_query
from workbench.statistics import paired_difference
from workbench.types import Ranks, Relevance

METRICS = ("hit@1", "hit@5", "R@3", "MRR", "AP", "nDCG@5")


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def planted(
    seed: int, *, n: int = 40, copies: int = 8, per: int = 2, noise: float = 0.9, dim: int = 12, near: bool = False
) -> tuple[World, np.ndarray, np.ndarray]:
    """Text to image: n images of which the last ``copies`` repeat the first ones, captions labelled for their own only.

    Returns the world, the groups of images, and the owner of each text. near : the copies are not quite equal.
    """
    rng = np.random.default_rng(seed)
    images = unit(rng.normal(size=(n, dim)))
    groups = np.arange(n)
    if copies:
        images[-copies:] = images[:copies]
        groups[-copies:] = np.arange(copies)
    if near:
        images = unit(images + 0.05 * rng.normal(size=images.shape))
    own = np.repeat(np.arange(n), per)
    texts = unit(images[own] + noise * rng.normal(size=(len(own), dim)) / np.sqrt(dim))
    relevance = Relevance.from_pairs(np.arange(len(own)), own, n_queries=len(own), n_gallery=n)
    return World("t2i", texts, images, relevance, groups[own], METRICS, n_resamples=300), groups, own


def plain(queries: np.ndarray, gallery: np.ndarray, labels: list[dict[int, float]], name: str) -> float:
    """A metric from sorted pair scores, with ties counted by loops: no scan, no Relevance.take."""
    scores = queries.astype(np.float64) @ gallery.astype(np.float64).T
    same = {}
    for j, row in enumerate(gallery):
        same[j] = next((i for i in range(j) if (gallery[i] == row).all()), j)
    scores = scores[:, [same[j] for j in range(len(gallery))]]  # equal vectors have equal scores, to the last bit
    indptr, items, grades, better, tied = [0], [], [], [], []
    for row, right in zip(scores, labels, strict=True):
        for item in sorted(right):
            items.append(item)
            grades.append(right[item])
            better.append(int((row > row[item]).sum()))
            tied.append(int((row == row[item]).sum()) - 1)
        indptr.append(len(items))
    depth = np.full(len(labels), len(gallery))
    ranks = Ranks(*(np.array(part) for part in (indptr, items, grades, better, tied)), depth, len(gallery))
    metric = parse_metric(name)
    return aggregate(metric, per_query(metric, ranks).expected)


def as_dicts(relevance: Relevance) -> list[dict[int, float]]:
    rows = (relevance.row(query) for query in range(relevance.n_queries))
    return [{int(i): float(g) for i, g in zip(items, grades, strict=True) if g > 0} for items, grades in rows]


# ---- shared labels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_shared_labels_by_plain_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_queries, n_gallery = 9, 13
    pairs = np.unique(rng.integers(0, n_queries * n_gallery, 22))
    grades = rng.integers(-1, 4, len(pairs)).astype(float)
    given = Relevance.from_pairs(pairs // 13, pairs % 13, grades, n_queries=n_queries, n_gallery=n_gallery)
    of_query, of_item = rng.integers(0, 6, n_queries), rng.integers(0, 8, n_gallery) * 10
    found = shared_relevance(given, of_query, of_item)
    known = {(int(q), int(i)): g for q, i, g in zip(given.queries, given.items, given.grades, strict=True)}
    truth = {}
    for q in range(n_queries):
        for i in range(n_gallery):
            best = max((g for (a, b), g in known.items() if of_query[a] == of_query[q] and of_item[b] == of_item[i]),
                       default=0.0)  # fmt: skip
            if best > 0:
                truth[q, i] = best
            elif (q, i) in known:
                truth[q, i] = known[q, i]
    got = {(int(q), int(i)): g for q, i, g in zip(found.queries, found.items, found.grades, strict=True)}
    assert got == truth


def test_without_copies_labels_stay_and_wrong_groups_are_refused() -> None:
    given = Relevance.from_pairs([0, 1], [2, 0], [1.0, -1.0], n_queries=2, n_gallery=3)
    same = shared_relevance(given, [4, 5], [1, 2, 3])
    assert (same.items.tolist(), same.grades.tolist()) == (given.items.tolist(), given.grades.tolist())
    empty = Relevance.from_pairs([], [], n_queries=2, n_gallery=3)
    assert shared_relevance(empty, [0, 0], [0, 0, 0]).n_positives == 0
    with pytest.raises(ValueError, match="2 and 3; got 2 and 2"):
        shared_relevance(given, [0, 1], [0, 1])


# ---- the impact is the recomputed one -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("near", [False, True])
def test_copies_count_as_right_equals_labels_written_by_hand(seed: int, near: bool) -> None:
    world, groups, own = planted(seed, near=near)
    rows = {row.metric: row for row in copies_impact(world, "x", np.arange(len(own)), groups) if row.change == RIGHT}
    by_hand = [{int(i): 1.0 for i in np.flatnonzero(groups == groups[image])} for image in own]
    for name in METRICS:
        before = plain(world.queries, world.gallery, as_dicts(world.relevance), name)
        after = plain(world.queries, world.gallery, by_hand, name)
        assert rows[name].before == pytest.approx(before, abs=1e-12)
        assert rows[name].after == pytest.approx(after, abs=1e-12)
        assert rows[name].difference == pytest.approx(after - before, abs=1e-12)
    assert rows["hit@1"].difference > 0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("near", [False, True])
def test_one_of_each_equals_a_gallery_reduced_by_hand(seed: int, near: bool) -> None:
    world, groups, own = planted(seed, near=near)
    rows = {row.metric: row for row in copies_impact(world, "x", np.arange(len(own)), groups) if row.change == ONE}
    kept = np.arange(32)  # the last eight of forty are the copies
    labels = [{int(groups[image]): 1.0} for image in own]
    for name in METRICS:
        after = plain(world.queries, np.asarray(world.gallery)[kept], labels, name)
        assert rows[name].after == pytest.approx(after, abs=1e-12)
        assert (rows[name].n_items, rows[name].n_after) == (32, 80)


@pytest.mark.parametrize("seed", range(4))
def test_copies_of_queries_share_what_is_right(seed: int) -> None:
    """The other direction: pictures ask, captions answer, and a copied picture may return either one's captions."""
    forward, groups, own = planted(seed)
    world = World("i2t", forward.gallery, forward.queries, forward.relevance.T, groups, METRICS, n_resamples=200)
    rows = {row.metric: row for row in copies_impact(world, "x", groups, np.arange(80)) if row.change == RIGHT}
    by_hand = [{int(t): 1.0 for t in np.flatnonzero(groups[own] == groups[image])} for image in range(40)]
    for name in METRICS:
        after = plain(world.queries, world.gallery, by_hand, name)
        assert rows[name].after == pytest.approx(after, abs=1e-12)
    left = [row for row in copies_impact(world, "x", groups, np.arange(80)) if row.change == ONE]
    assert {row.reason for row in left} == {"the gallery holds no copies"}


@pytest.mark.parametrize("seed", range(4))
def test_removal_equals_a_collection_without_the_leaked(seed: int) -> None:
    world, _, own = planted(seed, copies=0)
    gone = np.zeros(40, bool)
    gone[np.random.default_rng(seed).choice(40, 7, replace=False)] = True
    rows = {row.metric: row for row in removal_impact(world, "leaked", queries=gone[own], items=gone)}
    kept, texts = np.flatnonzero(~gone), np.flatnonzero(~gone[own])
    place = {int(image): number for number, image in enumerate(kept)}
    labels = [{place[int(own[text])]: 1.0} for text in texts]
    for name in METRICS:
        before = plain(world.queries, world.gallery, as_dicts(world.relevance), name)
        after = plain(np.asarray(world.queries)[texts], np.asarray(world.gallery)[kept], labels, name)
        assert rows[name].difference == pytest.approx(after - before, abs=1e-12)
        assert (rows[name].change, rows[name].n_before, rows[name].n_after, rows[name].n_items) == (REMOVED, 80, 66, 33)


@pytest.mark.parametrize("seed", range(4))
def test_self_matches_by_id_equal_a_gallery_without_oneself(seed: int) -> None:
    rng = np.random.default_rng(seed)
    items = unit(rng.normal(size=(14, 6)))
    items[9] = items[2]  # a copy under another id is a legitimate result
    queries, ids = items[[2, 5, 11, 0]], [f"i{j}" for j in range(14)]
    right = [{2: 1.0, 9: 1.0}, {5: 1.0, 3: 1.0, 4: 2.0}, {11: 1.0}, {1: 1.0}]
    pairs = [(q, i, g) for q, labels in enumerate(right) for i, g in labels.items()]
    relevance = Relevance.from_pairs(*zip(*pairs, strict=True), n_queries=4, n_gallery=14)
    world = World("i2i", queries, items, relevance, np.arange(4), METRICS, n_resamples=200)
    rows = {row.metric: row for row in self_match_impact(world, ["i2", "i5", "i11", "new"], ids)}
    for name in METRICS:
        values = []
        for query, own in enumerate([2, 5, 11, None]):
            left = [i for i in range(14) if i != own]
            labels = {left.index(i): g for i, g in right[query].items() if i != own}
            values += [plain(queries[[query]], items[left], [labels], name)] if labels else []
        assert rows[name].after == pytest.approx(np.mean(values), abs=1e-12)
        assert (rows[name].change, rows[name].n_after) == (NOT_ITSELF, 3)
    assert self_match_impact(world, ["a", "b", "c", "d"], ids) == []


def test_values_given_are_not_searched_again() -> None:
    world, groups, own = planted(0)
    known = World("t2i", world.queries, world.gallery, world.relevance, world.clusters, METRICS, n_resamples=300,
                  measured=world.as_is)  # fmt: skip
    assert copies_impact(known, "x", np.arange(len(own)), groups) == copies_impact(
        world, "x", np.arange(len(own)), groups
    )


# ---- edges ----------------------------------------------------------------------------------------------------------


def test_without_copies_every_difference_is_exactly_zero() -> None:
    world, groups, own = planted(1, copies=0)
    rows = copies_impact(world, "x", np.arange(len(own)), groups)
    assert {(row.difference, row.low, row.high) for row in rows} == {(0.0, 0.0, 0.0)}
    nothing = np.zeros(80, bool), np.zeros(40, bool)
    assert {row.difference for row in removal_impact(world, "x", queries=nothing[0], items=nothing[1])} == {0.0}
    assert CopiesImpact("copies", tuple(rows), 0.95).findings()[0].verdict == "ok"


def test_metrics_deeper_than_what_is_left_and_ranks_are_left_out() -> None:
    world, groups, own = planted(2, n=12, copies=4)
    deep = World("t2i", world.queries, world.gallery, world.relevance, world.clusters, ("hit@10", "MedR", "hit@99"),
                 n_resamples=200)  # fmt: skip
    rows = copies_impact(deep, "x", np.arange(len(own)), groups)
    assert [(row.metric, row.change) for row in rows] == [("hit@10", RIGHT), ("hit@10", ONE)]
    assert rows[1].reason == "only 8 items are left, fewer than it looks at"
    assert not np.isfinite(rows[1].difference)


def test_no_positives_everything_removed_and_one_query() -> None:
    world = planted(3, copies=0)[0]
    none = Relevance.from_pairs([], [], n_queries=80, n_gallery=40)
    blank = World("t2i", world.queries, world.gallery, none, world.clusters, ("hit@1",), n_resamples=200)
    (row,) = removal_impact(blank, "x", queries=np.ones(80, bool), items=np.zeros(40, bool))
    assert row.reason == "no query has a right item"
    (row,) = removal_impact(
        World("t2i", world.queries, world.gallery, world.relevance, world.clusters, ("hit@1",), n_resamples=200),
        "x", queries=np.ones(80, bool), items=np.zeros(40, bool),
    )  # fmt: skip
    assert row.reason == "no query keeps a right item"
    (finding,) = CopiesImpact("leaks", (row,), 0.95).findings()
    assert (finding.name, finding.verdict) == ("leaks/impact", "not measurable")
    assert CopiesImpact("leaks", (), 0.95).findings()[0].verdict == "not measurable"
    one = Relevance.from_pairs([0], [1], n_queries=1, n_gallery=3)
    alone = World("t2i", np.eye(3)[:1], np.eye(3)[[0, 0, 1]], one, np.zeros(1, int), ("hit@1",), n_resamples=200)
    found = copies_impact(alone, "x", [0], [0, 0, 2])
    assert (found[0].before, found[0].after) == (0.5, 1.0)
    assert not np.isfinite(found[0].low)
    with pytest.raises(ValueError, match="1 and 3; got 2 and 3"):
        removal_impact(alone, "x", queries=np.zeros(2, bool), items=np.zeros(3, bool))


# ---- intervals ------------------------------------------------------------------------------------------------------


def test_the_interval_is_that_of_the_paired_difference_where_all_are_scored() -> None:
    rng = np.random.default_rng(0)
    before = (rng.random(300) < 0.5).astype(float)
    after = np.where(rng.random(300) < 0.15, 1.0, before)
    clusters = np.repeat(np.arange(100), 3)
    low, high = difference_interval(before, after, clusters, n_resamples=4000)
    paired = paired_difference(before, after, clusters, n_resamples=4000)
    assert (low, high) == pytest.approx((paired.low, paired.high), abs=0.006)
    order = rng.permutation(300)
    assert difference_interval(before[order], after[order], clusters[order], n_resamples=4000) == (low, high)


def test_the_interval_of_a_removal_by_a_plain_bootstrap() -> None:
    rng = np.random.default_rng(1)
    before = (rng.random(200) < 0.6).astype(float)
    after = np.where(np.arange(200) % 5 == 0, np.nan, before)
    before[::5] = 1.0
    clusters = np.arange(200) // 2
    low, high = difference_interval(before, after, clusters, n_resamples=4000)
    draws = []
    for _ in range(2000):
        rows = np.concatenate([(2 * c, 2 * c + 1) for c in rng.integers(0, 100, 100)])
        draws.append(np.nanmean(after[rows]) - before[rows].mean())
    assert (low, high) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.01)
    assert low < np.nanmean(after) - before.mean() < high
    assert difference_interval([np.nan], [np.nan], [0]) == pytest.approx((np.nan, np.nan), nan_ok=True)


# ---- verdicts -------------------------------------------------------------------------------------------------------


def verdicts(make: Callable[[int], CopiesImpact]) -> list[str]:
    return [make(seed).findings()[0].verdict for seed in range(20)]


def of_copies(seed: int, copies: int) -> CopiesImpact:
    world, groups, own = planted(seed, copies=copies)
    return CopiesImpact("copies", tuple(copies_impact(world, "same content", np.arange(len(own)), groups)), 0.95)


def of_leaks(seed: int, memorised: bool) -> CopiesImpact:
    """A fifth of the images is also in the training split: a system that memorised them finds all of these."""
    world, _, own = planted(seed, n=100, copies=0, noise=2.0)
    gone = np.arange(100) < 20
    texts = np.array(world.queries)
    if memorised:
        texts[gone[own]] = np.asarray(world.gallery)[own][gone[own]]
    tested = World("t2i", texts, world.gallery, world.relevance, world.clusters, ("hit@1",), n_resamples=500)
    return CopiesImpact("leaks", tuple(removal_impact(tested, "same content", queries=gone[own], items=gone)), 0.95)


def test_fires_and_stays_quiet_on_what_copies_are_worth() -> None:
    fired = verdicts(lambda seed: of_copies(seed, 10)).count("problem")
    quiet = verdicts(lambda seed: of_copies(seed, 0)).count("ok")
    assert (fired, quiet) == (20, 20), f"missed {20 - fired} of 20, false alarms {20 - quiet} of 20"


def test_fires_and_stays_quiet_on_what_leaks_are_worth() -> None:
    """Leaks that nothing memorised are removed without effect beyond a smaller gallery: alarms by chance are few."""
    fired = verdicts(lambda seed: of_leaks(seed, True)).count("problem")
    quiet = verdicts(lambda seed: of_leaks(seed, False)).count("ok")
    assert fired == 20, f"missed {20 - fired} of 20"
    assert quiet >= 15, f"false alarms {20 - quiet} of 20"


def test_the_verdict_follows_the_first_metric_and_its_interval() -> None:
    def finding(*rows: tuple[str, float, float, float]) -> Any:
        made = tuple(ImpactRow("t2i", metric, "x", ONE, 0.5, 0.5 + value, value, low, high, 9, 9, 9)
                     for metric, value, low, high in rows)  # fmt: skip
        return CopiesImpact("copies", made, 0.95).findings()[0]

    assert finding(("hit@1", 0.02, 0.01, 0.03)).verdict == "problem"
    assert finding(("hit@1", 0.009, 0.001, 0.03)).verdict == "look"
    assert finding(("hit@1", 0.02, 0.0, 0.03)).verdict == "ok"
    assert finding(("hit@1", -0.02, -0.03, -0.01)).verdict == "problem"
    assert finding(("hit@1", 0.0, 0.0, 0.0), ("MRR", 0.3, 0.2, 0.4)).verdict == "ok"
    assert finding(("hit@1", 0.05, -0.1, 0.1), ("hit@1", -0.02, -0.03, -0.01)).value == -0.02


def test_nothing_is_said_to_stay_that_moves() -> None:
    def advice(*rows: tuple[str, float, float, float]) -> str:
        made = tuple(ImpactRow("t2i", metric, "x", ONE, 0.5, 0.5 + value, value, low, high, 9, 9, 9)
                     for metric, value, low, high in rows)  # fmt: skip
        return str(CopiesImpact("copies", made, 0.95).findings()[0].advice)

    still = "hit@1", 0.0, 0.0, 0.0
    assert advice(still, ("MRR", 0.0, 0.0, 0.0)).startswith("No copies change any metric:")
    assert advice(still, ("MRR", 0.3, 0.2, 0.4)).startswith("No copies change hit@1, but they change MRR:")
    assert advice(still, ("hit@1", 0.0, -0.1, 0.1)).startswith("The largest difference")
    assert advice(("hit@1", 0.0, float("nan"), float("nan"))).startswith("No copies change any metric:")


def test_rows_are_tabulated_drawn_and_kept() -> None:
    world, groups, own = planted(0)
    found = CopiesImpact("copies", tuple(copies_impact(world, "same content", np.arange(len(own)), groups)), 0.95)
    back = codec.from_plain(codec.to_plain(found), {"CopiesImpact": CopiesImpact, "ImpactRow": ImpactRow})
    assert back.rows == found.rows
    assert len(found.table()) == 2 * len(METRICS)
    assert len(found.flat()) == 2 * len(METRICS)
    ax = found.plot()
    drawn = [float(line.get_xdata()[0]) for line in ax.get_lines()[1:]]
    assert drawn == pytest.approx([100 * row.difference for row in found.rows if row.metric == "hit@1"])
    assert [text.get_text() for text in ax.get_yticklabels()] == [f"t2i, same content: {RIGHT}",
                                                                  f"t2i, same content: {ONE}"]  # fmt: skip
