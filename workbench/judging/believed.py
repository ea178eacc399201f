"""The same estimate under each judge, under any of them, and under all of them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.judging.estimate import JudgedEstimate, estimate_from_judged
from workbench.judging.judged import POOL, Entry, Judged
from workbench.metrics import Metric
from workbench.metrics.lists import Lists
from workbench.types import Relevance

ANY, ALL = "any judge", "all judges"


def estimates_by_judge(
    lists: Lists, relevance: Relevance, judges: Mapping[str, Judged], metric: Metric | str, **how: Any
) -> dict[str, JudgedEstimate]:
    """How far a metric moves with the judge, from the queries that all of them judged: nothing but the judge differs.

    Returns one estimate per judge, then "any judge" (right if one says so) and "all judges" (right if all say so).
    What one of them skipped is left out for all. how : the keywords of
    :func:`workbench.judging.estimate_from_judged`, query_ids and item_ids among them.
    Errors: fewer than two judges; no query that all of them judged; judges whose samples were drawn differently; those
    of estimate_from_judged.

    >>> relevance = Relevance.from_pairs([0, 1], [2, 0], n_queries=2, n_gallery=3)
    >>> lists = [([1, 2], [0.9, 0.5]), ([2, 1], [0.9, 0.5])]
    >>> judges = {
    ...     "a": Judged("a", (Entry("x", {"1": (0, 1.0)}), Entry("y", {"2": (0, 1.0)}))),
    ...     "b": Judged("b", (Entry("x", {"1": (0, 0.0)}), Entry("y", {"2": (0, 1.0)}))),
    ... }
    >>> found = estimates_by_judge(lists, relevance, judges, "hit@1", query_ids="xy", item_ids="012")
    >>> {name: one.value for name, one in found.items()}
    {'a': 1.0, 'b': 0.5, 'any judge': 1.0, 'all judges': 0.5}
    """
    shared = believed(judges)
    return {name: estimate_from_judged(lists, relevance, one, metric, **how) for name, one in shared.items()}


def believed(judges: Mapping[str, Judged]) -> dict[str, Judged]:
    """Each judge, "any judge" and "all judges", on the pairs that all of them judged; controls left out.

    Errors: as :func:`estimates_by_judge`.

    >>> one = Judged("a", (Entry("x", {"1": (0, 1.0), "2": (0, 0.0)}),))
    >>> sorted(believed({"a": one, "b": one}))
    ['a', 'all judges', 'any judge', 'b']
    """
    if len(judges) < 2 or {ANY, ALL} & set(judges):
        raise ValueError(f"two judges or more are needed, not called {ANY!r} or {ALL!r}; got {list(judges)}")
    given = list(judges.values())
    drawn = {None if one.design is None else (one.design.pool, one.design.seed, one.design.n_queries) for one in given}
    if len({key and key[:2] for key in drawn}) > 1:
        raise ValueError("the judges' samples come from different pools or seeds; open their sessions with the same")
    answers = [{entry.query: _graded(entry) for entry in one.entries if entry.pairs} for one in given]
    queries = [query for query in answers[0] if all(query in other for other in answers)]
    if not queries:
        raise ValueError(f"no query was judged by all of {list(judges)}; go on with the same pool and seed")
    design = min((one.design for one in given if one.design), key=lambda one: one.n_queries, default=None)
    shared = {name: _entries(queries, [said]) for name, said in zip(judges, answers, strict=True)}
    shared |= {ANY: _entries(queries, answers, max), ALL: _entries(queries, answers, min)}
    return {name: Judged(name, entries, design) for name, entries in shared.items()}


def _graded(entry: Entry) -> dict[str, float]:
    return {item: grade for item, (kind, grade) in entry.pairs.items() if kind == POOL}


def _entries(
    queries: Sequence[str], answers: Sequence[Mapping[str, Mapping[str, float]]], rule: Any = max
) -> tuple[Entry, ...]:
    """Per query the items that every one of these judges judged, each with the grade that the rule picks."""
    found = []
    for query in queries:
        items = [item for item in answers[0][query] if all(item in said[query] for said in answers)]
        found.append(Entry(query, {item: (POOL, rule(said[query][item] for said in answers)) for item in items}))
    return tuple(entry for entry in found if entry.pairs)
