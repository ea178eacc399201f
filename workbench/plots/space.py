"""Pictures of the embedding space: cosines, both sides on two main directions, what closing the gap does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from workbench.plots import AFTER, BEFORE, FONT_SIZE, IMAGE, NOT_RELEVANT, QUIET, RELEVANT, SPARE, TEXT, figure
from workbench.plots.curves import paired_differences

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from workbench.diagnostics import ModalityGap
    from workbench.diagnostics.closing import Closing
    from workbench.diagnostics.mixed_gallery import MixedGallery
    from workbench.diagnostics.similarity_of_spaces import SpaceSimilarity

SMALL = FONT_SIZE - 1


def cosine_histograms(gap: ModalityGap, ax: Axes | None = None, *, bins: int = 50) -> Axes:
    """Cosines of texts with their own image and with other images, each as a share of its pairs, means marked."""
    ax = figure()[1] if ax is None else ax
    both = np.concatenate([gap.paired, gap.unpaired])
    edges = np.linspace(both.min(), both.max() + 1e-9, bins + 1).tolist()
    groups = (
        (gap.unpaired, NOT_RELEVANT, "other image", "right", float(gap.unpaired.mean())),
        (gap.paired, RELEVANT, "own image", "left", gap.paired_mean.value),
    )
    peaks = []
    for values, style, label, side, mean in groups:
        weights = np.full(len(values), 100 / len(values))
        share, _, _ = ax.hist(
            values, edges, weights=weights, histtype="stepfilled", facecolor=f"{style.color}33", edgecolor=style.color,
            linestyle=style.linestyle, linewidth=1.5, label=label,
        )  # fmt: skip
        peaks.append(float(np.max(share)))
        ax.axvline(mean, color=style.color, linewidth=0.8, linestyle=style.linestyle)
        ax.annotate(
            f"{label}\nmean {mean:.3f}", (mean, 1), xycoords=("data", "axes fraction"), va="top", ha=side,
            xytext=(4 if side == "left" else -4, -2), textcoords="offset points", color=style.color, fontsize=SMALL,
        )  # fmt: skip
    ax.set_ylim(0, 1.35 * max(peaks))
    ax.set_xlabel("cosine of a text and an image")
    ax.set_ylabel("share of pairs per bin (%)")
    return ax


def pca_map(
    images: npt.ArrayLike,
    texts: npt.ArrayLike,
    ax: Axes | None = None,
    *,
    variance: tuple[float, float] | None = None,
    links: npt.ArrayLike | None = None,
) -> Axes:
    """Both sides in two given dimensions, with equal units on both axes.

    images (n, 2), texts (m, 2) : coordinates. variance : share of the variance each direction holds.
    links : (l, 2) pairs of (text, image) indices joined by thin lines.
    """
    ax = figure()[1] if ax is None else ax
    points = {"images": np.asarray(images, float), "texts": np.asarray(texts, float)}
    if links is not None:
        from matplotlib.collections import LineCollection

        ends = [(points["texts"][text], points["images"][image]) for text, image in np.asarray(links, np.int64)]
        ax.add_collection(LineCollection(ends, colors=QUIET, linewidths=0.4, alpha=0.3, zorder=1))
    for (name, where), style in zip(points.items(), (IMAGE, TEXT), strict=True):
        dense = 14 if len(where) < 300 else 6
        ax.scatter(
            where[:, 0],
            where[:, 1],
            s=dense,
            marker=style.marker,
            color=style.color,
            alpha=0.5,
            linewidths=0,
            label=name,
        )
    image_left = points["images"][:, 0].mean() <= points["texts"][:, 0].mean()
    for (name, where), style in zip(points.items(), (IMAGE, TEXT), strict=True):
        left = image_left == (name == "images")
        ax.annotate(
            f"{name} ({len(where):,})", (0.02 if left else 0.98, 1), xycoords="axes fraction", xytext=(0, 3),
            textcoords="offset points", ha="left" if left else "right", color=style.color, fontsize=SMALL,
        )  # fmt: skip
    ax.set_aspect("equal", adjustable="datalim")
    for position, axis in enumerate((ax.xaxis, ax.yaxis)):
        share = f" ({100 * variance[position]:.0f} % of variance)" if variance else ""
        axis.set_label_text(f"direction {position + 1}{share}")
    return ax


def closing_differences(closing: Closing, ax: Axes | None = None) -> Axes:
    """What each way of closing the gap does to the first metric, in points with paired intervals.

    Whitening is left out: its fall is often so long that nothing else can be seen.
    """
    drawn = [one for one in closing.first if one.way != "whitening"]
    middle, low, high = ([100 * getattr(one, name) for one in drawn] for name in ("difference", "low", "high"))
    unit = f"{closing.direction}: difference in {closing.metric} (points)"
    return paired_differences([one.way for one in drawn], middle, low, high, ax, unit=unit)


def effective_ranks(ranks: Mapping[str, float], dim: int, ax: Axes | None = None) -> Axes:
    """Effective rank of each side and of both, against the width of the vectors."""
    ax = figure()[1] if ax is None else ax
    place = np.arange(len(ranks))[::-1]
    for at, rank, style in zip(place, ranks.values(), (IMAGE, TEXT, SPARE), strict=True):
        ax.plot(rank, at, style.marker, color=style.color, markersize=8)
        ax.annotate(
            f"{rank:.0f}", (rank, at), xytext=(0, 7), textcoords="offset points", ha="center", color=style.color
        )
    ax.axvline(dim, color=QUIET, linewidth=0.8)
    ax.annotate("width of the vectors", (dim, place[0] + 0.5), xytext=(-3, 0), textcoords="offset points", ha="right",
                color=QUIET, fontsize=SMALL)  # fmt: skip
    ax.set_yticks(place, list(ranks))
    ax.set_ylim(-0.6, len(ranks) - 0.2)
    ax.set_xlim(0, 1.05 * dim)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("effective rank (directions)")
    return ax


def similarity(found: SpaceSimilarity, ax: Axes | None = None) -> Axes:
    """Debiased and plain CKA, each with the band of the same vectors with shuffled rows."""
    ax = figure()[1] if ax is None else ax
    rows = ((1, "debiased", found.debiased, found.null_debiased), (0, "plain", found.plain, found.null_plain))
    for at, _, value, null in rows:
        low, high = np.quantile(null, [0.025, 0.975])
        ax.hlines(at - 0.12, low, high, color=BEFORE.color, linewidth=6)
        ax.plot((low + high) / 2, at - 0.12, BEFORE.marker, color=BEFORE.color, markersize=4)
        ax.plot(value, at + 0.12, AFTER.marker, color=AFTER.color, markersize=8)
    ax.annotate("rows shuffled", (float(np.mean(rows[0][3])), 0.88), xytext=(6, -12), textcoords="offset points",
                color=QUIET, fontsize=SMALL)  # fmt: skip
    ax.set_yticks([at for at, *_ in rows], [name for _, name, *_ in rows])
    ax.set_ylim(-0.6, 1.6)
    ax.set_xlim(min(-0.05, *(float(null.min()) for *_, null in rows)), 1.05)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(f"CKA of {found.first} and {found.second}")
    return ax


def wrong_modality(galleries: Sequence[MixedGallery], ax: Axes | None = None) -> Axes:
    """Share of the first places held by the wrong modality, as the vectors are and with the gap closed."""
    ax = figure("wide")[1] if ax is None else ax
    rows = [(f"{one.direction}, first {place.k}", place) for one in galleries for place in one.places]
    labels = list(dict.fromkeys(label for label, _ in rows))
    ways = list(dict.fromkeys(place.way for _, place in rows))
    styles = dict(zip(ways, (BEFORE, AFTER, SPARE, RELEVANT, NOT_RELEVANT, TEXT, IMAGE), strict=False))
    for label, place in rows:
        style, at = styles[place.way], len(labels) - 1 - labels.index(label)
        at += 0.3 - 0.6 * ways.index(place.way) / max(len(ways) - 1, 1)
        ax.hlines(at, 100 * place.low, 100 * place.high, color=style.color, linewidth=2)
        name = place.way or "as it is"
        ax.plot(100 * place.wrong, at, style.marker, color=style.color, markersize=7, label=name)
        blind = 100 * place.blind
        ax.plot([blind, blind], [at - 0.12, at + 0.12], color=QUIET, linewidth=1)
    handles, names = ax.get_legend_handles_labels()
    first = dict(zip(names[::-1], handles[::-1], strict=True))
    order = [way or "as it is" for way in ways]
    ax.legend([first[name] for name in order], order, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False,
              fontsize=SMALL)  # fmt: skip
    ax.set_yticks(range(len(labels)), labels[::-1])
    ax.set_xlim(-2, 102)
    ax.set_ylim(-0.6, len(labels) - 0.4)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("places held by the modality that was not asked for (%); grey strokes: its share of the items")
    return ax
