"""``cranfield:FOLDER``: the Cranfield collection in the layout of the SMART system."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from workbench.datasets.cards import card_of
from workbench.datasets.collection import Collection, Side
from workbench.datasets.qrels import Judged, collect, decoded, judged_by, stream_lines
from workbench.datasets.tables import strings
from workbench.types import Relevance

GRADES = {"-1": 5.0, "1": 4.0, "2": 3.0, "3": 2.0, "4": 1.0}
_MARKER = re.compile(r"\.([A-Z])(?:\s+(\S+))?\s*")
_LAYOUT = "cranfield: needs a folder with cran.all.1400, cran.qry and cranqrel"

Record = dict[str, str]


def load_cranfield(path: Path) -> Collection:
    """Documents (the first side) and queries of a folder with ``NAME.all*``, ``NAME.qry`` and ``NAMEqrel``.

    A document is its abstract (``.W``), behind its title (``.T``) where the abstract does not open with the title
    itself, as almost all of Cranfield's do; title, author (``.A``) and source (``.B``) are columns. Two documents (471
    and 995) are empty, one of them judged: they stay in the gallery, as empty texts.

    Query ids are positions, "1" to "225": the judgements count so, while ``cran.qry`` numbers its queries with gaps up
    to 365. That number is kept in the column ``number``.

    Grades: in the file 1 is "a complete answer" and 4 "of minimum interest"; here higher is better, so 1, 2, 3, 4
    become 4, 3, 2, 1. (Some descriptions have it the other way round; by tf-idf the documents of grade 1 are the
    closest of the four to their queries and those of grade 4 the farthest.) What -1 means is not written in the files.
    Descriptions of the collection call a fifth level "of no interest"; the data say otherwise: every query has exactly
    one -1, in its last line, neighbouring queries often share it, and by tf-idf these documents are closer to their
    queries than those of any other grade (median rank 3 of 1,400, against 14 for "a complete answer"). They look like
    the papers from which the questions were taken. -1 becomes 5, as in the file ``QRelsCorrectedforTRECeval`` that is
    passed round with the collection, so that all 1,837 pairs are relevant, and ``notes`` says so. To judge otherwise,
    give ``qrels=FILE``.
    Without ``NAMEqrel`` nothing is judged.
    Source: Cleverdon 1967, The Cranfield tests on index language devices, https://doi.org/10.1108/eb050097
    """
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is no folder; {_LAYOUT}")
    documents, queries = _records(_only(path, "*.all*")), _records(_only(path, "*.qry"))
    names = tuple(record["I"] for record in documents)
    images = Side("document", names, [_text(record) for record in documents], _columns(documents))
    texts = Side(
        "query", tuple(str(place) for place in range(1, len(queries) + 1)), [_text(record) for record in queries],
        {"number": strings(record["I"] for record in queries)},
    )  # fmt: skip
    if not all(texts.content):
        raise ValueError(f"query {texts.ids[texts.content.index('')]} (by position) has no text; remove it")
    collection = Collection(
        card_of(path, path.resolve().name), images, texts,
        Relevance.from_pairs([], [], n_queries=len(texts), n_gallery=len(images)), np.full(len(texts), -1),
        one_way=True, notes=_empty_documents(images),
    )  # fmt: skip
    if not _files(path, "*qrel"):
        note = f"{path.resolve().name} has no file NAMEqrel, so nothing is judged."
        return replace(collection, notes=(*collection.notes, note))
    file = _only(path, "*qrel")
    judgements = collect(_judgements(file), file.name)
    n_sources = int((judgements.grades == GRADES["-1"]).sum())
    note = f"{n_sources:,} pairs with the unexplained grade -1 count as the best grade, {GRADES['-1']:g}."
    collection = judged_by(collection, judgements)
    return replace(collection, notes=(*collection.notes, note)) if n_sources else collection


def _empty_documents(documents: Side) -> tuple[str, ...]:
    empty = [name for name, text in zip(documents.ids, documents.content, strict=True) if not text]
    if not empty:
        return ()
    return (f"{len(empty):,} documents have no text and stay in the gallery as empty texts: {', '.join(empty[:5])}.",)


def _files(path: Path, pattern: str) -> list[Path]:
    return [file for file in sorted(path.iterdir()) if file.is_file() and Path(file.name.lower()).match(pattern)]


def _only(path: Path, pattern: str) -> Path:
    found = _files(path, pattern)
    if len(found) != 1:
        names = [file.name for file in found] or "none"
        raise FileNotFoundError(f"{path} must hold one file {pattern}; found {names}; {_LAYOUT}")
    return found[0]


def _records(path: Path) -> list[Record]:
    """The records of a SMART file: ``.I id`` opens one, ``.T``, ``.A``, ``.B``, ``.W``, ... its fields.

    A marker for a field that the record has already is a slip of the typist (documents 240, 576, 578): the line is
    dropped and the text goes on.
    """
    records: list[dict[str, list[str]]] = []
    name = ""
    for number, text in _text_lines(path):
        marker = _MARKER.fullmatch(text)
        if marker and marker[1] == "I":
            if not marker[2]:
                raise ValueError(f"{path.name} line {number} has .I without a number")
            records.append({"I": [marker[2]]})
            name = ""
        elif not records and text.strip():
            raise ValueError(f"{path.name} line {number} stands before the first .I; a SMART file opens with '.I 1'")
        elif marker and not marker[2]:
            name = name if marker[1] in records[-1] else marker[1]
            records[-1].setdefault(name, [])
        elif text.strip() and not name:
            raise ValueError(f"{path.name} line {number} belongs to no field; .T, .A, .B or .W must open one")
        elif records:
            records[-1].setdefault(name, []).append(text)
    if not records:
        raise ValueError(f"{path.name} holds no record; a SMART file opens with '.I 1'")
    return [{field: " ".join(" ".join(lines).split()) for field, lines in record.items()} for record in records]


def _text_lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in stream_lines(path):
        yield number, decoded(line, f"{path.name} line {number}")


def _text(record: Record) -> str:
    title, body = record.get("T", ""), record.get("W", "")
    if body.split()[:3] == title.split()[:3]:
        return body
    return f"{title} {body}".strip()


def _columns(documents: list[Record]) -> dict[str, np.ndarray]:
    named = {"title": "T", "author": "A", "source": "B"}
    return {name: strings(record.get(field, "") for record in documents) for name, field in named.items()}


def _judgements(file: Path) -> Iterator[Judged]:
    for number, text in _text_lines(file):
        fields = text.split()
        if fields and (len(fields) != 3 or fields[2] not in GRADES):
            raise ValueError(
                f"{file.name} line {number} must hold query, document and grade ({', '.join(GRADES)}); "
                f"got {text.strip()[:60]!r}; judgements of another form load with qrels=FILE"
            )
        if fields:
            yield number, fields[0], fields[1], str(GRADES[fields[2]])
