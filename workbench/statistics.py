"""How sure a number is: intervals, paired comparisons and corrections that respect clusters.

Plain arrays in, frozen results out. Queries that share an image (five captions of one picture) are one cluster: they
are drawn, and change sign, together. Results depend on the seed and on the values in each cluster, not on what the
clusters are called nor on the order of the rows: clusters are first put into an order that depends on their values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtr, stdtrit

from workbench.types import FloatArray, IntArray

FEW_CLUSTERS = 30
FEW_EVENTS = 10
EXACT_CLUSTERS = 12
_CHUNK = 2_000_000


@dataclass(frozen=True)
class Interval:
    """A number with its uncertainty.

    value : the statistic of the scored values. low, high : the interval at ``level``, NaN when it cannot be had.
    n : scored values; n_missing : values that were NaN and left out; n_clusters : clusters among the scored.
    warnings : sentences saying where this interval should not be trusted.
    """

    value: float
    low: float
    high: float
    level: float
    n: int
    n_clusters: int
    n_missing: int
    method: str
    warnings: tuple[str, ...]

    def flat(self) -> dict[str, Any]:
        """Plain values, in a fixed order."""
        return asdict(self)


@dataclass(frozen=True)
class PairedDifference:
    """The difference of two systems on the same queries.

    value : mean(b) - mean(a), so above zero b is better. low, high : cluster bootstrap interval. p_value : two-sided
    randomisation test. wins, losses, ties : queries where b is above, below, equal to a. minimum_detectable : the
    smallest true difference these data would find at 5 % two-sided in 80 % of repetitions; NaN when unknown.
    """

    value: float
    low: float
    high: float
    level: float
    p_value: float
    n: int
    n_clusters: int
    n_missing: int
    wins: int
    losses: int
    ties: int
    minimum_detectable: float
    method: str
    warnings: tuple[str, ...]

    def flat(self) -> dict[str, Any]:
        """Plain values, in a fixed order."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class _Clusters:
    """Scored rows, cluster by cluster: columns (n, n_columns), ``starts`` of the clusters, rows per cluster."""

    columns: FloatArray
    starts: IntArray
    counts: IntArray
    n_missing: int

    def sums(self, values: FloatArray) -> FloatArray:
        """Sum of the values of each cluster, (n_clusters,)."""
        return np.add.reduceat(values, self.starts) if len(self.starts) else np.zeros(0)


def _cluster(columns: list[npt.ArrayLike], clusters: npt.ArrayLike) -> _Clusters:
    """Check, drop unscored rows, order clusters by size and content: their names and the row order play no part."""
    values = np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=-1)
    labels = np.asarray(clusters)
    if values.ndim != 2 or labels.shape != values.shape[:1]:
        raise ValueError(
            f"values and clusters must be one-dimensional and of equal length; got values {values.shape[:-1]} and "
            f"clusters {labels.shape}; without clusters give one label per value, such as range(n)"
        )
    if np.isinf(values).any():
        raise ValueError(f"{int(np.isinf(values).sum())} values are infinite; a mean of them says nothing")
    if (labels != labels).any():
        raise ValueError("some cluster labels are NaN; give every value a cluster, its own if it has no partner")
    scored = ~np.isnan(values).any(axis=1)
    values, codes = values[scored], np.unique(labels[scored], return_inverse=True)[1].ravel()
    rows = np.lexsort((*values.T[::-1], codes))
    members = np.split(values[rows], np.flatnonzero(np.diff(codes[rows])) + 1) if len(rows) else []
    members.sort(key=lambda member: (len(member), member.tolist()))
    counts = np.array([len(member) for member in members], dtype=np.int64)
    flat = np.concatenate(members) if members else values
    return _Clusters(flat, np.cumsum(counts) - counts, counts, int((~scored).sum()))


def cluster_standard_error(values: npt.ArrayLike, clusters: npt.ArrayLike) -> float:
    """Standard error of a mean whose values come in clusters; the naive one ignores that they move together.

        se = sqrt( C / (C - 1) * sum_c (sum_{i in c} (x_i - mean))^2 ) / n

    values (n,), NaN left out; clusters (n,) labels. NaN with fewer than two clusters. With one value per cluster it is
    the usual sd / sqrt(n). Linearised ratio estimator: W. G. Cochran, Sampling Techniques, 3rd edition, 1977, ch. 6.

    >>> round(cluster_standard_error([1.0, 1.0, 0.0, 0.0], [0, 0, 1, 1]), 3)
    0.5
    """
    rows = _cluster([values], clusters)
    return _standard_error(rows, rows.columns[:, 0])


def _standard_error(rows: _Clusters, values: FloatArray) -> float:
    n_clusters = len(rows.counts)
    if n_clusters < 2:
        return float("nan")
    residuals = rows.sums(values) - rows.counts * values.mean()
    return float(np.sqrt(n_clusters / (n_clusters - 1) * (residuals**2).sum()) / len(values))


def _draws(n_clusters: int, n_resamples: int, width: int, seed: int) -> Iterator[IntArray]:
    """Clusters drawn with replacement, in blocks of rows: (rows, n_clusters) indices. ``width`` bounds the memory."""
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // max(width, 1))
    for start in range(0, n_resamples, rows):
        yield rng.integers(0, n_clusters, size=(min(rows, n_resamples - start), n_clusters))


def _resampled_means(rows: _Clusters, values: FloatArray, n_resamples: int, seed: int) -> FloatArray:
    sums, counts = rows.sums(values), rows.counts
    draws = _draws(len(counts), n_resamples, len(counts), seed)
    return np.concatenate([sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1) for drawn in draws])


def _resampled_medians(rows: _Clusters, values: FloatArray, n_resamples: int, seed: int) -> FloatArray:
    n_clusters = len(rows.counts)
    order = np.argsort(values, kind="stable")
    owner = np.repeat(np.arange(n_clusters), rows.counts)[order]
    ordered = values[order]
    medians = []
    for drawn in _draws(n_clusters, n_resamples, len(values), seed):
        shifted = drawn + np.arange(len(drawn))[:, None] * n_clusters
        times = np.bincount(shifted.ravel(), minlength=drawn.size).reshape(drawn.shape)
        total = np.cumsum(times[:, owner], axis=1)
        lower = np.argmax(total >= (total[:, -1:] + 1) // 2, axis=1)
        upper = np.argmax(total >= total[:, -1:] // 2 + 1, axis=1)
        medians.append((ordered[lower] + ordered[upper]) / 2)
    return np.concatenate(medians)


def _check_settings(level: float, n_resamples: int) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, such as 0.95; got {level}")
    if n_resamples < 100:
        raise ValueError(f"n_resamples must be at least 100, better 2000; got {n_resamples}")


def _regime(rows: _Clusters, values: FloatArray) -> list[str]:
    """Sentences about where a percentile bootstrap over these clusters should not be trusted."""
    n_clusters, words = len(rows.counts), []
    if not len(values):
        return ["No value is scored, so there is nothing to estimate."]
    if n_clusters == 1:
        return ["All values come from one cluster: how much they would vary is unknown, so there is no interval."]
    if n_clusters < FEW_CLUSTERS:
        words.append(
            f"Only {n_clusters} clusters (fewer than {FEW_CLUSTERS}): the interval is probably too narrow; "
            "read it as a lower bound on the uncertainty."
        )
    if values.min() == values.max():
        words.append(
            "All values are equal, so every resample is the same: the width of zero is not evidence of certainty."
        )
    rare = min(values.mean(), 1 - values.mean()) * n_clusters
    if values.min() >= 0 and values.max() <= 1 and rare < FEW_EVENTS:
        words.append(
            f"The rate is close to 0 or 1 for {n_clusters} clusters: percentile intervals miss the "
            "truth too often there (at rates near 0.97 with 100 clusters a nominal 95 % interval covers 80 to 95 %, "
            "88 % on average)."
        )
    return words


def _percentiles(resampled: FloatArray, level: float) -> tuple[float, float]:
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def cluster_bootstrap(
    values: npt.ArrayLike,
    clusters: npt.ArrayLike,
    *,
    statistic: Literal["mean", "median"] = "mean",
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a mean or median, drawing whole clusters with replacement.

        value* = sum of the drawn clusters' sums / sum of their sizes      (mean; a ratio, so sizes may differ)

    values (n,): per-query values, NaN = not scored, left out and counted. clusters (n,): labels that can be sorted.
    Same seed, same bytes; renaming clusters or shuffling rows changes nothing. With one cluster low and high are NaN.
    Errors: lengths that differ, infinite values, NaN labels, unknown statistic.
    B. Efron, "Bootstrap methods", Annals of Statistics 7, 1979, https://doi.org/10.1214/aos/1176344552; drawing the
    outer level only: A. C. Davison & D. V. Hinkley, Bootstrap Methods and their Application, 1997, section 3.8.

    >>> found = cluster_bootstrap([1.0, 1.0, 0.0, 0.0, 1.0, 1.0], [0, 0, 1, 1, 2, 2], seed=0)
    >>> round(found.value, 3), found.low, found.high, found.n_clusters
    (0.667, 0.0, 1.0, 3)
    """
    _check_settings(level, n_resamples)
    resample = {"mean": _resampled_means, "median": _resampled_medians}.get(statistic)
    if resample is None:
        raise ValueError(f"unknown statistic {statistic!r}; allowed: mean, median")
    rows = _cluster([values], clusters)
    scored, n_clusters = rows.columns[:, 0], len(rows.counts)
    value, low, high = float("nan"), float("nan"), float("nan")
    if len(scored):
        value = float(np.median(scored) if statistic == "median" else scored.mean())
    if n_clusters > 1:
        low, high = _percentiles(resample(rows, scored, n_resamples, seed), level)
    method = f"percentile bootstrap of the {statistic} over clusters, {n_resamples} resamples, seed {seed}"
    words = tuple(_regime(rows, scored))
    return Interval(value, low, high, level, len(scored), n_clusters, rows.n_missing, method, words)


def _sign_flip_p(sums: FloatArray, n_permutations: int, seed: int) -> tuple[float, str]:
    """Share of sign assignments whose total is at least as far from zero as the one seen, and how it was counted."""
    sums = sums[sums != 0]
    if not len(sums):
        return 1.0, "no cluster differs"
    # Totals equal up to rounding count as equal: 1e-12 of the largest possible total.
    seen = abs(sums.sum()) - 1e-12 * np.abs(sums).sum()
    if len(sums) <= EXACT_CLUSTERS:
        bits = (np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1
        extreme = np.abs((2 * bits - 1) @ sums) >= seen
        return float(extreme.mean()), f"all {2 ** len(sums)} sign flips of {len(sums)} differing clusters"
    rng, extreme_count = np.random.default_rng(seed), 0
    rows = max(1, _CHUNK // len(sums))
    for start in range(0, n_permutations, rows):
        flips = rng.integers(0, 2, size=(min(rows, n_permutations - start), len(sums)), dtype=np.int8)
        extreme_count += int((np.abs((2.0 * flips - 1.0) @ sums) >= seen).sum())
    p_value = (extreme_count + 1) / (n_permutations + 1)
    return p_value, f"{n_permutations} random sign flips of {len(sums)} differing clusters"


def _paired_words(rows: _Clusters, difference: FloatArray) -> tuple[str, ...]:
    words = [word for word in _regime(rows, difference) if not word.startswith("The rate")]
    differing = int((rows.sums(difference) != 0).sum())
    if 0 < differing <= 5:
        words.append(
            f"Only {differing} clusters differ: the smallest p-value possible is {2.0 ** (1 - differing):.3g}, so no "
            "difference, however real, can reach 5 % here."
        )
    elif 0 < differing < 20:
        words.append(
            f"Only {differing} clusters differ: the test is conservative there (it rejects less often than its level)."
        )
    return tuple(words)


def paired_difference(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    clusters: npt.ArrayLike,
    *,
    level: float = 0.95,
    n_resamples: int = 2000,
    n_permutations: int = 9999,
    seed: int = 0,
) -> PairedDifference:
    """Is system b better than system a on the same queries? Interval, test and the smallest difference visible.

        value = mean(b) - mean(a);   p = share of sign flips s in {-1, +1}^C with |sum_c s_c d_c| >= |sum_c d_c|

    where d_c is the summed difference of cluster c. All flips are counted up to 12 differing clusters; beyond that
    p = (extreme + 1) / (n_permutations + 1), never 0. minimum_detectable = (z_0.975 + z_0.8) * clustered standard
    error = 2.80 * se. a, b, clusters (n,); a query scored by neither (both NaN) is left out and counted, one scored by
    only one of them is an error. Same seed, same bytes; the interval and the test use the same seed.
    M. D. Smucker, J. Allan & B. Carterette, "A comparison of statistical significance tests for information retrieval
    evaluation", CIKM 2007, https://doi.org/10.1145/1321440.1321528; differs in flipping clusters, not queries.

    >>> found = paired_difference([0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0, 1, 2, 3])
    >>> found.value, found.p_value, found.wins, found.ties
    (0.75, 0.25, 3, 1)
    """
    _check_settings(level, n_resamples)
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"a and b must hold the same queries in the same order; got {first.shape} and {second.shape}")
    lonely = int((np.isnan(first) != np.isnan(second)).sum())
    if lonely:
        raise ValueError(f"{lonely} queries are scored in only one of a and b; compare on the queries both score")
    rows = _cluster([second - first], clusters)
    difference, n_clusters = rows.columns[:, 0], len(rows.counts)
    low = high = detectable = float("nan")
    if n_clusters > 1:
        low, high = _percentiles(_resampled_means(rows, difference, n_resamples, seed), level)
        spread = _standard_error(rows, difference)
        detectable = float((ndtri(0.975) + ndtri(0.8)) * spread) if spread > 0 else float("nan")
    p_value, how = _sign_flip_p(rows.sums(difference), n_permutations, seed)
    return PairedDifference(
        value=float(difference.mean()) if len(difference) else float("nan"),
        low=low, high=high, level=level,
        p_value=p_value if len(difference) else float("nan"),
        n=len(difference), n_clusters=n_clusters, n_missing=rows.n_missing,
        wins=int((difference > 0).sum()), losses=int((difference < 0).sum()), ties=int((difference == 0).sum()),
        minimum_detectable=detectable,
        method=f"paired percentile bootstrap over clusters, {n_resamples} resamples, seed {seed}; randomisation: {how}",
        warnings=_paired_words(rows, difference),
    )  # fmt: skip


def holm(p_values: npt.ArrayLike) -> FloatArray:
    """P-values adjusted for how many were looked at: the chance of any false alarm stays below the level.

        adjusted_(i) = max over j <= i of min(1, (m - j + 1) * p_(j))      (p_(1) <= ... <= p_(m))

    p_values (m,) in 0..1; returns (m,) in the same order. NaN stays NaN and is not counted. Errors: outside 0..1.
    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979,
    https://www.jstor.org/stable/4615733.

    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    given = np.asarray(p_values, dtype=np.float64)
    known = ~np.isnan(given)
    if given.ndim != 1 or (given[known] < 0).any() or (given[known] > 1).any():
        raise ValueError(f"p_values must be a one-dimensional array of numbers in 0..1; got {given}")
    adjusted = np.full(given.shape, np.nan)
    where = np.flatnonzero(known)[np.argsort(given[known], kind="stable")]
    adjusted[where] = np.minimum(np.maximum.accumulate(given[where] * np.arange(len(where), 0, -1)), 1.0)
    return adjusted


@dataclass(frozen=True)
class GroupDifference:
    """The difference of a group of queries from all others: :func:`group_difference`.

    value : mean(group) - mean(rest). n, n_clusters : of the group. minimum_detectable : as in PairedDifference.
    """

    value: float
    low: float
    high: float
    level: float
    p_value: float
    n: int
    n_clusters: int
    n_rest: int
    n_rest_clusters: int
    n_missing: int
    df: float
    minimum_detectable: float


def group_difference(
    values: npt.ArrayLike, in_group: npt.ArrayLike, clusters: npt.ArrayLike, *, level: float = 0.95
) -> GroupDifference:
    """Does a group of queries fare worse than all others? Difference, interval, test, smallest difference visible.

        value = mean_G - mean_R;   t = value / max(robust, pooled);   interval = value -+ t_df * max(robust, pooled)
        robust^2 = sum_c (r_Gc / sqrt(1 - n_Gc / n_G) / n_G - r_Rc / sqrt(1 - n_Rc / n_R) / n_R)^2

    r_Gc, n_Gc : summed residual and number of the group's queries in cluster c; clusters may straddle both sides. df :
    Bell and McCaffrey's, a cluster's queries on one side taken to agree. pooled : the error if both sides came from one
    population; it keeps a group without a single event from looking certain, and widens the interval of a group that
    truly varies less than the rest. No randomness; p is never 0. values (n,), NaN left out; in_group (n,) bool;
    clusters (n,) labels. Errors: lengths that differ, infinite values, NaN labels. Below two clusters per side: NaN.
    False alarms at nominal 5 %: 0 to 7.2 %, mean 3.4 %, in 126 cells of 500 worlds (rates 0.02 to 0.98, 30 to 1,000
    clusters, tests/benchmarks/group_test_calibration.py; the highest is 5.6 % in 3,000); lowest where events are rare.
    R. M. Bell & D. F. McCaffrey, "Bias reduction in standard errors for linear regression with multi-stage samples",
    Survey Methodology 28, 2002, https://www150.statcan.gc.ca/n1/en/catalogue/12-001-X20020029058.

    >>> found = group_difference([0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0], [1, 1, 1, 1, 0, 0, 0, 0], range(8))
    >>> found.value, round(found.p_value, 3), round(found.df, 3)
    (-0.5, 0.207, 6.0)
    """
    _check_settings(level, 100)
    member = np.asarray(in_group, dtype=np.float64)
    if member.shape != np.shape(values) or not np.isin(member, (0, 1)).all():
        raise ValueError(f"in_group must hold True or False for each of {np.shape(values)} values; got {member.shape}")
    rows = _cluster([values, member], clusters)
    scored, sides = rows.columns[:, 0], (rows.columns[:, 1] == 1, rows.columns[:, 1] == 0)
    means = [float(scored[side].mean()) if side.any() else float("nan") for side in sides]
    counts = np.stack([rows.sums(side.astype(np.float64)) for side in sides])
    residuals = np.stack([rows.sums(side * (scored - mean)) for side, mean in zip(sides, means, strict=True)])
    n, n_clusters, value = counts.sum(axis=1), (counts > 0).sum(axis=1), means[0] - means[1]
    error = df = p_value = detectable = float("nan")
    if n_clusters.min() >= 2:
        robust = np.linalg.norm(np.subtract(*(_side_weights(counts)[1] * residuals)))
        error, df = max(float(robust), _pooled_error(rows, counts)), _working_df(counts)
        p_value = max(float(2 * stdtr(df, -abs(value) / error)), float(np.finfo(float).tiny)) if error > 0 else 1.0
        detectable = float((stdtrit(df, 0.975) + stdtrit(df, 0.8)) * error) if error > 0 else detectable
    half = float(stdtrit(df, (1 + level) / 2) * error)
    return GroupDifference(
        value, value - half, value + half, level, p_value, int(n[0]), int(n_clusters[0]), int(n[1]), int(n_clusters[1]),
        rows.n_missing, df, detectable,
    )  # fmt: skip


def _side_weights(counts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Per side and cluster: the share of the side in it, and what its summed residual is multiplied by."""
    n = counts.sum(axis=1, keepdims=True)
    return counts / n, 1 / (n * np.sqrt(1 - counts / n))


def _pooled_error(rows: _Clusters, counts: FloatArray) -> float:
    """The error if labels were drawn anew: among whole clusters of one side, among queries inside straddling ones."""
    sizes, (a, b), (n_a, n_b) = rows.counts, counts, counts.sum(axis=1)
    centred = rows.columns[:, 0] - rows.columns[:, 0].mean()
    sums, squares, both = rows.sums(centred), rows.sums(centred**2), (a > 0) & (b > 0)
    pull = (sums / sizes * (a / n_a - b / n_b)) ** 2
    scatter = np.maximum(squares - sums**2 / sizes, 0) / np.maximum(sizes - 1, 1)
    straddling = pull + (1 / n_a + 1 / n_b) ** 2 * a * b / sizes * scatter
    spread = (sums[~both] ** 2).sum() / max(sizes[~both].sum(), 1)
    return float(np.sqrt(straddling[both].sum() + spread * (a[~both].sum() / n_a**2 + b[~both].sum() / n_b**2)))


def _working_df(counts: FloatArray) -> float:
    """trace(M)^2 / trace(M^2), M the covariance of the summands: k_c k_d (1[c = d] - p_c - p_d + p.p) for each side."""
    shares, weights = _side_weights(counts)
    trace = square = 0.0
    for k, p in zip(counts * weights, shares, strict=True):
        trace += float((k**2 * (1 - 2 * p + p @ p)).sum())
        for m, q in zip(counts * weights, shares, strict=True):
            h, pp, qq = k * m, p @ p, q @ q
            square += float((h**2 * ((1 - 2 * p + pp) * (1 - 2 * q + qq) - (pp - 2 * p) * (qq - 2 * q))).sum())
            square += float(pp * qq * h.sum() ** 2 + 2 * (h @ p) * (h @ q))
            square -= float(2 * h.sum() * (pp * (h @ q) + qq * (h @ p) - h @ (p * q)))
    return max(trace**2 / square, 1.0)
