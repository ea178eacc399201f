"""Metrics against the stored outputs of other people's code: equal where definitions agree, named where they differ."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from workbench.metrics import MetricValues, aggregate, per_query, ranks_from_lists, ranks_from_scores
from workbench.types import Ranks, Relevance

Shared = Callable[[str], Path]
Judged = dict[str, dict[str, float]]

TREC_NAMES = {
    "P_5": "P@5", "P_10": "P@10", "P_20": "P@20", "Rprec": "R-precision", "map": "AP", "map_cut_10": "AP@10",
    "map_cut_50": "AP@50", "map_cut_100": "AP@100", "ndcg": "nDCG", "ndcg_cut_5": "nDCG@5", "ndcg_cut_10": "nDCG@10",
    "ndcg_cut_20": "nDCG@20", "ndcg_cut_100": "nDCG@100", "recall_5": "R@5", "recall_10": "R@10",
    "recall_100": "R@100", "recall_1000": "R@1000", "recip_rank": "MRR", "success_1": "hit@1", "success_5": "hit@5",
    "success_10": "hit@10",
}  # fmt: skip
TREC_DEFAULTS = {"P_1": "P@1", "P_3": "P@3", "recall_1": "R@1", "recall_3": "R@3", "map_cut_3": "AP@3",
                 "ndcg_cut_1": "nDCG@1", "ndcg_cut_3": "nDCG@3", "success_3": "hit@3"}  # fmt: skip


def to_ranks(qrels: Judged, run: Judged, queries: list[str], *, trec_order: bool = False) -> Ranks:
    """Ranks of a run. With ``trec_order`` ties are broken as trec_eval does: larger document id (as a string) first."""
    number: dict[str, int] = {}
    pairs = [
        (row, number.setdefault(doc, len(number)), grade)
        for row, query in enumerate(queries)
        for doc, grade in qrels.get(query, {}).items()
    ]
    lists = []
    for query in queries:
        found = run.get(query, {})
        docs = sorted(found, key=lambda doc, found=found: (found[doc], doc), reverse=True) if trec_order else list(found)
        scores = np.arange(len(docs), 0, -1.0) if trec_order else np.array([found[doc] for doc in docs])
        lists.append(([number.setdefault(doc, len(number)) for doc in docs], scores))
    rows, items, grades = (list(column) for column in zip(*pairs, strict=True))
    relevance = Relevance.from_pairs(rows, items, grades, n_queries=len(queries), n_gallery=len(number))
    return ranks_from_lists(lists, relevance)


def assert_inside(values: MetricValues, golden: np.ndarray, what: str) -> None:
    assert (golden >= values.worst - 1e-9).all(), what
    assert (golden <= values.best + 1e-9).all(), what


# ---- trec_eval on nine real runs ----


class Trec(NamedTuple):
    topics: list[str]
    measures: list[str]
    golden: dict[str, np.ndarray]
    qrels: Judged
    runs: dict[str, Judged]


@pytest.fixture(scope="module")
def trec(request: pytest.FixtureRequest) -> Trec:
    locate: Shared = request.getfixturevalue("shared")
    file = np.load(locate("golden/ir_pytrec_eval__robust03.npz"), allow_pickle=False)
    folder = locate("data/trec_robust03")
    qrels: Judged = {}
    for line in gzip.open(folder / "qrels.txt.gz", "rt"):
        topic, _, doc, grade = line.split()
        qrels.setdefault(topic, {})[doc] = float(grade)
    runs: dict[str, Judged] = {}
    for path in sorted((folder / "runs").glob("input.*.gz")):
        run = runs.setdefault(path.name.split(".")[1], {})
        for line in gzip.open(path, "rt"):
            topic, _, doc, _, score, _ = line.split()
            run.setdefault(topic, {})[doc] = float(score)
    golden = {name: file[f"run/{name}"] for name in runs}
    return Trec(file["topics"].tolist(), file["measures"].tolist(), golden, qrels, runs)
