"""What two runs are compared by: the evidence of each, and which items of the two are the same."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from workbench.types import FloatArray, IntArray

Kind = Literal["encoder", "vectors", "lists"]


@dataclass(frozen=True, eq=False)
class Items:
    """One side of a run: its items in order, and what is known of each of them.

    contents, inputs, vector_digests : per item, "" where unknown: digest of the content, of what entered the model, of
    the vector. vectors : (n, dim), None when the run kept none. vectors_digest : of all vectors together, "" if none.
    """

    modality: str
    ids: tuple[str, ...]
    contents: tuple[str, ...]
    inputs: tuple[str, ...]
    vector_digests: tuple[str, ...]
    vectors: npt.NDArray[Any] | None = None
    vectors_digest: str = ""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Truth:
    """The labelled pairs: positions in the query side and in the gallery side of text to image, and grades."""

    queries: IntArray
    items: IntArray
    grades: FloatArray


@dataclass(frozen=True, eq=False)
class Answers:
    """One direction: the kept lists, best first, and the metrics of every query.

    queries, items, scores : one entry per kept result; positions on the query side and on the gallery side.
    forward : the queries are the texts (or whatever ``Evidence.sides[1]`` is). per_query : metric -> (n_queries,).
    """

    direction: str
    forward: bool
    queries: IntArray
    items: IntArray
    scores: FloatArray
    per_query: Mapping[str, FloatArray]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a run says of itself and what it left behind, without the folder.

    declared : manifest facts by dotted name. incidental : facts that differ between any two runs (time, timings).
    sides : images (or documents) first, then texts (or queries). truth : None when the run kept none.
    metrics : direction/metric -> value, low, high, ...; None where not measurable. files : digest by file name.
    kind : whether an encoder ran, the data brought vectors, or only ranked lists are known. depth : length of the
    kept lists at most.
    """

    name: str
    kind: Kind
    declared: Mapping[str, Any]
    incidental: Mapping[str, Any]
    sides: tuple[Items, Items]
    truth: Truth | None
    answers: tuple[Answers, ...]
    metrics: Mapping[str, Mapping[str, float | None]]
    files: Mapping[str, str] = field(default_factory=dict)
    depth: int = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Match:
    """Which items of two sides are the same: positions in pairs, and what happened to the others.

    renamed : pairs of ids with equal content. edited : ids whose content changed. number : (n_second,) the position in
    the first side, or a number beyond it for an added item.
    """

    first: IntArray
    second: IntArray
    renamed: tuple[tuple[str, str], ...]
    edited: tuple[str, ...]
    removed: tuple[str, ...]
    added: tuple[str, ...]
    number: IntArray
    moved: int


def match(first: Items, second: Items, partners: tuple[Sequence[str], Sequence[str]] | None = None) -> Match:
    """Pair the items of two sides: by id and content, else by content (renamed), else by id (edited).

    partners : per item of each side what it is right for, which tells items of equal content apart.

    >>> one = Items("text", ("a", "b"), ("x", "y"), ("", ""), ("", ""))
    >>> two = Items("text", ("b", "c"), ("z", "x"), ("", ""), ("", ""))
    >>> found = match(one, two)
    >>> found.renamed, found.edited, found.number
    ((('a', 'c'),), ('b',), array([1, 0]))
    """
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    both = (_keys(side, known) for side, known in zip((first, second), partners or ((), ()), strict=True))
    for keys in zip(*both, strict=True):
        waiting: dict[Hashable, deque[int]] = defaultdict(deque)
        for place, key in enumerate(keys[1]):
            if key is not None and place not in taken:
                waiting[key].append(place)
        for place, key in enumerate(keys[0]):
            if place not in pairs and key is not None and waiting.get(key):
                pairs[place] = waiting[key].popleft()
        taken = set(pairs.values())
    return _described(first, second, pairs)


def _keys(side: Items, partners: Sequence[str]) -> Iterator[list[Hashable | None]]:
    """What may identify an item, the surest first; None where it is unknown."""
    yield list(zip(side.ids, side.contents, strict=True))
    if partners:
        yield [(content, other) if content else None for content, other in zip(side.contents, partners, strict=True)]
    else:
        yield [None] * len(side)
    yield [content or None for content in side.contents]
    yield list(side.ids)
    known = zip(side.contents, side.vector_digests, strict=True)
    yield [digest if digest and not content else None for content, digest in known]


def _described(first: Items, second: Items, pairs: Mapping[int, int]) -> Match:
    left = np.array(sorted(pairs), np.int64)
    right = np.array([pairs[place] for place in left.tolist()], np.int64)
    number = len(first) + np.arange(len(second))
    number[right] = left
    both = list(zip(left.tolist(), right.tolist(), strict=True))
    contents = [(first.ids[a], first.contents[a], second.contents[b]) for a, b in both]
    return Match(
        left,
        right,
        renamed=tuple((first.ids[a], second.ids[b]) for a, b in both if first.ids[a] != second.ids[b]),
        edited=tuple(name for name, before, after in contents if before and after and before != after),
        removed=tuple(name for place, name in enumerate(first.ids) if place not in pairs),
        added=tuple(second.ids[place] for place in sorted(set(range(len(second))) - set(right.tolist()))),
        number=number,
        moved=int((np.argsort(np.argsort(right)) != np.arange(len(right))).sum()),
    )


def matches(first: Evidence, second: Evidence) -> tuple[Match, Match]:
    """The two sides matched; items of equal content are told apart by what they are right for."""
    partners = [_partners(one) for one in (first, second)]
    return tuple(  # type: ignore[return-value]
        match(first.sides[side], second.sides[side], (partners[0][side], partners[1][side])) for side in (0, 1)
    )


def _partners(evidence: Evidence) -> tuple[list[str], list[str]]:
    found: list[list[list[str]]] = [[[] for _ in side.ids] for side in evidence.sides]
    if evidence.truth is not None:
        images, texts = evidence.sides
        for query, item in zip(evidence.truth.queries.tolist(), evidence.truth.items.tolist(), strict=True):
            found[0][item].append(texts.contents[query])
            found[1][query].append(images.contents[item])
    return tuple(["".join(sorted(names)) for names in side] for side in found)  # type: ignore[return-value]
