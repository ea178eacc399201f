"""Every protocol against an obvious re-computation: take the matrix of scores, cut it, sort it, count."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.worlds import paired_vectors
from workbench.evaluate import Prepared, audit_schema, prepare
from workbench.evaluate.ranking import rank
from workbench.evaluate.reproducibility.protocol_rules import PROTOCOLS, Asked, asked, other_reading, own_items
from workbench.evaluate.reproducibility.protocols import Protocols, under_protocols
from workbench.metrics import parse_metric
from workbench.statistics import paired_difference
from workbench.types import Embeddings, Relevance

METRICS = ["hit@1", "R@5", "hit@5", "MRR", "MedR"]
MEANS = METRICS[:4]
PICTURES, CAPTIONS = 153, 3  # more than a batch of 128, and a multiple of neither 5 nor 64


def prepared_from(folder: Path, arrays: dict[str, np.ndarray], **parameters: Any) -> tuple[Prepared, dict[str, Any]]:
    np.savez(folder / "world.npz", **arrays)
    chosen = {
        **audit_schema().defaults, "dataset": f"embeddings:{folder / 'world.npz'}", "metrics": METRICS,
        "n_resamples": 100, **parameters,
    }  # fmt: skip
    return prepare(chosen), chosen


def worlds_of(prepared: Prepared, parameters: dict[str, Any]) -> list[Asked]:
    ranked, _ = rank(prepared, parameters)
    return [asked(one.direction, one.ranks, METRICS, forward=place == 0) for place, one in enumerate(ranked)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Prepared, dict[str, Any], list[Asked], Protocols]:
    folder = tmp_path_factory.mktemp("protocols")
    arrays = paired_vectors(n_images=PICTURES, captions=CAPTIONS, dim=8, noise=1.5, seed=3)
    arrays["image"][7] = arrays["image"][4]  # a copy: the same vector is the same content, and a tie
    prepared, parameters = prepared_from(folder, arrays)
    worlds = worlds_of(prepared, parameters)
    return prepared, parameters, worlds, under_protocols(worlds, n_resamples=100, seed=1)


def slow(scores: np.ndarray, right: np.ndarray, metric: str, *, depth: int = 10**9, ties: str = "") -> float:
    """Mean over queries with a right item; one random order of ties is not enough, so ties are broken both ways."""
    found = []
    name, _, k = metric.partition("@")
    for row, good in zip(scores, right, strict=True):
        if not good.any():
            continue
        first = good if ties == "best" else ~good
        order = np.lexsort((~first, -row))[:depth] if ties else np.argsort(-row, kind="stable")[:depth]
        hits = good[order]
        if name == "MRR":
            found.append(1 / (np.flatnonzero(hits)[0] + 1) if hits.any() else 0.0)
        elif name == "hit":
            found.append(float(hits[: int(k)].any()))
        else:
            found.append(hits[: int(k)].sum() / good.sum())
    return float(np.mean(found))


def matrices(prepared: Prepared, forward: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(scores, right, image of each query, image of each item)."""
    images, texts = prepared.images.vectors.astype(np.float64), prepared.texts.vectors.astype(np.float64)
    own = prepared.collection.text_image
    scores, right = texts @ images.T, own[:, None] == np.arange(len(images))
    picture = np.arange(len(images))
    return (scores, right, own, picture) if forward else (scores.T, right.T, picture, own)


def distinct(prepared: Prepared) -> Prepared:
    """The same world without the copy, for protocols whose ties would need an average over orders."""
    vectors = prepared.images.vectors.copy()
    vectors[7] = np.roll(vectors[4], 1)
    return replace(prepared, images=replace(prepared.images, vectors=vectors))


@pytest.fixture(scope="module")
def plain(world: Any) -> tuple[Prepared, Protocols]:
    prepared = distinct(world[0])
    return prepared, under_protocols(worlds_of(prepared, world[1]), n_resamples=100, seed=1)


def value(protocols: Protocols, direction: str, metric: str, name: str) -> float:
    (row,) = [row for row in protocols.group(direction, metric) if row.protocol == name]
    assert not row.reason, row.reason
    return row.value


SIDES = [("t2i", True), ("i2t", False)]


@pytest.mark.parametrize(("direction", "forward"), SIDES)
@pytest.mark.parametrize("metric", MEANS)
def test_the_whole_gallery(plain: Any, direction: str, forward: bool, metric: str) -> None:
    scores, right, *_ = matrices(plain[0], forward)
    assert value(plain[1], direction, metric, "whole gallery") == pytest.approx(slow(scores, right, metric))


@pytest.mark.parametrize(("direction", "forward"), SIDES)
@pytest.mark.parametrize("metric", MEANS)
def test_fifths_are_five_galleries_each_query_asked_once(
    plain: Any, direction: str, forward: bool, metric: str
) -> None:
    scores, right, asks, held = matrices(plain[0], forward)
    total, n = 0.0, 0
    for part in range(5):
        mine = [image for image in range(PICTURES) if int(image / PICTURES * 5 + 1e-9) == part]
        rows, columns = np.isin(asks, mine), np.isin(held, mine)
        total += rows.sum() * slow(scores[rows][:, columns], right[rows][:, columns], metric)
        n += int(rows.sum())
    assert n == len(scores)
    assert value(plain[1], direction, metric, "fifth of the gallery, mean of five") == pytest.approx(total / n)


@pytest.mark.parametrize(("direction", "forward"), SIDES)
@pytest.mark.parametrize("metric", MEANS)
def test_first_caption(plain: Any, direction: str, forward: bool, metric: str) -> None:
    scores, right, *_ = matrices(plain[0], forward)
    first = np.arange(PICTURES) * CAPTIONS
    cut = (first, slice(None)) if forward else (slice(None), first)
    expected = slow(scores[cut], right[cut], metric)
    assert value(plain[1], direction, metric, "first caption only") == pytest.approx(expected)


@pytest.mark.parametrize(("direction", "forward"), SIDES)
@pytest.mark.parametrize("size", [64, 128])
def test_batches_of_pairs_fill_the_last_one_up(plain: Any, direction: str, forward: bool, size: int) -> None:
    scores, _, *_ = matrices(plain[0], forward)
    first = np.arange(PICTURES) * CAPTIONS
    square = scores[first] if forward else scores[:, first]
    hits = []
    for query in range(PICTURES):
        start = min(query // size * size, PICTURES - size)
        hits.append(square[query, query] >= square[query, start : start + size].max())
    assert value(plain[1], direction, "hit@1", f"batches of {size} pairs") == pytest.approx(np.mean(hits))


def test_any_hit_against_all_positives(plain: Any) -> None:
    scores, right, *_ = matrices(plain[0], False)
    assert value(plain[1], "i2t", "hit@5", "R@5 instead of hit@5") == pytest.approx(slow(scores, right, "R@5"))
    assert value(plain[1], "i2t", "R@5", "hit@5 instead of R@5") == pytest.approx(slow(scores, right, "hit@5"))
    one = [row for row in plain[1].group("t2i", "hit@5") if row.question == "definition"]
    assert "gives the same" in one[0].reason  # one right picture per caption: both definitions agree


@pytest.mark.parametrize(("direction", "forward"), SIDES)
@pytest.mark.parametrize("depth", [100, 128])
def test_truncated_lists(plain: Any, direction: str, forward: bool, depth: int) -> None:
    scores, right, *_ = matrices(plain[0], forward)
    expected = slow(scores, right, "MRR", depth=depth)
    assert value(plain[1], direction, "MRR", f"lists cut at {depth}") == pytest.approx(expected)
    assert next(row for row in plain[1].group(direction, "hit@5") if row.question == "lists").reason


@pytest.mark.parametrize(("name", "ties"), [("ties count against (strict)", "worst"),
                                            ("ties count in favour (optimistic)", "best")])  # fmt: skip
@pytest.mark.parametrize("metric", MEANS)
def test_ties_either_way(world: Any, name: str, ties: str, metric: str) -> None:
    prepared, _, _, protocols = world
    scores, right, *_ = matrices(prepared, True)
    scores[:, 7] = scores[:, 4]  # the matrix product may round the two columns differently
    assert value(protocols, "t2i", metric, name) == pytest.approx(slow(scores, right, metric, ties=ties))


def test_copies_merged(world: Any) -> None:
    prepared, _, _, protocols = world
    scores, right, *_ = matrices(prepared, True)
    right[:, 4] |= right[:, 7]
    left = np.delete(np.arange(PICTURES), 7)
    merged = slow(scores[:, left], right[:, left], "MRR")
    assert value(protocols, "t2i", "MRR", "copies merged") == pytest.approx(merged)
    assert merged > value(protocols, "t2i", "MRR", "whole gallery")
    backwards = value(protocols, "i2t", "R@5", "copies merged")
    assert backwards == pytest.approx(slow(scores.T[left], right.T[left], "R@5"))


def test_own_item_removed_where_a_query_is_in_the_gallery(tmp_path: Path) -> None:
    arrays = paired_vectors(n_images=31, captions=2, dim=8, noise=2.5, seed=5)
    arrays["text"][3], arrays["text_image"][3] = arrays["image"][9], 1  # the query is a picture, the target another
    del arrays["caption"]
    prepared, parameters = prepared_from(tmp_path, arrays)
    worlds = worlds_of(prepared, parameters)
    assert own_items(worlds[0].direction).tolist() == [[3, 9]]
    protocols = under_protocols(worlds, n_resamples=100)
    scores, right, *_ = matrices(prepared, True)
    assert right[3, 1]
    scores[3, 9] = -2
    assert value(protocols, "t2i", "MRR", "query's own item removed") == pytest.approx(slow(scores, right, "MRR"))


def test_withheld_contents_are_no_own_items(world: Any) -> None:
    direction = world[2][0].direction
    hidden = replace(direction, query_digests=("content-1",) * len(direction.queries),
                     gallery_digests=("content-1",) * len(direction.gallery))  # fmt: skip
    assert not len(own_items(hidden))


def test_a_curve_ends_at_the_number_itself(plain: Any) -> None:
    for direction, _ in SIDES:
        points = plain[1].curves[direction]
        assert points[-1].value == pytest.approx(value(plain[1], direction, "hit@1", "whole gallery"))
        assert [point.value for point in points] == sorted((point.value for point in points), reverse=True)


def test_the_difference_is_paired_by_image(plain: Any) -> None:
    """Where both score the same queries, the interval is that of the paired difference, up to the draws."""
    prepared, protocols = plain
    (ask, _) = worlds_of(prepared, {**audit_schema().defaults, "metrics": METRICS, "n_resamples": 100})
    before, after = (PROTOCOLS[name].score(ask)["MRR"] for name in ("default", "fifth"))
    paired = paired_difference(before, after, ask.direction.clusters, n_resamples=4000)
    many = under_protocols([ask], n_resamples=4000)
    (row,) = [row for row in many.group("t2i", "MRR") if row.protocol.startswith("fifth")]
    assert row.difference == pytest.approx(paired.value)
    assert (row.difference_low, row.difference_high) == pytest.approx((paired.low, paired.high), abs=0.004)
    assert protocols.group("t2i", "MRR")[0].difference == 0


def test_medians_and_deep_metrics_are_left_out_with_reason(plain: Any, tmp_path: Path) -> None:
    assert "MedR" not in {row.metric for row in plain[1].rows}
    prepared, parameters = prepared_from(tmp_path, paired_vectors(n_images=9, captions=2))
    ranked, _ = rank(prepared, {**parameters, "metrics": ["hit@5"]})
    worlds = [asked(one.direction, one.ranks, ["hit@5", "hit@50"], forward=i == 0) for i, one in enumerate(ranked)]
    protocols = under_protocols(worlds, n_resamples=100)
    assert {row.metric for row in protocols.rows} == {"hit@5"}
    reasons = {row.protocol: row.reason for row in protocols.group("t2i", "hit@5")}
    assert reasons["fifth of the gallery, mean of five"] == "there are only 9 images to be cut into five parts"
    assert "only 9 pairs" in reasons["batches of 64 pairs"]


def test_too_small_parts_leave_metrics_out(tmp_path: Path) -> None:
    prepared, parameters = prepared_from(tmp_path, paired_vectors(n_images=20, captions=2))
    protocols = under_protocols(worlds_of(prepared, parameters), n_resamples=100)
    reasons = {row.metric: row.reason for row in protocols.rows
               if row.direction == "t2i" and row.protocol.startswith("fifth")}  # fmt: skip
    assert reasons["hit@5"] == "it leaves fewer items than the metric looks at"  # 4 pictures in a fifth


def turning_systems() -> tuple[np.ndarray, list[np.ndarray]]:
    """Two systems: A puts the right picture behind one far away, B behind one nearby in the order of the data."""
    n, rng = 200, np.random.default_rng(0)
    images = np.eye(n)
    texts = []
    for far in (True, False):
        made = np.zeros((2 * n, n))
        for row in range(2 * n):
            own, lost = row // 2, rng.random() < (0.5 if far else 0.3)
            made[row, own] = 1.0
            if lost:
                made[row, (own + n // 2 if far else own // 40 * 40 + (own + 1) % 40) % n] = 2.0
        texts.append(made)
    return images, texts


def test_the_order_of_two_systems_can_turn_with_the_protocol(tmp_path: Path) -> None:
    images, (first, second) = turning_systems()
    arrays = {"image": images, "text": first, "text_image": np.repeat(np.arange(len(images)), 2)}
    prepared, parameters = prepared_from(tmp_path, {name: a.astype(np.float32) if name != "text_image" else a
                                                    for name, a in arrays.items()})  # fmt: skip
    rival = replace(prepared, texts=Embeddings(second.astype(np.float32), prepared.texts.ids, "text"))
    protocols = under_protocols(
        worlds_of(prepared, parameters), worlds_of(rival, parameters), second="B", n_resamples=200
    )
    rows = {row.protocol: row for row in protocols.group("t2i", "hit@1")}
    assert rows["whole gallery"].leader == 1
    assert rows["whole gallery"].second == pytest.approx(np.mean(np.argmax(second, 1) == np.repeat(np.arange(200), 2)))
    assert rows["fifth of the gallery, mean of five"].leader == -1
    findings = {one.name: one for one in protocols.findings()}
    assert findings["t2i/order of two systems"].verdict == "problem"
    assert "fifth of the gallery" in findings["t2i/order of two systems"].advice


@pytest.mark.parametrize("flat_first", [True, False])
def test_ties_of_one_system_alone_are_held_against_the_other(tmp_path: Path, flat_first: bool) -> None:
    arrays = paired_vectors(n_images=20, captions=1, dim=8, noise=1.0, seed=2)
    prepared, parameters = prepared_from(tmp_path, arrays)
    flat = replace(prepared, texts=replace(prepared.texts, vectors=np.ones_like(arrays["text"])))
    constant = replace(flat, images=replace(prepared.images, vectors=np.ones_like(arrays["image"])))
    systems = [worlds_of(one, parameters) for one in ((constant, prepared) if flat_first else (prepared, constant))]
    protocols = under_protocols(*systems, second="B", n_resamples=100)
    rows = {row.protocol: row for row in protocols.group("t2i", "hit@1")}
    usual, favour = rows["whole gallery"], rows["ties count in favour (optimistic)"]
    assert rows["ties count against (strict)"].reason == ""
    kept, moved = ("second", "value") if flat_first else ("value", "second")
    assert getattr(favour, kept) == getattr(usual, kept)
    assert (getattr(usual, moved), getattr(favour, moved)) == (pytest.approx(1 / 20), 1)
    assert favour.leader == -usual.leader != 0
    assert {one.name: one for one in protocols.findings()}["t2i/order of two systems"].verdict == "problem"


def test_one_cluster_has_no_interval_to_hold_a_move_against(tmp_path: Path) -> None:
    prepared, parameters = prepared_from(tmp_path, paired_vectors(n_images=1, captions=3, dim=4))
    found = under_protocols(worlds_of(prepared, parameters), n_resamples=100).findings()
    assert {one.verdict for one in found} == {"not measurable"}
    assert all("one cluster" in one.advice for one in found)


def test_a_clear_order_that_stays_is_ok(plain: Any) -> None:
    prepared, _ = plain
    parameters = {**audit_schema().defaults, "metrics": METRICS, "n_resamples": 100}
    noise = np.random.default_rng(2).normal(size=prepared.texts.vectors.shape).astype(np.float32)
    rival = replace(prepared, texts=replace(prepared.texts, vectors=noise))
    protocols = under_protocols(
        worlds_of(prepared, parameters), worlds_of(rival, parameters), second="noise", n_resamples=100
    )
    findings = {one.name: one for one in protocols.findings()}
    assert findings["t2i/order of two systems"].verdict == "ok"
    assert findings["t2i/hit@1 by protocol"].verdict == "look"


def test_nothing_right_and_constant_scores(tmp_path: Path) -> None:
    arrays = paired_vectors(n_images=12, captions=2)
    arrays["text"] = np.ones_like(arrays["text"])
    prepared, parameters = prepared_from(tmp_path, arrays)
    protocols = under_protocols(worlds_of(prepared, parameters), n_resamples=100)
    by_name = {row.protocol: row.value for row in protocols.group("i2t", "hit@1") if not row.reason}
    assert by_name["whole gallery"] == pytest.approx(2 / 24)  # every caption has one score for a picture: chance
    assert by_name["ties count against (strict)"] == 0
    assert by_name["ties count in favour (optimistic)"] == 1
    direction = worlds_of(prepared, parameters)[0].direction
    empty = Relevance.from_pairs([], [], n_queries=24, n_gallery=12)
    from workbench.search import RankPositives, scan

    (ranks,) = scan(direction.queries.vectors, direction.gallery.vectors, [RankPositives(empty)])
    nothing = under_protocols([asked(replace(direction, relevance=empty), ranks, ["hit@1"], forward=True)])
    assert {row.reason for row in nothing.rows} == {"no query keeps a right item"}
    assert nothing.findings()[0].verdict == "not measurable"


def test_other_readings() -> None:
    assert str(other_reading(parse_metric("nDCG@10"))) == "nDCG(gain=exp)@10"
    assert other_reading(parse_metric("MRR")) is None
    assert other_reading(parse_metric("AP")) is None
