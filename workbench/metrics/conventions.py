"""The definitions behind one metric name in several tools: formulas, tie orders, names, and the version they hold for.

Every formula is written from the definition, for the version named in :data:`TOOLS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from workbench.types import FloatArray

Flags = npt.NDArray[np.bool_]


class Case(NamedTuple):
    """What a formula sees: the list in one order, cut after k places. ``positives`` is the tool's own count of them."""

    hits: Flags
    gains: FloatArray
    scores: FloatArray
    k: int
    positives: int
    lacking: FloatArray  # gains of the positives that the list lacks

    @property
    def found(self) -> int:
        return int(self.hits[: self.k].sum())


def _precisions(case: Case) -> float:
    places = np.flatnonzero(case.hits[: case.k]) + 1
    return float((np.arange(1, len(places) + 1) / places).sum())


def _first(case: Case) -> float:
    places = np.flatnonzero(case.hits[: case.k]) + 1
    return 1 / int(places[0]) if len(places) else 0.0


def _discounted(gains: FloatArray, k: int) -> float:
    kept = gains[:k]
    return float((kept / np.log2(np.arange(2, len(kept) + 2))).sum())


def _gain(case: Case) -> float:
    ideal = np.sort(np.concatenate([case.gains[case.gains > 0], case.lacking]))[::-1]
    return _discounted(case.gains, case.k) / (_discounted(ideal, case.k) or 1.0)


def _group_means(scores: FloatArray, values: FloatArray) -> FloatArray:
    """Each value replaced by the mean over its tie group: the expectation over random orders of tied items."""
    _, group = np.unique(-scores, return_inverse=True)
    means: FloatArray = (np.bincount(group, values) / np.bincount(group))[group]
    return means


def _gain_of_ties(case: Case) -> float:
    ideal = np.sort(case.gains)[::-1]
    return _discounted(_group_means(case.scores, case.gains), case.k) / (_discounted(ideal, case.k) or 1.0)


def _gain_of_pool(case: Case) -> float:
    """INQUIRE: binary; positives that the list lacks are appended behind it, where the cutoff may still see them."""
    gains = _group_means(case.scores, case.hits.astype(np.float64))
    ideal = np.ones(case.positives)
    return _discounted(np.concatenate([gains, np.ones(len(case.lacking))]), case.k) / _discounted(ideal, case.k)


def _blocks(case: Case) -> float:
    """INQUIRE, scikit-learn: the positives of a tie group all get the precision at the group's last place."""
    scores, hits = case.scores[: case.k], case.hits[: case.k]
    last = np.searchsorted(-scores, -scores, "right")
    return float((hits * np.cumsum(hits)[last - 1] / last).sum()) / min(case.positives, case.k)


class Rule(NamedTuple):
    """One definition. sees: "all" positives, those "listed", or hits with a score "above 0" among those listed.

    depth: the places looked at, "k" (the cutoff, or the whole list), "pool" (or list and lacking positives) or "R".
    """

    formula: str
    divides_by: str
    compute: Callable[[Case], float]
    workbench: str
    why: str
    sees: str = "all"
    depth: str = "k"


_AP = "sum of the precisions at the positives in the first {k} places"
_FOUND = "positives in the first {k} places"
_DCG = "sum of {} / log2(place + 1) over the first {{k}} places"
_SEES = "it is handed the listed items only, so positives that the list lacks do not exist for it"
_ABOVE = f"{_SEES}, and a positive with a score of zero or less never counts"
AP_ALL = Rule(
    _AP, "all {R} positives", lambda c: _precisions(c) / c.positives, "AP{cut}",
    "positives beyond the cutoff stay in the divisor: with more positives than places even a perfect list is below 1",
)  # fmt: skip
AP_MIN = Rule(
    _AP, "min(places, positives) = {min}", lambda c: _precisions(c) / min(c.k, c.positives), "AP(norm=min)@{k}",
    "a perfect list gets 1 however many positives there are, so it is never below the value divided by all of them",
)  # fmt: skip
AP_BLOCKS = AP_MIN._replace(
    formula="sum over the positives in the first {k} places of the precision at the end of their tie group",
    compute=_blocks,
    why="divides like sentence-transformers; items of equal score are passed as one block, so order inside it is moot",
)
AP_HITS = Rule(
    _AP, "{found} positives found", lambda c: _precisions(c) / max(c.found, 1), "AP(norm=hits){cut}",
    f"what is not found costs nothing: one hit in first place and nothing else is 1; {_ABOVE}", "above 0",
)  # fmt: skip
AP_AT_R = Rule(
    "sum of the precisions at the positives in the first R = {R} places", "all {R} positives",
    lambda c: _precisions(c) / c.positives, "mAP@R",
    "the cutoff is the number of positives of each query, not a number in the name", depth="R",
)  # fmt: skip
HIT = Rule(
    "1 if any of the first {k} places holds a positive, else 0", "nothing", lambda c: float(c.found > 0), "hit@{k}",
    "one positive is as good as all of them: a success rate, not a recall, when a query has several positives",
)  # fmt: skip
RECALL = Rule(
    _FOUND, "all {R} positives", lambda c: c.found / c.positives, "R@{k}",
    "a true recall: with more positives than places it cannot reach 1",
)  # fmt: skip
RECALL_LISTED = RECALL._replace(divides_by="the {R} positives listed", why=_ABOVE, sees="above 0")
PRECISION = Rule(
    _FOUND, "{k} places", lambda c: c.found / c.k, "P@{k}",
    "divides by the places asked for even when the list is shorter",
)  # fmt: skip
PRECISION_ABOVE = PRECISION._replace(why="a positive with a score of zero or less never counts", sees="above 0")
PRECISION_ITEMS = PRECISION._replace(
    divides_by="the {items} items there are", compute=lambda c: c.found / min(c.k, len(c.hits)),
    why="divides by the items it was given, so a short list is not punished",
)  # fmt: skip
R_PRECISION = Rule(
    "positives in the first R = {R} places", "all {R} positives", lambda c: c.found / c.positives, "R-precision",
    "a list shorter than R loses the places it does not fill", depth="R",
)  # fmt: skip
R_LISTED = R_PRECISION._replace(divides_by="the {R} positives listed", why=_SEES, sees="listed")
R_SHORT = R_PRECISION._replace(
    divides_by="the {items} items in the first R places", compute=lambda c: c.found / min(c.k, len(c.hits)),
    why="divides by the items that are there, so a list cut before R is inflated",
)  # fmt: skip
RR = Rule(
    "1 / place of the first positive in the first {k} places, 0 without one", "nothing", _first, "{RR}",
    "all tools agree on the formula: only the order of tied items, or the sign of the scores, can part them",
)  # fmt: skip
RR_ABOVE = RR._replace(why="a positive with a score of zero or less never counts", sees="above 0")
NDCG = Rule(
    _DCG.format("grade"), "the same sum for the best order of all {R} positives", _gain, "nDCG{cut}",
    "the grade is the gain, and positives that the list lacks are part of the ideal", depth="pool",
)  # fmt: skip
NDCG_BINARY = NDCG._replace(
    formula=_DCG.format("1 per positive"),
    compute=lambda c: _gain(c._replace(gains=c.hits.astype(np.float64), lacking=np.ones(len(c.lacking)))),
    why="grades are ignored: every positive has gain 1",
)
NDCG_TIES = NDCG._replace(
    divides_by="the same sum for the best order of the {R} positives listed", compute=_gain_of_ties,
    why=_SEES, sees="listed", depth="k",
)  # fmt: skip
NDCG_POOL = NDCG_BINARY._replace(
    compute=_gain_of_pool,
    depth="k",
    why="grades are ignored, and positives that the list lacks are appended right behind it, where a cutoff beyond the "
    "list counts them as found",
)

#: How items of equal score are ordered, in words. A key that begins with "any" has no defined order.
TIES = {
    "given": "the order of the list, as it is handed over",
    "id falling": "larger id first, compared as strings; scores are rounded to float32 before",
    "id falling, float64": "larger id first, compared as strings",
    "id rising": "smaller id first, compared as strings",
    "id rising, RR@k": "smaller id first: the reverse of its own RR without a cutoff, and of trec_eval",
    "short": "input order up to 15 items; a longer list with ties comes in no stated order (unstable sort)",
    "any torch": "undefined: whatever torch.topk or argsort does, which differs by size, version and device",
    "any faiss": "undefined: the order of the nearest-neighbour library",
    "any numpy": "undefined: a reversed unstable sort",
    "mean": "averaged over the tie group",
    "mean, float32": "averaged over the tie group; scores are rounded to float32 before",
    "block": "a tie group counts as one block (scikit-learn); the cut itself takes the order of the list",
}
FLOAT32 = ("id falling", "any torch", "any faiss", "mean, float32")


class Tool(NamedTuple):
    """The version whose definitions are given here, its tie order, and what it offers where it lacks a metric."""

    version: str
    ties: str
    instead: str


TREC, ST, PML, ECCV = "trec_eval (ir_measures)", "sentence-transformers", "pytorch-metric-learning", "ECCV-Caption"
TOOLS: dict[str, Tool] = {
    "CLIP_benchmark": Tool("1.6.2", "any torch", "it reports recall@k only, and means any hit"),
    TREC: Tool("0.4.3", "id falling", "it offers AP, and trec_eval nothing to depth R"),
    "ranx": Tool("0.3.21", "short", "it offers map and map@k"),
    "mteb": Tool("2.26.24", "id falling", "all its measures have a cutoff, and R-precision is not among them"),
    ST: Tool("6.2.0", "id rising", "all metrics of its evaluator have a cutoff"),
    "torchmetrics": Tool("1.9.0", "any torch", "it offers RetrievalMAP with top_k"),
    PML: Tool("2.9.0", "any faiss", "it offers precision_at_1, r_precision, MRR, MAP and mAP@R"),
    ECCV: Tool("0.1.0", "given", "it offers recall@k (any hit), R-precision and mAP@R"),
    "INQUIRE": Tool("4473f3f", "given", "it offers precision, recall, AP, nDCG and MRR of a list of k items"),
}


class Offer(NamedTuple):
    """What a tool calls it with and without a cutoff ("": not offered), the rule, and what is special about it.

    ties : a tie order other than the tool's usual one, with and without a cutoff. needs : items the list must have, "k"
    or "R", or "k = 1" for a tool that offers no other cutoff.
    """

    cut: str
    whole: str
    rule: Rule
    ties: tuple[str, str] = ("", "")
    needs: str = ""


_PML_FIRST = Offer("precision_at_1", "", HIT, needs="k = 1")
#: Metric -> tool -> how it is offered. A tool that is not named does not offer the metric.
CONVENTIONS: dict[str, dict[str, Offer]] = {
    "MAP": {
        TREC: Offer("AP@{k}", "AP", AP_ALL),
        "ranx": Offer("map@{k}", "map", AP_ALL),
        "mteb": Offer("map_at_{k}", "", AP_ALL),
        ST: Offer("map@{k}", "", AP_MIN),
        "torchmetrics": Offer("RetrievalMAP(top_k={k})", "RetrievalMAP()", AP_HITS),
        PML: Offer("mean_average_precision, k={k}", "mean_average_precision", AP_ALL, needs="k"),
        ECCV: Offer("eccv_map_at_r (no cutoff)", "eccv_map_at_r", AP_AT_R, needs="R"),
        "INQUIRE": Offer("ap_at_k", "ap", AP_BLOCKS, ("block", "block")),
    },
    "mAP@R": {
        PML: Offer("", "mean_average_precision_at_r", AP_AT_R),
        ECCV: Offer("", "eccv_map_at_r", AP_AT_R, needs="R"),
    },
    "recall": {
        "CLIP_benchmark": Offer("retrieval_recall@{k}", "", HIT, needs="k"),
        TREC: Offer("R@{k}", "", RECALL),
        "ranx": Offer("recall@{k}", "", RECALL),
        "mteb": Offer("recall_at_{k}", "", RECALL),
        ST: Offer("recall@{k}", "", RECALL),
        "torchmetrics": Offer("RetrievalRecall(top_k={k})", "", RECALL_LISTED),
        PML: _PML_FIRST,
        ECCV: Offer("r{k}", "", HIT),
        "INQUIRE": Offer("recall", "", RECALL),
    },
    "hit": {
        "CLIP_benchmark": Offer("retrieval_recall@{k}", "", HIT, needs="k"),
        TREC: Offer("Success@{k}", "", HIT),
        "ranx": Offer("hit_rate@{k}", "", HIT),
        "mteb": Offer("hit_rate_at_{k}", "", HIT),
        ST: Offer("accuracy@{k}", "", HIT),
        "torchmetrics": Offer("RetrievalHitRate(top_k={k})", "", HIT._replace(sees="listed")),
        PML: _PML_FIRST,
        ECCV: Offer("r{k}", "", HIT),
    },
    "precision": {
        TREC: Offer("P@{k}", "", PRECISION),
        "ranx": Offer("precision@{k}", "", PRECISION),
        "mteb": Offer("precision_at_{k}", "", PRECISION),
        ST: Offer("precision@{k}", "", PRECISION),
        "torchmetrics": Offer("RetrievalPrecision(top_k={k})", "", PRECISION_ABOVE),
        PML: _PML_FIRST,
        "INQUIRE": Offer("precision", "", PRECISION_ITEMS),
    },
    "R-precision": {
        TREC: Offer("", "Rprec", R_PRECISION),
        "ranx": Offer("", "r-precision", R_PRECISION),
        "torchmetrics": Offer("", "RetrievalRPrecision()", R_LISTED),
        PML: Offer("", "r_precision", R_SHORT),
        ECCV: Offer("", "rprecision", R_SHORT),
    },
    "MRR": {
        TREC: Offer("RR@{k}", "RR", RR, ("id rising, RR@k", "")),
        "ranx": Offer("mrr@{k}", "mrr", RR),
        "mteb": Offer("mrr_at_{k}", "", RR, ("id falling, float64", "")),
        ST: Offer("mrr@{k}", "", RR),
        "torchmetrics": Offer("RetrievalMRR(top_k={k})", "RetrievalMRR()", RR_ABOVE),
        PML: Offer("mean_reciprocal_rank, k={k}", "mean_reciprocal_rank", RR, needs="k"),
        "INQUIRE": Offer("mrr", "mrr", RR, ("any numpy", "any numpy")),
    },
    "nDCG": {
        TREC: Offer("nDCG@{k}", "nDCG", NDCG),
        "ranx": Offer("ndcg@{k}", "ndcg", NDCG),
        "mteb": Offer("ndcg_at_{k}", "", NDCG),
        ST: Offer("ndcg@{k}", "", NDCG_BINARY),
        "torchmetrics": Offer(
            "RetrievalNormalizedDCG(top_k={k})", "RetrievalNormalizedDCG()", NDCG_TIES, ("mean, float32",) * 2
        ),
        "INQUIRE": Offer("ndcg_at_k", "ndcg", NDCG_POOL, ("mean", "mean")),
    },
}
