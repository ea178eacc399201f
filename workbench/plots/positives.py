"""Pictures of unlabelled pairs that may be right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.plots import AFTER, FONT_SIZE, QUIET, RELEVANT, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from workbench.diagnostics.positives import MissingPositives

SMALL = FONT_SIZE - 1


def candidate_evidence(found: MissingPositives, ax: Axes | None = None) -> Axes:
    """Evidence of the listed pairs in their order, each judge as a dot, pairs on which the judges agree marked."""
    ax = figure("wide")[1] if ax is None else ax
    place = np.arange(1, len(found) + 1)
    for judge in range(len(found.judges)):
        ax.plot(place, 100 * found.evidence[:, judge], ".", color=QUIET, alpha=0.35, markersize=3, zorder=1)
    ax.plot(place, 100 * found.combined, linewidth=1.5, label="the judges together", **AFTER.line)
    ax.plot(
        place[found.agreed], 100 * found.combined[found.agreed], RELEVANT.marker, color=RELEVANT.color, markersize=4,
        linestyle="none", label="the judges agree",
    )  # fmt: skip
    ax.set_ylim(0, 102)
    ax.set_xlabel("place in the list of candidates")
    ax.set_ylabel("labelled pairs that\nlook no more right (%)")
    ax.legend(frameon=False, fontsize=SMALL, loc="lower right")
    return ax
