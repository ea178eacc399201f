"""Areas of boxes against a raster of pixels, and the two rules that the published recall breaks."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.metrics.areas import area_recall, union_area
from workbench.statistics.leverage import grouped_mean

SIDE = 24


def boxes(rng: np.random.Generator, n: int) -> np.ndarray:
    """n boxes with whole corners, some of them empty."""
    corners = np.sort(rng.integers(0, SIDE + 1, (n, 2, 2)), axis=1)
    return corners.reshape(n, 4)


def raster(given: np.ndarray, pages: np.ndarray, n_pages: int) -> np.ndarray:
    """(n_pages, SIDE, SIDE) how many boxes each pixel lies in."""
    drawn = np.zeros((n_pages, SIDE, SIDE), int)
    for (left, top, right, bottom), page in zip(given, pages, strict=True):
        for y in range(top, bottom):
            for x in range(left, right):
                drawn[page, y, x] += 1
    return drawn


@pytest.mark.parametrize("seed", range(60))
def test_areas_are_those_of_a_raster(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, m, n_pages = int(rng.integers(0, 8)), int(rng.integers(1, 4)), int(rng.integers(1, 4))
    found, gold = boxes(rng, n), np.concatenate([boxes(rng, m), [[3, 4, 9, 6]]])
    on, gold_on = rng.integers(0, n_pages, n), rng.integers(0, n_pages, m + 1)
    drawn, wanted = raster(found, on, n_pages), raster(gold, gold_on, n_pages)
    inside = ((drawn > 0) & (wanted > 0)).sum()
    outside = ((drawn > 0) & (wanted == 0)).sum()
    where = {"pages": on, "gold_pages": gold_on}
    assert union_area(found, on) == (drawn > 0).sum()
    assert area_recall(found, gold, **where) == pytest.approx((drawn * wanted).sum() / wanted.sum())
    assert area_recall(found, gold, **where, mode="union") == pytest.approx(inside / (wanted > 0).sum())
    costly = area_recall(found, gold, **where, mode="union", page_area=SIDE**2, cost=0.7)
    assert costly == pytest.approx(inside / (wanted > 0).sum() - 0.7 * outside / SIDE**2)
    kept = 0
    while kept < n and (raster(found[: kept + 1], on[: kept + 1], n_pages) > 0).sum() <= 0.4 * SIDE**2:
        kept += 1
    first = {"pages": on[:kept], "gold_pages": gold_on}
    capped = area_recall(found, gold, **where, mode="union", page_area=SIDE**2, cap=0.4)
    assert capped == area_recall(found[:kept], gold, **first, mode="union")


def test_the_sum_counts_boxes_inside_each_other_and_loves_the_page() -> None:
    gold = [[10, 10, 50, 30]]
    nested = [[10, 10, 50, 20], [10, 20, 50, 30]]
    page = [[0, 0, 100, 100]]
    assert area_recall(gold + nested, gold) == 2.0
    assert area_recall(gold + nested, gold, mode="union") == 1.0
    assert area_recall(page, gold) == area_recall(page, gold, mode="union") == 1.0
    assert area_recall(page, gold, mode="union", page_area=1e4, cost=1.0) == pytest.approx(0.08)
    assert area_recall(page, gold, mode="union", page_area=1e4, cap=0.5) == 0.0
    assert area_recall(gold, gold, mode="union", page_area=1e4, cost=1.0, cap=0.5) == 1.0


def test_order_copies_and_scale_do_not_matter_to_a_union() -> None:
    rng = np.random.default_rng(5)
    found, gold = boxes(rng, 6), boxes(rng, 3) + np.array([0, 0, 1, 1])
    value = area_recall(found, gold, mode="union")
    assert area_recall(found[::-1], gold, mode="union") == pytest.approx(value)
    assert area_recall(np.concatenate([found, found]), gold, mode="union") == pytest.approx(value)
    assert area_recall(found * 0.37, gold * 0.37, mode="union") == pytest.approx(value)
    assert area_recall(np.concatenate([found, found]), gold) == pytest.approx(2 * area_recall(found, gold))


def test_nothing_returned_finds_nothing_and_other_pages_do_not_help() -> None:
    gold = [[0, 0, 4, 4]]
    assert area_recall([], gold) == area_recall([], gold, mode="union") == union_area([]) == 0.0
    assert area_recall(gold, gold, pages=[1], gold_pages=[0], mode="union") == 0.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"boxes": [[0, 0, 2]]}, "left, top, right, bottom"),
        ({"boxes": [[4, 0, 2, 2]]}, "width, height"),
        ({"boxes": [[0, 0, np.nan, 2]]}, "finite"),
        ({"gold": []}, "no area"),
        ({"gold": [[1, 1, 1, 5]]}, "no area"),
        ({"mode": "overlap"}, "'sum' or 'union'"),
        ({"mode": "union", "cost": 1.0}, "page_area"),
        ({"cap": 0.5}, "page_area"),
        ({"cost": 1.0, "page_area": 10.0}, "mode='union'"),
        ({"mode": "union", "cost": -1.0, "page_area": 10.0}, "negative"),
        ({"mode": "union", "cap": 0.0, "page_area": 10.0}, "above 0"),
        ({"pages": [0, 1]}, "one number for each of 1 boxes"),
    ],
)
def test_bad_input_is_named(options: dict[str, object], said: str) -> None:
    given: dict[str, object] = {"boxes": [[0, 0, 2, 2]], "gold": [[0, 0, 2, 2]]} | options
    with pytest.raises(ValueError, match=said):
        area_recall(given.pop("boxes"), given.pop("gold"), **given)  # type: ignore[arg-type]


# --- averages over groups ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_averages_without_a_group_are_those_of_the_rest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([["a", "b", "c", "d"], rng.choice(list("abcd"), 30)])
    values = np.where(rng.random(34) < 0.1, np.nan, rng.random(34))
    values[:4] = rng.random(4)
    found = grouped_mean(values, labels)
    means = {name: np.nanmean(values[labels == name]) for name in "abcd"}
    assert found.macro == pytest.approx(np.mean(list(means.values())))
    assert found.micro == pytest.approx(np.nanmean(values))
    assert found.n_missing == np.isnan(values).sum()
    for place, name in enumerate(found.names):
        rest = [value for other, value in means.items() if other != name]
        assert found.macro_without[place] == pytest.approx(np.mean(rest))
        assert found.micro_without[place] == pytest.approx(np.nanmean(values[labels != name]))
        assert found.macro_leverage[place] == pytest.approx((means[name] - np.mean(rest)) / 4)
    assert found.value_weight @ found.n == pytest.approx(found.n.sum())


def test_a_value_of_the_published_news_domain_weighs_a_little_more_and_its_document_a_lot() -> None:
    """137 of 1,658 questions in one of ten domains: each counts 1.21 times; the document 31 times its share."""
    labels = np.repeat(np.arange(10), [137, *[169] * 9])
    found = grouped_mean(np.zeros(1658), labels)
    assert found.value_weight[0] == pytest.approx(165.8 / 137)
    assert (1 / 10) / (1 / 313) == pytest.approx(31.3)


def test_groups_that_cannot_be_left_out_are_refused() -> None:
    with pytest.raises(ValueError, match="two groups"):
        grouped_mean([1.0, 2.0], ["a", "a"])
    with pytest.raises(ValueError, match="both"):
        grouped_mean([1.0, 2.0], ["a"])
    with pytest.raises(ValueError, match="infinite"):
        grouped_mean([1.0, np.inf], ["a", "b"])
