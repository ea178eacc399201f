"""The repairs against the published formulas, the official code's outputs, and worlds with nothing to repair."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from workbench.normalize import (
    METHODS,
    Bank,
    Repair,
    cross_fit_folds,
    csls,
    inverted_softmax,
    mean_centering,
    nnn,
    tied_for_equal_items,
)
from workbench.search import LogSumExp, RankPositives, TopK, TopKMean, scan
from workbench.types import Ranks, Relevance, unit_vectors

CASES = ("random_small", "duplicates", "clip_coco_t2i")


def scores_of(shared: Callable[[str], Path], case: str) -> tuple[np.ndarray, np.ndarray]:
    """(test scores, bank scores), both against the gallery."""
    with np.load(shared(f"golden/inputs__{case}.npz")) as inputs:
        queries, gallery, bank = (inputs[name].astype(np.float64) for name in ("Q", "G", "BQ"))
    return queries @ gallery.T, bank @ gallery.T


DENSE: dict[str, Callable[..., np.ndarray]] = {
    "inverted softmax": inverted_softmax, "csls": csls, "nnn": nnn, "mean centering": mean_centering,
}  # fmt: skip
"""The biases that are a formula on a matrix of bank scores."""


def streamed(name: str, bank, gallery, **options) -> np.ndarray:
    """The bias of every gallery item from one pass over the bank, without its score matrix."""
    parameters = options.pop("parameters", {})
    return Repair(name, **parameters).fit(gallery, Bank(bank, "inductive"), **options).bias


def without_pairs(name: str, bank, gallery, exclude: Relevance) -> np.ndarray:
    """As streamed, for a bank from which some pairs are left out."""
    consumer = (
        LogSumExp(20.0, of="gallery", exclude=exclude.T)
        if name == "inverted softmax"
        else TopKMean(10, of="gallery", exclude=exclude.T)
    )
    weight = 0.5 if name == "csls" else 1.0
    return weight * scan(bank, gallery, [consumer])[0]


BIASES = [name for name, method in METHODS.items() if method.kind == "bias"]


def fitted(name: str, bank, gallery, **options) -> Repair:
    """A repair with a bank of queries, and one of other items for those that need it."""
    others = unit_vectors(np.random.default_rng(99).standard_normal((25, gallery.shape[1])))
    return Repair(name).fit(gallery, Bank(bank, "inductive"), Bank(others, "inductive"), **options)


def hit_at_1(ranks: Ranks) -> float:
    """Share of queries whose one positive comes first, ties broken at random."""
    assert (ranks.positives_per_query == 1).all()
    return float(np.mean((ranks.better == 0) / (ranks.tied + 1)))


# Published formulas and official code


@pytest.mark.parametrize("beta", [1.99, 20.0, 80.0])
def test_inverted_softmax_orders_as_the_published_ratio(beta: float) -> None:
    rng = np.random.default_rng(0)
    scores, bank = rng.uniform(-1, 1, (11, 17)), rng.uniform(-1, 1, (23, 17))
    published = np.exp(beta * scores) / np.exp(beta * bank).sum(axis=0)
    np.testing.assert_array_equal(np.argsort(-published), np.argsort(-(scores - inverted_softmax(bank, beta=beta))))


@pytest.mark.parametrize("k", [1, 3, 10])
def test_csls_orders_as_the_published_score(k: int) -> None:
    rng = np.random.default_rng(1)
    scores, bank = rng.uniform(-1, 1, (11, 17)), rng.uniform(-1, 1, (23, 17))
    r_query = np.sort(scores, axis=1)[:, -k:].mean(axis=1)
    r_item = np.array([np.mean(sorted(column, reverse=True)[:k]) for column in bank.T])
    published = 2 * scores - r_query[:, None] - r_item
    np.testing.assert_array_equal(np.argsort(-published), np.argsort(-(scores - csls(bank, k=k))))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("key", "beta"), [("20", 20.0), ("14.29", 1 / 0.07), ("1.99", 1.99)])
def test_inverted_softmax_equals_dbnorm(shared: Callable[[str], Path], case: str, key: str, beta: float) -> None:
    """The official function returns exponentials; the 100-item case was computed in float32."""
    scores, bank = scores_of(shared, case)
    with np.load(shared(f"golden/norm_is_dbnorm__{case}.npz")) as golden:
        official = np.log(golden[f"is_beta{key}"]) / beta
    tolerance = 1e-6 if case == "clip_coco_t2i" else 1e-14
    np.testing.assert_allclose(scores - inverted_softmax(bank, beta=beta), official, rtol=0, atol=tolerance)


@pytest.mark.parametrize("case", CASES)
def test_inverted_softmax_equals_qbnorm_where_it_is_active(shared: Callable[[str], Path], case: str) -> None:
    scores, bank = scores_of(shared, case)
    with np.load(shared(f"golden/norm_qbnorm__{case}.npz")) as golden:
        active, official = golden["active_beta50_k1"].astype(bool), golden["qbnorm_beta50_k1"]
    assert active.any()
    ours = (scores - inverted_softmax(bank, beta=50.0))[active]
    np.testing.assert_allclose(ours, np.log(official[active]) / 50, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tau", [0.01, 0.02, 0.05])
def test_inverted_softmax_equals_dbsn(shared: Callable[[str], Path], case: str, tau: float) -> None:
    _, bank = scores_of(shared, case)
    with np.load(shared(f"golden/norm_dbsn__{case}.npz")) as golden:
        official = golden[f"is_thub_tau{tau}"]
    np.testing.assert_allclose(inverted_softmax(bank, beta=1 / tau), official, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("k", [1, 3, 10])
def test_csls_equals_muse(shared: Callable[[str], Path], case: str, k: int) -> None:
    """Its neighbours of an item are sought among the test queries."""
    scores, _ = scores_of(shared, case)
    with np.load(shared(f"golden/norm_csls__{case}.npz")) as golden:
        if f"csls_k{k}_rG" not in golden:
            assert k == 10, "only the large case has ten neighbours"
            return
        r_item, r_query, official = (golden[f"csls_k{k}_{name}"] for name in ("rG", "rQ", "scores"))
    np.testing.assert_allclose(2 * csls(scores, k=k), r_item, atol=1e-6)
    np.testing.assert_allclose(2 * (scores - csls(scores, k=k)) - r_query[:, None], official, atol=1e-6)


# The streamed form, for every method


@pytest.mark.parametrize("name", DENSE)
def test_streamed_and_dense_forms_agree(name: str) -> None:
    rng = np.random.default_rng(3)
    bank, gallery = (unit_vectors(rng.standard_normal((n, 12))) for n in (40, 31))
    dense = DENSE[name](bank.astype(np.float64) @ gallery.T.astype(np.float64))
    np.testing.assert_allclose(streamed(name, bank, gallery), dense, rtol=0, atol=2e-10)
    np.testing.assert_array_equal(dense.shape, (31,))


@pytest.mark.parametrize("name", ["inverted softmax", "csls"])
def test_pairs_left_out_agree_too(name: str) -> None:
    rng = np.random.default_rng(4)
    bank, gallery = (unit_vectors(rng.standard_normal((n, 12))) for n in (40, 31))
    own = Relevance.from_pairs(np.arange(40), rng.integers(0, 31, 40), n_queries=40, n_gallery=31)
    scores = bank.astype(np.float64) @ gallery.T.astype(np.float64)
    scores[own.queries, own.items] = -np.inf
    np.testing.assert_allclose(without_pairs(name, bank, gallery, own), DENSE[name](scores), rtol=0, atol=2e-10)


@pytest.mark.parametrize("name", BIASES)
def test_equal_items_get_equal_biases_so_that_their_ties_stay(name: str) -> None:
    rng = np.random.default_rng(5)
    bank = unit_vectors(rng.standard_normal((300, 24)))
    gallery = unit_vectors(rng.standard_normal((50, 24)))[rng.integers(0, 50, 211)]
    for memory in (10 * 2**20, 256 * 2**20):
        bias = fitted(name, bank, gallery, memory=memory).bias
        assert len(np.unique(bias)) == len(np.unique(gallery, axis=0))


def test_the_last_bits_of_a_sum_do_not_reach_the_bias_of_equal_items() -> None:
    gallery = np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [5.0, 6.0]])
    noisy = np.array([0.3, 0.3 + 1e-15, 0.1 + 0.2, 0.3 + 2e-15, 0.3 * (1 + 1e-15), 0.3 + 1e-8])
    for scale in (1.0, 1e6, 1e-6):
        bias = tied_for_equal_items(scale * noisy, gallery)
        np.testing.assert_array_equal(bias, scale * noisy[[0, 1, 0, 1, 0, 5]])


@pytest.mark.parametrize("name", DENSE)
def test_a_formula_does_not_depend_on_the_order_of_items_and_leaves_its_input_alone(name: str) -> None:
    rng = np.random.default_rng(6)
    bank, order = rng.uniform(-1, 1, (19, 13)), rng.permutation(13)
    bank.flags.writeable = False
    option = {"k": 5} if name == "nnn" else {}
    np.testing.assert_allclose(DENSE[name](bank, **option)[order], DENSE[name](bank[:, order], **option), rtol=1e-14)
    np.testing.assert_allclose(DENSE[name](bank, **option), DENSE[name](bank[::-1], **option), rtol=1e-13)


@pytest.mark.parametrize("name", BIASES)
def test_a_constant_bank_changes_no_ranking(name: str) -> None:
    gallery = np.tile(unit_vectors(np.ones((1, 8))), (7, 1))
    bank = unit_vectors(np.random.default_rng(2).standard_normal((20, 8)))
    assert len(np.unique(fitted(name, bank, gallery).bias)) == 1


@pytest.mark.parametrize("name", BIASES)
def test_a_planted_hub_is_marked_down(name: str) -> None:
    """One item sits in the middle of the queries; its bias is the largest and it leaves the lists."""
    rng = np.random.default_rng(7)
    centre = np.ones(32)
    gallery = unit_vectors(centre + 2.0 * rng.standard_normal((60, 32)))
    gallery[0] = unit_vectors(centre[None])[0]
    bank, queries = (unit_vectors(centre + 2.0 * rng.standard_normal((n, 32))) for n in (200, 90))
    bias = fitted(name, bank, gallery).bias
    assert bias.argmax() == 0 or name == "dualis"  # which asks a bank of unrelated items as well
    raw, repaired = scan(queries, gallery, [TopK(1), TopK(1, bias=bias)])
    assert (raw.indices == 0).sum() > 3 * (repaired.indices == 0).sum()


# Errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: inverted_softmax(np.ones((3, 4)), beta=0), "beta must be a positive number; got 0"),
        (lambda: inverted_softmax(np.ones(3)), "n_bank, n_gallery"),
        (lambda: inverted_softmax([[np.nan]]), "hold NaN"),
        (lambda: inverted_softmax([[-np.inf, 1.0]]), "1 gallery items have all 1 bank queries left out"),
        (lambda: csls(np.ones((3, 4)), k=4), "k = 4 exceeds the 3 bank queries"),
        (lambda: csls(np.ones((3, 4)), k=0), "at least 1; got 0"),
        (lambda: tied_for_equal_items([np.nan], np.ones((1, 2))), "one finite number per gallery item"),
        (lambda: cross_fit_folds(["a", "a"], 0), "at least 2 clusters; got 1"),
        (lambda: cross_fit_folds([["a"]], 0), "one label per item"),
    ],
)
def test_errors_say_what_came(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# Cross-fit


def test_folds_are_halves_of_clusters_and_depend_on_labels_and_seed_only() -> None:
    rng = np.random.default_rng(8)
    clusters = np.array([f"image {i}" for i in rng.integers(0, 41, 200)])
    folds = cross_fit_folds(clusters, 3)
    order = rng.permutation(200)
    np.testing.assert_array_equal(cross_fit_folds(clusters[order], 3), folds[order])
    assert (cross_fit_folds(clusters, 4) != folds).any()
    sizes = [len(set(clusters[folds == fold])) for fold in (0, 1)]
    assert sizes[0] - sizes[1] in (0, 1)
    assert not set(clusters[folds == 0]) & set(clusters[folds == 1])


def look_alikes(seed: int, *, pairs: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(images, texts, image of each text) without hubs; with ``pairs`` every image has a look-alike."""
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((800, 32))
    if pairs:
        images[400:] = images[:400] + 0.6 * rng.standard_normal((400, 32))
    images = unit_vectors(images)
    text_image = np.repeat(np.arange(800), 2)
    return images, unit_vectors(images[text_image] + 0.2 * rng.standard_normal((1600, 32))), text_image


def cross_fit_gains(images: np.ndarray, texts: np.ndarray, text_image: np.ndarray, seed: int) -> dict[str, float]:
    """Points of hit@1 that inverted softmax adds, text to image, on the first 400 of 800 images drawn at random."""
    place = np.random.default_rng(seed).permutation(len(images))
    item = place[text_image]
    test, gallery = item < 400, images[np.argsort(place)][:400]
    queries, target = texts[test], item[test]
    folds = cross_fit_folds(np.arange(400), seed)
    fold = folds[target]

    def gain(rows, columns, bias, bias_row=None) -> float:
        own = pairs_of(target, rows, columns)
        raw, repaired = scan(
            queries[rows], gallery[columns], [RankPositives(own), RankPositives(own, bias=bias, bias_row=bias_row)]
        )
        return 100 * (hit_at_1(repaired) - hit_at_1(raw))

    every_query, every_item = np.arange(len(queries)), np.arange(400)
    naive, own_out, halves, halves_foreign = [], [], [], []
    for side in (0, 1):
        bank, items = np.flatnonzero(fold != side), np.flatnonzero(folds == side)
        naive.append(streamed("inverted softmax", queries[bank], gallery))
        own_out.append(without_pairs("inverted softmax", queries[bank], gallery, pairs_of(target, bank, every_item)))
        rows = np.flatnonzero(fold == side)
        halves.append(gain(rows, items, streamed("inverted softmax", queries[bank], gallery[items])))
        foreign = texts[~test][: len(bank)]
        halves_foreign.append(gain(rows, items, streamed("inverted softmax", foreign, gallery[items])))
    return {
        "naive": gain(every_query, every_item, np.array(naive), fold),
        "own out": gain(every_query, every_item, np.array(own_out), fold),
        "foreign": gain(every_query, every_item, streamed("inverted softmax", texts[~test][:400], gallery)),
        "halves": float(np.mean(halves)),
        "halves, foreign": float(np.mean(halves_foreign)),
    }


def pairs_of(target: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> Relevance:
    """The one right item of each chosen query, among the chosen items."""
    place = np.full(400, -1)
    place[columns] = np.arange(len(columns))
    here = np.flatnonzero(place[target[rows]] >= 0)
    return Relevance.from_pairs(here, place[target[rows]][here], n_queries=len(rows), n_gallery=len(columns))


@pytest.mark.parametrize("pairs", [False, True])
def test_cross_fit_by_halves_finds_what_a_foreign_bank_finds_and_whole_galleries_do_not(pairs: bool) -> None:
    """Averages of twelve draws, each with a standard error of about 0.2 points."""
    gains = [cross_fit_gains(*look_alikes(seed, pairs=pairs), seed) for seed in range(12)]
    mean = {name: float(np.mean([each[name] for each in gains])) for name in gains[0]}
    assert abs(mean["halves"] - mean["halves, foreign"]) < 0.8
    assert mean["naive"] > mean["foreign"] + 2
    if pairs:
        assert mean["own out"] < mean["foreign"] - 3
