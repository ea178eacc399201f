"""Local scaling, NICDM, mutual proximity and rank correction: slow loops, official code, planted hubs, limits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import exp, log, sqrt
from pathlib import Path
from statistics import NormalDist, fmean, pstdev

import numpy as np
import pytest

from workbench.normalize import proximity
from workbench.normalize.proximity import (
    MutualProximityEmpirical,
    MutualProximityGaussian,
    MutualProximityJoint,
    RankCorrection,
    mutual_proximity_gaussian,
)
from workbench.normalize.scaling import RESOLUTION, LocalScaling, Nicdm, distances, local_scaling, nicdm
from workbench.types import unit_vectors

FITS: dict[str, Callable] = {
    "local scaling": partial(LocalScaling.fit, k=3),
    "nicdm": partial(Nicdm.fit, k=3),
    "mp gaussian": MutualProximityGaussian.fit,
    "mp empirical": MutualProximityEmpirical.fit,
    "mp joint": MutualProximityJoint.fit,
    "rank correction": RankCorrection.fit,
}
OF_DISTANCES = ("local scaling", "nicdm")
every_fit = pytest.mark.parametrize("name", FITS)


def world(name: str, n_queries: int = 11, n_gallery: int = 9, n_bank: int = 17) -> tuple[np.ndarray, np.ndarray]:
    """(scores, bank scores), read-only; the joint form has one bank row per gallery item."""
    rng = np.random.default_rng(0)
    rows = n_gallery if name == "mp joint" else n_bank
    scores, bank = rng.uniform(-0.9, 0.9, (n_queries, n_gallery)), rng.uniform(-0.9, 0.9, (rows, n_gallery))
    scores.flags.writeable = bank.flags.writeable = False
    return scores, bank


# Slow, obvious references: one pair at a time


def slow_local_scaling(row: list[float], column: list[float], g: int) -> float:
    r_q, r_g = sorted(1 - s for s in row)[2], sorted(1 - s for s in column)[2]
    return log(exp(-((1 - row[g]) ** 2) / (r_q * r_g)))


def slow_nicdm(row: list[float], column: list[float], g: int) -> float:
    m_q, m_g = fmean(sorted(1 - s for s in row)[:3]), fmean(sorted(1 - s for s in column)[:3])
    return -(1 - row[g]) / sqrt(m_q * m_g)


def slow_gaussian(row: list[float], column: list[float], g: int) -> float:
    return log(NormalDist(fmean(row), pstdev(row)).cdf(row[g])) + log(
        NormalDist(fmean(column), pstdev(column)).cdf(row[g])
    )


def slow_empirical(row: list[float], column: list[float], g: int) -> float:
    return fmean(s < row[g] for s in row) * fmean(s < row[g] for s in column)


def slow_joint(row: list[float], column: list[float], g: int) -> float:
    return fmean(row[h] < row[g] and column[h] < row[g] for h in range(len(row)))


def slow_rank(row: list[float], column: list[float], g: int) -> float:
    return row[g] - sum(s > row[g] for s in column)


SLOW = dict(
    zip(FITS, (slow_local_scaling, slow_nicdm, slow_gaussian, slow_empirical, slow_joint, slow_rank), strict=True)
)


@every_fit
@pytest.mark.parametrize("decimals", [1, 9])
def test_equals_a_slow_loop_over_pairs(name: str, decimals: int) -> None:
    """With one decimal many scores of a query, of the bank and of both are equal."""
    scores, bank = (np.round(part, decimals) for part in world(name))
    expected = np.array(
        [[SLOW[name](list(row), list(bank[:, g]), g) for g in range(scores.shape[1])] for row in scores], float
    )
    repair = FITS[name]([bank])
    if name == "nicdm":
        expected *= exp(fmean(log(m) for m in repair.mean_distance))
    np.testing.assert_allclose(repair(scores), expected, rtol=1e-12, atol=1e-13)


# Contract of all


@every_fit
def test_state_and_result_are_float64_and_inputs_stay(name: str) -> None:
    scores, bank = world(name)
    before = scores.copy(), bank.copy()
    repair = FITS[name]([bank[:4], bank[4:]])
    found = repair(scores)
    assert found.shape == scores.shape
    assert found.dtype == np.float64
    assert all(value.dtype == np.float64 for value in vars(repair).values() if isinstance(value, np.ndarray))
    np.testing.assert_array_equal(scores, before[0])
    np.testing.assert_array_equal(bank, before[1])
    with pytest.raises(AttributeError):
        repair.anything = 1


@every_fit
@pytest.mark.parametrize("cuts", [[1], [2, 3], [1, 2, 3, 4, 5, 6, 7, 8], [0, 5]])
def test_blocks_may_be_cut_anywhere_and_come_from_a_generator(name: str, cuts: list[int]) -> None:
    scores, bank = world(name)
    whole, cut = FITS[name]([bank]), FITS[name](part for part in np.split(bank, cuts))
    np.testing.assert_allclose(cut(scores), whole(scores), rtol=1e-12, atol=1e-12)


@every_fit
def test_queries_do_not_depend_on_each_other(name: str) -> None:
    scores, bank = world(name)
    repair = FITS[name]([bank])
    alone = np.concatenate([repair(scores[i : i + 1]) for i in range(len(scores))])
    np.testing.assert_allclose(alone, repair(scores), rtol=1e-12, atol=1e-13)
    assert repair(scores[:0]).shape == (0, scores.shape[1])


@every_fit
def test_permuting_gallery_queries_and_bank(name: str) -> None:
    scores, bank = world(name)
    rng = np.random.default_rng(1)
    items, queries, rows = (rng.permutation(n) for n in (scores.shape[1], len(scores), len(bank)))
    if name == "mp joint":
        rows = items
    found = FITS[name]([bank[rows][:, items]])(scores[queries][:, items])
    np.testing.assert_allclose(found, FITS[name]([bank])(scores)[queries][:, items], rtol=1e-12, atol=1e-13)


@every_fit
def test_equal_items_get_exactly_equal_scores(name: str) -> None:
    """At any place in a row, so that no tie is broken by where an item stands."""
    scores, bank = world(name, n_gallery=37)
    scores, bank = scores.copy(), bank.copy()
    twins = [0, 5, 18, 36]
    scores[:, twins], bank[:, twins] = scores[:, [0]], bank[:, [0]]
    found = FITS[name]([bank[:3], bank[3:]])(scores)
    np.testing.assert_array_equal(found[:, twins], found[:, [0] * 4])


@every_fit
def test_one_gallery_item(name: str) -> None:
    scores, bank = world(name, n_gallery=1)
    fit = partial(FITS[name].func, k=1) if name in OF_DISTANCES else FITS[name]
    assert np.isfinite(fit([bank])(scores)).all()


@every_fit
@pytest.mark.parametrize("constant", [0.1, 1.0, -0.3, 0.0])
def test_constant_scores_stay_finite_and_tied(name: str, constant: float) -> None:
    limits = {
        "local scaling": 0.0 if constant == 1 else -1.0,
        "nicdm": constant - 1,
        "mp gaussian": log(0.25),
        "mp empirical": 0.0,
        "mp joint": 0.0,
        "rank correction": constant,
    }
    scores, bank = (np.full_like(each, constant) for each in world(name))
    found = FITS[name]([bank])(scores)
    assert (found == found[:, :1]).all()
    np.testing.assert_allclose(found, limits[name], rtol=1e-6, atol=1e-12)


@every_fit
def test_a_constant_item_among_others_stays_finite(name: str) -> None:
    scores, bank = (each.copy() for each in world(name))
    bank[:, 4] = 0.25
    bank[:, 5] = 1.0
    assert np.isfinite(FITS[name]([bank])(scores)).all()


@every_fit
def test_input_that_cannot_be_is_an_error(name: str) -> None:
    scores, bank = world(name)
    fit = FITS[name]
    with pytest.raises(ValueError, match="bank is empty"):
        fit([])
    with pytest.raises(ValueError, match="bank is empty"):
        fit([bank[:0]])
    with pytest.raises(ValueError, match=r"\(m, 9\).*got \(17, 8\)|\(m, 9\).*got \(9, 8\)"):
        fit([bank, bank[:, 1:]])
    with pytest.raises(ValueError, match="against the whole gallery"):
        fit([bank[0]])
    with pytest.raises(ValueError, match="NaN or infinity"):
        fit([np.where(bank == bank[3, 3], np.nan, bank)])
    with pytest.raises(ValueError, match="NaN or infinity"):
        fit([bank])(np.where(scores == scores[3, 3], -np.inf, scores))
    with pytest.raises(ValueError, match=r"\(m, 9\).*got \(11, 8\)"):
        fit([bank])(scores[:, 1:])


@pytest.mark.parametrize("fit", [LocalScaling.fit, Nicdm.fit])
def test_k_must_fit_the_bank_and_the_gallery(fit: Callable) -> None:
    bank = world("nicdm")[1]
    with pytest.raises(ValueError, match="k = 18 exceeds the 17 bank queries; use k <= 17"):
        fit([bank], k=18)
    with pytest.raises(ValueError, match="k = 10 exceeds the 9 items of the gallery; use k <= 9"):
        fit([bank], k=10)
    with pytest.raises(ValueError, match="whole number"):
        fit([bank], k=0)
    fit([bank], k=9)


def test_distances_are_of_cosines_only() -> None:
    np.testing.assert_allclose(distances([[1 + 1e-7, -1 - 1e-7]]), [[0.0, 2 + 1e-7]], rtol=1e-14, atol=0)
    with pytest.raises(ValueError, match=r"one has size 1.01; scale the vectors"):
        distances([[0.1, -1.01]])


@pytest.mark.parametrize("fit", [MutualProximityEmpirical.fit, RankCorrection.fit, MutualProximityJoint.fit])
def test_a_bank_that_is_too_large_is_refused_at_once(fit: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proximity, "BANK_LIMIT", 90)
    monkeypatch.setattr(proximity, "JOINT_LIMIT", 90)
    seen = []
    with pytest.raises(
        ValueError, match=r"12 or more bank rows x 9 gallery items exceed the 90 .* at most 10 .*use Mut"
    ):
        fit(seen.append(i) or np.zeros((4, 9)) for i in range(100))
    assert len(seen) == 3


def test_joint_form_needs_one_row_per_item() -> None:
    with pytest.raises(ValueError, match=r"got 17 rows for 9 items; .*use MutualProximityEmpirical"):
        MutualProximityJoint.fit([world("nicdm")[1]])


def test_probabilities_too_small_for_float64_keep_their_order() -> None:
    """Two items 60 and 61 deviations below the mean: their probabilities are 0 in float64, their logarithms differ."""
    found = mutual_proximity_gaussian([[-6.0, -6.1]], [0.0], [0.1], [0.0, 0.0], [0.1, 0.1])
    assert np.exp(found).max() == 0
    assert -np.inf < found[0, 1] < found[0, 0]


def test_statistics_survive_a_large_common_score() -> None:
    """Scores 1e6 + noise: sums of raw squares would lose the deviation to rounding."""
    noise = world("mp gaussian")[1]
    repair = MutualProximityGaussian.fit([1e6 + noise[:5], 1e6 + noise[5:]])
    np.testing.assert_allclose(repair.deviation, noise.std(axis=0), rtol=1e-9)


def test_rank_correction_without_pivots_of_its_own_is_the_published_rank() -> None:
    """The paper ranks a query among pivots that hold it: rank 1 + (closer pivots). One more for all: the same order."""
    scores, bank = world("rank correction")
    for i, row in enumerate(scores):
        pivots = np.vstack([bank, row])
        published = (pivots >= row).sum(axis=0) - row
        np.testing.assert_allclose(RankCorrection.fit([bank])(scores)[i], 1 - published, rtol=0, atol=1e-12)


# The official code for square matrices of distances (hub-toolbox)


@pytest.fixture(params=["random_small", "clip_coco_t2i"])
def square(request: pytest.FixtureRequest, shared: Callable[[str], Path]) -> tuple[np.ndarray, dict, float]:
    """(scores of all objects with each other, official distances, tolerance: the second case is float32)."""
    with np.load(shared(f"golden/hubness_hubtoolbox__{request.param}.npz")) as golden:
        official = {name: golden[name].astype(np.float64) for name in golden.files}
    cosines = official["X"] @ official["X"].T
    np.fill_diagonal(cosines, 1)
    return np.minimum(cosines, 1), official, 1e-9 if request.param == "random_small" else 1e-4


def leave_self_out(fit: Callable, scores: np.ndarray) -> np.ndarray:
    """Repaired scores, NaN on the diagonal, where an object is neither in its own bank nor in its own gallery."""
    n = len(scores)
    others = [np.delete(np.arange(n), i) for i in range(n)]
    states = [vars(fit([scores[others[j]][:, [j]]])) for j in range(n)]
    found = np.full((n, n), np.nan)
    for i, rest in enumerate(others):
        state = {
            name: np.concatenate([states[j][name] for j in rest], axis=-1) if isinstance(value, np.ndarray) else value
            for name, value in states[0].items()
        }
        found[i, rest] = fit.__self__(**state)(scores[i : i + 1, rest])[0]
    return found


def off_diagonal(matrix: np.ndarray) -> np.ndarray:
    return matrix[~np.eye(len(matrix), dtype=bool)]


def test_gaussian_equals_official_without_the_object_itself(square: tuple[np.ndarray, dict, float]) -> None:
    """Official statistics leave the object's zero distance to itself out and divide by the number of the others."""
    scores, official, tolerance = square
    found = 1 - np.exp(leave_self_out(MutualProximityGaussian.fit, scores))
    np.testing.assert_allclose(off_diagonal(found), off_diagonal(official["mp_gaussi"]), rtol=0, atol=tolerance)
    with_itself = 1 - np.exp(MutualProximityGaussian.fit([scores])(scores))
    assert np.abs(off_diagonal(with_itself - official["mp_gaussi"])).max() > 0.04


def test_joint_equals_official_which_divides_by_all(square: tuple[np.ndarray, dict, float]) -> None:
    """The two ends of a pair cannot be farther from both, yet official code counts them in the divisor n."""
    scores, official, tolerance = square
    found = 1 - MutualProximityJoint.fit([scores])(scores)
    np.testing.assert_allclose(off_diagonal(found), off_diagonal(official["mp_empiric"]), rtol=0, atol=tolerance)
    np.testing.assert_array_equal(np.diag(official["mp_empiric"]), 0)
    assert (np.diag(found) > 0).all(), "by the formula only the n - 1 others are farther than the object itself"


def test_independence_is_an_assumption(square: tuple[np.ndarray, dict, float]) -> None:
    """The product of two shares is another number than the joint share, though close in order."""
    scores, official, _ = square
    product = 1 - MutualProximityEmpirical.fit([scores])(scores)
    apart = np.abs(off_diagonal(product - official["mp_empiric"]))
    assert 0.02 < apart.max() < 0.5
    assert np.corrcoef(off_diagonal(product), off_diagonal(official["mp_empiric"]))[0, 1] > 0.9


@pytest.mark.parametrize("k", [3, 7])
def test_local_scaling_equals_official_without_the_object_itself(
    square: tuple[np.ndarray, dict, float], k: int
) -> None:
    scores, official, tolerance = square
    wanted = off_diagonal(official[f"local_scaling_k{k}"])
    without = np.sort(distances(scores), axis=1)[:, k]
    np.testing.assert_allclose(
        off_diagonal(1 - np.exp(local_scaling(scores, without, without))), wanted, rtol=0, atol=tolerance
    )
    one_more = 1 - np.exp(LocalScaling.fit([scores], k=k + 1)(scores))
    np.testing.assert_allclose(off_diagonal(one_more), wanted, rtol=0, atol=tolerance)
    assert np.abs(off_diagonal(1 - np.exp(LocalScaling.fit([scores], k=k)(scores))) - wanted).max() > 0.05


@pytest.mark.parametrize("k", [3, 7])
def test_nicdm_equals_official_without_the_object_itself(square: tuple[np.ndarray, dict, float], k: int) -> None:
    """One neighbour more, itself at distance zero, scales all means alike, and the factor M takes that back."""
    scores, official, tolerance = square
    wanted = off_diagonal(official[f"nicdm_k{k}"])
    without = np.sort(distances(scores), axis=1)[:, 1 : k + 1].mean(axis=1)
    np.testing.assert_allclose(off_diagonal(-nicdm(scores, without, without)), wanted, rtol=0, atol=tolerance)
    one_more = -Nicdm.fit([scores], k=k + 1)(scores)
    np.testing.assert_allclose(off_diagonal(one_more), wanted, rtol=0, atol=tolerance)
    assert np.abs(off_diagonal(-Nicdm.fit([scores], k=k)(scores)) - wanted).max() > 0.03


# Planted hubs


def hubby_scores(seed: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores of 300 queries and of a bank of 200 with 90 items; item 7 has the queries' common direction added."""
    rng = np.random.default_rng(seed)
    common = unit_vectors(rng.standard_normal((1, 24)))
    gallery = unit_vectors(rng.standard_normal((90, 24)))
    target = rng.integers(0, 90, 500)
    queries = unit_vectors(gallery[target] + 0.7 * rng.standard_normal((500, 24)) / sqrt(24) + 0.6 * common)
    gallery[7] = unit_vectors(gallery[[7]] + strength * common)[0]
    scores = queries.astype(np.float64) @ gallery.T.astype(np.float64)
    return scores[:300], scores[300:]


def occurrences(scores: np.ndarray, item: int = 7, k: int = 5) -> int:
    """In how many top-k lists the item is."""
    return int((np.argsort(-scores, axis=1)[:, :k] == item).sum())


@pytest.mark.parametrize("name", [name for name in FITS if name != "mp joint"])
@pytest.mark.parametrize("seed", range(5))
def test_a_planted_hub_is_retrieved_less(name: str, seed: int) -> None:
    scores, bank = hubby_scores(seed, 1.5)
    fit = partial(FITS[name].func, k=10) if name in OF_DISTANCES else FITS[name]
    assert occurrences(scores) > 6 * (5 * 300 / 90)
    assert occurrences(fit([bank])(scores)) < 0.7 * occurrences(scores)


@pytest.mark.parametrize("fit", [LocalScaling.fit, Nicdm.fit])
def test_a_neighbourhood_of_own_queries_only_can_make_the_hub_worse(fit: Callable) -> None:
    """About two bank queries belong to each item. With k = 1 a repair measures how well an item suits its own."""
    scores, bank = hubby_scores(2, 1.0)
    assert occurrences(fit([bank], k=1)(scores)) > 1.5 * occurrences(scores)
    assert occurrences(fit([bank], k=20)(scores)) < 0.8 * occurrences(scores)


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_hub_within_one_kind_is_retrieved_less_by_the_joint_form(seed: int) -> None:
    rng = np.random.default_rng(seed)
    common = rng.standard_normal(24) / sqrt(24)
    vectors = unit_vectors(rng.standard_normal((290, 24)) / sqrt(24) + 0.6 * common)
    vectors[7] = unit_vectors(vectors[[7]] + 1.5 * common)[0]
    scores, bank = vectors[90:].astype(float) @ vectors[:90].T, vectors[:90].astype(float) @ vectors[:90].T
    assert occurrences(scores) > 3 * (5 * 200 / 90)
    assert occurrences(MutualProximityJoint.fit([bank])(scores)) < 0.7 * occurrences(scores)


def test_resolution_is_that_of_rounded_cosines() -> None:
    assert 2e-16 < RESOLUTION < 1e-7
