"""Two systems on the same queries: difference, interval, test, and the smallest difference visible."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from workbench.statistics.bootstrap import check_settings, percentiles, resampled_means
from workbench.statistics.clusters import Clusters, clustered, standard_error
from workbench.statistics.randomization import sign_flip_p
from workbench.statistics.regimes import regime
from workbench.types import FloatArray


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


def _paired_words(rows: Clusters, difference: FloatArray) -> tuple[str, ...]:
    words = regime(rows, difference, difference, rates=False)
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
    False alarms at nominal 5 %: 4.2 to 5.7 % on continuous differences, 0 to 4.8 % on hits, lowest where few clusters
    differ (7 to 1,000 clusters, 4,000 worlds a cell, tests/benchmarks/paired_test_calibration.py); up to 7.6 % below
    100 clusters when differences of mean zero are skewed, which two exchangeable systems never are.
    M. D. Smucker, J. Allan & B. Carterette, "A comparison of statistical significance tests for information retrieval
    evaluation", CIKM 2007, https://doi.org/10.1145/1321440.1321528; differs in flipping clusters, not queries.

    >>> found = paired_difference([0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0, 1, 2, 3])
    >>> found.value, found.p_value, found.wins, found.ties
    (0.75, 0.25, 3, 1)
    """
    check_settings(level, n_resamples)
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"a and b must hold the same queries in the same order; got {first.shape} and {second.shape}")
    lonely = int((np.isnan(first) != np.isnan(second)).sum())
    if lonely:
        raise ValueError(f"{lonely} queries are scored in only one of a and b; compare on the queries both score")
    rows = clustered([second - first], clusters)
    difference, n_clusters = rows.columns[:, 0], len(rows.counts)
    low = high = detectable = float("nan")
    if n_clusters > 1:
        low, high = percentiles(resampled_means(rows, difference, n_resamples, seed), level)
        spread = standard_error(rows, difference)
        detectable = float((ndtri(0.975) + ndtri(0.8)) * spread) if spread > 0 else float("nan")
    p_value, how = sign_flip_p(rows.sums(difference), n_permutations, seed)
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
