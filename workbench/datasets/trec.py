"""``run:LISTS.trec``: a search service that is known only by the ranked lists it returned."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from workbench.datasets.collection import Card, Collection, Side
from workbench.datasets.qrels import (
    Judgements,
    decoded,
    finite,
    match_ids,
    read_qrels,
    shortened,
    stream_lines,
    without_positives,
)
from workbench.types import RankedLists, Relevance

_EXPECTED = "a TREC run has six per line: query Q0 item rank score tag"


@dataclass(frozen=True)
class RunLint:
    """What is irregular in a run, counted.

    n_lists, n_results : lists with at least one result, and lines, as they came.
    n_repeated, n_lists_with_repeats : results whose item is already in the list with a score as good or better (they
    are left out), and the lists in which that happens.
    n_rank_disagreements : results whose rank column is no later than that of a result with a strictly higher score.
    n_lists_reversed : lists whose scores only rise with the rank column, as distances do.
    n_comments : lines that begin with #, which were left out.
    missing_queries : judged, but without a list. unjudged_queries : with a list, but never judged.
    """

    n_lists: int
    n_results: int
    n_repeated: int
    n_lists_with_repeats: int
    n_rank_disagreements: int
    n_lists_reversed: int = 0
    n_comments: int = 0
    missing_queries: tuple[str, ...] = ()
    unjudged_queries: tuple[str, ...] = ()

    def sentences(self) -> tuple[str, ...]:
        """One sentence for each irregularity that lies in the run itself, and for the queries that it lacks.

        >>> RunLint(n_lists=2, n_results=9, n_repeated=1, n_lists_with_repeats=1, n_rank_disagreements=0).sentences()
        ('1 results in 1 of 2 lists repeat an item already in the list; the best-scored one is kept.',)
        """
        said = {
            f"{self.n_repeated:,} results in {self.n_lists_with_repeats:,} of {self.n_lists:,} lists repeat an item "
            "already in the list; the best-scored one is kept.": self.n_repeated,
            f"The rank column disagrees with the scores at {self.n_rank_disagreements:,} of {self.n_results:,} "
            "results; the scores decide.": self.n_rank_disagreements,
            f"In {self.n_lists_reversed:,} of {self.n_lists:,} lists the score rises with the rank: are these "
            "distances? A higher score must be a better one, so write the negative distance.": self.n_lists_reversed,
            f"{self.n_comments:,} lines that begin with # were taken as comments.": self.n_comments,
            f"{len(self.missing_queries):,} judged queries have no list and score 0: "
            f"{_first(self.missing_queries)}.": len(self.missing_queries),
        }  # fmt: skip
        return tuple(sentence for sentence, holds in said.items() if holds)


def _first(names: Sequence[str]) -> str:
    return ", ".join(shortened(names)) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


@dataclass(frozen=True, eq=False)
class ParsedRun:
    """A run as its file has it: queries in order of appearance, items in ascending order of id, lists best first.

    name : of the file. tag : of the system. lists : over ``queries`` and ``items``, equal scores in order of item id.
    """

    name: str
    tag: str
    queries: tuple[str, ...]
    items: tuple[str, ...]
    lists: RankedLists
    lint: RunLint


@dataclass
class _Lines:
    """The columns of a run while it is read; ids are numbered in order of appearance."""

    queries: dict[bytes, int] = field(default_factory=dict)
    items: dict[bytes, int] = field(default_factory=dict)
    query: array[int] = field(default_factory=lambda: array("q"))
    item: array[int] = field(default_factory=lambda: array("q"))
    rank: array[float] = field(default_factory=lambda: array("d"))
    score: array[float] = field(default_factory=lambda: array("d"))
    tag: bytes = b""
    n_comments: int = 0


def read_run(path: Path) -> ParsedRun:
    """A TREC run, ``query Q0 item rank score tag`` between blanks or tabs, also gzip-compressed.

    The score decides (higher is better), not the rank column and not the order of the lines; a repeated item keeps its
    best score. Errors name file and line: another number of fields, a score that is no finite number, a second system
    (tag) in the file, text that is not UTF-8; also an empty file.
    """
    lines = _read(path)
    if not lines.query:
        raise ValueError(f"{path.name} holds no results; {_EXPECTED}")
    items = sorted(decoded(name, path.name) for name in lines.items)
    place = {name: number for number, name in enumerate(items)}
    ordered = np.array([place[name.decode()] for name in lines.items])[np.array(lines.item)]
    lists, lint = _sorted_lists(
        np.array(lines.query), ordered, np.array(lines.score), np.array(lines.rank), len(lines.queries), len(items)
    )
    queries = tuple(decoded(name, path.name) for name in lines.queries)
    lint = replace(lint, n_comments=lines.n_comments)
    return ParsedRun(path.name, decoded(lines.tag, path.name), queries, tuple(items), lists, lint)


def _read(path: Path) -> _Lines:
    lines = _Lines()
    queries, items = lines.queries, lines.items
    for number, line in stream_lines(path):
        fields = line.split()
        if not fields or line.startswith(b"#"):
            lines.n_comments += bool(fields)
            continue
        if len(fields) != 6 or fields[5] != lines.tag:
            _check_line(fields, lines, f"{path.name} line {number}")
        query, _, item, rank, score, _ = fields
        if query not in queries or item not in items:
            decoded(query + b" " + item, f"{path.name} line {number}")
        lines.query.append(queries.setdefault(query, len(queries)))
        lines.item.append(items.setdefault(item, len(items)))
        try:
            lines.rank.append(int(rank))
            lines.score.append(_finite(score))
        except (ValueError, OverflowError):
            _refuse(rank, score, f"{path.name} line {number}")
    return lines


def _finite(score: bytes) -> float:
    number = float(score)
    if number - number != 0 or b"_" in score:
        raise ValueError("not finite")
    return number


def _check_line(fields: list[bytes], lines: _Lines, place: str) -> None:
    """Called where a line has another form than the one before: the first tag is taken, everything else is refused."""
    if len(fields) != 6:
        hint = "; write a blank inside an id or tag as %20" if len(fields) > 6 else ""
        if len(fields) == 4:
            hint = "; four are judgements (query iter item grade), which belong into qrels=FILE"
        raise ValueError(f"{place} has {len(fields)} fields; {_EXPECTED}{hint}")
    if lines.query:
        raise ValueError(
            f"{place} has the tag {decoded(fields[5], place)[:80]!r} after {decoded(lines.tag, place)[:80]!r}; "
            "give each system its own file"
        )
    decoded(fields[5], place)
    lines.tag = fields[5]


def _refuse(rank: bytes, score: bytes, place: str) -> None:
    hint = f"the fourth field is a whole number, the fifth a finite one ({_EXPECTED})"
    finite(decoded(score, place), f"{place}: the score", hint)
    raise ValueError(f"{place}: the rank is {decoded(rank, place)[:40]!r}, which is no whole number; {hint}")


def _sorted_lists(
    query: np.ndarray, item: np.ndarray, score: np.ndarray, rank: np.ndarray, n_queries: int, n_items: int
) -> tuple[RankedLists, RunLint]:
    order = np.lexsort((item, -score, query))
    query, item, score, rank = query[order], item[order], score[order], rank[order]
    _, first = np.unique(query * n_items + item, return_index=True)
    kept = np.zeros(len(query), dtype=bool)
    kept[first] = True
    disagreements, reversed_lists = _against_scores(query, score, rank)
    lint = RunLint(
        n_lists=n_queries, n_results=len(query), n_repeated=int((~kept).sum()),
        n_lists_with_repeats=len(np.unique(query[~kept])), n_rank_disagreements=disagreements,
        n_lists_reversed=reversed_lists,
    )  # fmt: skip
    indptr = np.concatenate([[0], np.cumsum(np.bincount(query[kept], minlength=n_queries))])
    return RankedLists(indptr, item[kept], score[kept], n_items), lint


def _against_scores(query: np.ndarray, score: np.ndarray, rank: np.ndarray) -> tuple[int, int]:
    """Of results sorted best first: how many have a rank no later than one of a better score, and how many lists of
    three or more are exactly backwards. Within equal scores any order of ranks agrees.

    The running maximum of the ranks, lifted by the query so that it starts anew with each list, is read off where the
    results of strictly better score end.
    """
    _, level = np.unique(rank, return_inverse=True)
    lifted = level + query * (level.max() + 1)
    in_list = np.diff(query, prepend=-1) == 0
    new_score = ~in_list | (np.diff(score, prepend=np.inf) != 0)
    start = np.maximum.accumulate(np.where(new_score, np.arange(len(query)), 0))
    best_before = np.maximum.accumulate(lifted)[start - 1]
    disagrees = in_list[start] & (lifted <= best_before)
    backwards = in_list & new_score & (np.diff(lifted, prepend=0) < 0)
    n_steps, n_backwards = np.bincount(query[in_list]), np.bincount(query[backwards])
    whole = n_steps[: len(n_backwards)] == n_backwards
    return int(disagrees.sum()), int((whole & (n_backwards >= 2)).sum())


def lint_run(run: ParsedRun, judgements: Judgements | None = None) -> RunLint:
    """The irregularities of a run; with judgements also which queries lack a list, and which are not judged.

    The measurement behind duplicate results: ``lint_run(read_run(path)).n_repeated / n_results`` is the share of
    results that show an item again.
    """
    if judgements is None:
        return run.lint
    judged, listed = dict.fromkeys(judgements.queries), set(run.queries)
    return replace(
        run.lint,
        missing_queries=tuple(name for name in judged if name not in listed),
        unjudged_queries=tuple(name for name in run.queries if name not in judged),
    )


def load_run(lists: Path, qrels: Path | None = None) -> Collection:
    """A collection of queries and documents without content, with what a system returned for each query.

    Documents (the first side) are all that were returned or judged. Queries stand in the order of the judgements, then
    of the run. A judged query without a list keeps an empty one and scores 0 (trec_eval -c); a query that is not
    judged has no positives and is left out of every mean. Ids that one of the two files percent-encodes are matched as
    :func:`~workbench.datasets.qrels.match_ids` says. ``notes`` holds the sentences of :class:`RunLint`.
    Errors: those of :func:`read_run` and :func:`~workbench.datasets.qrels.read_qrels`; no query in both files.
    """
    run = read_run(lists)
    if qrels is None:
        n_queries, n_items = len(run.queries), len(run.items)
        empty = Relevance.from_pairs([], [], n_queries=n_queries, n_gallery=n_items)
        return _collection(run, run.queries, run.items, empty, run.lists, run.lint, run.lint.sentences())
    run, judgements = agreeing(run, read_qrels(qrels))
    lint = lint_run(run, judgements)
    queries = tuple(dict.fromkeys((*judgements.queries, *run.queries)))
    items = tuple(sorted({*run.items, *judgements.items}))
    column = {name: number for number, name in enumerate(items)}
    row = {name: number for number, name in enumerate(queries)}
    relevance = Relevance.from_pairs(
        [row[name] for name in judgements.queries], [column[name] for name in judgements.items], judgements.grades,
        n_queries=len(queries), n_gallery=len(items),
    )  # fmt: skip
    notes = (*lint.sentences(), *judgements.warnings, *without_positives(relevance, judgements.name))
    if not set(run.items) & set(judgements.items):
        notes += (f"No item that {run.name} returns is judged in {judgements.name}: do both name items alike?",)
    return _collection(run, queries, items, relevance, _spread(run, row, column), lint, notes)


def agreeing(run: ParsedRun, judgements: Judgements) -> tuple[ParsedRun, Judgements]:
    """The two with ids spelt alike, where one of them is percent-encoded; an error if they share no query."""
    queries, items = set(judgements.queries), set(judgements.items)
    query_names, item_names = match_ids(run.queries, queries), match_ids(run.items, items)
    run = replace(
        run,
        queries=tuple(query_names.get(name, name) for name in run.queries),
        items=tuple(item_names.get(name, name) for name in run.items),
    )
    query_names, item_names = match_ids(queries, set(run.queries)), match_ids(items, set(run.items))
    if not query_names:
        exchanged = "; its items are queries of the run: swap the two columns" if items & set(run.queries) else ""
        raise ValueError(
            f"none of the {len(run.queries):,} queries in {run.name} is judged in {judgements.name}: the run has "
            f"{shortened(run.queries)}, the judgements {shortened(judgements.queries)}{exchanged}"
        )
    return run, replace(
        judgements,
        queries=tuple(query_names.get(name, name) for name in judgements.queries),
        items=tuple(item_names.get(name, name) for name in judgements.items),
    )


def _spread(run: ParsedRun, row: dict[str, int], column: dict[str, int]) -> RankedLists:
    """The lists of a run over more queries and more items; equal scores again in order of item id."""
    query = np.repeat([row[name] for name in run.queries], run.lists.depths)
    item = np.array([column[name] for name in run.items])[run.lists.items]
    order = np.lexsort((item, -run.lists.scores, query))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(query, minlength=len(row)))])
    return RankedLists(indptr, item[order], run.lists.scores[order], len(column))


def _collection(
    run: ParsedRun, queries: tuple[str, ...], items: tuple[str, ...], relevance: Relevance, lists: RankedLists,
    lint: RunLint, notes: tuple[str, ...],
) -> Collection:  # fmt: skip
    return Collection(
        Card(name=f"run {Path(run.name).stem}"), Side("document", items), Side("query", queries), relevance,
        np.full(len(queries), -1), lists=lists, lint=lint, one_way=True, notes=notes,
    )  # fmt: skip
