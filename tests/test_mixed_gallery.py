"""Mixed galleries: every place against sorting by hand, ties by enumeration, planted gaps, and real networks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from workbench.datasets.world import hubby_world
from workbench.diagnostics.mixed_gallery import mixed_gallery
from workbench.types import Relevance, unit_vectors


def slow(queries: np.ndarray, items: np.ndarray, own: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(wrong share, hit@k) of every query by expectation over tie orders, from the sorted scores of one query."""
    wrong, hit = np.zeros((2, len(queries)))
    for q in range(len(queries)):
        scores = np.concatenate([items @ queries[q], np.delete(queries, q, axis=0) @ queries[q]])
        level = np.sort(scores)[::-1][k - 1]
        better, tied = scores > level, scores == level
        left = k - better.sum()
        wrong[q] = (better[len(items) :].sum() + left * tied[len(items) :].sum() / tied.sum()) / k
        hit[q] = within(scores, own[q], k)
    return wrong, hit


def within(scores: np.ndarray, item: int, k: int) -> float:
    """Chance that an item is among the first k under random order of ties."""
    return float(np.clip((k - (scores > scores[item]).sum()) / (scores == scores[item]).sum(), 0, 1))


def truth(own: np.ndarray, n_items: int) -> Relevance:
    return Relevance.from_pairs(np.arange(len(own)), own, n_queries=len(own), n_gallery=n_items)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("coarse", [False, True])
def test_places_by_hand(seed: int, coarse: bool) -> None:
    """Coarse vectors of 0 and 1 tie everywhere, beyond the lists that are kept."""
    rng = np.random.default_rng(seed)
    draw = (lambda n: rng.integers(0, 2, size=(n, 3)).astype(float)) if coarse else (lambda n: rng.normal(size=(n, 5)))
    items, queries = draw(9), draw(14)
    own, ks = np.arange(14) % 9, (1, 2, 5, 12, 22)
    for several in (ks, *((k,) for k in ks)):
        found = mixed_gallery(
            queries, items, own, np.arange(9), relevance=truth(own, 9), ks=several, ways=[], n_resamples=100
        )
        assert [one.k for one in found.places] == list(several)
        for one in found.places:
            wrong, hit = slow(queries, items, own, one.k)
            assert one.wrong == pytest.approx(wrong.mean())
            if one.k <= 9:
                alone = np.mean([within(items @ queries[q], own[q], one.k) for q in range(14)])
                assert (one.hit, one.hit_before) == (pytest.approx(hit.mean()), pytest.approx(alone))
                assert one.hit_change == pytest.approx(hit.mean() - alone)
            assert one.blind == pytest.approx(13 / 22)
    assert found.places[-1].wrong == pytest.approx(13 / 22)  # everything is retrieved


def test_expectation_over_ties_by_enumeration() -> None:
    """Each of the first three queries ties with two texts and one item: all orders of the three, two places."""
    queries = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    items = np.array([[1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    orders = [sum(name == "text" for name in order[:2]) / 2 for order in permutations(["text", "text", "image"])]
    assert np.mean(orders) == pytest.approx(2 / 3)
    found = mixed_gallery(queries, items, [0, 0, 0, 1], [0, 1, 2], ks=[2], ways=[], n_resamples=100)
    assert found.places[0].wrong == pytest.approx((3 * np.mean(orders) + 0) / 4)  # query 3 finds items 1 and 2
    assert found.places[0].tied == 0.75


def test_the_query_is_left_out_by_id_and_its_copy_is_not() -> None:
    queries, items = np.eye(4)[[0, 0, 1, 2]], np.eye(4)[[3, 2]]
    found = mixed_gallery(
        queries, items, [0, 0, 1, 2], [3, 2], ks=[1], ways=[], query_ids=["a", "b", "c", "d"], n_resamples=100
    )
    # a and b find each other; c ties with all five others, three of them texts; d finds its image
    assert found.places[0].wrong == pytest.approx((1 + 1 + 3 / 5 + 0) / 4)


@pytest.mark.parametrize("way", ["shift", "centring, length one"])
def test_closing_in_halves_by_hand(way: str) -> None:
    """Either kind moves by what the other half's queries and the items of the half teach."""
    rng = np.random.default_rng(3)
    items = unit_vectors(rng.normal(size=(12, 5)) + np.array([0, 0, 0, 0, 3]))
    own = np.repeat(np.arange(12), 2)
    queries = unit_vectors(items[own] + 0.5 * rng.normal(size=(24, 5)) - [0, 0, 0, 0, 4])
    found = mixed_gallery(
        queries, items, own, np.arange(12), relevance=truth(own, 12), ks=[3], ways=[way], seed=5, n_resamples=100
    ).places[1]
    fold = np.zeros(12, int)
    fold[np.random.default_rng(5).permutation(12)[:6]] = 1
    before, after = [], []
    for half in (0, 1):
        mine, asks = items[fold == half].astype(float), queries[fold[own] == half].astype(float)
        whose = np.unique(own[fold[own] == half], return_inverse=True)[1]
        before += slow(asks, mine, whose, 3)[0].tolist()
        of_items, of_queries = mine.mean(axis=0), queries[fold[own] != half].astype(float).mean(axis=0)
        if way == "shift":
            gap = of_items - of_queries
            of_items, of_queries = gap / 2, -gap / 2
        closed = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (asks - of_queries, mine - of_items)]
        after += slow(*closed, whose, 3)[0].tolist()
    assert found.wrong_before == pytest.approx(np.mean(before))
    assert found.wrong == pytest.approx(np.mean(after))
    assert found.wrong_change == pytest.approx(np.mean(after) - np.mean(before))
    assert found.wrong < found.wrong_before


def test_few_of_many_queries_ask_and_whole_clusters_of_them() -> None:
    rng = np.random.default_rng(0)
    items, own = rng.normal(size=(40, 6)), np.repeat(np.arange(40), 3)
    queries = items[own] + rng.normal(size=(120, 6))
    some = mixed_gallery(
        queries, items, own, np.arange(40), relevance=truth(own, 40), ks=[4], ways=["shift"], max_queries=31,
        n_resamples=100, seed=2,
    )  # fmt: skip
    assert [one.n for one in some.places] == [30, 30]
    asking = np.isin(own, np.random.default_rng([2, 1]).permutation(40)[:10])
    wrong, hit = slow(queries, items, own, 4)
    assert some.places[0].wrong == pytest.approx(wrong[asking].mean())
    assert some.places[0].hit == pytest.approx(hit[asking].mean())
    one_cluster = mixed_gallery(
        queries, items, own, np.arange(40), ks=[4], ways=["shift"], max_queries=3, n_resamples=100, seed=2
    )
    assert [one.n for one in one_cluster.places] == [3, 3]
    everyone = mixed_gallery(queries, items, own, np.arange(40), ks=[4], ways=[], n_resamples=100)
    assert everyone.places[0].n == 120


def test_the_result_holds_together() -> None:
    world = hubby_world(n_gallery=30, queries_per_item=2, n_hubs=0, gap=0.4, seed=0)
    given = (world.queries, world.gallery, world.query_item, np.arange(30))
    found = mixed_gallery(*given, relevance=world.relevance, ks=[1, 5], n_resamples=100)
    table = found.table()
    assert len(table) == 2 * len(found.places)
    asked, own = table.iloc[::2], table.iloc[1::2]
    assert asked["wrong modality"].to_numpy() + own["wrong modality"].to_numpy() == pytest.approx(1)
    assert list(found.flat())[:2] == ["t2i/wrong-modality@1", "t2i/wrong-modality@5"]
    assert found.plot() is not None
    assert "<table" in found._repr_html_()
    again = mixed_gallery(*given, relevance=world.relevance, ks=[1, 5], n_resamples=100)
    assert found.flat() == again.flat()
    one_image = mixed_gallery(np.eye(3)[[0, 1]], np.eye(3), [0, 0], [0, 1, 2], ks=[1], ways=[], n_resamples=100)
    assert one_image.findings()[0].verdict == "not measurable"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ks": []}, "ks must name"),
        ({"ks": [0]}, "at least 1"),
        ({"ks": [22]}, r"k = 22 of 21 items"),
        ({"ways": ["shfit"]}, "shfit"),
        ({"queries": np.ones((1, 3)), "clusters": [0]}, "two queries"),
        ({"ways": ["shift"], "ks": [12]}, "k = 12"),
        ({"queries": np.full((14, 3), np.nan)}, "NaN|finite"),
    ],
)
def test_errors_say_what_came(change: dict, message: str) -> None:
    rng = np.random.default_rng(0)
    given = {
        "queries": rng.normal(size=(14, 3)), "gallery": rng.normal(size=(8, 3)), "clusters": np.arange(14) % 8,
        "gallery_clusters": np.arange(8), "ks": [1], "ways": [],
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        mixed_gallery(**{**given, **change})


@pytest.mark.slow
def test_fires_on_a_gap_and_stays_quiet_without() -> None:
    verdicts = []
    for seed in range(20):
        for gap in (0.8, 0.0):
            world = hubby_world(n_gallery=120, queries_per_item=3, n_hubs=0, gap=gap, seed=seed)
            found = mixed_gallery(
                world.queries, world.gallery, world.query_item, np.arange(120), ways=[], n_resamples=200, seed=seed
            )
            verdicts.append(found.findings()[0].verdict)
    missed, alarms = sum(v != "look" for v in verdicts[::2]), sum(v != "ok" for v in verdicts[1::2])
    assert (missed, alarms) == (0, 0), f"missed {missed} of 20 planted, {alarms} false alarms in 20"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "t2i", "i2t"),
    [
        ("clip", (1.0, 0.889), (1.0, 0.863)),
        ("convirt", (0.994, 0.807), (1.0, 1.0)),
        ("clip_random_init", (1.0, 0.356), (1.0, 1.0)),
        ("convirt_random_init", (1.0, 0.364), (1.0, 1.0)),
    ],
)
def test_real_networks(shared: Callable[[str], Path], name: str, t2i: tuple, i2t: tuple) -> None:
    """Every network puts its own kind first; moving the centroids together does not mix them evenly (half would)."""
    pairs = np.load(shared(f"data/pairs_modality_gap/{name}.npz"))
    images, texts = unit_vectors(pairs["image"]), unit_vectors(pairs["text"])
    for sides, (raw, shifted) in (((texts, images), t2i), ((images, texts), i2t)):
        found = mixed_gallery(*sides, np.arange(500), np.arange(500), ks=[10], ways=["shift"])
        assert found.places[0].wrong == pytest.approx(raw, abs=0.005)
        assert found.places[1].wrong == pytest.approx(shifted, abs=0.005)
        assert found.findings()[0].verdict == "look"
