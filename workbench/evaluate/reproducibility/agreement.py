"""How alike the lists of two runs are, direction by direction, over what both runs hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.diagnostics.rank_agreement import rank_agreement
from workbench.diagnostics.run_evidence import Answers, Evidence, Match, matches
from workbench.types import RankedLists


def agreement(first: Evidence, second: Evidence, *, k: int) -> dict[str, list[dict[str, Any]] | str]:
    """Rank-biased overlap, tau-ap and overlap@k of the kept lists: direction -> rows, or why there are none.

    Items are matched as in the certificate, by content and by id, and both lists cut to the length that both runs keep.
    Rows and formulas: :func:`workbench.diagnostics.rank_agreement.rank_agreement`.
    """
    sides = matches(first, second)
    pairs = [(a, b) for a in first.answers for b in second.answers if a.direction == b.direction]
    return {one.direction: _rows(first, (one, other), second, sides, k) for one, other in pairs}


def _rows(
    first: Evidence, answers: tuple[Answers, Answers], second: Evidence, sides: tuple[Match, Match], k: int
) -> list[dict[str, Any]] | str:
    asked, searched = (1, 0) if answers[0].forward else (0, 1)
    own = first.sides[asked].ids, first.sides[searched].ids
    other = tuple(_names(first.sides[place].ids, second.sides[place].ids, sides[place]) for place in (asked, searched))
    depth = min(first.depth, second.depth)
    lists = [
        _lists(one, len(names[0]), len(names[1])).shortened(depth)
        for one, names in zip(answers, (own, other), strict=True)
    ]
    try:
        return rank_agreement(*lists, first_ids=own, second_ids=(other[0], other[1]), k=k).rows()
    except ValueError as error:
        return f"Not comparable: {error}."


def _names(first: Sequence[str], second: Sequence[str], found: Match) -> list[str]:
    """Items of the second run by the name that they have in the first one."""
    return [
        first[number] if number < len(first) else f"{name} (added)"
        for number, name in zip(found.number.tolist(), second, strict=True)
    ]


def _lists(one: Answers, n_queries: int, n_gallery: int) -> RankedLists:
    order = np.argsort(one.queries, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(one.queries, minlength=n_queries))])
    return RankedLists(indptr, one.items[order], one.scores[order], n_gallery)
