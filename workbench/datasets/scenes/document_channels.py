"""What a retriever may see of a document: letters as a machine reads them, generated descriptions, pixels, boxes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from workbench.datasets.scenes.documents import (
    FIGURE,
    LETTER,
    LINE,
    PAGE_HEIGHT,
    PAGE_WIDTH,
    Document,
    lines,
    sentence,
)
from workbench.datasets.scenes.language import caption
from workbench.datasets.scenes.render import render
from workbench.datasets.scenes.world import ATTRIBUTES, VALUES, Dice, Scene, sample_statement
from workbench.types import IntArray

_READ, _DESCRIBED = range(50, 52)  # kinds of random streams
_CONFUSED = {"o": "0", "l": "1", "i": "l", "e": "c", "a": "o", "s": "5", "n": "h", "m": "rn", "t": "f", "b": "6",
             "0": "o", "1": "l", "5": "s", "6": "b", "8": "3", "9": "g"}  # fmt: skip


def ocr_text(document: Document, *, lost_cells: float = 0.3) -> list[str]:
    """Per block what a machine reads off the page: letters with errors, tables with cells missing, of figures the
    printed label only.

    >>> from workbench.datasets.scenes.documents import Domain, make_documents
    >>> document = make_documents(domains=[Domain(n_documents=1, misread=0.0)]).documents[0]
    >>> [text for text, block in zip(ocr_text(document), document.blocks) if block.kind == "figure"][0]
    'Figure 1'
    """
    found = []
    for number, block in enumerate(document.blocks):
        dice = Dice(*document.seed, _READ, number)
        text = block.text
        if block.kind == "table":
            head, *cells = text.split("\n")
            text = "\n".join([head, *(cell for cell in cells if not dice.chance(lost_cells))])
        found.append(misread(text, document.domain.misread, dice))
    return found


def described_text(
    document: Document, *, kinds: Sequence[str] = ("figure", "table"), completeness: float = 0.8, errors: float = 0.1
) -> list[str]:
    """Per block what a captioning model writes: a description of each figure, a sentence for each fact of a table, and
    of a paragraph what a machine reads (as :func:`ocr_text`).

    completeness : share of the attributes of a figure that is stated. errors : share of them that is wrong.
    kinds : what is described; of the rest it is what a machine reads. Letters of tables are misread as elsewhere.
    """
    found = ocr_text(document)
    for number, block in enumerate(document.blocks):
        dice = Dice(*document.seed, _DESCRIBED, number)
        if block.kind not in kinds:
            continue
        if block.scene is not None:
            seen = _mistaken(block.scene, errors, dice)
            statement = sample_statement(dice, seen, completeness=completeness)
            found[number] = f"{block.text}: {caption(statement, dice=dice, paraphrase=0.5)}"
        elif block.kind == "table":
            found[number] = misread(" ".join(map(sentence, block.facts)), document.domain.misread, dice)
    return found


def page_pixels(document: Document, page: int) -> np.ndarray:
    """The page as a picture, uint8 (PAGE_HEIGHT, PAGE_WIDTH, 3): figures as scenes, every word of a text as a bar."""
    sheet = np.full((PAGE_HEIGHT, PAGE_WIDTH, 3), 255, np.uint8)
    for block in document.blocks:
        if block.page != page:
            continue
        left, top, right, bottom = block.box
        if block.scene is not None:
            sheet[top:bottom, left:right] = render(block.scene, FIGURE)
            continue
        ink = 60 if block.kind == "paragraph" else 110
        for row, words in enumerate(lines(block.text, right - left)):
            x, y = left, top + row * LINE + 2
            for word in words:
                sheet[y : y + 4, x : x + LETTER * len(word)] = ink
                x += LETTER * (len(word) + 1)
        if block.kind == "table":
            sheet[[top, bottom - 1], left:right] = sheet[top:bottom, [left, right - 1]] = 0
    return sheet


def misread(text: str, share: float, dice: Dice) -> str:
    """The text with a share of its letters and digits replaced by what they are mistaken for, or lost.

    >>> misread("some million", 1.0, Dice(0))
    '50rnc rnl11l0h'
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in 0..1; got {share}")
    return "".join(_CONFUSED.get(sign, "") if sign.isalnum() and dice.chance(share) else sign for sign in text)


class Candidates(NamedTuple):
    """Boxes a layout parser returns: boxes (n, 4), page (n,), and the blocks inside each. The blocks come first."""

    boxes: IntArray
    page: IntArray
    blocks: tuple[tuple[int, ...], ...]


def layout_candidates(document: Document) -> Candidates:
    """All blocks, then every figure together with the paragraph beside it, then the body of every page.

    >>> from workbench.datasets.scenes.documents import Domain, make_documents
    >>> document = make_documents(domains=[Domain(n_documents=1)], pages=(3, 3)).documents[0]
    >>> [len(inside) for inside in layout_candidates(document).blocks[-3:]]  # blocks on each of three pages
    [7, 7, 7]
    """
    alone = [(number,) for number in range(len(document.blocks))]
    bands = [(n, n + 1) for n, block in enumerate(document.blocks) if block.kind == "figure"]
    body = [tuple(np.flatnonzero(document.block_page == page).tolist()) for page in range(document.n_pages)]
    groups = [*alone, *bands, *(inside for inside in body if len(inside) > 1)]
    boxes = document.boxes
    around = [(*boxes[list(i), :2].min(axis=0), *boxes[list(i), 2:].max(axis=0)) for i in groups]
    return Candidates(np.array(around), document.block_page[[inside[0] for inside in groups]], tuple(groups))


def _mistaken(scene: Scene, errors: float, dice: Dice) -> Scene:
    """The scene with a share of the objects' attributes replaced by other values."""
    things = []
    for thing in scene.objects:
        wrong = {
            name: dice.choose([value for value in VALUES[name] if value != getattr(thing, name)])
            for name in ATTRIBUTES
            if dice.chance(errors)
        }
        things.append(replace(thing, **wrong))
    return Scene(tuple(things), scene.background)


def read_words(text: str) -> list[str]:
    """Lower-case words and numbers of a text.

    >>> read_words("In 1999 the staff of Barcor came to 12.")[-3:]
    ['came', 'to', '12']
    """
    return re.findall(r"[a-z0-9]+", text.lower())
