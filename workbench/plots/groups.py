"""Pictures of groups: scores with intervals, and shares of places against shares of items."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.plots import FONT_SIZE, IMAGE, QUIET, RELEVANT, SIZES, TEXT, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from workbench.diagnostics.exposure import Exposure
    from workbench.diagnostics.slices import SliceScores

SMALL = FONT_SIZE - 1
ROW_INCHES = 0.24


def slice_scores(result: SliceScores, ax: Axes | None = None, *, metric: int = 0) -> Axes:
    """One metric by group with intervals, worst on top; hollow grey where not judged, the overall mean as a line."""
    ax = _rows(len(result.groups)) if ax is None else ax
    place = np.arange(len(result.groups))[::-1]
    value, low, high = (100 * part[:, metric] for part in (result.value, result.low, result.high))
    judged, style = result.tested[:, metric], IMAGE if result.direction.startswith("i") else TEXT
    worse = judged & (result.p_holm[:, metric] < 0.05) & (result.difference[:, metric] < 0)
    for chosen, color, face, marker, label in (
        (~judged, QUIET, "white", "o", "not judged"),
        (judged & ~worse, style.color, style.color, style.marker, "judged"),
        (worse, style.color, style.color, "v", "worse than the rest"),
    ):
        if chosen.any():
            ax.hlines(place[chosen], low[chosen], high[chosen], color=color, linewidth=2, zorder=2)
            ax.plot(
                value[chosen], place[chosen], linestyle="", marker=marker, color=color, markerfacecolor=face,
                markersize=7, label=label, zorder=3,
            )  # fmt: skip
    mean = 100 * float(result.overall[metric])
    ax.axvline(mean, color=QUIET, linewidth=0.8, zorder=1)
    ax.annotate(
        f"all {mean:.1f}", (mean, 1), xycoords=("data", "axes fraction"), xytext=(0, 2), textcoords="offset points",
        ha="center", va="bottom", color=QUIET, fontsize=SMALL,
    )  # fmt: skip
    words = np.select([result.too_small[:, metric], worse], [", too small", ", worse"], "")
    ax.set_yticks(
        place,
        [
            f"{_short(group)} (n = {n:,}{word})"
            for group, n, word in zip(result.groups, result.n[:, metric], words.tolist(), strict=True)
        ],
    )
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(-0.6, len(result.groups) - 0.4)
    ax.set_xlabel(f"{result.direction} {result.metrics[metric]} (%) by {result.column}")
    return ax


def _short(text: str, longest: int = 24) -> str:
    """Long group names end in an ellipsis; a dollar sign is no formula."""
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    return cut.replace("$", r"\$")


def _rows(n_groups: int) -> Axes:
    """Axes tall enough for one line per group."""
    fig, ax = figure("tall")
    fig.set_size_inches(SIZES["tall"][0], max(SIZES["small"][1], 1.1 + ROW_INCHES * n_groups))
    return ax


def exposure_shares(result: Exposure, ax: Axes | None = None) -> Axes:
    """Share of places (dot, interval) beside share of the gallery (bar) and of the relevant (circle), per group."""
    ax = _rows(len(result.groups)) if ax is None else ax
    place = np.arange(len(result.groups))[::-1]
    gallery, top, relevant = (100 * part for part in (result.share_gallery, result.share_top, result.share_relevant))
    ax.barh(
        place, 100 * (result.null_high - result.null_low), left=100 * result.null_low, height=0.7, color="#d4d4d4",
        label="random lists", zorder=1,
    )  # fmt: skip
    ax.plot(gallery, place, "|", color=QUIET, markersize=14, markeredgewidth=1.5, label="gallery", zorder=2)
    if np.isfinite(relevant).any():
        ax.plot(
            relevant, place, RELEVANT.marker, color=RELEVANT.color, markerfacecolor="white", markersize=9,
            markeredgewidth=1.5, label="relevant", zorder=3,
        )  # fmt: skip
    ax.hlines(place, 100 * result.low, 100 * result.high, color=IMAGE.color, linewidth=2, zorder=4)
    ax.plot(top, place, "D", color=IMAGE.color, markersize=5, label=f"top-{result.k} places", zorder=5)
    ax.set_yticks(
        place,
        [f"{_short(group)} ({n:,} items)" for group, n in zip(result.groups, result.n_items, strict=True)],
    )
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(-0.6, len(result.groups) - 0.4)
    ax.set_xlim(left=0)
    ax.legend(loc="lower center", bbox_to_anchor=(0.35, 1), ncols=4, frameon=False, fontsize=SMALL, handletextpad=0.2,
              columnspacing=0.8)  # fmt: skip
    ax.set_xlabel(f"{result.direction}: share (%) by {result.column}")
    return ax
