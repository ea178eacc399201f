"""Pooling by interaction, scores at three levels and their sum, against slow loops and by hand; Sinkhorn rounds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from workbench.fusion import (
    clip_vectors_of,
    fuse_levels,
    isa_weights,
    level_scores,
    pool_isa,
    pool_max,
    pool_mean,
)
from workbench.normalize import inverted_softmax, sinkhorn
from workbench.normalize.transport import sinkhorn_bias

RNG = np.random.default_rng(7)


def slow_isa(scores: np.ndarray, tau: float = 0.01, mix: np.ndarray | None = None) -> float:
    inner = softmax(scores / tau)
    if mix is not None:
        inner = np.array([sum(inner[j] * mix[j, i] for j in range(len(inner))) for i in range(len(inner))])
    return float((softmax(inner / tau) * scores).sum())


# ------------------------------------------------------------------------------------------------------------- pooling


@pytest.mark.parametrize("tau", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("mixed", [False, True])
def test_pooling_is_the_formula_row_by_row(tau: float, mixed: bool) -> None:
    scores = RNG.normal(size=(4, 3, 5))
    mix = RNG.normal(size=(5, 5)) if mixed else None
    found = pool_isa(scores, tau=tau, mix=mix)
    expected = [[slow_isa(row, tau, mix) for row in rows] for rows in scores]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_masked_parts_take_no_part_in_any_pool() -> None:
    scores = RNG.normal(size=(4, 3, 5))
    mask = RNG.random((4, 1, 5)) < 0.6
    mask[..., 2] = True
    for pool in (pool_isa, pool_mean, pool_max, lambda s, **k: pool_isa(s, tau=0.5, **k)):
        found = pool(scores, mask=mask)
        for q in range(4):
            np.testing.assert_allclose(found[q], pool(scores[q][:, mask[q, 0]]), rtol=1e-12)
        spoiled = np.where(mask, scores, 1e6)
        np.testing.assert_allclose(pool(spoiled, mask=mask), found, rtol=1e-12)


def test_weights_sum_to_one_and_reach_from_mean_to_maximum() -> None:
    scores = RNG.normal(size=(6, 4))
    mask = np.array([True, True, False, True])
    weights = isa_weights(scores, mask=mask, tau=0.3)
    np.testing.assert_allclose(weights.sum(axis=-1), 1)
    assert (weights[:, 2] == 0).all()
    assert (weights[:, mask] > 0).all()
    np.testing.assert_allclose(pool_isa(scores, mask=mask, tau=0.3), (weights * scores).sum(axis=-1), rtol=1e-12)
    np.testing.assert_allclose(pool_isa(scores, tau=1e8), scores.mean(axis=-1), rtol=1e-6)
    np.testing.assert_array_equal(pool_isa(scores, tau=1e-4), scores.max(axis=-1))


def test_pooling_keeps_its_input_and_survives_large_scores() -> None:
    scores = RNG.normal(size=(3, 4)) * 1e4
    before = scores.copy()
    assert np.isfinite(pool_isa(scores)).all()
    np.testing.assert_array_equal(scores, before)
    assert pool_isa([[0.3]]) == pool_max([[0.3]]) == pool_mean([[0.3]]) == 0.3
    np.testing.assert_allclose(pool_isa([0.4, 0.4]), 0.4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pool_isa([1.0], tau=0), "tau must be a positive number; got 0"),
        (lambda: pool_isa([]), "at least one part"),
        (lambda: pool_isa(1.0), "last axis"),
        (lambda: pool_max([1.0, 2.0], mask=[False, False]), "no part left"),
        (lambda: pool_isa([1.0, 2.0], mix=np.eye(3)), r"shape \(2, 2\).*got \(3, 3\)"),
        (lambda: clip_vectors_of(np.zeros((2, 3, 4))), "length zero"),
        (lambda: fuse_levels(np.zeros((2, 3))), "n_levels, n_queries, n_gallery"),
        (lambda: fuse_levels(np.zeros((2, 3, 4)), weights=[1.0]), r"weights \(2,\)"),
        (lambda: fuse_levels(np.zeros((2, 3, 4)), biases=np.zeros((2, 3))), r"biases \(2, 4\)"),
    ],
)
def test_errors_say_what_came(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# -------------------------------------------------------------------------------------------------------------- levels


def parts(n_queries: int = 5, n_gallery: int = 3) -> tuple[np.ndarray, ...]:
    shapes = ((n_queries, 6), (n_queries, 4, 6), (n_gallery, 6), (n_gallery, 2, 6), (n_gallery, 2, 3, 6))
    return tuple(RNG.normal(size=shape) for shape in shapes)


def slow_levels(s, w, c, f, p, mask, pool) -> np.ndarray:  # type: ignore[no-untyped-def]
    found = np.zeros((3, len(s), len(c)))
    for q in range(len(s)):
        for g in range(len(c)):
            found[0, q, g] = s[q] @ c[g]
            found[1, q, g] = pool(np.array([s[q] @ frame for frame in f[g]]))
            words, patches = w[q][mask[q]], p[g].reshape(-1, p.shape[-1])
            grid = np.array([[word @ patch for patch in patches] for word in words])
            words_first = pool(np.array([pool(column) for column in grid.T]))
            patches_first = pool(np.array([pool(row) for row in grid]))
            found[2, q, g] = (words_first + patches_first) / 2
    return found


@pytest.mark.parametrize("block", [1, 2, 16])
@pytest.mark.parametrize("pool", [slow_isa, np.mean, np.max], ids=["isa", "mean", "max"])
def test_levels_are_those_of_the_slow_loop(pool: Callable[..., float], block: int) -> None:
    given = parts()
    mask = RNG.random((5, 4)) < 0.5
    mask[:, 1] = True
    ours = {slow_isa: pool_isa, np.mean: pool_mean, np.max: pool_max}[pool]
    blocks = list(level_scores(*given, word_mask=mask, pool=ours, block=block))
    assert {len(one[0]) for one in blocks} <= {block, 5 % block, 5}
    np.testing.assert_allclose(np.concatenate(blocks, axis=1), slow_levels(*given, mask, pool), rtol=1e-9)


def test_clip_vectors_do_not_depend_on_the_length_of_frames() -> None:
    frames = RNG.normal(size=(3, 4, 6))
    found = clip_vectors_of(frames)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)
    np.testing.assert_allclose(clip_vectors_of(frames * RNG.uniform(1, 9, (3, 4, 1))), found)


@pytest.mark.parametrize("which", range(5))
def test_parts_that_do_not_belong_together_are_refused(which: int) -> None:
    given = list(parts())
    given[which] = given[which][1:]
    with pytest.raises(ValueError, match="must belong to"):
        next(level_scores(*given))
    given[which] = given[which][..., 1:]
    with pytest.raises(ValueError, match="vectors of one dimension"):
        next(level_scores(*given))


def test_bad_masks_and_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="with a word in every row"):
        next(level_scores(*parts(), word_mask=np.zeros((5, 4), bool)))
    with pytest.raises(ValueError, match="block must be at least 1; got 0"):
        next(level_scores(*parts(), block=0))


def test_the_sum_takes_every_bias_at_its_own_weight() -> None:
    levels, biases, weights = RNG.normal(size=(3, 5, 4)), RNG.normal(size=(3, 4)), np.array([0.5, 0.2, 0.3])
    by_hand = sum(weights[i] * (levels[i] - biases[i]) for i in range(3))
    np.testing.assert_allclose(fuse_levels(levels, biases=biases, weights=weights), by_hand)
    np.testing.assert_allclose(fuse_levels(levels), levels.mean(axis=0))


# ------------------------------------------------------------------------------------------------------------ Sinkhorn


def as_published(bank: np.ndarray, beta: float, n_iter: int) -> np.ndarray:
    """The scaling as it is usually written, with plain exponentials in float64: 1 / b."""
    plan = np.exp(beta * bank)
    b = 1 / plan.sum(axis=0)
    for _ in range(n_iter):
        a = 1 / (plan @ b)
        b = 1 / (a @ plan)
    return -np.log(b) / beta


@pytest.mark.parametrize("n_iter", range(5))
@pytest.mark.parametrize("shape", [(9, 4), (3, 8), (1, 5), (6, 1)])
def test_rounds_are_those_of_plain_arithmetic(n_iter: int, shape: tuple[int, int]) -> None:
    bank = RNG.uniform(-0.2, 0.8, shape)
    np.testing.assert_allclose(sinkhorn_bias(bank, n_iter=n_iter, beta=5.0), as_published(bank, 5.0, n_iter), atol=1e-9)


def test_no_round_is_the_inverted_softmax_and_many_are_sinkhorn() -> None:
    bank = RNG.uniform(0, 0.5, (40, 12))
    np.testing.assert_array_equal(sinkhorn_bias(bank, n_iter=0, beta=20.0), inverted_softmax(bank, beta=20.0))
    many = sinkhorn_bias(bank, n_iter=2000, beta=20.0)
    settled = sinkhorn(lambda: [bank], beta=20.0, max_iter=2000, tolerance=1e-12).bias
    np.testing.assert_allclose(many - many[0], settled - settled[0], atol=1e-8)
    exponents = 20 * (bank - many)
    plan = np.exp(exponents - logsumexp(exponents, axis=1, keepdims=True))
    np.testing.assert_allclose(plan.sum(axis=0), 40 / 12, rtol=1e-6)


def test_a_start_at_the_end_needs_one_round_and_blocks_do_not_matter() -> None:
    bank = RNG.uniform(0, 0.5, (40, 12))
    settled = sinkhorn(lambda: [bank], beta=20.0, max_iter=2000, tolerance=1e-10)
    again = sinkhorn(lambda: [bank[:7], bank[7:]], beta=20.0, tolerance=1e-8, start=settled.bias)
    assert again.converged
    assert again.iterations == 1
    np.testing.assert_allclose(again.bias, settled.bias, atol=1e-8)


def test_small_exponentials_do_not_vanish() -> None:
    bank = np.array([[0.9, -0.9, 0.1], [0.8, -0.7, 0.2]])
    found = sinkhorn_bias(bank, beta=1000.0)
    assert np.isfinite(found).all()
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        assert not np.isfinite(as_published(bank.astype(np.float32), np.float32(1000.0), 4)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sinkhorn_bias([[0.1, 0.2]], n_iter=-1), "n_iter must be at least 0; got -1"),
        (lambda: sinkhorn_bias([[0.1, -np.inf]]), "must be finite"),
        (lambda: sinkhorn_bias([[0.1, np.nan]]), "NaN"),
        (lambda: sinkhorn_bias([[0.1, 0.2]], beta=0), "beta must be a positive number"),
        (lambda: sinkhorn(lambda: [np.ones((2, 3))], beta=1.0, start=np.zeros(2)), r"start.*\(3,\).*got \(2,\)"),
    ],
)
def test_sinkhorn_errors_say_what_came(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
