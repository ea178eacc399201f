"""Battles between systems whose strengths are known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from workbench.types import FloatArray, IntArray


def battles(ratings: npt.ArrayLike, n_battles: int, *, ties: float = 0.0, seed: int = 0) -> tuple[IntArray, FloatArray]:
    """Blind pairs of systems and who won, by the model of Bradley and Terry.

        P(a beats b) = 1 / (1 + 10^((R_b - R_a) / 400))

    ratings (n_systems,) : in Elo points. ties : share of battles that end in a tie, whoever meets.
    Returns pairs (n_battles, 2), the left and the right system in random order, and outcomes (n_battles,): 1 where the
    left one wins, 0 where the right one does, 0.5 for a tie.

    >>> pairs, outcomes = battles([1000.0, 1400.0], 11_000)
    >>> strong_wins = (outcomes == (pairs[:, 0] == 1)).mean()  # ten in eleven
    >>> bool(abs(strong_wins - 10 / 11) < 0.01)
    True
    """
    known = np.asarray(ratings, np.float64)
    if known.ndim != 1 or len(known) < 2 or not np.isfinite(known).all():
        raise ValueError(f"ratings must be two or more finite numbers; got {known}")
    if n_battles < 1 or not 0 <= ties <= 1:
        raise ValueError(f"n_battles must be 1 or more and ties lie in 0..1; got {n_battles} and {ties}")
    dice = np.random.default_rng(seed)
    left = dice.integers(len(known), size=n_battles)
    right = (left + dice.integers(1, len(known), size=n_battles)) % len(known)
    wins = dice.random(n_battles) < 1.0 / (1.0 + 10.0 ** ((known[right] - known[left]) / 400.0))
    outcomes = np.where(dice.random(n_battles) < ties, 0.5, wins.astype(np.float64))
    return np.stack([left, right], axis=1), outcomes
