"""Several seeds of one system: how lucky the best one is, and how far a mean over seeds and queries can be trusted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gammaincinv, log_ndtr, stdtrit

from workbench.statistics.bootstrap import check_settings
from workbench.statistics.clusters import clustered
from workbench.statistics.regimes import few_clusters
from workbench.types import FloatArray

FEW_SEEDS = 5
MOST_SEEDS = 1_000_000


@dataclass(frozen=True)
class BestOfSeeds:
    """How easily the best of several seeds reaches a claimed number: :func:`best_of_seeds`.

    probability : that the best of ``best_of`` new seeds is at least ``claim``. probability_single : that one new seed
    is. typical_best : what the best of ``best_of`` new seeds reaches in half of all repetitions. seeds_needed : the
    fewest new seeds whose best is at least ``claim`` in half of all repetitions; inf beyond a million.
    """

    claim: float
    best_of: int
    probability: float
    probability_single: float
    typical_best: float
    seeds_needed: float
    mean: float
    sd: float
    n_seeds: float
    warnings: tuple[str, ...]

    def flat(self) -> dict[str, Any]:
        """Plain values, in a fixed order."""
        return asdict(self)


def best_of_seeds(scores: npt.ArrayLike, claim: float, *, best_of: int) -> BestOfSeeds:
    """Could a claimed number be the luckiest of several seeds? From own scores of the same system with other seeds.

        P(best of n new seeds >= claim) = 1 - E[ Phi((claim - mu) / sigma)^n ]

    mu and sigma are averaged over what the observed seeds leave open: sigma = sd * sqrt((m - 1) / chi2_{m-1}),
    mu = mean + sigma * Normal / sqrt(m); for n = 1 it is Student's t with m - 1 degrees of freedom. With few seeds this
    is far wider than the normal formula with mean and sd put in. scores (m,), m >= 2: seeds drawn alike and independent
    of each other, scores normal across seeds, on the queries of the claim. Higher is better. Errors: fewer than two
    scores, equal scores, not finite, best_of below 1. Prediction from a normal sample: G. J. Hahn & W. Q. Meeker,
    Statistical Intervals, 1991, chapter 4.

    >>> found = best_of_seeds([70.0, 71.0, 72.0], 72.0, best_of=1)
    >>> round(found.probability, 3), round(best_of_seeds([70.0, 71.0, 72.0], 72.0, best_of=10).probability, 3)
    (0.239, 0.756)
    """
    given = np.asarray(scores, dtype=np.float64)
    if given.ndim != 1 or len(given) < 2 or not np.isfinite(given).all():
        raise ValueError(f"scores must be at least two finite numbers, one per seed; got {given}")
    return best_of_reported(float(given.mean()), float(given.std(ddof=1)), len(given), claim, best_of=best_of)


def best_of_reported(mean: float, sd: float, n_seeds: float, claim: float, *, best_of: int) -> BestOfSeeds:
    """The same from a published "mean +- sd over n_seeds seeds"; n_seeds = inf takes mean and sd as the truth.

        P(best of n >= claim) = 1 - Phi((claim - mean) / sd)^n      (n_seeds = inf)

    sd : standard deviation over seeds with n_seeds - 1 below the line (not the standard error of the mean).
    Errors: sd not above zero, n_seeds below 2, best_of below 1. :func:`best_of_seeds` has the formula for few seeds.

    >>> found = best_of_reported(71.0, 1.0, float("inf"), 72.0, best_of=4)
    >>> round(found.probability, 3), found.seeds_needed      # 1 - 0.8413^4; 0.8413^5 = 0.42
    (0.499, 5)
    """
    if not (np.isfinite(mean) and np.isfinite(claim) and np.isfinite(sd) and sd > 0):
        raise ValueError(
            f"mean and claim must be finite and sd above 0; got {mean}, {claim} and {sd}; "
            "equal scores say nothing about how much seeds vary"
        )
    if n_seeds < 2 or best_of < 1:
        raise ValueError(f"at least two observed seeds and best_of >= 1 are needed; got {n_seeds} and {best_of}")
    below, distance = _predictive(n_seeds), (claim - mean) / sd
    needed = _first(lambda n: below(distance, n) <= 0.5)
    return BestOfSeeds(
        claim=float(claim), best_of=best_of,
        probability=1 - below(distance, best_of), probability_single=1 - below(distance, 1),
        typical_best=mean + sd * _median_of_best(below, best_of), seeds_needed=needed,
        mean=mean, sd=sd, n_seeds=n_seeds, warnings=_few_seeds(n_seeds),
    )  # fmt: skip


def _few_seeds(n_seeds: float) -> tuple[str, ...]:
    few = f"Only {n_seeds:g} seeds: how much seeds vary is hardly known, so the answer is wide and leans on normality."
    return (few,) if n_seeds < FEW_SEEDS else ()


def _predictive(n_seeds: float) -> Callable[[float, int], float]:
    """(distance, n) -> chance that all of n new seeds stay below mean + distance * sd."""
    if np.isinf(n_seeds):
        return lambda distance, n: float(np.exp(n * log_ndtr(distance)))
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    shares, slices = np.polynomial.legendre.leggauss(120)
    df = n_seeds - 1
    spread = np.sqrt(2 * gammaincinv(df / 2, (shares + 1) / 2) / df)
    area = slices[:, None] / 2 * weights / weights.sum()

    def below(distance: float, n: int) -> float:
        chance = np.exp(n * log_ndtr(distance * spread[:, None] - nodes / np.sqrt(n_seeds)))
        return float(np.clip((area * chance).sum(), 0.0, 1.0))

    return below


def _first(reached: Callable[[int], bool]) -> float:
    """The smallest number from which on it holds, inf when it does not at MOST_SEEDS."""
    low, high = 0, MOST_SEEDS
    if not reached(high):
        return float("inf")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def _median_of_best(below: Callable[[float, int], float], best_of: int) -> float:
    """Distance above the mean, in sd, that the best of n new seeds exceeds half of the time."""
    from scipy.optimize import brentq

    low, high = -1.0, 1.0
    while below(low, best_of) > 0.5:
        low *= 2
    while below(high, best_of) < 0.5:
        high *= 2
    return float(brentq(lambda distance: below(distance, best_of) - 0.5, low, high, xtol=1e-12))


@dataclass(frozen=True)
class SeedSummary:
    """A mean over seeds and queries, and where its uncertainty comes from: :func:`seed_summary`.

    low, high : interval of the mean over all seeds and queries of their kind; df its degrees of freedom. new_low,
    new_high : where the score of one new seed on as many new queries falls. between_seeds, between_clusters,
    interaction : variance components (of a cluster's mean), none below 0. seed_share : the seeds' part of the variance
    of the mean.
    """

    value: float
    low: float
    high: float
    new_low: float
    new_high: float
    level: float
    df: float
    between_seeds: float
    between_clusters: float
    interaction: float
    seed_share: float
    n_seeds: int
    n_queries: int
    n_clusters: int
    n_missing: int
    method: str
    warnings: tuple[str, ...]

    def flat(self) -> dict[str, Any]:
        """Plain values, in a fixed order."""
        return asdict(self)


def seed_summary(values: npt.ArrayLike, clusters: npt.ArrayLike, *, level: float = 0.95) -> SeedSummary:
    """How sure is a mean over seeds, for other seeds and other queries? Both vary, and every seed saw the same queries.

        y_sc = mu + a_s + b_c + e_sc;     Var(mean) = var_a / S + var_b / C + var_e / (S C)
        MS_a, MS_b, MS_e : mean squares of seeds, clusters, rest;   estimate (MS_a + MS_b - MS_e) / (S C)

    y_sc is the mean of cluster c under seed s; unequal sizes enter as C / n * (sum - size * mean) + mean, which keeps
    the seeds' means. The estimate is never below what seeds or clusters alone say; t with Satterthwaite's df. values
    (n_seeds, n_queries); a query scored under no seed is left out and counted, under only some an error. clusters
    (n_queries,). Coverage at nominal 95 %, normal worlds of 60 and 300 clusters: 94 to 97 % for the mean and 92 to 96 %
    for a new seed from three seeds on; with two seeds down to 91 and 89 % (1,000 worlds a cell; SE 0.7).
    Errors: fewer than two seeds or clusters, unlike lengths, infinite values.
    S. R. Searle, G. Casella & C. E. McCulloch, Variance Components, 1992, chapter 4; F. E. Satterthwaite, "An
    approximate distribution of estimates of variance components", Biometrics Bulletin 2, 1946,
    https://doi.org/10.2307/3002019.

    >>> found = seed_summary([[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]], range(3))
    >>> found.value, found.between_seeds, found.between_clusters, found.interaction
    (3.5, 0.5, 4.0, 0.0)
    """
    check_settings(level, 100)
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or len(table) < 2:
        raise ValueError(f"values must be (n_seeds, n_queries) with at least two seeds; got {table.shape}")
    lonely = int((np.isnan(table).any(axis=0) & ~np.isnan(table).all(axis=0)).sum())
    if lonely:
        raise ValueError(f"{lonely} queries are scored under only some of the seeds; compare on the queries all score")
    rows = clustered(list(table), clusters)
    if len(rows.counts) < 2:
        raise ValueError(f"at least two clusters with scores are needed; got {len(rows.counts)}")
    n, n_seeds, n_clusters = len(rows.columns), len(table), len(rows.counts)
    mean = float(rows.columns.mean())
    cells = np.add.reduceat(rows.columns, rows.starts, axis=0) - rows.counts[:, None] * mean
    squares, freedom = _mean_squares(n_clusters / n * cells)
    a, b, e = squares
    total, df = _satterthwaite(squares, freedom, np.array([1.0, 1.0, -1.0]))
    spread = np.array([1 + n_seeds, 2.0, -2.0]) if b > e else np.array([1 + n_seeds, 1.0, -1.0])
    new_total, new_df = _satterthwaite(squares, freedom, spread)
    half = float(stdtrit(df, (1 + level) / 2) * np.sqrt(total / (n_seeds * n_clusters)))
    new_half = float(stdtrit(new_df, (1 + level) / 2) * np.sqrt(new_total / (n_seeds * n_clusters)))
    between = max(float(a - e), 0.0)
    return SeedSummary(
        value=mean, low=mean - half, high=mean + half, new_low=mean - new_half, new_high=mean + new_half, level=level,
        df=df, between_seeds=between / n_clusters, between_clusters=max(float(b - e), 0.0) / n_seeds,
        interaction=float(e), seed_share=between / total if total > 0 else float("nan"),
        n_seeds=n_seeds, n_queries=n, n_clusters=n_clusters, n_missing=rows.n_missing,
        method="crossed random effects of seeds and clusters, analysis of variance, Satterthwaite's t",
        warnings=(*few_clusters(n_clusters), *_few_seeds(n_seeds)),
    )  # fmt: skip


def _mean_squares(cells: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(n_clusters, n_seeds) deviations from the mean -> mean squares of seeds, clusters and rest, and their df."""
    n_clusters, n_seeds = cells.shape
    seeds, groups = cells.mean(axis=0), cells.mean(axis=1)
    rest = cells - seeds - groups[:, None] + cells.mean()
    freedom = np.array([n_seeds - 1, n_clusters - 1, (n_seeds - 1) * (n_clusters - 1)], dtype=np.float64)
    sums = np.array([n_clusters * ((seeds - cells.mean()) ** 2).sum(), n_seeds * (groups**2).sum(), (rest**2).sum()])
    return sums / freedom, freedom


def _satterthwaite(squares: FloatArray, freedom: FloatArray, factors: FloatArray) -> tuple[float, float]:
    """A sum of mean squares, at least its largest term, and its degrees of freedom."""
    parts = factors * squares
    total = max(float(parts.sum()), float(parts.max()))
    return total, max(total**2 / float((parts**2 / freedom).sum()), 1.0) if total > 0 else 1.0
