"""Plots of studies: every arm with its seeds, and every claim with the least difference that counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.plots import AFTER, BEFORE, FONT_SIZE, NOT_RELEVANT, QUIET, RELEVANT, SPARE, Style, stacked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROLES: dict[str, Style] = {"mechanism": AFTER, "control": BEFORE, "knows nothing": SPARE, "imitation": NOT_RELEVANT}
ANSWERS: dict[str, Style] = {"holds": RELEVANT, "fails": NOT_RELEVANT, "inconclusive": BEFORE}


def arms(
    values: Mapping[str, Mapping[str, Sequence[float]]], roles: Mapping[tuple[str, str], str], units: Mapping[str, str]
) -> Figure:
    """One panel per condition, one line per arm: a small mark per seed, a large one for their mean.

    values : condition -> arm -> values. roles : (condition, arm) -> a key of ROLES, "control" where it is missing.
    units : condition -> what its axis shows.
    """
    rows = [len(found) for found in values.values()]
    fig, axes = stacked(rows)
    for ax, (condition, found) in zip(axes, values.items(), strict=True):
        for place, (arm, given) in enumerate(reversed(found.items())):
            role = roles.get((condition, arm), "control")
            _arm(ax, place, np.asarray(given, float), ROLES[role])
        ax.set_yticks(range(len(found)), list(reversed(found)))
        ax.set_ylim(-0.6, len(found) - 0.4)
        ax.tick_params(axis="y", length=0)
        ax.set_title(condition, loc="left", fontsize=FONT_SIZE, fontweight="bold")
        ax.set_xlabel(units.get(condition, ""))
        ax.grid(axis="x", color="#e8e8e8", linewidth=0.6)
        ax.set_axisbelow(True)
    shown = {roles.get((condition, arm), "control") for condition, found in values.items() for arm in found}
    _legend(fig, {name: style for name, style in ROLES.items() if name in shown})
    return fig


def claims(judged: Sequence[Any]) -> Figure:
    """One line per claim: effect over the strongest control with its interval, and a bar at the least that counts.

    judged : results with ``claim`` (says, condition, least, unit), ``effect``, ``low``, ``high`` and ``answer``; each
    unit has a panel of its own.
    """
    units = list(dict.fromkeys(one.claim.unit for one in judged))
    groups = [[one for one in judged if one.claim.unit == unit] for unit in units]
    said = [one.claim.says for one in judged]
    labels = {
        id(one): _wrapped(one.claim.says + (f" ({one.claim.condition})" if said.count(one.claim.says) > 1 else ""))
        for one in judged
    }
    fig, axes = stacked([sum(labels[id(one)].count("\n") / 2 + 1 for one in group) for group in groups])
    for ax, unit, group in zip(axes, units, groups, strict=True):
        ax.axvline(0, color=QUIET, linewidth=0.8, zorder=1)
        for place, one in enumerate(reversed(group)):
            style = ANSWERS[one.answer]
            ax.plot([one.claim.least] * 2, [place - 0.32, place + 0.32], color="#1d2126", linewidth=1.6, zorder=3)
            ax.hlines(place, one.low, one.high, color=style.color, linewidth=2.2, zorder=2)
            ax.plot([one.effect], [place], style.marker, color=style.color, markersize=7, zorder=4)
        ax.set_yticks(range(len(group)), [labels[id(one)] for one in reversed(group)])
        ax.set_ylim(-0.6, len(group) - 0.4)
        ax.tick_params(axis="y", length=0)
        ax.set_xlabel(f"{unit}, over the strongest control")
    shown = {one.answer for one in judged}
    _legend(fig, {name: style for name, style in ANSWERS.items() if name in shown})
    return fig


def _arm(ax: Axes, place: int, given: np.ndarray, style: Style) -> None:
    if len(given) > 1:
        ax.plot(
            given, np.full(len(given), place), style.marker, color=style.color, markersize=4, alpha=0.45, linestyle=""
        )
    ax.plot([given.mean()], [place], style.marker, color=style.color, markersize=8, zorder=3)


def _legend(fig: Figure, styles: Mapping[str, Style]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=style.color, marker=style.marker, linestyle="", markersize=7, label=name)
        for name, style in styles.items()
    ]
    fig.legend(handles=handles, loc="outside upper right", frameon=False, fontsize=FONT_SIZE - 1, ncols=len(handles))


def _wrapped(text: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, 44))
