"""One ranked list, one metric name, and the number each tool prints: which definition is meant, and why they differ.

Every convention is a short formula written from the tool's definition, for the version named beside it. A tool that
does not offer a metric gets no number, and one whose tie order is undefined gets the range its number can lie in.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from workbench.metrics.conventions import CONVENTIONS, FLOAT32, TIES, TOOLS, Case, Flags, Offer, Rule
from workbench.metrics.lists import ranks_from_lists
from workbench.metrics.named import definition, per_query
from workbench.types import FloatArray, IntArray, RankedLists, Relevance, check_unique

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Ranking:
    """One ranked list as a system printed it, best first.

    grades (n,): whole numbers, above zero for a positive. scores (n,): finite and never rising, higher is closer; None
    when only the order is known (no ties then). ids: n unique strings, by default "01", "02", ... in printed order.
    n_positives: all positives of the query, those the list lacks included; by default those in the list.
    missing_grades: grades of the lacking positives, 1 each unless given.

    >>> ranking = Ranking([1, 0, 1, 0, 0, 1, 0, 0, 0, 0], n_positives=12)
    >>> ranking.n_items, ranking.found, ranking.n_positives
    (10, 3, 12)
    """

    grades: FloatArray
    scores: FloatArray | None = None
    ids: tuple[str, ...] = ()
    n_positives: int = -1
    missing_grades: FloatArray = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        grades = _numbers(self.grades, "grades")
        if not len(grades):
            raise ValueError("the list is empty; an item in first place is needed (most tools refuse an empty list)")
        ids = tuple(self.ids) or tuple(f"{place:0{len(str(len(grades)))}d}" for place in range(1, len(grades) + 1))
        if len(ids) != len(grades):
            raise ValueError(f"{len(grades)} grades but {len(ids)} ids; one id per item is needed")
        found = int((grades > 0).sum())
        missing = _numbers(self.missing_grades, "missing_grades")
        total = found + len(missing) if self.n_positives == -1 else self.n_positives
        if total < max(found, 1) or (len(missing) and total != found + len(missing)) or (missing <= 0).any():
            raise ValueError(
                f"n_positives = {total} with {found} positives in the list and {len(missing)} missing_grades; give the "
                "number of all positives of the query, at least 1 (tools score 0, NaN or nothing for a query without)"
            )
        object.__setattr__(self, "grades", grades)
        object.__setattr__(self, "ids", check_unique(ids, "item"))
        object.__setattr__(self, "n_positives", int(total))
        object.__setattr__(self, "missing_grades", missing if len(missing) else np.ones(total - found))
        object.__setattr__(self, "scores", None if self.scores is None else _falling(self.scores, len(grades)))

    @property
    def n_items(self) -> int:
        return len(self.grades)

    @property
    def found(self) -> int:
        """Positives in the list."""
        return int((self.grades > 0).sum())

    @classmethod
    def from_lists(
        cls, lists: RankedLists, relevance: Relevance, query: int, *, ids: Sequence[str] | None = None
    ) -> Ranking:
        """The list of one query, as a row of ranked lists with its judgements; unjudged items count as not relevant.

        ids : the names of all gallery items, which decide some tie rules; by default their indices as strings.

        >>> lists = RankedLists([0, 3], [4, 0, 2], [0.9, 0.5, 0.5], 6)
        >>> relevance = Relevance.from_pairs([0, 0], [2, 5], n_queries=1, n_gallery=6)
        >>> Ranking.from_lists(lists, relevance, 0).grades
        array([0., 0., 1.])
        """
        if (lists.n_queries, lists.n_gallery) != (relevance.n_queries, relevance.n_gallery):
            raise ValueError(
                f"lists of {lists.n_queries} queries x {lists.n_gallery} items, relevance of {relevance.n_queries} x "
                f"{relevance.n_gallery}; both must speak of the same queries and gallery"
            )
        if not 0 <= query < lists.n_queries:
            raise ValueError(f"query must lie in 0..{lists.n_queries - 1}; got {query}")
        if ids is not None and len(ids) != lists.n_gallery:
            raise ValueError(f"{len(ids)} ids for {lists.n_gallery} gallery items; give the ids of the whole gallery")
        items, scores = lists.row(query)
        judged = dict(zip(*(side.tolist() for side in relevance.row(query)), strict=True))
        missing = [grade for item, grade in judged.items() if grade > 0 and item not in set(items.tolist())]
        names = tuple(str(item) if ids is None else str(ids[item]) for item in items.tolist())
        grades = [judged.get(item, 0.0) for item in items.tolist()]
        return cls(np.asarray(grades), scores, names, missing_grades=np.asarray(missing, dtype=np.float64))


def _numbers(values: npt.ArrayLike, what: str) -> FloatArray:
    array = np.array(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all() or (array != np.round(array)).any():
        raise ValueError(f"{what} must be one row of whole numbers (trec_eval knows no others); got {values!r}")
    array.flags.writeable = False
    return array


def _falling(values: npt.ArrayLike, n_items: int) -> FloatArray:
    scores = np.array(values, dtype=np.float64)
    if scores.shape != (n_items,) or not np.isfinite(scores).all():
        raise ValueError(f"scores must be {n_items} finite numbers, one per item; got {values!r}")
    rises = np.flatnonzero(np.diff(scores) > 0)
    if len(rises):
        place = int(rises[0]) + 1
        raise ValueError(
            f"scores rise from {scores[place - 1]} at place {place} to {scores[place]} at place {place + 1}; give the "
            "items best first, negate distances, or leave the scores out when the order alone is known"
        )
    scores.flags.writeable = False
    return scores


#: Metric -> spellings (lower case, without blanks, hyphens and underscores), our own name, and whether it has a cutoff.
SPELLINGS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "MAP": (("map", "ap", "mapcut", "averageprecision", "meanaverageprecision"), "AP{cut}", "optional"),
    "mAP@R": (("map@r", "mapatr", "meanaverageprecisionatr"), "mAP@R", "none"),
    "recall": (("recall", "r"), "R{cut}", "required"),
    "hit": (("hit", "hits", "hitrate", "success", "accuracy"), "hit{cut}", "required"),
    "precision": (("precision", "p", "prec"), "P{cut}", "required"),
    "R-precision": (("rprecision", "rprec"), "R-precision", "none"),
    "MRR": (("mrr", "rr", "reciprocalrank", "meanreciprocalrank"), "{RR}", "optional"),
    "nDCG": (("ndcg", "ndcgcut"), "nDCG{cut}", "optional"),
}

OWN = "workbench"


def read_name(name: str) -> tuple[str, int | None]:
    """The metric that a name means, in any usual spelling, and its cutoff.

    >>> [read_name(name) for name in ("mAP@10", "R@5", "NDCG@10", "r-precision", "map@R")]
    [('MAP', 10), ('recall', 5), ('nDCG', 10), ('R-precision', None), ('mAP@R', None)]
    """
    plain = re.sub(r"[\s_-]", "", name).lower()
    match = re.fullmatch(r"(?P<name>.+?)(?:@(?P<k>\d+))?", plain)
    known = {spelling: metric for metric, (spellings, _, _) in SPELLINGS.items() for spelling in spellings}
    metric = known.get(match["name"]) if match else None
    if match is None or metric is None:
        near = difflib.get_close_matches(match["name"] if match else plain, known, n=1, cutoff=0.5)
        hint = f"did you mean {known[near[0]]}? " if near else ""
        raise ValueError(f"cannot explain {name!r}; {hint}known: {', '.join(SPELLINGS)}, with a cutoff as in MAP@10")
    k, rule = (int(match["k"]) if match["k"] else None), SPELLINGS[metric][2]
    if (k is None and rule == "required") or (k is not None and (rule == "none" or k < 1)):
        wanted = "takes no cutoff" if rule == "none" else f"needs a cutoff of 1 or more, such as {metric}@10"
        raise ValueError(f"{metric} {wanted}; got {name!r}")
    return metric, k


@dataclass(frozen=True)
class ToolScore:
    """What one tool prints: ``value``, or None where it offers nothing, refuses the list, or leaves the order open.

    low, high : the range over the orders of tied items that the tool may take (both equal ``value`` if it is defined).
    workbench : the metric of this package with the same number on this list in the tool's order; "" where none has.
    """

    tool: str
    version: str
    called: str
    value: float | None
    low: float | None
    high: float | None
    formula: str
    divides_by: str
    ties: str
    workbench: str
    why: str

    @property
    def shown(self) -> str:
        """The value for reading: three digits, the range of an undefined order, or why there is none."""
        if self.value is not None:
            return f"{self.value:.3f}"
        return (
            (self.called and "refused") or "not offered" if self.low is None else f"{self.low:.3f} to {self.high:.3f}"
        )


@dataclass(frozen=True, eq=False)
class Explanation:
    """One list under one name, tool by tool; a table in a notebook."""

    name: str
    ranking: Ranking
    scores: tuple[ToolScore, ...]

    def __getitem__(self, tool: str) -> ToolScore:
        return {score.tool: score for score in self.scores}[tool]

    def values(self) -> dict[float, tuple[str, ...]]:
        """The different values that other tools print, rising, each with its tools."""
        others = [(round(s.value, 9), s.tool) for s in self.scores if s.value is not None and s.tool != OWN]
        return {value: tuple(tool for v, tool in others if v == value) for value, _ in sorted(others)}

    def table(self) -> pd.DataFrame:
        """One row per tool with every field of :class:`ToolScore`; missing numbers are NaN."""
        import pandas as pd

        return pd.DataFrame([vars(score) for score in self.scores]).astype(
            dict.fromkeys(("value", "low", "high"), float)
        )

    def flat(self) -> dict[str, float]:
        """``name/tool`` -> value, or ``name/tool/low`` and ``/high`` for an undefined order; no number, no entry."""
        numbers: dict[str, float] = {}
        for score in self.scores:
            key = f"{self.name}/{score.tool}"
            ends = {"": score.value} if score.value is not None else {"/low": score.low, "/high": score.high}
            numbers |= {key + end: value for end, value in ends.items() if value is not None}
        return numbers

    def _title(self) -> str:
        places = ", ".join(str(place + 1) for place in np.flatnonzero(self.ranking.grades > 0)) or "none"
        return (
            f"{self.name} of one list of {self.ranking.n_items} items: {self.ranking.found} of "
            f"{self.ranking.n_positives} positives, at places {places}; different values: {len(self.values())}"
        )

    def __str__(self) -> str:
        rows = [("tool", "value", "called", "divides by", "same as")]
        rows += [(s.tool, s.shown, s.called, s.divides_by, s.workbench) for s in self.scores]
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([self._title(), *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from workbench.html.display import table, together

        rows = [
            {"tool": f"{s.tool} {s.version}", "prints it as": s.called, "value": s.shown, "same as": s.workbench}
            for s in self.scores
        ]
        rules = [
            {"tools": tools, "formula": formula or None, "divided by": by or None, "why it differs": why}
            for (formula, by, why), tools in self._grouped("formula", "divides_by", "why")
        ]
        ties = [{"tools": tools, "equal scores": ties} for (ties,), tools in self._grouped("ties") if ties]
        parts = (
            table(rows, caption=self._title()),
            table(rules, caption="Definitions"),
            table(ties, caption="Tie rules"),
        )
        return together(parts)._repr_html_()

    def _grouped(self, *names: str) -> list[tuple[tuple[str, ...], str]]:
        """The different values of some fields each with the tools that share them; what is not offered comes last."""
        groups: dict[tuple[str, ...], list[str]] = {}
        for score in sorted(self.scores, key=lambda score: not score.called):
            groups.setdefault(tuple(getattr(score, name) for name in names), []).append(score.tool)
        return [(key, ", ".join(tools)) for key, tools in groups.items()]


def explain(name: str, ranking: Ranking) -> Explanation:
    """What each tool would print as ``name`` for one ranked list, by which formula, and why the numbers differ.

    name : MAP, recall, hit, precision, MRR, nDCG with or without @k, R-precision or mAP@R, in any usual spelling.
    Values lie in 0..1. Tools are handed the list as their only query; those that need scores get falling ones where
    the ranking has none. Versions are named in the result; definitions were compared with the tools at those versions.
    Errors: unknown name, cutoff missing or superfluous.

    >>> print(explain("MAP@10", Ranking([1, 0, 1, 0, 0, 1, 0, 0, 0, 0], n_positives=12)).values())
    {0.180555556: ('trec_eval (ir_measures)', 'ranx', 'mteb', 'pytorch-metric-learning'),
     0.216666667: ('sentence-transformers', 'INQUIRE'), 0.722222222: ('torchmetrics',)}
    """
    metric, k = read_name(name)
    rows = [_score(tool, CONVENTIONS[metric].get(tool), ranking, k) for tool in TOOLS]
    shown = metric + ("" if k is None else f"@{k}")
    return Explanation(shown, ranking, (*rows, _own(metric, k, ranking)))


def _score(tool: str, offer: Offer | None, ranking: Ranking, k: int | None) -> ToolScore:
    version, usual, instead = TOOLS[tool]
    called = "" if offer is None else offer.whole if k is None else offer.cut
    if offer is None or not called or (offer.needs == "k = 1" and k != 1):
        return ToolScore(tool, version, "", None, None, None, "", "", "", "", f"not offered: {instead}")
    rule, ties = offer.rule, offer.ties[k is None] or usual
    scores = _seen_scores(ranking, ties)
    positives = ranking.n_positives if rule.sees == "all" else ranking.found
    case = _case(rule, ranking, scores, k, positives)
    words = {"k": case.k, "R": positives, "cut": "" if k is None else f"@{k}", "RR": "MRR" if k is None else f"RR@{k}",
             "items": min(case.k, ranking.n_items), "min": min(case.k, positives), "found": case.found}  # fmt: skip
    called, formula, by = (text.format(**words) for text in (called, rule.formula, rule.divides_by))
    needed = {"k": k or 0, "R": positives}.get(offer.needs, 0)
    if needed > ranking.n_items:
        why = f"fails on this list: it needs {needed} items, and there are {ranking.n_items}"
        return ToolScore(tool, version, called, None, None, None, formula, by, TIES[ties], "", why)
    orders = [np.arange(ranking.n_items)] if ranking.scores is None else list(_orders(ranking, scores, case, ties))
    values = [_value(rule, _reordered(case, order)) for order in orders]
    low, high = min(values), max(values)
    name = rule.workbench.format(**words)
    same = all(_is(name, ranking, scores, order, ties, v) for order, v in zip(orders, values, strict=True))
    value = low if high - low < 1e-12 else None
    return ToolScore(tool, version, called, value, low, high, formula, by, TIES[ties], name if same else "", rule.why)


def _seen_scores(ranking: Ranking, ties: str) -> FloatArray:
    if ranking.scores is None:
        return np.arange(ranking.n_items, 0, -1.0)
    with np.errstate(over="ignore"):
        rounded = ranking.scores.astype(np.float32).astype(np.float64)
    return rounded if ties in FLOAT32 else ranking.scores


def _case(rule: Rule, ranking: Ranking, scores: FloatArray, k: int | None, positives: int) -> Case:
    hits = (ranking.grades > 0) & ((scores > 0) | (rule.sees != "above 0"))
    lacking = ranking.missing_grades if rule.sees == "all" else np.zeros(0)
    whole = ranking.n_items + (len(lacking) if rule.depth == "pool" else 0)
    return Case(
        hits, np.maximum(ranking.grades, 0), scores, positives if rule.depth == "R" else k or whole, positives, lacking
    )


def _reordered(case: Case, order: IntArray) -> Case:
    return case._replace(hits=case.hits[order], gains=case.gains[order], scores=case.scores[order])


def _value(rule: Rule, case: Case) -> float:
    return rule.compute(case) if case.positives else 0.0


def _orders(ranking: Ranking, scores: FloatArray, case: Case, ties: str) -> Iterator[IntArray]:
    """The order in which the tool sees the items, or, where it is undefined, the orders with the extreme values."""
    if ties.startswith("id"):
        by_id = np.argsort(np.asarray(ranking.ids))
        rank = np.argsort(by_id)
        yield np.lexsort((-rank if ties.startswith("id falling") else rank, -scores))
    elif ties.startswith("any") or (ties == "short" and ranking.n_items > 15):
        yield from _possible(scores, case.hits, case.k)
    else:
        yield np.arange(ranking.n_items)


def _possible(scores: FloatArray, hits: Flags, k: int) -> Iterator[IntArray]:
    """Positives of each tie group first or last, with every possible number of them before a cut through a group."""
    for first in (True, False):
        order = np.lexsort((~hits if first else hits, -scores))
        yield order
        if k >= len(order):
            continue
        start, end = (int(np.searchsorted(-scores, -scores[k - 1], side)) for side in ("left", "right"))
        group = order[start:end]
        good, bad, room = group[hits[group]], group[~hits[group]], k - start
        for n in range(min(len(good), room) + 1):
            inside = (good[:n], bad[: room - n])[:: 1 if first else -1]
            yield np.concatenate([order[:start], *inside, good[n:], bad[room - n :], order[end:]])


def _own_ranks(ranking: Ranking, scores: FloatArray, order: IntArray) -> Any:
    grades = np.concatenate([ranking.grades[order], ranking.missing_grades])
    items = np.arange(len(order))
    relevance = Relevance.from_pairs(
        np.zeros(len(grades)), np.arange(len(grades)), grades, n_queries=1, n_gallery=len(grades)
    )
    return ranks_from_lists([(items, scores)], relevance)


def _is(name: str, ranking: Ranking, scores: FloatArray, order: IntArray, ties: str, value: float) -> bool:
    """Whether our own metric of that name gives the value on the list in this order."""
    seen = scores[order] if ties.startswith("mean") else np.arange(len(order), 0, -1.0)
    ours = per_query(name, _own_ranks(ranking, seen, order), short_lists="as is").expected[0]
    return bool(abs(ours - value) < 1e-9)


def _own(metric: str, k: int | None, ranking: Ranking) -> ToolScore:
    from workbench import __version__

    name = SPELLINGS[metric][1].format(cut="" if k is None else f"@{k}", RR="MRR" if k is None else f"RR@{k}")
    scores = _seen_scores(ranking, "given")
    values = per_query(name, _own_ranks(ranking, scores, np.arange(ranking.n_items)), short_lists="as is")
    expected, worst, best = (float(side[0]) for side in (values.expected, values.worst, values.best))
    why = "the name says the definition, and the tie order is none: " + (
        "no tie touches a positive here" if worst == best else f"from {worst:.3f} (worst order) to {best:.3f} (best)"
    )
    ties = "expected value over random orders, with worst and best"
    return ToolScore(OWN, __version__, name, expected, worst, best, definition(name), "see formula", ties, name, why)
