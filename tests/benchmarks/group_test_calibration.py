"""How often group_difference raises a false alarm at a nominal 5 %.

    python tests/benchmarks/group_test_calibration.py [worlds per cell, default 1000]

Three designs without any difference between the group and the rest: clusters of one to five queries inside one group
that agree among themselves (labels of images), single queries, and five queries of every cluster of which one is the
group's (captions in five languages). The rest has 1,000 clusters, or as many as the group. Of 1,000 worlds an exact 5 %
test rejects more than 6.5 % in one cell of seventy: one or two such among these 126 cells are no sign of a wrong level.
"""

from __future__ import annotations

import argparse

import numpy as np

from workbench.statistics import group_difference

RATES = (0.02, 0.05, 0.1, 0.3, 0.5, 0.9, 0.98)
SIZES = (30, 100, 300, 1000)
DESIGNS = ("inside", "single", "straddling")


def agreeing(rng: np.random.Generator, rate: float, sizes: np.ndarray, strength: float = 0.5) -> np.ndarray:
    """0/1 values at one rate; a cluster's queries take its common value with this probability, else their own."""
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    common, own = rng.random(len(sizes)) < rate, rng.random(len(cluster)) < rate
    return np.where(rng.random(len(cluster)) < strength, common[cluster], own).astype(float)


def world(rng: np.random.Generator, design: str, rate: float, n_group: int, n_rest: int) -> tuple[np.ndarray, ...]:
    """(values, in_group, clusters) of one world without a difference."""
    if design == "straddling":
        sizes = np.full(n_group, 5)
        clusters = np.repeat(np.arange(n_group), sizes)
        return agreeing(rng, rate, sizes), np.arange(len(clusters)) % 5 == 0, clusters
    sizes = rng.integers(1, 6, n_group + n_rest) if design == "inside" else np.ones(n_group + n_rest, np.int64)
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    return agreeing(rng, rate, sizes), clusters < n_group, clusters


def rejections(design: str, rate: float, n_group: int, n_rest: int, worlds: int) -> float:
    """Share of worlds with p <= 0.05."""
    seed = [DESIGNS.index(design), round(1000 * rate), n_group, n_rest]
    rng = np.random.default_rng(seed)
    found = [group_difference(*world(rng, design, rate, n_group, n_rest)).p_value for _ in range(worlds)]
    return float((np.array(found) <= 0.05).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("worlds", nargs="?", type=int, default=1000)
    worlds = parser.parse_args().worlds
    print("type-I error in per cent at nominal 5 %;", f"{worlds} worlds per cell")
    print(f"{'design':12}{'group':>7}{'rest':>7}  " + "".join(f"{rate:>8}" for rate in RATES))
    for design in DESIGNS:
        for n_group in SIZES:
            for n_rest in (n_group,) if design == "straddling" else sorted({n_group, 1000}):
                cells = [100 * rejections(design, rate, n_group, n_rest, worlds) for rate in RATES]
                print(f"{design:12}{n_group:>7}{n_rest:>7}  " + "".join(f"{cell:8.1f}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
