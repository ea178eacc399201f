"""Exact search against slow loops, other libraries and planted truth, over every tiling and screening precision."""

from __future__ import annotations

import math
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import search_log_sum_exp, search_ranks, search_scores, search_top_k

from workbench.search import (
    LogSumExp,
    RankPositives,
    ScoreHistogram,
    TopK,
    TopKMean,
    compiled,
    definition,
    exact,
    k_occurrence,
    pair_scores,
    same_items,
    scan,
    tiles,
)
from workbench.search import ranks as ranks_module
from workbench.search import tile as tile_module
from workbench.search.compiled import Compiled
from workbench.search.plain import Plain
from workbench.search.restrict import Bias
from workbench.search.side import Side
from workbench.types import Relevance, unit_vectors

KINDS = (
    "random", "duplicates", "constant", "integers", "near ties", "float64", "long and short", "one item", "one query",
)  # fmt: skip


def world(kind: str, seed: int) -> tuple[np.ndarray, np.ndarray, Relevance]:
    """Two sides of different sizes and a relevance with empty rows, many positives and judged negatives."""
    rng = np.random.default_rng(seed)
    n_queries, n_gallery, dim = int(rng.integers(15, 40)), int(rng.integers(41, 70)), int(rng.integers(1, 20))
    n_queries, n_gallery = (1 if kind == "one query" else n_queries), (1 if kind == "one item" else n_gallery)
    queries, gallery = rng.standard_normal((n_queries, dim)), rng.standard_normal((n_gallery, dim))
    if kind == "duplicates":
        queries, gallery = queries[rng.integers(0, 3, n_queries)], gallery[rng.integers(0, 9, n_gallery)]
    if kind == "constant":
        queries, gallery = np.tile(queries[:1], (n_queries, 1)), np.tile(gallery[:1], (n_gallery, 1))
    if kind == "integers":
        queries, gallery = rng.integers(-2, 3, queries.shape), rng.integers(-2, 3, gallery.shape)
    if kind == "near ties":
        gallery = gallery[:1] + 1e-8 * rng.integers(-3, 4, gallery.shape)
    if kind == "long and short":
        queries, gallery = queries * 10.0 ** rng.integers(-9, 9, (n_queries, 1)), gallery * 1e6
    wide = kind in ("float64", "near ties")
    kind_of_number = np.float64 if wide else np.float32
    return queries.astype(kind_of_number), gallery.astype(kind_of_number), judged(rng, n_queries, n_gallery)


def judged(rng: np.random.Generator, n_queries: int, n_gallery: int) -> Relevance:
    """Row 0 has positives nearly everywhere, others about three; some rows have none; some pairs are judged wrong."""
    grades = rng.integers(-1, 3, (n_queries, n_gallery)) * (rng.random((n_queries, n_gallery)) < 0.1)
    grades[0, : n_gallery - n_gallery // 5] = 1
    rows, columns = np.nonzero(grades)
    return Relevance.from_pairs(rows, columns, grades[rows, columns], n_queries=n_queries, n_gallery=n_gallery)


@pytest.fixture(scope="module", autouse=True)
def ranks_in_the_screen_asked_for() -> Iterator[None]:
    """These worlds are full of positives, for which the scan would take float64 of its own accord."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks_module, "_PAIRS_PER_POSITIVE", 0)
        yield


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs are scored a handful at a time, so that a few kilobytes of memory are enough and tiles are tiny."""
    monkeypatch.setattr(definition, "CHUNK_NUMBERS", 64)


def scan_all(queries, gallery, consumers, *, tiny: bool, **options):
    """One scan, with tiles of a few pairs when ``tiny``."""
    if not tiny:
        return scan(queries, gallery, consumers, **options)
    keep = exact._state_bytes(consumers, len(queries), len(gallery)) + 32 * 64
    return scan(queries, gallery, consumers, memory=keep + 40 * 160 + 16 * 8 * queries.shape[1], **options)


@pytest.fixture(params=["plain", "compiled", "bfloat16"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> exact.Screen:
    """Each set of kernels in turn; gives the screening precision to ask for."""
    monkeypatch.setattr(exact, "_COMPILE_FROM", np.inf if request.param == "plain" else 0)
    return "bfloat16" if request.param == "bfloat16" else "float32"


def all_tiles(queries, gallery, shape, screen: exact.Screen, kernels=None):
    kernels = kernels or Plain()
    sides = Side.of(queries, "queries", kernels, screen), Side.of(gallery, "gallery", kernels, screen)
    return sides, tiles(*sides, shape=shape, screen=screen, kernels=kernels)


def same(first, second, *names: str) -> None:
    for name in names:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)


# The score of a pair


def test_the_score_is_the_dot_product_as_exact_arithmetic_has_it() -> None:
    rng = np.random.default_rng(0)
    for dim in (1, 2, 3, 7, 64, 513):
        a, b = rng.standard_normal((2, 1, dim))
        truth = sum(Fraction(x) * Fraction(y) for x, y in zip(a[0].tolist(), b[0].tolist(), strict=True))
        size = float(np.abs(a * b).sum())
        assert abs(Fraction(pair_scores(a, b, [0], [0])[0]) - truth) <= (math.ceil(math.log2(dim)) + 2) * 2**-53 * size


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dim", [1, 5, 64, 301])
def test_a_score_depends_on_nothing_but_its_two_vectors(dtype: type, dim: int, small_chunks: None) -> None:
    rng = np.random.default_rng(dim)
    queries, gallery = rng.standard_normal((7, dim)).astype(dtype), rng.standard_normal((11, dim)).astype(dtype)
    full = search_scores(queries, gallery)
    rows, columns = rng.integers(0, 7, 300), rng.integers(0, 11, 300)
    for left, right in (
        (queries, gallery),
        (np.asfortranarray(queries), np.asfortranarray(gallery)),
        (np.repeat(queries, 2, axis=0)[::2], np.repeat(gallery, 3, axis=1)[:, ::3]),
        (queries.astype(np.float64), gallery.astype(np.float64)),
    ):
        np.testing.assert_array_equal(pair_scores(left, right, rows, columns), full[rows, columns])
    np.testing.assert_array_equal(pair_scores(gallery, queries, columns, rows), full[rows, columns])
    alone = [pair_scores(queries, gallery, [row], [column])[0] for row, column in zip(rows, columns, strict=True)]
    np.testing.assert_array_equal(alone, full[rows, columns])


def test_pairs_of_different_lengths_and_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match="2 rows but 1 columns"):
        pair_scores(np.ones((2, 3)), np.ones((4, 3)), [0, 1], [0])
    with pytest.raises(ValueError, match="same dim"):
        pair_scores(np.ones((2, 3)), np.ones((4, 2)), [0], [0])


# The bound


@pytest.mark.parametrize("screen", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_screened_score_leaves_its_bound(kind: str, screen: exact.Screen) -> None:
    queries, gallery, _ = world(kind, 1)
    truth = search_scores(queries, gallery)
    with Compiled(2) as kernels:
        for tile in all_tiles(queries, gallery, (7, 9), screen, kernels)[1]:
            i, j = (part.ravel() for part in np.indices((tile.n_rows, tile.n_columns)))
            screened = kernels.values(tile.scores, i, j)
            apart = np.abs(screened - truth[tile.rows, tile.columns].ravel()) - tile.relative * np.abs(screened)
            assert (apart <= tile.error[i]).all()
            assert (apart <= tile.T.error[j]).all()
            np.testing.assert_array_equal(kernels.values(tile.T.scores, j, i), screened)


def test_bfloat16_bounds_are_no_wider_than_they_need_to_be() -> None:
    """Measured per vector, the bound stays within a factor four of the largest error that occurs."""
    rng = np.random.default_rng(0)
    queries, gallery = (unit_vectors(rng.standard_normal((n, 512))).astype(np.float32) for n in (200, 300))
    truth = search_scores(queries, gallery)
    with Compiled(1) as kernels:
        (tile,) = all_tiles(queries, gallery, (200, 300), "bfloat16", kernels)[1]
        i, j = (part.ravel() for part in np.indices(truth.shape))
        assert tile.error.max() < 0.004
        assert np.abs(kernels.values(tile.scores, i, j) - truth.ravel()).max() > 1e-4


@pytest.mark.parametrize("screen", ["float32", "float64"])
@pytest.mark.parametrize("kernels", [Plain(), Compiled(2)], ids=["plain", "compiled"])
def test_a_bias_is_in_the_bound(kernels, screen: exact.Screen) -> None:
    """Casting and subtracting a large bias costs far more than the product."""
    queries, gallery, _ = world("float64", 2)
    stack = 1000 + np.random.default_rng(0).standard_normal((2, len(gallery)))
    row = np.arange(len(queries)) % 2
    truth = search_scores(queries, gallery) - stack[row]
    bias = Bias.of(stack, row, len(queries), len(gallery))
    for tile in all_tiles(queries, gallery, (7, 9), screen, kernels)[1]:
        scores, error = bias.apply(tile)
        flat = scores.reshape(tile.n_rows, -1)[:, : tile.n_columns]
        apart = np.abs(flat - truth[tile.rows, tile.columns])
        assert (apart <= error[:, None]).all()
        assert (apart > tile.error[:, None]).any() or screen == "float64"


def test_without_the_bound_the_scan_does_not_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, gallery, relevance = world("near ties", 0)
    monkeypatch.setattr(tile_module, "error_factor", lambda dim, screen: 0.0)
    with pytest.raises(FloatingPointError, match="screen='float64'"):
        scan(queries, gallery, [RankPositives(relevance)])


@pytest.mark.parametrize(("n_positives", "screen"), [(2, "float32"), (3, "float64")])
def test_where_positives_are_many_undecided_pairs_are_avoided(
    n_positives: int, screen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks_module, "_PAIRS_PER_POSITIVE", 500)
    relevance = Relevance.from_pairs(np.arange(n_positives), np.arange(n_positives), n_queries=11, n_gallery=100)
    assert RankPositives(relevance).screen == screen


@pytest.mark.parametrize("k", [1, 5])
def test_rows_that_are_full_when_a_tile_begins_are_read_to_its_end(k: int, engine: exact.Screen) -> None:
    """Sorted points on a circle: every tile fills the lists of neighbouring rows, one after the other."""
    angles = np.sort(np.random.default_rng(0).uniform(0, 2 * np.pi, 300))
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    ids = [f"{place}" for place in range(300)]
    (found,) = scan(circle, circle, [TopK(k, exclude=same_items(ids, ids))], screen=engine, memory=9 * 2**20)
    scores = search_scores(circle, circle)
    np.fill_diagonal(scores, -np.inf)
    np.testing.assert_array_equal(found.scores, np.sort(scores, axis=1)[:, ::-1][:, :k])


def test_screened_scores_alone_would_give_other_ranks() -> None:
    """The world is hard enough: ranks counted on the float32 product differ from the exact ones."""
    queries, gallery, relevance = world("near ties", 0)
    careless, _ = search_ranks((queries.astype(np.float32) @ gallery.astype(np.float32).T), relevance)
    assert (careless != scan(queries, gallery, [RankPositives(relevance)])[0].better).any()


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_ties_closer_than_float32_can_see_are_ordered_exactly(offset: float) -> None:
    """Many more look-alikes than places, and a bias whose casting alone blurs more than they differ."""
    rng = np.random.default_rng(11)
    queries = rng.standard_normal((9, 12))
    gallery = rng.standard_normal((1, 12)) + 1e-8 * rng.standard_normal((400, 12))
    bias = offset + 1e-8 * rng.standard_normal(400)
    relevance = Relevance.from_pairs(np.arange(9), rng.integers(0, 400, 9), n_queries=9, n_gallery=400)
    nearest, ranks = scan(queries, gallery, [TopK(3, bias=bias), RankPositives(relevance, bias=bias)])
    scores = search_scores(queries, gallery) - bias
    np.testing.assert_array_equal(nearest.indices, search_top_k(scores, 3)[0])
    np.testing.assert_array_equal(ranks.better, search_ranks(scores, relevance)[0])


# Consumers against loops


@pytest.mark.parametrize("tiny", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_consumer_equals_the_slow_loops(kind: str, engine: exact.Screen, tiny: bool, small_chunks: None) -> None:
    for seed, screen in ((0, engine), (1, engine), (2, "float64")):
        queries, gallery, relevance = world(kind, seed)
        check_against_loops(queries, gallery, relevance, seed, tiny=tiny, screen=screen)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("one")])
def test_galleries_of_many_blocks_equal_the_slow_loops(kind: str, engine: exact.Screen) -> None:
    queries, gallery, _ = world(kind, 3)
    rng = np.random.default_rng(8)
    queries, gallery = (side[rng.integers(0, len(side), n)] for side, n in ((queries, 143), (gallery, 430)))
    if kind in ("random", "long and short", "float64"):
        queries, gallery = (side * rng.random((len(side), 1)).astype(side.dtype) for side in (queries, gallery))
    check_against_loops(queries, gallery, judged(rng, 143, 430), 3, tiny=False, screen=engine)


@given(seed=st.integers(0, 10**6), kind=st.sampled_from(KINDS), tiny=st.booleans(), wide=st.booleans())
@settings(max_examples=25, deadline=None)
def test_random_worlds(seed: int, kind: str, tiny: bool, wide: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(definition, "CHUNK_NUMBERS", 64)
        queries, gallery, relevance = world(kind, seed)
        check_against_loops(queries, gallery, relevance, seed, tiny=tiny, screen="float64" if wide else "float32")


def check_against_loops(queries, gallery, relevance, seed, *, tiny, screen) -> None:
    rng = np.random.default_rng(seed + 1)
    n_queries, n_gallery = len(queries), len(gallery)
    scores = search_scores(queries, gallery)
    ids = [f"item {i}" for i in rng.permutation(n_gallery)]  # "item 10" sorts before "item 9"
    stack = rng.choice([0.0, 0.25, -0.5], (3, n_gallery))
    row = rng.integers(0, 3, n_queries)
    k, back = int(rng.integers(1, n_gallery + 1)), int(rng.integers(1, n_queries + 1))
    consumers = [
        TopK(k), TopK(k, ids=ids), TopK(back, of="gallery"), TopK(k, bias=stack[1]), TopK(k, bias=stack, bias_row=row),
        RankPositives(relevance), RankPositives(relevance.T, of="gallery"), RankPositives(relevance, bias=stack[1]),
        RankPositives(relevance, bias=stack, bias_row=row), TopKMean(back, of="gallery"),
    ]  # fmt: skip
    results = scan_all(queries, gallery, consumers, tiny=tiny, screen=screen)
    lists = [(scores, k, None), (scores, k, ids), (scores.T, back, None)]
    lists += [(scores - stack[1], k, None), (scores - stack[row], k, None)]
    for found, (matrix, depth, names) in zip(results[:5], lists, strict=True):
        for ours, loop in zip(
            (found.indices, found.scores, found.kth_tied), search_top_k(matrix, depth, names), strict=True
        ):
            np.testing.assert_array_equal(ours, loop)
    ranked = [(scores, relevance), (scores.T, relevance.T)]
    ranked += [(scores - stack[1], relevance), (scores - stack[row], relevance)]
    for found, (matrix, truth) in zip(results[5:9], ranked, strict=True):
        better, tied = search_ranks(matrix, truth)
        np.testing.assert_array_equal(found.better, better)
        np.testing.assert_array_equal(found.tied, tied)
        same(found, truth.positives, "indptr", "items", "grades", "n_gallery")
    np.testing.assert_array_equal(results[9], np.sort(scores.T, axis=1)[:, ::-1][:, :back].copy().mean(axis=1))


def test_undecided_pairs_that_do_not_fit_in_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ties everywhere, rows with few and with many positives, and room for 200 undecided pairs at a time."""
    monkeypatch.setattr(exact, "_COMPILE_FROM", 0)
    monkeypatch.setattr(compiled, "_FOUND", 200)
    rng = np.random.default_rng(6)
    queries, gallery = (rng.integers(-1, 2, (n, 3)).astype(np.float32) for n in (9, 700))
    n_positives = np.array([1, 0, 2, 300, 70, 64, 65, 500, 3])
    rows = np.repeat(np.arange(9), n_positives)
    columns = np.concatenate([rng.permutation(700)[:n] for n in n_positives])
    relevance = Relevance.from_pairs(rows, columns, n_queries=9, n_gallery=700)
    (found,) = scan(queries, gallery, [RankPositives(relevance)])
    better, tied = search_ranks(search_scores(queries, gallery), relevance)
    np.testing.assert_array_equal(found.better, better)
    np.testing.assert_array_equal(found.tied, tied)


def test_a_query_with_hundreds_of_positives(engine: exact.Screen) -> None:
    rng = np.random.default_rng(5)
    queries, gallery = rng.integers(-3, 4, (4, 6)).astype(np.float32), rng.integers(-3, 4, (900, 6)).astype(np.float32)
    relevance = Relevance.from_pairs(np.repeat([1, 3], 500), np.tile(np.arange(500), 2), n_queries=4, n_gallery=900)
    (found,) = scan(queries, gallery, [RankPositives(relevance)])
    better, tied = search_ranks(search_scores(queries, gallery), relevance)
    np.testing.assert_array_equal(found.better, better)
    np.testing.assert_array_equal(found.tied, tied)
    assert tied.max() > 10
    assert found.positives_per_query.tolist() == [0, 500, 0, 500]


def test_by_hand() -> None:
    """Scores 3 1 3 | 0 1 0 and a bias that takes two from the first item."""
    queries, gallery = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[3.0, 0.0], [1.0, 1.0], [3.0, 0.0]])
    relevance = Relevance.from_pairs([0, 1], [2, 0], n_queries=2, n_gallery=3)
    plain, ranks, biased = scan(queries, gallery, [TopK(1), RankPositives(relevance), TopK(2, bias=[2.0, 0, 0])])
    assert plain.indices.tolist() == [[0], [1]]
    assert plain.kth_tied.tolist() == [True, False]
    assert (ranks.better.tolist(), ranks.tied.tolist()) == ([0, 1], [1, 1])
    assert biased.indices.tolist() == [[2, 0], [1, 2]]
    assert biased.scores.tolist() == [[3.0, 1.0], [1.0, 0.0]]


# Results do not depend on how the work is done


def test_a_scan_can_be_cut_anywhere_and_merged(engine: exact.Screen) -> None:
    rng = np.random.default_rng(2)
    queries, gallery, relevance = world("integers", 3)
    consumers = [TopK(5), TopK(4, of="gallery"), RankPositives(relevance), TopKMean(3, of="gallery")]
    consumers += [ScoreHistogram([-3.0, 0.0, 2.5])]
    whole = scan(queries, gallery, consumers)
    for consumer, truth in zip(consumers, whole, strict=True):
        screen = engine if consumer.screen == "bfloat16" else "float32"
        with Compiled(2) if exact._COMPILE_FROM == 0 else nullcontext(Plain()) as kernels:
            sides, stream = all_tiles(queries, gallery, (4, 6), screen, kernels)
            ordered = sides if consumer.of == "queries" else sides[::-1]
            parts = [consumer.begin(*ordered, kernels) for _ in range(3)]
            for tile in stream:
                parts[rng.integers(3)].update(tile if consumer.of == "queries" else tile.T)
            parts[0].merge(parts[2])
            parts[0].merge(parts[1])
            found = parts[0].finish()
        if isinstance(found, np.ndarray):
            np.testing.assert_array_equal(found, truth)
        else:
            names = ("better", "tied") if isinstance(consumer, RankPositives) else ("indices", "scores", "kth_tied")
            same(found, truth, *names)


@pytest.mark.parametrize("kind", ["duplicates", "integers", "near ties"])
def test_the_order_of_items_does_not_matter(kind: str) -> None:
    rng = np.random.default_rng(4)
    queries, gallery, relevance = world(kind, 6)
    ids = np.array([f"{i:03d}" for i in range(len(gallery))])
    shuffle = rng.permutation(len(gallery))
    place = np.argsort(shuffle)
    moved = Relevance.from_pairs(
        relevance.queries, place[relevance.items], relevance.grades, n_queries=len(queries), n_gallery=len(gallery)
    )
    nearest, ranks = scan(queries, gallery, [TopK(7, ids=ids), RankPositives(relevance)])
    again, ranks_again = scan(queries, gallery[shuffle], [TopK(7, ids=ids[shuffle]), RankPositives(moved)])
    np.testing.assert_array_equal(ids[nearest.indices], ids[shuffle][again.indices])
    same(nearest, again, "scores", "kth_tied")
    by_item = np.lexsort((shuffle[ranks_again.items], ranks_again.queries))
    np.testing.assert_array_equal(ranks.better, ranks_again.better[by_item])
    np.testing.assert_array_equal(ranks.tied, ranks_again.tied[by_item])


def test_threads_do_not_matter() -> None:
    limits = pytest.importorskip("threadpoolctl").threadpool_limits
    rng = np.random.default_rng(0)
    queries, gallery = (unit_vectors(rng.standard_normal((n, 96))) for n in (700, 900))
    found = []
    for threads in (1, 2):
        with limits(threads):
            found.append(scan(queries, gallery, [TopK(10), TopK(10, of="gallery")]))
    for first, second in zip(*found, strict=True):
        same(first, second, "indices", "scores", "kth_tied")


def test_a_gallery_on_disk_gives_the_same(tmp_path: Path) -> None:
    queries, gallery, relevance = world("random", 8)
    on_disk = np.memmap(tmp_path / "gallery.f32", np.float32, "w+", shape=gallery.shape)
    on_disk[:] = gallery
    on_disk.flush()
    mapped = np.memmap(tmp_path / "gallery.f32", np.float32, "r", shape=gallery.shape)
    consumers = [TopK(5), RankPositives(relevance), TopKMean(2, of="gallery")]
    first, second = scan(queries, gallery, consumers), scan(queries, mapped, consumers)
    same(first[0], second[0], "indices", "scores", "kth_tied")
    same(first[1], second[1], "better", "tied")
    np.testing.assert_array_equal(first[2], second[2])


def test_inputs_are_left_alone_and_consumers_can_be_used_again() -> None:
    queries, gallery, relevance = world("random", 9)
    bias = np.linspace(0, 1, len(gallery))
    for array in (queries, gallery, bias):
        array.flags.writeable = False
    consumers = [TopK(3, bias=bias), RankPositives(relevance, bias=bias), LogSumExp(2.0, exclude=relevance)]
    first, second = scan(queries, gallery, consumers), scan(queries, gallery, consumers)
    same(first[0], second[0], "indices", "scores", "kth_tied")
    same(first[1], second[1], "better", "tied")
    np.testing.assert_array_equal(first[2], second[2])


def test_progress_counts_tiles(small_chunks: None) -> None:
    queries, gallery, _ = world("random", 1)
    calls: list[tuple[int, int]] = []
    scan_all(queries, gallery, [TopK(1)], tiny=True, progress=lambda done, total: calls.append((done, total)))
    assert len(calls) > 10
    assert calls == [(i + 1, len(calls)) for i in range(len(calls))]


@pytest.mark.parametrize("kind", ["random", "constant"])
def test_memory_stays_within_what_was_asked(kind: str) -> None:
    rng = np.random.default_rng(0)
    queries, gallery = (unit_vectors(rng.standard_normal((n, 16))) for n in (500, 700))
    if kind == "constant":
        queries, gallery = np.repeat(queries[:1], 500, 0), np.repeat(gallery[:1], 700, 0)
    own = np.arange(500)
    relevance = Relevance.from_pairs(own, own, n_queries=500, n_gallery=700)
    consumers = [TopK(10), TopK(10, of="gallery"), RankPositives(relevance), RankPositives(relevance.T, of="gallery")]
    allowed = 16 * 2**20
    tracemalloc.start()
    found = scan(queries, gallery, consumers, memory=allowed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= allowed
    if kind == "constant":
        assert found[0].indices.tolist() == [list(range(10))] * 500
        assert (found[2].better == 0).all()
        assert (found[2].tied == 699).all()


# Float consumers


@pytest.mark.parametrize("beta", [0.5, 20.0, 1000.0])
@pytest.mark.parametrize("of", ["queries", "gallery"])
def test_log_sum_exp_equals_exactly_rounded_sums_for_any_tiling(beta: float, of: str, small_chunks: None) -> None:
    for kind in ("random", "constant", "float64", "one item", "one query"):
        queries, gallery, _ = world(kind, 2)
        scores = search_scores(queries, gallery)
        truth = search_log_sum_exp(scores if of == "queries" else scores.T, beta)
        for tiny in (False, True):
            (found,) = scan_all(queries, gallery, [LogSumExp(beta, of=of)], tiny=tiny)
            np.testing.assert_allclose(found, truth, rtol=1e-12, atol=1e-12 * max(1 / beta, np.abs(scores).max()))


def test_excluded_pairs_are_as_if_they_did_not_exist(small_chunks: None) -> None:
    rng = np.random.default_rng(3)
    queries, gallery, _ = world("integers", 4)
    hidden = rng.random((len(queries), len(gallery))) < 0.3
    rows, columns = np.nonzero(hidden)
    exclude = Relevance.from_pairs(rows, columns, n_queries=len(queries), n_gallery=len(gallery))
    scores = search_scores(queries, gallery)
    consumers = [LogSumExp(0.7, of="gallery", exclude=exclude.T), TopKMean(3, of="gallery", exclude=exclude.T)]
    consumers += [TopK(4, exclude=exclude)]
    for tiny in (False, True):
        smooth, mean, nearest = scan_all(queries, gallery, consumers, tiny=tiny)
        for item in range(len(gallery)):
            left = scores[~hidden[:, item], item]
            scaled = np.log(np.mean(np.exp(0.7 * left)) * len(queries)) / 0.7
            assert smooth[item] == pytest.approx(scaled, rel=1e-12)
            assert mean[item] == np.sort(left)[::-1][:3].copy().mean()
        for query, row in enumerate(np.where(hidden, -np.inf, scores)):
            order = sorted(range(len(row)), key=lambda j: (-row[j], j))
            assert nearest.indices[query].tolist() == order[:4]
            assert nearest.kth_tied[query] == (row[order[3]] == row[order[4]])


def test_pairs_judged_wrong_are_not_excluded() -> None:
    judged_wrong = Relevance.from_pairs([0], [1], [0.0], n_queries=2, n_gallery=3)
    queries, gallery = np.eye(2), np.array([[1.0, 0.0], [5.0, 0.0], [0.0, 1.0]])
    assert scan(queries, gallery, [TopK(1, exclude=judged_wrong)])[0].indices.tolist() == [[1], [2]]


def test_k_occurrence_counts_items_never_retrieved() -> None:
    nearest, back = scan(np.ones((4, 1)), np.array([[1.0], [2.0], [0.0]]), [TopK(2), TopK(3, of="gallery")])
    assert k_occurrence(nearest).tolist() == [4, 4, 0]
    assert k_occurrence(back).tolist() == [3, 3, 3, 0]


def restricted(rng: np.random.Generator, n_rows: int, n_columns: int):
    """Excluded pairs and masks that leave every row at least a fifth of the columns, and the matrix of both."""
    hidden = rng.random((n_rows, n_columns)) < 0.2
    rows, columns = np.nonzero(hidden)
    exclude = Relevance.from_pairs(rows, columns, n_queries=n_rows, n_gallery=n_columns)
    allow = rng.random((3, n_columns)) < 0.6
    allow_row = rng.integers(0, 3, n_rows)
    return {"exclude": exclude, "allow": allow, "allow_row": allow_row}, ~hidden & allow[allow_row]


@pytest.mark.parametrize("size", [(23, 61), (140, 300)])
@pytest.mark.parametrize("kind", ["random", "integers", "near ties", "constant"])
def test_what_is_out_of_scope_is_as_if_it_did_not_exist(kind: str, size: tuple[int, int], engine: exact.Screen) -> None:
    rng = np.random.default_rng(5)
    queries, gallery, _ = world(kind, 7)
    queries, gallery = (side[rng.integers(0, len(side), n)] for side, n in zip((queries, gallery), size, strict=True))
    options, seen = restricted(rng, *size)
    back, seen_back = restricted(rng, *size[::-1])
    scores, edges = search_scores(queries, gallery), np.array([-1.0, 0.0, 1.5])
    positives = np.argwhere(seen & (rng.random(size) < 0.05))
    relevance = Relevance.from_pairs(*positives.T, n_queries=size[0], n_gallery=size[1])
    bias = rng.standard_normal(size[1])
    nearest, biased, returned, ranks, histogram, smooth = scan(
        queries, gallery,
        [
            TopK(4, **options), TopK(4, bias=bias, **options), TopK(2, of="gallery", **back),
            RankPositives(relevance, **options), ScoreHistogram(edges, **options), LogSumExp(2.0, **options),
        ],
        screen=engine,
    )  # fmt: skip
    tables = ((nearest, scores, seen), (biased, scores - bias, seen), (returned, scores.T, seen_back))
    for found, matrix, visible in tables:
        indices, best, tied = search_top_k(np.where(visible, matrix, -np.inf), found.k)
        np.testing.assert_array_equal(found.indices, indices)
        np.testing.assert_array_equal(found.scores, best)
        np.testing.assert_array_equal(found.kth_tied, tied)
    better, tied = search_ranks(np.where(seen, scores, -np.inf), relevance)
    np.testing.assert_array_equal(ranks.better, better)
    np.testing.assert_array_equal(ranks.tied, tied)
    inside = scores[seen]
    assert histogram.tolist() == [
        int((inside < -1).sum()), int(((inside >= -1) & (inside < 0)).sum()),
        int(((inside >= 0) & (inside < 1.5)).sum()), int((inside >= 1.5).sum()),
    ]  # fmt: skip
    for row, value in enumerate(smooth):
        assert value == pytest.approx(np.log(np.exp(2.0 * scores[row, seen[row]]).mean() * size[1]) / 2.0, rel=1e-11)


def test_a_positive_out_of_scope_is_an_error() -> None:
    relevance = Relevance.from_pairs([0, 1], [0, 2], n_queries=2, n_gallery=3)
    allow = np.array([True, True, False])
    with pytest.raises(ValueError, match=r"1 of 2 positives.*row 1, column 2.*take them out"):
        scan(np.eye(2), np.ones((3, 2)), [RankPositives(relevance, allow=allow)])


def test_a_set_searched_in_itself_leaves_out_the_query_but_not_its_duplicates() -> None:
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    ids = ["a", "copy of a", "b"]
    (nearest,) = scan(vectors, vectors, [TopK(1, exclude=same_items(ids, ids))])
    assert nearest.indices.ravel().tolist() == [1, 0, 0]
    (part,) = scan(vectors[:2], vectors[[2, 0]], [TopK(1, exclude=same_items(ids[:2], ["b", "a"]))])
    assert part.indices.ravel().tolist() == [0, 1]


def test_histograms_count_every_pair_once(engine: exact.Screen) -> None:
    """Edges lie exactly on scores, so that rounding would move pairs into the next bin."""
    queries, gallery, _ = world("integers", 5)
    scores = search_scores(queries, gallery)
    edges = np.unique(scores)
    for of in ("queries", "gallery"):
        (found,) = scan(queries, gallery, [ScoreHistogram(edges, of=of)])
        assert found.tolist() == [0, *np.unique(scores, return_counts=True)[1].tolist()]
    many = np.linspace(-40, 40, 200) + 1e-3
    (found,) = scan(queries, gallery, [ScoreHistogram(many)])
    assert found[1:-1].tolist() == np.histogram(scores, many)[0].tolist()
    assert found.sum() == scores.size


@pytest.mark.parametrize("offset", [0.0, -3.0])
def test_an_outlier_in_length_does_not_widen_the_rest(offset: float, engine: exact.Screen) -> None:
    """One vector a million times longer than the others: what is kept before and after it stays certain."""
    rng = np.random.default_rng(1)
    queries, gallery = rng.standard_normal((30, 24)), rng.standard_normal((700, 24)) + offset
    gallery[350] *= 1e6
    nearest, back = scan(queries, gallery, [TopK(5), TopK(3, of="gallery")], memory=10 * 2**20, screen=engine)
    scores = search_scores(queries, gallery)
    np.testing.assert_array_equal(nearest.indices, search_top_k(scores, 5)[0])
    np.testing.assert_array_equal(back.indices, search_top_k(scores.T, 3)[0])


# Symmetries


@pytest.mark.parametrize("kind", ["random", "duplicates", "integers", "near ties"])
def test_turning_the_problem_around_changes_no_bit(kind: str, engine: exact.Screen) -> None:
    queries, gallery, relevance = world(kind, 10)
    consumers = [TopK(4), TopK(3, of="gallery"), RankPositives(relevance), RankPositives(relevance.T, of="gallery")]
    turned = [TopK(4, of="gallery"), TopK(3), RankPositives(relevance, of="gallery"), RankPositives(relevance.T)]
    first, second = (
        scan(queries, gallery, consumers, screen=engine),
        scan(gallery, queries, turned, screen=engine),
    )
    for one, other in zip(first[:2], second[:2], strict=True):
        same(one, other, "indices", "scores", "kth_tied")
    for one, other in zip(first[2:], second[2:], strict=True):
        same(one, other, "better", "tied", "items")


def test_a_constant_added_to_a_row_changes_no_rank(engine: exact.Screen) -> None:
    """The constant comes in through one more coordinate; whole numbers keep the arithmetic exact."""
    queries, gallery, relevance = world("integers", 11)
    shift = np.random.default_rng(0).integers(-9, 10, (len(queries), 1)).astype(np.float32)
    moved, longer = np.hstack([queries, shift]), np.hstack([gallery, np.ones((len(gallery), 1), np.float32)])
    nearest, ranks = scan(queries, gallery, [TopK(6), RankPositives(relevance)], screen=engine)
    again, ranks_again = scan(moved, longer, [TopK(6), RankPositives(relevance)], screen=engine)
    same(nearest, again, "indices", "kth_tied")
    same(ranks, ranks_again, "better", "tied")
    np.testing.assert_array_equal(again.scores, nearest.scores + shift)


@pytest.mark.parametrize("kind", ["random", "integers"])
def test_the_order_of_queries_does_not_matter(kind: str, engine: exact.Screen) -> None:
    queries, gallery, relevance = world(kind, 12)
    shuffle = np.random.default_rng(1).permutation(len(queries))
    moved = relevance.take(shuffle, np.arange(len(gallery)))
    nearest, ranks = scan(queries, gallery, [TopK(5), RankPositives(relevance)], screen=engine)
    again, ranks_again = scan(queries[shuffle], gallery, [TopK(5), RankPositives(moved)], screen=engine)
    np.testing.assert_array_equal(nearest.indices[shuffle], again.indices)
    np.testing.assert_array_equal(nearest.scores[shuffle], again.scores)
    back = np.concatenate([np.arange(ranks.indptr[q], ranks.indptr[q + 1]) for q in shuffle])
    np.testing.assert_array_equal(ranks.better[back], ranks_again.better)


def test_the_product_of_torch_gives_the_same(monkeypatch: pytest.MonkeyPatch, engine: exact.Screen) -> None:
    """What runs on a GPU, here on the processor."""
    queries, gallery, relevance = world("near ties", 3)
    consumers = [TopK(5), RankPositives(relevance), LogSumExp(3.0)]
    nearest, ranks, smooth = scan(queries, gallery, consumers)
    monkeypatch.setattr(tile_module, "_product", lambda screen, _, device: tile_module.TorchProduct(screen, "cpu"))
    again, ranks_again, smooth_again = scan(queries, gallery, consumers, device="cuda")
    same(nearest, again, "indices", "scores", "kth_tied")
    same(ranks, ranks_again, "better", "tied")
    np.testing.assert_allclose(smooth, smooth_again, rtol=1e-12)


def test_a_file_that_is_cut_while_it_is_searched_is_an_error(tmp_path: Path) -> None:
    np.save(tmp_path / "gallery.npy", np.random.default_rng(0).standard_normal((50, 8)))
    side = Side.of(np.load(tmp_path / "gallery.npy", mmap_mode="r"), "gallery", Plain())
    with open(tmp_path / "gallery.npy", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(OSError, match=r"gallery.npy ends before vector 40"):
        side.some(np.array([2, 40]))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="resident memory is measured on Linux")
@pytest.mark.parametrize("screen", ["float32", "bfloat16"])
def test_a_gallery_larger_than_the_memory_allowed(tmp_path: Path, screen: str) -> None:
    """120 MB on disk, 48 MB allowed: resident memory, pages of the file included, never grows by half the file."""
    np.save(tmp_path / "gallery.npy", np.random.default_rng(0).standard_normal((120_000, 256), np.float32))
    code = f"""
import numpy as np, re
from pathlib import Path
from workbench.search import TopK, scan
gallery = np.load({str(tmp_path / "gallery.npy")!r}, mmap_mode="r")
queries = np.random.default_rng(1).standard_normal((300, 256), np.float32)
resident = lambda name: int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
for rows in (gallery, np.random.default_rng(2).standard_normal((70_000, 256), np.float32)):  # compile for both
    scan(queries, rows, [TopK(10)], screen={screen!r})
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
(found,) = scan(queries, gallery, [TopK(10)], screen={screen!r}, memory=48 * 2**20)
print(resident("VmHWM") - before, found.indices.sum())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    grown, total = (int(word) for word in done.stdout.split())
    whole = np.load(tmp_path / "gallery.npy")
    queries = np.random.default_rng(1).standard_normal((300, 256), np.float32)
    assert total == scan(queries, whole, [TopK(10)])[0].indices.sum()
    assert grown < 60


# Other people's code


@pytest.mark.parametrize("k", [5, 10])
def test_k_occurrence_equals_scikit_hubness(shared: Callable[[str], Path], k: int) -> None:
    with np.load(shared("golden/inputs__clip_coco_t2i.npz")) as inputs:
        queries, gallery = unit_vectors(inputs["Q"]), unit_vectors(inputs["G"])
    with np.load(shared("golden/hubness_skhubness__clip_coco_t2i.npz")) as golden:
        expected = golden[f"cosine_k{k}__k_occurrence"]
    np.testing.assert_array_equal(k_occurrence(scan(queries, gallery, [TopK(k)])[0]), expected)


def test_inner_products_equal_faiss(shared: Callable[[str], Path], engine: exact.Screen) -> None:
    with np.load(shared("golden/faiss_knn.npz")) as golden:
        (found,) = scan(golden["q"], golden["X"], [TopK(20)], screen=engine)
        np.testing.assert_array_equal(found.indices, golden["ip_i"])
        np.testing.assert_allclose(found.scores, golden["ip_d"], rtol=1e-5)


# Errors


@pytest.mark.parametrize(
    ("queries", "gallery", "make", "message"),
    [
        (np.ones((2, 3)), np.ones((4, 3)), lambda: TopK(5), "k = 5 exceeds the 4 items"),
        (np.ones((2, 3)), np.ones((4, 3)), lambda: TopK(3, of="gallery"), "k = 3 exceeds the 2 items"),
        (np.ones((2, 3)), np.ones((4, 2)), lambda: TopK(1), "3 dimensions and the gallery has 2"),
        (np.ones((2, 3)), np.full((4, 3), np.nan), lambda: TopK(1), "4 of 4 gallery vectors hold NaN"),
        (np.ones((2, 3)), np.full((4, 3), 1e200), lambda: TopK(1), "longer than 1e\\+150"),
        (np.ones((2, 3), int), np.ones((4, 3)), lambda: TopK(1), "float32 or float64; got int64"),
        (np.ones(3), np.ones((4, 3)), lambda: TopK(1), "shape"),
        (np.ones((0, 3)), np.ones((4, 3)), lambda: TopK(1), "n, dim >= 1"),
        (np.ones((2, 3)), np.ones((4, 3)), lambda: TopK(0), "at least 1; got 0"),
        (np.ones((2, 3)), np.ones((4, 3)), lambda: TopK(1, of="images"), "'images'"),
        (np.ones((2, 3)), np.ones((4, 3)), lambda: TopK(1, bias=np.ones(2)), "bias must be \\(4,\\)"),
        (np.ones((2, 3)), np.ones((4, 3)), lambda: TopK(1, bias=np.ones((2, 4))), "without bias_row"),
        (np.ones((2, 3)), np.ones((4, 3)), lambda: TopK(1, bias=np.ones(4), bias_row=[0, 0]), "with bias_row"),
        (np.ones((2, 3)), np.ones((4, 3)), lambda: TopK(1, bias=np.ones((2, 4)), bias_row=[0, 2]), "0..1"),
        (np.ones((2, 3)), np.ones((4, 3)), lambda: TopK(1, bias_row=[0, 0]), "no bias was given"),
        (np.ones((2, 3)), np.ones((4, 3)), lambda: TopK(1, bias=[0, 0, 0, np.nan]), "bias must be finite"),
        (np.ones((2, 3)), np.ones((4, 3)), lambda: TopK(1, ids=["a", "b"]), "2 ids for 4 items"),
        (np.ones((2, 3)), np.ones((4, 3)), lambda: TopK(1, ids=["a", "b", "b", "c"]), "'b' occurs 2 times"),
        (np.ones((2, 3)), np.ones((4, 3)), lambda: LogSumExp(0.0), "beta must be a positive number"),
        (np.ones((2, 3)), np.ones((4, 3)), lambda: RankPositives(pairs(4, 2)), "\\(2, 4\\) is needed"),
        (np.ones((2, 3)), np.ones((4, 3)), lambda: LogSumExp(1.0, exclude=pairs(2, 4, full=True)), "all its 4 columns"),
        (np.ones((2, 3)), np.ones((4, 3)), lambda: TopKMean(4, exclude=pairs(2, 4)), "3 items left after exclusion"),
    ],
)  # fmt: skip
def test_errors_say_what_came_and_what_was_expected(queries, gallery, make, message) -> None:
    with pytest.raises(ValueError, match=message):
        scan(queries, gallery, [make()])


def pairs(n_queries: int, n_gallery: int, *, full: bool = False) -> Relevance:
    columns = np.arange(n_gallery) if full else np.zeros(1, int)
    return Relevance.from_pairs(np.zeros(len(columns), int), columns, n_queries=n_queries, n_gallery=n_gallery)


def test_too_little_memory_and_an_unknown_screen_are_refused() -> None:
    with pytest.raises(ValueError, match=r"memory=1000 bytes is too little.*need about") as caught:
        scan(np.ones((2, 3)), np.ones((4, 3)), [TopK(1)], memory=1000)
    needed = int(str(caught.value).split("about ")[1].split()[0])
    assert scan(np.ones((2, 3)), np.ones((4, 3)), [TopK(1)], memory=needed)[0].k == 1
    with pytest.raises(ValueError, match=r"bfloat16' is for the processor.*device='cuda'"):
        scan(np.ones((2, 3)), np.ones((4, 3)), [TopK(1)], screen="bfloat16", device="cuda")
    with pytest.raises(ValueError, match="'float16'"):
        scan(np.ones((2, 3)), np.ones((4, 3)), [TopK(1)], screen="float16")
