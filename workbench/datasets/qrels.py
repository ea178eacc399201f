"""Judgements of relevance that come beside the data: TREC qrels, BEIR tables, or a table query, item, grade."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Collection as Names
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import IO
from urllib.parse import unquote

import numpy as np

from workbench.datasets.collection import Collection
from workbench.datasets.tables import READABLE, read_rows, require_columns, require_file
from workbench.types import Relevance

LARGEST = 512 * 2**20
LONGEST_LINE = 2**16
_CHUNK = 2**20
_BEIR_HEADER = [b"query-id", b"corpus-id", b"score"]
_EXPECTED = (
    "judgements are TREC qrels (query iter item grade), a BEIR table (query-id, corpus-id, score, tabs between), or "
    f"a table {', '.join(READABLE)} with the columns query, item, grade"
)

Judged = tuple[int, str, str, str]


@dataclass(frozen=True, eq=False)
class Judgements:
    """Who judged what: query, item and grade of every pair, in the order of the file, no pair twice.

    queries, items : ids as the file spells them. grades : (n_pairs,) finite; above 0 is relevant, 0 and below is judged
    and not relevant. name : of the file. warnings : sentences on what was repaired in reading.
    """

    queries: tuple[str, ...]
    items: tuple[str, ...]
    grades: np.ndarray
    name: str
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.queries)


def read_qrels(path: Path) -> Judgements:
    """Judgements from a file; the ending and the first line say which format it is.

    TREC qrels: ``query iter item grade`` between blanks or tabs, also gzip-compressed; the second column is not used,
    and lines that begin with # are comments, as for trec_eval. BEIR: tab-separated under the header ``query-id
    corpus-id score``. ``.csv``, ``.jsonl``, ``.parquet``: columns ``query``, ``item``, ``grade``; others are ignored.
    A pair that is judged twice with one grade counts once, with a warning; with two grades it is an error.
    Errors name file and line: wrong number of fields, a grade that is no finite number, text that is not UTF-8, more
    than 512 MiB of (uncompressed) lines, a damaged archive, no judgement at all.
    """
    comments: list[int] = []
    if path.suffix in READABLE:
        return collect(_from_table(path), path.name, "row")
    judgements = collect(_from_lines(path, comments), path.name)
    if not comments:
        return judgements
    warning = f"{len(comments):,} lines of {path.name} begin with # and were taken as comments."
    return replace(judgements, warnings=(*judgements.warnings, warning))


def collect(judged: Iterable[Judged], name: str, unit: str = "line") -> Judgements:
    """Judgements from (number, query, item, grade), each pair once; errors name the line of that number."""
    grades: dict[tuple[str, str], float] = {}
    read: dict[str, float] = {}
    n_given = 0
    for number, query, item, written in judged:
        n_given += 1
        if (grade := read.get(written)) is None:
            grade = finite(written, f"{name} {unit} {number}: the grade", "0 and below is not relevant, above 0 is")
            read[written] = grade
        if grades.setdefault((query, item), grade) != grade:
            raise ValueError(
                f"{name} {unit} {number}: query {query[:80]!r} and item {item[:80]!r} are judged twice, as "
                f"{grades[query, item]:g} and as {grade:g}; keep one of the two"
            )
    if not grades:
        raise ValueError(f"{name} holds no judgement; {_EXPECTED}")
    n_repeated, values = n_given - len(grades), np.array(list(grades.values()))
    said = {
        f"{n_repeated:,} judgements of {name} repeat a pair with the same grade; each pair counts once.": n_repeated,
        f"No grade in {name} is above 0, so no item is relevant to any query.": not (values > 0).any(),
    }
    queries, items = zip(*grades, strict=True)
    return Judgements(queries, items, values, name, tuple(sentence for sentence, holds in said.items() if holds))


def _from_table(path: Path) -> Iterator[Judged]:
    rows = read_rows(path)
    require_columns(rows, ("query", "item", "grade"), path.name)
    for number, row in enumerate(rows, start=1):
        yield number, str(row["query"]), str(row["item"]), str(row["grade"])


def _from_lines(path: Path, comments: list[int]) -> Iterator[Judged]:
    lines = stream_lines(path)
    beir = False
    for number, line in lines:
        if beir := [field.lower() for field in line.split()] == _BEIR_HEADER:
            break
        if line.strip():
            lines = chain([(number, line)], lines)
            break
    for number, line in lines:
        fields = [field.strip() for field in line.split(b"\t")] if beir else line.split()
        if not beir and line.startswith(b"#"):
            comments.append(number)
        elif any(fields):
            if len(fields) != (3 if beir else 4) or not all(fields):
                raise ValueError(_wrong_fields(f"{path.name} line {number}", fields, beir))
            try:
                yield number, fields[0].decode(), fields[-2].decode(), fields[-1].decode()
            except UnicodeDecodeError:
                decoded(b" ".join(fields), f"{path.name} line {number}")


def _wrong_fields(place: str, fields: list[bytes], beir: bool) -> str:
    if beir:
        filled = sum(map(bool, fields))
        return f"{place} has {filled} fields between tabs; a BEIR table has three: query-id, corpus-id, score"
    hint = _EXPECTED
    if len(fields) == 6:
        hint = "six are a ranked list (query Q0 item rank score tag), which belongs into dataset=run:FILE"
    elif len(fields) == 3:
        hint = f"TREC qrels have four: query iter item grade; put a 0 in the second place ({_EXPECTED})"
    return f"{place} has {len(fields)} fields; {hint}"


def finite(written: str, what: str, hint: str) -> float:
    """The finite number that is written; else an error "WHAT is 'x', which is no finite number; HINT".

    >>> finite("2", "the grade", "use 0, 1, 2")
    2.0
    """
    try:
        number = math.nan if "_" in written else float(written)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{what} is {written[:40]!r}, which is no finite number; {hint}")
    return number


def decoded(field: bytes, place: str) -> str:
    """A field as text; anything but UTF-8 is an error that names the place."""
    try:
        return field.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{place} is not UTF-8 text ({field[:20]!r}); save the file as UTF-8") from None


def stream_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line without its end) of a text file, gzip-compressed or not, in bounded memory.

    Errors: no such file, a damaged archive, more than 512 MiB of uncompressed text, a line of more than 64 KiB.
    """
    require_file(path)
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    number, rest = 0, b""
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            for chunk in _chunks(file, path.name):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    number += 1
                    yield number, line
                if len(rest) > LONGEST_LINE:
                    raise ValueError(
                        f"{path.name} line {number + 1} is longer than {LONGEST_LINE:,} bytes; one line per entry "
                        "was expected, so this is another kind of file"
                    )
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path.name} cannot be unpacked after line {number} ({error}); copy it again") from None
    if rest:
        yield number + 1, rest


def _chunks(file: IO[bytes] | gzip.GzipFile, name: str) -> Iterator[bytes]:
    size = 0
    while chunk := file.read(_CHUNK):
        if not size:
            chunk = chunk.removeprefix(b"\xef\xbb\xbf")
        size += len(chunk)
        if size > LARGEST:
            raise ValueError(f"{name} holds more than {LARGEST // 2**20} MiB of text; cut it into several files")
        yield chunk


def match_ids(names: Iterable[str], known: Names[str]) -> dict[str, str]:
    """Which known id each name means; what has no match is absent.

    A name means the known id that is spelt the same. Only where there is none, a percent-encoded name, as our own TREC
    files have it, means the known id that it decodes to, unless another of the names already means that one.
    Nothing is decoded for any other reason: a name without a match is never changed.

    >>> match_ids(["a", "b%20c", "50%25", "x"], {"a", "b c", "50%25"})
    {'a': 'a', 'b%20c': 'b c', '50%25': '50%25'}
    """
    given, taken = dict.fromkeys(names), set()
    found = {}
    for name in given:
        if name in known:
            found[name] = name
        elif "%" in name and (plain := unquote(name)) in known and plain not in given and plain not in taken:
            found[name] = plain
            taken.add(plain)
    return found


def judged_by(collection: Collection, judgements: Judgements) -> Collection:
    """The collection with these judgements in place of its own relevance.

    Queries are matched with the ids of the texts, items with the ids of the images (:func:`match_ids`). A query
    without a relevant item keeps none, so that metrics leave it out; ``notes`` says how many. ``text_image``, which
    says for which image a text was written, stays. Error: an id that the collection does not have.
    """
    queries = _all_known(judgements, "queries", collection)
    items = _all_known(judgements, "items", collection)
    row = {name: number for number, name in enumerate(collection.texts.ids)}
    column = {name: number for number, name in enumerate(collection.images.ids)}
    relevance = Relevance.from_pairs(
        [row[queries[name]] for name in judgements.queries], [column[items[name]] for name in judgements.items],
        judgements.grades, n_queries=len(row), n_gallery=len(column),
    )  # fmt: skip
    notes = (*collection.notes, *judgements.warnings, *without_positives(relevance, judgements.name))
    return replace(collection, relevance=relevance, notes=notes)


def without_positives(relevance: Relevance, name: str) -> tuple[str, ...]:
    """The sentence on queries that no metric can score, if there are any."""
    n_unjudged = int((np.diff(relevance.indptr) == 0).sum())
    n_nothing = int((relevance.positives_per_query == 0).sum()) - n_unjudged
    parts = [f"{n_unjudged:,} without a judgement"] * bool(n_unjudged)
    parts += [f"{n_nothing:,} without a relevant item among the judged"] * bool(n_nothing)
    if not parts:
        return ()
    return (f"Of {relevance.n_queries:,} queries {name} leaves {' and '.join(parts)}: they are in no mean.",)


def _all_known(judgements: Judgements, what: str, collection: Collection) -> dict[str, str]:
    names = dict.fromkeys(getattr(judgements, what))
    side = collection.texts if what == "queries" else collection.images
    known = set(side.ids)
    found = match_ids(names, known)
    if len(found) == len(names):
        return found
    unknown = [name for name in names if name not in found]
    hint = f"the {side.modality} ids look like {shortened(side.ids)}"
    if _swapped(judgements, collection):
        hint += "; queries and items are exchanged in the file: swap the two columns"
    raise ValueError(
        f"{len(unknown):,} of {len(names):,} {what} in {judgements.name} are not in {collection.card.name!r}, "
        f"the first are {shortened(unknown)}; {hint}"
    )


def shortened(names: Iterable[str]) -> list[str]:
    """The first three ids, at most 80 characters of each: enough to see what they look like."""
    return [name[:80] for name in islice(dict.fromkeys(names), 3)]


def _swapped(judgements: Judgements, collection: Collection) -> bool:
    """Most queries of the file are items of the collection, and most of its items queries."""
    sides = ((judgements.queries, collection.images.ids), (judgements.items, collection.texts.ids))
    return all(2 * len(match_ids(names, set(ids))) > len(set(names)) for names, ids in sides)
