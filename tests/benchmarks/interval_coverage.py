"""How often the 95 % interval of cluster_bootstrap holds the truth, and whether its warnings say where it does not.

    python tests/benchmarks/interval_coverage.py [worlds per cell, default 2000]

Worlds: 0/1 values whose rate is known; a cluster's queries take its common value with probability 0.5, else their own.
Cluster sizes: one query each; one to five; lognormal (a few clusters ten times the median); and one giant cluster that
holds a tenth of all queries among clusters of one to five. "tail" worlds have lognormal values instead, one per
cluster (ranks, times). Per cell: coverage in per cent / share of worlds with a warning in per cent. ``naive`` is the
interval of the same values taken as independent queries. In the second table the rate of each world is drawn within
15 % of the one printed (of what is missing to 1 if that is less): at single rates the few values that a rate of so many
queries can take make coverage jump by several per cent. A cell is marked ``!`` when fewer than 93 % of its intervals
hold the truth and fewer than half of them warn, ``?`` when at least 94 % do and more than half warn.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import binom

from workbench.statistics import Interval, cluster_bootstrap

RATES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
HARD_RATES = (0.05, 0.1, 0.3, 0.5, 0.9)
DESIGNS = ("one", "1-5", "lognormal", "giant")
SIZES = (20, 50, 100, 300)
RESAMPLES = 1000


def cluster_sizes(rng: np.random.Generator, design: str, n_clusters: int) -> np.ndarray:
    if design in ("one", "tail 0.5", "tail 1", "tail 2"):
        return np.ones(n_clusters, np.int64)
    if design == "lognormal":
        return np.maximum(np.round(2 * np.exp(rng.normal(size=n_clusters))), 1).astype(np.int64)
    sizes = rng.integers(1, 6, n_clusters)
    if design == "giant":
        sizes[0] = max(1, round(sizes[1:].sum() / 9))
    return sizes


def world(rng: np.random.Generator, design: str, rate: float, n_clusters: int) -> tuple[np.ndarray, np.ndarray, float]:
    """(values, clusters, true mean)."""
    sizes = cluster_sizes(rng, design, n_clusters)
    clusters = np.repeat(np.arange(n_clusters), sizes)
    if design.startswith("tail"):
        spread = float(design.split()[1])
        return np.exp(spread * rng.normal(size=n_clusters)), clusters, float(np.exp(spread**2 / 2))
    common, own = rng.random(n_clusters) < rate, rng.random(len(clusters)) < rate
    return np.where(rng.random(len(clusters)) < 0.5, common[clusters], own).astype(float), clusters, rate


def naive(values: np.ndarray) -> tuple[float, float]:
    """Percentile interval of hits whose resamples draw single queries: quantiles of a binomial."""
    low, high = binom.ppf([0.025, 0.975], len(values), values.mean()) / len(values)
    return float(low), float(high)


def coverage(
    design: str, rate: float, n_clusters: int, worlds: int, *, around: float = 0.0
) -> tuple[float, float, float]:
    """Shares of worlds in which the interval, and the naive one, holds the truth; share with a warning."""
    rng = np.random.default_rng([len(design), ord(design[0]), ord(design[-1]), round(1000 * rate), n_clusters])
    held = np.zeros((worlds, 3))
    for i in range(worlds):
        drawn = rate + around * min(rate, 1 - rate) * rng.uniform(-1, 1)
        values, clusters, truth = world(rng, design, drawn, n_clusters)
        found: Interval = cluster_bootstrap(values, clusters, n_resamples=RESAMPLES, seed=i)
        low, high = (np.nan, np.nan) if design.startswith("tail") else naive(values)
        held[i] = found.low <= truth <= found.high, low <= truth <= high, bool(found.warnings)
    return tuple(held.mean(axis=0).tolist())


def cell(covered: float, warned: float) -> str:
    mark = "!" if covered < 0.93 and warned < 0.5 else "?" if covered >= 0.94 and warned > 0.5 else " "
    return f"{100 * covered:6.1f}/{100 * warned:3.0f}{mark}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("worlds", nargs="?", type=int, default=2000)
    worlds = parser.parse_args().worlds
    print(f"coverage of nominal 95 % intervals in per cent / warned; {worlds} worlds per cell, {RESAMPLES} resamples")
    print("where it should hold" + " " * 6 + "".join(f"{rate:>11}" for rate in RATES))
    for n_clusters, rates in ((300, RATES), (1000, RATES[::3])):
        found = {rate: coverage("1-5", rate, n_clusters, worlds) for rate in rates}
        cells = [cell(found[rate][0], found[rate][2]) if rate in found else " " * 11 for rate in RATES]
        print(f"{'1-5':12}{n_clusters:>6} ours   " + "".join(cells), flush=True)
        cells = [f"{100 * found[rate][1]:6.1f}     " if rate in found else " " * 11 for rate in RATES]
        print(f"{'1-5':12}{n_clusters:>6} naive  " + "".join(cells), flush=True)
    print("where it may fail" + " " * 9 + "".join(f"{rate:>11}" for rate in HARD_RATES))
    for design in DESIGNS:
        for n_clusters in SIZES:
            found = {rate: coverage(design, rate, n_clusters, worlds, around=0.15) for rate in HARD_RATES}
            cells = [cell(covered, warned) for covered, _, warned in found.values()]
            print(f"{design:12}{n_clusters:>6}        " + "".join(cells), flush=True)
    print("heavy tails" + " " * 15 + "".join(f"{n:>11}" for n in SIZES))
    for design in ("tail 0.5", "tail 1", "tail 2"):
        found = [coverage(design, 0.5, n_clusters, worlds) for n_clusters in SIZES]
        print(f"{design:26}" + "".join(cell(covered, warned) for covered, _, warned in found), flush=True)


if __name__ == "__main__":
    main()
