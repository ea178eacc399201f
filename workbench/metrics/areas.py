"""How much of the evidence on a page is inside the boxes that were returned, and what the rest of them costs."""

from __future__ import annotations

from bisect import bisect_left
from typing import Literal

import numpy as np
import numpy.typing as npt

from workbench.types import FloatArray, IntArray

Mode = Literal["sum", "union"]


def area_recall(
    boxes: npt.ArrayLike, gold: npt.ArrayLike, *, pages: npt.ArrayLike | None = None,
    gold_pages: npt.ArrayLike | None = None, mode: Mode = "sum", page_area: float | None = None, cost: float = 0.0,
    cap: float | None = None,
) -> float:  # fmt: skip
    r"""Share of the gold area that the returned boxes cover, as published ("sum") or counting no point twice ("union").

        sum    \sum_b \sum_g |b ∩ g| / \sum_g |g|                            may exceed 1
        union  |B ∩ G| / |G| - cost |B \ G| / page_area,   B, G the unions   at most 1

    boxes (n, 4), best first, and gold (m, 4), m >= 1: left, top, right, bottom. pages (n,), gold_pages (m,) : the page
    of each, all on one page if not given; areas on different pages are disjoint. cost : of a whole page outside the
    evidence; with it the value may be negative. cap : in pages; the first box with which the union of those returned
    would be larger, and all behind it, are left out. page_area : the area of a page, for cost and cap.
    Errors: no gold area, a box with its right left of its left, values that are not finite, cost with "sum".
    K. Dong et al., "MMDocIR: Benchmarking Multi-Modal Retrieval for Long Documents", 2025,
    https://arxiv.org/abs/2501.08828, has the sum; a page-sized box scores 1, and boxes inside each other score twice.

    >>> gold, halves = [[0, 0, 4, 2]], [[0, 0, 2, 2], [2, 0, 4, 2]]
    >>> area_recall(gold + halves, gold), area_recall(gold + halves, gold, mode="union")
    (2.0, 1.0)
    >>> area_recall([[0, 0, 10, 8]], gold, mode="union", page_area=80, cost=0.5)  # 1 - 72/80/2
    0.55
    """
    found, wanted = _boxes(boxes, "boxes"), _boxes(gold, "gold")
    on, wanted_on = _pages(pages, len(found), "pages"), _pages(gold_pages, len(wanted), "gold_pages")
    if mode not in ("sum", "union"):
        raise ValueError(f"mode must be 'sum' or 'union'; got {mode!r}")
    if not cost >= 0 or (cap is not None and not cap > 0):
        raise ValueError(f"cost must not be negative and cap must be above 0; got {cost} and {cap}")
    if (cost or cap is not None) and (page_area is None or not page_area > 0):
        raise ValueError(f"cost and cap are in pages and need page_area above 0; got {page_area}")
    if cost and mode == "sum":
        raise ValueError("cost needs mode='union': a sum counts area several times")
    if cap is not None and page_area is not None:
        kept = _within(found, on, cap * page_area)
        found, on = found[:kept], on[:kept]
    if not _areas(wanted).sum() > 0:
        raise ValueError("gold has no area, so no share of it can be found; leave such questions out")
    if mode == "sum":
        return float(_overlaps(found, wanted, on[:, None] == wanted_on[None, :]).sum() / _areas(wanted).sum())
    both, every, target = _unions(found, on, wanted, wanted_on)
    outside = cost * (every - both) / page_area if cost and page_area is not None else 0.0
    return float(both / target - outside)


def union_area(boxes: npt.ArrayLike, pages: npt.ArrayLike | None = None) -> float:
    """Area of the union of rectangles (n, 4): left, top, right, bottom; those on different ``pages`` never overlap.

    Exact: the edges cut the plane into cells, and each cell is inside or outside. Errors: as for :func:`area_recall`.

    >>> union_area([[0, 0, 2, 2], [1, 1, 3, 3]]), union_area([[0, 0, 2, 2], [1, 1, 3, 3]], pages=[0, 1])
    (7.0, 8.0)
    """
    given = _boxes(boxes, "boxes")
    return _unions(given, _pages(pages, len(given), "pages"), np.zeros((0, 4)), np.zeros(0, np.int64))[1]


def _boxes(given: npt.ArrayLike, name: str) -> FloatArray:
    boxes = np.asarray(given, dtype=np.float64)
    if boxes.size == 0:
        return np.zeros((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{name} must be (n, 4): left, top, right, bottom; got {boxes.shape}")
    if not np.isfinite(boxes).all():
        raise ValueError(f"{name} holds values that are not finite")
    wrong = np.flatnonzero((boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1]))
    if len(wrong):
        raise ValueError(
            f"{name} are left, top, right, bottom with left <= right and top <= bottom; box {wrong[0]} is "
            f"{boxes[wrong[0]].tolist()}; left, top, width, height must be added up first"
        )
    return boxes


def _pages(given: npt.ArrayLike | None, n: int, name: str) -> IntArray:
    pages = np.zeros(n, np.int64) if given is None else np.asarray(given, dtype=np.int64)
    if pages.shape != (n,):
        raise ValueError(f"{name} must have one number for each of {n} boxes; got {pages.shape}")
    return pages


def _areas(boxes: FloatArray) -> FloatArray:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


def _overlaps(first: FloatArray, second: FloatArray, same_page: npt.NDArray[np.bool_]) -> FloatArray:
    """Area shared by each pair, (n, m)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    return np.asarray(np.maximum(high - low, 0).prod(axis=2) * same_page)


def _unions(first: FloatArray, on: IntArray, second: FloatArray, second_on: IntArray) -> tuple[float, float, float]:
    """Areas of: the intersection of two unions, the first union, the second union."""
    both = one = other = 0.0
    for page in sorted({*on.tolist(), *second_on.tolist()}):
        a, b = first[on == page].tolist(), second[second_on == page].tolist()
        across = sorted({box[side] for box in (*a, *b) for side in (0, 2)})
        down = sorted({box[side] for box in (*a, *b) for side in (1, 3)})
        cells = np.outer(np.diff(down), np.diff(across))
        in_a, in_b = (_covered(boxes, across, down) for boxes in (a, b))
        both += float(cells[in_a & in_b].sum())
        one += float(cells[in_a].sum())
        other += float(cells[in_b].sum())
    return both, one, other


def _covered(boxes: list[list[float]], across: list[float], down: list[float]) -> npt.NDArray[np.bool_]:
    """Which cells between the edges lie in a box, (n_down - 1, n_across - 1)."""
    inside = np.zeros((len(down) - 1, len(across) - 1), dtype=bool)
    for left, top, right, bottom in boxes:
        rows = slice(bisect_left(down, top), bisect_left(down, bottom))
        inside[rows, bisect_left(across, left) : bisect_left(across, right)] = True
    return inside


def _within(boxes: FloatArray, on: IntArray, most: float) -> int:
    """How many of the first boxes together cover no more than ``most``."""
    for n in range(1, len(boxes) + 1):
        if union_area(boxes[:n], on[:n]) > most:
            return n - 1
    return len(boxes)
