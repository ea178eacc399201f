"""Generated answers with citations: what is wrong with a file of them, and whether what they cite supports them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FIELDS = ("run_id", "topic_id", "topic", "references", "response_length", "answer")
KINDS: dict[str, str] = {
    "missing field": "a field is absent or of another type than it must be",
    "several runs": "a file holds one run; its run_id differs from that of the first record",
    "unknown topic": "the topic_id is none of the topics",
    "other topic text": "the text of the topic is not that of its id",
    "answered twice": "a topic has a record already",
    "malformed reference": "a reference is no id of a segment",
    "repeated reference": "a segment is listed twice among the references",
    "too many references": "more references than allowed",
    "too many words": "the answer has more words than allowed, counted after NFKC and between blanks",
    "wrong length": "response_length is not the number of words of the answer",
    "citation out of range": "a citation is no index into the references, which begin at 0",
    "unanswered topic": "a topic has no record",
}


@dataclass(frozen=True)
class AnswerIssue:
    """One thing that is wrong. line : number of the record, from 1; 0 for the whole file. kind : a key of KINDS."""

    line: int
    kind: str
    says: str


def segment(sentences: Sequence[str], *, window: int = 10, stride: int = 5) -> list[tuple[int, int]]:
    """(start, stop) of windows over the sentences of a document; the last may be shorter, none is inside another.

    >>> segment(["."] * 12, window=10, stride=5)
    [(0, 10), (5, 12)]
    """
    if window < 1 or not 1 <= stride <= window:
        raise ValueError(f"window must be 1 or more and stride lie in 1..window; got {window} and {stride}")
    starts = range(0, max(1, len(sentences) - window + stride), stride)
    return [(start, min(start + window, len(sentences))) for start in starts] if len(sentences) else []


def words_of(answer: Sequence[Mapping[str, Any]]) -> int:
    """Words of an answer: between blanks, after NFKC.

    >>> words_of([{"text": "one, two"}, {"text": "three"}])
    3
    """
    return len(unicodedata.normalize("NFKC", " ".join(str(one["text"]) for one in answer)).split())


def validate_answers(
    records: Sequence[Mapping[str, Any]], topics: Mapping[str, str], *, max_references: int = 20,
    max_words: int = 400, reference: str = r"\S+",
) -> tuple[AnswerIssue, ...]:  # fmt: skip
    """Everything that is wrong with a file of answers, at once; a clean file gives an empty tuple.

    records : one mapping per answer with run_id, topic_id, topic (texts), references (ids of segments), response_length
    (words) and answer (sentences, each with text and citations, indices into references from 0). topics : id -> text.
    reference : regular expression that the whole id of a segment must match.
    After R. Pradeep et al., "Ragnarok", 2024, https://arxiv.org/abs/2406.16828; written for its records, not its code.

    >>> record = {"run_id": "r", "topic_id": "1", "topic": "why", "references": ["a"], "response_length": 2,
    ...           "answer": [{"text": "That's why.", "citations": [1]}]}
    >>> [issue.says for issue in validate_answers([record], {"1": "why"})]
    ['sentence 1 cites 1, but there are 1 references, from 0']
    """
    issues: list[AnswerIssue] = []
    seen: set[str] = set()
    run = next((str(one["run_id"]) for one in records if "run_id" in one), "")
    for line, record in enumerate(records, start=1):
        lacking = list(_fields(record))
        issues += [AnswerIssue(line, "missing field", says) for says in lacking]
        if lacking:
            continue
        found = [*_topic(record, topics, seen, run), *_references(record, max_references, reference),
                 *_length(record, max_words), *_citations(record)]  # fmt: skip
        issues += [AnswerIssue(line, kind, says) for kind, says in found]
        seen.add(record["topic_id"])
    named = {str(one.get("topic_id")) for one in records}
    issues += [AnswerIssue(0, "unanswered topic", f"topic {one!r}") for one in topics if one not in named]
    return tuple(issues)


def _fields(record: Mapping[str, Any]) -> Iterator[str]:
    kinds = {"references": list, "answer": list, "response_length": int}
    for name in FIELDS:
        if not isinstance(record.get(name), kinds.get(name, str)):
            yield f"{name} must be {kinds.get(name, str).__name__}; got {type(record.get(name)).__name__}"
    for number, one in enumerate(record.get("answer") or [], start=1):
        if not isinstance(one, Mapping) or not isinstance(one.get("text"), str):
            yield f"sentence {number} has no text"
        elif not isinstance(one.get("citations"), list):
            yield f"sentence {number} has no list of citations"


def _topic(record: Mapping[str, Any], topics: Mapping[str, str], seen: set[str], run: str) -> Iterator[tuple[str, str]]:
    topic = record["topic_id"]
    if record["run_id"] != run:
        yield "several runs", f"run_id {record['run_id']!r} after {run!r}"
    if topic not in topics:
        yield "unknown topic", f"topic_id {topic!r}"
    elif record["topic"] != topics[topic]:
        yield "other topic text", f"{record['topic']!r} for {topics[topic]!r}"
    if topic in seen:
        yield "answered twice", f"topic_id {topic!r}"


def _references(record: Mapping[str, Any], most: int, pattern: str) -> Iterator[tuple[str, str]]:
    given = record["references"]
    for one in given:
        if not isinstance(one, str) or re.fullmatch(pattern, one) is None:
            yield "malformed reference", f"{one!r} does not match {pattern}"
    repeated = sorted({str(one) for one in given if given.count(one) > 1})
    for one in repeated:
        yield "repeated reference", f"{one!r} stands {given.count(one)} times"
    if len(given) > most:
        yield "too many references", f"{len(given)} references; {most} are allowed"


def _length(record: Mapping[str, Any], most: int) -> Iterator[tuple[str, str]]:
    words = words_of(record["answer"])
    if words > most:
        yield "too many words", f"{words} words; {most} are allowed"
    if record["response_length"] != words:
        yield "wrong length", f"response_length is {record['response_length']}; the answer has {words} words"


def _citations(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    n = len(record["references"])
    for number, sentence in enumerate(record["answer"], start=1):
        for one in sentence["citations"]:
            if isinstance(one, bool) or not isinstance(one, int) or not 0 <= one < n:
                yield "citation out of range", f"sentence {number} cites {one!r}, but there are {n} references, from 0"


@dataclass(frozen=True)
class CitationSupport:
    """precision : share of citations whose segment holds the fact of the sentence. recall : share of sentences that a
    cited segment supports. found : share of the known facts that a supported sentence states; nan without facts."""

    precision: float
    recall: float
    found: float

    def flat(self) -> dict[str, float]:
        """Plain values."""
        return dict(vars(self))


def citation_support(
    answers: Sequence[Sequence[tuple[str, Sequence[str]]]], evidence: Mapping[str, set[str]],
    facts: Sequence[set[str]],
) -> CitationSupport:  # fmt: skip
    """Whether sentences are supported by what they cite, where it is known which facts a segment holds.

    answers : for each topic its sentences as (fact stated, ids of cited segments). evidence : segment -> its facts. An
    unknown segment holds nothing. facts : for each topic what there is to be said.

    >>> answer = [("rain", ["s1"]), ("snow", ["s1", "s2"])]
    >>> found = citation_support([answer], {"s1": {"rain"}, "s2": {"snow"}}, [{"rain", "snow", "hail"}])
    >>> round(found.precision, 3), found.recall, round(found.found, 3)
    (0.667, 1.0, 0.667)
    """
    if len(answers) != len(facts):
        raise ValueError(f"{len(answers)} answers for {len(facts)} topics")
    cited, right, supported, n, found = 0, 0, 0, 0, 0
    for answer, known in zip(answers, facts, strict=True):
        held: set[str] = set()
        for fact, segments in answer:
            good = [fact in evidence.get(one, set()) for one in segments]
            cited, right, n, supported = cited + len(good), right + sum(good), n + 1, supported + any(good)
            held |= {fact} & known if any(good) else set()
        found += len(held)
    total = sum(len(one) for one in facts)
    nan = float("nan")
    return CitationSupport(
        right / cited if cited else nan, supported / n if n else nan, found / total if total else nan
    )
