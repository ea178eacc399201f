"""Best of seeds and seed summaries equal closed forms, formulas for balanced tables, and planted truths."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, norm, t

from workbench.statistics import best_of_reported, best_of_seeds, cluster_standard_error, seed_summary

Array = np.ndarray


@pytest.mark.parametrize("n_seeds", [2, 3, 5, 20])
@pytest.mark.parametrize("distance", [-1.5, 0.0, 0.7, 3.0])
def test_one_new_seed_follows_students_t(n_seeds: int, distance: float) -> None:
    found = best_of_reported(50.0, 2.0, n_seeds, 50 + 2 * distance, best_of=1)
    expected = t.sf(distance / np.sqrt(1 + 1 / n_seeds), n_seeds - 1)
    assert found.probability == found.probability_single == pytest.approx(expected, abs=5e-6)


def test_a_known_spread_gives_the_normal_formula_and_its_inverse() -> None:
    found = best_of_reported(50.0, 2.0, float("inf"), 53.0, best_of=10)
    assert found.probability == pytest.approx(1 - norm.cdf(1.5) ** 10, rel=1e-12)
    assert found.typical_best == pytest.approx(50 + 2 * norm.ppf(0.5**0.1), abs=1e-9)
    assert norm.cdf(1.5) ** found.seeds_needed <= 0.5 < norm.cdf(1.5) ** (found.seeds_needed - 1)
    assert best_of_reported(50.0, 2.0, 1e9, 53.0, best_of=10).probability == pytest.approx(found.probability, abs=1e-4)
    assert best_of_reported(50.0, 2.0, float("inf"), 65.0, best_of=1).seeds_needed == float("inf")


def test_the_inverse_readings_agree_with_the_probability_for_few_seeds() -> None:
    scores = [71.2, 70.1, 71.9, 70.4]
    found = best_of_seeds(scores, 73.0, best_of=8)
    assert best_of_seeds(scores, found.typical_best, best_of=8).probability == pytest.approx(0.5, abs=1e-9)
    needed = int(found.seeds_needed)
    either = [best_of_seeds(scores, 73.0, best_of=n).probability for n in (needed - 1, needed)]
    assert either[0] < 0.5 <= either[1]
    assert found.mean == pytest.approx(70.9)
    assert "Only 4 seeds" in found.warnings[0]
    assert best_of_seeds([*scores, 71.0], 73.0, best_of=8).warnings == ()


def test_the_promised_share_holds_over_repeated_studies_and_the_plain_normal_one_does_not() -> None:
    """Chance below the best of 10 new seeds, given 4 observed ones: uniform if the prediction is calibrated."""
    rng = np.random.default_rng(2)
    promised, plain = [], []
    for _ in range(120):
        seen, best = rng.normal(70, 3, 4), rng.normal(70, 3, 10).max()
        promised.append(best_of_seeds(seen, best, best_of=10).probability)
        plain.append(1 - norm.cdf((best - seen.mean()) / seen.std(ddof=1)) ** 10)
    assert kstest(promised, "uniform").pvalue > 0.01
    assert kstest(plain, "uniform").pvalue < 1e-3


def test_more_seeds_and_lower_claims_are_easier() -> None:
    scores = [1.0, 2.0, 3.0]
    chances = [best_of_seeds(scores, 3.0, best_of=n).probability for n in (1, 2, 5, 50)]
    assert (np.diff(chances) > 0).all()
    assert best_of_seeds(scores, 2.5, best_of=5).probability > chances[2]


def test_broken_seeds_are_refused() -> None:
    for scores in ([1.0], [1.0, np.nan], [[1.0, 2.0]]):
        with pytest.raises(ValueError, match="at least two finite"):
            best_of_seeds(scores, 1.0, best_of=2)
    with pytest.raises(ValueError, match="equal scores"):
        best_of_seeds([1.0, 1.0], 1.0, best_of=2)
    with pytest.raises(ValueError, match="best_of >= 1"):
        best_of_seeds([1.0, 2.0], 1.0, best_of=0)


# ---- seeds and queries ----


def crossed(rng: np.random.Generator, seeds: float, queries: float, rest: float, shape: tuple[int, int]) -> Array:
    n_seeds, n = shape
    noise = rng.normal(0, rest, shape)
    return 5 + rng.normal(0, seeds, (n_seeds, 1)) + rng.normal(0, queries, (1, n)) + noise


def test_a_balanced_table_has_the_textbook_components() -> None:
    """Method of moments by sample variances and covariances, without sums of squares."""
    values = crossed(np.random.default_rng(0), 1.0, 2.0, 1.0, (6, 40))
    found = seed_summary(values, range(40))
    covariance, across = np.cov(values.T).mean(), np.cov(values).mean()
    np.testing.assert_allclose(found.value, values.mean())
    off_seeds = np.cov(values)[~np.eye(6, dtype=bool)].mean()
    off_queries = np.cov(values.T)[~np.eye(40, dtype=bool)].mean()
    assert found.between_clusters == pytest.approx(off_seeds)
    assert found.between_seeds == pytest.approx(off_queries)
    assert found.interaction == pytest.approx(np.cov(values).trace() / 6 - off_seeds)
    assert covariance > 0 < across
    variance = found.between_seeds / 6 + found.between_clusters / 40 + found.interaction / 240
    half = t.ppf(0.975, found.df) * np.sqrt(variance)
    assert found.high - found.value == pytest.approx(half)
    assert found.seed_share == pytest.approx(found.between_seeds / 6 / variance)


def test_equal_seeds_leave_the_clustered_error_of_the_queries() -> None:
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(60), rng.integers(1, 5, 60))
    one = rng.random(len(clusters)) + rng.random(60)[clusters]
    found = seed_summary([one, one, one], clusters)
    half = t.ppf(0.975, 59) * cluster_standard_error(one, clusters)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=1e-9)
    assert found.between_seeds + found.seed_share == pytest.approx(0, abs=1e-20)
    assert found.df == pytest.approx(59)


def test_shifted_seeds_leave_the_error_of_the_seeds() -> None:
    shifts = np.array([0.0, 1.0, 5.0])
    found = seed_summary(np.tile(0.0, (3, 20)) + shifts[:, None], range(20))
    assert (found.high - found.low) / 2 == pytest.approx(t.ppf(0.975, 2) * shifts.std(ddof=1) / np.sqrt(3))
    assert found.between_seeds == pytest.approx(shifts.var(ddof=1))
    half = (found.new_high - found.new_low) / 2
    assert half == pytest.approx(t.ppf(0.975, 2) * shifts.std(ddof=1) * np.sqrt(4 / 3))


def coverage(spreads: tuple[float, float, float], shape: tuple[int, int], worlds: int) -> tuple[float, float, float]:
    """Shares of worlds: mean held; score of a new seed on new queries held; mean held when seeds are ignored."""
    rng, held = np.random.default_rng(3), np.zeros((worlds, 3))
    for i in range(worlds):
        found = seed_summary(crossed(rng, *spreads, shape), range(shape[1]))
        new = crossed(rng, *spreads, (1, shape[1])).mean()
        values = crossed(rng, *spreads, shape)
        naive = 1.96 * values.mean(axis=0).std(ddof=1) / np.sqrt(shape[1])
        held[i] = found.low <= 5 <= found.high, found.new_low <= new <= found.new_high, abs(values.mean() - 5) < naive
    return tuple(held.mean(axis=0))


def test_intervals_hold_for_new_seeds_and_new_queries_and_the_naive_one_does_not() -> None:
    mean, new, naive = coverage((0.3, 1.0, 1.0), (5, 60), 400)
    assert 0.92 <= mean <= 0.99
    assert 0.92 <= new <= 0.99
    assert naive < 0.86


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 60), (3, 60), (5, 300), (10, 60)])
@pytest.mark.parametrize("spreads", [(0.0, 1.0, 1.0), (0.1, 1.0, 1.0), (0.3, 1.0, 1.0), (1.0, 0.3, 0.3)])
def test_intervals_hold_at_length(shape: tuple[int, int], spreads: tuple[float, float, float]) -> None:
    mean, new, _ = coverage(spreads, shape, 3000)
    assert 0.98 >= mean >= (0.93 if shape[0] > 2 else 0.9)
    assert 0.98 >= new >= (0.91 if shape[0] > 2 else 0.88)


def test_rows_and_names_change_nothing_and_holes_are_counted() -> None:
    rng = np.random.default_rng(5)
    values, clusters = rng.random((3, 50)), rng.integers(0, 20, 50)
    first, order = seed_summary(values, clusters), rng.permutation(50)
    second = seed_summary(values[:, order], [f"c{c}" for c in clusters[order]])
    np.testing.assert_allclose(list(second.flat().values())[:11], list(first.flat().values())[:11], rtol=1e-9)
    holes = seed_summary(np.concatenate([values, np.full((3, 2), np.nan)], axis=1), [*clusters, 0, 1])
    assert (holes.n_missing, holes.low, holes.n_queries) == (2, first.low, 50)


def test_broken_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="at least two seeds"):
        seed_summary([[1.0, 2.0]], [0, 1])
    with pytest.raises(ValueError, match="1 queries are scored under only some"):
        seed_summary([[1.0, np.nan], [1.0, 2.0]], [0, 1])
    with pytest.raises(ValueError, match="at least two clusters"):
        seed_summary([[1.0, 3.0], [1.0, 2.0]], [0, 0])
    with pytest.raises(ValueError, match="of equal length"):
        seed_summary([[1.0, 3.0], [1.0, 2.0]], [0, 1, 2])
