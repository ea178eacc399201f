"""Topics with known facts, segments that hold them, answers that cite segments, and defects planted in these."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Record = dict[str, Any]
DEFECTS = (
    "missing field", "several runs", "unknown topic", "other topic text", "answered twice", "malformed reference",
    "repeated reference", "too many references", "wrong length", "citation out of range",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class AnswerWorld:
    """topics : id -> text. facts : for each topic what there is to be said. evidence : segment -> the facts it holds.
    segments : for each topic the ids of its segments, facts of copies included. copy_of : copy -> original segment."""

    topics: Mapping[str, str]
    facts: tuple[set[str], ...]
    evidence: Mapping[str, set[str]]
    segments: tuple[tuple[str, ...], ...]
    copy_of: Mapping[str, str]


def answer_world(
    *, n_topics: int = 20, n_facts: int = 8, n_empty: int = 12, copies: float = 0.0, seed: int = 0
) -> AnswerWorld:
    """Each fact is held by one segment, beside segments that hold none; a share of the segments with a fact is copied.

    copies : mean number of near-copies per segment with a fact, given to few: a segment has none or five.

    >>> world = answer_world(n_topics=3, n_facts=4, copies=1.0)
    >>> len(world.facts[0]), all(world.evidence[copy] == world.evidence[one] for copy, one in world.copy_of.items())
    (4, True)
    """
    dice = np.random.default_rng(seed)
    topics = {f"topic-{t}": f"what is known of subject {t}?" for t in range(n_topics)}
    evidence: dict[str, set[str]] = {}
    copy_of: dict[str, str] = {}
    facts, segments = [], []
    for t in range(n_topics):
        held = [f"fact-{t}-{f}" for f in range(n_facts)]
        own = []
        for f, fact in enumerate(held):
            name = f"doc-{t}-{f}#0"
            evidence[name] = {fact}
            own.append(name)
            for number in range(5 if dice.random() < copies / 5 else 0):
                other = f"doc-{t}-{f}#{number + 1}"
                evidence[other], copy_of[other] = {fact}, name
                own.append(other)
        empty = [f"doc-{t}-none-{i}#0" for i in range(n_empty)]
        evidence |= {name: set() for name in empty}
        facts.append(set(held))
        segments.append((*own, *empty))
    return AnswerWorld(topics, tuple(facts), evidence, tuple(segments), copy_of)


def clean_records(world: AnswerWorld, *, n_references: int = 6, seed: int = 0) -> list[Record]:
    """An answer per topic: a sentence for each of some segments, which it cites."""
    dice = np.random.default_rng(seed)
    records = []
    for (topic, text), own in zip(world.topics.items(), world.segments, strict=True):
        chosen = [own[i] for i in dice.permutation(len(own))[:n_references]]
        said = [{"text": f"Segment {one} says so.", "citations": [i]} for i, one in enumerate(chosen)]
        records.append({"run_id": "run-a", "topic_id": topic, "topic": text, "references": chosen,
                        "response_length": 4 * len(said), "answer": said})  # fmt: skip
    return records


def spoiled(records: list[Record], *, max_references: int = 20, seed: int = 0) -> tuple[list[Record], dict[int, str]]:
    """The records with one defect of every kind of :data:`DEFECTS`, each in a record of its own.

    Returns the records and line (from 1) -> kind. Needs as many records as there are kinds, and one more.
    """
    if len(records) <= len(DEFECTS):
        raise ValueError(f"{len(DEFECTS)} defects need {len(DEFECTS) + 1} records or more; got {len(records)}")
    found = copy.deepcopy(records)
    places = (
        1 + np.random.default_rng(seed).permutation(len(found) - 1)[: len(DEFECTS)]
    )  # the first sets the run's name
    planted = {int(place) + 1: kind for place, kind in zip(places, DEFECTS, strict=True)}
    for line, kind in planted.items():
        _plant(found[line - 1], kind, found[0], max_references)
    return found, planted


def _plant(record: Record, kind: str, first: Record, most: int) -> None:
    if kind == "missing field":
        del record["response_length"]
    elif kind == "several runs":
        record["run_id"] = "run-b"
    elif kind == "unknown topic":
        record["topic_id"] = "topic-x"
    elif kind == "other topic text":
        record["topic"] += " and why?"
    elif kind == "answered twice":
        record["topic_id"], record["topic"] = first["topic_id"], first["topic"]
    elif kind == "malformed reference":
        record["references"][0] = "no such id"
    elif kind == "repeated reference":
        record["references"].append(record["references"][0])
    elif kind == "too many references":
        record["references"] += [f"doc-more-{i}#0" for i in range(most + 1 - len(record["references"]))]
    elif kind == "wrong length":
        record["response_length"] += 1
    else:
        record["answer"][0]["citations"] = [len(record["references"])]
