"""Hubness: chance is exact, random scores read zero, planted hubs are found, square-only rules are not used."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, product
from math import isnan
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, chi2, ks_2samp, skew

from workbench.diagnostics.hubness import (
    _draw_by_item,
    _draw_by_query,
    chance_occurrence,
    chance_skewness,
    hub_threshold,
    hubness,
)
from workbench.types import Neighbours


def lists(scores: np.ndarray, k: int, *, tied: np.ndarray | None = None, exact: bool = True) -> Neighbours:
    """Top-k by a full stable sort, the obvious way; ties at place k are found by comparing with the next score."""
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=1)
    if tied is None:
        full = k == scores.shape[1]
        tied = np.zeros(len(scores), bool) if full else ranked[:, k - 1] == ranked[:, k]
    return Neighbours(order[:, :k], ranked[:, :k], scores.shape[1], exact, tied)


def unit(vectors: np.ndarray) -> np.ndarray:
    wide = vectors.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def planted(n_queries: int, n_gallery: int, k: int, hubs: dict[int, float], seed: int) -> Neighbours:
    """Random scores, in which the given items come first for the given share of the queries."""
    rng = np.random.default_rng(seed)
    scores = rng.random((n_queries, n_gallery))
    for item, share in hubs.items():
        scores[rng.random(n_queries) < share, item] = 2 + rng.random()
    return lists(scores, k)


# --- chance ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [_draw_by_query, _draw_by_item])
def test_chance_has_the_enumerated_distribution(draw: Callable[..., np.ndarray]) -> None:
    """3 queries, 4 items, k = 2: all 6^3 equally likely outcomes, and a chi-square test of the draws."""
    expected: dict[tuple[int, ...], int] = {}
    for chosen in product(combinations(range(4), 2), repeat=3):
        counts = tuple(int(c) for c in np.bincount(np.ravel(chosen), minlength=4))
        expected[counts] = expected.get(counts, 0) + 1
    size = 40_000
    drawn = draw(np.random.default_rng(1), size, 3, 4, 2)
    seen, times = np.unique(drawn, axis=0, return_counts=True)
    observed = dict(zip(map(tuple, seen.tolist()), times, strict=True))
    assert set(observed) <= set(expected)
    statistic = sum((observed.get(c, 0) - size * n / 216) ** 2 / (size * n / 216) for c, n in expected.items())
    assert statistic < chi2.isf(1e-4, len(expected) - 1)


@pytest.mark.parametrize(("n_queries", "n_gallery", "k"), [(40, 15, 3), (15, 60, 5), (30, 12, 7), (9, 50, 1)])
def test_both_samplers_agree_with_random_keys(n_queries: int, n_gallery: int, k: int) -> None:
    """The plain way: every query takes the k smallest of random keys. Same marginal, same spread of the statistics."""
    rng, size = np.random.default_rng(2), 3000
    keys = rng.random((size * n_queries, n_gallery))
    picks = np.argpartition(keys, k - 1, axis=1)[:, :k] + np.repeat(np.arange(size), n_queries)[:, None] * n_gallery
    plain = np.bincount(picks.ravel(), minlength=size * n_gallery).reshape(size, n_gallery)
    for draw in (_draw_by_query, _draw_by_item):
        drawn = draw(rng, size, n_queries, n_gallery, k)
        assert (drawn.sum(axis=1) == k * n_queries).all()
        assert drawn.max() <= n_queries
        for statistic in (np.std, np.max):
            assert ks_2samp(statistic(plain, axis=1), statistic(drawn, axis=1)).pvalue > 1e-4
        shares = np.bincount(drawn[:, -1], minlength=n_queries + 1) / size
        assert np.abs(shares - binom.pmf(np.arange(n_queries + 1), n_queries, k / n_gallery)).max() < 0.04


@pytest.mark.parametrize(
    ("n_queries", "n_gallery", "k", "known"), [(2500, 500, 10, 0.14), (500, 2500, 10, 0.74), (500, 2500, 1, 2.29)]
)
def test_chance_skewness_against_simulation(n_queries: int, n_gallery: int, k: int, known: float) -> None:
    """The closed form is what the simulated chance gives, and both are within 6 % of independently measured values."""
    batches = chance_occurrence(n_queries, n_gallery, k, n_draws=1000, seed=3)
    simulated = np.mean(np.concatenate([skew(batch, axis=1) for batch in batches]))
    assert simulated == pytest.approx(chance_skewness(n_queries, n_gallery, k), rel=0.02, abs=0.01)
    assert simulated == pytest.approx(known, rel=0.06)


def test_chance_skewness_is_that_of_the_binomial() -> None:
    assert chance_skewness(70, 9, 2) == pytest.approx(float(binom.stats(70, 2 / 9, moments="s")))
    assert isnan(chance_skewness(70, 9, 9))


def test_chance_when_every_query_takes_everything() -> None:
    assert next(chance_occurrence(7, 3, 3, n_draws=2)).tolist() == [[7, 7, 7], [7, 7, 7]]


def test_chance_is_a_function_of_the_seed() -> None:
    first, again, other = (next(chance_occurrence(50, 20, 4, n_draws=9, seed=seed)) for seed in (5, 5, 6))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize(("n_queries", "n_gallery", "k"), [(300, 120, 5), (120, 300, 5), (2000, 50, 10), (50, 700, 1)])
def test_hub_threshold_by_adding_up(n_queries: int, n_gallery: int, k: int) -> None:
    """The smallest count whose summed upper tail is at most 0.01 / n_gallery; twice the mean at least."""
    terms = binom.pmf(np.arange(n_queries + 1), n_queries, k / n_gallery)
    tails = np.cumsum(terms[::-1])[::-1]
    rare = int(np.flatnonzero(tails <= 0.01 / n_gallery)[0])
    assert hub_threshold(n_queries, n_gallery, k) == max(rare, int(np.ceil(2 * k * n_queries / n_gallery)))


# --- random scores read zero ----------------------------------------------------------------------


@pytest.mark.parametrize(("n_queries", "n_gallery", "k"), [(400, 150, 10), (150, 400, 10), (300, 90, 1), (80, 600, 3)])
def test_random_scores_read_as_chance(n_queries: int, n_gallery: int, k: int) -> None:
    z = []
    for seed in range(6):
        scores = np.random.default_rng(seed).random((n_queries, n_gallery))
        result = hubness(lists(scores, k), direction="t2i", n_null=300)
        z.append([result.measure(name).z for name in ("skewness", "robin_hood")])
        assert [finding.verdict for finding in result.findings()] == ["ok", "ok"]
        assert len(result.hubs) == 0
    mean = np.mean(z, axis=0)
    assert (np.abs(mean) < 4 / np.sqrt(6)).all(), mean
    assert (np.abs(z) < 5).all()


def test_p_values_under_chance_are_uniform_and_never_zero() -> None:
    p = [
        hubness(lists(np.random.default_rng(s).random((60, 25)), 4), direction="t2i", n_null=99)
        .measure("skewness")
        .p_value
        for s in range(80)
    ]
    assert min(p) >= 0.01
    assert 0.35 < np.mean(p) < 0.65


# --- planted hubs ---------------------------------------------------------------------------------


def test_planted_hubs_are_recovered_with_their_counts() -> None:
    neighbours = planted(500, 200, 5, {17: 0.8, 3: 0.6}, seed=0)
    result = hubness(neighbours, direction="t2i", n_null=200)
    assert result.hubs.tolist() == [17, 3]
    indices, counts = result.worst(2)
    assert indices.tolist() == [17, 3]
    by_hand = [
        sum(17 in row for row in neighbours.indices.tolist()),
        sum(3 in row for row in neighbours.indices.tolist()),
    ]
    assert counts.tolist() == by_hand
    share = result.measure("hub_share")
    assert share.value == pytest.approx(sum(by_hand) / 2500)
    assert share.p_value == pytest.approx(1 / 201)
    finding = result.findings()[0]
    assert finding.verdict == "look"
    assert finding.name == "t2i/hubness"
    assert finding.interval is not None
    assert finding.interval[0] < share.value < finding.interval[1]
    assert "2 of 200 items are hubs" in finding.advice


def test_many_planted_hubs_are_a_problem_and_leave_antihubs() -> None:
    rng = np.random.default_rng(1)
    scores = rng.random((700, 100))
    scores[:, 40:] *= 1e-3  # sixty items that nobody reaches at k = 5
    scores[:, :8] += 0.6
    result = hubness(lists(scores, 5), direction="i2t", n_null=200)
    hub, anti = result.findings()
    assert (hub.verdict, anti.verdict) == ("problem", "problem")
    assert set(result.hubs) <= set(range(8))
    assert set(range(40, 100)) <= set(result.antihubs)
    assert anti.value == result.measure("antihub_share").value == len(result.antihubs) / 100


def test_antihubs_that_chance_explains_are_ok() -> None:
    """100 queries of 2,000 items at k = 1 leave out 95 % by arithmetic alone."""
    result = hubness(lists(np.random.default_rng(0).random((100, 2000)), 1), direction="t2i", n_null=200)
    measure = result.measure("antihub_share")
    assert measure.chance == pytest.approx((1 - 1 / 2000) ** 100, abs=2e-4)
    assert measure.value > 0.94
    assert result.findings()[1].verdict == "ok"


def test_a_transposed_matrix_would_be_seen() -> None:
    """One item first for all 300 queries; seen from the items as queries it is one of 40 and takes nothing."""
    rng = np.random.default_rng(4)
    scores = rng.random((300, 40))
    scores[:, 7] += 5
    right = hubness(lists(scores, 3), direction="t2i", n_null=100)
    other = hubness(lists(scores.T.copy(), 3), direction="i2t", n_null=100)
    assert right.hubs.tolist() == [7]
    assert right.occurrence[7] == 300
    assert len(right.occurrence) == 40
    assert other.findings()[0].verdict == "ok"


def test_permuting_the_gallery_permutes_the_result() -> None:
    neighbours = planted(200, 60, 4, {5: 0.9}, seed=2)
    order = np.random.default_rng(3).permutation(60)
    moved = Neighbours(order[neighbours.indices], neighbours.scores, 60, True, neighbours.kth_tied)
    before, after = (hubness(n, direction="t2i", n_null=100) for n in (neighbours, moved))
    assert (after.occurrence[order] == before.occurrence).all()
    assert after.flat() == pytest.approx(before.flat(), rel=1e-12)


def test_clusters_widen_the_interval() -> None:
    rng = np.random.default_rng(5)
    picky = np.repeat(rng.random(60) < 0.5, 5)
    scores = rng.random((300, 100))
    scores[picky, 3] += 2
    neighbours, owner = lists(scores, 2), np.repeat(np.arange(60), 5)
    alone = hubness(neighbours, direction="t2i", n_null=50).hub_interval
    together = hubness(neighbours, direction="t2i", n_null=50, clusters=owner).hub_interval
    assert together[1] - together[0] > 1.7 * (alone[1] - alone[0])


# --- not measurable, and errors -------------------------------------------------------------------


def test_ties_make_it_not_measurable() -> None:
    """A constant scorer, and duplicates at the k-th place."""
    constant = hubness(lists(np.zeros((50, 20)), 4), direction="t2i", n_null=50)
    assert [f.verdict for f in constant.findings()] == ["not measurable"] * 2
    assert constant.findings()[0].value is None
    assert constant.tied_share == 1
    rng = np.random.default_rng(6)
    gallery = np.repeat(rng.normal(size=(15, 8)), 2, axis=0)  # every item twice: an odd k always cuts a pair
    scores = rng.normal(size=(90, 8)) @ gallery.T
    finding = hubness(lists(scores, 3), direction="t2i", n_null=50).findings()[0]
    assert finding.verdict == "not measurable"
    assert "100 % of the queries have a tie at place 3" in finding.advice


@pytest.mark.parametrize(("n_tied", "verdict"), [(2, "ok"), (3, "not measurable")])
def test_one_per_cent_of_ties_is_allowed(n_tied: int, verdict: str) -> None:
    tied = np.zeros(200, bool)
    tied[:n_tied] = True
    neighbours = lists(np.random.default_rng(7).random((200, 90)), 5, tied=tied)
    assert hubness(neighbours, direction="t2i", n_null=50).findings()[0].verdict == verdict


@pytest.mark.parametrize(("n_queries", "n_gallery", "k"), [(2, 50, 2), (60, 5, 5), (60, 1, 1), (60, 9, 6)])
def test_sizes_where_no_hub_can_exist(n_queries: int, n_gallery: int, k: int) -> None:
    """Two queries; k = gallery; one item; k above half of the gallery."""
    scores = np.random.default_rng(8).random((n_queries, n_gallery))
    result = hubness(lists(scores, k), direction="t2i", n_null=50)
    assert result.findings()[0].verdict == "not measurable"
    assert "than there are queries" in result.findings()[0].advice
    assert all(np.isfinite(value) for value in result.flat().values())
    assert result.table().shape == (6, 6)


def test_errors_say_what_came() -> None:
    tied = np.zeros(2, bool)
    with pytest.raises(ValueError, match=r"hold an item twice .first: query 1"):
        hubness(Neighbours(np.array([[0, 1], [2, 2]]), np.zeros((2, 2)), 5, True, tied), direction="t2i")
    with pytest.raises(ValueError, match=r"must lie in 0..4; got -1..3"):
        hubness(Neighbours(np.array([[0, 1], [3, -1]]), np.zeros((2, 2)), 5, False, tied), direction="t2i")
    good = Neighbours(np.array([[0, 1], [3, 2]]), np.zeros((2, 2)), 5, True, tied)
    with pytest.raises(ValueError, match="between 0 and 1; got 95"):
        hubness(good, direction="t2i", level=95)
    with pytest.raises(ValueError, match="n_null must be at least 1; got 0"):
        hubness(good, direction="t2i", n_null=0)
    with pytest.raises(KeyError, match="no measure 'ginny'"):
        hubness(good, direction="t2i", n_null=5).measure("ginny")


def test_an_approximate_index_is_named() -> None:
    neighbours = lists(np.random.default_rng(9).random((200, 90)), 5, exact=False)
    assert "approximate index" in hubness(neighbours, direction="t2i", n_null=20).findings()[0].advice


def test_result_holds_together() -> None:
    neighbours = planted(200, 80, 5, {0: 0.9}, seed=3)
    before = neighbours.indices.copy()
    first, again = (hubness(neighbours, direction="t2i", n_null=60, seed=2) for _ in range(2))
    assert first.flat() == again.flat()
    assert (neighbours.indices == before).all()
    assert first.occurrence.sum() == 5 * 200
    assert first.flat()["t2i/hub_share@5"] == first.measure("hub_share").value
    assert first.chance_items[: first.hub_threshold].sum() == pytest.approx(80, abs=0.1)
    assert "<table" in first._repr_html_()
    assert list(first.table()["value"]) == [m.value for m in first.measures]


# --- other code and real data ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "k"),
    [("random_small", 1), ("random_small", 5), ("clip_coco_t2i", 1), ("clip_coco_t2i", 5), ("clip_coco_t2i", 10)],
)
def test_against_scikit_hubness(shared: Callable[[str], Path], case: str, k: int) -> None:
    """Counts, skewness, Robin Hood and anti-hub share agree with scikit-hubness wherever no tie decides the list.

    They differ, and are not compared, in the hubs: its rule is count >= 2 k and it divides by the gallery size, which
    is right for square data only (see the next test).
    """
    golden = np.load(shared(f"golden/hubness_skhubness__{case}.npz"))
    inputs = np.load(shared(f"golden/inputs__{case}.npz"))
    result = hubness(lists(unit(inputs["Q"]) @ unit(inputs["G"]).T, k), direction="t2i", n_null=50)
    assert result.occurrence.tolist() == golden[f"cosine_k{k}__k_occurrence"].tolist()
    assert result.measure("skewness").value == pytest.approx(float(golden[f"cosine_k{k}__k_skewness"]), abs=1e-10)
    assert result.measure("skewness").value == pytest.approx(skew(result.occurrence), abs=1e-10)
    assert result.antihubs.tolist() == golden[f"cosine_k{k}__antihubs"].tolist()
    assert result.measure("antihub_share").value == pytest.approx(float(golden[f"cosine_k{k}__antihub_occurrence"]))
    assert result.measure("robin_hood").value == pytest.approx(float(golden[f"cosine_k{k}__robinhood"]))


def test_where_equal_items_decide_the_list_no_verdict_is_given(shared: Callable[[str], Path]) -> None:
    """Equal gallery rows: scikit-hubness counts whichever came first; here the verdict is withheld."""
    inputs = np.load(shared("golden/inputs__duplicates.npz"))
    scores = np.round(unit(inputs["Q"]) @ unit(inputs["G"]).T, 12)
    result = hubness(lists(scores, 1), direction="t2i", n_null=50)
    assert result.tied_share > 0.01
    assert result.findings()[0].verdict == "not measurable"


def test_the_hub_share_is_a_share_where_the_square_rule_is_not(shared: Callable[[str], Path]) -> None:
    """12 queries on 9 items: scikit-hubness gives a hub share of 1.22; ours stays in 0..1 and no item is a hub."""
    golden = np.load(shared("golden/hubness_skhubness__random_small.npz"))
    inputs = np.load(shared("golden/inputs__random_small.npz"))
    assert float(golden["cosine_k1__hub_occurrence"]) > 1
    result = hubness(lists(unit(inputs["Q"]) @ unit(inputs["G"]).T, 1), direction="t2i", n_null=50)
    theirs = result.occurrence[golden["cosine_k1__hubs"]].sum()
    assert theirs / result.n_gallery == pytest.approx(float(golden["cosine_k1__hub_occurrence"]))  # wrong divisor
    assert 0 <= result.measure("hub_share").value <= 1


@pytest.mark.parametrize("k", [5, 10])
def test_counts_against_hub_toolbox(shared: Callable[[str], Path], k: int) -> None:
    golden = np.load(shared("golden/hubness_hubtoolbox__clip_coco_t2i.npz"))
    vectors = golden["X"].astype(np.float64)
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    result = hubness(lists(scores, k), direction="i2i", n_null=20)
    assert (result.occurrence != golden[f"hubness_k{k}_nk"]).mean() < 0.02  # its float32 distances swap close pairs
    assert result.measure("skewness").value == pytest.approx(float(golden[f"hubness_k{k}_skew"]), abs=0.02)


@pytest.mark.parametrize(
    ("name", "verdicts"), [("clip", {"look"}), ("clip_random_init", {"problem"}), ("convirt_random_init", {"problem"})]
)
def test_trained_and_random_networks(shared: Callable[[str], Path], name: str, verdicts: set[str]) -> None:
    """500 texts on 400 images: a trained CLIP has some hubs; with random weights it is nothing but hubs."""
    pairs = np.load(shared(f"data/pairs_modality_gap/{name}.npz"))
    image, text = unit(pairs["image"][:400]), unit(pairs["text"])
    t2i = hubness(lists(text @ image.T, 10), direction="t2i", n_null=100)
    i2t = hubness(lists(image @ text.T, 10), direction="i2t", n_null=100)
    assert {t2i.findings()[0].verdict, i2t.findings()[0].verdict} == verdicts
    if name.endswith("random_init"):
        assert min(t2i.measure("skewness").z, i2t.measure("skewness").z) > 15
        assert min(t2i.measure("skewness").value, i2t.measure("skewness").value) > 2.5
        assert t2i.findings()[1].verdict == "problem"
