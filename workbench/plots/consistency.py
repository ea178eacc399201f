"""Pictures of agreement: spreads of ranks against chance, items by how many groups find them, cycles, templates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.plots import FONT_SIZE, IMAGE, NOT_RELEVANT, QUIET, RELEVANT, TEXT, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from workbench.diagnostics.component import ComponentAlive
    from workbench.diagnostics.consistency import Consistency
    from workbench.diagnostics.cycle import CycleConsistency
    from workbench.diagnostics.prompts import PromptSensitivity

SMALL = FONT_SIZE - 1
BAND = "#d4d4d4"


def spreads(result: Consistency, ax: Axes | None = None) -> Axes:
    """Each kind of spread in per cent of that of independent groups, with interval; the band is chance."""
    ax = figure()[1] if ax is None else ax
    style = _style(result.direction)
    kinds = [kind for kind, (mean, _, _) in result.independent.items() if mean > 0]
    scale = np.array([result.independent[kind][0] for kind in kinds])
    place = np.arange(len(kinds))[::-1]
    bands = np.array([result.independent[kind][1:] for kind in kinds]).reshape(-1, 2).T / scale
    means = np.array([[getattr(result.dispersion[kind], end) for kind in kinds] for end in ("value", "low", "high")])
    value, low, high = 100 * means / scale
    ax.barh(place, 100 * (bands[1] - bands[0]), left=100 * bands[0], height=0.7, color=BAND, label="independent groups")
    ax.hlines(place, low, high, color=style.color, linewidth=2, zorder=2)
    ax.plot(value, place, linestyle="", marker=style.marker, color=style.color, label=result.direction, zorder=3)
    ax.axvline(100, color=QUIET, linewidth=0.8, zorder=1)
    names = {
        "std": "std (printed as MRV)", "var": "variance", "clamped": f"std, up to {result.clamp}",
        "log": "std of log rank",
    }  # fmt: skip
    _named_rows(ax, place, [names[kind] for kind in kinds])
    ax.set_xlim(left=0)
    ax.set_xlabel("mean spread of an item's ranks (% of independent groups)")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=SMALL)
    return ax


def found_by(result: Consistency, ax: Axes | None = None, *, k: int = 1) -> Axes:
    """Items by the number of groups that find them in the first k places; dashes are independent groups."""
    ax = figure()[1] if ax is None else ax
    counted, expected = result.found_by(k)
    style, place, total = _style(result.direction), np.arange(len(counted)), counted.sum()
    ax.bar(place, 100 * counted / total, color=f"{style.color}66", edgecolor=style.color, label="counted")
    ax.plot(
        place, 100 * expected / total, linestyle="", marker="_", color="black", markersize=18, markeredgewidth=2,
        label="groups with nothing in common",
    )  # fmt: skip
    ax.set_xticks(place)
    deed = f"find the item in the first {k}" if k > 1 else "rank the item first"
    ax.set_xlabel(f"groups ({result.column}) that {deed}")
    ax.set_ylabel("items (%)")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=SMALL)
    return ax


def cycles(results: Sequence[CycleConsistency], ax: Axes | None = None) -> Axes:
    """Shares that come back to their item, split by the way, with the largest share without a pairing as a mark."""
    ax = figure()[1] if ax is None else ax
    place = np.arange(len(results))[::-1]
    parts = {
        "over a right item": (RELEVANT, [one.closed_right.value for one in results]),
        "over a wrong item": (NOT_RELEVANT, [one.closed_wrong.value for one in results]),
    }
    left = np.zeros(len(results))
    for label, (style, values) in parts.items():
        width = 100 * np.nan_to_num(values)
        hatch = "" if style is RELEVANT else "//"
        ax.barh(
            place,
            width,
            left=left,
            height=0.5,
            color=f"{style.color}66",
            edgecolor=style.color,
            hatch=hatch,
            label=label,
        )
        left = left + width
    low, high = (100 * np.array([getattr(one.same_item, end) for one in results]) for end in ("low", "high"))
    value = 100 * np.array([one.same_item.value for one in results])
    ax.hlines(place, low, high, color="black", linewidth=2, zorder=3)
    ax.plot(value, place, "D", color="black", markersize=5, label="back at its item", zorder=4)
    without = 100 * np.array([one.turned_same_item.max() for one in results])
    ax.vlines(without, place - 0.32, place + 0.32, color=QUIET, linewidth=2, label="without pairing", zorder=4)
    _named_rows(ax, place, [one.direction for one in results])
    ax.set_xlim(0, 100)
    ax.set_xlabel("queries that come back to their item (%)")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=SMALL)
    return ax


def templates(result: PromptSensitivity, ax: Axes | None = None) -> Axes:
    """Difference of each template from the first in points, with paired intervals."""
    ax = figure()[1] if ax is None else ax
    return _differences(
        ax, result.templates[1:], [one for one in result.against_first if one is not None], 1.0,
        f"{result.direction}/{result.metric} minus that of {result.templates[0]!r} (points)",
    )  # fmt: skip


def costs(result: ComponentAlive, ax: Axes | None = None) -> Axes:
    """What the score loses under each control, in hundredths, with paired intervals."""
    ax = figure()[1] if ax is None else ax
    words = f"score lost without {result.component} (hundredths)"
    return _differences(ax, tuple(result.costs), list(result.costs.values()), -1.0, words)


def _differences(ax: Axes, names: Sequence[str], found: Sequence[Any], sign: float, words: str) -> Axes:
    place = np.arange(len(names))[::-1]
    value, low, high = (sign * 100 * np.array([getattr(one, end) for one in found]) for end in ("value", "low", "high"))
    ax.axvline(0, color=QUIET, linewidth=0.8, zorder=1)
    ax.hlines(place, low, high, color=IMAGE.color, linewidth=2, zorder=2)
    clear = (np.minimum(low, high) > 0) | (np.maximum(low, high) < 0)
    for chosen, face in ((clear, IMAGE.color), (~clear, "white")):
        ax.plot(
            value[chosen], place[chosen], linestyle="", marker="o", color=IMAGE.color, markerfacecolor=face, zorder=3
        )
    _named_rows(ax, place, [_short(name) for name in names])
    ax.set_xlabel(words.replace("$", r"\$"))
    return ax


def _style(direction: str) -> Any:
    return IMAGE if direction.startswith("i") else TEXT


def _named_rows(ax: Axes, place: np.ndarray, names: Sequence[str]) -> None:
    ax.set_yticks(place, list(names))
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(-0.6, len(names) - 0.4)


def _short(text: str, longest: int = 28) -> str:
    """Long names end in an ellipsis; a dollar sign is no formula."""
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    return cut.replace("$", r"\$")
