"""Documents: nothing overlaps, questions are answered where they say and nowhere else, channels lose what they say."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.datasets.scenes.document_channels import (
    described_text,
    layout_candidates,
    misread,
    ocr_text,
    page_pixels,
)
from workbench.datasets.scenes.documents import (
    PAGE_HEIGHT,
    PAGE_WIDTH,
    SUBJECTS,
    Documents,
    Domain,
    make_documents,
)
from workbench.datasets.scenes.render import render
from workbench.datasets.scenes.world import Dice
from workbench.metrics.areas import union_area


@pytest.fixture(scope="module")
def world() -> Documents:
    domains = [Domain("reports", 6, 8), Domain("news", 1, 20, misread=0.3)]
    return make_documents(domains=domains, pages=(4, 9), seed=3)


def test_blocks_lie_on_the_page_apart_from_each_other(world: Documents) -> None:
    for document in world.documents:
        boxes, pages = document.boxes, document.block_page
        assert (np.diff(pages) >= 0).all()
        assert set(pages) == set(range(document.n_pages))
        assert boxes.min() >= 0
        assert boxes[:, 2].max() <= PAGE_WIDTH
        assert boxes[:, 3].max() <= PAGE_HEIGHT
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        assert (areas > 0).all()
        assert union_area(boxes, pages) == areas.sum()


def test_a_fact_stands_in_one_place_and_its_question_names_that_place(world: Documents) -> None:
    back = {other: subject for subject, other in SUBJECTS.items()}
    for question in world.questions:
        document = world.documents[question.document]
        where = {fact[:3]: place for place, block in enumerate(document.blocks) for fact in block.facts}
        assert len(where) == sum(len(block.facts) for block in document.blocks)
        if question.kind == "figure":
            continue
        asked = question.text.removeprefix("What is given for ").removesuffix("?").split(" and ")
        found = set()
        for part in asked:
            _, subject, _, name, _, year = part.split()
            found.add(where[name, back.get(subject, subject), int(year)])
        assert tuple(sorted(found)) == question.evidence
        kind = "paragraph" if question.kind == "text" else "table"
        assert {document.blocks[place].kind for place in question.evidence} == {kind}


def test_figure_questions_are_answered_by_every_figure_they_are_true_of(world: Documents) -> None:
    seen = 0
    for row, question in enumerate(world.questions):
        if question.statement is None:
            continue
        seen += 1
        for number, document in enumerate(world.documents):
            true = [i for i, b in enumerate(document.blocks) if b.scene and question.statement.true_of(b.scene)]
            pages = {int(world.page_start[number]) + document.blocks[i].page for i in true}
            listed = {int(p) for p in world.anywhere.row(row)[0] if world.page_start[number] <= p} & {
                int(p) for p in world.anywhere.row(row)[0] if p < world.page_start[number + 1]
            }
            assert listed == pages
            if number == question.document:
                assert tuple(true) == question.evidence
                assert {int(p) for p in world.relevance.row(row)[0]} == pages
    assert seen > 10


def test_relevance_stays_inside_the_document(world: Documents) -> None:
    assert world.relevance.n_queries == len(world.questions) == 68 != world.n_pages == world.relevance.n_gallery
    owner = np.array([question.document for question in world.questions])[world.relevance.queries]
    assert (world.page_start[owner] <= world.relevance.items).all()
    assert (world.relevance.items < world.page_start[owner + 1]).all()
    assert (world.relevance.positives_per_query >= 1).all()


def test_the_same_arguments_give_the_same_documents_and_more_of_them_begin_alike() -> None:
    few, many = (make_documents(domains=[Domain(n_documents=n, questions=3)], pages=(2, 4), seed=9) for n in (2, 4))
    assert many.documents[0].blocks == few.documents[0].blocks
    assert many.documents[1].blocks == few.documents[1].blocks
    assert many.questions[:6] == few.questions
    assert ocr_text(many.documents[1]) == ocr_text(few.documents[1])
    assert described_text(many.documents[1]) == described_text(few.documents[1])
    assert make_documents(pages=(2, 4), seed=8).documents[0].blocks != make_documents(pages=(2, 4)).documents[0].blocks


def test_figures_of_two_splits_share_no_content() -> None:
    shown = [
        {block.scene.content for one in make_documents(split=split).documents for block in one.blocks if block.scene}
        for split in ("val", "test")
    ]
    assert min(map(len, shown)) > 50
    assert not shown[0] & shown[1]


def test_letters_are_lost_at_the_stated_rate() -> None:
    text = "the budget of noelia came to 105 " * 400
    read = misread(text, 0.1, Dice(4))
    assert misread(text, 0.0, Dice(4)) == text
    whole = [a == b for a, b in zip(text.split(), read.split(), strict=False)]
    expected = np.mean([0.9 ** len(word) for word in text.split()])
    assert np.mean(whole) == pytest.approx(expected, abs=0.03)
    assert read.count(" ") == text.count(" ")


def test_channels_say_of_each_block_what_they_should(world: Documents) -> None:
    kept = total = 0
    for document in world.documents[:6]:
        clean = [block.text for block in document.blocks]
        for block, text, read, told in zip(
            document.blocks, clean, ocr_text(document, lost_cells=0.5), described_text(document), strict=True
        ):
            if block.kind == "figure":
                assert " " in read
                assert len(read) <= len(text) + 6
                assert told.startswith(text + ": ")
                assert len(told) > len(text) + 8
            elif block.kind == "table":
                kept += read.count("\n")
                total += text.count("\n")
                assert told.count(".") == len(block.facts)
        assert described_text(document, kinds=()) == ocr_text(document)
    assert kept / total == pytest.approx(0.5, abs=0.12)


def test_descriptions_without_errors_are_true_and_with_errors_often_not(world: Documents) -> None:
    texts = {
        errors: [described_text(document, completeness=1.0, errors=errors) for document in world.documents]
        for errors in (0.0, 1.0)
    }
    for number, document in enumerate(world.documents):
        for place, block in enumerate(document.blocks):
            if block.scene is not None and len(block.scene.objects) == 1:
                shape = block.scene.objects[0].color
                names = (shape, {"purple": "violet"}.get(shape, shape))
                assert any(name in texts[0.0][number][place] for name in names)
                assert not any(f" {name} " in texts[1.0][number][place] for name in names)


def test_a_page_shows_its_figures_pixel_by_pixel(world: Documents) -> None:
    document = world.documents[0]
    shown = 0
    for block in document.blocks:
        left, top, right, bottom = block.box
        patch = page_pixels(document, block.page)[top:bottom, left:right]
        if block.scene is not None:
            assert np.array_equal(patch, render(block.scene, 64))
            shown += 1
        else:
            assert (patch < 255).any()
    assert shown
    sheet = page_pixels(document, 0)
    outside = np.ones(sheet.shape[:2], bool)
    for block in document.blocks:
        if block.page == 0:
            left, top, right, bottom = block.box
            outside[top:bottom, left:right] = False
    assert (sheet[outside] == 255).all()


def test_candidates_hold_the_blocks_they_name(world: Documents) -> None:
    for document in world.documents:
        found = layout_candidates(document)
        assert found.blocks[: len(document.blocks)] == tuple((i,) for i in range(len(document.blocks)))
        for box, page, inside in zip(found.boxes, found.page, found.blocks, strict=True):
            own = document.boxes[list(inside)]
            assert (document.block_page[list(inside)] == page).all()
            assert (own[:, :2] >= box[:2]).all()
            assert (own[:, 2:] <= box[2:]).all()
            assert list(box) == [*own[:, :2].min(axis=0), *own[:, 2:].max(axis=0)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"split": "dev"}, "train, val, test"),
        ({"pages": (0, 3)}, "within 1"),
        ({"pages": (5, 3)}, "within 1"),
        ({"pages": (3, 61)}, "within 1"),
        ({"domains": []}, "needs a document"),
        ({"domains": [Domain(questions=0)]}, "needs a document"),
        ({"kinds": (0, 0, 0)}, "three weights"),
        ({"hints": 1.5}, "share in 0..1"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_documents(**options)  # type: ignore[arg-type]


def test_long_documents_do_not_run_out_of_facts() -> None:
    world = make_documents(domains=[Domain(n_documents=1, questions=1)], pages=(60, 60))
    assert world.documents[0].n_pages == 60
