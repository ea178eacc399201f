"""Real runs as scored by ranx and ir_measures, and what the same runs look like when a system was not judged."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from test_metrics_golden import to_ranks

from workbench.metrics import MetricValues, TiedValues, aggregate, judged_share, per_query_all, ranks_from_lists
from workbench.types import RankedLists, Relevance

Shared = Callable[[str], Path]

RANX = {
    "hit_rate@1": "hit@1", "hit_rate@5": "hit@5", "hit_rate@10": "hit@10", "precision@10": "P@10",
    "recall@10": "R@10", "recall@100": "R@100", "r-precision": "R-precision", "mrr": "MRR", "mrr@10": "RR@10",
    "map": "AP", "map@10": "AP@10", "map@100": "AP@100", "ndcg": "nDCG", "ndcg@10": "nDCG@10",
    "ndcg_burges@10": "nDCG(gain=exp)@10",
}  # fmt: skip
IR_MEASURES = {
    "AP": "AP", "AP@10": "AP@10", "AP@100": "AP@100", "nDCG@5": "nDCG@5", "nDCG@10": "nDCG@10", "P@1": "P@1",
    "P@10": "P@10", "R@10": "R@10", "R@100": "R@100", "RR": "MRR", "RR@10": "RR@10", "Success@1": "hit@1",
    "Success@5": "hit@5", "Success@10": "hit@10", "Rprec": "R-precision",
    "nDCG(dcg='exp-log2')@10": "nDCG(gain=exp)@10",
}  # fmt: skip


class Collection(NamedTuple):
    relevance: Relevance
    runs: dict[str, RankedLists]


def fields(path: Path, width: int) -> list[list[str]]:
    """The columns of a file of so many words a line."""
    words = gzip.decompress(path.read_bytes()).decode().split()
    return [words[i::width] for i in range(width)]


@pytest.fixture(scope="module")
def collection(request: pytest.FixtureRequest) -> Collection:
    locate: Shared = request.getfixturevalue("shared")
    folder = locate("data/trec_robust03")
    tables = {path.name.split(".")[1]: fields(path, 6) for path in sorted((folder / "runs").glob("input.*.gz"))}
    topic, _, doc, grade = fields(folder / "qrels.txt.gz", 4)
    names = dict.fromkeys(itertools.chain(doc, *(table[2] for table in tables.values())))
    number = {name: i for i, name in enumerate(names)}
    topics = {name: i for i, name in enumerate(dict.fromkeys(topic))}
    runs = {}
    for name, table in tables.items():
        query, item = np.array([topics[t] for t in table[0]]), np.array([number[d] for d in table[2]])
        order = np.argsort(query, kind="stable")
        indptr = np.concatenate([[0], np.cumsum(np.bincount(query, minlength=len(topics)))])
        runs[name] = RankedLists(indptr, item[order], np.array(table[4], float)[order], len(number))
    judged = ([topics[t] for t in topic], [number[d] for d in doc], np.array(grade, float))
    return Collection(Relevance.from_pairs(*judged, n_queries=len(topics), n_gallery=len(number)), runs)


def assert_mean_inside(values: MetricValues | TiedValues, golden: float, what: str, tolerance: float = 1e-9) -> bool:
    """Equal without ties, inside the range with them; whether there was no range."""
    worst, expected, best = (float(np.mean(side)) for side in (values.worst, values.expected, values.best))
    assert worst - tolerance <= golden <= best + tolerance, what
    exact = best - worst < 1e-12
    assert not exact or golden == pytest.approx(expected, abs=tolerance), what
    return exact


def test_ranx_on_real_runs(collection: Collection, shared: Shared) -> None:
    """Means over 100 topics of the six stored runs: equal where no tie touches a positive, within the range elsewhere
    (ranx keeps the input order of ties)."""
    golden = json.loads(shared("golden/ir_ranx__robust03.json").read_text())["values"]
    exact = 0
    assert len(golden.keys() & collection.runs.keys()) == 6
    for name in golden.keys() & collection.runs.keys():
        values = per_query_all(
            list(RANX.values()), ranks_from_lists(collection.runs[name], collection.relevance), short_lists="as is"
        )
        for theirs, ours in RANX.items():
            exact += assert_mean_inside(values[ours], golden[name][theirs], f"{name} {theirs}")
    assert exact > 40


def test_ir_measures_on_real_runs(collection: Collection, shared: Shared) -> None:
    """As above for the two runs that are stored. gdeval, behind the exponential gain, prints five decimals."""
    golden = json.loads(shared("golden/ir_ir_measures__robust03.json").read_text())
    exact = 0
    assert len(golden.keys() & collection.runs.keys()) == 2
    for name in golden.keys() & collection.runs.keys():
        lists = collection.runs[name]
        values = per_query_all(
            list(IR_MEASURES.values()), ranks_from_lists(lists, collection.relevance), short_lists="as is"
        )
        for theirs, ours in IR_MEASURES.items():
            tolerance = 1e-5 if "exp" in theirs else 1e-9
            exact += assert_mean_inside(values[ours], golden[name][theirs], f"{name} {theirs}", tolerance)
        judged = judged_share(lists, collection.relevance, 10)
        assert_mean_inside(judged, golden[name]["Judged@10"], name)
    assert exact > 25


def test_relevance_levels_of_ir_measures_are_a_relevance_of_our_own(collection: Collection, shared: Shared) -> None:
    """AP(rel=2) and P(rel=2)@10: grades below 2 become judged and not relevant. Topics without such a document are
    zero for ir_measures and have no value here."""
    golden = json.loads(shared("golden/ir_ir_measures__robust03.json").read_text())["humR03dc"]
    r = collection.relevance
    high = Relevance(r.indptr, r.items, np.where(r.grades >= 2, r.grades, 0), r.n_gallery)
    values = per_query_all(["AP", "P@10"], ranks_from_lists(collection.runs["humR03dc"], high), short_lists="as is")
    assert 0 < values["AP"].n_missing < 100
    assert np.nansum(values["AP"].expected) / 100 == pytest.approx(golden["AP(rel=2)"], abs=1e-9)
    assert np.nansum(values["P@10"].expected) / 100 == pytest.approx(golden["P(rel=2)@10"], abs=1e-9)


def test_difference_judged_of_ir_measures_divides_by_the_length_of_a_short_list() -> None:
    """Of a list of two items, one of them judged, ir_measures says judged@5 is 1/2; we refuse, or say 1/5."""
    ir_measures = pytest.importorskip("ir_measures")
    run, qrels = {"q": {"a": 2.0, "b": 1.0}}, {"q": {"a": 0}}
    assert ir_measures.calc_aggregate([ir_measures.Judged @ 5], qrels, run)[ir_measures.Judged @ 5] == 0.5
    relevance, given = Relevance.from_pairs([0], [0], [0], n_queries=1, n_gallery=9), [([0, 1], [2.0, 1.0])]
    assert judged_share(given, relevance, 5, short_lists="as is").expected.tolist() == [0.2]
    with pytest.raises(ValueError, match="judged@5 needs 5 ranked items"):
        judged_share(given, relevance, 5)


def pooled(collection: Collection, without: str, depth: int = 10) -> Relevance:
    """The judgements there would be if one system had not been there: what another one has in its first places."""
    judged, n = collection.relevance, collection.relevance.n_gallery
    pool = [
        np.repeat(np.arange(short.n_queries), short.depths) * n + short.items
        for short in (run.shortened(depth) for name, run in collection.runs.items() if name != without)
    ]
    keep = np.isin(judged.queries * n + judged.items, np.concatenate(pool))
    return Relevance.from_pairs(
        judged.queries[keep], judged.items[keep], judged.grades[keep], n_queries=judged.n_queries, n_gallery=n
    )  # fmt: skip


@pytest.mark.parametrize(
    ("unseen", "rival", "metric", "truth"),
    [("aplrob03a", "VTcdhgp1", "P@10", 1), ("pircRBa1", "uwmtCR0", "AP", 1), ("UIUC03Rd1", "fub03IeOLKe3", "AP", -1)],
)
def test_real_systems_change_places_with_the_policy_for_unjudged_items(
    collection: Collection, unseen: str, rival: str, metric: str, truth: int
) -> None:
    """A system that the pool has not seen loses with "zero" and wins with "condensed". With all judgements the first
    two win and the third does not: neither policy is the truth, and judged@10 (about 3/4) warned."""
    part = pooled(collection, unseen)

    def lead(relevance: Relevance, policy: str) -> float:
        means = []
        for name in (unseen, rival):
            ranks = ranks_from_lists(collection.runs[name], relevance, unjudged=policy)  # type: ignore[arg-type]
            means.append(aggregate(metric, per_query_all([metric], ranks, short_lists="as is")[metric].expected))
        return means[0] - means[1]

    assert lead(part, "zero") < 0 < lead(part, "condensed")
    assert np.sign(lead(collection.relevance, "zero")) == truth
    seen, new = (judged_share(collection.runs[name], part, 10).expected.mean() for name in (rival, unseen))
    assert new < 0.85 < seen


# ---- eleven tiny cases ----

TINY = {
    "ir_measures": {**IR_MEASURES, "AP@3": "AP@3", "nDCG@3": "nDCG@3", "nDCG": "nDCG", "P@3": "P@3", "R@3": "R@3",
                    "RR@3": "RR@3", "Success@3": "hit@3"},
    "ranx": {**RANX, "map@3": "AP@3", "ndcg@3": "nDCG@3", "precision@3": "P@3", "recall@3": "R@3",
             "hit_rate@3": "hit@3"},
}  # fmt: skip


@pytest.mark.parametrize("library", ["ir_measures", "ranx"])
def test_two_libraries_on_adversarial_cases(shared: Shared, library: str) -> None:
    """Their means lie between our worst and best, once a query without positives counts 0 as it does for them."""
    cases, checked = json.loads(shared("golden/ir_adversarial.json").read_text()), 0
    for case, stored in cases.items():
        queries = list(stored["qrels"])
        ranks = to_ranks(stored["qrels"], stored["run"], queries)
        for theirs, ours in TINY[library].items():
            if theirs in stored[library]:
                golden = stored[library][theirs]
                values = per_query_all([ours], ranks, short_lists="as is")[ours]
                sides = (np.nan_to_num(side) for side in (values.expected, values.worst, values.best))
                mean = golden["mean"] if library == "ir_measures" else golden
                assert_mean_inside(TiedValues(*sides), mean, f"{case} {theirs}")
                checked += 1
    assert checked >= 11 * 10


def test_judged_of_ir_measures_on_adversarial_cases(shared: Shared) -> None:
    for case, stored in json.loads(shared("golden/ir_adversarial.json").read_text()).items():
        qrels, run, docs = stored["qrels"], stored["run"], {}
        pairs = [(i, docs.setdefault(doc, len(docs))) for i, query in enumerate(qrels) for doc in qrels[query]]
        given = [
            ([docs.setdefault(doc, len(docs)) for doc in run.get(query, {})], list(run.get(query, {}).values()))
            for query in qrels
        ]
        relevance = Relevance.from_pairs(*zip(*pairs, strict=True), n_queries=len(qrels), n_gallery=len(docs))
        values = judged_share(given, relevance, 3, short_lists="as is")
        # It divides by the items of a short list instead of 3.
        share = np.array([3 / max(1, min(3, len(items))) for items, _ in given])
        sides = (side * share for side in (values.expected, values.worst, values.best))
        assert_mean_inside(TiedValues(*sides), stored["ir_measures"]["Judged@3"]["mean"], case)
