"""One ranking under several sets of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workbench.plots import BEFORE, FONT_SIZE, IMAGE, NOT_RELEVANT, QUIET, RELEVANT, SPARE, TEXT, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALL = FONT_SIZE - 1
ROW_INCHES = 0.17
COLORS = tuple(style.color for style in (BEFORE, IMAGE, TEXT, RELEVANT, SPARE, NOT_RELEVANT))
MARKERS = ("o", "D", "s", "^", "v", "X", "P")


def label_scores(scores: Sequence[Any], ax: Axes | None = None) -> Axes:
    """Every metric under every set of labels, on the queries that all sets judge, with intervals.

    scores : of one direction, with ``metric``, ``labels``, ``common``, ``common_low`` and ``common_high``. The first
    set is grey. A new figure grows with the number of rows.
    """
    metrics, names = (list(dict.fromkeys(getattr(one, what) for one in scores)) for what in ("metric", "labels"))
    if ax is None:
        fig, ax = figure("wide")
        fig.set_figheight(height(scores))
    step = 1 / (len(names) + 1)
    for number, name in enumerate(names):
        color, mine = COLORS[number % len(COLORS)], [one for one in scores if one.labels == name]
        place = [metrics.index(one.metric) + step * (number - (len(names) - 1) / 2) for one in mine]
        low, value, high = ([100 * getattr(one, f"common{end}") for one in mine] for end in ("_low", "", "_high"))
        ax.hlines(place, low, high, color=color, linewidth=2, zorder=2)
        marker = MARKERS[number % len(MARKERS)]
        ax.plot(value, place, marker, color=color, markersize=6, linestyle="", label=_plain(name), zorder=3)
    for edge in range(1, len(metrics)):
        ax.axhline(edge - 0.5, color=QUIET, linewidth=0.4, zorder=0)
    ax.set_yticks(range(len(metrics)), metrics)
    ax.set_ylim(len(metrics) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("%")
    ax.legend(frameon=False, fontsize=SMALL, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=min(4, len(names)))
    return ax


def height(scores: Sequence[Any]) -> float:
    """Inches that the rows of :func:`label_scores` take."""
    metrics, names = ({getattr(one, what) for one in scores} for what in ("metric", "labels"))
    return 1.3 + ROW_INCHES * (len(names) + 1) * len(metrics)


def _plain(name: str) -> str:
    """A short legend entry; a dollar sign is no formula and a leading underscore no hidden line."""
    cut = name if len(name) <= 30 else name[:29] + "…"
    return cut.replace("$", r"\$").replace("_", " ")
