"""InvGC, centring, all-but-the-top, whitening, gap shift and DisSim: slow loops, official outputs, hubs, limits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from workbench.normalize import embedding
from workbench.normalize.embedding import (
    EmbeddingTransform,
    fit_all_but_the_top,
    fit_dissim_global,
    fit_dissim_local,
    fit_gap_shift,
    fit_invgc,
    fit_invgc_local,
    fit_renormalized_centering,
    fit_whitening,
)
from workbench.normalize.local import mean_centering
from workbench.types import unit_vectors

FITS: dict[str, Callable[..., EmbeddingTransform]] = {
    "invgc": fit_invgc,
    "invgc local": partial(fit_invgc_local, share=0.2),
    "centering": fit_renormalized_centering,
    "all but the top": partial(fit_all_but_the_top, n_components=2),
    "whitening": fit_whitening,
    "gap shift": fit_gap_shift,
    "dissim global": fit_dissim_global,
    "dissim local": partial(fit_dissim_local, k=4),
}
INVGC = ("invgc", "invgc local")
every_fit = pytest.mark.parametrize("name", FITS)


def world(seed: int = 0, dim: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Queries (11), gallery (9), query bank (25), gallery bank (31), of length one, float64, read-only."""
    rng = np.random.default_rng(seed)
    parts = [rng.standard_normal((n, dim)) + 0.3 for n in (11, 9, 25, 31)]
    for part in parts:
        part /= np.linalg.norm(part, axis=1, keepdims=True)
        part.flags.writeable = False
    return tuple(parts)


def repaired(fit: Callable[..., EmbeddingTransform], queries, gallery, *banks) -> np.ndarray:
    transform = fit(gallery, *banks)
    return transform(queries) @ transform.gallery.T


# Slow, obvious references: one vector at a time


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.sqrt(sum(x * x for x in vector))


def slow_invgc(queries, gallery, query_bank, gallery_bank):
    def away(item, bank):
        level = np.mean([g @ b for g in gallery for b in bank])
        return np.mean([(item @ b - level) * b for b in bank], axis=0)

    items = [unit(unit(g - away(g, gallery_bank)) + unit(g - away(g, query_bank))) for g in gallery]
    return [[q @ g for g in items] for q in queries]


def slow_invgc_local(queries, gallery, query_bank, gallery_bank):
    def away(item, bank):
        nearest = sorted(bank, key=lambda b: -(item @ b))[: int(0.2 * len(bank))]
        return np.mean([(item @ b) * b for b in nearest], axis=0)

    items = [unit(unit(g - away(g, gallery_bank)) + unit(g - away(g, query_bank))) for g in gallery]
    return [[q @ g for g in items] for q in queries]


def slow_centering(queries, gallery, query_bank, gallery_bank):
    of_queries, of_items = sum(query_bank) / len(query_bank), sum(gallery) / len(gallery)
    return [[unit(q - of_queries) @ unit(g - of_items) for g in gallery] for q in queries]


def within(gallery, query_bank):
    """Eigenvectors (columns, largest first) and eigenvalues of the mean of the two covariances."""
    covariance = (np.cov(query_bank.T, bias=True) + np.cov(gallery.T, bias=True)) / 2
    directions, variance, _ = np.linalg.svd(covariance)
    return directions, variance


def slow_all_but_the_top(queries, gallery, query_bank, gallery_bank):
    top = within(gallery, query_bank)[0][:, :2].T

    def rest(x, side):
        x = x - np.mean(side, axis=0)
        return unit(x - sum((x @ u) * u for u in top))

    return [[rest(q, query_bank) @ rest(g, gallery) for g in gallery] for q in queries]


def slow_whitening(queries, gallery, query_bank, gallery_bank):
    directions, variance = within(gallery, query_bank)

    def white(x, side):
        x = x - np.mean(side, axis=0)
        return unit(np.array([x @ u / v**0.5 for u, v in zip(directions.T, variance, strict=True)]))

    return [[white(q, query_bank) @ white(g, gallery) for g in gallery] for q in queries]


def slow_gap_shift(queries, gallery, query_bank, gallery_bank):
    gap = np.mean(gallery, axis=0) - np.mean(query_bank, axis=0)
    return [[unit(q + gap / 2) @ unit(g - gap / 2) for g in gallery] for q in queries]


def slow_dissim_global(queries, gallery, query_bank, gallery_bank):
    c = (np.mean(gallery, axis=0) + np.mean(query_bank, axis=0)) / 2

    def dissim(x, y):
        return (x - y) @ (x - y) - (x - c) @ (x - c) - (y - c) @ (y - c)

    return [[-dissim(q, g) / 2 for g in gallery] for q in queries]


def slow_dissim_local(queries, gallery, query_bank, gallery_bank):
    def score(q, g):
        c = np.mean(sorted(query_bank, key=lambda b: (b - g) @ (b - g))[:4], axis=0)
        return -((q - g) @ (q - g) - (g - c) @ (g - c) - q @ q) / 2

    return [[score(q, g) for g in gallery] for q in queries]


SLOW = {
    "invgc": slow_invgc,
    "invgc local": slow_invgc_local,
    "centering": slow_centering,
    "all but the top": slow_all_but_the_top,
    "whitening": slow_whitening,
    "gap shift": slow_gap_shift,
    "dissim global": slow_dissim_global,
    "dissim local": slow_dissim_local,
}


@every_fit
def test_equals_a_slow_loop_over_vectors(name: str) -> None:
    np.testing.assert_allclose(repaired(FITS[name], *world()), SLOW[name](*world()), rtol=0, atol=1e-12)


@every_fit
def test_vectors_of_any_length_will_do(name: str) -> None:
    rng = np.random.default_rng(2)
    parts = [part * rng.uniform(0.5, 1.5, (len(part), 1)) for part in world()]
    np.testing.assert_allclose(repaired(FITS[name], *parts), SLOW[name](*parts), rtol=0, atol=1e-12)


# Contract of all


@every_fit
def test_float64_results_and_untouched_inputs(name: str) -> None:
    parts = world()
    before = [part.copy() for part in parts]
    transform = FITS[name](*parts[1:])
    changed = transform(parts[0])
    assert transform.gallery.dtype == changed.dtype == np.float64
    assert transform.gallery.shape[1] == changed.shape[1]
    assert transform(parts[0][:0]).shape == (0, changed.shape[1])
    for part, old in zip(parts, before, strict=True):
        np.testing.assert_array_equal(part, old)
    with pytest.raises(AttributeError):
        transform.unit = False


@every_fit
def test_float32_vectors_will_do(name: str) -> None:
    narrow = [part.astype(np.float32) for part in world()]
    wide = [part.astype(np.float64) for part in narrow]
    np.testing.assert_allclose(repaired(FITS[name], *narrow), repaired(FITS[name], *wide), rtol=0, atol=1e-12)


@every_fit
def test_permuting_gallery_queries_and_banks(name: str) -> None:
    rng = np.random.default_rng(3)
    parts = world()
    orders = [rng.permutation(len(part)) for part in parts]
    found = repaired(FITS[name], *(part[order] for part, order in zip(parts, orders, strict=True)))
    wanted = repaired(FITS[name], *parts)[orders[0]][:, orders[1]]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


@every_fit
def test_blocks_of_rows_do_not_show(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = repaired(FITS[name], *world())
    monkeypatch.setattr(embedding, "_NUMBERS", 60)
    np.testing.assert_allclose(repaired(FITS[name], *world()), wanted, rtol=0, atol=1e-12)


@every_fit
def test_equal_items_get_exactly_equal_vectors(name: str) -> None:
    """Wherever they stand: a matrix product of many rows gives equal ones other last bits now and then."""
    rng = np.random.default_rng(4)
    gallery = unit_vectors(rng.standard_normal((203, 37))).astype(np.float64)
    twins = [0, 3, 77, 101, 202]
    gallery[twins] = gallery[0]
    banks = [unit_vectors(rng.standard_normal((n, 37))).astype(np.float64) for n in (60, 50)]
    found = FITS[name](gallery, *banks).gallery
    np.testing.assert_array_equal(found[twins], found[[0] * 5])


def test_the_change_of_a_row_is_made_once() -> None:
    """Here equal rows would get other results, as from a matrix product that treats the last rows of a block apart."""
    rows = np.array([[0.0, 2.0], [1.0, 2.0], [-0.0, 2.0], [1.0, 2.0], [0.0, 2.0]])
    found = embedding._rowwise(rows, lambda distinct: distinct + np.arange(len(distinct))[:, None])
    np.testing.assert_array_equal(found[[0, 1]], found[[2, 3]])
    np.testing.assert_array_equal(found[0], found[4])
    assert sorted(found[:2, 0] - rows[:2, 0]) == [0, 1]


@every_fit
def test_one_gallery_item(name: str) -> None:
    queries, gallery, *banks = world()
    found = repaired(FITS[name], queries, gallery[:1], *banks)
    assert found.shape == (11, 1)
    assert np.isfinite(found).all()


@every_fit
def test_equal_vectors_everywhere_stay_finite_and_tied(name: str) -> None:
    """A gallery, banks and queries of one vector: nothing is left at the centre, and nothing must become noise."""
    same = unit_vectors(np.full((1, 6), 0.3)).astype(np.float64)
    fit = FITS[name]
    if name == "whitening":
        with pytest.raises(ValueError, match="exceeds the 0 directions"):
            fit(*(np.tile(same, (n, 1)) for n in (9, 25, 31)))
        return
    found = repaired(fit, *(np.tile(same, (n, 1)) for n in (11, 9, 25, 31)))
    assert np.isfinite(found).all()
    assert (found == found[:, :1]).all()


@pytest.mark.parametrize("name", ["centering", "all but the top"])
def test_vectors_at_the_centre_get_no_direction_from_rounding(name: str) -> None:
    same = np.tile([[0.1, 0.7, -0.3, 0.2, 0.2, 0.9]], (10, 1))
    assert (same.sum(axis=0) / 10 != same[0]).any(), "the mean of equal rows is not quite the row"
    queries, _, *banks = world()
    np.testing.assert_array_equal(FITS[name](same, *banks).gallery, 0)
    assert not repaired(FITS[name], queries, same, *banks).any()


@every_fit
def test_errors_name_what_is_missing_or_wrong(name: str) -> None:
    queries, gallery, query_bank, gallery_bank = world()
    fit = FITS[name]
    with pytest.raises(ValueError, match=r"needs a query bank, .*got None"):
        fit(gallery, None, gallery_bank)
    if name in INVGC:
        with pytest.raises(ValueError, match=r"InvGC needs a gallery bank, .*got None"):
            fit(gallery, query_bank, None)
    else:
        fit(gallery, query_bank, None)
    with pytest.raises(ValueError, match=r"query bank must be vectors \(n, 6\), as the gallery's; got \(25, 5\)"):
        fit(gallery, query_bank[:, 1:], gallery_bank)
    with pytest.raises(ValueError, match=r"query bank must be vectors \(n, 6\), as the gallery's; got \(0, 6\)"):
        fit(gallery, query_bank[:0], gallery_bank)
    with pytest.raises(ValueError, match=r"gallery must be vectors .* got \(0, 6\)"):
        fit(gallery[:0], query_bank, gallery_bank)
    with pytest.raises(ValueError, match="gallery hold NaN"):
        fit(np.where(gallery == gallery[2, 2], np.nan, gallery), query_bank, gallery_bank)
    with pytest.raises(ValueError, match="query bank holds NaN"):
        fit(gallery, np.where(query_bank == query_bank[2, 2], np.inf, query_bank), gallery_bank)
    with pytest.raises(ValueError, match="queries have 5 dimensions, the repair was fitted to vectors of 6"):
        fit(gallery, query_bank, gallery_bank)(queries[:, 1:])


def test_parameters_out_of_range_are_errors() -> None:
    _, gallery, query_bank, gallery_bank = world()
    banks = (gallery, query_bank, gallery_bank)
    for call, message in (
        (lambda: fit_dissim_local(*banks, k=26), "k = 26 exceeds the 25 bank queries; use k <= 25"),
        (lambda: fit_dissim_local(*banks, k=0), "whole number"),
        (lambda: fit_dissim_global(*banks, share=1.5), "share must be between 0 and 1"),
        (lambda: fit_invgc_local(*banks, share=0.0), "share must be above 0"),
        (lambda: fit_invgc_local(*banks, share=0.03), "share = 0.03 of 31 bank rows is less than one"),
        (lambda: fit_invgc(*banks, rate_query=-1.0), "rates must be numbers of at least 0"),
        (lambda: fit_invgc(*banks, rate_gallery=np.nan), "rates must be numbers of at least 0"),
        (lambda: fit_all_but_the_top(*banks, n_components=6), "leaves nothing of 6 dimensions"),
        (lambda: fit_whitening(*banks, n_components=7), "n_components = 7 exceeds the 6 directions"),
        (
            lambda: fit_whitening(gallery[:2], query_bank[:2], n_components=3),
            "n_components = 3 exceeds the 2 directions",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()


# What the formulas promise


def test_zero_parameters_change_nothing() -> None:
    queries, gallery, *banks = world()
    raw = queries @ gallery.T
    for fit in (
        partial(fit_invgc, rate_gallery=0.0, rate_query=0.0),
        partial(fit_invgc_local, rate_gallery=0.0, rate_query=0.0),
        partial(fit_gap_shift, amount=0.0),
    ):
        np.testing.assert_allclose(repaired(fit, queries, gallery, *banks), raw, rtol=0, atol=1e-12)


def test_half_a_shift_closes_the_gap_before_lengths() -> None:
    _, gallery, query_bank, _ = world()
    transform = fit_gap_shift(gallery, query_bank, amount=0.5)
    gap = gallery.mean(axis=0) - query_bank.mean(axis=0)
    np.testing.assert_allclose(transform.center, -gap / 2, rtol=0, atol=1e-15)
    apart = (transform.gallery.mean(axis=0) - transform(query_bank).mean(axis=0)) @ gap
    assert abs(apart) < 0.2 * gap @ gap


def test_whitened_sides_vary_alike_in_all_directions() -> None:
    _, gallery, query_bank, _ = world()
    matrix = fit_whitening(gallery, query_bank, n_components=4).matrix
    assert matrix is not None
    covariance = (np.cov(query_bank.T, bias=True) + np.cov(gallery.T, bias=True)) / 2
    np.testing.assert_allclose(matrix.T @ covariance @ matrix, np.eye(4), rtol=0, atol=1e-12)
    variance = 1 / (matrix**2).sum(axis=0)
    np.testing.assert_allclose(variance, np.linalg.eigvalsh(covariance)[::-1][:4], rtol=1e-10)


def test_global_dissim_about_the_queries_orders_as_mean_centering() -> None:
    queries, gallery, query_bank, _ = world()
    bias = mean_centering(query_bank @ gallery.T)
    found = repaired(partial(fit_dissim_global, share=1.0), queries, gallery, query_bank)
    np.testing.assert_array_equal(np.argsort(-found), np.argsort(-(queries @ gallery.T - bias)))


def test_ties_for_the_last_edge_all_count() -> None:
    """Two equal bank rows at the last place: which comes first must not matter."""
    bank = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    item = np.array([[0.8, 0.6]])
    found = fit_invgc_local(item, bank, bank, share=1 / 3)
    np.testing.assert_allclose(found.gallery, [[0.0, 1.0]], rtol=0, atol=1e-15)


def test_scores_that_differ_by_rounding_are_ties() -> None:
    """An item in the middle of 37 bank rows (one row, turned on) is drawn to none, in whatever order a product sums."""
    row = np.random.default_rng(0).standard_normal(37)
    bank = np.stack([np.roll(row, i) for i in range(37)])
    found = fit_invgc_local(np.full((1, 37), 0.3), bank, bank, share=1 / 37)
    np.testing.assert_allclose(found.gallery, found.gallery[:, [0] * 37], rtol=0, atol=1e-12)


def test_a_share_is_not_cut_short_by_its_binary_form() -> None:
    """0.29 * 100 is 28.999999999999996 in float64; 29 edges are meant."""
    rng = np.random.default_rng(5)
    item, bank = unit_vectors(rng.standard_normal((1, 6))).astype(float), rng.standard_normal((100, 6))
    found = [fit_invgc_local(item, bank, bank, share=share).gallery for share in (0.28, 0.29, 0.295, 0.3)]
    np.testing.assert_array_equal(found[1], found[2])
    assert (found[0] != found[1]).any()
    assert (found[2] != found[3]).any()


# The official code: InvGC


@pytest.fixture(params=["random_small", "duplicates", "clip_coco_t2i"])
def official(request: pytest.FixtureRequest, shared: Callable[[str], Path]) -> tuple[list[np.ndarray], dict]:
    """([queries, gallery, query bank, gallery bank], official scores by key)."""
    with np.load(shared(f"golden/inputs__{request.param}.npz")) as inputs:
        parts = [inputs[name] for name in ("Q", "G", "BQ", "BG")]
    with np.load(shared(f"golden/norm_invgc__{request.param}.npz")) as golden:
        return parts, {name: golden[name] for name in golden.files}


def rates_of(key: str) -> tuple[float, float, float | None]:
    """'invgc_rg1.5_rq1.0_local0.05' -> (1.5, 1.0, 0.05)"""
    _, of_gallery, of_queries, graph = key.split("_")
    share = float(graph.removeprefix("local")) if graph != "full" else None
    return float(of_gallery[2:]), float(of_queries[2:]), share


def invgc_of(key: str) -> Callable[..., EmbeddingTransform]:
    of_gallery, of_queries, share = rates_of(key)
    rates = {"rate_gallery": of_gallery, "rate_query": of_queries}
    return partial(fit_invgc, **rates) if share is None else partial(fit_invgc_local, **rates, share=share)


def test_invgc_equals_official(official: tuple[list[np.ndarray], dict]) -> None:
    parts, golden = official
    assert len(golden) >= 3
    for key, wanted in golden.items():
        np.testing.assert_allclose(repaired(invgc_of(key), *parts), wanted, rtol=0, atol=1e-5, err_msg=key)


def test_official_invgc_takes_the_mean_off_the_full_graph_only(official: tuple[list[np.ndarray], dict]) -> None:
    """A local graph that keeps every edge is not the full graph: its similarities are taken as they are."""
    parts, golden = official
    every_edge = repaired(partial(fit_invgc_local, share=1.0), *parts)
    assert np.abs(every_edge - golden["invgc_rg1_rq1_full"]).max() > 1e-3


def test_official_full_invgc_of_an_item_depends_on_the_other_items(official: tuple[list[np.ndarray], dict]) -> None:
    """The mean that is taken off is that of all items: half a gallery gives its items other vectors."""
    parts, golden = official
    queries, gallery, *banks = parts
    half = len(gallery) // 2
    for key, wanted in golden.items():
        apart = np.abs(repaired(invgc_of(key), queries, gallery[:half], *banks) - wanted[:, :half]).max()
        assert apart < 1e-5 if "local" in key else apart > 1e-5, key


def test_official_invgc_leaves_queries_alone(official: tuple[list[np.ndarray], dict]) -> None:
    """rate_query is not about the queries: it weighs the query bank in the change of the items."""
    parts, golden = official
    queries, gallery, *banks = parts
    transform = fit_invgc(gallery, *banks)
    np.testing.assert_array_equal(transform(queries), queries)
    changed = queries + 0.1 * np.roll(queries, 1, axis=0)
    scores = golden["invgc_rg1_rq1_full"] + 0.1 * np.roll(golden["invgc_rg1_rq1_full"], 1, axis=0)
    np.testing.assert_allclose(transform(changed) @ transform.gallery.T, scores, rtol=0, atol=1e-5)


# The official code for one set of vectors (hub-toolbox)


@pytest.fixture(params=["random_small", "clip_coco_t2i"])
def square(request: pytest.FixtureRequest, shared: Callable[[str], Path]) -> tuple[np.ndarray, dict, float]:
    """(vectors, official results, tolerance: the second case is float32)."""
    with np.load(shared(f"golden/hubness_hubtoolbox__{request.param}.npz")) as golden:
        found = {name: golden[name].astype(np.float64) for name in golden.files}
    return found["X"], found, 1e-9 if request.param == "random_small" else 1e-4


def test_centering_equals_official_but_for_the_length(square: tuple[np.ndarray, dict, float]) -> None:
    """Official centring keeps lengths as they come; global DisSim's vectors are the same."""
    vectors, golden, tolerance = square
    wanted = golden["centering"]
    lengths = np.linalg.norm(wanted, axis=1, keepdims=True)
    assert np.ptp(lengths) > 0.1
    transform = fit_renormalized_centering(vectors, vectors)
    np.testing.assert_allclose(transform.gallery, wanted / lengths, rtol=0, atol=tolerance)
    np.testing.assert_allclose(transform(vectors), wanted / lengths, rtol=0, atol=tolerance)
    np.testing.assert_allclose(fit_dissim_global(vectors, None, share=0.0).gallery, wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_global_dissim_equals_official(square: tuple[np.ndarray, dict, float], share: float) -> None:
    """With one kind of vectors all centroids are one."""
    vectors, golden, tolerance = square
    found = -2 * repaired(partial(fit_dissim_global, share=share), vectors, vectors, vectors)
    np.testing.assert_allclose(found, golden["dis_sim_global"], rtol=0, atol=tolerance)


@pytest.mark.parametrize("k", [5, 10])
def test_local_dissim_equals_official_without_the_object_itself(square: tuple[np.ndarray, dict, float], k: int) -> None:
    """Official neighbours leave the object itself out, and its diagonal is minus infinity. The query's own term, which
    we leave out as it is the same for a whole gallery, is that of the object as an item."""
    vectors, golden, tolerance = square
    n = len(vectors)
    items = [fit_dissim_local(vectors[[i]], np.delete(vectors, i, axis=0), k=k).gallery[0] for i in range(n)]
    gallery = np.array(items)
    own = 2 * gallery[:, -1]
    found = -2 * np.column_stack([vectors, np.ones(n)]) @ gallery.T - own[:, None]
    wanted, off = golden[f"dis_sim_local_k{k}"], ~np.eye(n, dtype=bool)
    np.testing.assert_allclose(found[off], wanted[off], rtol=0, atol=tolerance)
    np.testing.assert_array_equal(np.diag(wanted), -np.inf)
    with_itself = -2 * repaired(partial(fit_dissim_local, k=k), vectors, vectors, vectors)
    assert np.abs((with_itself - own[:, None] - wanted)[off]).max() > 0.1


# Planted hubs


def hubby_world(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """300 queries, 90 items, banks of 400 and 250; item 7 has the queries' common direction added."""
    rng = np.random.default_rng(seed)
    common = unit_vectors(rng.standard_normal((1, 24)))
    items = unit_vectors(rng.standard_normal((340, 24)))
    gallery, gallery_bank = items[:90], items[90:]
    target = np.concatenate([rng.integers(0, 90, 300), rng.integers(90, 340, 400)])
    queries = unit_vectors(items[target] + 0.7 * rng.standard_normal((700, 24)) / np.sqrt(24) + 0.6 * common)
    gallery[7] = unit_vectors(gallery[[7]] + 1.5 * common)[0]
    return queries[:300], gallery, queries[300:], gallery_bank


def occurrences(scores: np.ndarray, item: int = 7, k: int = 5) -> int:
    """In how many top-k lists the item is."""
    return int((np.argsort(-scores, axis=1)[:, :k] == item).sum())


@pytest.mark.parametrize(
    ("name", "fit"),
    [
        ("invgc", partial(fit_invgc, rate_gallery=4.0, rate_query=6.0)),
        ("invgc local", partial(fit_invgc_local, rate_gallery=4.0, rate_query=4.0)),
        ("centering", fit_renormalized_centering),
        ("all but the top", partial(fit_all_but_the_top, n_components=1)),
        ("whitening", fit_whitening),
        ("dissim global", fit_dissim_global),
        ("dissim local", fit_dissim_local),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_a_planted_hub_is_retrieved_less(name: str, fit: Callable[..., EmbeddingTransform], seed: int) -> None:
    parts = hubby_world(seed)
    before = occurrences(parts[0] @ parts[1].T)
    assert before > 4 * (5 * 300 / 90)
    assert occurrences(repaired(fit, *parts)) < 0.75 * before, name


@pytest.mark.parametrize("fit", [fit_invgc, fit_invgc_local])
def test_invgc_with_rates_of_one_leaves_a_planted_hub_where_it_is(fit: Callable[..., EmbeddingTransform]) -> None:
    for seed in range(5):
        parts = hubby_world(seed)
        assert abs(occurrences(repaired(fit, *parts)) / occurrences(parts[0] @ parts[1].T) - 1) < 0.1
