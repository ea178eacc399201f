"""Other people's labels of the same items: who is right for whom, for each direction on its own.

A set of labels may judge one direction only, and where it judges both, one need not be the other transposed: ECCV
Caption has 22,550 pairs of 1,261 images and 11,279 pairs of 1,332 captions, and only the 6,089 whose image and caption
are both asked about are in both files. What is asked decides what is labelled, so a :class:`LabelSet` has one relevance
per direction.

Files: ``{query id: [item ids]}`` as JSON (one direction each), the graded ``sits_*.csv`` of Crisscrossed Captions, and
everything :mod:`workbench.datasets.qrels` reads (both directions).

S. Chun et al., "ECCV Caption: Correcting False Negatives by Collecting Machine-and-Human-verified Image-Caption
Associations for MS-COCO", ECCV 2022, https://arxiv.org/abs/2204.03359.
Z. Parekh et al., "Crisscrossed Captions: Extended Intramodal and Intermodal Semantic Similarity Judgments for MS-COCO",
EACL 2021, https://arxiv.org/abs/2004.15020.
"""

from __future__ import annotations

import gzip
import math
import os
import re
import zlib
from collections.abc import Collection as Names
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from workbench.datasets.collection import Collection, Side
from workbench.datasets.qrels import (
    LARGEST,
    Judged,
    Judgements,
    collect,
    decoded,
    match_ids,
    read_qrels,
    shortened,
    stream_lines,
)
from workbench.datasets.tables import parse_json, require_file
from workbench.types import Relevance

THRESHOLD = 3.0  # CxC scores run from 0 to 5; the positives that its authors count for retrieval reach 3
OWN = "own labels"
FREE_BYTES = 16 * 2**20
INFLATED_TIMES = 50
CXC_HEADER = ["caption", "image", "agg_score"]
# Two captions of ECCV Caption's image file are not among the five captions an image that make up the 25,000 of the
# 5K test split: (image, caption).
BEYOND_FIVE = {("575916", "144675"), ("421999", "467259")}
_COCO = (
    re.compile(r"(?:.*[/\\])?(?:COCO_[a-z]+\d{4}_)?(?P<number>[0-9]{12})\.(?:jpe?g|png)", re.IGNORECASE),
    re.compile(r"COCO_[a-z]+\d{4}:sentid:(?P<number>[0-9]{1,12})"),
    re.compile(r"(?P<number>[0-9]{1,12})"),
)
_ENDING = re.compile(r"\.(?:json|jsonl|csv|tsv|txt|parquet|qrels?|trec)?(?:\.gz)?$", re.IGNORECASE)
_DIRECTIONS = (
    re.compile(r"(?:captions?|texts?)_?(?:to|2)_?images?|t2i", re.IGNORECASE),
    re.compile(r"images?_?(?:to|2)_?(?:captions?|texts?)|i2t", re.IGNORECASE),
)


@dataclass(frozen=True, eq=False)
class LabelSet:
    """What one source calls right.

    forward (n_texts, n_images), backward (n_images, n_texts) : the queries of each direction are the rows; None where
    the source does not judge the direction. name : of the source. notes : sentences on what was done in reading.
    """

    name: str
    forward: Relevance | None
    backward: Relevance | None
    notes: tuple[str, ...] = ()


def label_sets(sources: Sequence[str], collection: Collection) -> tuple[LabelSet, ...]:
    """The sets that the sources name, in their order, each held against the ids of the collection.

    sources : ``FILE``, or ``FILE,FILE`` for a set that has one file per direction.
    Errors: as :func:`label_set`; a source that is given twice.
    """
    repeated = next((source for place, source in enumerate(sources) if source in sources[:place]), None)
    if repeated is not None:
        raise ValueError(f"labels: {repeated!r} is given twice; keep one")
    found = [label_set(source, collection) for source in sources]
    names = [one.name for one in found]
    return tuple(
        replace(one, name=f"{one.name} ({place + 1})") if names.count(one.name) > 1 or one.name == OWN else one
        for place, one in enumerate(found)
    )


def label_set(source: str, collection: Collection) -> LabelSet:
    """One set of labels from ``FILE`` or ``FILE,FILE``, with the rows and columns of the collection.

    A JSON file ``{id: [ids]}`` judges the direction whose queries are its keys; which side these are is told by the
    ids, and by the file name (``image_to_caption``, ``t2i``) only where the ids would fit both ways. Other files judge
    pairs, hence both directions. An id is matched as for qrels, or by its COCO number (:func:`coco_number`).
    Errors: an id that the collection does not have, with how many there are; two files for one direction.
    """
    files = _files(source)
    parts = [_part(path, collection) for path in files]
    sides: list[Relevance | None] = []
    for place, words in enumerate((("text", "image"), ("image", "text"))):
        given = [part[place] for part in parts if part[place] is not None]
        if len(given) > 1:
            raise ValueError(
                f"{files[0].name} and {files[1].name} both judge {words[0]} to {words[1]}; of two files joined by a "
                "comma each gives one direction; separate sets are separate entries of labels"
            )
        sides.append(given[0] if given else None)  # type: ignore[arg-type]
    return LabelSet(_name(files), sides[0], sides[1], tuple(note for part in parts for note in part[2]))


def read_labels(path: Path) -> tuple[Judgements, bool]:
    """Judgements from a file, and whether they hold for one direction only, the one whose queries are its queries."""
    ending = path.name.lower().removesuffix(".gz")
    if ending.endswith(".json"):
        return read_label_map(path), True
    if ending.endswith(".csv"):
        header = _header(path)
        if header[:3] == CXC_HEADER:
            return read_cxc(path), False
        if header[2:3] == CXC_HEADER[2:]:
            raise ValueError(
                f"{path.name} judges pairs of one side ({', '.join(header[:2])}); labels are pairs of a caption and an "
                "image, as in the sits_*.csv of Crisscrossed Captions"
            )
    return read_qrels(path), False


def read_label_map(path: Path) -> Judgements:
    """Judgements from JSON ``{query id: [item ids]}``, gzip-compressed or not: everything that is listed is right.

    A query with an empty list has no judgement; ``warnings`` say how many there are, and how many items were listed
    twice. Errors: as :func:`read_safely`; another shape, an id that is neither text nor a whole number, by entry.
    """
    content = read_safely(path)
    judgements = collect(_entries(content, path.name), path.name, "entry")
    empty = sum(not items for items in content.values())
    if not empty:
        return judgements
    said = f"{empty:,} of {len(content):,} queries of {path.name} have an empty list, so they are left out."
    return replace(judgements, warnings=(*judgements.warnings, said))


def read_cxc(path: Path, *, threshold: float = THRESHOLD) -> Judgements:
    """Judgements of (caption, image) pairs from ``sits_val.csv`` or ``sits_test.csv`` of Crisscrossed Captions.

    threshold : of the score 0..5 from which a pair is right; its grade is then the score. Below it the pair is judged
    and not relevant: grade 0. With 3, the default, the test file gives exactly the 35,585 positives that ECCV Caption's
    code counts for CxC. Ids stay as they are spelt, such as ``COCO_val2014:sentid:732091``.
    Errors: a threshold that is not above 0, another header, a row of another length, a score that is no number.
    """
    if not (math.isfinite(threshold) and threshold > 0):
        raise ValueError(f"the threshold must be a finite number above 0; got {threshold!r}")
    judgements = collect(_scored(path), path.name)
    right = judgements.grades >= threshold
    said = f"A pair of {path.name} is right from a score of {threshold:g}: {right.sum():,} of {len(right):,} pairs."
    grades = np.where(right, judgements.grades, 0.0)
    return replace(judgements, grades=grades, warnings=(*judgements.warnings, said))


def coco_number(name: str) -> str:
    """The number of a COCO image or caption in the spellings that files use, "" for other names.

    >>> [coco_number(name) for name in ("val2014/COCO_val2014_000000391895.jpg", "000000000139.jpg", "391895")]
    ['391895', '139', '391895']
    >>> coco_number("COCO_val2014:sentid:770337"), coco_number("cat.jpg")
    ('770337', '')
    """
    found = next(filter(None, (form.fullmatch(name) for form in _COCO)), None)
    return "" if found is None else found["number"].lstrip("0") or "0"


def matched(names: Iterable[str], known: Names[str]) -> dict[str, str]:
    """Which known id each name means: spelt the same (:func:`match_ids`), else the only one with its COCO number.

    >>> matched(["391895", "b"], ["val2014/COCO_val2014_000000391895.jpg", "b"])
    {'b': 'b', '391895': 'val2014/COCO_val2014_000000391895.jpg'}
    """
    given = dict.fromkeys(names)
    found = match_ids(given, set(known))
    if len(found) == len(given):
        return found
    numbered: dict[str, list[str]] = {}
    for name in known:
        numbered.setdefault(coco_number(name), []).append(name)
    taken = set(found.values())
    for name in given:
        meant = numbered.get(coco_number(name), ()) if name not in found and coco_number(name) else ()
        if len(meant) == 1 and meant[0] not in taken:
            found[name] = meant[0]
            taken.add(meant[0])
    return found


def _part(path: Path, collection: Collection) -> tuple[Relevance | None, Relevance | None, tuple[str, ...]]:
    judgements, one_way = read_labels(path)
    if not one_way:
        forward, notes = _placed(judgements, collection.texts, collection.images, collection)
        return forward, forward.T, notes
    ways = {False: (collection.texts, collection.images), True: (collection.images, collection.texts)}
    missing = {backward: _n_unknown(judgements, *sides) for backward, sides in ways.items()}
    if not any(missing.values()):
        backward = _by_name(path)
    else:
        backward = missing[True] < missing[False]
    relevance, notes = _placed(judgements, *ways[backward], collection)
    return (None, relevance, notes) if backward else (relevance, None, notes)


def _by_name(path: Path) -> bool:
    """Whether the queries are images, where the ids leave it open."""
    forward, backward = (bool(words.search(path.name)) for words in _DIRECTIONS)
    if forward == backward:
        raise ValueError(
            f"the ids of {path.name} fit both ways: its keys may be images or texts; say which in the file name, such "
            "as image_to_caption.json or caption_to_image.json"
        )
    return backward


def _n_unknown(judgements: Judgements, queries: Side, items: Side) -> int:
    return sum(
        len(names) - len(matched(names, side.ids))
        for names, side in ((set(judgements.queries), queries), (set(judgements.items), items))
    )


def _placed(
    judgements: Judgements, queries: Side, items: Side, collection: Collection
) -> tuple[Relevance, tuple[str, ...]]:
    """The relevance between two sides, and the notes; every id must be known."""
    rows, columns = matched(judgements.queries, queries.ids), matched(judgements.items, items.ids)
    judgements = _within_five(judgements, columns)
    for names, found, side in ((judgements.queries, rows, queries), (judgements.items, columns, items)):
        _check_known(judgements, names, found, side, collection)
    row = {name: number for number, name in enumerate(queries.ids)}
    column = {name: number for number, name in enumerate(items.ids)}
    relevance = Relevance.from_pairs(
        [row[rows[name]] for name in judgements.queries], [column[columns[name]] for name in judgements.items],
        judgements.grades, n_queries=len(row), n_gallery=len(column),
    )  # fmt: skip
    return relevance, judgements.warnings


def _within_five(judgements: Judgements, columns: dict[str, str]) -> Judgements:
    """Without the two captions of ECCV Caption that a collection of five captions an image does not have."""
    pairs = zip(judgements.queries, judgements.items, strict=True)
    keep = [pair not in BEYOND_FIVE or pair[1] in columns for pair in pairs]
    if all(keep):
        return judgements
    left_out = len(keep) - sum(keep)
    said = (
        f"{left_out} pairs of {judgements.name} are left out: their captions are not among the first five of an image, "
        "and so not in the data. The code of ECCV Caption keeps them as positives that nothing can find."
    )
    kept = np.flatnonzero(keep)
    return replace(
        judgements, queries=tuple(judgements.queries[i] for i in kept), items=tuple(judgements.items[i] for i in kept),
        grades=judgements.grades[kept], warnings=(*judgements.warnings, said),
    )  # fmt: skip


def _check_known(
    judgements: Judgements, given: Sequence[str], found: dict[str, str], side: Side, collection: Collection
) -> None:
    names = dict.fromkeys(given)
    unknown = [name for name in names if name not in found]
    if not unknown:
        return
    hint = f"the {side.modality} ids look like {shortened(side.ids)}"
    other = collection.images if side is collection.texts else collection.texts
    if 2 * len(matched(names, other.ids)) > len(names):
        hint += f"; most of these are {other.plural}: exchange queries and items in the file"
    elif len(unknown) < len(names):
        hint += "; labels name scored items only: score all of them (split, n_images=0), or shorten the file"
    raise ValueError(
        f"{len(unknown):,} of {len(names):,} {side.plural} in {judgements.name} are not in {collection.card.name!r}, "
        f"the first are {shortened(unknown)}; {hint}"
    )


def _files(source: str) -> list[Path]:
    """One path, or the two that a comma joins; a comma inside the name of an existing file is part of it."""
    if not source:
        raise ValueError("labels: an entry is empty; give the path of a file of judgements, or leave the list empty")
    if not os.path.isfile(source):
        commas = [place for place, sign in enumerate(source) if sign == ","]
        pairs = [(source[:place].strip(), source[place + 1 :].strip()) for place in commas]
        pair = next((pair for pair in pairs if all(map(os.path.isfile, pair))), pairs[0] if pairs else ())
        if pair:
            for part in pair:
                require_file(Path(part))
            return [Path(part) for part in pair]
    require_file(Path(source))
    return [Path(source)]


def _name(files: Sequence[Path]) -> str:
    """What the files are called; of two, what their names begin with."""
    stems = [_ENDING.sub("", path.name) or path.name for path in files]
    words = zip(*(re.split("([_. -])", stem) for stem in stems), strict=False)
    alike = "".join(pair[0] for pair in takewhile(lambda pair: len(set(pair)) == 1, words)).rstrip("_-. ")
    return alike or " + ".join(stems)


def read_safely(path: Path) -> Any:
    """The JSON value in a UTF-8 file, gzip-compressed or not, that came from strangers.

    Errors: text that is not UTF-8 or not JSON, a key twice, more than 512 MiB of it; an archive that is damaged, or
    that unfolds beyond 16 MiB and 50 times its size.
    """
    return parse_json(decoded(_unpacked(path), path.name), path.name)


def _unpacked(path: Path) -> bytes:
    """The bytes of a file, gzip-compressed or not, in bounded memory and without a byte order mark."""
    require_file(path)
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    limit = min(LARGEST, max(FREE_BYTES, INFLATED_TIMES * path.stat().st_size)) if packed else LARGEST
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            data = file.read(limit + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path.name} cannot be unpacked ({error}); copy it again") from None
    if len(data) > limit:
        raise ValueError(f"{path.name} holds more than {limit / 2**20:.0f} MiB of text; is it a file of labels?")
    return data.removeprefix(b"\xef\xbb\xbf")


def _entries(content: Any, name: str) -> Iterator[Judged]:
    if not isinstance(content, dict):
        raise ValueError(f"{name} must hold one JSON object {{query id: [item ids]}}; got {type(content).__name__}")
    for number, (query, items) in enumerate(content.items(), start=1):
        if not isinstance(items, list):
            raise ValueError(
                f"{name} entry {number} ({query[:80]!r}) must be a list of item ids; got {type(items).__name__}"
            )
        for item in items:
            if isinstance(item, bool) or not isinstance(item, str | int):
                raise ValueError(
                    f"{name} entry {number} ({query[:80]!r}) lists {str(item)[:80]!r}; an item id is text or a whole "
                    "number"
                )
            yield number, query, str(item), "1"


def _header(path: Path) -> list[str]:
    first = next(stream_lines(path), (0, b""))[1]
    return [field.strip().lower() for field in first.decode("utf-8", "replace").split(",")]


def _scored(path: Path) -> Iterator[Judged]:
    for number, line in stream_lines(path):
        fields = [field.strip() for field in decoded(line, f"{path.name} line {number}").split(",")]
        if number == 1:
            if [field.lower() for field in fields[:3]] != CXC_HEADER:
                raise ValueError(f"{path.name} must begin with the header {','.join(CXC_HEADER)}; got {fields[:4]}")
            length = len(fields)
        elif any(fields):
            if len(fields) != length or not all(fields[:3]):
                raise ValueError(f"{path.name} line {number} has {len(fields)} fields; the header has {length}")
            yield number, fields[0], fields[1], fields[2]
