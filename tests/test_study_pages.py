"""Pages inside one document: retrievers against slow loops, area rules on planted boxes, published numbers, fakes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from workbench.datasets.scenes.documents import Domain, make_documents
from workbench.studies.documents.matching import CAPTIONS, OCR, Part, word_vectors
from workbench.studies.documents.pages import (
    BIGGEST,
    CHANCE_AT,
    CLAIMS,
    GOLD,
    GOLD_NESTED,
    LAYOUTS,
    PUBLISHED,
    STUDY,
    WEIGHT,
    facts,
    measure,
)
from workbench.studies.documents.pixels import PIXELS, PixelReader
from workbench.studies.ledger import run_study
from workbench.studies.verdict import judge, with_fake


@pytest.fixture(scope="module")
def part() -> Part:
    world = make_documents(domains=[Domain(n_documents=3, questions=7)], pages=(4, 6), seed=2)
    return Part(world, PixelReader(60, seed=0, n_features=60))


@pytest.fixture(scope="module")
def tiny() -> dict[str, dict[str, float]]:
    return {condition: dict(arms) for condition, arms in measure(1, "tiny").items()}


def grouped(pages: np.ndarray, whole: float) -> list[list[int]]:
    """The blocks of every page, or each block alone."""
    if whole:
        return [[i for i, page in enumerate(pages) if page == p] for p in range(pages.max() + 1)]
    return [[i] for i in range(len(pages))]


def test_misread_words_stay_close() -> None:
    right, wrong, other = word_vectors(["headcount", "heddcount", "budget"])
    assert right @ wrong > 0.5 > right @ other
    assert np.allclose(np.linalg.norm([right, wrong, other], axis=1), 1)


@pytest.mark.parametrize(("sharp", "rare", "whole"), list(product((1, 4), (0, 2), (0, 1))))
def test_late_interaction_is_the_sum_over_words_of_the_best_match(
    part: Part, sharp: float, rare: float, whole: float
) -> None:
    channel = part.channels[CAPTIONS]
    for question in (0, 9, 20):
        document = int(part.owner[question])
        units, firsts = part.units(document), part.page_firsts[document]
        words = list(channel.asked[question])
        pages = part.world.documents[document].block_page
        groups = (
            [np.flatnonzero(pages == p) for p in range(pages.max() + 1)] if whole else [[i] for i in range(len(pages))]
        )
        table = [[max(channel.best[word, units[i]] for i in group) ** sharp for group in groups] for word in words]
        expected = np.zeros(len(groups))
        for row in table:
            weight = max(np.log(len(groups) / min(max(sum(row), 1), len(groups))), 1e-3) ** rare
            expected += weight * np.array(row)
        if not whole:
            expected = np.array([expected[pages == p].max() for p in range(pages.max() + 1)])
        assert channel.late(question, units, firsts, (sharp, rare, whole)) == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize(("count", "rare", "whole"), list(product((0.5, 1.0), (0, 1), (0, 1))))
def test_one_vector_is_a_weighted_sum_of_word_vectors(part: Part, count: float, rare: float, whole: float) -> None:
    channel = part.channels[OCR]
    dense = channel.counts.toarray()
    for question in (1, 12):
        document = int(part.owner[question])
        units, firsts = part.units(document), part.page_firsts[document]
        pages = part.world.documents[document].block_page
        groups = (
            [np.flatnonzero(pages == p) for p in range(pages.max() + 1)] if whole else [[i] for i in range(len(pages))]
        )
        counts = np.array([dense[units[list(group)]].sum(axis=0) for group in groups])
        own = np.flatnonzero(counts.sum(axis=0))
        weight = np.maximum(np.log(len(groups) / np.maximum((counts > 0).sum(axis=0), 1)), 1e-3) ** rare
        query = np.zeros(channel.vectors.shape[1])
        for word in channel.asked[question]:
            nearest = own[np.argmax(channel.vectors[own] @ channel.word_vectors[word])]
            query += weight[nearest] * channel.word_vectors[word]
        vectors = (counts**count * weight) @ channel.vectors
        cosine = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
        if not whole:
            cosine = np.array([cosine[pages == p].max() for p in range(pages.max() + 1)])
        assert channel.single(question, units, firsts, (count, rare, whole)) == pytest.approx(cosine, abs=1e-4)


def test_recall_is_the_share_of_gold_pages_and_ties_are_chance(part: Part) -> None:
    lists = part.late(OCR, (4, 1, 0))
    for k in (1, 3):
        found = part.recall(lists, k)
        for question, (pages, scores) in enumerate(lists):
            if len(set(scores)) == len(scores):
                gold = set(part.relevance.row(question)[0].tolist())
                top = set(pages[np.argsort(-scores)[:k]].tolist())
                assert found[question] == pytest.approx(100 * len(top & gold) / len(gold))
    constant = part.lists(lambda q: np.zeros(part.world.documents[part.owner[q]].n_pages))
    sizes = np.array([part.world.documents[d].n_pages for d in part.owner])
    assert part.recall(constant, 3) == pytest.approx(100 * 3 / sizes)


def test_pages_without_a_figure_come_last_by_pixels(part: Part) -> None:
    for question, (_, scores) in enumerate(part.pixels(PIXELS[0])):
        document = part.world.documents[part.owner[question]]
        with_figure = {block.page for block in document.blocks if block.kind == "figure"}
        assert set(np.flatnonzero(scores > -1e3)) == with_figure


@pytest.mark.slow
def test_the_reader_of_pixels_reads() -> None:
    world = make_documents(domains=[Domain(n_documents=6, questions=8)], pages=(8, 8), kinds=(0, 1, 0), seed=5)
    part = Part(world, PixelReader(1000, seed=1, n_features=300))
    rng = np.random.default_rng(0)
    right, wrong = (part.recall(part.pixels((1.0, 1.0), dice)).mean() for dice in (None, rng))
    assert right > 50 > 30 > wrong, (right, wrong)


def test_who_returns_the_evidence_gets_all_of_it_and_boxes_around_it_are_counted_again(tiny: dict) -> None:
    assert tiny["layout recall@5, sum"][GOLD] == tiny["layout recall@5, union"][GOLD] == 100
    assert tiny["layout recall@5, union with a cost of area"][GOLD] == 100
    assert tiny["layout recall@5, sum"][GOLD_NESTED] > 150
    assert tiny["layout recall@5, union"][GOLD_NESTED] == 100
    for k in (1, 5):
        assert tiny[f"layout recall@{k}, union within half a page"][BIGGEST] <= 1
        costly = tiny[f"layout recall@{k}, union with a cost of area"]
        assert costly[LAYOUTS] > costly[BIGGEST]
        assert all(value <= 100 + 1e-9 for value in tiny[f"layout recall@{k}, union"].values())


def test_published_numbers_are_as_counted() -> None:
    found = facts()
    assert found[PUBLISHED[1]]["page image, Col-Phi3"] == (57.1,)
    assert found[PUBLISHED[5]]["OCR text, BGE"] == (62.9,)
    assert CHANCE_AT[3] == pytest.approx(3 * CHANCE_AT[1], abs=0.15)
    assert CHANCE_AT[5] == pytest.approx(5 * CHANCE_AT[1], abs=0.3)
    assert found[WEIGHT]["micro"][0] == pytest.approx(8.26, abs=0.01)
    for k in (1, 5):
        ceiling = found[PUBLISHED[k]]["ceiling"][0]
        assert all(CHANCE_AT[k] <= value[0] <= ceiling for value in found[PUBLISHED[k]].values())


def test_the_same_seed_gives_the_same_numbers(tiny: dict) -> None:
    assert measure(1, "tiny") == tiny


def test_published_claims_hold_and_are_lost_with_the_fake() -> None:
    about_facts = [one for one in CLAIMS if one.condition in facts()]
    assert len(about_facts) == 3
    assert {one.answer for one in judge(about_facts, [], facts()).claims} == {"holds"}
    assert {one.answer for one in judge([with_fake(one) for one in about_facts], [], facts()).claims} == {"fails"}


@pytest.mark.slow
def test_with_the_fake_the_verdict_changes() -> None:
    result = run_study(STUDY, size="tiny")
    holding = {one.claim.says for one in result.verdict.claims if one.answer == "holds"}
    still = {one.claim.says for one in result.fake.claims if one.answer == "holds"}
    assert {"boxes inside each other score more than all there is",
            "once area costs, the best layout beats the biggest box"} <= holding - still  # fmt: skip
