"""Systems that meet in pairs: strengths by Bradley-Terry with intervals, and Elo, which depends on the order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from workbench.types import FloatArray, IntArray

SCALE = 400.0 / np.log(10.0)
"""Elo points per unit of log strength: ten times as strong is 400 points."""
_STEPS, _ENOUGH = 10_000, 1e-10


@dataclass(frozen=True, eq=False)
class Arena:
    """Strengths of systems from battles, in Elo points around a mean of 1000: :func:`bradley_terry`.

    rating, low, high : (n_systems,); the interval is a percentile bootstrap over battles. n_battles : of each system.
    """

    names: tuple[str, ...]
    rating: FloatArray
    low: FloatArray
    high: FloatArray
    n_battles: IntArray

    @property
    def order(self) -> tuple[str, ...]:
        """Best first; equal ratings in the order given."""
        return tuple(self.names[i] for i in np.argsort(-self.rating, kind="stable"))

    def table(self) -> list[dict[str, Any]]:
        """One row per system, best first."""
        return [
            {"system": self.names[i], "rating": float(self.rating[i]), "low": float(self.low[i]),
             "high": float(self.high[i]), "battles": int(self.n_battles[i])}
            for i in np.argsort(-self.rating, kind="stable")
        ]  # fmt: skip

    def flat(self) -> dict[str, float]:
        """Rating by system."""
        return dict(zip(self.names, self.rating.tolist(), strict=True))


def bradley_terry(
    pairs: npt.ArrayLike, outcomes: npt.ArrayLike, names: tuple[str, ...], *, n_resamples: int = 1000,
    prior: float = 0.0, seed: int = 0,
) -> Arena:  # fmt: skip
    """Strengths that make the observed battles most likely; the order of the battles does not matter.

        P(a beats b) = strength_a / (strength_a + strength_b)        rating = 1000 + 400 log10(strength), mean 1000

    pairs (n_battles, 2) : indices into ``names``. outcomes (n_battles,) : 1 the first wins, 0 the second wins, 0.5 a
    tie, which counts half a win for either. prior : battles with half a win each that are added to every pair.
    Errors: a system that plays itself, other outcomes, and, without a prior, systems that cannot be compared because
    no chain of wins leads from one to another (the most likely strength is then infinite): also in a resample.
    Sources: R. A. Bradley & M. E. Terry, Biometrika 39, 1952, https://doi.org/10.2307/2334029; the iteration is of
    D. R. Hunter, Annals of Statistics 32, 2004, https://doi.org/10.1214/aos/1079120141.

    >>> found = bradley_terry([[0, 1]] * 4, [1, 1, 1, 0], ("a", "b"), n_resamples=0)  # three to one
    >>> round(float(found.rating[0] - found.rating[1]), 1)  # 400 log10(3)
    190.8
    """
    given, scored = _checked(pairs, outcomes, len(names))
    wins = _wins(given, scored, len(names), prior)
    rating = _ratings(wins)
    dice = np.random.default_rng(seed)
    draws = [
        _ratings(_wins(given[rows], scored[rows], len(names), prior))
        for rows in (dice.integers(len(given), size=len(given)) for _ in range(n_resamples))
    ]
    low, high = np.quantile(draws, [0.025, 0.975], axis=0) if draws else np.full((2, len(names)), np.nan)
    return Arena(tuple(names), rating, low, high, np.bincount(given.ravel(), minlength=len(names)))


def elo(
    pairs: npt.ArrayLike, outcomes: npt.ArrayLike, n_systems: int, *, k: float = 5.0, scale: float = 400.0,
    start: float = 1000.0,
) -> FloatArray:  # fmt: skip
    """Elo ratings after the battles in the order given: another order gives other ratings.

        expected = 1 / (1 + 10^((R_b - R_a) / scale))        R_a += k (outcome - expected),  R_b -= the same

    pairs, outcomes : as for :func:`bradley_terry`. k, scale, start : points. Returns (n_systems,); the sum stays
    n_systems x start, whatever happens.
    Source: A. E. Elo, "The Rating of Chessplayers, Past and Present", 1978.

    >>> elo([[0, 1]], [1.0], 2).tolist()  # equals meet, so 5 / 2 points change hands
    [1002.5, 997.5]
    """
    given, scored = _checked(pairs, outcomes, n_systems)
    ratings = [float(start)] * n_systems
    for (one, other), outcome in zip(given.tolist(), scored.tolist(), strict=True):
        moved = k * (outcome - 1.0 / (1.0 + 10.0 ** ((ratings[other] - ratings[one]) / scale)))
        ratings[one] += moved
        ratings[other] -= moved
    return np.array(ratings)


def _checked(pairs: npt.ArrayLike, outcomes: npt.ArrayLike, n_systems: int) -> tuple[IntArray, FloatArray]:
    given, scored = np.asarray(pairs), np.asarray(outcomes, np.float64)
    if given.ndim != 2 or given.shape[1] != 2 or not len(given) or given.dtype.kind not in "iu":
        raise ValueError(f"pairs must be (n_battles, 2) whole numbers, at least one battle; got {given.shape}")
    if scored.shape != (len(given),) or not np.isin(scored, (0.0, 0.5, 1.0)).all():
        raise ValueError(f"outcomes must be ({len(given)},) of 1, 0.5 or 0; got {scored.shape}")
    if given.min() < 0 or given.max() >= n_systems or (given[:, 0] == given[:, 1]).any():
        raise ValueError(f"pairs must name two different systems out of 0..{n_systems - 1}")
    return given.astype(np.int64), scored


def _wins(pairs: IntArray, outcomes: FloatArray, n: int, prior: float) -> FloatArray:
    """(n, n) how often the row's system beat the column's."""
    rows, columns = np.concatenate([pairs, pairs[:, ::-1]]).T
    found = coo_matrix((np.concatenate([outcomes, 1 - outcomes]), (rows, columns)), shape=(n, n)).toarray()
    return np.asarray(found + prior / 2 * (1 - np.eye(n)))


def _ratings(wins: FloatArray) -> FloatArray:
    groups, _ = connected_components(wins > 0, directed=True, connection="strong")
    if groups > 1:
        raise ValueError(
            f"the systems fall into {groups} groups that no chain of wins connects both ways, so that strengths are "
            "infinite; give more battles, or prior=1.0 for one added tie per pair"
        )
    met, won = wins + wins.T, wins.sum(axis=1)
    strength = np.ones(len(wins))
    for _ in range(_STEPS):
        new = won / (met / (strength[:, None] + strength[None])).sum(axis=1)
        new /= np.exp(np.log(new).mean())
        if np.abs(np.log(new / strength)).max() < _ENOUGH:
            return np.asarray(1000.0 + SCALE * np.log(new))
        strength = new
    raise RuntimeError(f"strengths did not settle in {_STEPS} steps; the battles are nearly one-sided, use prior=1.0")
