"""What the labels leave open, beside what sampling does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.plots import AFTER, FONT_SIZE, IMAGE, QUIET, SIZES, TEXT, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from workbench.diagnostics.label_bounds import LabelBounds

ROW_INCHES = 0.42


def label_bounds(result: LabelBounds, ax: Axes | None = None) -> Axes:
    """One row per metric: lowest to highest as a broad bar, the sampling interval as a line, as labelled as a dot.

    Shares only; where all metrics are ranks (MedR, MeanR), these.
    """
    shares = [one for one in result.bounds if not one.metric.startswith(("MedR", "MeanR"))]
    shown, scale = (shares, 100.0) if shares else (list(result.bounds), 1.0)
    ax = _rows(len(shown)) if ax is None else ax
    row, style = np.arange(len(shown))[::-1], IMAGE if result.direction.startswith("i") else TEXT
    parts = [(one.lowest, one.labelled, one.highest, one.sampling.low, one.sampling.high) for one in shown]
    lowest, labelled, highest, low, high = scale * np.array(parts).T
    ax.barh(row, highest - lowest, left=lowest, height=0.55, color=AFTER.color, alpha=0.6, label="labels", zorder=2)
    ax.hlines(row, low, high, color=style.color, linewidth=2, label="sampling", zorder=3)
    ax.plot(labelled, row, style.marker, color=style.color, markersize=6, label="as labelled", linestyle="", zorder=4)
    outer = np.fmin(lowest, low), np.fmax(highest, high)  # beside the interval, where it reaches further
    for place, left, right, *edges in zip(row, lowest, highest, *outer, strict=True):
        for x, at, shift, side in ((left, edges[0], -3, "right"), (right, edges[1], 3, "left")):
            ax.annotate(
                f"{x:,.1f}", (at, place), xytext=(shift, 0), textcoords="offset points", ha=side, va="center",
                color=QUIET, fontsize=FONT_SIZE - 1,
            )  # fmt: skip
    ax.set_yticks(row, [one.metric for one in shown])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(-0.6, len(shown) - 0.4)
    ax.set_xlim(*((-9, 109) if shares else (0, 1.1 * float(np.nanmax([*highest, 1])))))
    if shares:
        ax.set_xticks([0, 25, 50, 75, 100])
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, fontsize=FONT_SIZE - 1)
    ax.set_xlabel(f"{result.direction} value (%)".strip() if shares else "rank (1 is best)")
    return ax


def _rows(n: int) -> Axes:
    """Axes tall enough for one line per metric."""
    fig, ax = figure("small")
    fig.set_size_inches(SIZES["wide"][0] * 0.75, max(1.9, 1.1 + ROW_INCHES * n))
    return ax
