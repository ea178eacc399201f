"""Documents of paragraphs, drawn figures and tables with questions about them, where all evidence is known.

A page is filled from the top with bands: a paragraph, a figure beside a paragraph, or a table. Paragraphs and cells of
tables state facts (a name, a subject, a year, a number), each in one place of a document; figures are pictures of
scenes. A question asks for a fact, for two facts, or for a figure; its evidence is every block that answers it. What a
retriever may see of a block is a channel: letters as a machine reads them, a generated description, or pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from workbench.datasets.scenes.language import caption
from workbench.datasets.scenes.world import (
    SPLITS,
    Dice,
    Mention,
    Scene,
    Statement,
    sample_in_split,
    sample_statement,
)
from workbench.types import IntArray, Relevance

PAGE_WIDTH, PAGE_HEIGHT = 200, 260
MAX_PAGES = 60  # there are 2,400 facts for a document, no more
_MARGIN, _GAP, LINE, FIGURE, LETTER = 10, 6, 8, 64, 2
_LAYOUT, _QUESTIONS = range(48, 50)  # kinds of random streams
_SYLLABLES = ("bar", "cor", "del", "fen", "gal", "hol", "kim", "lor", "mur", "nev", "pol", "ras", "sil", "tor", "vin",
              "zel")  # fmt: skip
#: subject of a fact -> another word for it, which only questions use.
SUBJECTS = {
    "budget": "funding", "staff": "headcount", "revenue": "turnover", "output": "production", "exports": "shipments",
    "members": "subscribers", "visitors": "guests", "costs": "expenses",
}  # fmt: skip
_FILLER = (
    "The figures were checked twice.", "More about it is said in the annex.", "This was as planned.",
    "The board had asked for it.", "No other source was used.", "It was the third year in a row.",
)  # fmt: skip

Rectangle = tuple[int, int, int, int]  # left, top, right, bottom in pixels of the page


class Fact(NamedTuple):
    """One statement of a document."""

    name: str
    subject: str
    year: int
    number: int


@dataclass(frozen=True)
class Domain:
    """Documents of one kind: how many, how many questions about each, and the share of letters read wrongly."""

    name: str = "reports"
    n_documents: int = 20
    questions: int = 6
    misread: float = 0.04


@dataclass(frozen=True)
class Block:
    """Paragraph, figure or table on a page: where it is and what it says or shows; ``text`` is its true wording."""

    kind: str
    page: int
    box: Rectangle
    text: str
    facts: tuple[Fact, ...] = ()
    scene: Scene | None = None


@dataclass(frozen=True)
class Document:
    """Blocks in reading order. seed : keys of its random streams."""

    domain: Domain
    n_pages: int
    blocks: tuple[Block, ...]
    names: tuple[str, ...]
    seed: tuple[int, ...]

    @property
    def block_page(self) -> IntArray:
        """(n_blocks,) the page of each block."""
        return np.array([block.page for block in self.blocks])

    @property
    def boxes(self) -> IntArray:
        """(n_blocks, 4) left, top, right, bottom of each block."""
        return np.array([block.box for block in self.blocks])


@dataclass(frozen=True)
class Question:
    """What is asked of which document, and the numbers of all blocks of the document that answer it."""

    text: str
    kind: str
    document: int
    evidence: tuple[int, ...]
    statement: Statement | None = None


@dataclass(frozen=True, eq=False)
class Documents:
    """Documents and questions. Pages are numbered through: page p of document d is ``page_start[d] + p``."""

    documents: tuple[Document, ...]
    questions: tuple[Question, ...]
    page_start: IntArray = field(init=False)

    def __post_init__(self) -> None:
        starts = np.concatenate([[0], np.cumsum([one.n_pages for one in self.documents])])
        object.__setattr__(self, "page_start", starts)

    @property
    def n_pages(self) -> int:
        """Pages of all documents."""
        return int(self.page_start[-1])

    @property
    def relevance(self) -> Relevance:
        """(n_questions, n_pages) pages with evidence, among the pages of the question's own document only."""
        pairs = [
            (row, self.page_start[asked.document] + self.documents[asked.document].blocks[block].page)
            for row, asked in enumerate(self.questions)
            for block in asked.evidence
        ]
        rows, pages = np.unique(np.array(pairs), axis=0).T
        return Relevance.from_pairs(rows, pages, n_queries=len(self.questions), n_gallery=self.n_pages)

    @property
    def anywhere(self) -> Relevance:
        """As ``relevance``, with the pages of other documents that hold a figure of which the question is true."""
        pairs = {(int(q), int(page)) for q, page in zip(self.relevance.queries, self.relevance.items, strict=True)}
        for row, asked in enumerate(self.questions):
            if asked.statement is not None:
                for start, document in zip(self.page_start, self.documents, strict=False):
                    pairs |= {(row, int(start) + document.blocks[i].page) for i in _answering(document, asked)}
        rows, pages = np.array(sorted(pairs)).T
        return Relevance.from_pairs(rows, pages, n_queries=len(self.questions), n_gallery=self.n_pages)


def make_documents(
    *, domains: Sequence[Domain] = (Domain(),), pages: tuple[int, int] = (8, 20), seed: int = 0, split: str = "test",
    objects: tuple[int, int] = (1, 3), hints: float = 0.3, paraphrase: float = 0.5,
    kinds: tuple[int, int, int] = (2, 2, 1),
) -> Documents:  # fmt: skip
    """Documents with questions; the blocks that answer a question are known, and so is every box.

    pages : fewest and most of a document, 1 to 60. hints : share of figures whose shape the paragraph beside them
    names. paraphrase : chance that a question words things differently. kinds : whole-number weights of questions about
    text, figures and tables. Figures of a split share no content with those of another. The same arguments give the
    same documents on every machine, and further documents do not change the ones before them.

    >>> world = make_documents(domains=[Domain(n_documents=3, questions=4)], pages=(4, 6))
    >>> len(world.documents), len(world.questions), world.n_pages
    (3, 12, 13)
    >>> world.questions[0].text, world.questions[0].evidence
    ('Which figure shows a checked white disc?', (8,))
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; expected one of {', '.join(SPLITS)}")
    if not 1 <= pages[0] <= pages[1] <= MAX_PAGES:
        raise ValueError(f"pages must be (fewest, most) within 1..{MAX_PAGES}; got {pages}")
    if not domains or any(min(domain.n_documents, domain.questions) < 1 for domain in domains):
        raise ValueError(f"every domain needs a document and a question about each; got {domains}")
    if min(kinds) < 0 or not sum(kinds):
        raise ValueError(f"kinds are three weights, not all of them 0; got {kinds}")
    for name, share in {"hints": hints, "paraphrase": paraphrase}.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is a share in 0..1; got {share}")
    made: list[Document] = []
    asked: list[Question] = []
    for place, domain in enumerate(domains):
        for number in range(domain.n_documents):
            key = (seed, SPLITS.index(split), place, number)
            document = _Writer(key, domain, pages, split, objects, hints).document()
            dice = Dice(*key, _QUESTIONS)
            asked += [_question(dice, document, len(made), kinds, paraphrase) for _ in range(domain.questions)]
            made.append(document)
    return Documents(tuple(made), tuple(asked))


# ------------------------------------------------------------------------------------------------------------- writing


class _Writer:
    """Fills the pages of one document."""

    def __init__(
        self, key: tuple[int, ...], domain: Domain, pages: tuple[int, int], split: str, objects: tuple[int, int],
        hints: float,
    ) -> None:  # fmt: skip
        self.key, self.domain, self.split, self.objects, self.hints = key, domain, split, objects, hints
        self.dice = dice = Dice(*key, _LAYOUT)
        self.n_pages = pages[0] + dice.below(pages[1] - pages[0] + 1)
        size = len(_SYLLABLES)
        self.names = tuple(
            (_SYLLABLES[code // size] + _SYLLABLES[code % size]).capitalize() for code in dice.sample(size * size, 10)
        )
        self.told: set[tuple[str, str, int]] = set()
        self.blocks: list[Block] = []

    def document(self) -> Document:
        """All pages, each filled until the next band does not fit."""
        for page in range(self.n_pages):
            top = _MARGIN
            while True:
                kind = ("paragraph", "figure", "table")[self.dice.weighted((4, 3, 2))]
                band = getattr(self, kind)(page, top)
                bottom = max(block.box[3] for block in band)
                if bottom > PAGE_HEIGHT - _MARGIN:
                    break
                self.blocks += band
                top = bottom + _GAP
        return Document(self.domain, self.n_pages, tuple(self.blocks), self.names, self.key)

    def number(self, kind: str) -> int:
        """The number of the next figure or table."""
        return 1 + sum(block.kind == kind for block in self.blocks)

    def fact(self) -> Fact:
        """A fact that the document has not stated yet."""
        while True:
            subject = self.dice.choose(tuple(SUBJECTS))
            fact = Fact(self.dice.choose(self.names), subject, 1990 + self.dice.below(30), 10 + self.dice.below(990))
            if fact[:3] not in self.told:
                self.told.add(fact[:3])
                return fact

    def prose(self, page: int, left: int, top: int, n_facts: int, before: str = "") -> Block:
        """A paragraph from ``left`` to the margin."""
        facts = tuple(self.fact() for _ in range(n_facts))
        text = " ".join([before, *map(sentence, facts), self.dice.choose(_FILLER)]).strip()
        right = PAGE_WIDTH - _MARGIN
        bottom = top + LINE * len(list(lines(text, right - left)))
        return Block("paragraph", page, (left, top, right, bottom), text, facts)

    def paragraph(self, page: int, top: int) -> list[Block]:
        return [self.prose(page, _MARGIN, top, 2 + self.dice.below(3))]

    def figure(self, page: int, top: int) -> list[Block]:
        """A figure with its label, and a paragraph beside it that may name a shape that is to be seen."""
        scene = sample_in_split(self.dice, self.split, objects=self.objects)
        label = f"Figure {self.number('figure')}"
        shape = scene.objects[self.dice.below(len(scene.objects))].shape
        said = f"{label} shows {caption(Statement((Mention(shape),)))}." if self.dice.chance(self.hints) else ""
        box = (_MARGIN, top, _MARGIN + FIGURE, top + FIGURE)
        beside = self.prose(page, box[2] + _GAP, top, 1, said)
        return [Block("figure", page, box, label, scene=scene), beside]

    def table(self, page: int, top: int) -> list[Block]:
        """A table of facts, one to a line; it is read cell by cell."""
        facts = tuple(self.fact() for _ in range(4 + self.dice.below(4)))
        rows = [f"Table {self.number('table')}", *(f"{f.name} {f.subject} {f.year} {f.number}" for f in facts)]
        bottom = top + LINE * len(rows)
        return [Block("table", page, (_MARGIN, top, PAGE_WIDTH - _MARGIN, bottom), "\n".join(rows), facts)]


def sentence(fact: Fact) -> str:
    return f"In {fact.year} the {fact.subject} of {fact.name} came to {fact.number}."


def lines(text: str, width: int) -> Iterator[list[str]]:
    """The words of every line; a line break of the text is kept."""
    for part in text.split("\n"):
        line: list[str] = []
        for word in part.split():
            if line and LETTER * (sum(map(len, line)) + len(line) + len(word)) > width:
                yield line
                line = []
            line.append(word)
        yield line


# ----------------------------------------------------------------------------------------------------------- questions


def _question(dice: Dice, document: Document, number: int, kinds: tuple[int, int, int], paraphrase: float) -> Question:
    """A question of a random kind; of another kind where the document has no block of that kind."""
    weights = [
        weight if any(block.kind == kind for block in document.blocks) else 0
        for kind, weight in zip(("paragraph", "figure", "table"), kinds, strict=True)
    ]
    if not sum(weights):
        raise ValueError("a document has no block that the kinds of questions ask for; allow other kinds or more pages")
    kind = ("paragraph", "figure", "table")[dice.weighted(weights)]
    blocks = [place for place, block in enumerate(document.blocks) if block.kind == kind]
    if kind == "figure":
        scene = document.blocks[blocks[dice.below(len(blocks))]].scene
        assert scene is not None
        statement = sample_statement(dice, scene)
        text = f"Which figure shows {caption(statement, dice=dice, paraphrase=paraphrase)}?"
        asked = Question(text, kind, number, (), statement)
        return replace(asked, evidence=_answering(document, asked))
    told = [(place, fact) for place in blocks for fact in document.blocks[place].facts]
    chosen = [told[i] for i in dice.sample(len(told), 2 if len(told) > 1 and dice.chance(0.2) else 1)]
    parts = [
        f"the {SUBJECTS[fact.subject] if dice.chance(paraphrase) else fact.subject} of {fact.name} in {fact.year}"
        for _, fact in chosen
    ]
    text = f"What is given for {' and '.join(parts)}?"
    return Question(text, "text" if kind == "paragraph" else kind, number, tuple(sorted({p for p, _ in chosen})))


def _answering(document: Document, asked: Question) -> tuple[int, ...]:
    """The figures of a document of which the statement of a question is true."""
    return tuple(
        place for place, block in enumerate(document.blocks)
        if block.scene is not None and asked.statement is not None and asked.statement.true_of(block.scene)
    )  # fmt: skip
