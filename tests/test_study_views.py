"""Several views: the vectors against the formula, labels and grades by hand, pools that favour who filled them."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.datasets.scenes import Object, Scene, scenes
from workbench.datasets.scenes.views import MOST, misread, view_grades, view_labels
from workbench.fusion.views import multiview_vectors
from workbench.studies.measuring import views

RED = Object("circle", "red", "small", "plain", 0, 0)
BLUE = Object("star", "blue", "small", "striped", 0, 2)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length else 0.0


@pytest.mark.parametrize("levels", ["label count", "equal"])
def test_dot_product_is_the_hierarchical_score(levels: str) -> None:
    dice = np.random.default_rng(0)
    labels = {
        v: [(dice.random((7, n)) < 0.3).astype(float) for n in sizes] for v, sizes in {"a": (3, 9), "b": (4,)}.items()
    }
    labels["a"][0][2] = 0  # an item without any label on a level
    weights = {"a": 0.7, "b": 0.3}
    vectors = multiview_vectors(labels, weights, levels=levels)  # type: ignore[arg-type]
    for one, other in ((0, 1), (2, 5), (4, 4)):
        expected = 0.0
        for view, given in labels.items():
            counts = [level.shape[1] if levels == "label count" else 1 for level in given]
            for level, count in zip(given, counts, strict=True):
                expected += weights[view] * count / sum(counts) * cosine(level[one], level[other])
        assert vectors[one] @ vectors[other] == pytest.approx(expected)


def test_bad_views_are_named() -> None:
    with pytest.raises(ValueError, match="one weight per view"):
        multiview_vectors({"a": [[[1.0]]]}, {"b": 1.0})
    with pytest.raises(ValueError, match="0 or more"):
        multiview_vectors({"a": [[[-1.0]]]}, {"a": 1.0})
    with pytest.raises(ValueError, match="different numbers of items"):
        multiview_vectors({"a": [[[1.0]], [[1.0], [1.0]]]}, {"a": 1.0})


def test_grades_by_hand() -> None:
    pair, alone = Scene((RED, BLUE), "pink"), Scene((RED,), "gray")
    grades = view_grades([pair], [pair, alone, Scene((BLUE,), "pink")])
    assert grades.grades.tolist() == [sum(MOST.values()), 2, 3]  # alike; half of 4 points; half of 4 and background
    labels = view_labels([pair, alone])
    assert [level.sum(axis=1).tolist() for level in labels["relations"]] == [[1, 0], [1, 0]]


def test_misreading_leaves_places_and_shares_alone() -> None:
    some = scenes(n_images=200, captions_per_image=1, size=32, objects=(2, 4)).scenes
    assert misread(some, 0.0, 1) == some
    read = misread(some, 0.3, 1)
    pairs = [
        (a, b) for one, other in zip(some, read, strict=True) for a, b in zip(one.objects, other.objects, strict=True)
    ]
    assert all((a.row, a.column, a.size) == (b.row, b.column, b.size) for a, b in pairs)
    changed = np.mean([a.color != b.color for a, b in pairs])
    assert changed == pytest.approx(0.3 * 7 / 8, abs=0.04)


def test_a_pool_judges_what_its_systems_found_and_no_more() -> None:
    made = [
        scenes(n_images=n, captions_per_image=1, size=32, split=s, objects=(2, 4)).scenes
        for n, s in ((6, "val"), (40, "test"))
    ]
    grades, lists = view_grades(*made), views._systems(made[0], made[1], 0)
    pooled = views._judged(grades, [lists["objects only"]])
    for row in range(6):
        assert set(pooled.row(row)[0].tolist()) == set(lists["objects only"].indices[row, : views.POOL].tolist())
