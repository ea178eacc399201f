"""Repairs in halves against dense matrices: which queries are the bank, which items are scored, how ties count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from workbench.evaluate.prepare import Direction
from workbench.evaluate.repairs import Repairs, repair_direction
from workbench.metrics import per_query, ranks_from_scores
from workbench.normalize import cross_fit_folds, csls, inverted_softmax
from workbench.types import Embeddings, Relevance

PARAMETERS = {"repairs": ["inverted softmax", "csls"], "k": 5, "seed": 3, "memory_mb": 16, "n_resamples": 200}


def world(seed: int = 0) -> Direction:
    """24 images, 3 texts each, small whole numbers (exact scores); images 0-3 are equal, so that ties occur."""
    rng = np.random.default_rng(seed)
    images = rng.integers(-3, 4, size=(24, 6)).astype(np.float32)
    images[1:4] = images[0]
    own = np.repeat(np.arange(24), 3)
    texts = (images[own] + rng.integers(-3, 4, size=(72, 6))).astype(np.float32)
    relevance = Relevance.from_pairs(np.arange(72), own, n_queries=72, n_gallery=24)
    text_ids, image_ids = tuple(f"t{i:02d}" for i in range(72)), tuple(f"i{i:02d}" for i in range(24))
    sides = Embeddings(texts, text_ids, "text"), Embeddings(images, image_ids, "image")
    return Direction("t2i", *sides, relevance, own, np.arange(24))


def dense(direction: Direction, method: str | None) -> np.ndarray:
    """hit@1 of every query, from whole matrices, one half after the other."""
    both = np.concatenate([direction.clusters, direction.gallery_clusters])
    folds = cross_fit_folds(both, PARAMETERS["seed"])
    of_query, of_item = folds[:72], folds[72:]
    values = np.zeros(72)
    for fold in (0, 1):
        rows, columns = np.flatnonzero(of_query == fold), np.flatnonzero(of_item == fold)
        queries, bank = direction.queries.vectors[of_query == fold], direction.queries.vectors[of_query != fold]
        gallery = direction.gallery.vectors[columns].astype(float)
        scores = queries @ gallery.T
        if method is not None:
            scores = scores - {"inverted softmax": inverted_softmax, "csls": csls}[method](bank @ gallery.T)
        ranks = ranks_from_scores(np.round(scores, 6), direction.relevance.take(rows, columns))
        values[rows] = per_query("hit@1", ranks).expected
    return values


def test_halves_equal_dense_matrices() -> None:
    direction = world()
    outcomes, notes = repair_direction(direction, "hit@1", PARAMETERS, bank=None)
    assert notes == []
    before = dense(direction, None)
    assert 0 < before.mean() < 1
    assert ((before > 0) & (before < 1)).any()  # ties touch right items
    for outcome in outcomes:
        after = dense(direction, outcome.repair)
        assert outcome.before == pytest.approx(before.mean(), abs=1e-12)
        assert outcome.after == pytest.approx(after.mean(), abs=1e-12)
        assert outcome.difference == pytest.approx(after.mean() - before.mean(), abs=1e-12)
        assert outcome.wins == (after > before).sum()
        assert outcome.losses == (after < before).sum()
        assert outcome.n_bank == 36
    assert len({outcome.after for outcome in outcomes}) == 2


def test_a_bank_too_small_is_said_not_shrunk() -> None:
    direction = world()
    keep = np.arange(6)
    small = replace(
        direction, queries=Embeddings(direction.queries.vectors[:6], direction.queries.ids[:6], "text"),
        relevance=direction.relevance.take(keep, np.arange(24)), clusters=direction.clusters[:6],
    )  # fmt: skip
    outcomes, notes = repair_direction(small, "hit@1", PARAMETERS, bank=None)
    assert [outcome.repair for outcome in outcomes] in (["inverted softmax"], [])
    assert any("csls could not be estimated" in note or "no repair" in note for note in notes)


def test_findings_name_the_best_or_do_nothing() -> None:
    outcomes, _ = repair_direction(world(), "hit@1", PARAMETERS, bank=None)
    base = [replace(one, difference=0.01, low=-0.02, high=0.04, p_value=0.4) for one in outcomes]
    (nothing,) = Repairs(tuple(base)).corrected().findings()
    assert (nothing.verdict, nothing.advice[:10]) == ("ok", "Do nothing")
    gain = replace(base[1], difference=0.1, low=0.05, high=0.15, p_value=0.001)
    (found,) = Repairs((base[0], gain)).corrected().findings()
    assert found.verdict == "look"
    assert found.advice.startswith("csls")
    assert Repairs((base[0], gain)).corrected().outcomes[1].p_holm == pytest.approx(0.002)
