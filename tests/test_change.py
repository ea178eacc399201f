"""A change of a metric split into its parts: worlds in which the cause is known, and a slow path."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from workbench.diagnostics.change import Change, Version, split_change
from workbench.diagnostics.finding_changes import compare_findings
from workbench.types import Embeddings, Finding, Relevance

CAPTIONS = 3
FAST = {"n_resamples": 300}


def picture(item: int) -> np.ndarray:
    return np.random.default_rng([1, item]).normal(size=8)


def version(
    images: list[int], *, noise: float = 0.8, only: set[int] | None = None, wrong: tuple[int, ...] = (),
    order: int | None = None, prefix: str = "",
) -> Version:  # fmt: skip
    """Images and three captions of each (of those in ``only``); an encoder is a noise level, content an item's number.

    wrong : captions (by place) whose label names the next image. order : seed to shuffle both sides. prefix : of ids.
    """
    captions = [(image, c) for image in images if only is None or image in only for c in range(CAPTIONS)]
    rng = np.random.default_rng(order)
    if order is not None:
        images, captions = rng.permutation(images).tolist(), [captions[i] for i in rng.permutation(len(captions))]
    gallery = np.stack([picture(image) for image in images])
    texts = [picture(i) + noise * np.random.default_rng([2, i, c]).normal(size=8) for i, c in captions]
    place = {image: row for row, image in enumerate(images)}
    right = [place[image] for image, _ in captions]
    for row in wrong:
        right[row] = (right[row] + 1) % len(images)
    return Version(
        Embeddings(np.stack(texts), tuple(f"{prefix}caption {i}.{c}" for i, c in captions), "text"),
        Embeddings(gallery, tuple(f"{prefix}image {i}" for i in images), "image"),
        tuple(f"text of {i}.{c}" for i, c in captions), tuple(f"bytes of {i}" for i in images),
        Relevance.from_pairs(np.arange(len(captions)), right, n_queries=len(captions), n_gallery=len(images)),
        tuple(f"{i}" for i, _ in captions),
    )  # fmt: skip


def hits(one: Version, k: int, queries: list[int], gallery: list[int]) -> float:
    """hit@k by sorting the scores of each query, one after the other (no ties in these worlds)."""
    found = []
    for q in queries:
        scores = {
            g: float(one.queries.vectors[q].astype(float) @ one.gallery.vectors[g].astype(float)) for g in gallery
        }
        top = sorted(gallery, key=lambda g: -scores[g])[:k]
        items, grades = one.relevance.row(q)
        if set(items[grades > 0]) & set(gallery):
            found.append(float(bool(set(items[grades > 0]) & set(top))))
    return float(np.mean(found))


def everything(one: Version) -> tuple[list[int], list[int]]:
    return list(range(len(one.queries))), list(range(len(one.gallery)))


def parts(change: Change) -> dict[str, float]:
    assert sum(part.value for part in change.parts) == pytest.approx(change.total.value, abs=1e-13)
    assert change.path[-1][1] - change.path[0][1] == change.total.value
    return {part.name: part.value for part in change.parts}


@pytest.mark.parametrize("metric", ["hit@1", "nDCG@5", "MRR", "MeanR"])
def test_nothing_changed(metric: str) -> None:
    """Exactly nothing, although the sums run in another order."""
    one = version(list(range(20)), noise=1.5)
    change = split_change(one, version(list(range(20)), noise=1.5, order=3, prefix="new "), metric, **FAST)
    assert parts(change) == {"queries": 0, "gallery": 0, "labels": 0, "encoder": 0}
    assert all(part.low == part.high == 0 for part in (*change.parts, change.total))
    assert (change.common, change.only_first, change.only_second) == ((60, 20), (0, 0), (0, 0))


def test_only_the_gallery_grew() -> None:
    """The same queries and encoder; 40 images more to confuse them with."""
    small, large = version(list(range(20))), version(list(range(60)), only=set(range(20)), order=5)
    change = split_change(small, large, "hit@1", **FAST)
    found = parts(change)
    assert (found["encoder"], found["queries"], found["labels"]) == (0, 0, 0)
    assert found["gallery"] == hits(large, 1, *everything(large)) - hits(small, 1, *everything(small)) < -0.05
    assert change.part("gallery").high < 0
    assert (change.common, change.only_second) == ((60, 20), (0, 40))
    back = parts(split_change(large, small, "hit@1", **FAST))
    assert back["gallery"] == -found["gallery"]


def test_only_the_encoder_changed() -> None:
    bad, good = version(list(range(30)), noise=1.5), version(list(range(30)), noise=0.5, order=2, prefix="x")
    change = split_change(bad, good, "hit@1", **FAST)
    found = parts(change)
    assert (found["gallery"], found["queries"], found["labels"]) == (0, 0, 0)
    assert found["encoder"] == pytest.approx(hits(good, 1, *everything(good)) - hits(bad, 1, *everything(bad)))
    part = change.part("encoder")
    assert part.paired
    assert part.low > 0.1
    assert part.p_value < 0.01
    assert change.part("queries").p_value != change.part("queries").p_value


def test_only_the_queries_were_renewed() -> None:
    """Images 0..59; captions of 0..29 before, of 20..49 now: ten images' captions are common."""
    old, new = version(list(range(60)), only=set(range(30))), version(list(range(60)), only=set(range(20, 50)))
    change = split_change(old, new, "hit@1", **FAST)
    found = parts(change)
    assert (found["gallery"], found["encoder"], found["labels"]) == (0, 0, 0)
    assert found["queries"] == pytest.approx(hits(new, 1, *everything(new)) - hits(old, 1, *everything(old)))
    part = change.part("queries")
    assert not part.paired
    assert part.low < part.value < part.high
    assert (change.common, change.only_first, change.only_second) == ((30, 60), (60, 0), (60, 0))
    assert part.n_queries == 150


def test_only_labels_were_edited() -> None:
    right = version(list(range(25)), noise=0.3)
    wrong = version(list(range(25)), noise=0.3, wrong=(0, 4, 9, 30, 31))
    change = split_change(wrong, right, "hit@1", **FAST)
    found = parts(change)
    assert (found["gallery"], found["queries"], found["encoder"]) == (0, 0, 0)
    assert found["labels"] == pytest.approx(hits(right, 1, *everything(right)) - hits(wrong, 1, *everything(wrong)))
    assert found["labels"] > 0


@pytest.mark.parametrize("k", [1, 5])
def test_everything_changed_at_once_equals_the_slow_path(k: int) -> None:
    """Every step of the path scored by sorting, with items matched by name."""
    first = version(list(range(40)), noise=1.2, only=set(range(30)), wrong=(3, 50))
    second = version(list(range(10, 70)), noise=0.6, only=set(range(20, 60)), order=7, prefix="b ", wrong=(8,))
    change = split_change(first, second, f"hit@{k}", **FAST)
    q = [(first.query_digests.index(d), j) for j, d in enumerate(second.query_digests) if d in first.query_digests]
    g = [
        (first.gallery_digests.index(d), j) for j, d in enumerate(second.gallery_digests) if d in first.gallery_digests
    ]
    place = {j: i for i, j in g}
    old_q, new_q, old_g, new_g = ([pair[side] for pair in pairs] for pairs in (q, g) for side in (0, 1))
    relabelled = []
    for i, j in q:
        for item in second.relevance.row(j)[0]:
            relabelled += [(i, place[int(item)])] if int(item) in place else []
    labels = Relevance.from_pairs(*np.array(relabelled).T, n_queries=len(first.queries), n_gallery=len(first.gallery))
    edited = dataclasses.replace(first, relevance=labels)
    kept = [
        at for at, (i, j) in enumerate(q)
        if {int(x) for x in first.relevance.row(i)[0]} & set(old_g) and {int(x) for x in labels.row(i)[0]} & set(old_g)
    ]  # fmt: skip
    old_q, new_q = [old_q[at] for at in kept], [new_q[at] for at in kept]
    path = [
        hits(first, k, *everything(first)),
        hits(first, k, old_q, everything(first)[1]),
        hits(first, k, old_q, old_g),
        hits(edited, k, old_q, old_g),
        hits(second, k, new_q, new_g),
        hits(second, k, new_q, everything(second)[1]),
        hits(second, k, *everything(second)),
    ]
    np.testing.assert_allclose([value for _, value in change.path], path, atol=1e-12)
    step = np.diff(path)
    expected = {
        "queries": step[0] + step[5], "gallery": step[1] + step[4], "labels": step[2], "encoder": step[3]
    }  # fmt: skip
    assert parts(change) == pytest.approx(expected, abs=1e-12)
    assert change.n_unscored == len(q) - len(kept)
    assert all(part.low <= part.value <= part.high for part in (*change.parts, change.total))
    assert {row["name"] for row in change.rows()} == {"queries", "gallery", "labels", "encoder", "total"}
    assert change.flat()[f"hit@{k} encoder"] == change.part("encoder").value


def test_a_query_whose_image_left_counts_as_a_query_change() -> None:
    """Captions of image 0 stay, the image does not: before they could be found, on the common part they cannot."""
    first = version(list(range(20)))
    second = version(list(range(1, 20)), only=set(range(20)))
    change = split_change(first, second, "hit@1", **FAST)
    assert change.n_unscored == 0
    assert change.only_first == (CAPTIONS, 1)
    orphans = Relevance.from_pairs(np.arange(57) + 3, np.repeat(np.arange(19), 3), n_queries=60, n_gallery=19)
    second = dataclasses.replace(
        first, gallery=second.gallery, gallery_digests=second.gallery_digests, relevance=orphans
    )  # fmt: skip
    change = split_change(first, second, "hit@1", **FAST)
    assert change.n_unscored == CAPTIONS
    assert change.part("encoder").n_queries == 57
    assert parts(change)["encoder"] == 0


def test_equal_content_is_matched_by_id_and_then_one_to_one() -> None:
    """Two captions of the same words under one image each: the one with the same id is the same one."""
    vectors = np.eye(3)
    gallery = Embeddings(vectors[:2], ("i", "j"), "image")
    right = Relevance.from_pairs([0, 1, 2], [0, 1, 1], n_queries=3, n_gallery=2)
    one = Version(Embeddings(vectors, ("b", "a", "c"), "text"), gallery, ("w", "w", "v"), ("I", "J"), right)
    two = Version(
        Embeddings(vectors[[1, 0, 2]], ("a", "z", "y"), "text"), gallery, ("w", "w", "v"), ("I", "J"),
        Relevance.from_pairs([0, 1, 2], [1, 0, 1], n_queries=3, n_gallery=2),
    )  # fmt: skip
    change = split_change(one, two, "hit@1", **FAST)
    assert parts(change) == {"queries": 0, "gallery": 0, "labels": 0, "encoder": 0}
    assert change.common == (3, 2)


def test_ties_and_a_single_query() -> None:
    """A constant scorer has chance: 1/2 of two images, 1/4 of four. One query has no interval."""

    def constant(n: int) -> Version:
        return Version(
            Embeddings(np.ones((1, 2)), ("q",), "text"), Embeddings(np.ones((n, 2)), tuple("abcd"[:n]), "image"),
            ("Q",), tuple("ABCD"[:n]), Relevance.from_pairs([0], [0], n_queries=1, n_gallery=n),
        )  # fmt: skip

    change = split_change(constant(2), constant(4), "hit@1", **FAST)
    assert parts(change) == {"queries": 0, "gallery": -0.25, "labels": 0, "encoder": 0}
    assert np.isnan([change.part("gallery").low, change.part("queries").low, change.total.high]).all()
    assert change.part("gallery").warnings


def test_bytes_depend_on_the_seed_and_not_on_order_or_names() -> None:
    first = version(list(range(25)), noise=1.2)
    second = version(list(range(5, 40)), only=set(range(10, 40)))
    change = split_change(first, second, "nDCG@5", seed=4, **FAST)
    assert repr(split_change(first, second, "nDCG@5", seed=4, **FAST)) == repr(change)
    assert split_change(first, second, "nDCG@5", seed=5, **FAST).total.low != change.total.low
    again = split_change(version(list(range(25)), noise=1.2, order=1, prefix="n"), second, "nDCG@5", seed=4, **FAST)
    assert parts(again) == pytest.approx(parts(change), abs=1e-13)


def test_queries_of_one_cluster_are_drawn_together() -> None:
    """Each query three times in its cluster says no more than once; three times on its own it would."""

    def tripled(images: set[int], *, times: int, joined: bool = True) -> Version:
        one = version(list(range(40)), only=images)
        rows = np.repeat(np.arange(len(one.queries))[::CAPTIONS], times)
        ids = tuple(f"{one.query_digests[row]} {i % times}" for i, row in enumerate(rows))
        relevance = one.relevance.take(rows[::times], np.arange(40))
        relevance = Relevance.from_pairs(np.arange(len(rows)), np.repeat(relevance.items, times),
                                         n_queries=len(rows), n_gallery=40)  # fmt: skip
        queries = Embeddings(one.queries.vectors[rows], ids, "text")
        clusters = tuple(one.query_digests[row] for row in rows) if joined else None
        return dataclasses.replace(
            one, queries=queries, query_digests=ids, relevance=relevance, clusters=clusters
        )  # fmt: skip

    def found(**how: object) -> Change:
        old, new = tripled(set(range(25)), **how), tripled(set(range(15, 40)), **how)  # type: ignore[arg-type]
        return split_change(old, new, "hit@1", **FAST)

    once, thrice, apart = found(times=1), found(times=3), found(times=3, joined=False)
    for name in ("queries", "total"):
        one, three, wrong = (change.part(name) for change in (once, thrice, apart))
        assert (three.value, three.low, three.high) == pytest.approx((one.value, one.low, one.high))
        assert wrong.high - wrong.low < 0.75 * (one.high - one.low)


def test_intervals_of_the_query_part_hold_the_truth() -> None:
    """Queries of both versions drawn from one population: the true query part is 0. Nominal 95 %, 120 worlds."""
    gallery = version(list(range(30))).gallery
    digests = tuple(f"bytes of {i}" for i in range(30))
    held = 0
    for world in range(120):
        rng = np.random.default_rng([9, world])
        names = [f"{world}.{i}" for i in range(90)]
        right = rng.integers(0, 30, 90)
        texts = gallery.vectors[right] + 1.0 * rng.normal(size=(90, 8))
        both = []
        for part in (slice(0, 60), slice(30, 90)):
            relevance = Relevance.from_pairs(np.arange(60), right[part], n_queries=60, n_gallery=30)
            both.append(Version(
                Embeddings(texts[part], tuple(names[part]), "text"), gallery, tuple(names[part]), digests, relevance,
            ))  # fmt: skip
        found = split_change(*both, "hit@1", n_resamples=200, seed=world).part("queries")
        held += found.low <= 0 <= found.high
    assert 0.89 <= held / 120 <= 1.0


def test_what_cannot_be_split_is_refused() -> None:
    one, other = version(list(range(5))), version(list(range(10, 16)))
    with pytest.raises(ValueError, match="no query item is in both versions"):
        split_change(one, other, "hit@1")
    with pytest.raises(ValueError, match="is a median"):
        split_change(one, one, "MedR")
    with pytest.raises(ValueError, match="hit@9 needs 9 ranked items, more than the gallery of 5"):
        split_change(one, one, "hit@9")
    with pytest.raises(ValueError, match=r"relevance is \(15, 5\) for 5 queries and 15 items; are they swapped"):
        dataclasses.replace(one, queries=one.gallery, gallery=one.queries)
    with pytest.raises(ValueError, match="query_digests must hold 15 texts, none of them empty"):
        dataclasses.replace(one, query_digests=("",) * 15)
    with pytest.raises(KeyError, match="no part 'luck'"):
        split_change(one, one, "hit@1", **FAST).part("luck")
    unlabelled = dataclasses.replace(one, relevance=Relevance.from_pairs([], [], n_queries=15, n_gallery=5))
    with pytest.raises(ValueError, match="none of the 15 common queries has a positive"):
        split_change(unlabelled, one, "hit@1")


# ---- findings -------------------------------------------------------------------------------------------------------


def finding(name: str, verdict: str) -> Finding:
    return Finding(name, None if verdict == "not measurable" else 0.5, None, 1.0, "", verdict, "")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        ("ok", "look", "new"), ("ok", "problem", "new"), (None, "problem", "new"), ("not measurable", "look", "new"),
        ("look", "problem", "worse"), ("problem", "look", "better"),
        ("look", "ok", "resolved"), ("problem", "ok", "resolved"),
        ("problem", "not measurable", "unknown"), ("problem", None, "unknown"), ("ok", None, "unknown"),
        ("look", "look", "unchanged"), ("ok", "ok", "unchanged"), ("not measurable", "ok", "unchanged"),
        (None, "ok", "unchanged"), ("not measurable", None, "unchanged"),
    ],
)  # fmt: skip
def test_a_finding_changes(first: str | None, second: str | None, status: str) -> None:
    before, after = ([] if verdict is None else [finding("t2i/hubness", verdict)] for verdict in (first, second))
    (change,) = compare_findings(before, after)
    assert change.status == status
    assert change.row()["first verdict"] == (first or "")


def test_findings_come_worst_first_and_equal_names_in_their_order() -> None:
    before = [finding("a", "ok"), finding("b", "problem"), finding("b", "ok"), finding("c", "look")]
    after = [finding("c", "look"), finding("b", "problem"), finding("b", "problem"), finding("d", "look")]
    found = [(change.name, change.status) for change in compare_findings(before, after)]
    assert found == [("b", "new"), ("d", "new"), ("a", "unknown"), ("c", "unchanged"), ("b", "unchanged")]
    assert compare_findings([], []) == ()


def test_two_runs_are_split_by_what_moved_between_them(tmp_path: Path) -> None:
    from workbench.evaluate import evaluate
    from workbench.runs.change import change_between

    how = {"n_resamples": 200, "out": tmp_path, "keep_embeddings": True, "repairs": []}
    small, large = (evaluate(dataset="scenes", n_images=n, **how) for n in (40, 60))
    found = change_between(small, large, "t2i", "hit@1", n_resamples=200)
    assert found.common == (200, 40)
    assert found.only_second == (100, 20)
    assert found.part("encoder").value == 0
    assert found.part("gallery").value < 0  # more items, the same queries
    values = [run.metrics["t2i/hit@1"]["value"] for run in (small, large)]
    assert found.total.value == pytest.approx(values[1] - values[0], abs=1e-12)
    assert sum(one.value for one in found.parts) == pytest.approx(values[1] - values[0], abs=1e-12)


def test_runs_without_vectors_cannot_be_split(tmp_path: Path) -> None:
    from workbench.evaluate import evaluate
    from workbench.runs.change import change_between

    run = evaluate(dataset="scenes", n_images=20, n_resamples=100, out=tmp_path, repairs=[])
    with pytest.raises(ValueError, match="keep_embeddings=true"):
        change_between(run, run, "t2i", "hit@1")
