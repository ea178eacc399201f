"""What a judge sees: a query, numbered items in random order, and how to answer; never a rank, score, id or label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.datasets.collection import Side
from workbench.datasets.pictures import open_picture
from workbench.html import Thumbnail, table, thumbnails, together
from workbench.html.display import Display, escape

EDGE = 192
QUERY_EDGE = 256
LONGEST = 2000
QUESTIONS = {
    ("text", "image"): "Which of these pictures does the text describe?",
    ("image", "text"): "Which of these texts describe the picture?",
    ("text", "text"): "Which of these texts answer the query?",
    ("image", "image"): "Which of these pictures show the same?",
}


def sheet(
    sides: tuple[Side, Side], query: int, items: Sequence[int], *, batch: int, n_batches: int, n_skipped: int
) -> Display:
    """One query with its items, numbered from 1 in the order given.

    sides : (queries, gallery) with their contents. query, items : rows of them. batch : the number of this query.
    """
    queries, gallery = sides
    head = f"Query {batch} of {n_batches}" + (f", {n_skipped} skipped" if n_skipped else "")
    question = QUESTIONS[queries.kind, gallery.kind]
    return together([_query(queries, query, f"{head}. {question}"), _items(gallery, items), _answer(batch, len(items))])


def finished(name: str, n_done: int, controls: Mapping[str, tuple[int, int]]) -> Display:
    """What to read when nothing is left to judge.

    >>> finished("a.tsv", 3, {"labelled right": (0, 0), "random wrong": (0, 0)})
    All 3 queries are judged or skipped: a.tsv is complete.
    """
    lines = [f"All {n_done:,} queries are judged or skipped: {name} is complete."]
    words = {"labelled right": "labelled items marked right", "random wrong": "random items marked wrong"}
    lines += [f"Control: {good} of {shown} {words[what]}." for what, (good, shown) in controls.items() if shown]
    return _paragraphs(lines)


def _query(side: Side, row: int, words: str) -> Display:
    if side.kind == "image":
        card = Thumbnail(open_picture(side.content[row]), "", alt="the picture in question")
        return thumbnails([card], caption=words, edge=QUERY_EDGE)
    text = _cut(str(side.content[row]))
    body = (
        f'<div class="wb"><p class="wb-line">{escape(words)}</p>'
        f'<p dir="auto" style="font-size:1.25em;font-weight:600;margin:.3em 0;max-width:40em;overflow-wrap:anywhere">'
        f"{escape(text)}</p></div>"
    )
    return Display(body, f"{words}\n{text}")


def _items(side: Side, rows: Sequence[int]) -> Display:
    if side.kind == "image":
        cards = [
            Thumbnail(open_picture(side.content[row]), f"{number}", alt=f"picture {number}")
            for number, row in enumerate(rows, start=1)
        ]
        return thumbnails(cards, caption=f"{len(rows)} pictures in random order", edge=EDGE)
    shown: dict[str, list[Any]] = {
        "number": list(range(1, len(rows) + 1)),
        "text": [_cut(str(side.content[row])) for row in rows],
    }
    return table(shown, caption=f"{len(rows)} texts in random order")


def _answer(batch: int, n_items: int) -> Display:
    some = "2 5" if n_items >= 5 else "1"
    return _paragraphs(
        [
            f'Answer with session.mark("{some}", batch={batch}): the numbers that are right; "" if none is.',
            f"Cannot be decided: session.skip(batch={batch}). Take the last answer back: session.undo().",
        ]
    )


def _paragraphs(lines: Sequence[str]) -> Display:
    body = "".join(f'<p class="wb-line">{escape(line)}</p>' for line in lines)
    return Display(f'<div class="wb">{body}</div>', "\n".join(lines))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text):,} characters)"
