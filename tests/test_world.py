"""The world with planted hubs: every dial does what it says, and what it states as the truth is found again."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from workbench.datasets.world import HubbyWorld, hubby_world
from workbench.diagnostics import hubness, modality_gap
from workbench.diagnostics.hubness import Hubness
from workbench.metrics import per_query
from workbench.normalize import inverted_softmax
from workbench.search import LogSumExp, RankPositives, TopK, scan

SEEDS = range(10)
BETA = 20.0
SMALL: dict[str, Any] = {"n_gallery": 120, "queries_per_item": 3, "n_hubs": 3, "n_bank": 240, "n_bank_gallery": 80}
ARRAYS = (
    "queries", "gallery", "query_item", "hubs", "clusters", "query_bank", "gallery_bank", "bank_item",
)  # fmt: skip


def found(world: HubbyWorld, *, k: int = 10, bias: np.ndarray | None = None) -> Hubness:
    (lists,) = scan(world.queries, world.gallery, [TopK(k, bias=bias)])
    return hubness(lists, direction="t2i", clusters=world.query_item, n_null=1)


def hit_at_1(world: HubbyWorld, bias: np.ndarray | None = None) -> float:
    (ranks,) = scan(world.queries, world.gallery, [RankPositives(world.relevance, bias=bias)])
    return float(per_query("hit@1", ranks).expected.mean())


def repair(world: HubbyWorld) -> np.ndarray:
    """The bias of every item by the world's own bank."""
    bias: np.ndarray = scan(world.query_bank, world.gallery, [LogSumExp(BETA, of="gallery")])[0]
    return bias


def mean_over_seeds(measure: Callable[[HubbyWorld], float], **dials: Any) -> float:
    return float(np.mean([measure(hubby_world(**{**SMALL, **dials}, seed=seed)) for seed in range(3)]))


def curve(measure: Callable[[HubbyWorld], float], dial: str, values: tuple[float, ...], **dials: Any) -> np.ndarray:
    return np.array([mean_over_seeds(measure, **dials, **{dial: value}) for value in values])


def falls(values: np.ndarray) -> bool:
    return bool((np.diff(values) < 0).all())


def rises(values: np.ndarray) -> bool:
    return bool((np.diff(values) > 0).all())


# What it returns


def test_shapes_types_and_truth_fit_each_other() -> None:
    world = hubby_world(n_gallery=30, queries_per_item=4, dim=9, n_hubs=5, n_bank=17, n_bank_gallery=7, n_clusters=4)
    shapes = {name: getattr(world, name).shape for name in ARRAYS}
    assert shapes == {
        "queries": (120, 9), "gallery": (30, 9), "query_item": (120,), "hubs": (5,), "clusters": (30,),
        "query_bank": (17, 9), "gallery_bank": (7, 9), "bank_item": (17,),
    }  # fmt: skip
    for name in ("queries", "gallery", "query_bank", "gallery_bank"):
        vectors = getattr(world, name)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors.astype(float), axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(world.query_item, np.repeat(np.arange(30), 4))
    assert (world.relevance.n_queries, world.relevance.n_gallery) == (120, 30)
    np.testing.assert_array_equal(world.relevance.queries, np.arange(120))
    np.testing.assert_array_equal(world.relevance.items, world.query_item)
    np.testing.assert_array_equal(np.bincount(world.clusters), [8, 8, 7, 7])
    np.testing.assert_array_equal(world.bank_item[:9], [0, 1, 2, 3, 4, 5, 6, 0, 1])
    assert (np.diff(world.hubs) > 0).all()


@pytest.mark.parametrize(
    "dials", [{"dim": 4}, {"n_gallery": 2, "n_hubs": 2}, {"n_bank": 1, "n_bank_gallery": 1}, {"queries_per_item": 1},
              {"n_clusters": 300}, {"noise": 0.0}, {"gap": 0.0, "hub_strength": 50.0}, {"spread": 1.0, "dim": 5}]
)  # fmt: skip
def test_the_ends_of_the_dials_give_vectors(dials: dict[str, Any]) -> None:
    world = hubby_world(**dials)
    assert np.isfinite(world.gallery).all()
    assert np.isfinite(world.queries).all()


def test_same_arguments_same_bytes_in_another_process_and_another_seed_other_ones() -> None:
    code = (
        "import hashlib; from workbench.datasets.world import hubby_world as w; x = w(n_clusters=7, spread=.5, seed=3);"
        f"print(hashlib.sha256(b''.join(getattr(x, n).tobytes() for n in {ARRAYS})).hexdigest())"
    )
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()

    def digest(seed: int) -> str:
        world = hubby_world(n_clusters=7, spread=0.5, seed=seed)
        return hashlib.sha256(b"".join(getattr(world, name).tobytes() for name in ARRAYS)).hexdigest()

    assert elsewhere == digest(3) != digest(4)
    assert not (hubby_world(seed=3).hubs == hubby_world(seed=4).hubs).all()


def test_turning_a_dial_leaves_the_draws_of_the_others() -> None:
    base = hubby_world()
    stronger, shifted = hubby_world(hub_strength=3.0), hubby_world(bank_shift=0.7)
    usual = np.setdiff1d(np.arange(300), base.hubs)
    np.testing.assert_array_equal(stronger.hubs, base.hubs)
    np.testing.assert_array_equal(stronger.gallery[usual], base.gallery[usual])
    np.testing.assert_array_equal(stronger.queries, base.queries)
    for name in set(ARRAYS) - {"query_bank"}:
        np.testing.assert_array_equal(getattr(shifted, name), getattr(base, name))
    assert set(hubby_world(n_hubs=3).hubs) < set(base.hubs)
    np.testing.assert_array_equal(hubby_world(noise=0.1).gallery[usual], base.gallery[usual])
    np.testing.assert_array_equal(hubby_world(n_bank=90, n_bank_gallery=50).queries, base.queries)


def test_the_bank_is_of_other_items() -> None:
    world = hubby_world(noise=0.0, n_hubs=0)
    own = np.einsum("ij,ij->i", world.queries, world.gallery[world.query_item])
    np.testing.assert_allclose(own, 1 - 0.5**2 / 2, atol=1e-6)
    assert (world.query_bank @ world.gallery.T).max() < 0.8
    np.testing.assert_allclose(
        np.einsum("ij,ij->i", world.query_bank, world.gallery_bank[world.bank_item]), 0.875, atol=1e-6
    )


# Planted hubs are found, and only these


@pytest.mark.parametrize("dials", [{}, {"hub_strength": 0.25}, {"hub_strength": 0.25, "gap": 0.0}])
def test_planted_hubs_are_recovered(dials: dict[str, Any]) -> None:
    """Recall and precision of the hubs found against those planted, over ten seeds."""
    recall, precision = [], []
    for seed in SEEDS:
        world = hubby_world(**dials, seed=seed)
        hubs = found(world).hubs
        recall.append(np.isin(world.hubs, hubs).mean())
        precision.append(np.isin(hubs, world.hubs).mean())
    assert np.mean(recall) >= 0.95
    assert np.mean(precision) >= 0.95


@pytest.mark.parametrize("dials", [{"hub_strength": 0.0}, {"n_hubs": 0, "gap": 0.0}])
def test_nothing_planted_nothing_found(dials: dict[str, Any]) -> None:
    worlds = [hubby_world(**dials, seed=seed) for seed in SEEDS]
    assert all(len(world.hubs) == 0 for world in worlds)
    assert sum(len(found(world).hubs) for world in worlds) <= 1


def test_a_weak_pull_without_a_gap_makes_no_hub() -> None:
    worlds = [hubby_world(hub_strength=0.1, gap=0.0, seed=seed) for seed in SEEDS]
    assert np.mean([np.isin(world.hubs, found(world).hubs).mean() for world in worlds]) < 0.5


def test_a_strong_hub_lies_in_the_middle_of_the_queries() -> None:
    world = hubby_world(hub_strength=1e6)
    centre = world.queries.mean(axis=0)
    np.testing.assert_allclose(world.gallery[world.hubs] @ centre / np.linalg.norm(centre), 1, atol=1e-6)


# The dials, one by one


def test_hubness_rises_with_hub_strength_and_hit_at_1_falls() -> None:
    strengths = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)
    assert rises(curve(lambda world: found(world).measure("hub_share").value, "hub_strength", strengths))
    assert rises(curve(lambda world: found(world).measure("skewness").value, "hub_strength", strengths[:4]))
    hits = curve(hit_at_1, "hub_strength", strengths)
    assert falls(hits)
    assert hits[0] - hits[-2] > 0.2


def test_more_hubs_hold_more_places() -> None:
    assert rises(curve(lambda world: found(world).measure("hub_share").value, "n_hubs", (0, 1, 3, 9)))


def test_hit_at_1_falls_with_noise_and_the_cosine_is_as_stated() -> None:
    hits = curve(hit_at_1, "noise", (0.6, 1.0, 1.5, 2.5), n_hubs=0)
    assert falls(hits)
    assert hits[0] > 0.99
    assert hits[-1] < 0.5
    for noise in (0.5, 2.0):
        world = hubby_world(noise=noise, gap=0.0, n_hubs=0, dim=200)
        own = np.einsum("ij,ij->i", world.queries, world.gallery[world.query_item], dtype=float)
        assert np.mean((own - 0.49) / 0.51) == pytest.approx(1 / np.sqrt(1 + noise**2), abs=0.01)


def test_the_gap_is_the_distance_of_the_centroids() -> None:
    def distance(world: HubbyWorld) -> float:
        return modality_gap(world.gallery, world.queries, world.query_item, n_resamples=100).centroid_distance

    gaps = (0.0, 0.3, 0.6, 1.2, 1.9)
    for n_hubs, tolerance in ((0, 0.06), (3, 0.1)):
        measured = curve(distance, "gap", gaps, n_hubs=n_hubs)
        assert rises(measured)
        np.testing.assert_allclose(measured, gaps, atol=tolerance)


def test_a_gap_alone_changes_no_ranking_and_makes_hubs_worse() -> None:
    orders = [
        np.argsort(-(world.queries.astype(float) @ world.gallery.T.astype(float)), axis=1)[:, :5]
        for world in (hubby_world(**SMALL, hub_strength=0.0, gap=gap) for gap in (0.0, 0.5, 1.0))
    ]
    for order in orders[1:]:
        assert np.mean(order == orders[0]) > 0.999  # but for pairs that float32 cannot tell apart
    assert falls(curve(hit_at_1, "gap", (0.0, 0.3, 0.6, 0.9)))


def test_the_dimension_makes_the_task_easier_and_hubs_only_with_spread() -> None:
    def skewness(world: HubbyWorld) -> float:
        return found(world).measure("skewness").value

    assert rises(curve(hit_at_1, "dim", (4, 8, 16, 64), n_hubs=0))
    uneven = curve(skewness, "dim", (6, 12, 32), n_hubs=0, spread=1.0, n_gallery=300)
    assert rises(uneven)
    assert uneven[-1] - uneven[0] > 1
    even = curve(skewness, "dim", (6, 12, 32), n_hubs=0, n_gallery=300)
    assert np.abs(even).max() < 0.5


def test_the_intrinsic_dimension_rises_with_dim() -> None:
    """By two nearest neighbours (Facco et al. 2017): n / sum log(second distance / first distance)."""

    def two_nn(world: HubbyWorld) -> float:
        distance = np.linalg.norm(world.gallery[:, None].astype(float) - world.gallery, axis=2)
        nearest = np.sort(distance + 9 * np.eye(len(distance)), axis=1)[:, :2]
        return len(distance) / float(np.log(nearest[:, 1] / nearest[:, 0]).sum())

    measured = curve(two_nn, "dim", (4, 6, 10, 20, 40), n_hubs=0)
    assert rises(measured)
    assert measured[0] == pytest.approx(1, abs=0.2)  # u is on a circle


@pytest.mark.parametrize(("spread", "variance"), [(0.0, 0.0), (1.0, 2 / 30)])
def test_spread_is_that_of_a_normal_distribution(spread: float, variance: float) -> None:
    """The squared length of u, read off the common part of the vectors, is chi-squared / 30 with spread 1."""
    world = hubby_world(n_gallery=4000, queries_per_item=2, n_hubs=0, gap=0.0, spread=spread)
    for vectors in (world.gallery, world.queries):
        common = vectors[:, 0].astype(float) ** 2
        squared = (1 - common) / common * 0.49 / 0.51
        assert squared.mean() == pytest.approx(1, abs=0.02)
        assert squared.var() == pytest.approx(variance, rel=0.1, abs=1e-9)


def test_spread_makes_hubs_nobody_planted() -> None:
    assert rises(curve(lambda world: found(world).measure("skewness").value, "spread", (0.0, 0.4, 1.0), n_hubs=0))


def test_clusters_make_items_alike() -> None:
    world = hubby_world(n_clusters=10, n_hubs=0, gap=0.0)
    u = (world.gallery[:, 2:] / np.linalg.norm(world.gallery[:, 2:], axis=1, keepdims=True)).astype(float)
    cosine, same = u @ u.T, world.clusters[:, None] == world.clusters
    assert cosine[same & ~np.eye(300, dtype=bool)].mean() == pytest.approx(0.5, abs=0.05)
    assert abs(cosine[~same].mean()) < 0.05
    assert rises(curve(hit_at_1, "n_clusters", (1, 4, 20, 120), n_hubs=0))
    np.testing.assert_array_equal(hubby_world().clusters, np.arange(300))


@pytest.mark.parametrize("dim", [32, 33])
def test_the_bank_is_turned_by_the_stated_angle(dim: int) -> None:
    base = hubby_world(dim=dim).query_bank.astype(float)
    for shift in (0.0, 0.25, 0.5, 1.0):
        turned = hubby_world(dim=dim, bank_shift=shift).query_bank.astype(float)
        cosine = np.einsum("ij,ij->i", base, turned)
        stays = base[:, 32:] ** 2 if dim == 33 else np.zeros((len(base), 1))
        np.testing.assert_allclose(cosine, np.cos(shift * np.pi / 2) * (1 - stays[:, 0]) + stays[:, 0], atol=1e-6)


def test_a_bank_in_the_domain_repairs_and_the_further_off_the_less() -> None:
    def gain(world: HubbyWorld) -> float:
        return hit_at_1(world, repair(world)) - hit_at_1(world)

    gains = curve(gain, "bank_shift", (0.0, 0.25, 0.5, 0.75, 1.0))
    assert falls(gains)
    assert gains[0] > 0.15
    assert gains[-1] < -0.05
    clean = mean_over_seeds(hit_at_1, hub_strength=0.0)
    assert mean_over_seeds(lambda world: hit_at_1(world, repair(world))) > clean - 0.05


def test_the_bias_by_hand_is_the_bias_of_the_scan() -> None:
    world = hubby_world(**SMALL)
    by_hand = inverted_softmax(world.query_bank.astype(float) @ world.gallery.T.astype(float), beta=BETA)
    np.testing.assert_allclose(repair(world), by_hand, atol=1e-9)
    assert set(np.argsort(by_hand)[-3:]) == set(world.hubs)


def test_the_gallery_bank_knows_the_hubs_too() -> None:
    """Hubs are close to other items as well, so that a bank of gallery items marks them down, whatever the queries."""
    world = hubby_world(bank_shift=1.0, gap=0.0)
    bias = inverted_softmax(world.gallery_bank.astype(float) @ world.gallery.T.astype(float), beta=BETA)
    assert set(np.argsort(bias)[-6:]) == set(world.hubs)


# Errors


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        ({"n_gallery": 1}, "n_gallery must be a whole number, at least 2; got 1"),
        ({"queries_per_item": 0}, "queries_per_item must be a whole number, at least 1; got 0"),
        ({"dim": 3}, "dim must be a whole number, at least 4; got 3"),
        ({"dim": 8.0}, "dim must be a whole number, at least 4; got 8.0"),
        ({"n_hubs": 301}, r"n_hubs must be a whole number, 0..300 \(n_gallery = 300\); got 301"),
        ({"n_clusters": -1}, "n_clusters must be a whole number, 0..300"),
        ({"n_bank": 0}, "n_bank must be a whole number, at least 1"),
        ({"n_bank_gallery": True}, "n_bank_gallery must be a whole number, at least 1; got True"),
        ({"seed": -1}, "seed must be a whole number, at least 0; got -1"),
        ({"hub_strength": -0.1}, "hub_strength must be a finite number of 0 or more; got -0.1"),
        ({"noise": np.inf}, "noise must be a finite number of 0 or more; got inf"),
        ({"noise": np.nan}, "noise must be a finite number of 0 or more; got nan"),
        ({"gap": 2.0}, "gap must be a finite number from 0 to below 2; got 2.0"),
        ({"spread": 1.1}, "spread must be a finite number from 0 to 1; got 1.1"),
        ({"bank_shift": -1}, "bank_shift must be a finite number from 0 to 1; got -1"),
    ],
)
def test_errors_say_what_came(dials: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hubby_world(**dials)
