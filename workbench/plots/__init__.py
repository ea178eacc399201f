"""One look for all figures: fixed colours with fixed meanings, three sizes, no global style. Nothing computes here.

Colours are Okabe-Ito. A meaning is never carried by colour alone: every style also has a line style and a marker.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Size = Literal["small", "wide", "tall"]
SIZES: dict[str, tuple[float, float]] = {"small": (4.5, 3.2), "wide": (9.0, 3.2), "tall": (6.0, 6.0)}
DPI = 100
FONT_SIZE = 10
QUIET = "#6b6b6b"
SEQUENTIAL, SIGNED = "viridis", "RdBu_r"  # signed: limits symmetric about zero


@dataclass(frozen=True)
class Style:
    """How one meaning is drawn, everywhere."""

    color: str
    linestyle: str
    marker: str
    mark: str = ""

    @property
    def line(self) -> dict[str, Any]:
        """Keywords for ``ax.plot``."""
        return {"color": self.color, "linestyle": self.linestyle}


IMAGE = Style("#0072B2", "-", "o")
TEXT = Style("#D55E00", "-", "s")
RELEVANT = Style("#009E73", "-", "o", "✓")
NOT_RELEVANT = Style("#E69F00", "--", "X", "✗")
BEFORE = Style("#808080", ":", "o")
AFTER = Style("#56B4E9", "-", "D")
SPARE = Style("#CC79A7", "-.", "^")
STYLES = {
    "image": IMAGE, "text": TEXT, "relevant": RELEVANT, "not relevant": NOT_RELEVANT, "before": BEFORE, "after": AFTER,
    "spare": SPARE,
}  # fmt: skip


def figure(size: Size = "small") -> tuple[Figure, Axes]:
    """A new figure with one axes, made without pyplot, so that nothing global knows of it.

    size : "small" 4.5 x 3.2, "wide" 9 x 3.2, "tall" 6 x 6 inches.

    >>> fig, ax = figure("wide")
    >>> [float(edge) for edge in fig.get_size_inches()], ax.spines["top"].get_visible()
    ([9.0, 3.2], False)
    """
    fig, axes = panels(size, 1)
    return fig, axes[0]


def panels(size: Size = "wide", columns: int = 2, *, share: bool = True) -> tuple[Figure, tuple[Axes, ...]]:
    """A new figure with several axes side by side; ``share`` gives them the same limits, for panels to be compared."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if size not in SIZES:
        raise ValueError(f"size must be one of {', '.join(SIZES)}; got {size!r}")
    fig = Figure(figsize=SIZES[size], dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(fig)
    axes = tuple(fig.subplots(1, columns, squeeze=False, sharex=share, sharey=share)[0])
    for ax in axes:
        _plain(ax)
    return fig, axes


def stacked(rows: Sequence[float], *, width: float = 9.0) -> tuple[Figure, tuple[Axes, ...]]:
    """A new figure with axes one below the other, each as high as its number of rows needs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heights = [0.34 * n + 0.75 for n in rows]
    fig = Figure(figsize=(width, sum(heights) + 0.3), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(fig)
    axes = tuple(fig.subplots(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0])
    for ax in axes:
        _plain(ax)
    return fig, axes


def chance(ax: Axes, value: float, *, label: str = "chance") -> Axes:
    """A thin grey horizontal line with its label at the right end: what a guess would reach."""
    ax.axhline(value, color=QUIET, linewidth=0.8, zorder=1)
    ax.annotate(
        label, (1, value), xycoords=("axes fraction", "data"), xytext=(0, 2), textcoords="offset points",
        ha="right", va="bottom", color=QUIET, fontsize=FONT_SIZE - 1,
    )  # fmt: skip
    return ax


def caption(reading: str, *, data: str = "", n: int | None = None, interval: str = "") -> str:
    """The words under a figure: the reading rule, then data, sample size and interval method.

    >>> caption("Right of the line is more than chance.", data="scenes", n=1200, interval="95 % bootstrap by image")
    'Right of the line is more than chance. Data: scenes, n = 1,200. Intervals: 95 % bootstrap by image.'
    """
    reading = reading.strip()
    if not reading:
        raise ValueError("a caption begins with one sentence on how to read the figure")
    facts = ", ".join(part for part in (data and f"Data: {data}", n is not None and f"n = {n:,}") if part)
    sentences = [reading, facts, interval and f"Intervals: {interval}"]
    return " ".join(s if s.endswith((".", "?", "!")) else s + "." for s in sentences if s)


def png(fig: Figure, *, scale: float = 2, description: str = "") -> bytes:
    """The figure as PNG bytes, the same bytes for the same figure: no date, no software version.

    scale : pixels per CSS pixel, 2 for sharp screens. description : stored in the file, for who finds it alone.
    """
    file = io.BytesIO()
    metadata = {"Software": None, "Description": description or None}
    fig.savefig(file, format="png", dpi=DPI * scale, metadata=metadata, pil_kwargs={"optimize": True})
    return file.getvalue()


def svg(fig: Figure) -> bytes:
    """The figure as SVG bytes with text as outlines, the same bytes for the same figure."""
    import matplotlib

    file = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "workbench", "svg.fonttype": "path"}):
        fig.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def _plain(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=FONT_SIZE, color=QUIET)
    for text in (ax.xaxis.label, ax.yaxis.label, ax.title):
        text.set_fontsize(FONT_SIZE)
