"""Plots draw what results hold: artists' data are read back and compared with the fields."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from workbench.diagnostics.coverage import TextCoverage, text_coverage
from workbench.diagnostics.duplicates import Duplicates, RepeatedCaptions, duplicates, repeated_captions
from workbench.diagnostics.gap import ModalityGap, modality_gap
from workbench.diagnostics.hubness import Hubness, hubness
from workbench.plots import AFTER, IMAGE, NOT_RELEVANT, RELEVANT, SPARE, TEXT, figure
from workbench.plots.curves import metric_curve, paired_differences, rank_edges, rank_histogram
from workbench.plots.space import pca_map
from workbench.types import Neighbours


def hub_world(share: float = 0.9, n_queries: int = 300, direction: str = "t2i") -> Hubness:
    scores = np.random.default_rng(0).random((n_queries, 80))
    scores[: int(share * n_queries), 7] += 2
    order = np.argsort(-scores, axis=1)[:, :5]
    lists = Neighbours(order, np.take_along_axis(scores, order, 1), 80, True, np.zeros(n_queries, bool))
    return hubness(lists, direction=direction, n_null=60)


def gap_world() -> ModalityGap:
    rng = np.random.default_rng(1)
    owner = np.arange(70) % 30
    images = rng.normal(size=(30, 12))
    return modality_gap(images, images[owner] + rng.normal(size=(70, 12)), owner, n_resamples=100)


def duplicate_world() -> Duplicates:
    vectors = np.random.default_rng(2).normal(size=(60, 4)) + 1.5
    return duplicates([str(i) for i in range(60)], vectors, ids=[str(i) for i in range(60)], threshold=0.97)


def caption_world() -> RepeatedCaptions:
    return repeated_captions(["a cat", "a cat", "a cat", "costs $5 and $6", "costs $5 and $6", "a dog"], np.arange(6))


def coverage_world(unknown: bool = True) -> TextCoverage:
    rng = np.random.default_rng(3)
    known = rng.random(90) < 0.3 if unknown else None
    return text_coverage(rng.random(90) < 0.1, known, np.repeat(["de", "en", "zh"], 30))


@dataclass(frozen=True)
class Curve:
    """What metric_curve needs of a result."""

    direction: str
    metrics: tuple[str, ...]
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    chance: np.ndarray


def curve(direction: str, lift: float) -> Curve:
    depths = np.array([10, 1, 2, 5])  # not in order, with another metric and one not measurable
    value = np.append(1 - np.exp(-lift * depths), [0.3, np.nan])
    names = (*(f"hit@{k}" for k in depths), "MRR", "hit@500")
    return Curve(direction, names, value, value - 0.05, value + 0.05, np.append(depths / 100, [0.1, np.nan]))


def line(ax: Any, label: str) -> Any:
    return next(one for one in ax.get_lines() if one.get_label() == label)


def texts(ax: Any) -> list[str]:
    return [note.get_text() for note in ax.texts]


ALL = {
    "k_occurrence": lambda ax: hub_world().plot(ax),
    "k_occurrence, small": lambda ax: hub_world(0.1, 60, "i2t").plot(ax),
    "metric_curve": lambda ax: metric_curve([curve("t2i", 0.2), curve("i2t", 0.4)], ax),
    "paired_differences": lambda ax: paired_differences(["a", "b"], [1, -1], [0.5, -2], [2, 0.2], ax),
    "rank_histogram": lambda ax: rank_histogram([1, 2, 30], ax, direction="t2i", n_gallery=70),
    "duplicate_curve": lambda ax: duplicate_world().plot(ax),
    "repeated_captions": lambda ax: caption_world().plot(ax),
    "repeated_captions, none": lambda ax: repeated_captions(["a", "b"], [0, 1]).plot(ax),
    "coverage_shares": lambda ax: coverage_world().plot(ax),
    "coverage_shares, known": lambda ax: coverage_world(unknown=False).plot(ax),
    "cosine_histograms": lambda ax: gap_world().plot(ax),
    "pca_map": lambda ax: gap_world().plot_map(ax),
}


@pytest.mark.parametrize("name", ALL)
def test_every_plot(name: str) -> None:
    """Takes the axes given or makes one without pyplot; renders; names both axes; no label leaves the figure."""
    _, given = figure()
    assert ALL[name](given) is given
    made = ALL[name](None)
    assert isinstance(made.figure, Figure)
    assert made.get_xlabel()
    assert made.get_ylabel() or len(made.get_yticklabels()) or "none" in name
    made.figure.draw_without_rendering()
    edge = made.figure.bbox
    for word in filter(Text.get_text, [*made.texts, made.xaxis.label, made.yaxis.label]):
        box = word.get_window_extent()
        assert box.x0 >= edge.x0 - 1, word
        assert box.x1 <= edge.x1 + 1, word
        assert box.y0 >= edge.y0 - 1, word
        assert box.y1 <= edge.y1 + 1, word


@pytest.mark.parametrize("name", ALL)
def test_direct_labels_do_not_overlap(name: str) -> None:
    ax = ALL[name](None)
    ax.figure.draw_without_rendering()
    boxes = [(note.get_text(), note.get_window_extent()) for note in ax.texts]
    for position, (one, first) in enumerate(boxes):
        for other, second in boxes[position + 1 :]:
            assert not first.overlaps(second), (one, other)


@pytest.mark.parametrize("axis", ["x", "y"])
@pytest.mark.parametrize("name", ALL)
def test_tick_labels_do_not_overlap(name: str, axis: str) -> None:
    ax = ALL[name](None)
    ax.figure.draw_without_rendering()
    labels = [
        label for label in getattr(ax, f"get_{axis}ticklabels")() if label.get_text() and not label.get_rotation()
    ]
    low, high = sorted(getattr(ax, f"get_{axis}lim")())
    inside = [label for label in labels if low <= label.get_position()[axis == "y"] <= high]
    boxes = sorted((label.get_window_extent() for label in inside), key=lambda box: (box.x0, box.y0))
    if axis == "y":
        boxes.sort(key=lambda box: box.y0)
    for first, second in pairwise(boxes):
        assert not first.overlaps(second)


def test_k_occurrence_data() -> None:
    result = hub_world()
    ax = result.plot()
    drawn = {}
    for label in ("items", "hubs"):
        x, y = line(ax, label).get_data()
        drawn.update(dict(zip(np.asarray(x).tolist(), np.asarray(y).tolist(), strict=True)))
    counts, items = np.unique(result.occurrence, return_counts=True)
    assert drawn == dict(zip(counts.tolist(), items.tolist(), strict=True))
    hubs = line(ax, "hubs")
    assert np.asarray(hubs.get_xdata()).tolist() == [result.occurrence[7]] == [result.occurrence.max()]
    assert (hubs.get_color(), hubs.get_marker()) == (SPARE.color, SPARE.marker)
    assert line(ax, "items").get_color() == IMAGE.color
    assert line(hub_world(direction="i2t").plot(), "items").get_color() == TEXT.color
    assert f"hub: {result.hub_threshold} times or more" in texts(ax)
    assert "chance, 95 %" in texts(ax)
    assert "top-5" in ax.get_xlabel()
    band = ax.collections[0].get_paths()[0].vertices
    for count, high in enumerate(result.chance_high):
        if high >= 1:
            assert np.any(np.isclose(band[:, 1], high) & (np.abs(band[:, 0] - count) <= 0.5))
    assert line(ax, "hubs").get_xdata()[0] <= ax.get_xlim()[1]


def test_metric_curve_data() -> None:
    results = [curve("t2i", 0.2), curve("i2t", 0.4)]
    ax = metric_curve(results)
    for one, style in zip(results, (TEXT, IMAGE), strict=True):
        drawn = line(ax, one.direction)
        order = [1, 2, 3, 0]
        assert np.asarray(drawn.get_xdata()).tolist() == [1, 2, 5, 10]
        assert np.asarray(drawn.get_ydata()) == pytest.approx(100 * one.value[order])
        assert np.asarray(line(ax, f"{one.direction} chance").get_ydata()) == pytest.approx(100 * one.chance[order])
        assert (drawn.get_color(), drawn.get_marker()) == (style.color, style.marker)
        band = next(b for b in ax.collections if b.get_facecolor()[0][:3] == pytest.approx(rgb(style.color)))
        heights = band.get_paths()[0].vertices[:, 1]
        assert heights.min() == pytest.approx(100 * one.low[order].min())
        assert heights.max() == pytest.approx(100 * one.high[order].max())
    assert {"text to image", "image to text", "chance"} <= set(texts(ax))
    with pytest.raises(ValueError, match="t2i has no R@k to draw; its metrics are hit@10"):
        metric_curve(results, metric="R")


def rgb(color: str) -> list[float]:
    return [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def test_paired_differences_data() -> None:
    ax = paired_differences(["first", "second", "third"], [2.0, 0.1, -1.0], [1.0, -0.4, -2.0], [3.0, 0.6, -0.5])
    clear, open_ = line(ax, "clear of zero"), line(ax, "not clear of zero")
    assert np.asarray(clear.get_xdata()).tolist() == [2.0, -1.0]
    assert np.asarray(open_.get_xdata()).tolist() == [0.1]
    assert open_.get_markerfacecolor() == "white"
    assert clear.get_color() == AFTER.color
    spans = [path.vertices[:, 0].tolist() for path in ax.collections[0].get_paths()]
    assert spans == [[1.0, 3.0], [-0.4, 0.6], [-2.0, -0.5]]
    places = dict(zip([t.get_text() for t in ax.get_yticklabels()], ax.get_yticks(), strict=True))
    assert places["first"] > places["second"] > places["third"]
    assert places["second"] == open_.get_ydata()[0]
    assert "no difference" in texts(ax)


def test_rank_histogram_data() -> None:
    ranks = [1, 1, 1, 2, 3.5, 9, 10, 70, np.nan]
    chance = np.diff(rank_edges(70)) / 70
    ax = rank_histogram(ranks, direction="i2t", n_gallery=70, chance=chance)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "2", "3–4", "5–9", "10–19", "20–49", "50–70"]
    heights = [bar.get_height() for bar in ax.patches]
    assert heights == pytest.approx([37.5, 12.5, 12.5, 12.5, 12.5, 0, 12.5])
    steps = [path.vertices[0, 1] for path in ax.collections[0].get_paths()]
    assert steps == pytest.approx(100 * chance)
    assert sum(chance) == pytest.approx(1)
    assert "image to text" in ax.get_ylabel()


@pytest.mark.parametrize("n_gallery", [1, 2, 10, 12, 1000, 40_000])
def test_rank_edges_cover_every_place_once(n_gallery: int) -> None:
    edges = rank_edges(n_gallery)
    assert (edges[0], edges[-1]) == (1, n_gallery + 1)
    assert sum(b - a for a, b in pairwise(edges)) == n_gallery


def test_duplicate_curve_data() -> None:
    result = duplicate_world()
    ax = result.plot()
    x, y = line(ax, "pairs").get_data()
    assert np.asarray(x).tolist() == result.curve_thresholds.tolist()
    assert np.asarray(y).tolist() == result.curve_pairs.tolist()
    assert f"threshold 0.97: {result.n_near_pairs:,} pairs" in [text.strip() for text in texts(ax)]


def test_repeated_captions_data() -> None:
    ax = caption_world().plot()
    assert [bar.get_width() for bar in ax.patches] == [3, 2]
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["caption 1", "caption 2"]  # captions are never drawn: fonts and formulas would spoil them
    assert texts(ax) == ["3", "2"]


def test_coverage_data() -> None:
    result = coverage_world()
    ax = result.plot()
    for name, label, style in (
        ("truncated", "cut by the tokenizer", TEXT), ("unknown", "with an unknown word", NOT_RELEVANT)
    ):  # fmt: skip
        drawn = line(ax, label)
        assert np.asarray(drawn.get_xdata()) == pytest.approx([100 * getattr(row, name) for row in result.rows])
        assert (drawn.get_color(), drawn.get_marker()) == (style.color, style.marker)
    ends = [path.vertices[:, 0].tolist() for path in ax.collections[0].get_paths()]
    assert np.ravel(ends) == pytest.approx([100 * end for row in result.rows for end in row.truncated_interval])
    assert "de (n = 30)" in [label.get_text() for label in ax.get_yticklabels()]


def test_cosine_histogram_data() -> None:
    gap = gap_world()
    ax = gap.plot()
    by_color = {RELEVANT.color: gap.paired, NOT_RELEVANT.color: gap.unpaired}
    for patch in ax.patches:
        values = by_color.pop("#" + "".join(f"{round(255 * c):02X}" for c in patch.get_edgecolor()[:3]))
        corners = patch.get_xy()
        assert corners[:, 1].max() == pytest.approx(100 * np.histogram(values, edges(gap))[0].max() / len(values))
    assert not by_color
    means = sorted(float(one.get_xdata()[0]) for one in ax.get_lines())
    assert means == pytest.approx(sorted([gap.unpaired.mean(), gap.paired_mean.value]))
    assert f"own image\nmean {gap.paired_mean.value:.3f}" in texts(ax)


def edges(gap: ModalityGap) -> np.ndarray:
    both = np.concatenate([gap.paired, gap.unpaired])
    return np.linspace(both.min(), both.max() + 1e-9, 51)


def test_map_data() -> None:
    gap = gap_world()
    ax = pca_map(gap.map_images, gap.map_texts, variance=(0.4, 0.2), links=[[0, 0], [31, 1]])
    lines, images, words = ax.collections
    assert np.asarray(images.get_offsets()) == pytest.approx(gap.map_images)
    assert np.asarray(words.get_offsets()) == pytest.approx(gap.map_texts)
    assert images.get_facecolor()[0][:3] == pytest.approx(rgb(IMAGE.color))
    ends = [segment.tolist() for segment in lines.get_segments()]
    assert ends[1] == [gap.map_texts[31].tolist(), gap.map_images[1].tolist()]
    assert ax.get_xlabel() == "direction 1 (40 % of variance)"
    assert ax.get_aspect() == 1


def test_drawing_never_touches_pyplot() -> None:
    code = (
        "import sys, numpy as np; from workbench.diagnostics import text_coverage;"
        "assert 'matplotlib' not in sys.modules and 'pandas' not in sys.modules and 'torch' not in sys.modules;"
        "text_coverage(np.ones(3, bool)).plot(); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
