"""Convex mixing of two vectors, on the line or on the arc between them, with the policy of normalisation in the name.

Whether the two are scaled to length one before they are mixed decides what "the average" means: encoders give images
and texts of different lengths, and a raw average belongs to the longer one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from workbench.types import FloatArray


@dataclass(frozen=True)
class Mixing:
    """``(1 - weight) first + weight second``, row by row, scaled to length one; its printed form states the policy.

    weight : share of the second, 0..1; 0.5 is the plain average. inputs : "unit" scales both to length one beforehand,
    "raw" takes them as they are. path : "line" mixes as written, "arc" goes along the great circle (:func:`slerp`),
    where lengths do not matter.
    Called with first and second (n, dim) each; returns (n, dim) float64. Errors: other shapes, a zero row, two rows
    that cancel.

    >>> Mixing()([[3.0, 0.0]], [[0.0, 1.0]]).round(3), str(Mixing(0.25, inputs="raw"))
    (array([[0.707, 0.707]]), '0.75 first + 0.25 second (raw inputs, line)')
    >>> Mixing(inputs="raw")([[3.0, 0.0]], [[0.0, 1.0]]).round(3)
    array([[0.949, 0.316]])
    """

    weight: float = 0.5
    inputs: Literal["unit", "raw"] = "unit"
    path: Literal["line", "arc"] = "line"

    def __post_init__(self) -> None:
        _check_weight(self.weight)
        if self.inputs not in ("unit", "raw") or self.path not in ("line", "arc"):
            raise ValueError(f"inputs is 'unit' or 'raw', path 'line' or 'arc'; got {self.inputs!r}, {self.path!r}")
        if self.path == "arc" and self.inputs == "raw":
            raise ValueError("the arc lies on the unit sphere: it needs inputs='unit'")

    def __str__(self) -> str:
        return f"{1 - self.weight:g} first + {self.weight:g} second ({self.inputs} inputs, {self.path})"

    def __call__(self, first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray:
        if self.path == "arc":
            return slerp(first, second, self.weight)
        one, two = _pair(first, second)
        if self.inputs == "unit":
            one, two = _unit(one, "first"), _unit(two, "second")
        return _unit((1 - self.weight) * one + self.weight * two, "mixed")


def slerp(first: npt.ArrayLike, second: npt.ArrayLike, weight: float) -> FloatArray:
    r"""The point at the share ``weight`` of the way along the great circle between two directions.

    :math:`\frac{\sin((1-w)\theta)}{\sin\theta} a + \frac{\sin(w\theta)}{\sin\theta} b` with a, b of length one and
    :math:`\theta` the angle between them; equal directions stay. first, second (n, dim); returns (n, dim), length one.
    Errors: other shapes, a zero row, opposite directions, between which there is no single great circle.
    Source: K. Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985,
    https://doi.org/10.1145/325334.325242.

    >>> slerp([[1.0, 0.0]], [[0.0, 5.0]], 1 / 3).round(3)
    array([[0.866, 0.5  ]])
    """
    _check_weight(weight)
    one, two = _pair(first, second)
    one, two = _unit(one, "first"), _unit(two, "second")
    angle = 2 * np.arctan2(np.linalg.norm(one - two, axis=1), np.linalg.norm(one + two, axis=1))
    opposite = np.flatnonzero(angle > np.pi - 1e-6)
    if len(opposite):
        raise ValueError(f"row {opposite[0]}: the two point in opposite directions, so the way between is not defined")
    near = angle < 1e-6
    sine = np.where(near, 1.0, np.sin(angle))
    left = np.where(near, 1 - weight, np.sin((1 - weight) * angle) / sine)
    right = np.where(near, weight, np.sin(weight * angle) / sine)
    return _unit(left[:, None] * one + right[:, None] * two, "mixed")


def effective_weight(first: npt.ArrayLike, second: npt.ArrayLike, weight: float = 0.5) -> FloatArray:
    """The weight on unit vectors that gives the same direction as ``weight`` on the raw ones, (n,).

    ``w |b| / ((1 - w) |a| + w |b|)`` for rows a of first and b of second.

    >>> effective_weight([[3.0, 0.0]], [[0.0, 1.0]])  # the raw average leans to the longer one
    array([0.25])
    """
    _check_weight(weight)
    one, two = _pair(first, second)
    a, b = (1 - weight) * np.linalg.norm(one, axis=1), weight * np.linalg.norm(two, axis=1)
    if (a + b == 0).any():
        raise ValueError(f"row {np.argmax(a + b == 0)} has nothing to weigh: what is mixed has length zero")
    return np.asarray(b / (a + b))


def _check_weight(weight: float) -> None:
    if not 0 <= weight <= 1:
        raise ValueError(f"weight is the share of the second vector, in 0..1; got {weight}")


def _pair(first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.ndim != 2 or one.shape != two.shape:
        raise ValueError(f"first and second must both be (n, dim), row by row; got {one.shape} and {two.shape}")
    return one, two


def _unit(rows: FloatArray, what: str) -> FloatArray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 1e-12)).ravel())
    if len(bad):
        raise ValueError(f"row {bad[0]} of the {what} vectors has length zero, NaN or infinity: it has no direction")
    return np.asarray(rows / norms)
