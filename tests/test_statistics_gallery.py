"""Hit rates in smaller galleries equal scipy's hypergeometric, every draw counted, and simulated galleries."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binom, hypergeom, norm

from workbench.metrics import per_query, ranks_from_scores
from workbench.statistics import cluster_bootstrap, gallery_curve, gallery_extrapolation, hits_at_size
from workbench.types import Ranks, Relevance


def single(better: list[int] | np.ndarray, n: int, tied: list[int] | None = None) -> Ranks:
    """One positive per query."""
    q = len(better)
    return Ranks(np.arange(q + 1), np.zeros(q), np.ones(q), better, tied or np.zeros(q), np.full(q, n), n)


@pytest.mark.parametrize(("n", "size", "k"), [(30, 7, 1), (30, 7, 5), (30, 30, 3), (30, 5, 5), (25_000, 1000, 10)])
def test_one_positive_equals_the_hypergeometric_distribution(n: int, size: int, k: int) -> None:
    better = np.unique(np.minimum(np.r_[0:30, 40:n:997], n - 1))
    for kept in ("all", "one"):
        found = hits_at_size(single(better, n), size, k=k, kept=kept)
        np.testing.assert_allclose(found, hypergeom.cdf(k - 1, n - 1, better, size - 1), rtol=1e-9, atol=1e-13)


def world(seed: int, levels: int) -> tuple[np.ndarray, Relevance]:
    """Six queries on eight items, one to three positives, scores in few levels so that many are equal."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (6, 8)).astype(float)
    pairs = [(q, g) for q in range(5) for g in rng.choice(8, 1 + q % 3, replace=False)]
    return scores, Relevance.from_pairs(*zip(*pairs, strict=True), n_queries=6, n_gallery=8)


def by_every_draw(scores: np.ndarray, relevance: Relevance, size: int, k: int, kept: str) -> np.ndarray:
    """Mean over all draws of the distractors of the expected hit@k in the gallery that is left."""
    found = np.full(relevance.n_queries, np.nan)
    for query in range(relevance.n_queries):
        positives = relevance.row(query)[0].tolist()
        others = [g for g in range(relevance.n_gallery) if g not in positives]
        values = []
        for keep in [positives] if kept == "all" else [[one] for one in positives]:
            for drawn in itertools.combinations(others, size - len(keep)):
                items = [*keep, *drawn]
                truth = Relevance.from_pairs([0] * len(keep), range(len(keep)), n_queries=1, n_gallery=size)
                ranks = ranks_from_scores(scores[query : query + 1, items], truth)
                values.append(per_query(f"hit@{k}", ranks).expected)
        if positives:
            found[query] = np.mean(values)
    return found


@pytest.mark.parametrize("kept", ["all", "one"])
@pytest.mark.parametrize(("levels", "size", "k"), [(100, 5, 2), (3, 4, 1), (2, 5, 3), (1, 6, 2), (2, 3, 1)])
def test_several_positives_and_ties_equal_every_draw(levels: int, size: int, k: int, kept: str) -> None:
    scores, relevance = world(levels, levels)
    found = hits_at_size(ranks_from_scores(scores, relevance), size, k=k, kept=kept)
    np.testing.assert_allclose(found, by_every_draw(scores, relevance, size, k, kept), rtol=1e-12)
    assert np.isnan(found[5])


def test_the_full_gallery_gives_the_metric_itself() -> None:
    for levels in (2, 4, 50):
        scores, relevance = world(levels + 20, levels)
        ranks = ranks_from_scores(scores, relevance)
        for k in (1, 3, 8):
            np.testing.assert_allclose(hits_at_size(ranks, 8, k=k), per_query(f"hit@{k}", ranks).expected, rtol=1e-12)


def test_a_constant_scorer_gets_chance_at_every_size() -> None:
    ranks = single([0, 0], 500, tied=[499, 499])
    for size in (3, 40, 500):
        assert hits_at_size(ranks, size, k=3) == pytest.approx(3 / size, rel=1e-10)


def test_the_curve_equals_simulated_galleries() -> None:
    rng = np.random.default_rng(3)
    n, size, k = 200, 40, 3
    scores = rng.normal(size=(60, n))
    scores[:, 0] += 1.5
    ranks = ranks_from_scores(scores, Relevance.from_pairs(range(60), [0] * 60, n_queries=60, n_gallery=n))
    hits = []
    for _ in range(1500):
        drawn = rng.choice(np.arange(1, n), size - 1, replace=False)
        hits.append(((scores[:, drawn] > scores[:, :1]).sum(axis=1) < k).mean())
    (point,) = gallery_curve(ranks, [size], np.arange(60) // 2, k=k)
    assert point.value == pytest.approx(np.mean(hits), abs=4 * np.std(hits) / np.sqrt(1500))
    interval = cluster_bootstrap(hits_at_size(ranks, size, k=k), np.arange(60) // 2)
    assert (point.low, point.high, point.n_clusters, point.extrapolated) == (interval.low, interval.high, 30, False)


def test_rates_fall_with_the_gallery_and_few_positives_are_asked_like_many() -> None:
    scores, relevance = world(7, 30)
    ranks = ranks_from_scores(scores, relevance)
    curve = gallery_curve(ranks, range(3, 9), range(6), n_resamples=100)
    values = [point.value for point in curve]
    assert all(a >= b for a, b in itertools.pairwise(values))
    assert curve[0].n_missing == 1
    one = gallery_curve(ranks, [8 - 2], range(6), kept="one", n_resamples=100)[0]
    assert one.value < curve[3].value


def test_broken_galleries_are_refused() -> None:
    ranks = single([1, 2], 8)
    for size, k in ((9, 1), (1, 2), (4, 0)):
        with pytest.raises(ValueError, match="size must lie between"):
            hits_at_size(ranks, size, k=k)
    with pytest.raises(ValueError, match="unknown value of kept"):
        hits_at_size(ranks, 4, k=1, kept="some")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="1 positives were not retrieved"):
        hits_at_size(single([1, 8], 8), 4, k=1)
    two = Ranks([0, 2], [0, 1], [1.0, 1.0], [0, 1], [0, 0], [8], 8)
    with pytest.raises(ValueError, match="between 2"):
        hits_at_size(two, 1, k=1)
    for size in (8, 81):
        with pytest.raises(ValueError, match="within ten times"):
            gallery_extrapolation(ranks, size, [0, 1])
    with pytest.raises(ValueError, match="no slope"):
        gallery_extrapolation(ranks, 16, [0, 1], k=4)


def chances(rng: np.random.Generator, n: int) -> list[np.ndarray]:
    """Per query the chance that a random item beats the positive, in five kinds of world."""
    hopeless = np.where(rng.random(n) < 0.3, rng.random(n), norm.cdf(-(5 + rng.normal(size=n))))
    normal = [norm.cdf(-(d + s * rng.normal(size=n))) for d, s in ((3, 1), (4, 1.5))]
    return [*normal, hopeless, rng.beta(0.2, 5, n), 10 ** rng.uniform(-6, 0, n)]


def test_the_extrapolation_is_as_far_off_as_its_docstring_says_and_says_what_it_is() -> None:
    rng = np.random.default_rng(0)
    off = {2: [], 10: []}
    for chance in chances(rng, 4000):
        ranks = single(rng.binomial(999, chance), 1000)
        for k, times in itertools.product((1, 10), off):
            found = gallery_extrapolation(ranks, 1000 * times, range(4000), k=k)
            off[times].append(abs(found.value - binom.cdf(k - 1, 1000 * times - 1, chance).mean()))
            assert found.extrapolated
            assert found.low < found.value < found.high
            assert "Extrapolated from 1000" in found.warnings[0]
    assert 0.01 <= max(off[2]) <= 0.02
    assert 0.06 <= max(off[10]) <= 0.08


def test_the_interval_of_an_extrapolation_is_the_spread_over_other_queries() -> None:
    rng = np.random.default_rng(5)
    values, widths = [], []
    for _ in range(120):
        ranks = single(rng.binomial(199, 10 ** rng.uniform(-2.7, 0, 300)), 200)
        found = gallery_extrapolation(ranks, 800, range(300))
        values.append(norm.ppf(found.value))
        widths.append(norm.ppf(found.high) - norm.ppf(found.low))
    assert np.mean(widths) / (2 * 1.96) == pytest.approx(np.std(values), rel=0.15)
