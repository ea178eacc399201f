"""Exhaustive labels and judges: normalisers by hand, AP against a loop, ties as they are stated."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.studies.measuring import exhaustive
from workbench.studies.measuring.exhaustive import ALL, HITS, LEAST


def test_normalisers_by_hand() -> None:
    found = exhaustive.normalisers()
    one, perfect = found["one hit, of 100 positives"], found["a perfect list, of 1,500 positives"]
    assert (one[LEAST][0], one[HITS][0], one[ALL][0]) == pytest.approx((100 / 50, 100.0, 100 / 100))
    assert (perfect[LEAST][0], perfect[HITS][0], perfect[ALL][0]) == pytest.approx((100.0, 100.0, 100 * 50 / 1500))


def test_mean_ap_against_a_loop_over_orders() -> None:
    world, dice = exhaustive._world(1, 60), np.random.default_rng(0)
    scores = dice.standard_normal((world.all.n_queries, 60))
    total = 0.0
    for row in range(len(scores)):
        right = set(world.all.row(row)[0].tolist())
        hits, ap = 0, 0.0
        for place, item in enumerate(np.argsort(-scores[row])[:50].tolist(), start=1):
            if item in right:
                hits += 1
                ap += hits / place
        total += ap / min(50, len(right))
    assert exhaustive._mean_ap(scores, world.all) == pytest.approx(100 * total / len(scores))


def test_queries_have_one_to_a_quarter_of_the_images_and_their_own_among_them() -> None:
    world = exhaustive._world(2, 60)
    counts = world.all.positives_per_query
    assert 1 <= counts.min() < counts.max() <= 15
    assert world.all.n_queries != world.all.n_gallery
    assert all(own in world.all.row(row)[0] for row, own in enumerate(world.own_image.tolist()))


def test_ties_by_chance_lie_between_the_two_orders() -> None:
    arms = exhaustive.measure(0, "tiny")["a judge on a fixed hundred"]
    assert arms["judge, ties in reverse order"] < arms["judge, ties by chance"]
    assert arms["judge, ties by chance"] < arms["judge, ties keep the first order"]
