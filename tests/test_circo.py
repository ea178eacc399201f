"""CIRCO: the annotations as published, mAP@k by a loop written from its definition, files of lists read strictly."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workbench.datasets.circo import (
    ASPECTS,
    CUTOFFS,
    Circo,
    CircoQuery,
    as_submission,
    check_submission,
    read_circo,
    read_submission,
    score_submission,
)
from workbench.search import RankPositives, TopK, scan
from workbench.types import RankedLists

Shared = Callable[[str], Path]
GALLERY = range(100, 180)


def entry(number: int = 0, **changes: Any) -> dict[str, Any]:
    given = {
        "id": number, "reference_img_id": 100 + number, "relative_caption": "is red", "shared_concept": "a car",
        "target_img_id": 110, "gt_img_ids": [110, 111], "semantic_aspects": ["addition"],
    }  # fmt: skip
    return {name: value for name, value in {**given, **changes}.items() if value is not None}


def world(n_queries: int = 30, seed: int = 0) -> tuple[Circo, dict[str, list[int]]]:
    """Queries with 1 to 14 right images, and lists of 50 with the right ones sown in at random."""
    rng = np.random.default_rng(seed)
    queries, lists = [], {}
    for number in range(n_queries):
        drawn = rng.permutation(GALLERY).tolist()
        reference, right = drawn[0], drawn[1 : 2 + int(rng.integers(14))]
        aspects = tuple(name for name in ASPECTS[:-1] if rng.random() < 0.4)
        queries.append(CircoQuery(number, reference, "is red", "a car", tuple(right), aspects))
        lists[str(number)] = rng.permutation(GALLERY).tolist()[:50]
    return Circo("val", tuple(queries)), lists


def average_precision(images: Sequence[int], right: Sequence[int], k: int) -> float:
    """1 / min(R, k) sum over the first k places of the precision there, where the image is right."""
    found, total = 0, 0.0
    for place, image in enumerate(images[:k], start=1):
        if image in right:
            found += 1
            total += found / place
    return total / min(len(right), k)


# --- annotations -----------------------------------------------------------------------------------------------------


def test_published_queries(shared: Shared) -> None:
    val, test = (read_circo(shared(f"data/cir/circo_{split}.json")) for split in ("val", "test"))
    assert (len(val), len(test)) == (220, 800)
    assert (val.judged, test.judged) == (True, False)
    raw = json.loads(shared("data/cir/circo_val.json").read_text("utf-8"))
    for one, given in zip(val.queries, sorted(raw, key=lambda given: given["id"]), strict=True):
        assert (one.id, one.reference, one.caption) == (
            given["id"], given["reference_img_id"], given["relative_caption"],
        )  # fmt: skip
        assert (one.concept, list(one.right), one.target) == (
            given["shared_concept"], given["gt_img_ids"], given["target_img_id"],
        )  # fmt: skip
        assert set(one.aspects) <= set(ASPECTS)
        assert one.reference not in one.right
    assert sum(len(one.right) for one in val.queries) == 916
    assert {query.target for query in test.queries} == {None}
    assert [query.id for query in test.queries] == list(range(800))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "must be a JSON list of queries, as val.json of CIRCO; got dict"),
        ([], "got an empty list"),
        ([3], "entry 1 must be an object; got int"),
        ([entry(), entry(1, id=None)], "entry 2 needs a whole number 'id'; got 'None'"),
        ([entry(id="0")], "entry 1 needs a whole number 'id'; got '0'"),
        ([entry(id=True)], "needs a whole number 'id'"),
        ([entry(relative_caption=4)], "needs a text 'relative_caption'; got '4'"),
        ([entry(gt_img_ids="110")], "gt_img_ids must be a list of whole numbers"),
        ([entry(gt_img_ids=[110, 1.5])], "gt_img_ids must be a list of whole numbers"),
        ([entry(semantic_aspects=[1])], "semantic_aspects must be a list of texts"),
        ([entry(gt_img_ids=[110, 110])], "name an image twice"),
        ([entry(gt_img_ids=[110, 100])], "or the reference image itself"),
        ([entry(gt_img_ids=[111, 110])], "target_img_id is not the first of gt_img_ids"),
        ([entry(gt_img_ids=None)], "target_img_id is not the first of gt_img_ids"),
        ([entry(), entry()], "more than one query 0"),
    ],
)
def test_annotations_that_cannot_be_read(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "val.json"
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(ValueError, match=message):
        read_circo(path)


def test_a_split_is_judged_or_it_is_not(tmp_path: Path) -> None:
    given = [{"id": n, "reference_img_id": 7, "relative_caption": "is red", "shared_concept": "car"} for n in (3, 4)]
    given[0] |= {"gt_img_ids": [8, 9], "target_img_id": 8}
    (tmp_path / "val.json").write_text(json.dumps(given))
    with pytest.raises(ValueError, match=r"1 of 2 queries have no right image .*query 4"):
        read_circo(tmp_path / "val.json")


def test_queries_stand_in_the_order_of_their_ids(tmp_path: Path) -> None:
    path = tmp_path / "val.json.gz"
    path.write_bytes(gzip.compress(json.dumps([entry(2), entry(0), entry(1)]).encode()))
    assert [query.id for query in read_circo(path).queries] == [0, 1, 2]


# --- scores ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_scores_by_the_definition(seed: int) -> None:
    circo, lists = world(seed=seed)
    found = score_submission(lists, circo)
    for k in CUTOFFS:
        precise = [average_precision(lists[str(one.id)], one.right, k) for one in circo.queries]
        assert found.mean_ap[k] == pytest.approx(np.mean(precise), abs=1e-12)
        hits = [one.target in lists[str(one.id)][:k] for one in circo.queries]
        assert found.recall[k] == pytest.approx(np.mean(hits), abs=1e-12)
    for name in ASPECTS[:-1]:
        mine = [average_precision(lists[str(one.id)], one.right, 10) for one in circo.queries if name in one.aspects]
        assert found.by_aspect[name] == pytest.approx(np.mean(mine), abs=1e-12)
        assert found.n_by_aspect[name] == len(mine)
    assert np.isnan(found.by_aspect[ASPECTS[-1]])  # no query has it
    assert found.n_by_aspect[ASPECTS[-1]] == 0
    assert 0 < found.mean_ap[5] < found.recall[50] < 1
    assert list(found.flat())[:2] == ["AP(norm=min)@5", "AP(norm=min)@10"]
    assert found.table().loc["target hit@50", "queries"] == 30


def test_the_order_of_a_perfect_list_and_of_an_empty_one() -> None:
    circo, _ = world()
    perfect = {one.id: [*one.right, *(i for i in range(1000, 1050))][:50] for one in circo.queries}
    found = score_submission(perfect, circo)  # keys may be numbers
    assert set(found.mean_ap.values()) == set(found.recall.values()) == {1.0}
    nothing = score_submission({one.id: list(range(1000, 1050)) for one in circo.queries}, circo)
    assert set(nothing.mean_ap.values()) == set(nothing.recall.values()) == {0.0}


def test_planted_lists_on_the_published_queries(shared: Shared) -> None:
    circo = read_circo(shared("data/cir/circo_val.json"))
    rng = np.random.default_rng(0)
    lists = {}
    for one in circo.queries:
        images = [*one.right, *(10**7 + rng.permutation(200)[:60]).tolist()]
        lists[str(one.id)] = rng.permutation(images).tolist()[:50]
    found = score_submission(lists, circo)
    for k in CUTOFFS:
        precise = [average_precision(lists[str(one.id)], one.right, k) for one in circo.queries]
        assert found.mean_ap[k] == pytest.approx(np.mean(precise), abs=1e-12)
    assert found.n_by_aspect["negation"] == 21
    assert found.n_by_aspect["statement_with_conjunction"] == 164


def test_the_test_split_is_scored_by_the_server_alone(shared: Shared) -> None:
    test = read_circo(shared("data/cir/circo_test.json"))
    with pytest.raises(ValueError, match="are not public; send the file to"):
        score_submission(read_submission(shared("data/cir/circo_submission_test.json.gz")), test)


# --- the reference image ---------------------------------------------------------------------------------------------


def test_the_reference_is_found_by_id_and_left_out_on_request() -> None:
    """A search by it alone finds it first. Officially it stays in, so each right image stands one place lower."""
    circo, _ = world(n_queries=7)
    gallery = np.random.default_rng(3).permutation(GALLERY).tolist()
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(80, 8))
    queries = vectors[[gallery.index(one.reference) for one in circo.queries]]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    out, relevance = circo.references(gallery), circo.relevance(gallery)
    kept, left, where, without = scan(
        queries,
        vectors,
        [TopK(50), TopK(50, exclude=out), RankPositives(relevance), RankPositives(relevance, exclude=out)],
    )
    for row, one in enumerate(circo.queries):
        assert gallery[kept.indices[row, 0]] == one.reference
        assert one.reference not in [gallery[item] for item in left.indices[row]]
        assert {gallery[item] for item in relevance.row(row)[0]} == set(one.right)
    assert (where.better - without.better).tolist() == [1] * len(where.items)
    sent = as_submission(RankedLists(np.arange(8) * 50, left.indices.ravel(), left.scores.ravel(), 80), circo, gallery)
    assert check_submission(sent, circo, gallery=gallery).remarks == ()


def test_images_that_are_not_in_the_gallery() -> None:
    circo, _ = world(n_queries=3)
    with pytest.raises(ValueError, match=r"right images of val are not in the gallery of 2, the first are \["):
        circo.relevance([100, 101])
    with pytest.raises(ValueError, match=r"\d reference images of val are not in the gallery of 1"):
        circo.references([1])
    with pytest.raises(ValueError, match="names 1 images twice"):
        circo.relevance([*GALLERY, 100])


# --- files of lists --------------------------------------------------------------------------------------------------


def test_the_example_submission(shared: Shared) -> None:
    test = read_circo(shared("data/cir/circo_test.json"))
    submission = read_submission(shared("data/cir/circo_submission_test.json.gz"))
    found = check_submission(submission, test)
    assert found.ok
    assert (found.problems, found.n_lists) == ((), 800)
    references = {str(one.id): one.reference for one in test.queries}
    own = sorted((int(name) for name, images in submission.items() if references[name] in images))
    assert len(own) == found.n_references == 10  # the authors' own lists name it: it is allowed
    assert [int(remark.split()[1]) for remark in found.remarks] == own
    spoilt = check_submission(submission, test, gallery=set(submission["0"]))
    assert not spoilt.ok
    assert spoilt.problems[0].startswith("query 1 place ")


def changed(**lists: Any) -> dict[str, Any]:
    """Sound lists of three queries, 0 to 2, with some replaced; None takes one away."""
    sound = {str(number): list(range(1000, 1050)) for number in range(3)}
    merged = {**sound, **{name.removeprefix("q"): images for name, images in lists.items()}}
    return {name: images for name, images in merged.items() if images is not None}


@pytest.mark.parametrize(
    ("lists", "problems"),
    [
        ({}, ()),
        ({"q1": None}, ("1 of 3 queries have no list: 1",)),
        ({"q7": [1]}, ("1 lists are for no query of val: 7",)),
        ({"q1": list(range(1000, 1049))}, ("query 1: 49 images; exactly 50 are sent",)),
        ({"q1": list(range(1000, 1051))}, ("query 1: 51 images; exactly 50 are sent",)),
        ({"q1": []}, ("query 1: 0 images; exactly 50 are sent",)),
        ({"q0": "1000"}, ("query 0: a list of image ids is needed; got str",)),
        ({"q0": {"1000": 1}}, ("query 0: a list of image ids is needed; got dict",)),
        ({"q2": [*range(1000, 1049), "1049"]}, ("query 2 place 50: '1049' is no whole number",)),
        ({"q2": [1.5, *range(1000, 1049)]}, ("query 2 place 1: '1.5' is no whole number",)),
        ({"q2": [True, *range(1000, 1049)]}, ("query 2 place 1: 'True' is no whole number",)),
        ({"q2": [None, *range(1000, 1049)]}, ("query 2 place 1: 'None' is no whole number",)),
        (
            {"q2": [1000, *range(1000, 1048), 1000]},
            ("query 2 place 2: image 1000 is already at place 1", "query 2 place 50: image 1000 is already at place 1"),
        ),
        ({"q0": [5, *range(1000, 1049)]}, ("query 0 place 1: image 5 is not in the gallery",)),
    ],
)
def test_every_problem_says_query_and_place(lists: dict[str, Any], problems: tuple[str, ...]) -> None:
    circo, _ = world(n_queries=3)
    found = check_submission(changed(**lists), circo, gallery=range(1000, 1051))
    assert found.problems == problems
    assert found.ok == (not problems)
    assert found.remarks == ()


def test_a_reference_is_a_remark() -> None:
    circo, _ = world(n_queries=3)
    reference = circo.queries[1].reference
    found = check_submission(changed(q1=[*range(1000, 1049), reference]), circo)
    assert found.ok
    assert found.remarks == (
        f"query 1 place 50: image {reference} is the query's own reference, which is never right",
    )  # fmt: skip
    assert found.n_references == 1


@pytest.mark.parametrize("submission", [[1], "x", 3, None])
def test_what_is_no_submission(submission: Any) -> None:
    found = check_submission(submission, world(n_queries=3)[0])
    assert found.problems == (
        f"a submission is one JSON object {{query id: [image ids]}}; got {type(submission).__name__}",
    )  # fmt: skip


def test_a_right_image_twice_is_not_scored_twice() -> None:
    """The official sum would give 1.5 for the only right image at places 1 and 2."""
    circo, _ = world(n_queries=1)
    circo = Circo("val", (replace(circo.queries[0], right=(110,)),))
    doubled = {"0": [110, 110, *range(1000, 1048)]}
    with pytest.raises(ValueError, match="1 problems: query 0 place 2: image 110 is already at place 1"):
        score_submission(doubled, circo)
    many = {"0": [1000] * 50}
    with pytest.raises(ValueError, match=r"49 problems: .*; and 44 more"):
        score_submission(many, circo)


def test_what_is_sent_is_what_was_found() -> None:
    circo, _ = world(n_queries=3)
    rng = np.random.default_rng(0)
    rows = [rng.permutation(80)[:length] for length in (50, 60, 55)]
    lists = RankedLists(
        np.concatenate([[0], np.cumsum([len(row) for row in rows])]), np.concatenate(rows),
        np.concatenate([-np.arange(len(row), dtype=float) for row in rows]), 80,
    )  # fmt: skip
    sent = as_submission(lists, circo, list(GALLERY))
    assert sent == {str(number): (100 + row[:50]).tolist() for number, row in enumerate(rows)}
    assert check_submission(json.loads(json.dumps(sent)), circo, gallery=GALLERY).ok
    with pytest.raises(ValueError, match="2 lists are shorter than 56, the first is that of query 0"):
        as_submission(lists, circo, list(GALLERY), depth=56)
    with pytest.raises(ValueError, match="for 3 queries and a gallery of 79"):
        as_submission(lists, circo, list(GALLERY)[1:])


def test_a_shorter_depth_has_fewer_cutoffs() -> None:
    circo, lists = world()
    found = score_submission({name: images[:8] for name, images in lists.items()}, circo, depth=8)
    assert list(found.mean_ap) == [5]
    with pytest.raises(ValueError, match="8 images; exactly 50"):
        score_submission({name: images[:8] for name, images in lists.items()}, circo)
