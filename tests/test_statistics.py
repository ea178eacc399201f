"""Intervals, tests and corrections equal formulas, full enumerations and planted truths."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binom

from workbench.statistics import cluster_bootstrap, cluster_standard_error, holm, paired_difference

Array = np.ndarray


def captions(rng: np.random.Generator, n_images: int, rate: float, correlation: float) -> tuple[Array, Array]:
    """Hits of five captions an image; hits of one image are correlated (beta-binomial)."""
    strength = 1 / correlation - 1
    easiness = rng.beta(rate * strength, (1 - rate) * strength, n_images)
    return (rng.random((n_images, 5)) < easiness[:, None]).astype(float).ravel(), np.repeat(np.arange(n_images), 5)


# ---- bootstrap ----


def test_with_one_value_per_cluster_the_spread_is_sd_over_root_n() -> None:
    values = np.random.default_rng(0).normal(size=400)
    found = cluster_bootstrap(values, np.arange(400), n_resamples=8000, seed=1)
    formula = values.std(ddof=1) / 20
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(formula, rel=0.04)
    assert cluster_standard_error(values, np.arange(400)) == pytest.approx(formula, rel=1e-12)
    assert found.value == pytest.approx(values.mean())
    assert found.warnings == ()


def test_unequal_clusters_equal_the_ratio_computed_draw_by_draw() -> None:
    """Three clusters have 27 equally likely draws; quantiles of the exact distribution bound the interval."""
    members = [[1.0], [0.0, 0.0, 1.0], [0.0, 1.0]]
    exact = []
    for draw in itertools.product(members, repeat=3):
        rows = [value for member in draw for value in member]
        exact.append(sum(rows) / len(rows))
    values, labels = np.concatenate(members), np.repeat(["a", "b", "c"], [1, 3, 2])
    found = cluster_bootstrap(values, labels, n_resamples=60_000, level=0.8, seed=3)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(exact, [0.1, 0.9])))


def test_medians_equal_a_loop_over_the_same_kind_of_draws() -> None:
    members = [[1.0, 9.0], [2.0], [7.0, 3.0, 4.0]]
    exact = [np.median([v for m in draw for v in m]) for draw in itertools.product(members, repeat=3)]
    values, labels = np.concatenate(members), np.repeat([5, 6, 7], [2, 1, 3])
    found = cluster_bootstrap(values, labels, statistic="median", n_resamples=40_000, level=0.7, seed=3)
    assert found.value == 3.5
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(exact, [0.15, 0.85])))


def test_the_naive_error_is_too_small_and_the_clustered_one_is_right() -> None:
    """Five captions an image: the truth is the spread of the mean over repeated data sets."""
    rng = np.random.default_rng(8)
    means, naive, clustered = [], [], []
    for _ in range(400):
        values, images = captions(rng, 300, 0.6, 0.3)
        means.append(values.mean())
        naive.append(values.std(ddof=1) / np.sqrt(len(values)))
        clustered.append(cluster_standard_error(values, images))
    truth = np.std(means, ddof=1)
    assert np.mean(clustered) == pytest.approx(truth, rel=0.1)
    assert np.mean(naive) < 0.75 * truth  # theory: 1 / sqrt(1 + 4 * 0.3) = 0.67


def test_names_of_clusters_and_order_of_rows_change_no_byte() -> None:
    rng = np.random.default_rng(2)
    values, images = captions(rng, 40, 0.5, 0.4)
    values = values + rng.integers(0, 3, len(values)) * 0.1
    other = captions(rng, 40, 0.6, 0.4)[0]
    shuffle, names = rng.permutation(len(values)), rng.permutation(40)
    for statistic in ("mean", "median"):
        one = cluster_bootstrap(values, images, statistic=statistic, seed=7, n_resamples=300)
        two = cluster_bootstrap(
            values[shuffle],
            [f"image {names[i]}" for i in images[shuffle]],
            statistic=statistic,
            seed=7,
            n_resamples=300,
        )
        assert one == two
    one = paired_difference(values, other, images, seed=7, n_resamples=300)
    two = paired_difference(values[shuffle], other[shuffle], names[images][shuffle], seed=7, n_resamples=300)
    assert one == two


def test_the_seed_decides_and_nothing_else() -> None:
    values, images = captions(np.random.default_rng(4), 50, 0.5, 0.3)
    one, again = (cluster_bootstrap(values, images, seed=5) for _ in range(2))
    np.random.default_rng(9).random(3)
    assert one == again
    assert cluster_bootstrap(values, images, seed=6) != one
    assert one.flat()["low"] == one.low


def test_memory_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    values, images = captions(np.random.default_rng(4), 50, 0.5, 0.3)
    whole = cluster_bootstrap(values, images, statistic="median"), cluster_bootstrap(values, images)
    monkeypatch.setattr("workbench.statistics.bootstrap._CHUNK", 1000)
    assert (cluster_bootstrap(values, images, statistic="median"), cluster_bootstrap(values, images)) == whole


def test_unscored_queries_are_dropped_and_counted() -> None:
    values, images = captions(np.random.default_rng(4), 50, 0.5, 0.3)
    holes, labels = np.append(values, [np.nan, np.nan]), np.append(images, [0, 77])
    with_holes, without = cluster_bootstrap(holes, labels), cluster_bootstrap(values, images)
    assert (with_holes.value, with_holes.low, with_holes.high) == (without.value, without.low, without.high)
    assert (with_holes.n_missing, with_holes.n, with_holes.n_clusters) == (2, 250, 50)


def test_one_cluster_and_no_value_have_no_interval_but_do_not_fail() -> None:
    single = cluster_bootstrap([0.0, 1.0, 1.0], ["x", "x", "x"])
    assert single.value == pytest.approx(2 / 3)
    assert np.isnan([single.low, single.high]).all()
    assert "one cluster" in single.warnings[0]
    for values in ([], [np.nan, np.nan]):
        empty = cluster_bootstrap(values, range(len(values)))
        assert np.isnan([empty.value, empty.low, empty.high]).all()
        assert "nothing to estimate" in empty.warnings[0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 1.0] * 10, ["fewer than 30"]),
        ([1.0] * 97 + [0.0] * 3, ["close to 0 or 1"]),
        ([0.0] * 97 + [1.0] * 3, ["close to 0 or 1"]),
        ([1.0] * 50, ["not evidence of certainty", "close to 0 or 1"]),
        ([1.0, 0.0] * 50, []),
        ([12.0, 700.0] * 50, []),
    ],
)
def test_warnings_say_where_the_interval_should_not_be_trusted(values: list[float], expected: list[str]) -> None:
    found = cluster_bootstrap(values, range(len(values)))
    assert len(found.warnings) == len(expected)
    for words, sentence in zip(expected, found.warnings, strict=True):
        assert words in sentence


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 2.0], [0]), "of equal length"),
        (([1.0, np.inf], [0, 1]), "1 values are infinite"),
        (([1.0, 2.0], [0.0, np.nan]), "labels are NaN"),
    ],
)
def test_broken_input_is_refused(arguments: tuple[list[float], list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cluster_bootstrap(*arguments)


def test_broken_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="level"):
        cluster_bootstrap([1.0, 2.0], [0, 1], level=95)
    with pytest.raises(ValueError, match="n_resamples"):
        cluster_bootstrap([1.0, 2.0], [0, 1], n_resamples=5)
    with pytest.raises(ValueError, match="unknown statistic"):
        cluster_bootstrap([1.0, 2.0], [0, 1], statistic="mode")  # type: ignore[arg-type]


def coverage(n_images: int, rate: float, repetitions: int) -> float:
    rng, covered = np.random.default_rng(12), 0
    for seed in range(repetitions):
        values, images = captions(rng, n_images, rate, 0.3)
        found = cluster_bootstrap(values, images, n_resamples=500, seed=seed)
        covered += found.low <= rate <= found.high
    return covered / repetitions


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    assert 0.90 <= coverage(120, 0.6, 250) <= 0.985


def test_the_coverage_printed_in_the_warning_near_a_rate_of_one() -> None:
    """Interval for each number of misses among 100, weighted by how likely that number is."""
    misses = np.arange(16)
    found = [cluster_bootstrap([1.0] * (100 - m) + [0.0] * m, range(100), n_resamples=4000, seed=m) for m in misses]
    rates = np.linspace(0.965, 0.975, 200)
    covered = np.array([(one.low <= rates) & (rates <= one.high) for one in found])
    by_rate = (binom.pmf(misses[:, None], 100, 1 - rates) * covered).sum(axis=0)
    assert by_rate.mean() == pytest.approx(0.88, abs=0.015)
    assert by_rate.min() == pytest.approx(0.80, abs=0.02)
    assert by_rate.max() == pytest.approx(0.945, abs=0.015)
    assert "88 % on average" in found[3].warnings[0]


@pytest.mark.slow
def test_coverage_at_length_and_where_it_fails() -> None:
    assert 0.935 <= coverage(200, 0.6, 4000) <= 0.96
    assert coverage(100, 0.97, 4000) < 0.93  # the regime the warning is about


# ---- paired comparison ----


def slow_p_value(differences: list[float]) -> float:
    seen, extreme, total = abs(sum(differences)), 0, 0
    for signs in itertools.product([-1, 1], repeat=len(differences)):
        total += 1
        extreme += abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= seen - 1e-9
    return extreme / total


@pytest.mark.parametrize("seed", range(6))
def test_the_randomisation_test_counts_every_sign_flip(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.integers(0, 9, 25))
    a, b = rng.integers(0, 3, 25).astype(float), rng.integers(0, 4, 25).astype(float)
    sums = [float((b - a)[labels == label].sum()) for label in np.unique(labels)]
    found = paired_difference(a, b, labels)
    assert found.p_value == pytest.approx(slow_p_value(sums), abs=1e-15)
    assert found.value == pytest.approx(b.mean() - a.mean())
    assert (found.wins, found.losses, found.ties) == ((b > a).sum(), (b < a).sum(), (b == a).sum())


def test_rounding_does_not_break_equal_totals() -> None:
    """Tenths have no exact floating-point sums; the same counts in whole numbers do."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        whole = rng.integers(-4, 5, 8)
        found = paired_difference(np.zeros(8), whole / 10, range(8), n_resamples=100)
        assert found.p_value == slow_p_value(whole.tolist())


def test_random_flips_agree_with_all_flips() -> None:
    rng = np.random.default_rng(3)
    difference = rng.normal(0.4, 1, 14)
    found = paired_difference(np.zeros(14), difference, range(14), n_permutations=40_000)
    assert "40000 random sign flips of 14" in found.method
    assert found.p_value == pytest.approx(slow_p_value(difference.tolist()), abs=0.006)


def test_a_large_difference_never_has_a_p_value_of_zero() -> None:
    found = paired_difference(np.zeros(50), np.ones(50), range(50), n_permutations=999)
    assert found.p_value == 1 / 1000


def test_two_equal_systems() -> None:
    same = np.random.default_rng(0).random(40)
    found = paired_difference(same, same, range(40))
    assert (found.value, found.p_value, found.ties) == (0.0, 1.0, 40)
    assert np.isnan(found.minimum_detectable)
    assert any("not evidence of certainty" in word for word in found.warnings)


def test_captions_of_one_image_flip_together() -> None:
    """Twenty wins on four images are four observations, not twenty."""
    found = paired_difference(np.zeros(20), np.ones(20), np.repeat(np.arange(4), 5))
    assert found.p_value == 2 / 2**4
    assert any("can reach 5 %" in word for word in found.warnings)


def test_minimum_detectable_difference_is_found_in_four_of_five_repetitions() -> None:
    rng = np.random.default_rng(6)
    n, spread = 100, 1.0
    promised = np.mean(
        [paired_difference(np.zeros(n), rng.normal(0, spread, n), range(n)).minimum_detectable for _ in range(20)]
    )
    assert promised == pytest.approx(2.8016 * spread / 10, rel=0.05)
    found = [
        paired_difference(np.zeros(n), rng.normal(promised, spread, n), range(n), n_permutations=499, seed=s).p_value
        for s in range(200)
    ]
    assert 0.7 <= np.mean(np.array(found) <= 0.05) <= 0.9


def test_false_alarms_stay_at_the_level() -> None:
    rng = np.random.default_rng(11)
    alarms = []
    for seed in range(400):
        (a, images), (b, _) = captions(rng, 40, 0.6, 0.3), captions(rng, 40, 0.6, 0.3)
        alarms.append(paired_difference(a, b, images, n_resamples=100, n_permutations=399, seed=seed).p_value <= 0.05)
    assert 0.02 <= np.mean(alarms) <= 0.08


def test_missing_on_both_sides_is_dropped_and_on_one_side_refused() -> None:
    a, b = np.array([0.0, 1.0, np.nan, 0.0]), np.array([1.0, 1.0, np.nan, 1.0])
    found = paired_difference(a, b, [0, 1, 2, 3])
    assert (found.n, found.n_missing, found.value) == (3, 1, pytest.approx(2 / 3))
    with pytest.raises(ValueError, match="1 queries are scored in only one"):
        paired_difference(a, np.ones(4), [0, 1, 2, 3])
    with pytest.raises(ValueError, match="same queries in the same order"):
        paired_difference(np.ones(3), np.ones(4), [0, 1, 2, 3])


def test_one_cluster_cannot_be_compared_but_does_not_fail() -> None:
    found = paired_difference([0.0, 0.0], [1.0, 1.0], ["x", "x"])
    assert np.isnan([found.low, found.high, found.minimum_detectable]).all()
    assert found.p_value == 1.0


# ---- several comparisons ----


def test_holm_equals_the_stepwise_definition() -> None:
    """Reject in order of size while p <= level / (what is left); the adjusted value is the smallest such level."""
    p_values = np.random.default_rng(2).random(7) ** 3
    adjusted = holm(p_values)
    for level in np.linspace(0.001, 0.999, 997):
        rejected = np.zeros(7, dtype=bool)
        for step, index in enumerate(np.argsort(p_values)):
            if p_values[index] > level / (7 - step):
                break
            rejected[index] = True
        np.testing.assert_array_equal(adjusted <= level, rejected)


def test_holm_on_published_numbers_ties_and_gaps() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, 0.5, 0.9]), [1.0, 1.0, 1.0])
    np.testing.assert_allclose(holm([0.01, np.nan, 0.04]), [0.02, np.nan, 0.04])
    assert holm([]).shape == (0,)
    with pytest.raises(ValueError, match=r"0\.\.1"):
        holm([0.2, 1.2])
