"""A mean over all queries of a test set from the few of them that somebody judged: drawing, estimating, planning.

The population is finite and fixed: these queries, under labels that would be complete. What is uncertain is only which
of the open queries were judged, so that judging all of them leaves an interval of width zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from workbench.types import FloatArray, IntArray

KNOWN = -1
LEAST = 2
FEW_IN_STRATUM = 5
FEW_SEEN = 30


@dataclass(frozen=True, eq=False)
class SampledMean:
    """A finite population's mean, estimated from a stratified sample of its units: :func:`stratified_mean`.

    value, low, high : the estimate and its interval at ``level``. n : units; n_known : units whose value is known
    without a sample; n_seen : units that were drawn and seen.
    strata, sizes, seen, means : (n_strata,) label, units, units seen, and their mean, of each stratum not known.
    spread : standard deviation of a unit within its stratum, for planning (:func:`judgements_for`).
    warnings : sentences saying where this interval should not be trusted.
    """

    value: float
    low: float
    high: float
    level: float
    n: int
    n_known: int
    n_seen: int
    strata: IntArray
    sizes: IntArray
    seen: IntArray
    means: FloatArray
    spread: float
    method: str
    warnings: tuple[str, ...]

    @property
    def n_open(self) -> int:
        """Units whose value only a look can tell, seen or not."""
        return int(self.sizes.sum())

    def flat(self) -> dict[str, Any]:
        """Plain numbers, in a fixed order."""
        names = ("value", "low", "high", "level", "n", "n_known", "n_seen")
        return {name: getattr(self, name) for name in names}


def stratified_order(strata: npt.ArrayLike, *, seed: int) -> IntArray:
    """The order in which to draw units so that every beginning of it is a stratified random sample.

    Within a stratum the order is random; across strata the places are shared in proportion to their sizes, after two
    units of each. So the first n are a proportional stratified sample for every n, and a longer sample holds the
    shorter one. Same seed and strata, same order.
    strata (n,) : whole numbers; -1 is never drawn. Returns the rows of all others, (n_drawable,).

    >>> stratified_order([0, 0, 1, 0, 1, -1], seed=0).tolist()
    [3, 4, 0, 2, 1]
    """
    labels = _labels(strata)
    rng = np.random.default_rng(seed)
    keys = np.full(len(labels), np.inf)
    for label in np.unique(labels[labels != KNOWN]):
        rows = rng.permutation(np.flatnonzero(labels == label))
        keys[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
        keys[rows[:LEAST]] -= 1
    return np.lexsort((labels, keys))[: int((labels != KNOWN).sum())]


def stratified_mean(
    values: npt.ArrayLike,
    strata: npt.ArrayLike,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    level: float = 0.95,
    n_draws: int = 4000,
    seed: int = 0,
) -> SampledMean:
    """The mean of a finite population from a random sample of each stratum, with an interval that covers when rare.

        mean = ( sum of known values + sum_h N_h * mean of the values seen in stratum h ) / N

    The interval comes from completing the population ``n_draws`` times: shares p_h ~ Dirichlet(counts of the values
    seen in h, plus N_h / (2 sum N) at either end of ``bounds``), then the N_h - n_h unseen values ~ Multinomial(p_h);
    the quantiles of the completed means. With one stratum and values 0 and 1 this is the beta-binomial with Jeffreys'
    prior, which unlike a t interval has a width when no 1 was seen; no correction for the finite population is needed.
    Coverage at nominal 95 % over 48 kinds of hit, precision and reciprocal-rank worlds (300 units in one to three
    strata, 30 or 90 seen, means of 1 to 30 %, 1,000 draws each): 92.7 to 97.0 %, where a t interval falls to 68 %.
    Many small changes (precision) are covered too often: the width allows for rare large ones that were not seen.

    values (n,) : NaN where not seen. strata (n,) : whole numbers; -1 marks known units, whose values must be given. The
    units seen must be a random sample within their stratum. bounds : the least and greatest value a unit can have.
    Errors: a stratum of which nothing was seen; values outside the bounds; lengths that differ.
    A. Y. Lo, "A Bayesian bootstrap for a finite population", Annals of Statistics 16, 1988,
    https://doi.org/10.1214/aos/1176351061; L. D. Brown, T. T. Cai & A. DasGupta, "Interval estimation for a binomial
    proportion", Statistical Science 16, 2001, https://doi.org/10.1214/ss/1009213286 (why Jeffreys' prior). Differs: the
    two half observations of Jeffreys' prior are shared by the strata.

    >>> found = stratified_mean([1, 1, 1, 0, np.nan, np.nan, 0, 1], [-1, -1, 0, 0, 0, 0, 1, 1])
    >>> found.value, found.n_known, found.n_seen, found.low < 0.7 < found.high
    (0.625, 2, 4, True)
    """
    numbers, labels = _checked(values, strata, bounds, level)
    rng = np.random.default_rng(seed)
    names = np.unique(labels[labels != KNOWN])
    parts = [numbers[labels == name] for name in names]
    seen = [part[~np.isnan(part)] for part in parts]
    if missing := [int(name) for name, part in zip(names, seen, strict=True) if not len(part)]:
        raise ValueError(
            f"nothing was judged in {len(missing)} of {len(parts)} strata (the first is stratum {missing[0]}), so that "
            "their mean is unknown; judge at least two queries of each, or use fewer strata"
        )
    sizes, n_seen = np.array([len(part) for part in parts], np.int64), np.array([len(part) for part in seen], np.int64)
    means = np.array([part.mean() for part in seen])
    known = float(numbers[labels == KNOWN].sum())
    total, draws, inner = known + float(sizes @ means), np.full(n_draws, known), 0.0
    for part, size in zip(seen, sizes, strict=True):
        support, weights = _weights(part, bounds, 0.5 * float(size / sizes.sum()))
        draws += part.sum() + rng.multinomial(int(size) - len(part), rng.dirichlet(weights, n_draws)) @ support
        inner += float(size) * _variance(support, weights)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    n = len(numbers)
    return SampledMean(
        total / n, float(min(low, total)) / n, float(max(high, total)) / n, level, n, n - int(sizes.sum()),
        int(n_seen.sum()), names, sizes, n_seen, means, float(np.sqrt(inner / max(sizes.sum(), 1))),
        f"stratified sample of a finite population, completed {n_draws:,} times, seed {seed}",
        tuple(_warnings(sizes, n_seen)),
    )  # fmt: skip


def judgements_for(
    half_width: float, n_units: int, *, n_open: int | None = None, spread: float = 0.5, level: float = 0.95
) -> int:
    """How many open units to judge so that the interval of the mean is plus or minus ``half_width``.

        n0 = (z * (n_open / n_units) * spread / half_width)^2,    n = n0 / (1 + n0 / n_open)

    half_width : in the unit of the mean, 0.02 for two points. n_units : all units; n_open : those whose value only a
    look can tell, all by default. spread : standard deviation of an open unit within its stratum; 0.5 is the worst case
    of hits; after a pilot use :attr:`SampledMean.spread`. Errors: half_width or spread not above 0.
    W. G. Cochran, Sampling Techniques, 3rd edition, 1977, section 4.4.

    >>> judgements_for(0.02, 1000), judgements_for(0.02, 1000, n_open=300), judgements_for(0.02, 10**9)
    (706, 126, 2401)
    """
    open_units = n_units if n_open is None else n_open
    if not (half_width > 0 and spread > 0 and 0 < level < 1):
        raise ValueError(
            f"half_width and spread must be above 0 and level in 0..1; got {half_width}, {spread} and {level}"
        )
    if not 0 <= open_units <= n_units:
        raise ValueError(f"n_open must lie in 0..n_units = {n_units}; got {open_units}")
    if open_units == 0:
        return 0
    needed = (ndtri((1 + level) / 2) * open_units / n_units * spread / half_width) ** 2
    return int(np.ceil(needed / (1 + needed / open_units)))


def _labels(strata: npt.ArrayLike) -> IntArray:
    labels = np.asarray(strata)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or (labels < KNOWN).any():
        raise ValueError(
            f"strata must be one whole number per unit, -1 or above; got {labels.dtype} of shape {labels.shape}"
        )
    return np.asarray(labels, np.int64)


def _checked(
    values: npt.ArrayLike, strata: npt.ArrayLike, bounds: tuple[float, float], level: float
) -> tuple[FloatArray, IntArray]:
    numbers, labels = np.asarray(values, np.float64), _labels(strata)
    if numbers.shape != labels.shape or not len(numbers):
        raise ValueError(f"one stratum per value is needed, for at least one; got {numbers.shape} and {labels.shape}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, such as 0.95; got {level}")
    if np.isnan(numbers[labels == KNOWN]).any():
        raise ValueError("a unit of stratum -1 is known, so its value must be given; some are NaN")
    drawn = numbers[(labels != KNOWN) & ~np.isnan(numbers)]
    slack = 1e-9 * (bounds[1] - bounds[0])
    if not bounds[0] < bounds[1] or (drawn < bounds[0] - slack).any() or (drawn > bounds[1] + slack).any():
        raise ValueError(f"values must lie within bounds = {bounds}; got {drawn.min():g} to {drawn.max():g}")
    return numbers, labels


def _weights(seen: FloatArray, bounds: tuple[float, float], half: float) -> tuple[FloatArray, FloatArray]:
    """The values a unit may take and their weights: as often as seen, and a little at either end."""
    support, inverse = np.unique(np.concatenate([seen, bounds]), return_inverse=True)
    weight = np.concatenate([np.ones(len(seen)), [half, half]])
    return support, np.asarray(np.bincount(inverse.ravel(), weight), np.float64)


def _variance(support: FloatArray, weights: FloatArray) -> float:
    share = weights / weights.sum()
    return float(share @ (support - share @ support) ** 2)


def _warnings(sizes: IntArray, seen: IntArray) -> list[str]:
    rest = seen < sizes
    words = []
    if rest.any() and seen.sum() < FEW_SEEN:
        words.append(f"Only {int(seen.sum())} queries were judged (fewer than {FEW_SEEN}): the interval is rough.")
    if (thin := rest & (seen < FEW_IN_STRATUM)).any():
        words.append(
            f"{int(thin.sum())} of {len(sizes)} strata have fewer than {FEW_IN_STRATUM} judged queries "
            f"({100 * sizes[thin].sum() / sizes.sum():.2g} % of the open queries): their spread is hardly known."
        )
    return words
