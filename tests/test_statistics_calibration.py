"""Intervals hold the truth, warnings say where they do not, and tests keep their level: the benchmarks in short."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks import interval_coverage, paired_test_calibration
from workbench.statistics import cluster_bootstrap, rank_sets


@pytest.mark.parametrize("rate", [0.2, 0.9])
def test_the_interval_holds_the_truth_and_the_naive_one_does_not(rate: float) -> None:
    ours, naive, warned = interval_coverage.coverage("1-5", rate, 300, 250)
    assert 0.91 <= ours <= 0.98
    assert naive < 0.91
    assert warned < 0.05


@pytest.mark.parametrize(
    ("design", "rate", "n_clusters"),
    [("one", 0.05, 50), ("1-5", 0.1, 50), ("lognormal", 0.1, 100), ("giant", 0.1, 100), ("tail 2", 0.5, 300)],
)
def test_where_the_interval_fails_it_warns(design: str, rate: float, n_clusters: int) -> None:
    ours, _, warned = interval_coverage.coverage(design, rate, n_clusters, 200)
    assert ours < 0.94
    assert warned > 0.8


@pytest.mark.parametrize(("design", "rate"), [("one", 0.5), ("1-5", 0.3), ("1-5", 0.9), ("lognormal", 0.5)])
def test_where_the_interval_holds_it_rarely_warns(design: str, rate: float) -> None:
    assert interval_coverage.coverage(design, rate, 300, 100)[2] < 0.4


def test_a_giant_cluster_and_heavy_tails_are_named() -> None:
    rng = np.random.default_rng(0)
    clusters = np.r_[np.zeros(200), 1 + np.arange(400) // 2]
    (words,) = cluster_bootstrap(rng.integers(0, 2, 600), clusters).warnings
    assert "A few of the 201 clusters" in words
    assert "the largest holds 33 %" in words
    assert cluster_bootstrap(rng.integers(0, 2, 400), np.arange(400) // 2).warnings == ()
    ranks = np.exp(2 * rng.normal(size=300))
    assert "A few of the 300" in cluster_bootstrap(ranks, range(300)).warnings[0]
    assert cluster_bootstrap(ranks, range(300), statistic="median").warnings == ()


@pytest.mark.parametrize("design", ["normal", "unequal", "reciprocal"])
@pytest.mark.parametrize("n_clusters", [10, 100])
def test_continuous_differences_are_tested_at_their_level(design: str, n_clusters: int) -> None:
    assert 0.03 <= paired_test_calibration.rejections(design, n_clusters, 800) <= 0.07


@pytest.mark.parametrize("design", ["hits 0.02", "hits 0.9"])
def test_hits_never_exceed_the_level(design: str) -> None:
    assert paired_test_calibration.rejections(design, 100, 500) <= 0.06


@pytest.mark.slow
@pytest.mark.parametrize("rate", interval_coverage.RATES)
@pytest.mark.parametrize("n_clusters", [300, 1000])
def test_coverage_at_length(rate: float, n_clusters: int) -> None:
    ours, naive, warned = interval_coverage.coverage("1-5", rate, n_clusters, 2000)
    assert 0.93 <= ours <= 0.97
    assert naive < 0.9
    assert warned < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("design", interval_coverage.DESIGNS)
@pytest.mark.parametrize("n_clusters", interval_coverage.SIZES)
def test_every_failing_regime_is_announced(design: str, n_clusters: int) -> None:
    for rate in interval_coverage.HARD_RATES:
        covered, _, warned = interval_coverage.coverage(design, rate, n_clusters, 600, around=0.15)
        assert covered >= 0.915 or warned > 0.5, (rate, covered, warned)


@pytest.mark.slow
@pytest.mark.parametrize("design", paired_test_calibration.DESIGNS[:-1])
@pytest.mark.parametrize("n_clusters", paired_test_calibration.SIZES)
def test_level_at_length(design: str, n_clusters: int) -> None:
    found = paired_test_calibration.rejections(design, n_clusters, 4000)
    assert found <= 0.06
    assert found >= 0.04 or design not in paired_test_calibration.CONTINUOUS


def test_many_systems_are_ranked_in_little_time_and_memory() -> None:
    rng = np.random.default_rng(0)
    found = rank_sets(rng.random((20, 5000)) + 0.02 * np.arange(20)[:, None], np.arange(5000), n_resamples=500)
    assert (found.low <= found.ranks).all()
    assert (found.ranks <= found.high).all()
    assert found.ranks[0] > 15
