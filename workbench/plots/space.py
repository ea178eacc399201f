"""Pictures of the embedding space: cosines of right and wrong pairs, and both sides on two main directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from workbench.plots import FONT_SIZE, IMAGE, NOT_RELEVANT, QUIET, RELEVANT, TEXT, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from workbench.diagnostics import ModalityGap

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
