"""P-values adjusted for how many were looked at."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from workbench.types import FloatArray, IntArray


def holm(p_values: npt.ArrayLike) -> FloatArray:
    """P-values adjusted for how many were looked at: the chance of any false alarm stays below the level.

        adjusted_(i) = max over j <= i of min(1, (m - j + 1) * p_(j))      (p_(1) <= ... <= p_(m))

    p_values (m,) in 0..1; returns (m,) in the same order. NaN stays NaN and is not counted. Errors: outside 0..1.
    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979,
    https://www.jstor.org/stable/4615733.

    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    given, where = _sorted(p_values)
    adjusted = np.full(given.shape, np.nan)
    adjusted[where] = np.minimum(np.maximum.accumulate(given[where] * np.arange(len(where), 0, -1)), 1.0)
    return adjusted


def benjamini_hochberg(p_values: npt.ArrayLike) -> FloatArray:
    """P-values adjusted so that the expected share of false alarms among all alarms stays below the level.

        adjusted_(i) = min over j >= i of min(1, m / j * p_(j))      (p_(1) <= ... <= p_(m))

    For searching many comparisons; weaker than :func:`holm`, which bounds the chance of a single false alarm. Holds for
    independent or positively dependent tests. p_values (m,) in 0..1; returns (m,) in the same order. NaN stays NaN and
    is not counted. Errors: outside 0..1. Y. Benjamini & Y. Hochberg, "Controlling the false discovery rate", Journal of
    the Royal Statistical Society B 57, 1995, https://doi.org/10.1111/j.2517-6161.1995.tb02031.x.

    >>> benjamini_hochberg([0.01, 0.04, 0.03])
    array([0.03, 0.04, 0.04])
    """
    given, where = _sorted(p_values)
    adjusted = np.full(given.shape, np.nan)
    scaled = given[where] * len(where) / np.arange(1, len(where) + 1)
    adjusted[where] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def _sorted(p_values: npt.ArrayLike) -> tuple[FloatArray, IntArray]:
    """The p-values, and where the known ones are, smallest first."""
    given = np.asarray(p_values, dtype=np.float64)
    known = ~np.isnan(given)
    if given.ndim != 1 or (given[known] < 0).any() or (given[known] > 1).any():
        raise ValueError(f"p_values must be a one-dimensional array of numbers in 0..1; got {given}")
    return given, np.flatnonzero(known)[np.argsort(given[known], kind="stable")]
