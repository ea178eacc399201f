"""Finding pages and boxes inside one document: what figures need, what an area score rewards, what one domain weighs.

The world is documents of paragraphs, drawn figures and tables. A retriever sees what a machine reads off a page, or
that with generated descriptions of figures and tables, or the pixels of the figures. Pages are ranked inside the
question's own document; pages nobody distinguishes are tied, and a tie counts with its expected value. One domain is a
single badly scanned document with many questions, as one of the published ten is a single document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from workbench.datasets.scenes.document_channels import Candidates, layout_candidates
from workbench.datasets.scenes.documents import PAGE_HEIGHT, PAGE_WIDTH, Documents, Domain, make_documents
from workbench.metrics import per_query, ranks_from_lists
from workbench.metrics.areas import area_recall
from workbench.statistics.leverage import grouped_mean
from workbench.studies.documents.matching import CAPTIONS, FIGURES_ONLY, LATE, OCR, SINGLE, Item, Part, Setting
from workbench.studies.documents.pixels import PIXELS, PixelReader
from workbench.studies.study import Arms, Card, Claim, Facts, Size, Study
from workbench.types import FloatArray, IntArray, Relevance

PIXEL = "pixels"
OCR_ONE, CAPTIONS_ONE = "OCR text, one vector", "captions, one vector"
SHUFFLED, SHUFFLED_PIXELS = "captions of other figures", "pixels of other figures"
SHUFFLED_PAGES, EVERYWHERE, CHANCE = "OCR text of other pages", "captions, all documents at once", "chance"
LAYOUTS, BIGGEST, NESTED = "best layouts", "biggest box of the best pages", "best layouts and all boxes around them"
RANDOM_LAYOUTS, RANDOM_BIGGEST = "random layouts", "biggest box of random pages"
GOLD, GOLD_NESTED = "gold boxes", "gold boxes and all boxes around them"
NEWS, LONE, OTHERS, LARGEST, RELABELLED = (
    "news", "the domain of one document", "other domains, typical", "other domains, largest", "as many random questions"
)  # fmt: skip
PAGE_AREA = PAGE_WIDTH * PAGE_HEIGHT
SHUFFLES = 8
COST, CAP = 1.0, 0.5  # a page returned in vain costs as much as all evidence is worth; half a page may be returned


@dataclass(frozen=True)
class _Sizes:
    documents: int  # of each of the other domains
    domains: int
    questions: int
    lone_questions: int
    validation: int
    pages: tuple[int, int]
    figures: int
    features: int


SIZES: Mapping[Size, _Sizes] = {
    "tiny": _Sizes(1, 2, 6, 8, 2, (5, 7), 60, 60),
    "small": _Sizes(6, 9, 6, 30, 16, (8, 20), 1200, 400),
    "full": _Sizes(10, 9, 8, 66, 40, (8, 24), 2000, 500),
}


def measure(seed: int, size: Size) -> Arms:
    """One seed: page recall by channel, area recall of layouts under several rules, and averages over domains."""
    sizes, rng = SIZES[size], np.random.default_rng([seed, 121])
    reader = PixelReader(sizes.figures, seed=seed, n_features=sizes.features)
    validation = Part(_world(sizes, seed, "val"), reader)
    test = Part(_world(sizes, seed, "test"), reader)
    late = {name: validation.best(lambda s, name=name: validation.late(name, s), LATE) for name in test.channels}
    found = {name: test.late(name, late[name]) for name in late}
    for name, channel in ((OCR_ONE, OCR), (CAPTIONS_ONE, CAPTIONS)):
        setting = validation.best(lambda s, channel=channel: validation.single(channel, s), SINGLE)
        found[name] = test.single(channel, setting)
    pixels = validation.best(validation.pixels, PIXELS, ("figure",))
    found |= {
        PIXEL: test.pixels(pixels), SHUFFLED: test.shuffled(late[CAPTIONS], rng),
        SHUFFLED_PIXELS: test.pixels(pixels, rng), EVERYWHERE: test.everywhere(late[CAPTIONS]),
        CHANCE: test.lists(lambda q: np.zeros(_n_pages(test, q))),
    }  # fmt: skip
    return {
        **_pages(test, found, rng), **_layouts(test, (*late[CAPTIONS][:2], 0), rng),
        **_precision(test, found[CAPTIONS]), **_domains(test, test.recall(found[OCR]), rng),
    }  # fmt: skip


def _n_pages(part: Part, question: int) -> int:
    return part.world.documents[part.owner[question]].n_pages


def _world(sizes: _Sizes, seed: int, split: str) -> Documents:
    if split == "val":
        domains = [Domain("validation", sizes.validation, sizes.questions)]
    else:
        domains = [Domain(f"domain {i}", sizes.documents, sizes.questions) for i in range(sizes.domains)]
        domains.append(Domain(NEWS, 1, sizes.lone_questions, misread=0.25))
    return make_documents(domains=domains, pages=sizes.pages, seed=seed, split=split)


def _pages(test: Part, found: Mapping[str, list[Item]], rng: np.random.Generator) -> dict[str, dict[str, float]]:
    arms: dict[str, dict[str, float]] = {}
    values = {(name, k): test.recall(lists, k) for name, lists in found.items() for k in (1, 5)}
    mixed = [[(pages, rng.permutation(scores)) for pages, scores in found[OCR]] for _ in range(SHUFFLES)]
    values |= {(SHUFFLED_PAGES, k): np.mean([test.recall(one, k) for one in mixed], axis=0) for k in (1, 5)}
    only_figures = {PIXEL, SHUFFLED_PIXELS, EVERYWHERE}
    for kind in ("figure", "text", "table"):
        rows = test.kinds == kind
        names = [name for name in (*found, SHUFFLED_PAGES) if kind == "figure" or name not in only_figures]
        for k in (1, 5):
            arms[f"{kind} questions, page recall@{k}"] = {
                name: float(values[name, k][rows].mean()) if rows.any() else 0.0 for name in names
            }
    every = [name for name in (*found, SHUFFLED_PAGES) if name not in only_figures]
    arms[ALL] = {name: float(values[name, 1].mean()) for name in every}
    rows = test.kinds == "figure"
    labels = {OWN: test.relevance, ANY: test.world.anywhere}
    arms[TRUE] = {name: _first(found[EVERYWHERE], which, rows) for name, which in labels.items()}
    everything = np.arange(test.world.n_pages)
    guesses = [(everything if row else everything[:0], np.zeros(test.world.n_pages * row)) for row in rows]
    arms[TRUE][CHANCE] = _first(guesses, test.world.anywhere, rows)
    return arms


def _first(lists: Sequence[Item], relevance: Relevance, rows: IntArray) -> float:
    """How often the first page is one of those labelled, in points, for some of the questions."""
    values = per_query("hit@1", ranks_from_lists(lists, relevance), short_lists="as is").expected
    return float(100 * values[rows].mean()) if rows.any() else 0.0


def _precision(test: Part, lists: Sequence[Item]) -> dict[str, dict[str, float]]:
    """Average precision of questions with evidence on several pages, under the three denominators."""
    several = test.relevance.positives_per_query > 1
    constant = test.lists(lambda q: np.zeros(_n_pages(test, q)))
    found = {}
    for name, norm in ((HITS, "hits"), ("divided by pages that fit", "min"), ("divided by all gold pages", "all")):
        ranks = ranks_from_lists(lists, test.relevance)
        found[name] = 100 * per_query(f"AP(norm={norm})@5", ranks, short_lists="as is").expected
    ranks = ranks_from_lists(constant, test.relevance)
    found[CHANCE] = 100 * per_query("AP@5", ranks, short_lists="as is").expected
    return {PRECISION: {name: float(v[several].mean()) if several.any() else 0.0 for name, v in found.items()}}


def _domains(test: Part, values: FloatArray, rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """Averages over domains, and how far they move when a domain is left out."""
    names = np.array([test.world.documents[d].domain.name for d in test.owner])
    found, mixed = grouped_mean(values, names), grouped_mean(values, rng.permutation(names))
    lone = found.names == NEWS
    moves, weight = np.abs(found.macro_leverage), 100 * np.bincount(test.owner).max() / len(test.owner)
    return {
        SHIFT: {LONE: float(moves[lone][0]), OTHERS: float(moves[~lone].mean()), LARGEST: float(moves[~lone].max()),
                RELABELLED: float(np.abs(mixed.macro_leverage)[mixed.names == NEWS][0])},
        AVERAGES: {"macro": found.macro, "micro": found.micro, "macro without the domain of one document":
                   float(found.macro_without[lone][0]), "mean over documents": _by_document(test, values)},
        "largest weight of one document": {"macro": 100 / len(found.names), "micro": float(weight),
                                           "mean over documents": 100 / len(test.world.documents)},
    }  # fmt: skip


def _by_document(test: Part, values: FloatArray) -> float:
    return float((np.bincount(test.owner, values) / np.bincount(test.owner)).mean())


# ------------------------------------------------------------------------------------------------------------- layouts

RULES: dict[str, dict[str, object]] = {
    "sum": {"mode": "sum"}, "union": {"mode": "union"},
    "union with a cost of area": {"mode": "union", "cost": COST, "page_area": PAGE_AREA},
    "union within half a page": {"mode": "union", "cap": CAP, "page_area": PAGE_AREA},
}  # fmt: skip


def _layouts(test: Part, setting: Setting, rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """Area recall at 1 and 5 under every rule, for rankings of boxes that are honest, greedy, or know the answer."""
    parsed = [layout_candidates(document) for document in test.world.documents]
    around = [_around(one, len(document.blocks)) for one, document in zip(parsed, test.world.documents, strict=True)]
    totals: dict[str, dict[str, list[float]]] = {}
    for q, asked in enumerate(test.world.questions):
        given, outer = parsed[asked.document], around[asked.document]
        units = test.units(asked.document)
        n = len(units)
        order = np.argsort(-test.channels[CAPTIONS].late(q, units, np.arange(n), setting), kind="stable")
        other, gold = rng.permutation(n), np.array(asked.evidence)
        rankings = {
            LAYOUTS: order, BIGGEST: _biggest(order, outer), NESTED: _nested(order, outer), RANDOM_LAYOUTS: other,
            RANDOM_BIGGEST: _biggest(other, outer), GOLD: gold, GOLD_NESTED: _nested(gold, outer),
        }  # fmt: skip
        for name, boxes in rankings.items():
            for k in (1, 5):
                for rule, options in RULES.items():
                    value = _recall(given, boxes[:k], gold, options)
                    totals.setdefault(f"layout recall@{k}, {rule}", {}).setdefault(name, []).append(value)
    return {rule: {name: 100 * float(np.mean(v)) for name, v in arms.items()} for rule, arms in totals.items()}


def _recall(given: Candidates, boxes: IntArray, gold: IntArray, options: Mapping[str, object]) -> float:
    return area_recall(given.boxes[boxes], given.boxes[gold], pages=given.page[boxes], gold_pages=given.page[gold],
                       **options)  # type: ignore[arg-type]  # fmt: skip


def _around(given: Candidates, n_blocks: int) -> list[list[int]]:
    """Per block: itself and all larger candidates it lies in, smallest first, so that the last is the biggest."""
    found: list[list[int]] = [[] for _ in range(n_blocks)]
    for number, inside in sorted(enumerate(given.blocks), key=lambda one: len(one[1])):
        for block in inside:
            found[block].append(number)
    return found


def _biggest(order: IntArray, outer: Sequence[Sequence[int]]) -> IntArray:
    """The biggest box of the page of each block, once."""
    return np.array(list(dict.fromkeys(outer[block][-1] for block in order)))


def _nested(order: IntArray, outer: Sequence[Sequence[int]]) -> IntArray:
    """Each block followed by all boxes around it, once."""
    return np.array(list(dict.fromkeys(box for block in order for box in outer[block])))


# --------------------------------------------------------------------------------------------------- published numbers

_TABLE_5 = {
    "OCR text, BGE": (35.2, 62.9), "OCR text, ColBERT": (40.0, 66.5), "VLM text, BGE": (39.6, 68.5),
    "VLM text, ColBERT": (44.9, 72.3), "page image, DSE-wiki": (47.5, 79.2), "page image, ColPali": (52.7, 81.0),
    "page image, DPR-Phi3": (53.7, 81.8), "page image, Col-Phi3": (57.1, 83.0),
}  # fmt: skip
CHANCE_AT, CEILING_AT = {1: 3.9, 3: 11.8, 5: 19.6}, {1: 89.5, 3: 99.3, 5: 100.0}
PUBLISHED = {k: f"published page recall@{k}" for k in (1, 3, 5)}
WEIGHT, COUNTED = "published: weight of the single News document", "published: number of questions"


def facts() -> Facts:
    """Table 5 of the paper (micro averages), and what counting its annotation file gives.

    The file has 313 documents, 20,395 pages, 170,338 layouts and 1,658 questions, of which 312 have several pages,
    with 2,107 page and 2,638 layout labels; 137 questions are about the single document of the domain News.
    """
    found: dict[str, dict[str, tuple[float, ...]]] = {
        PUBLISHED[k]: {CHANCE: (CHANCE_AT[k],), "ceiling": (CEILING_AT[k],)} for k in (1, 3, 5)
    }
    for name, (first, fifth) in _TABLE_5.items():
        found[PUBLISHED[1]][name], found[PUBLISHED[5]][name] = (first,), (fifth,)
    found[WEIGHT] = {"macro": (100 / 10,), "micro": (100 * 137 / 1658,), "mean over documents": (100 / 313,)}
    found[COUNTED] = {"in the file": (1658.0,), "in the abstract": (1685.0,)}
    return found


# ------------------------------------------------------------------------------------------------------ card and claims

FIGURES, TEXT, ALL = "figure questions, page recall@1", "text questions, page recall@1", "all questions, page recall@1"
TRUE, PRECISION = "first page over all documents", "average precision@5, evidence on several pages"
SHIFT, AVERAGES = "shift of the macro average without a domain", "averages of page recall@1"
HITS, OWN, ANY = "divided by pages found", "labels of the own document only", "every page that answers"
NEST = "layout recall@5, sum"
POINTS, AREA = "points of page recall", "points of area recall"

CARD = Card(
    key="S12",
    title="MMDocIR: Benchmarking Multi-Modal Retrieval for Long Documents",
    authors=("Kuicai Dong", "Yujing Chang", "Xin Deik Goh", "Dexun Li", "Ruiming Tang", "Yong Liu"),
    venue="arXiv",
    year=2025,
    link="https://arxiv.org/abs/2501.08828",
    claim="Inside one long document, text that a vision-language model writes about figures and tables finds pages "
    "better than text from character recognition, and page images find them better still.",
    conditions="Pages and layouts are ranked inside the document the question is about. The gain of generated text "
    "lies in questions whose evidence is not written on the page. Questions about text lose nothing to descriptions of "
    "figures; to tables written out as sentences they do, as these name the same things. Late interaction should gain "
    "where vectors of words know their neighbours; here a vector knows letters only. The area score of layouts means "
    "something only where boxes inside each other do not count twice and area has a price.",
    expected="On questions about figures, generated descriptions ten points of recall at 1 above recognised text, and "
    "recognised text above chance; on questions about text no difference of two points. By the published sum of "
    "overlaps, boxes inside each other score above 100 % and a page-sized box beats an honest layout; with a union and "
    "a price of area it loses.",
    refuses="A search across the pages of all documents under the name of a search inside one, descriptions that "
    "belong to other figures, and the biggest box of a page in the place of the evidence.",
    tuned="Every retriever of text or pixels chooses among twelve settings by recall at 1 on validation documents.",
    deviations=(
        "The abstract counts 1,685 questions; the published annotation file holds 1,658.",
        "Layout recall adds up overlaps of all retrieved boxes: a gold box with two halves of it scores 2.",
        "Average precision is divided by the pages that were found: one of five gold pages at rank 1 scores 1.",
        "The domain News, a tenth of the macro average, is 137 questions about a single document.",
        "Some gold boxes are not among the layouts that can be retrieved.",
    ),
    prior="From the published file: chance of page recall at 1, 3, 5 is 3.9, 11.8, 19.6 %; the ceiling, as a question "
    "may have more gold pages than places, 89.5, 99.3, 100 %.",
)
CLAIMS = (
    Claim("descriptions find figures that recognised text does not", FIGURES, CAPTIONS, (OCR, SHUFFLED), EVERYWHERE,
          POINTS, 10.0),
    Claim("recognised text still says something about figures", FIGURES, OCR, (CHANCE, SHUFFLED_PAGES), SHUFFLED_PAGES,
          POINTS, 3.0),
    Claim("pixels find figures that recognised text does not", FIGURES, PIXEL, (OCR, SHUFFLED_PIXELS), SHUFFLED_PIXELS,
          POINTS, 10.0),
    Claim("pixels beat descriptions of what they show", FIGURES, PIXEL, (CAPTIONS,), SHUFFLED_PIXELS, POINTS, 3.0),
    Claim("on text, descriptions of figures lose nothing", TEXT, FIGURES_ONLY, (OCR,), CHANCE, POINTS, -2.0),
    Claim("on text, descriptions of figures gain nothing", TEXT, OCR, (FIGURES_ONLY,), CHANCE, POINTS, -2.0),
    Claim("on text, descriptions of tables lose nothing either", TEXT, CAPTIONS, (OCR,), CHANCE, POINTS, -2.0),
    Claim("late interaction beats one vector", ALL, CAPTIONS, (CAPTIONS_ONE,), CHANCE, POINTS, 3.0),
    Claim("across documents, right pages count as wrong", TRUE, ANY, (OWN,), CHANCE, "points", 5.0),
    Claim("boxes inside each other score more than all there is", NEST, GOLD_NESTED, (GOLD,), RANDOM_BIGGEST, AREA,
          20.0),
    Claim("by the sum, the biggest box beats the best layout", "layout recall@1, sum", BIGGEST, (LAYOUTS,),
          RANDOM_BIGGEST, AREA, 2.0),
    Claim("by a union alone, it still does", "layout recall@1, union", BIGGEST, (LAYOUTS,), RANDOM_BIGGEST, AREA, 2.0),
    Claim("once area costs, the best layout beats the biggest box", "layout recall@1, union with a cost of area",
          LAYOUTS, (BIGGEST, RANDOM_LAYOUTS), RANDOM_BIGGEST, AREA, 10.0),
    Claim("so it does where half a page may be returned", "layout recall@5, union within half a page", LAYOUTS,
          (BIGGEST, RANDOM_LAYOUTS), RANDOM_BIGGEST, AREA, 10.0),
    Claim("average precision by pages found exaggerates", PRECISION, HITS,
          ("divided by pages that fit", "divided by all gold pages"), CHANCE, "points", 10.0),
    Claim("a domain of one document moves the macro average more than others", SHIFT, LONE, (OTHERS,), RELABELLED,
          "points", 1.0),
    Claim("published: generated text beats recognised text, same retriever", PUBLISHED[1], "VLM text, ColBERT",
          ("OCR text, ColBERT",), CHANCE, POINTS, 3.0),
    Claim("published: page images beat generated text", PUBLISHED[1], "page image, ColPali", ("VLM text, ColBERT",),
          CHANCE, POINTS, 3.0),
    Claim("published: one document has a tenth of the macro average", WEIGHT, "macro", ("mean over documents",),
          "micro", "% of the average", 9.0),
)  # fmt: skip

STUDY = Study(
    card=CARD,
    claims=CLAIMS,
    measure=measure,
    seconds={"tiny": 6, "small": 70, "full": 300},
    blind=(CHANCE, SHUFFLED, SHUFFLED_PAGES, SHUFFLED_PIXELS, RANDOM_LAYOUTS, RANDOM_BIGGEST, RELABELLED),
    facts=facts,
)
