"""Randomisation tests, false discovery rates and planning equal scipy, enumeration and simulated studies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from workbench.statistics import (
    benjamini_hochberg,
    clusters_needed,
    holm,
    minimum_detectable,
    minimum_detectable_hits,
    paired_difference,
    randomization_test,
)


@pytest.mark.parametrize("seed", range(5))
def test_all_flips_equal_scipys_permutation_test(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(-3, 4, 9).astype(float) if seed % 2 else rng.normal(size=9)
    slow = stats.permutation_test(
        (values,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    found = randomization_test(values, range(9))
    assert found.p_value == pytest.approx(min(slow.pvalue, 1.0), rel=1e-12)
    assert found.exact
    assert found.n_differing == (values != 0).sum()


@pytest.mark.parametrize("n", [13, 31, 32, 33, 65])
def test_random_flips_agree_with_the_exact_distribution_of_counts(n: int) -> None:
    """Differences of one in all clusters: the total is binomial."""
    values = np.ones(n)
    wins = stats.binom.ppf(0.96, n, 0.5)
    values[int(wins) :] = -1.0
    expected = 2 * stats.binom.sf(wins - 1, n, 0.5)
    found = randomization_test(values, range(n), n_permutations=60_000)
    assert found.p_value == pytest.approx(expected, abs=5 * np.sqrt(expected / 60_000))
    assert not found.exact


def test_every_cluster_gets_its_own_fair_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    """One cluster at a time outweighs all others by powers of two: totals read back as signs."""
    from workbench.statistics.randomization import _flipped

    for n in (13, 40):
        weights = 2.0 ** np.arange(n)
        totals = np.concatenate(list(_flipped(weights, 4000, 3)))
        negative = ((weights.sum() - totals) / 2).astype(np.int64)
        signs = negative[:, None] >> np.arange(n) & 1
        np.testing.assert_array_equal((1 - 2 * signs) @ weights, totals)
        assert np.abs(signs.mean(axis=0) - 0.5).max() < 0.04
        assert np.abs(np.corrcoef(signs.T) - np.eye(n)).max() < 0.08
        monkeypatch.setattr("workbench.statistics.randomization._CHUNK", 100)
        np.testing.assert_array_equal(np.concatenate(list(_flipped(weights, 4000, 3))), totals)
        monkeypatch.undo()


def test_it_is_the_test_of_the_paired_difference() -> None:
    rng = np.random.default_rng(1)
    a, b, clusters = rng.random(60), rng.random(60) + 0.1, rng.integers(0, 25, 60)
    found, paired = randomization_test(b - a, clusters, seed=4), paired_difference(a, b, clusters, seed=4)
    assert (found.p_value, found.statistic) == (paired.p_value, paired.value)
    holes = randomization_test([*(b - a), np.nan], [*clusters, 3], seed=4)
    assert (holes.p_value, holes.n_missing, holes.n) == (found.p_value, 1, 60)


def test_p_is_never_zero_and_undefined_without_values() -> None:
    assert randomization_test(np.ones(40), range(40), n_permutations=99).p_value == 0.01
    assert randomization_test([0.0, 0.0], [0, 1]).p_value == 1.0
    assert np.isnan(randomization_test([np.nan], [0]).p_value)
    with pytest.raises(ValueError, match="n_permutations"):
        randomization_test([1.0, 2.0], [0, 1], n_permutations=0)


def test_false_discovery_rates_equal_scipy() -> None:
    rng = np.random.default_rng(0)
    for m in (1, 2, 7, 300):
        p_values = np.round(rng.random(m) ** 3, 2)
        np.testing.assert_allclose(benjamini_hochberg(p_values), stats.false_discovery_control(p_values), rtol=1e-12)
        assert (benjamini_hochberg(p_values) <= holm(p_values)).all()
    np.testing.assert_allclose(benjamini_hochberg([0.01, np.nan, 0.04]), [0.02, np.nan, 0.04])
    assert benjamini_hochberg([]).shape == (0,)
    with pytest.raises(ValueError, match=r"0\.\.1"):
        benjamini_hochberg([0.2, -0.1])


@pytest.mark.parametrize(("n", "power", "alpha"), [(5, 0.8, 0.05), (40, 0.8, 0.05), (40, 0.9, 0.01), (5000, 0.8, 0.05)])
def test_a_planned_difference_is_found_as_often_as_asked(n: int, power: float, alpha: float) -> None:
    difference = minimum_detectable(n, 2.0, alpha=alpha, power=power)
    shifted = stats.nct(n - 1, difference / 2 * np.sqrt(n))
    assert shifted.sf(stats.t.ppf(1 - alpha / 2, n - 1)) == pytest.approx(power, abs=1e-4)
    rng = np.random.default_rng(n)
    if n == 40:
        samples = rng.normal(difference, 2.0, (4000, n))
        assert (stats.ttest_1samp(samples, 0, axis=1).pvalue <= alpha).mean() == pytest.approx(power, abs=0.02)


def test_planned_hits_are_found_as_often_as_asked() -> None:
    n, discordant = 400, 0.1
    difference = minimum_detectable_hits(n, discordant)
    sd = np.sqrt(discordant - difference**2)
    assert difference == pytest.approx((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * sd / np.sqrt(n), rel=1e-12)
    rng = np.random.default_rng(0)
    shares = [(discordant - difference) / 2, (discordant + difference) / 2]
    drawn = rng.multinomial(n, [*shares, 1 - discordant], 4000)[:, :2]
    p_values = 2 * stats.binom.sf(drawn.max(axis=1) - 1, drawn.sum(axis=1), 0.5)
    assert 0.72 <= (p_values <= 0.05).mean() <= 0.82  # the exact sign test is a little conservative
    assert np.isnan(minimum_detectable_hits(50, 0.1))
    assert minimum_detectable_hits(400, 0.0) == 0.0


def test_the_clusters_needed_are_the_fewest_that_do() -> None:
    for difference, sd in ((0.05, 0.5), (1.0, 0.9), (3.0, 0.1)):
        needed = clusters_needed(difference, sd)
        assert minimum_detectable(needed, sd) <= difference
        assert needed == 2 or minimum_detectable(needed - 1, sd) > difference


def test_the_plan_agrees_with_the_data_it_plans_for() -> None:
    """Clusters of three agreeing queries: the sd of a cluster's mean is what counts."""
    rng = np.random.default_rng(3)
    means = rng.normal(0, 1, 400)
    found = paired_difference(np.zeros(1200), np.repeat(means, 3), np.repeat(np.arange(400), 3))
    assert minimum_detectable(400, means.std(ddof=1)) == pytest.approx(found.minimum_detectable, rel=0.01)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: minimum_detectable(1, 1.0), "at least 2"),
        (lambda: minimum_detectable(10, -1.0), "sd must"),
        (lambda: minimum_detectable(10, 1.0, alpha=5), "alpha must"),
        (lambda: minimum_detectable_hits(10, 2.0), "a share in"),
        (lambda: clusters_needed(0.0, 1.0), "above 0"),
    ],
)
def test_broken_plans_are_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
