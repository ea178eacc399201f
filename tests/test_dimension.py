"""Intrinsic dimension: planted dimensions come back, slow formulas agree, copies and precision do not spoil it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from workbench.diagnostics.dimension import IntrinsicDimension, mle_dimension, two_nn
from workbench.types import unit_vectors

BOTH = pytest.mark.parametrize("estimate", [two_nn, lambda x: mle_dimension(x, 5)], ids=["two_nn", "mle"])
Estimate = Callable[[np.ndarray], IntrinsicDimension]


def ball(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    points = rng.normal(size=(n, d))
    return points / np.linalg.norm(points, axis=1, keepdims=True) * rng.random((n, 1)) ** (1 / d)


def embedded(rng: np.random.Generator, points: np.ndarray, width: int = 64) -> np.ndarray:
    """The points on a random flat of dimension d in 64 dimensions: distances stay as they are."""
    basis = np.linalg.qr(rng.normal(size=(width, points.shape[1])))[0]
    return points @ basis.T


def slow_two_nn(points: np.ndarray, discard: float) -> float:
    """Facco et al. step by step on the full distance matrix: sort ratios, empirical F, line through the origin."""
    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    nearest = np.sort(distances, axis=1)[:, :2]
    mu = np.sort(nearest[:, 1] / nearest[:, 0])
    n = len(mu)
    kept = [i for i in range(n) if i + 1 <= (1 - discard) * n and i + 1 < n]
    x = np.array([np.log(mu[i]) for i in kept])
    y = np.array([-np.log(1 - (i + 1) / n) for i in kept])
    return float(np.linalg.lstsq(x[:, None], y, rcond=None)[0][0])


def slow_mle(points: np.ndarray, k: int) -> float:
    """Levina and Bickel's sum per point, inverses averaged."""
    inverses = []
    for i in range(len(points)):
        r = sorted(float(np.linalg.norm(points[i] - points[j])) for j in range(len(points)) if j != i)[:k]
        inverses.append(sum(np.log(r[-1] / r[j]) for j in range(k - 1)) / (k - 1))
    return 1 / float(np.mean(inverses))


@pytest.mark.parametrize("d", [2, 5, 10])
@pytest.mark.parametrize("kind", ["ball", "gaussian"])
def test_planted_dimensions_come_back(kind: str, d: int) -> None:
    """In 2, 5, 10 of 64 dimensions: TwoNN within 10 %, for which ten dimensions take 8,000 points; MLE within 15 %."""
    rng, n = np.random.default_rng(d), 8000 if d == 10 else 2000
    points = embedded(rng, ball(rng, n, d) if kind == "ball" else rng.normal(size=(n, d)))
    assert two_nn(points).value == pytest.approx(d, rel=0.1)
    assert mle_dimension(points[:3000]).value == pytest.approx(d, rel=0.15)
    assert two_nn(points[:100]).n_dimensions == 64


def test_high_dimensions_read_too_low() -> None:
    """The stated bias: 2,000 points in a ball of 20 dimensions read 16 (TwoNN) and 15 (MLE), not 20."""
    points = ball(np.random.default_rng(0), 2000, 20)
    assert two_nn(points).value == pytest.approx(16, rel=0.08)
    assert mle_dimension(points).value == pytest.approx(15, rel=0.04)


@pytest.mark.parametrize("discard", [0.0, 0.1, 0.33])
def test_two_nn_equals_the_slow_formula(discard: float) -> None:
    points = np.random.default_rng(1).normal(size=(97, 4)) + 3
    assert two_nn(points, discard=discard).value == pytest.approx(slow_two_nn(points, discard), rel=1e-10)


@pytest.mark.parametrize("k", [2, 3, 12])
def test_mle_equals_the_slow_formula(k: int) -> None:
    points = np.random.default_rng(2).normal(size=(60, 4)) * [1, 2, 3, 4]
    assert mle_dimension(points, k).value == pytest.approx(slow_mle(points, k), rel=1e-10)


def test_euclidean_neighbours_not_the_largest_products() -> None:
    """Lengths from 0.1 to 10: a long vector has large products with all, yet is nobody's neighbour."""
    rng = np.random.default_rng(3)
    points = rng.normal(size=(80, 3)) * 10 ** rng.uniform(-1, 1, size=(80, 1))
    assert mle_dimension(points, 6).value == pytest.approx(slow_mle(points, 6), rel=1e-10)


@BOTH
def test_moving_turning_and_scaling_change_nothing(estimate: Estimate) -> None:
    rng = np.random.default_rng(4)
    points = rng.normal(size=(300, 3))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    once = estimate(points)
    for other in (points @ turn, 1e-3 * points, points + 100, points[::-1]):
        again = estimate(other)
        assert again.value == pytest.approx(once.value, rel=1e-8)
        assert again.low == pytest.approx(once.low, rel=1e-8)


@BOTH
def test_copies_are_left_out_and_counted(estimate: Estimate) -> None:
    """Copies have distance zero; signed zeros are copies too."""
    points = np.random.default_rng(5).normal(size=(200, 3))
    points[:, 2] = 0.0
    copies = points[:30].copy()
    copies[:, 2] = -0.0
    once, again = estimate(points), estimate(np.concatenate([copies, points, points[50:60]]))
    assert (again.n, again.n_duplicates, once.n_duplicates) == (200, 40, 0)
    assert again.value == pytest.approx(once.value, rel=1e-12)
    assert np.isfinite([again.value, again.low, again.high]).all()


@BOTH
def test_close_unit_vectors_in_float32_keep_their_distances(estimate: Estimate) -> None:
    """Points 1e-3 apart on the sphere: 1 - cosine in float32 would be rounding; the differences are not."""
    rng = np.random.default_rng(6)
    tight = unit_vectors(np.ones(8) + 1e-3 * embedded(rng, rng.normal(size=(250, 2)), 8))
    slow = slow_two_nn(tight.astype(np.float64), 0.1) if estimate is two_nn else slow_mle(tight.astype(np.float64), 5)
    assert estimate(tight).value == pytest.approx(slow, rel=1e-9)
    assert estimate(tight).value == pytest.approx(2, rel=0.2)


@pytest.mark.parametrize("estimate", [two_nn, lambda x: two_nn(x, discard=0.4), lambda x: mle_dimension(x, 5)])
def test_the_interval_holds_the_spread_over_samples(estimate: Estimate) -> None:
    """150 samples of 250 points: their own mean lies in 95 % of the intervals, within the noise of 150."""
    rng = np.random.default_rng(7)
    found = [estimate(rng.normal(size=(250, 2))) for _ in range(150)]
    mean = np.exp(np.mean([np.log(each.value) for each in found]))
    held = np.mean([each.low < mean < each.high for each in found])
    assert 0.89 <= held <= 0.99
    spread = np.std([np.log(each.value) for each in found])
    assert np.mean([np.log(each.high / each.value) for each in found]) / 1.96 == pytest.approx(spread, rel=0.2)
    wider = estimate(rng.normal(size=(60, 2)))
    assert wider.high / wider.low > found[0].high / found[0].low


@BOTH
def test_a_near_copy_does_not_decide(estimate: Estimate) -> None:
    """2 % of the points have a partner 1e-9 away: TwoNN leaves their ratios out of the fit, MLE loses a third."""
    rng = np.random.default_rng(8)
    points = rng.normal(size=(500, 3))
    spoiled = np.concatenate([points, points[:10] + 1e-9])
    once, again = estimate(points).value, estimate(spoiled).value
    if estimate is two_nn:
        assert again == pytest.approx(once, rel=0.15)
    else:
        assert again < 0.67 * once


def test_level_and_shape_of_the_result() -> None:
    points = np.random.default_rng(9).normal(size=(120, 3))
    narrow, wide = two_nn(points, level=0.5), two_nn(points, level=0.99)
    assert wide.low < narrow.low < narrow.value == wide.value < narrow.high < wide.high
    assert narrow.flat() == {
        "dimension/value": narrow.value, "dimension/low": narrow.low, "dimension/high": narrow.high,
    }  # fmt: skip
    assert narrow.table().loc["TwoNN", "points"] == 120
    assert "<table" in mle_dimension(points)._repr_html_()
    assert mle_dimension(points).n_neighbours == 20


def test_input_is_not_touched() -> None:
    points = np.random.default_rng(10).normal(size=(50, 3)).astype(np.float32)
    before = points.copy()
    two_nn(points)
    assert (points == before).all()


def test_errors_say_what_came() -> None:
    points = np.random.default_rng(11).normal(size=(40, 3))
    with pytest.raises(ValueError, match="3 different points among 9, but 2 neighbours of each need at least 4"):
        two_nn(np.tile(points[:3], (3, 1)))
    with pytest.raises(ValueError, match="40 different points among 40, but 39 neighbours"):
        mle_dimension(points, 39)
    with pytest.raises(ValueError, match="as on a grid"):
        two_nn(np.stack(np.meshgrid(range(6), range(7)), axis=-1).reshape(-1, 2))
    with pytest.raises(ValueError, match="as on a grid"):
        mle_dimension(np.eye(7), 3)
    with pytest.raises(ValueError, match="1 vectors hold NaN"):
        two_nn(np.where(np.arange(120).reshape(40, 3) == 5, np.nan, points))
    with pytest.raises(ValueError, match=r"\(n, dim\) with n, dim >= 1; got \(40,\)"):
        two_nn(points[:, 0])
    with pytest.raises(ValueError, match=r"0 to 0.9, usually 0.1; got 1"):
        two_nn(points, discard=1)
    with pytest.raises(ValueError, match=r"such as 0\.95; got 95"):
        mle_dimension(points, level=95)
    for k in (1, True, 2.5):
        with pytest.raises(ValueError, match="whole number from 2"):
            mle_dimension(points, k)  # type: ignore[arg-type]
