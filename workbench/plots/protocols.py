"""Plots of numbers that depend on how they are measured. Each draws what it is given and returns the axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from workbench.plots import AFTER, BEFORE, FONT_SIZE, IMAGE, QUIET, SPARE, TEXT, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALL = FONT_SIZE - 1
INCHES = 0.3
SIDES = {"i": IMAGE, "t": TEXT, "d": TEXT}


def protocol_values(
    labels: Sequence[str],
    value: npt.ArrayLike,
    low: npt.ArrayLike,
    high: npt.ArrayLike,
    ax: Axes | None = None,
    *,
    unit: str,
    other: npt.ArrayLike = (),
    names: tuple[str, str] = ("this run", "the other run"),
) -> Axes:
    """One number under several protocols with its intervals; the first label is the protocol the line stands for.

    other : the values of a second system under the same protocols, NaN where it has none.
    """
    ax = figure("wide")[1] if ax is None else ax
    middle, left, right = (np.asarray(values, float) for values in (value, low, high))
    place = np.arange(len(labels))[::-1]
    ax.axvspan(left[0], right[0], color="#e8e8e8", linewidth=0, zorder=0)
    ax.axvline(middle[0], color=QUIET, linewidth=0.8, zorder=1)
    ax.hlines(place, left, right, color=AFTER.color, linewidth=2, zorder=2)
    ax.plot(middle, place, AFTER.marker, color=AFTER.color, markersize=7, linestyle="", label=names[0], zorder=3)
    second = np.asarray(other, float)
    if len(second):
        ax.plot(second, place, SPARE.marker, color=SPARE.color, markerfacecolor="none", markersize=8,
                linestyle="", label=names[1], zorder=4)  # fmt: skip
        ax.legend(
            frameon=False, fontsize=SMALL, loc="upper center", bbox_to_anchor=(0.5, 1.0 + 0.9 / len(labels)), ncols=2
        )
    ax.set_yticks(place, labels)
    ax.set_ylim(-0.6, len(labels) - 0.4)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(unit)
    return ax


def gallery_sizes(curves: Mapping[str, Sequence[Any]], ax: Axes | None = None) -> Axes:
    """A hit rate against the number of items searched, one line with its interval per direction.

    curves : direction -> points with ``size``, ``k``, ``value``, ``low`` and ``high``.
    """
    ax = figure("small")[1] if ax is None else ax
    k = 1
    for direction, points in curves.items():
        if not points:
            continue
        k, side = points[0].k, SIDES.get(direction[-1:], BEFORE)
        size = [point.size for point in points]
        value, low, high = (
            100 * np.array([getattr(point, name) for point in points]) for name in ("value", "low", "high")
        )
        ax.fill_between(size, low, high, color=side.color, alpha=0.2, linewidth=0, zorder=1)
        ax.plot(size, value, marker=side.marker, markersize=4, zorder=2, **side.line)
        ax.annotate(
            direction, (size[-1], value[-1]), xytext=(6, 0), textcoords="offset points", va="center", fontsize=SMALL
        )
    ax.set_xscale("log")
    ax.set_ylim(0, 102)
    ax.margins(x=0.12)
    ax.set_xlabel("items searched (log scale)")
    ax.set_ylabel(f"hit@{k} (%)")
    return ax
