"""Plots of copies and of what they are worth. Each draws what a result holds and returns the axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.plots import AFTER, FONT_SIZE, IMAGE, QUIET, SPARE, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALL = FONT_SIZE - 1
INCHES = 0.32


def hamming_curve(result: Any, ax: Axes | None = None) -> Axes:
    """Pairs of pictures at most so many bits apart: by outline alone, and with colours that agree.

    result : with ``curve_bits``, ``curve_pairs``, ``curve_outline``, ``threshold`` and ``n_pairs``.
    """
    ax = figure()[1] if ax is None else ax
    ax.plot(result.curve_bits, result.curve_outline, drawstyle="steps-post", label="outline alone", **SPARE.line)
    ax.plot(result.curve_bits, result.curve_pairs, drawstyle="steps-post", label="and colours", **IMAGE.line)
    ax.axvline(result.threshold, color=QUIET, linewidth=0.8, linestyle="--", zorder=1)
    ax.set_yscale("symlog", linthresh=1)
    top = 4 * max(int(result.curve_outline.max(initial=0)), 3)
    ax.set_ylim(0, top)
    powers = [0, *(10**power for power in range(0, 1 + int(np.log10(top))))]
    ax.set_yticks(powers, [f"{power:,}" for power in powers])
    ax.minorticks_off()
    ax.annotate(
        f"threshold {result.threshold}: {result.n_pairs:,} pairs ", (result.threshold, top), xytext=(-2, -2),
        textcoords="offset points", ha="right", va="top", color=QUIET, fontsize=SMALL,
    )  # fmt: skip
    ax.legend(frameon=False, fontsize=SMALL, loc="center left")
    ax.set_xlabel("differing bits of 255, at most")
    ax.set_ylabel("pairs, log scale")
    return ax


def copy_levels(result: Any, ax: Axes | None = None) -> Axes:
    """Items concerned per level, strictest on top; the part that no stricter level told is filled.

    result : with ``what`` and ``levels`` of ``name``, ``items`` and ``n_new``.
    """
    ax = figure()[1] if ax is None else ax
    place = np.arange(len(result.levels))[::-1]
    items, new = ([of(level) for level in result.levels] for of in (lambda one: len(one.items), lambda one: one.n_new))
    ax.barh(place, items, height=0.6, facecolor="none", edgecolor=IMAGE.color)
    ax.barh(place, new, height=0.6, color=IMAGE.color)
    for y, count in zip(place, items, strict=True):
        ax.annotate(f"{count:,}", (count, y), xytext=(3, 0), textcoords="offset points", va="center", fontsize=SMALL)
    ax.set_yticks(place, [level.name for level in result.levels])
    ax.tick_params(axis="y", length=0)
    ax.set_xlim(0, 1.15 * max([*items, 1]))
    ax.locator_params(axis="x", integer=True, nbins=5)
    ax.set_xlabel(f"{result.what} items concerned (filled: told by no stricter level)")
    return ax


def impact(result: Any, ax: Axes | None = None, *, metric: str = "") -> Axes:
    """Differences in points with their intervals, one line per direction, level and change; filled where clear of 0.

    result : with ``known`` rows of ``direction``, ``metric``, ``level``, ``change``, ``difference``, ``low``, ``high``.
    metric : the one drawn; empty: that of the first row.
    """
    known = list(result.known)
    name = metric or (known[0].metric if known else "")
    rows = [row for row in known if row.metric == name]
    ax = figure("wide")[1] if ax is None else ax
    place = np.arange(len(rows))[::-1]
    ax.axvline(0, color=QUIET, linewidth=0.8, zorder=1)
    ax.hlines(place, [100 * row.low for row in rows], [100 * row.high for row in rows], color=AFTER.color, linewidth=2)
    for y, row in zip(place, rows, strict=True):
        face = AFTER.color if row.clear else "white"
        ax.plot(100 * row.difference, y, AFTER.marker, color=AFTER.color, markerfacecolor=face, markersize=7, zorder=3)
    ax.set_yticks(place, [f"{row.direction}, {row.level}: {row.change}" for row in rows])
    ax.set_ylim(-0.6, max(len(rows), 1) - 0.4)
    ax.tick_params(axis="y", length=0)
    widest = max([1.0, *(100 * abs(end) for row in rows for end in (row.low, row.high) if np.isfinite(end))])
    ax.set_xlim(-1.1 * widest, 1.1 * widest)
    ax.set_xlabel(f"change of {name} (points)")
    return ax
