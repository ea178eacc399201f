"""Duplicates: planted copies and near-copies come back with exact counts, whatever the blocks."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from workbench.datasets.counts import normalized_caption
from workbench.diagnostics.duplicates import duplicates, repeated_captions
from workbench.types import Relevance


def names(n: int) -> list[str]:
    return [f"item{i:03d}" for i in range(n)]


def cosines(vectors: np.ndarray) -> np.ndarray:
    wide = vectors.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    return wide @ wide.T


def planted(n: int, dim: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Random vectors: 3 and 7 are near 0, item 20 has the digest and vector of 11, and so has 21."""
    vectors = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    vectors[3] = vectors[0] + 0.02 * vectors[1]
    vectors[7] = 3 * (vectors[0] - 0.03 * vectors[2])
    vectors[20] = vectors[21] = vectors[11]
    digests = [f"digest{i}" for i in range(n)]
    digests[20] = digests[21] = digests[11]
    return digests, vectors


@pytest.mark.parametrize("block", [1, 7, 16, 4096])
def test_planted_pairs_are_found_for_any_block(block: int) -> None:
    digests, vectors = planted(45, 32, seed=0)
    found = duplicates(digests, vectors, ids=names(45), block=block)
    assert found.groups == (("item011", "item020", "item021"),)
    assert (found.n_exact_pairs, found.n_exact_items) == (3, 3)
    assert {pair[:2] for pair in found.near} == {("item000", "item003"), ("item000", "item007"), ("item003", "item007")}
    assert (found.n_near_pairs, found.n_near_items) == (3, 3)
    reference = cosines(vectors)
    for first, second, cosine in found.near:
        assert cosine == pytest.approx(reference[int(first[4:]), int(second[4:])], abs=1e-6)
    assert [cosine for *_, cosine in found.near] == sorted((cosine for *_, cosine in found.near), reverse=True)


@pytest.mark.parametrize("block", [5, 64])
def test_counts_and_curve_by_plain_loops(block: int) -> None:
    """A crowded world: 60 items on a narrow cone; every count of the curve is added up pair by pair."""
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(60, 6)) + 2.5
    digests = [str(i % 50) for i in range(60)]
    found = duplicates(digests, vectors, ids=names(60), threshold=0.9, max_listed=5, block=block)
    reference = cosines(vectors)
    pairs = {(i, j): reference[i, j] for i in range(60) for j in range(i + 1, 60) if digests[i] != digests[j]}
    for threshold, count in zip(found.curve_thresholds, found.curve_pairs, strict=True):
        assert count == sum(cosine >= threshold for cosine in pairs.values())
    assert found.n_near_pairs == sum(cosine >= 0.9 for cosine in pairs.values()) > 5
    top = sorted(pairs, key=lambda pair: -pairs[pair])[:5]
    assert [(int(a[4:]), int(b[4:])) for a, b, _ in found.near] == top
    nearest = sorted(pairs, key=lambda pair: abs(pairs[pair] - 0.9))[: len(found.borderline)]
    assert {(int(a[4:]), int(b[4:])) for a, b, _ in found.borderline} == set(nearest)
    assert len(found.borderline) == 20
    assert found.n_exact_pairs == 10


def test_verdicts_for_clean_some_and_many() -> None:
    vectors = np.random.default_rng(2).normal(size=(300, 64))
    clean = duplicates(names(300), vectors, ids=names(300))
    assert [finding.verdict for finding in clean.findings()] == ["ok", "ok"]
    one = names(300)
    one[5] = one[9]
    assert duplicates(one, vectors, ids=names(300)).findings()[0].verdict == "look"
    many = names(300)
    many[:4] = ["same"] * 4
    finding = duplicates(many, vectors, ids=names(300), what="page").findings()[0]
    assert (finding.verdict, finding.name) == ("problem", "duplicates/page_exact")
    assert "4 of 300 page items are copies of one another (6 pairs in 1 groups)" in finding.advice
    assert finding.value == pytest.approx(4 / 300)


def test_equal_vectors_of_different_items_are_near_and_never_a_proof() -> None:
    vectors = np.random.default_rng(3).normal(size=(100, 16)).astype(np.float32)
    vectors[40] = vectors[2]
    found = duplicates(names(100), vectors, ids=names(100), threshold=1.0)
    assert found.near == (("item002", "item040", 1.0),)
    assert (found.curve_thresholds[-1], found.curve_pairs[-1]) == (1.0, 1)  # a pair exactly at a threshold counts
    finding = found.findings()[1]
    assert (finding.verdict, finding.value) == ("look", 1.0)
    assert "no proof" in finding.advice


def test_a_collapsed_encoder_is_named_as_the_cause() -> None:
    """One vector for all: every pair is near, the list stays short, and the advice says what it is."""
    found = duplicates(names(70), np.ones((70, 8)), ids=names(70), max_listed=10, block=32)
    assert found.n_near_pairs == found.n_pairs == 70 * 69 // 2
    assert len(found.near) == 10
    assert found.near[0][:2] == ("item000", "item001")
    finding = found.findings()[1]
    assert finding.verdict == "look"
    assert "a trait of the encoder" in finding.advice


def test_memory_is_that_of_a_block_also_when_all_items_are_near() -> None:
    together = 1 + 0.01 * np.random.default_rng(0).normal(size=(1024, 512))
    digests = names(1024)
    tracemalloc.start()
    found = duplicates(digests, together, ids=digests, block=1024)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.n_near_pairs == found.n_pairs
    assert peak < 60 * 2**20


def test_one_item_and_no_listing() -> None:
    nothing = duplicates([], np.zeros((0, 2)), ids=[])
    assert [finding.verdict for finding in nothing.findings()] == ["ok", "ok"]
    alone = duplicates(["x"], [[1.0, 2.0]], ids=["only"])
    assert (alone.n_pairs, alone.n_near_pairs, alone.groups, alone.borderline) == (0, 0, (), ())
    assert [finding.verdict for finding in alone.findings()] == ["ok", "ok"]
    quiet = duplicates(["x", "y", "z"], np.ones((3, 2)), ids=names(3), max_listed=0)
    assert (quiet.n_near_pairs, quiet.near) == (3, ())


def test_table_and_flat() -> None:
    digests, vectors = planted(45, 32, seed=0)
    found = duplicates(digests, vectors, ids=names(45), what="image")
    table = found.table()
    assert table["kind"].tolist() == ["exact copy"] * 2 + ["near"] * 3
    assert found.flat() == {
        "duplicates/image_exact_pairs": 3.0,
        "duplicates/image_exact_items": 3.0,
        "duplicates/image_near_pairs": 3.0,
        "duplicates/image_near_items": 3.0,
    }
    assert "<table" in found._repr_html_()


def test_errors_say_what_came() -> None:
    with pytest.raises(ValueError, match="2 digests, 3 vectors and 3 ids"):
        duplicates(["a", "b"], np.ones((3, 2)), ids=names(3))
    with pytest.raises(ValueError, match="got 98"):
        duplicates(names(3), np.ones((3, 2)), ids=names(3), threshold=98)
    with pytest.raises(ValueError, match="must be unique"):
        duplicates(names(2), np.ones((2, 2)), ids=["a", "a"])
    with pytest.raises(ValueError, match="length zero, NaN"):
        duplicates(names(2), [[1.0, 0.0], [np.nan, 1.0]], ids=names(2))
    with pytest.raises(ValueError, match="3 texts but text_image of shape"):
        repeated_captions(["a", "b", "c"], [0, 1])


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("A dog runs.", "a  dog runs", True),
        ("Straße", "STRASSE", True),
        ("ｃａｔ", "cat", True),
        ("犬。", "犬", True),
        ("a dog", "a dog!", True),
        ("a dog", "a dogs", False),
        ("can't", "cant", False),
        ("1.5 dogs", "15 dogs", False),
        ("a. b", "a b", False),
    ],
)
def test_caption_normal_form(one: str, other: str, same: bool) -> None:
    assert (normalized_caption(one) == normalized_caption(other)) is same


def test_repeated_captions_need_two_images() -> None:
    texts = ["A dog.", "a dog", "two cats", "two cats", "A DOG", "a tree", "two cats"]
    found = repeated_captions(texts, [0, 1, 2, 2, 4, 5, -1])
    assert found.captions == (("a dog", (0, 1, 4), (0, 1, 4)),)
    assert found.n_affected == 3
    finding = found.findings()[0]
    assert finding.verdict == "problem"
    assert "3 of 7 captions" in finding.advice
    assert "ambiguous positive" in finding.advice
    assert repeated_captions(["a", "b", "b"], [0, 1, 1]).findings()[0].verdict == "ok"
    assert repeated_captions([], []).findings()[0].verdict == "ok"


def test_most_shared_caption_comes_first() -> None:
    found = repeated_captions(["b", "b", "a", "a", "a", "c", "c"], [0, 1, 2, 3, 4, 5, 6])
    assert [caption for caption, *_ in found.captions] == ["a", "b", "c"]
    assert found.table()["images"].tolist() == [3, 2, 2]
    assert found.flat() == {"duplicates/captions_repeated": 3.0, "duplicates/captions_affected_texts": 7.0}


def test_known_copies_in_real_photos(shared: Callable[[str], Path]) -> None:
    """Two pairs of stock photos have the same vector; 51 of their machine-written captions repeat."""
    stored = np.load(shared("data/clip_photos_290/embeddings.npz"))
    found = duplicates(names(290), stored["image"], ids=names(290))
    reference = np.triu(cosines(stored["image"]) >= 0.98, 1)
    assert found.n_near_pairs == reference.sum() == 2
    captions = [str(caption) for caption in stored["caption"]]
    groups: dict[str, int] = {}
    for caption in captions:
        groups[caption.lower().strip()] = groups.get(caption.lower().strip(), 0) + 1
    assert repeated_captions(captions, np.arange(290)).n_affected == sum(n for n in groups.values() if n > 1)


def test_repeated_captions_with_all_images_labelled_are_no_conflict() -> None:
    texts, own = ["A dog.", "a dog", "a cat", "a cat"], [0, 1, 2, 0]
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 2), (3, 0)]  # both dogs are right for both; each cat for its own only
    relevance = Relevance.from_pairs(*zip(*pairs, strict=True), n_queries=4, n_gallery=3)
    assert [entry[0] for entry in repeated_captions(texts, own).captions] == ["a cat", "a dog"]
    assert [entry[0] for entry in repeated_captions(texts, own, relevance).captions] == ["a cat"]
