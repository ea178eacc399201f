"""A paired comparison with 10,000 resamples and sign flips: this package, scipy.stats, and a loop over resamples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.inputs import Array, World
from tests.benchmarks.measure import Checked, Competitor, Group
from workbench.statistics import paired_difference

SIZES = {"tiny": (150, 30, 2000), "small": (5000, 1000, 10_000), "full": (25_000, 5000, 10_000)}
"""Queries, clusters, resamples."""
MONTE_CARLO = 5.0
"""Two Monte-Carlo figures may lie this many of their standard errors apart."""
Outcome = dict[str, float]


def groups(size: str, world: World, folder: Path) -> Iterator[Group]:
    n_queries, n_clusters, n_resamples = SIZES[size]
    settings = {"n_queries": n_queries, "n_clusters": n_clusters, "n_resamples": n_resamples}
    yield Group(
        f"paired test: {n_queries} queries in {n_clusters} clusters, {n_resamples} resamples and sign flips",
        (
            Competitor("workbench", prepare, ours, check, settings, ("workbench.statistics",)),
            Competitor("scipy.stats", prepare, with_scipy, check, settings, ("scipy.stats",)),
            Competitor("numpy, one resample at a time", prepare, with_a_loop, check, settings),
        ),
        facts=lambda rows: {f"{name} / workbench, seconds": row.over(rows["workbench"])
                            for name, row in rows.items() if name != "workbench"},
    )  # fmt: skip


def prepare(*, n_queries: int, n_clusters: int, n_resamples: int) -> dict[str, Any]:
    """Two systems scored per query, the second better by 1.3 standard errors of their difference."""
    rng = np.random.default_rng(n_queries)
    clusters = np.arange(n_queries) % n_clusters
    first = rng.random(n_queries)
    step = 0.2 * (rng.normal(size=n_queries) + rng.normal(size=n_clusters)[clusters])
    sums = np.bincount(clusters, step - step.mean())
    shift = 1.3 * np.sqrt((sums**2).sum()) / n_queries
    return {"a": first, "b": first + step - step.mean() + shift, "clusters": clusters, "n_resamples": n_resamples}


def ours(inputs: Mapping[str, Any]) -> Outcome:
    n = inputs["n_resamples"]
    found = paired_difference(inputs["a"], inputs["b"], inputs["clusters"], n_resamples=n, n_permutations=n, seed=1)
    return {"value": found.value, "low": found.low, "high": found.high, "p": found.p_value}


def _per_cluster(inputs: Mapping[str, Any]) -> tuple[Array, Array]:
    clusters = inputs["clusters"]
    return np.bincount(clusters, inputs["b"] - inputs["a"]), np.bincount(clusters)


def with_scipy(inputs: Mapping[str, Any]) -> Outcome:
    """``bootstrap`` of the ratio of cluster sums to cluster sizes, ``permutation_test`` that flips the sums' signs."""
    from scipy import stats

    sums, sizes = _per_cluster(inputs)
    n, rng = inputs["n_resamples"], np.random.default_rng(2)
    interval = stats.bootstrap(
        (sums, sizes), lambda s, c, axis: s.sum(axis) / c.sum(axis), paired=True, vectorized=True, n_resamples=n,
        batch=500, method="percentile", rng=rng,
    ).confidence_interval  # fmt: skip
    test = stats.permutation_test(
        (sums,), lambda s, axis: s.sum(axis), permutation_type="samples", vectorized=True, n_resamples=n, batch=500,
        alternative="two-sided", rng=rng,
    )  # fmt: skip
    value = float((inputs["b"] - inputs["a"]).mean())
    return {"value": value, "low": float(interval.low), "high": float(interval.high), "p": float(test.pvalue)}


def with_a_loop(inputs: Mapping[str, Any]) -> Outcome:
    """What is written by hand: one resample, one set of signs at a time."""
    sums, sizes = _per_cluster(inputs)
    n, rng = inputs["n_resamples"], np.random.default_rng(3)
    means, extreme = np.empty(n), 0
    for resample in range(n):
        drawn = rng.integers(0, len(sums), len(sums))
        means[resample] = sums[drawn].sum() / sizes[drawn].sum()
        extreme += abs((sums * rng.choice([-1.0, 1.0], len(sums))).sum()) >= abs(sums.sum())
    low, high = np.quantile(means, [0.025, 0.975])
    value = float((inputs["b"] - inputs["a"]).mean())
    return {"value": value, "low": float(low), "high": float(high), "p": (extreme + 1) / (n + 1)}


def check(inputs: Mapping[str, Any], result: Outcome) -> Checked:
    """Against the normal limit that both resamplings have, with room for Monte-Carlo error and for few clusters."""
    from scipy.special import ndtr, ndtri

    sums, sizes = _per_cluster(inputs)
    value, n, few = sums.sum() / sizes.sum(), inputs["n_resamples"], 3 / len(sums)
    spread = float(np.sqrt(((sums - value * sizes) ** 2).sum()) / sizes.sum())
    p = 2 * float(ndtr(-abs(sums.sum()) / np.sqrt((sums**2).sum())))
    # A quantile at 2.5 % of a normal sample of n: sqrt(.025 * .975 / n) / density(1.96) = 2.67 / sqrt(n) deviations.
    allowed = {"value": 1e-12, "p": MONTE_CARLO * np.sqrt(p * (1 - p) / n) + few}
    allowed["low"] = allowed["high"] = spread * (MONTE_CARLO * 2.67 / np.sqrt(n) + few)
    expected = {"value": value, "p": p, "low": value + ndtri(0.025) * spread, "high": value + ndtri(0.975) * spread}
    wrong = [f"{name} {result[name]:.5f} instead of {expected[name]:.5f}" for name in expected
             if not abs(result[name] - expected[name]) <= allowed[name]]  # fmt: skip
    seen = f"p {result['p']:.3f}, interval {result['low']:.5f} to {result['high']:.5f}, within Monte-Carlo error"
    return Checked(not wrong, "; ".join(wrong) or seen, {"value": result["value"]})
