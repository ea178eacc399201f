"""Randomisation test of a paired difference: whole clusters change sign."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workbench.statistics.clusters import clustered
from workbench.types import FloatArray

EXACT_CLUSTERS = 12
#: Table cells looked up at a time: small enough for the processor's cache.
_CHUNK = 200_000
_BYTE_SIGNS = 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1) - 1.0


@dataclass(frozen=True)
class RandomizationTest:
    """What flipping the signs of whole clusters says: :func:`randomization_test`.

    statistic : the mean of the values. p_value : two-sided, never 0. n_differing : clusters whose sum is not zero.
    exact : all sign assignments were counted. method : how the p-value was counted, in words.
    """

    statistic: float
    p_value: float
    n: int
    n_clusters: int
    n_differing: int
    n_missing: int
    exact: bool
    method: str


def randomization_test(
    values: npt.ArrayLike, clusters: npt.ArrayLike, *, n_permutations: int = 9999, seed: int = 0
) -> RandomizationTest:
    """Is the mean of paired differences zero? Exact whatever their distribution, when its sign is a coin's toss.

        p = share of sign flips s in {-1, +1}^C with |sum_c s_c d_c| >= |sum_c d_c|

    d_c is the sum of cluster c. All flips are counted up to 12 clusters whose sum is not zero; beyond that
    p = (extreme + 1) / (n_permutations + 1), never 0. values (n,) differences of two systems, NaN left out; clusters
    (n,) labels. Same seed, same bytes. Without any value p is NaN; with differences of zero only it is 1.
    Errors: lengths that differ, infinite values, NaN labels, n_permutations below 1.
    R. A. Fisher, The Design of Experiments, 1935, section 21; the count of one more: B. Phipson & G. K. Smyth,
    "Permutation p-values should never be zero", 2010, https://doi.org/10.2202/1544-6115.1585.

    >>> randomization_test([1.0, 1.0, 2.0, 0.0], range(4)).p_value
    0.25
    """
    rows = clustered([values], clusters)
    scored = rows.columns[:, 0]
    sums = rows.sums(scored)
    p_value, how = sign_flip_p(sums, n_permutations, seed)
    differing = int((sums != 0).sum())
    return RandomizationTest(
        statistic=float(scored.mean()) if len(scored) else float("nan"),
        p_value=p_value if len(scored) else float("nan"),
        n=len(scored), n_clusters=len(sums), n_differing=differing, n_missing=rows.n_missing,
        exact=differing <= EXACT_CLUSTERS, method=how,
    )  # fmt: skip


def sign_flip_p(sums: FloatArray, n_permutations: int, seed: int) -> tuple[float, str]:
    """Share of sign assignments whose total is at least as far from zero as the one seen, and how it was counted."""
    if n_permutations < 1:
        raise ValueError(f"n_permutations must be at least 1, better 9999; got {n_permutations}")
    sums = sums[sums != 0]
    if not len(sums):
        return 1.0, "no cluster differs"
    # Totals equal up to rounding count as equal: 1e-12 of the largest possible total.
    seen = abs(sums.sum()) - 1e-12 * np.abs(sums).sum()
    if len(sums) <= EXACT_CLUSTERS:
        bits = (np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1
        extreme = np.abs((2 * bits - 1) @ sums) >= seen
        return float(extreme.mean()), f"all {2 ** len(sums)} sign flips of {len(sums)} differing clusters"
    extreme_count = sum(int((np.abs(totals) >= seen).sum()) for totals in _flipped(sums, n_permutations, seed))
    p_value = (extreme_count + 1) / (n_permutations + 1)
    return p_value, f"{n_permutations} random sign flips of {len(sums)} differing clusters"


def _flipped(sums: FloatArray, n_permutations: int, seed: int) -> Iterator[FloatArray]:
    """Totals under random signs, in blocks. A random byte picks the signed total of eight clusters from a table."""
    rng, width = np.random.default_rng(seed), -(-len(sums) // 32) * 4
    padded = np.zeros(8 * width)
    padded[: len(sums)] = sums
    table = (padded.reshape(width, 8) @ _BYTE_SIGNS.T).ravel()
    rows = max(1, _CHUNK // width)
    for start in range(0, n_permutations, rows):
        drawn = min(rows, n_permutations - start)
        signs = np.frombuffer(rng.bytes(drawn * width), dtype=np.uint8).reshape(drawn, width)
        yield np.take(table, signs + np.arange(width) * 256).sum(axis=1)
