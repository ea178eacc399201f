"""What every format of this package is written from and read into: a system's answers, and numbers without answers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from workbench.datasets.qrels import LARGEST, Judgements, match_ids, shortened
from workbench.runs.reading import Run
from workbench.runs.world import sides_of

LONGEST_ID = 4096
Scored = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Answers:
    """What a system answered in one direction, and what is known to be right.

    name : what files are called after. results : query -> item -> score, best first, equal scores in order of item id;
    a query without an answer has an empty list. right : query -> item -> grade (above 0 is relevant).
    tag : of the system. header : the comment lines at the top of a run file. notes : sentences on what was irregular.
    """

    name: str
    results: Scored
    right: Scored = field(default_factory=dict)
    tag: str = ""
    header: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def rows(self) -> Iterable[tuple[str, str, float]]:
        """(query, item, score), list after list."""
        return ((query, item, score) for query, found in self.results.items() for item, score in found.items())

    def graded(self) -> Iterable[tuple[str, str, float]]:
        """(query, item, grade) of every judgement."""
        return ((query, item, grade) for query, known in self.right.items() for item, grade in known.items())


@dataclass(frozen=True)
class Numbers:
    """Aggregates without answers, as a leaderboard file has them: they can only stand beside a measured run, unpaired.

    system, source : whose they are, and where they came from. values : "t2i/hit@1" -> value.
    left_out : entries that no metric of ours means the same as.
    """

    system: str
    source: str
    values: Mapping[str, float]
    left_out: tuple[str, ...] = ()


def best_first(found: Mapping[str, float]) -> dict[str, float]:
    """A list in the one order that lists have here.

    >>> best_first({"b": 1.0, "c": 2.0, "a": 1.0})
    {'c': 2.0, 'a': 1.0, 'b': 1.0}
    """
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def collected(rows: Iterable[tuple[str, str, Any]], where: str) -> dict[str, dict[str, float]]:
    """query -> item -> score. Errors: an item twice in one list, a score that is no finite number, an unusable id."""
    found: dict[str, dict[str, float]] = {}
    for query, item, score in rows:
        of_query = found.setdefault(query, {})
        if item in of_query:
            raise ValueError(
                f"{where}: the list of query {query[:80]!r} holds item {item[:80]!r} twice; one score per item was "
                "expected: remove the repeated result"
            )
        of_query[item] = finite_score(score, f"{where}: query {query[:80]!r}, item {item[:80]!r}")
    check_ids((name for query, items in found.items() for name in (query, *items)), where)
    return {query: best_first(items) for query, items in found.items()}


def finite_score(score: Any, place: str) -> float:
    """A score as it was written; anything but a finite number is an error that names the place.

    >>> finite_score("0.5", "lists.json")
    Traceback (most recent call last):
    ValueError: lists.json has the score '0.5'; a finite number was expected: write it without quotes, or leave it out
    """
    number = math.nan
    if isinstance(score, int | float) and not isinstance(score, bool):
        try:
            number = float(score)
        except OverflowError:
            number = math.inf
    if not math.isfinite(number):
        raise ValueError(
            f"{place} has the score {str(score)[:40]!r}; a finite number was expected: write it without quotes, or "
            "leave it out"
        )
    return number


def check_ids(names: Iterable[str], where: str) -> None:
    """An error for an id that no file of ours could hold: empty, of great length, or with half a character."""
    for name in dict.fromkeys(names):
        if not 0 < len(name) <= LONGEST_ID:
            said = f"one of {len(name):,} characters ({name[:40]!r}...)" if name else "an empty one"
            raise ValueError(
                f"{where}: ids have 1 to {LONGEST_ID:,} characters; got {said}; is it another kind of file?"
            )
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"{where}: the id {name[:80]!r} is no valid Unicode; write the file again as UTF-8"
            ) from None


def check_size(path: Path) -> None:
    """Refuse more than 512 MiB before anything is read."""
    if path.is_file() and (size := path.stat().st_size) > LARGEST:
        raise ValueError(f"{path.name} has {size:,} bytes; at most {LARGEST:,} are read: cut it into several files")


def answers_of(run: Run) -> tuple[Answers, ...]:
    """The lists of a run folder, one entry per direction, with the truth turned the same way."""
    sides, truth, asked = sides_of(run), run.relevance, run.per_query
    found = []
    for name in dict.fromkeys(asked["direction"]):
        queries = [query for query, of in zip(asked["query_id"], asked["direction"], strict=True) if of == name]
        lists: dict[str, dict[str, float]] = {query: {} for query in queries}
        columns = run.neighbours(name)
        scored = zip(columns["query_id"], columns["item_id"], columns["score"].tolist(), strict=True)
        for query, item, score in scored:
            lists[query][item] = score
        ends = ("query_id", "item_id") if name == sides.forward else ("item_id", "query_id")
        right: dict[str, dict[str, float]] = {}
        for query, item, grade in zip(truth[ends[0]], truth[ends[1]], truth["grade"].tolist(), strict=True):
            right.setdefault(query, {})[item] = grade
        found.append(Answers(name, lists, right, tag="workbench"))
    return tuple(found)


def judged_by(answers: Answers, judgements: Judgements) -> Answers:
    """The answers with these judgements, ids spelt alike where one side is percent-encoded; says what does not match.

    Error: no query in both.
    """
    queries, items = _alike(answers.results, judgements.queries), _alike(_items(answers.results), judgements.items)
    results = {
        queries[0].get(query, query): {items[0].get(item, item): score for item, score in found.items()}
        for query, found in answers.results.items()
    }
    right: dict[str, dict[str, float]] = {}
    for query, item, grade in zip(judgements.queries, judgements.items, judgements.grades.tolist(), strict=True):
        right.setdefault(queries[1].get(query, query), {})[items[1].get(item, item)] = grade
    if not results.keys() & right.keys():
        raise ValueError(
            f"none of the {len(results):,} queries in {answers.name} is judged in {judgements.name}: the lists have "
            f"{shortened(results)}, the judgements {shortened(right)}; give the judgements of these queries"
        )
    results = {query: best_first(found) for query, found in results.items()}
    notes = (*answers.notes, *judgements.warnings, *_unmatched(results, right, judgements.name))
    return replace(answers, results=results, right=right, notes=notes)


def _items(results: Scored) -> dict[str, None]:
    return dict.fromkeys(item for found in results.values() for item in found)


def _alike(ours: Iterable[str], theirs: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """What each name of the lists means among the judged ones, and then the other way round."""
    ours, theirs = dict.fromkeys(ours), dict.fromkeys(theirs)
    first = match_ids(ours, theirs.keys())
    return first, match_ids(theirs, {first.get(name, name) for name in ours})


def _unmatched(results: Scored, right: Scored, name: str) -> list[str]:
    unlisted = [query for query in right if not results.get(query)]
    unjudged = [query for query in results if query not in right]
    judged = dict.fromkeys(item for known in right.values() for item in known)
    listed = _items(results)
    unseen = [item for item in judged if item not in listed]
    said = {
        "judged queries have no list and score 0": unlisted,
        f"lists belong to queries that {name} does not judge: they are in no mean": unjudged,
        f"of {len(judged):,} items judged in {name} are in no list": unseen,
    }
    return [f"{len(names):,} {text}: {', '.join(shortened(names))}." for text, names in said.items() if names]
