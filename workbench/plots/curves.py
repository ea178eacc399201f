"""Curves, histograms and interval plots of results. Each function draws what a result holds and returns the axes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from workbench.plots import AFTER, FONT_SIZE, IMAGE, NOT_RELEVANT, QUIET, SPARE, TEXT, Style, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from workbench.diagnostics import Duplicates, Hubness, RepeatedCaptions, TextCoverage

SMALL = FONT_SIZE - 1
RANK_EDGES = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
CHANCE_ON_BARS = "#333333"
SIDES = {"i": IMAGE, "t": TEXT}
WORDS = {"t2i": "text to image", "i2t": "image to text", "i2i": "image to image", "t2t": "text to text"}


def k_occurrence(result: Hubness, ax: Axes | None = None) -> Axes:
    """How many items are retrieved how often: dots, hubs as triangles, grey band what chance gives for these sizes."""
    ax = figure()[1] if ax is None else ax
    floor, longest = 0.6, int(result.occurrence.max())
    items = np.bincount(result.occurrence)
    times = np.flatnonzero(items)
    hub = times >= result.hub_threshold
    count = np.arange(len(result.chance_items))
    ax.fill_between(
        count, np.maximum(result.chance_low, floor), np.maximum(result.chance_high, floor), step="mid", color="#d4d4d4",
        linewidth=0, label="chance band", zorder=1,
    )  # fmt: skip
    gallery = SIDES.get(result.direction[-1:], SPARE)
    _dots(ax, times[~hub], items[times[~hub]], gallery, "items")
    _dots(ax, times[hub], items[times[hub]], SPARE, "hubs")
    _occurrence_scales(ax, longest, result.hub_threshold, (floor, 3 * max(items.max(), result.chance_high.max())))
    if result.hub_threshold <= ax.get_xlim()[1]:
        _note(ax, result.hub_threshold, f"hub: {result.hub_threshold:,} times or more", SPARE)
    ax.set_xlabel(f"times retrieved in a top-{result.k}" + (" (linear to 10, then log)" if longest > 100 else ""))
    ax.set_ylabel("items, log scale")
    peak = int(np.argmax(result.chance_high))
    top = max(result.chance_high[peak], items[max(peak - 4, 0) : peak + 5].max(initial=0))
    ax.annotate(
        f"chance, {100 * result.level:g} %", (peak, top), xytext=(0, 5), textcoords="offset points", color=QUIET,
        ha="right" if longest > 100 else "center", fontsize=SMALL,
    )  # fmt: skip
    return ax


def bias_and_occurrence(bias: npt.ArrayLike, occurrence: npt.ArrayLike, direction: str, ax: Axes | None = None) -> Axes:
    """Every item: the bias a repair gives it against how often it is retrieved."""
    ax = figure()[1] if ax is None else ax
    x, y = np.asarray(bias, np.float64), np.asarray(occurrence, np.float64)
    side = SIDES.get(direction[-1:], SPARE)
    ax.plot(x, y, side.marker, color=side.color, alpha=0.5, markersize=4, markeredgewidth=0)
    ax.set_yscale("symlog", linthresh=10)
    ax.set_ylim(bottom=-0.5)
    ax.set_xlabel("bias (units of the score)")
    ax.set_ylabel("times retrieved (linear to 10, then log)")
    return ax


def metric_curve(scores: Sequence[Any], ax: Axes | None = None, *, metric: str = "hit") -> Axes:
    """A metric against its cutoff k, one line with its interval per direction, chance as a thin grey line.

    scores : results with ``direction``, ``metrics`` (names such as "hit@10"), ``value``, ``low``, ``high``, ``chance``.
    Metrics of another name, and values that were not measurable, are left out.
    """
    ax = figure()[1] if ax is None else ax
    drawn = []
    for one in scores:
        rows = [(int(name.split("@")[1]), i) for i, name in enumerate(one.metrics) if name.startswith(f"{metric}@")]
        rows = sorted((k, i) for k, i in rows if np.isfinite(one.value[i]))
        if not rows:
            raise ValueError(f"{one.direction} has no {metric}@k to draw; its metrics are {', '.join(one.metrics)}")
        k, where = [list(column) for column in zip(*rows, strict=True)]
        style = SIDES.get(one.direction[:1], SPARE)
        value, low, high, chance = (
            100 * np.asarray(getattr(one, n))[where] for n in ("value", "low", "high", "chance")
        )
        ax.fill_between(k, low, high, color=style.color, alpha=0.2, linewidth=0, zorder=2)
        ax.plot(k, value, marker=style.marker, markersize=4, label=one.direction, zorder=3, **style.line)
        ax.plot(k, chance, color=QUIET, linewidth=0.8, label=f"{one.direction} chance", zorder=1)
        drawn.append((k, value, chance, style, WORDS.get(one.direction, one.direction)))
    _label_curves(ax, drawn)
    ax.set_xscale("log")
    depths = sorted({depth for k, *_ in drawn for depth in k})
    ax.set_xticks(_sparse(depths), [f"{depth:,}" for depth in _sparse(depths)])
    ax.set_xticks([], minor=True)
    ax.set_ylim(0, 102)
    ax.set_xlabel("number of results looked at (k), log scale")
    ax.set_ylabel("queries with a right result (%)" if metric == "hit" else f"{metric}@k (%)")
    return ax


def paired_differences(
    labels: Sequence[str],
    difference: npt.ArrayLike,
    low: npt.ArrayLike,
    high: npt.ArrayLike,
    ax: Axes | None = None,
    *,
    unit: str = "difference in hit@1 (points)",
) -> Axes:
    """Differences to the same baseline with their intervals, first label on top; hollow where the interval holds zero.

    labels, difference, low, high : one entry per comparison, already in the unit of the axis label.
    """
    ax = figure("small" if len(labels) <= 8 else "tall")[1] if ax is None else ax
    middle, left, right = (np.asarray(values, float) for values in (difference, low, high))
    place = np.arange(len(labels))[::-1]
    clear = (left > 0) | (right < 0)
    ax.axvline(0, color=QUIET, linewidth=0.8, zorder=1)
    ax.hlines(place, left, right, color=AFTER.color, linewidth=2, zorder=2)
    for chosen, face, name in ((clear, AFTER.color, "clear of zero"), (~clear, "white", "not clear of zero")):
        ax.plot(
            middle[chosen], place[chosen], AFTER.marker, color=AFTER.color, markerfacecolor=face, markersize=7,
            markeredgewidth=1.5, label=name, zorder=3,
        )  # fmt: skip
    ax.set_yticks(place, labels)
    ax.set_ylim(-0.6, len(labels) - 0.15)
    ax.annotate(
        "no difference", (0, len(labels) - 0.15), xytext=(3, 0), textcoords="offset points", va="top", color=QUIET,
        fontsize=SMALL,
    )  # fmt: skip
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(unit)
    return ax


def rank_histogram(
    ranks: npt.ArrayLike, ax: Axes | None = None, *, direction: str, n_gallery: int, chance: npt.ArrayLike | None = None
) -> Axes:
    """Share of queries by the place of their first right result.

    ranks : (n_queries,) first ranks from 1, halves allowed (ties); NaN for queries without one, which are left out.
    chance : share of queries per bin of ``rank_edges(n_gallery)`` under chance, drawn as grey steps.
    """
    ax = figure()[1] if ax is None else ax
    edges = rank_edges(n_gallery)
    found = np.asarray(ranks, float)
    found = found[np.isfinite(found)]
    share = 100 * np.histogram(found, edges)[0] / max(len(found), 1)
    place, style = np.arange(len(share)), SIDES.get(direction[:1], SPARE)
    ax.bar(place, share, width=0.8, color=style.color, label="queries")
    if chance is not None:
        level = 100 * np.asarray(chance, float)
        ax.hlines(level, place - 0.45, place + 0.45, color=CHANCE_ON_BARS, linewidth=1.2, label="chance")
        ax.annotate(
            "chance", (place[-1] + 0.45, level[-1]), xytext=(0, 2), textcoords="offset points", ha="right", va="bottom",
            color=CHANCE_ON_BARS, fontsize=SMALL,
        )  # fmt: skip
    names = [f"{a:,}" if b - a == 1 else f"{a:,}–{b - 1:,}" for a, b in pairwise(edges)]
    ax.set_xticks(place, names, rotation=45 if len(names) > 5 else 0, ha="right" if len(names) > 5 else "center")
    ax.set_xlabel(f"place of the first right result of {n_gallery:,}")
    ax.set_ylabel(f"{WORDS.get(direction, direction)} queries (%)")
    return ax


def rank_edges(n_gallery: int) -> tuple[int, ...]:
    """Edges of the bins of :func:`rank_histogram`: 1, 2, 3, 5, 10, 20, 50, ... and n_gallery + 1.

    >>> rank_edges(12)
    (1, 2, 3, 5, 10, 13)
    """
    return (*(edge for edge in RANK_EDGES if edge < max(n_gallery, 2)), n_gallery + 1)


def duplicate_curve(result: Duplicates, ax: Axes | None = None) -> Axes:
    """Number of pairs of different items at or above each cosine, the threshold in use marked."""
    ax = figure()[1] if ax is None else ax
    style = SIDES.get(result.what[:1], SPARE)
    ax.plot(result.curve_thresholds, result.curve_pairs, drawstyle="steps-pre", label="pairs", **style.line)
    ax.axvline(result.threshold, color=QUIET, linewidth=0.8, linestyle="--", zorder=1)
    ax.set_yscale("symlog", linthresh=1)
    top = 4 * max(int(result.curve_pairs.max()), 3)
    ax.set_ylim(0, top)
    _plain_powers(ax, top, first=(0,))
    ax.locator_params(axis="x", nbins=5, steps=[1, 2, 5, 10])
    ax.annotate(
        f"threshold {result.threshold:g}: {result.n_near_pairs:,} pairs ", (result.threshold, top), xytext=(-2, -2),
        textcoords="offset points", ha="right", va="top", color=QUIET, fontsize=SMALL,
    )  # fmt: skip
    ax.set_xlabel(f"cosine of two {result.what} vectors, at least")
    ax.set_ylabel("pairs, log scale")
    return ax


def repeated_captions(result: RepeatedCaptions, ax: Axes | None = None, *, largest: int = 8) -> Axes:
    """How many images share each repeated caption; the captions themselves are text, for :meth:`table`."""
    ax = figure()[1] if ax is None else ax
    shown = result.captions[:largest]
    place = np.arange(len(shown))[::-1]
    counts = [len(images) for _, _, images in shown]
    ax.barh(place, counts, height=0.6, color=TEXT.color)
    ax.set_yticks(place, [f"caption {number}" for number in range(1, len(shown) + 1)])
    ax.tick_params(axis="y", length=0)
    for y, count in zip(place, counts, strict=True):
        ax.annotate(f"{count}", (count, y), xytext=(3, 0), textcoords="offset points", va="center", fontsize=SMALL)
    if not shown:
        ax.set_xticks([])
        ax.text(0.5, 0.5, "no caption is repeated for another image", ha="center", transform=ax.transAxes, color=QUIET)
    else:
        ax.locator_params(axis="x", integer=True)
    ax.set_xlabel("images with this caption")
    return ax


def coverage_shares(result: TextCoverage, ax: Axes | None = None) -> Axes:
    """Share of captions cut, and with unknown words, per group, with 95 % intervals."""
    ax = figure("small" if len(result.rows) <= 8 else "tall")[1] if ax is None else ax
    place = np.arange(len(result.rows))[::-1]
    known = result.rows[0].unknown is not None
    for name, label, style, shift in (
        ("truncated", "cut by the tokenizer", TEXT, 0.15 if known else 0.0),
        ("unknown", "with an unknown word", NOT_RELEVANT, -0.15),
    ):
        if name == "unknown" and not known:
            continue
        share = [100 * getattr(row, name) for row in result.rows]
        ends = [[100 * end for end in getattr(row, f"{name}_interval")] for row in result.rows]
        ax.hlines(place + shift, *np.transpose(ends), color=style.color, linewidth=2)
        ax.plot(share, place + shift, style.marker, color=style.color, markersize=6, label=label)
    ax.set_yticks(place, [f"{row.group} (n = {row.n:,})" for row in result.rows])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(-0.6, len(result.rows) - 0.4)
    ax.set_xlim(left=0)
    ax.set_xlabel("share of captions (%)")
    if known:
        ax.legend(
            loc="lower center", bbox_to_anchor=(0.4, 1), ncols=2, frameon=False, fontsize=SMALL, handletextpad=0.2
        )
    else:
        ax.set_xlabel("captions cut by the tokenizer (%)")
    return ax


def _dots(ax: Axes, x: Any, y: Any, style: Style, label: str) -> None:
    ax.plot(x, y, linestyle="", marker=style.marker, markersize=4.5, color=style.color, label=label, zorder=3)


def _note(ax: Axes, x: float, text: str, style: Style) -> None:
    """A vertical line with words at its top, on the side that has more room."""
    ax.axvline(x, **style.line, linewidth=1, zorder=1.5)
    room = ax.transLimits.transform(ax.transScale.transform((x, ax.get_ylim()[0])))[0]
    ax.annotate(
        text, (x, 1), xycoords=("data", "axes fraction"), xytext=(4 if room < 0.5 else -4, 0), va="top",
        textcoords="offset points", ha="left" if room < 0.5 else "right", color=style.color, fontsize=SMALL,
    )  # fmt: skip


def _occurrence_scales(ax: Axes, longest: int, threshold: int, heights: tuple[float, float]) -> None:
    """Items on a log scale; times linear up to 100, beyond that linear to 10 and then log, so that zero has a place."""
    ax.set_yscale("log")
    ax.set_ylim(*heights)
    _plain_powers(ax, heights[1])
    right = max(longest, threshold if threshold < 2 * longest else 0)
    ax.set_xlim(-0.5, 1.05 * right + 0.5)
    if longest > 100:
        ax.set_xscale("symlog", linthresh=10)
        ticks = [0, 5, 10, *(t for t in (30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000) if t <= right)]
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        ax.set_xticks([], minor=True)
        ax.set_xlim(-0.5, 1.25 * right)


def _plain_powers(ax: Axes, top: float, first: tuple[int, ...] = ()) -> None:
    """Ticks of a log axis as plain numbers: 1, 10, 100, 1,000."""
    ticks = [*first, *(10**power for power in range(12) if 10**power <= top)]
    ax.set_yticks(ticks, [f"{tick:,}" for tick in ticks])


def _sparse(depths: list[int]) -> list[int]:
    """All depths when they are few, else the powers of ten among them."""
    return depths if len(depths) <= 7 else [depth for depth in depths if str(depth).strip("0") == "1"]


def _label_curves(ax: Axes, drawn: list[tuple[Any, Any, Any, Style, str]]) -> None:
    """Names beside the lines: the upper line is labelled above, the lower one below."""
    order = sorted(range(len(drawn)), key=lambda i: float(np.mean(drawn[i][1])))
    for position, i in enumerate(order):
        k, value, chance, style, name = drawn[i]
        upper = position == len(order) - 1
        where = len(k) // 3 if upper else len(k) // 2
        ax.annotate(
            name, (k[where], value[where]), xytext=(-6, 6) if upper else (6, -8), textcoords="offset points",
            ha="right" if upper else "left", va="bottom" if upper else "top", color=style.color, fontsize=SMALL,
        )  # fmt: skip
        if position == 0:
            middle = len(k) // 2
            ax.annotate(
                "chance", (k[middle], chance[middle]), xytext=(0, 3), textcoords="offset points", ha="right",
                va="bottom", color=QUIET, fontsize=SMALL,
            )  # fmt: skip
