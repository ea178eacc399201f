"""Many systems on the same queries: which places each of them could hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from workbench.statistics.bootstrap import check_settings
from workbench.statistics.clusters import clustered
from workbench.statistics.regimes import few_clusters, unequal
from workbench.types import FloatArray

_CHUNK = 500_000


@dataclass(frozen=True, eq=False)
class RankSets:
    """The set of places each system could hold: :func:`rank_sets`. Place 1 is the highest mean.

    values (n_systems,) : means. ranks : 1 + systems with a higher mean. low, high : the places from low to high, which
    hold the true places of all systems at once with probability ``level``. beats (n_systems, n_systems) : the row is
    shown to be better than the column.
    """

    values: FloatArray
    ranks: npt.NDArray[np.int64]
    low: npt.NDArray[np.int64]
    high: npt.NDArray[np.int64]
    beats: npt.NDArray[np.bool_]
    level: float
    n: int
    n_clusters: int
    n_missing: int
    method: str
    warnings: tuple[str, ...]

    def flat(self) -> dict[str, Any]:
        """Plain values, in a fixed order."""
        return {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in asdict(self).items()}


def rank_sets(
    values: npt.ArrayLike, clusters: npt.ArrayLike, *, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> RankSets:
    """Which places could each system hold? For every system a set of places, right for all of them at once.

        low_j = 1 + #{k shown better than j},   high_j = n_systems - #{k shown worse than j}

        u_kj = sum_c d_c / sqrt(sum_c d_c^2),   d_c = summed difference of k and j in cluster c

    k is shown better than j when u_kj exceeds the ``level`` quantile of the largest u over all ordered pairs not yet
    decided, when whole clusters change sign at random; decided orders leave the maximum and the rest is asked again
    until nothing changes (step-down). For two systems it is the test of :func:`workbench.statistics.paired_difference`;
    u is a monotone function of Student's t. A true place counts the systems truly better, so equals share it.
    Simulated: all true places held in 94 to 100 % (2 to 10 systems, 15 to 300 clusters, 1,000 worlds a cell; 95.0 % of
    4,000 worlds of ten equal systems).
    values (n_systems, n_queries), higher is better (negate ranks and distances); a query scored by no system is left
    out and counted, one scored by only some is an error. clusters (n_queries,). Same seed, same bytes. Errors: fewer
    than two systems or clusters, unlike lengths, infinite values.
    M. Mogstad, J. P. Romano, A. M. Shaikh & D. Wilhelm, "Inference for ranks", Review of Economic Studies 91, 2024,
    https://doi.org/10.1093/restud/rdad006; step-down: J. P. Romano & M. Wolf, "Exact and approximate stepdown methods",
    JASA 100, 2005, https://doi.org/10.1198/016214504000000539; differs in changing the signs of clusters: a
    randomisation test of all pairs at once.

    >>> found = rank_sets([[1.0, 0.9] * 20, [0.5, 0.3] * 20, [0.3, 0.5] * 20], range(40))
    >>> found.low, found.high
    (array([1, 2, 2]), array([1, 3, 3]))
    """
    check_settings(level, n_resamples)
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or len(table) < 2:
        raise ValueError(f"values must be (n_systems, n_queries) with at least two systems; got {table.shape}")
    lonely = int((np.isnan(table).any(axis=0) & ~np.isnan(table).all(axis=0)).sum())
    if lonely:
        raise ValueError(f"{lonely} queries are scored by only some of the systems; compare on the queries all score")
    rows = clustered(list(table), clusters)
    if len(rows.counts) < 2:
        raise ValueError(f"rank sets need at least two clusters with scores; got {len(rows.counts)}")
    means = rows.columns.mean(axis=0)
    apart = rows.columns - rows.columns.mean(axis=1, keepdims=True)
    beats = _step_down(np.add.reduceat(apart, rows.starts, axis=0), level, n_resamples, seed)
    return RankSets(
        values=means, ranks=1 + (means[:, None] < means).sum(axis=1),
        low=1 + beats.sum(axis=0), high=len(means) - beats.sum(axis=1), beats=beats, level=level,
        n=len(rows.columns), n_clusters=len(rows.counts), n_missing=rows.n_missing,
        method=f"simultaneous pairwise differences, step-down, {n_resamples} random signs of clusters, seed {seed}",
        warnings=tuple(few_clusters(len(rows.counts)) or unequal(rows, np.ones(len(rows.columns)))),
    )  # fmt: skip


def _step_down(sums: FloatArray, level: float, n_resamples: int, seed: int) -> npt.NDArray[np.bool_]:
    """(n_systems, n_systems): the row is shown to be better than the column. sums (n_clusters, n_systems)."""
    cross = sums.T @ sums
    squares = np.diag(cross)[:, None] + np.diag(cross) - 2 * cross
    # Rounding of two nearly equal numbers is not a difference.
    differs = squares > 1e-12 * (np.diag(cross)[:, None] + np.diag(cross))
    scale = np.where(differs, 1 / np.sqrt(np.where(differs, squares, 1.0)), 0.0)
    totals = sums.sum(axis=0)
    seen = (totals[:, None] - totals) * scale
    flipped = np.concatenate(list(_flipped(sums, n_resamples, seed)))
    beats = np.zeros(seen.shape, dtype=bool)
    while True:
        critical = _quantile(_largest(flipped, np.where(beats, 0.0, scale)), level)
        # Totals equal up to rounding count as equal.
        new = ~beats & (seen > critical * (1 + 1e-9))
        if not new.any():
            return beats
        beats |= new


def _flipped(sums: FloatArray, n_resamples: int, seed: int) -> Iterator[FloatArray]:
    """Totals of the clusters' sums under random signs, (rows, n_systems), in blocks."""
    rng, n_clusters = np.random.default_rng(seed), len(sums)
    width = -(-n_clusters // 32) * 4
    rows = max(1, _CHUNK // n_clusters)
    for start in range(0, n_resamples, rows):
        drawn = min(rows, n_resamples - start)
        bits = np.unpackbits(np.frombuffer(rng.bytes(drawn * width), np.uint8).reshape(drawn, width), axis=1)
        yield (2.0 * bits[:, :n_clusters] - 1.0) @ sums


def _largest(totals: FloatArray, scale: FloatArray) -> FloatArray:
    """Per flip the largest (total_j - total_k) * scale_jk over all ordered pairs, at least 0."""
    largest = np.zeros(len(totals))
    for j in np.flatnonzero(scale.any(axis=1)):
        np.maximum(largest, ((totals[:, j, None] - totals) * scale[j]).max(axis=1), out=largest)
    return largest


def _quantile(largest: FloatArray, level: float) -> float:
    """The value that at most (1 - level) of n + 1 draws, the data among them, exceed."""
    place = int(np.ceil(level * (len(largest) + 1)))
    return float(np.sort(largest)[place - 1]) if place <= len(largest) else float("inf")
