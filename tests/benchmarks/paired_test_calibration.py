"""How often the test of paired_difference raises a false alarm at a nominal 5 %.

    python tests/benchmarks/paired_test_calibration.py [worlds per cell, default 4000]

Two systems of equal quality answer the same queries in clusters of one to five. "hits R": both draw a hit at a rate of
their image, R on average; half of the queries have the same answer from both. Continuous: "normal" values with a common
part per image, "tails" the same with Student's t of three degrees of freedom, "unequal" normal in lognormal cluster
sizes, "reciprocal" 1 / rank. In all of these the systems are exchangeable, so that no test of this kind may reject more
than 5 % of worlds; it rejects less where few clusters differ or p takes few values (2^(1 - C) apart up to 12 clusters).
"skewed" is outside that promise: differences of mean zero, one system a little better on most queries and much worse
on a few (exponential). Of 4,000 worlds an exact 5 % test rejects more than 6 % in two cells of a thousand.
"""

from __future__ import annotations

import argparse

import numpy as np

from workbench.statistics import paired_difference

DESIGNS = ("hits 0.02", "hits 0.3", "hits 0.9", "normal", "tails", "unequal", "reciprocal", "skewed")
CONTINUOUS = ("normal", "tails", "unequal", "reciprocal")
SIZES = (7, 10, 13, 30, 100, 300, 1000)


def world(rng: np.random.Generator, design: str, n_clusters: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(a, b, clusters) of one world without a difference."""
    sizes = rng.integers(1, 6, n_clusters)
    if design == "unequal":
        sizes = np.maximum(np.round(2 * np.exp(rng.normal(size=n_clusters))), 1).astype(np.int64)
    clusters = np.repeat(np.arange(n_clusters), sizes)
    n = len(clusters)
    if design.startswith("hits"):
        rate = float(design.split()[1])
        easiness = rng.beta(2 * rate, 2 * (1 - rate), (2, n_clusters))[:, clusters]
        same, shared = rng.random(n) < 0.5, rng.random(n) < rate
        a, b = np.where(same, shared, rng.random((2, n)) < easiness).astype(float)
        return a, b, clusters
    if design == "skewed":
        return np.zeros(n), rng.exponential(size=n) + rng.exponential(size=n_clusters)[clusters] - 2, clusters
    if design == "reciprocal":
        a, b = 1 / np.ceil(np.exp(rng.normal(0.5, 1.5, (2, n)) + rng.normal(size=(2, n_clusters))[:, clusters]))
        return a, b, clusters
    draw = rng.standard_t if design == "tails" else None
    own = rng.normal(size=(2, n)) if draw is None else draw(3, (2, n))
    common = rng.normal(size=(2, n_clusters)) if draw is None else draw(3, (2, n_clusters))
    a, b = own + common[:, clusters]
    return a, b, clusters


def rejections(design: str, n_clusters: int, worlds: int) -> float:
    """Share of worlds with p <= 0.05."""
    rng = np.random.default_rng([DESIGNS.index(design), n_clusters])
    found = [
        paired_difference(*world(rng, design, n_clusters), n_resamples=100, n_permutations=999, seed=i).p_value
        for i in range(worlds)
    ]
    return float((np.array(found) <= 0.05).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("worlds", nargs="?", type=int, default=4000)
    worlds = parser.parse_args().worlds
    print("type-I error in per cent at nominal 5 %;", f"{worlds} worlds per cell")
    print(f"{'design':12}clusters" + "".join(f"{n:>8}" for n in SIZES))
    for design in DESIGNS:
        cells = [100 * rejections(design, n, worlds) for n in SIZES]
        print(f"{design:20}" + "".join(f"{one:8.1f}" for one in cells), flush=True)


if __name__ == "__main__":
    main()
