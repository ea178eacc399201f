"""Templates of conditional similarity: true by the scenes themselves; ties, shortcuts, mined triplets."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from workbench.compose import Mixing
from workbench.datasets.scenes.language import caption
from workbench.datasets.scenes.templates import (
    TASKS,
    Templates,
    evaluate_scores,
    evaluate_templates,
    make_templates,
    shortcut_report,
)
from workbench.datasets.scenes.triplets import Edge, caption_graph, mine_triplets
from workbench.datasets.scenes.world import Dice, Mention, Scene, Statement, sample_in_split, sample_statement


@lru_cache
def pool(n: int = 700) -> tuple[Scene, ...]:
    dice = Dice(11)
    many = [sample_in_split(dice, "test", objects=(2, 4)) for _ in range(n - 200)]
    return tuple([sample_in_split(dice, "test", objects=(1, 1)) for _ in range(200)] + many)


@lru_cache
def made(task: str) -> Templates:
    return make_templates(pool(), task, n_templates=40, seed=2)  # type: ignore[arg-type]


def keeps(task: str, reference: Scene, other: Scene) -> set[object]:
    """What of the reference is kept: shapes of it that the other one shows, in the same place for the object tasks."""
    shared = {o.shape for o in reference.objects} & {o.shape for o in other.objects}
    return shared if task.endswith("attribute") or reference.background == other.background else set()


def meets(task: str, reference: Scene, condition: str, other: Scene) -> bool:
    """Read the condition as a person would."""
    if task == "focus/attribute":
        return bool(getattr(reference.objects[0], condition) == getattr(other.objects[0], condition))
    words = condition.split()
    if task == "change/attribute":
        return words[1] in (other.objects[0].color, other.objects[0].texture)
    return any((o.color, o.shape) == (words[1], words[2]) for o in other.objects)


@pytest.mark.parametrize("task", TASKS)
def test_galleries_hold_what_they_say(task: str) -> None:
    asked = made(task)
    for row in range(len(asked)):
        reference, condition = pool()[asked.reference[row]], asked.conditions[row]
        kinds = [[pool()[i] for i in asked.gallery[row][asked.kinds[row] == kind]] for kind in range(4)]
        (target,), image, text, fillers = kinds
        assert pool()[asked.gallery[row, asked.target[row]]] is target
        assert (len(image), len(text), len(fillers)) == (4, 4, 6)
        asked_for = condition.split()[-1] if task.endswith("object") else ""
        kept = keeps(task, reference, target) - {asked_for}
        assert kept
        assert meets(task, reference, condition, target)
        assert any(all(shape in keeps(task, reference, other) for other in image) for shape in kept)
        assert not any(meets(task, reference, condition, other) for other in image)
        assert all(meets(task, reference, condition, other) for other in text)
        assert any(all(shape not in keeps(task, reference, other) for other in text) for shape in kept)
        assert not any(meets(task, reference, condition, other) for other in fillers)
        own = meets(task, reference, condition, reference)
        assert own == task.startswith("focus")


@pytest.mark.parametrize("task", TASKS)
def test_image_distractors_are_as_like_the_reference_as_the_target(task: str) -> None:
    def likeness(one: Scene, other: Scene) -> int:
        count = int(one.background == other.background)
        for shape in {o.shape for o in one.objects}:
            mine, theirs = ([o for o in s.objects if o.shape == shape] for s in (one, other))
            count += min(len(mine), len(theirs))
            for name in ("color", "texture", "size"):
                for value in {getattr(o, name) for o in mine}:
                    count += min(sum(getattr(o, name) == value for o in side) for side in (mine, theirs))
        return count

    asked = made(task)
    for row, reference in enumerate(asked.reference):
        target = likeness(pool()[reference], pool()[asked.gallery[row, asked.target[row]]])
        image = asked.gallery[row][asked.kinds[row] == 1]
        assert min(likeness(pool()[reference], pool()[i]) for i in image) >= target


@pytest.mark.parametrize("task", TASKS)
def test_no_scene_twice_and_the_target_at_any_place(task: str) -> None:
    asked = made(task)
    for row in range(len(asked)):
        inside = [*asked.gallery[row].tolist(), *asked.spare[row].tolist(), int(asked.reference[row])]
        assert len(set(inside)) == len(inside)
    assert len(set(asked.target.tolist())) > 8
    again = make_templates(pool(), task, n_templates=40, seed=2)  # type: ignore[arg-type]
    np.testing.assert_array_equal(again.gallery, asked.gallery)
    assert again.conditions == asked.conditions
    assert make_templates(pool(), task, n_templates=40, seed=3).conditions != asked.conditions  # type: ignore[arg-type]


def test_without_a_kind_its_places_hold_fillers_and_nothing_else_changes() -> None:
    asked = made("change/object")
    bare = asked.without("image distractor", "text distractor")
    assert (np.sort(bare.kinds, axis=1) == [0] + [3] * 14).all()
    stays = np.isin(asked.kinds, (0, 3))
    np.testing.assert_array_equal(bare.gallery[stays], asked.gallery[stays])
    for row in range(len(bare)):
        reference = pool()[bare.reference[row]]
        assert len(set(bare.gallery[row].tolist())) == 15
        others = np.delete(bare.gallery[row], bare.target[row])
        assert not any(meets(bare.task, reference, bare.conditions[row], pool()[i]) for i in others)
    swapped = asked.without("filler")
    np.testing.assert_array_equal(swapped.kinds, asked.kinds)
    assert ((swapped.gallery != asked.gallery).sum(axis=1) == 4).all()
    assert (asked.kinds[:, :] == made("change/object").kinds).all()
    with pytest.raises(ValueError, match="one can do without"):
        asked.without("target")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "focus"}, "task must be one of"),
        ({"n_gallery": 12}, "13 places or more"),
        ({"n_distractors": 0}, "has no room"),
        ({"scenes": pool()[:30]}, "30 scenes give"),
        ({"scenes": ()}, "templates need scenes"),
    ],
)
def test_errors(change: dict, message: str) -> None:
    shown = {"scenes": pool(), "task": "change/object", **change}
    with pytest.raises(ValueError, match=message):
        make_templates(shown.pop("scenes"), shown.pop("task"), **shown)


def test_evaluation_against_a_loop_with_ties() -> None:
    rng = np.random.default_rng(5)
    queries = rng.integers(-1, 2, (60, 3)) + np.array([2.0, 0, 0])
    gallery = rng.integers(-1, 2, (60, 6, 3)) + np.array([2.0, 0, 0])
    gallery[:, 3] = gallery[:, 1]
    target = rng.integers(0, 6, 60)
    found = evaluate_templates(queries, gallery, target)
    assert list(found) == ["hit@1", "hit@2", "hit@3"]
    unit = gallery / np.linalg.norm(gallery, axis=2, keepdims=True)
    for row in range(60):
        scores = [round(float(v @ queries[row]), 6) for v in unit[row]]
        own = scores[target[row]]
        better, tied = sum(s > own for s in scores), sum(s == own for s in scores)
        for k in (1, 2, 3):
            expected = np.mean([better + place < k for place in range(tied)])
            assert found[f"hit@{k}"].expected[row] == pytest.approx(expected, abs=1e-9)


def test_constant_scorers_get_chance_and_a_stable_sort_makes_them_perfect() -> None:
    scores, first = np.zeros((7, 15)), np.zeros(7, int)
    assert (np.argsort(-scores, axis=1, kind="stable")[:, 0] == first).all()
    found = evaluate_scores(scores, first)
    for k in (1, 2, 3):
        assert found[f"hit@{k}"].expected.mean() == pytest.approx(k / 15, abs=1e-12)
    assert (found["hit@1"].worst.mean(), found["hit@1"].best.mean()) == (0, 1)


def test_errors_of_evaluation() -> None:
    with pytest.raises(ValueError, match="of the same T"):
        evaluate_templates(np.ones((2, 3)), np.ones((4, 5, 3)), [0, 0])
    with pytest.raises(ValueError, match="one target each"):
        evaluate_scores(np.ones((2, 3)), [0])
    with pytest.raises(ValueError, match=r"must lie in 0\.\.2"):
        evaluate_scores(np.ones((2, 3)), [0, 3])
    with pytest.raises(ValueError, match="NaN"):
        evaluate_scores([[0.0, np.nan]], [0])
    with pytest.raises(ValueError, match="length zero"):
        evaluate_templates([[0.0, 0.0]], np.ones((1, 3, 2)), [0])


@pytest.mark.parametrize("task", ["change/attribute", "change/object"])
def test_the_shortcuts_are_blocked_in_a_world_where_both_halves_are_seen_perfectly(task: str) -> None:
    """A vector of everything the scene shows, and a condition that is read right: each half alone has to guess."""
    asked = made(task)
    names = sorted({(o.color, o.shape) for s in pool() for o in s.objects})
    words = sorted({w for s in pool() for o in s.objects for w in (o.color, o.texture, o.shape, s.background)})
    rows = np.zeros((len(pool()), len(names) + len(words)))
    for row, scene in enumerate(pool()):
        for o in scene.objects:
            rows[row, names.index((o.color, o.shape))] = 1
            for w in (o.color, o.texture, o.shape, scene.background):
                rows[row, len(names) + words.index(w)] = 1
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    said = np.zeros((len(asked), rows.shape[1]))
    for row, condition in enumerate(asked.conditions):
        color, shape = condition.split()[1:3]
        if task == "change/object":
            said[row, names.index((color, shape))] = 1
        else:
            said[row, len(names) + words.index(color)] = 1
    vectors = rows[asked.reference], said
    report = shortcut_report(*vectors, rows[asked.gallery], asked.target)
    bare = asked.without("image distractor", "text distractor")
    easy = shortcut_report(*vectors, rows[bare.gallery], bare.target)
    assert report.image_only < 0.25
    assert report.text_only < 0.30
    assert report.average > max(report.image_only, report.text_only) + 0.15
    assert easy.text_only == 1
    assert easy.image_only > 2 * report.image_only
    assert report.constant == pytest.approx(report.chance) == 1 / 15
    assert [row["query"] for row in report.table()][:2] == ["image only", "text only"]
    heavy = shortcut_report(*vectors, rows[asked.gallery], asked.target, mixing=Mixing(0.0))
    assert heavy.average == report.image_only


# --------------------------------------------------------------------------------------------------- mined triplets


def said(n: int = 300) -> tuple[list[Statement], list[Scene], list[int]]:
    dice = Dice(4)
    scenes = [sample_in_split(dice, "train") for _ in range(n)]
    owner = [image for image in range(n) for _ in range(2)]
    return [sample_statement(dice, scenes[image]) for image in owner], scenes, owner


def test_a_caption_becomes_the_edges_it_states() -> None:
    whole = Statement((Mention("star", "red"), Mention("moon", count=2), Mention(color="blue")), "pink", "above")
    assert [edge[1:] for edge in caption_graph([whole], [3])] == [
        ("star", "above", "two moons"),
        ("star", "on", "a pink background"),
        ("moon", "on", "a pink background"),
    ]
    assert caption_graph([Statement((Mention("star"), Mention("cross")))], [0]) == (
        Edge(0, "star", "with", "a cross"),
        Edge(0, "cross", "with", "a star"),
    )
    with pytest.raises(ValueError, match="one image for each"):
        caption_graph([whole], [])


def test_every_mined_triplet_is_true_by_the_captions() -> None:
    statements, scenes, owner = said()
    edges = caption_graph(statements, owner)
    mined = mine_triplets(edges, n=500, seed=1)
    assert len(mined) == 500
    by_image: dict[int, list[Edge]] = {}
    for edge in edges:
        by_image.setdefault(edge.image, []).append(edge)
    for reference, condition, target in zip(mined.reference, mined.conditions, mined.target, strict=True):
        assert reference != target
        told = [e for e in by_image[target] if f"{e.predicate} {e.object}" == condition]
        assert any(e.subject == o.subject and e.object != o.object for e in told for o in by_image[reference])
        shapes = {o.shape for o in scenes[reference].objects} & {o.shape for o in scenes[target].objects}
        assert any(e.subject in shapes for e in told)
    again = mine_triplets(edges, n=500, seed=1)
    np.testing.assert_array_equal(again.target, mined.target)


def test_subjects_need_images_and_objects_and_are_drawn_by_their_images() -> None:
    edges = [Edge(i, "often", "on", f"place {i % 3}") for i in range(30)]
    edges += [Edge(100 + i, "seldom", "on", f"place {i % 3}") for i in range(6)]
    edges += [Edge(200 + i, "few images", "on", f"place {i % 3}") for i in range(4)]
    edges += [Edge(300 + i, "one object", "on", "place 0") for i in range(9)]
    mined = mine_triplets(edges, n=2000, seed=0)
    hundred = np.bincount(mined.target // 100, minlength=4)
    assert hundred[2:].sum() == 0
    assert hundred[0] / 2000 == pytest.approx(30 / 36, abs=0.03)
    with pytest.raises(ValueError, match="no subject has 5 images and 2 objects"):
        mine_triplets(edges[-9:], n=1)


def test_what_is_not_concrete_is_left_out_and_running_dry_is_an_error() -> None:
    edges = [Edge(i, "star", "with", name) for i in range(10) for name in ("a moon", "a hope", "a cross")]
    rating = {"star": 5.0, "a moon": 5.0, "a cross": 4.9, "a hope": 1.0}
    mined = mine_triplets(edges, n=200, concreteness=rating)
    assert set(mined.conditions) == {"with a moon", "with a cross"}
    assert "with a hope" in mine_triplets(edges, n=200).conditions
    with pytest.raises(ValueError, match="a thousand draws gave no pair for 'star'"):
        mine_triplets(edges, n=1, concreteness={"star": 1.0})


# ------------------------------------------------------------------------------------------------ the published files


@pytest.mark.parametrize(("name", "n_conditions", "listed_again"), [("change", 109, 1), ("focus", 97, 0)])
def test_counted_facts_of_the_published_templates(
    shared: Callable[[str], Path], name: str, n_conditions: int, listed_again: int
) -> None:
    with gzip.open(shared(f"data/cir/genecis_{name}_object.json.gz")) as file:
        templates = json.load(file)
    galleries = [[t["target"]["val_image_id"], *(g["val_image_id"] for g in t["gallery"])] for t in templates]
    assert len(templates) == 1960
    assert {len(gallery) for gallery in galleries} == {15}
    assert len({t["condition"] for t in templates}) == n_conditions
    assert sum(gallery[0] in gallery[1:] for gallery in galleries) == listed_again
    assert not any(t["reference"]["val_image_id"] in gallery for t, gallery in zip(templates, galleries, strict=True))
    constant, first = np.zeros((1960, 15)), np.zeros(1960, int)
    assert (np.argsort(-constant, axis=1, kind="stable")[:, 0] == 0).mean() == 1.0
    assert evaluate_scores(constant, first)["hit@1"].expected.mean() == pytest.approx(1 / 15, abs=1e-12)
    assert round(100 / 15, 1) == 6.7


def test_conditions_are_captions_of_what_is_asked() -> None:
    for condition in made("change/object").conditions:
        color, shape = condition.split()[1:]
        assert caption(Statement((Mention(shape, color),))) == condition
    assert set(made("focus/attribute").conditions) == {"color", "texture"}
