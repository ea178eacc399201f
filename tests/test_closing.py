"""Closing the gap: what cancels by algebra, the halves by a slow loop, planted worlds, and four real networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from workbench.datasets.world import hubby_world
from workbench.diagnostics.closing import (
    CLOSINGS,
    close_the_gap,
    fit_centering,
    fit_items_moved,
    fit_queries_moved,
    halves,
)
from workbench.normalize import Bank
from workbench.search import RankPositives, scan
from workbench.types import Relevance, unit_vectors


def whole(rng: np.random.Generator, n: int, dim: int = 6) -> np.ndarray:
    """Vectors of small whole numbers: every sum and product below is exact."""
    return rng.integers(-8, 9, size=(n, dim)).astype(np.float64)


def truth(owner: np.ndarray, n_items: int) -> Relevance:
    return Relevance.from_pairs(np.arange(len(owner)), owner, n_queries=len(owner), n_gallery=n_items)


# What cancels


@pytest.mark.parametrize("seed", range(5))
def test_moving_the_gallery_changes_no_rank(seed: int) -> None:
    """q . (g + m) = q . g + q . m: the same number for all items of a query. Exact, ties included."""
    rng = np.random.default_rng(seed)
    queries, items, move = whole(rng, 40), np.concatenate([whole(rng, 8)] * 2), whole(rng, 1)
    relevance = truth(np.arange(40) % 16, 16)
    raw, moved = (scan(queries, gallery, [RankPositives(relevance)])[0] for gallery in (items, items + 3 * move))
    assert (raw.better == moved.better).all()
    assert (raw.tied == moved.tied).all()
    assert raw.tied.all()


def test_items_moved_is_that_translation_and_closes_the_gap() -> None:
    rng = np.random.default_rng(0)
    queries, items = whole(rng, 32), np.concatenate([whole(rng, 8)] * 2)
    fitted = fit_items_moved(items, queries)
    assert fitted.gallery.mean(axis=0) == pytest.approx(queries.mean(axis=0))
    relevance = truth(np.arange(32) % 16, 16)
    raw, moved = (scan(queries, gallery, [RankPositives(relevance)])[0] for gallery in (items, fitted.gallery))
    assert (raw.better == moved.better).all()  # means over 16 and 32 are dyadic: exact
    assert (raw.tied == moved.tied).all()
    assert (fitted(queries) == queries).all()


def test_moving_the_queries_is_a_bias_of_the_items() -> None:
    """(q + d) . g = q . g + d . g, for every query alike; centring both sides leaves - mean query . g of it."""
    rng = np.random.default_rng(1)
    queries, items = whole(rng, 32), whole(rng, 16)
    relevance = truth(np.arange(32) % 16, 16)
    gap = items.mean(axis=0) - queries.mean(axis=0)
    (raw,) = scan(queries, items, [RankPositives(relevance)])
    for fit, bias in ((fit_queries_moved, -items @ gap), (fit_centering, items @ queries.mean(axis=0))):
        fitted = fit(items, queries)
        (changed,) = scan(fitted(queries), fitted.gallery, [RankPositives(relevance)])
        (biased,) = scan(queries, items, [RankPositives(relevance, bias=bias)])
        assert (changed.better == biased.better).all()
        assert (raw.better != biased.better).any()
        assert np.linalg.norm(fitted(queries).mean(axis=0) - fitted.gallery.mean(axis=0)) == pytest.approx(0, abs=1e-12)


def test_a_gap_that_all_items_share_cancels_in_the_world() -> None:
    """The same draws with and without a gap of 1.5: every way of closing makes the same difference in both."""
    found = []
    for gap in (0.0, 1.5):
        world = hubby_world(n_gallery=80, queries_per_item=3, n_hubs=0, gap=gap, seed=4)
        ways = ["items moved", "queries moved", "shift", "centring", "centring, length one"]
        closing = close_the_gap(
            world.queries, world.gallery, world.relevance, world.query_item, np.arange(80), metrics=["hit@1"],
            ways=ways, n_resamples=100,
        )  # fmt: skip
        found.append([(one.before, one.after) for one in closing.outcomes])
        assert closing.outcomes[0].gap_before == pytest.approx(gap, abs=0.2)
    assert found[0] == found[1]


# Halves


def slow_hits(queries: np.ndarray, items: np.ndarray, owner: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """hit@1 of every query in its half, raw and centred with new lengths, by plain loops."""
    n = len(items)
    fold = np.zeros(n, int)
    fold[np.random.default_rng(seed).permutation(n)[: n // 2]] = 1
    raw, closed = np.zeros((2, len(queries)))
    for q, item in enumerate(owner):
        mine = [g for g in range(n) if fold[g] == fold[item]]
        mean_items = np.mean([items[g] for g in mine], axis=0)
        mean_queries = np.mean([queries[p] for p in range(len(queries)) if fold[owner[p]] != fold[item]], axis=0)
        asks = queries[q] - mean_queries
        centred = [asks @ (items[g] - mean_items) / np.linalg.norm(items[g] - mean_items) for g in mine]
        raw[q] = mine[int(np.argmax([queries[q] @ items[g] for g in mine]))] == item
        closed[q] = mine[int(np.argmax(centred))] == item
    return raw, closed


@pytest.mark.parametrize("seed", range(3))
def test_centring_in_halves_by_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    items = unit_vectors(rng.normal(size=(21, 5)) + np.array([1, 0, 0, 0, 0]))
    owner = rng.integers(21, size=50)
    owner[:21] = np.arange(21)
    queries = unit_vectors(items[owner] + 0.6 * rng.normal(size=(50, 5)) - [0.8, 0, 0, 0, 0])
    raw, closed = slow_hits(queries.astype(float), items.astype(float), owner, seed)
    found = close_the_gap(
        queries, items, truth(owner, 21), owner, np.arange(21), metrics=["hit@1"], ways=["centring, length one"],
        seed=seed, n_resamples=100,
    ).outcomes[0]  # fmt: skip
    assert (found.before, found.after) == (pytest.approx(raw.mean()), pytest.approx(closed.mean()))
    assert (found.wins, found.losses) == ((closed > raw).sum(), (closed < raw).sum())
    assert found.n == 50


def test_no_query_teaches_its_own_half() -> None:
    rng = np.random.default_rng(0)
    queries, owner = rng.normal(size=(30, 4)), np.arange(30) % 10
    queries[12] = queries[3]  # the same caption for images 2 and 3
    shared = 0
    for seed in range(4):
        for part in halves(queries, owner, np.arange(10), seed=seed):
            own = set(owner[part.queries].tolist())
            assert set(part.items.tolist()) == own
            bank = [i for i in range(30) if (queries[i] == part.bank.vectors).all(axis=1).any()]
            assert not own & {int(owner[i]) for i in bank if i not in (3, 12)}
            assert not (part.bank.vectors[:, None] == queries[part.queries]).all(axis=2).any()
            shared += len(part.bank) + len(part.queries) == 29
    assert shared > 0


def test_another_bank_and_the_scored_queries_themselves() -> None:
    world = hubby_world(n_gallery=40, queries_per_item=2, n_hubs=4, gap=1.0, seed=0)
    given = (world.queries, world.gallery, world.relevance, world.query_item)
    other = close_the_gap(*given, bank=Bank(world.query_bank, "inductive", "train"), metrics=["MRR"], n_resamples=100)
    assert other.provenance == "inductive (train)"
    assert other.n_bank == 500
    with pytest.raises(ValueError, match="not inductive"):
        close_the_gap(*given, bank=Bank(world.queries, "inductive"), metrics=["MRR"])
    known = close_the_gap(*given, bank=Bank(world.queries, "transductive"), metrics=["MRR"], n_resamples=100)
    assert known.provenance == "transductive"
    centred = next(one for one in known.first if one.way == "centring")
    assert centred.gap_after == pytest.approx(0, abs=1e-6)


def test_the_result_holds_together() -> None:
    world = hubby_world(n_gallery=40, queries_per_item=2, n_hubs=4, gap=1.0, seed=0)
    given = (world.queries, world.gallery, world.relevance, world.query_item, np.arange(40))
    copies = world.queries.copy(), world.gallery.copy()
    found = close_the_gap(*given, metrics=["MRR", "hit@5"], n_resamples=100)
    assert (copies[0] == world.queries).all()
    assert (copies[1] == world.gallery).all()
    assert [one.way for one in found.first] == list(CLOSINGS)
    assert len(found.table()) == len(found.flat()) == 2 * len(CLOSINGS)
    assert all(one.low <= one.difference <= one.high for one in found.outcomes)
    assert all(one.after - one.before == pytest.approx(one.difference) for one in found.outcomes)
    assert found.plot() is not None
    assert "<table" in found._repr_html_()
    again = close_the_gap(*given, metrics=["MRR", "hit@5"], n_resamples=100)
    assert repr(found) == repr(again)  # NaN included


def test_constant_vectors_and_missing_labels() -> None:
    """All scores tied: nothing changes, ties count by expectation, rows left without length by centring stay tied."""
    owner = np.arange(20) % 8
    everyone = Bank(np.ones((4, 3)), "transductive")
    found = close_the_gap(
        np.ones((20, 3)), np.ones((8, 3)), truth(owner, 8), owner, bank=everyone, metrics=["hit@1"],
        ways=["shift", "centring, length one"], n_resamples=100,
    )  # fmt: skip
    assert [(one.before, one.after) for one in found.outcomes] == [(0.125, 0.125)] * 2
    blank = Relevance.from_pairs([], [], n_queries=20, n_gallery=8)
    queries = np.random.default_rng(0).normal(size=(20, 3))
    nothing = close_the_gap(queries, queries[:8], blank, owner, np.arange(8), metrics=["hit@1"], n_resamples=100)
    assert nothing.findings()[0].verdict == "not measurable"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ways": ["shfit"]}, "shfit"),
        ({"ways": []}, "ways must name"),
        ({"metrics": []}, "some metric"),
        ({"metrics": ["hit@9"]}, "hit@9"),
        ({"gallery_clusters": None}, "gallery_clusters"),
        ({"clusters": np.zeros(20, int), "gallery_clusters": np.zeros(8, int)}, "2 clusters"),
        ({"clusters": np.zeros(20, int), "gallery_clusters": np.arange(8)}, "no queries or no items"),
    ],
)
def test_errors_say_what_came(change: dict, message: str) -> None:
    rng, owner = np.random.default_rng(0), np.arange(20) % 8
    given = {
        "queries": rng.normal(size=(20, 3)), "gallery": rng.normal(size=(8, 3)), "relevance": truth(owner, 8),
        "clusters": owner, "gallery_clusters": np.arange(8), "metrics": ["hit@1"],
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        close_the_gap(**{**given, **change})


# Planted worlds and real networks


def verdict(gap: float, n_hubs: int, seed: int) -> str:
    world = hubby_world(n_gallery=120, queries_per_item=3, n_hubs=n_hubs, gap=gap, seed=seed)
    found = close_the_gap(
        world.queries, world.gallery, world.relevance, world.query_item, np.arange(120), metrics=["hit@1", "MRR"],
        n_resamples=200, seed=seed,
    )  # fmt: skip
    return found.findings()[0].verdict


@pytest.mark.slow
def test_fires_on_a_gap_that_costs_and_not_on_one_that_does_not() -> None:
    """Planted: items pulled across the gap. Clean: a gap of 1.5, wider, that all items share; no gap at all."""
    missed = sum(verdict(1.0, 6, seed) != "look" for seed in range(20))
    wide = sum(verdict(1.5, 0, seed) != "ok" for seed in range(20))
    none = sum(verdict(0.0, 0, seed) != "ok" for seed in range(20))
    assert (missed, wide, none) == (0, 0, 0), f"missed {missed} of 20; false alarms {wide} (wide gap), {none} (no gap)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "direction", "metric", "raw", "expected"),
    [
        ("clip", "t2i", "hit@1", 0.592, {"shift": -0.152, "centring": 0.008, "centring, length one": -0.012}),
        ("clip", "i2t", "hit@1", 0.656, {"shift": -0.224, "centring": -0.052, "centring, length one": -0.026}),
        ("convirt", "t2i", "R@10", 0.276, {"shift": 0.008, "centring": -0.006, "centring, length one": 0.012}),
        ("convirt", "i2t", "R@10", 0.106, {"shift": 0.034, "centring": 0.126, "centring, length one": 0.113}),
    ],
)
def test_trained_networks(
    shared: Callable[[str], Path], name: str, direction: str, metric: str, raw: float, expected: dict[str, float]
) -> None:
    """Closing the gap of CLIP costs or does nothing; centring doubles R@10 of ConVIRT from images, and only that."""
    pairs = np.load(shared(f"data/pairs_modality_gap/{name}.npz"))
    images, texts = unit_vectors(pairs["image"]), unit_vectors(pairs["text"])
    sides = (texts, images) if direction == "t2i" else (images, texts)
    found = close_the_gap(*sides, truth(np.arange(500), 500), np.arange(500), np.arange(500), metrics=[metric])
    by_way = {one.way: one for one in found.outcomes}
    assert by_way["items moved"].difference == 0
    assert found.outcomes[0].before == pytest.approx(raw, abs=0.01)
    for way, difference in expected.items():
        assert by_way[way].difference == pytest.approx(difference, abs=0.005), way
        assert by_way[way].low < difference < by_way[way].high
        assert by_way[way].gap_after < 0.35 * by_way[way].gap_before
    assert found.findings()[0].verdict == ("look" if (name, direction) == ("convirt", "i2t") else "ok")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clip_random_init", "convirt_random_init"])
def test_random_networks_are_at_chance_before_and_after(shared: Callable[[str], Path], name: str) -> None:
    """A gap of 1.1 and 1.4, closed or not: hit@1 of 1 in 250, R@10 of 10 in 250 (halves of 250 items)."""
    pairs = np.load(shared(f"data/pairs_modality_gap/{name}.npz"))
    images, texts = unit_vectors(pairs["image"]), unit_vectors(pairs["text"])
    for sides in ((texts, images), (images, texts)):
        found = close_the_gap(
            *sides, truth(np.arange(500), 500), np.arange(500), np.arange(500), metrics=["hit@1", "R@10"]
        )
        assert found.outcomes[0].gap_before > 1.1
        for one in found.outcomes:
            chance = 1 / 250 if one.metric == "hit@1" else 10 / 250
            spread = np.sqrt(chance * (1 - chance) / 500)
            assert abs(one.before - chance) < 3 * spread
            assert abs(one.after - chance) < 3 * spread
            assert one.low <= 0 <= one.high
        assert found.findings()[0].verdict == "ok"
