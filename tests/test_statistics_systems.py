"""Rank sets hold the true places; equal, absent and duplicate systems; a slow definition gives the same pairs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from workbench.statistics import paired_difference, rank_sets

Array = np.ndarray


def systems(rng: np.random.Generator, means: Array, n_clusters: int) -> tuple[Array, Array]:
    """Values of systems that share the difficulty of a query and err alike inside a cluster of one to four."""
    clusters = np.repeat(np.arange(n_clusters), rng.integers(1, 5, n_clusters))
    common = rng.normal(size=n_clusters)[clusters] + rng.normal(size=len(clusters))
    own = rng.normal(size=(len(means), n_clusters))[:, clusters] + rng.normal(size=(len(means), len(clusters)))
    return np.asarray(means)[:, None] + common + own, clusters


def true_places(means: Array) -> Array:
    return 1 + (np.asarray(means) > np.asarray(means)[:, None]).sum(axis=1)


def coverage(means: list[float], n_clusters: int, worlds: int) -> tuple[float, float]:
    """Share of worlds in which all places are held, and the mean number of places in a set."""
    rng, held, wide = np.random.default_rng(len(means)), 0, []
    for seed in range(worlds):
        found = rank_sets(*systems(rng, np.array(means), n_clusters), n_resamples=400, seed=seed)
        places = true_places(np.array(means))
        held += bool(((found.low <= places) & (places <= found.high)).all())
        wide.append((found.high - found.low + 1).mean())
    return held / worlds, float(np.mean(wide))


def test_sets_hold_all_true_places_of_equal_and_of_unlike_systems() -> None:
    held, wide = coverage([0.0] * 6, 80, 300)
    assert 0.92 <= held <= 0.98
    assert wide > 5.8
    held, wide = coverage([0.0, 0.0, 0.3, 0.3, 0.6, 2.0], 80, 300)
    assert held >= 0.93
    assert wide < 4


@pytest.mark.slow
@pytest.mark.parametrize("n_clusters", [15, 60, 300])
@pytest.mark.parametrize(
    "means",
    [[0.0, 0.0], [0.0] * 10, [0.1 * j for j in range(6)], [0.0, 0.0, 0.3, 0.3, 0.6, 2.0], [0.0] * 5 + [1.0] * 5],
)
def test_sets_hold_all_true_places_at_length(means: list[float], n_clusters: int) -> None:
    assert coverage(means, n_clusters, 2000)[0] >= 0.94


def slow_step_down(values: Array, clusters: Array, level: float, signs: Array, steps: int = 4) -> Array:
    """Every pair by itself, every flip by itself."""
    p = len(values)
    labels = np.unique(clusters)
    seen, flips = {}, {}
    for j, k in itertools.permutations(range(p), 2):
        sums = np.array([(values[j] - values[k])[clusters == label].sum() for label in labels])
        seen[j, k] = sums.mean() / sums.std(ddof=1)
        flips[j, k] = [(sign * sums).mean() / (sign * sums).std(ddof=1) for sign in signs]
    beats = np.zeros((p, p), bool)
    for _ in range(steps):
        left = [pair for pair in seen if not beats[pair]]
        largest = np.sort(np.max([flips[pair] for pair in left], axis=0))
        critical = largest[int(np.ceil(level * (len(signs) + 1))) - 1]
        new = [pair for pair in left if seen[pair] > critical]
        for pair in new:
            beats[pair] = True
    return beats


def uneven(seed: int) -> tuple[Array, Array, Array]:
    """Four systems, two of which err almost alike; random signs for the slow way."""
    rng = np.random.default_rng(seed)
    values, clusters = systems(rng, np.array([0.0, 0.0, 0.5, 0.9]), 40)
    values[1] = values[0] + rng.normal(0.08, 0.25, len(clusters))
    return values, clusters, rng.choice([-1.0, 1.0], (1500, 40))


@pytest.mark.parametrize("seed", [120, 153, 305])
def test_pairs_equal_a_slow_step_down_over_the_same_kind_of_flips(seed: int) -> None:
    """Worlds in which a later step decides more pairs than the first."""
    values, clusters, signs = uneven(seed)
    slow = slow_step_down(values, clusters, 0.9, signs)
    found = rank_sets(values, clusters, level=0.9, n_resamples=4000)
    np.testing.assert_array_equal(found.beats, slow)
    assert slow_step_down(values, clusters, 0.9, signs, steps=1).sum() < slow.sum()
    np.testing.assert_array_equal(found.low, 1 + slow.sum(axis=0))
    np.testing.assert_array_equal(found.high, 4 - slow.sum(axis=1))
    np.testing.assert_array_equal(found.ranks, 1 + (values.mean(axis=1) > values.mean(axis=1)[:, None]).sum(axis=1))


@pytest.mark.parametrize("seed", range(3))
def test_two_systems_are_told_apart_exactly_when_the_paired_test_says_so(seed: int) -> None:
    rng = np.random.default_rng(seed)
    decided = []
    for lead in np.linspace(0, 1.2, 13):
        values, clusters = systems(rng, np.array([0.0, lead]), 20)
        found = rank_sets(values, clusters, n_resamples=4000)
        p_value = paired_difference(values[0], values[1], clusters, n_permutations=9999).p_value
        assert found.beats.any() == (p_value <= 0.05) or 0.04 < p_value < 0.06
        decided.append(found.beats.any())
    assert 0 < sum(decided) < 13


@pytest.mark.parametrize("seed", range(5))
def test_a_constant_lead_is_not_lost_in_rounding(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one = rng.random(60)
    found = rank_sets([one, one + 0.3, one + 0.1 * rng.random(60) + 0.6], range(60), n_resamples=400, seed=seed)
    np.testing.assert_array_equal([found.low, found.high], [[3, 2, 1]] * 2)


def test_equal_and_duplicate_systems_are_never_told_apart() -> None:
    rng = np.random.default_rng(2)
    one = rng.random(90)
    found = rank_sets([one, one, one - 0.5 + 0.01 * rng.random(90)], range(90))
    np.testing.assert_array_equal(found.low, [1, 1, 3])
    np.testing.assert_array_equal(found.high, [2, 2, 3])
    np.testing.assert_array_equal(found.ranks, [1, 1, 3])


def test_rows_names_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    values, clusters = systems(rng, np.linspace(0, 0.6, 5), 50)
    first, order = rank_sets(values, clusters, seed=3).flat(), rng.permutation(len(clusters))
    assert rank_sets(values[:, order], [f"c{c}" for c in clusters[order]], seed=3).flat() == first
    monkeypatch.setattr("workbench.statistics.systems._CHUNK", 1000)
    assert rank_sets(values, clusters, seed=3).flat() == first
    holes = np.concatenate([values, np.full((5, 3), np.nan)], axis=1)
    assert rank_sets(holes, [*clusters, 1, 2, 3], seed=3).flat() == {**first, "n_missing": 3}


def test_too_few_clusters_decide_nothing_and_say_so() -> None:
    """Four clusters have sixteen sign patterns: no pair can reach 5 %, however far apart."""
    found = rank_sets(np.array([[0.0] * 8, [1.0] * 8]), np.repeat(range(4), 2))
    np.testing.assert_array_equal(found.high - found.low, [1, 1])
    assert "Only 4 clusters" in found.warnings[0]
    giant = rank_sets(np.random.default_rng(0).random((3, 100)), np.r_[np.zeros(60), np.arange(1, 41)])
    assert "the largest holds 60 %" in giant.warnings[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1.0, 2.0]], "at least two systems"),
        ([1.0, 2.0], "at least two systems"),
        ([[1.0, np.nan, 2.0], [1.0, 2.0, 3.0]], "1 queries are scored by only some"),
        ([[1.0, np.inf, 2.0], [1.0, 2.0, 3.0]], "infinite"),
    ],
)
def test_broken_tables_are_refused(values: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rank_sets(values, range(np.shape(values)[-1]))
    with pytest.raises(ValueError, match="two clusters"):
        rank_sets([[1.0, 2.0], [0.0, 1.0]], [0, 0])
