"""The chance distribution of hubness: p-values are uniform when lists are random, whatever the sizes."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.stats import kstest, skew

from workbench.diagnostics.hubness import chance_occurrence, hubness
from workbench.search import TopK, same_items, scan
from workbench.types import Neighbours, unit_vectors

N_NULL = 999


def statistics(counts: np.ndarray) -> dict[str, np.ndarray]:
    """The measures of (draws, n_gallery) counts the plain way, by their names."""
    ordered = np.sort(counts, axis=1)
    n, total = counts.shape[1], counts.sum(axis=1)
    return {
        "skewness": skew(counts, axis=1),
        "max_occurrence": ordered[:, -1],
        "antihub_share": (counts == 0).mean(axis=1),
        "robin_hood": np.abs(counts - total[:, None] / n).sum(axis=1) / (2 * total),
        "gini": (ordered * (2 * np.arange(1, n + 1) - n - 1)).sum(axis=1) / (n * total),
    }


def random_lists(rng: np.random.Generator, n_queries: int, n_gallery: int, k: int) -> Neighbours:
    """The k smallest of random keys per query: a way to draw that shares nothing with the library's samplers."""
    indices = np.argpartition(rng.random((n_queries, n_gallery)), k - 1, axis=1)[:, :k]
    return Neighbours(indices, np.zeros(indices.shape), n_gallery, True, np.zeros(n_queries, bool))


@cache
def settings(n_settings: int = 500, seed: int = 2) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(p, outside the 95 % band) by measure over random sizes: 10 to 80 queries, 10 to 80 items, k from 1 to 6.

    Counts are whole numbers, so values tie and the p-value of the library (draws at least as large) is conservative: by
    a hair for the skewness, by much for the maximum. Here ties are broken at random, which makes p exactly uniform if
    the null is right. A value on an end of the band is inside, which makes the band of the maximum too wide.
    """
    rng = np.random.default_rng(seed)
    p: dict[str, list[float]] = {}
    outside: dict[str, list[float]] = {}
    for number in range(n_settings):
        n_queries, n_gallery = (int(n) for n in rng.integers(10, 81, size=2))
        n_queries += n_queries == n_gallery
        k = int(rng.integers(1, 7))
        lists = random_lists(rng, n_queries, n_gallery, k)
        found = hubness(lists, direction="t2i", n_null=N_NULL, seed=number)
        draws = chance_occurrence(n_queries, n_gallery, k, n_draws=N_NULL, seed=number)
        null, value = statistics(np.concatenate(list(draws))), statistics(found.occurrence[None])
        for name in null:
            x, tolerance, measure = value[name][0], 1e-9, found.measure(name)
            above, equal = (null[name] > x + tolerance).sum(), (np.abs(null[name] - x) <= tolerance).sum()
            assert measure.value == pytest.approx(x, abs=tolerance)
            assert measure.p_value == pytest.approx((1 + above + equal) / (1 + N_NULL))
            assert (measure.low, measure.high) == pytest.approx(tuple(np.quantile(null[name], [0.025, 0.975])))
            broken = (above + rng.random() * (1 + equal)) / (1 + N_NULL)
            p.setdefault(name, []).append(broken)
            outside.setdefault(name, []).append(x < measure.low - tolerance or x > measure.high + tolerance)
    return {name: np.array(v) for name, v in p.items()}, {name: np.array(v) for name, v in outside.items()}


@pytest.mark.parametrize("name", ["skewness", "max_occurrence", "antihub_share", "robin_hood", "gini"])
def test_p_values_are_uniform_in_five_hundred_settings(name: str) -> None:
    p = settings()[0][name]
    assert kstest(p, "uniform").pvalue > 0.01
    assert 0.03 <= np.mean((p < 0.025) | (p > 0.975)) <= 0.07


def test_the_band_leaves_out_what_it_says() -> None:
    """Skewness and Gini have so many values that the plain band holds 95 %; the maximum has few, and its band more."""
    outside = settings()[1]
    for name in ("skewness", "gini"):
        assert 0.03 <= outside[name].mean() <= 0.07, name
    assert outside["max_occurrence"].mean() <= 0.05


def test_lists_that_are_not_random_are_seen() -> None:
    """The same machinery on lists with a mild favourite: p is far from uniform, so the tests above can fail."""
    rng = np.random.default_rng(3)
    p = []
    for number in range(40):
        keys = rng.random((60, 35))
        keys[:, 0] *= 0.5
        indices = np.argpartition(keys, 3, axis=1)[:, :4]
        lists = Neighbours(indices, np.zeros(indices.shape), 35, True, np.zeros(60, bool))
        p.append(hubness(lists, direction="t2i", n_null=99, seed=number).measure("skewness").p_value)
    assert kstest(p, "uniform").pvalue < 1e-4


# --- within a modality ----------------------------------------------------------------------------


def lists_without_self(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    """(n, k) every query picks k distinct others of n."""
    keys = rng.random((n, n))
    np.fill_diagonal(keys, np.inf)
    return np.argpartition(keys, k - 1, axis=1)[:, :k]


def test_a_gallery_in_itself() -> None:
    """Random directions search themselves, self left out by id: no self in a list, counts as by hand, no verdict."""
    rng = np.random.default_rng(4)
    vectors = unit_vectors(rng.normal(size=(150, 200)))
    ids = [f"item-{i}" for i in range(150)]
    (lists,) = scan(vectors, vectors, [TopK(3, exclude=same_items(ids, ids))])
    found = hubness(lists, direction="i2i", n_null=100)
    assert not (lists.indices == np.arange(150)[:, None]).any()
    scores = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    np.fill_diagonal(scores, -np.inf)
    by_hand = np.bincount(np.argsort(-scores, axis=1)[:, :3].ravel(), minlength=150)
    assert found.occurrence.tolist() == by_hand.tolist()
    assert found.occurrence.sum() == 3 * 150
    assert [finding.name for finding in found.findings()] == ["i2i/hubness", "i2i/antihubs"]


@pytest.mark.parametrize(("n", "k"), [(20, 10), (50, 10), (30, 3)])
def test_chance_within_a_modality_is_too_wide_by_the_stated_factor(n: int, k: int) -> None:
    """Variance of a count: chance (k of n) over truth (k of the n - 1 others) is (n - 1)(n - k) / (n (n - 1 - k))."""
    rng = np.random.default_rng(5)
    truth = np.array([np.bincount(lists_without_self(rng, n, k).ravel(), minlength=n) for _ in range(4000)])
    chance = np.concatenate(list(chance_occurrence(n, n, k, n_draws=4000, seed=6)))
    stated = (n - 1) * (n - k) / (n * (n - 1 - k))
    exact = (n - 1) * k / (n - 1) * (1 - k / (n - 1))
    assert truth.var() == pytest.approx(exact, rel=0.015)
    assert chance.var() / exact == pytest.approx(stated, rel=0.015)


def test_p_values_within_a_modality_are_uniform() -> None:
    """At usual sizes the difference does not show: 100 sets of 40 to 80 items, k from 1 to 5."""
    rng = np.random.default_rng(7)
    p = []
    for number in range(100):
        n, k = int(rng.integers(40, 81)), int(rng.integers(1, 6))
        indices = lists_without_self(rng, n, k)
        lists = Neighbours(indices, np.zeros(indices.shape), n, True, np.zeros(n, bool))
        p.append(hubness(lists, direction="i2i", n_null=199, seed=number).measure("skewness").p_value)
    assert kstest(np.array(p) - rng.random(100) / 200, "uniform").pvalue > 0.01
