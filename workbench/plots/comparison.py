"""Plots of a comparison of runs. Each draws what it is given and returns the axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from workbench.plots import AFTER, BEFORE, FONT_SIZE, IMAGE, NOT_RELEVANT, QUIET, RELEVANT, SPARE, TEXT, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALL = FONT_SIZE - 1


def outcomes(
    labels: Sequence[str], wins: npt.ArrayLike, ties: npt.ArrayLike, losses: npt.ArrayLike, ax: Axes | None = None
) -> Axes:
    """Queries better to the right, worse to the left; how many are alike stands beside the label."""
    ax = figure("wide")[1] if ax is None else ax
    better, alike, worse = (np.asarray(values, np.float64) for values in (wins, ties, losses))
    place = np.arange(len(labels))[::-1]
    ax.barh(place, better, height=0.6, color=RELEVANT.color, label="better")
    ax.barh(place, -worse, height=0.6, color=NOT_RELEVANT.color, hatch="//", edgecolor="white", label="worse")
    ax.axvline(0, color=QUIET, linewidth=0.8)
    for row, right, left in zip(place, better, worse, strict=True):
        _beside(ax, right, row, f"{right:,.0f} better", "left")
        _beside(ax, -left, row, f"{left:,.0f} worse", "right")
    reach = max(float(better.max(initial=0)), float(worse.max(initial=0)), 1.0)
    ax.set_xlim(-1.6 * reach, 1.6 * reach)
    ax.set_yticks(place, [f"{label} ({count:,.0f} alike)" for label, count in zip(labels, alike, strict=True)])
    ax.tick_params(axis="y", length=0)
    ax.locator_params(axis="x", integer=True, nbins=9)
    ticks = [tick for tick in ax.get_xticks() if abs(tick) <= 1.6 * reach]
    ax.set_xticks(ticks, [f"{abs(tick):,.0f}" for tick in ticks])
    ax.set_xlabel("queries")
    return ax


def places(
    labels: Sequence[str], low: npt.ArrayLike, high: npt.ArrayLike, seen: npt.ArrayLike, ax: Axes | None = None
) -> Axes:
    """The places each system could hold as a bar, the place it has in these data as a dot; first place on the left."""
    ax = figure("small")[1] if ax is None else ax
    first, last, now = (np.asarray(values, np.float64) for values in (low, high, seen))
    row = np.arange(len(labels))[::-1]
    ax.hlines(row, first, last, color=AFTER.color, linewidth=6, alpha=0.6, zorder=2)
    ax.plot(now, row, AFTER.marker, color=IMAGE.color, markersize=6, zorder=3, linestyle="")
    ax.set_yticks(row, labels)
    ax.set_ylim(-0.6, len(labels) - 0.4)
    ax.set_xlim(0.5, len(labels) + 0.5)
    ax.set_xticks(np.arange(1, len(labels) + 1))
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("place (1 is best)")
    return ax


def seed_values(
    groups: Sequence[str], values: Sequence[Sequence[float]], mean: npt.ArrayLike, low: npt.ArrayLike,
    high: npt.ArrayLike, ax: Axes | None = None, *, unit: str,
) -> Axes:  # fmt: skip
    """Every seed a dot, the mean with the interval over seeds and queries a bar above them."""
    ax = figure("small")[1] if ax is None else ax
    middle, left, right = (np.asarray(part, np.float64) for part in (mean, low, high))
    row = np.arange(len(groups))[::-1]
    ax.hlines(row + 0.18, left, right, color=AFTER.color, linewidth=2, zorder=2)
    ax.plot(middle, row + 0.18, AFTER.marker, color=AFTER.color, markersize=7, zorder=3, linestyle="")
    for place, each in zip(row, values, strict=True):
        ax.plot(each, [place - 0.12] * len(each), BEFORE.marker, color=BEFORE.color, markersize=5, linestyle="")
    ax.set_yticks(row, groups)
    ax.set_ylim(-0.6, len(groups) - 0.3)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(unit)
    return ax


def shares(names: Sequence[str], share: npt.ArrayLike, ax: Axes | None = None) -> Axes:
    """Shares of the variance between runs, per cent."""
    ax = figure("small")[1] if ax is None else ax
    row = np.arange(len(names))[::-1]
    per_cent = 100 * np.asarray(share, np.float64)
    ax.barh(row, per_cent, height=0.6, color=AFTER.color)
    for place, value in zip(row, per_cent, strict=True):
        _beside(ax, value, place, f"{value:.1f}", "left")
    ax.set_yticks(row, names)
    ax.tick_params(axis="y", length=0)
    ax.set_xlim(0, 112)
    ax.set_xticks([0, 25, 50, 75, 100])
    ax.set_xlabel("share of the variance between the runs (%)")
    return ax


def course(
    x: npt.ArrayLike, labels: Sequence[str], value: npt.ArrayLike, low: npt.ArrayLike, high: npt.ArrayLike,
    validation: npt.ArrayLike, ax: Axes | None = None, *, chosen: int, best: int, unit: str, field: str,
) -> Axes:  # fmt: skip
    """A metric along a field with its intervals; what validation chose and what the test would choose are marked."""
    ax = figure("wide")[1] if ax is None else ax
    at, middle, left, right = (np.asarray(part, np.float64) for part in (x, value, low, high))
    ax.fill_between(at, left, right, color=IMAGE.color, alpha=0.2, linewidth=0, zorder=1)
    ax.plot(at, middle, marker=IMAGE.marker, markersize=4, label="test", zorder=3, **IMAGE.line)
    tried = np.asarray(validation, np.float64)
    if len(tried):
        ax.plot(
            at, tried, marker=TEXT.marker, markersize=3, color=TEXT.color, linestyle=":", label="validation", zorder=2
        )
    _mark(ax, at[best], middle[best], "the test would choose", "^", SPARE.color, 12)
    if chosen >= 0:
        _mark(ax, at[chosen], middle[chosen], "validation chose", "v", RELEVANT.color, -18)
    numeric = [str(label) for label in labels] == [f"{place:g}" for place in at]
    if not numeric:
        ax.set_xticks(at, labels)
    low_end, high_end = (float(f(np.concatenate([left, right, tried, middle]))) for f in (np.nanmin, np.nanmax))
    room = 0.25 * max(high_end - low_end, 1.0)
    ax.set_ylim(low_end - room, high_end + room)
    ax.margins(x=0.08)
    ax.set_xlabel(field)
    ax.set_ylabel(unit)
    if len(tried):
        ax.legend(frameon=False, fontsize=SMALL)
    return ax


def _mark(ax: Axes, x: float, y: float, words: str, marker: str, color: str, offset: int) -> None:
    ax.plot([x], [y], marker, color=color, markersize=10, markerfacecolor="none", markeredgewidth=2, zorder=4)
    ax.annotate(
        words, (x, y), xytext=(0, offset), textcoords="offset points", ha="center", fontsize=SMALL, color="#333333"
    )


def _beside(ax: Axes, x: float, y: float, words: str, side: str) -> None:
    shift = 4 if side == "left" else -4
    ax.annotate(
        words, (x, y), xytext=(shift, 0), textcoords="offset points", ha=side, va="center", fontsize=SMALL,
        color="#333333",
    )  # fmt: skip
