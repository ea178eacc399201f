"""Metrics against the stored outputs of other people's code: equal where definitions agree, named where they differ."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from workbench.metrics import MetricValues, aggregate, per_query, ranks_from_lists, ranks_from_scores
from workbench.types import Ranks, Relevance, unit_vectors

Shared = Callable[[str], Path]
Judged = dict[str, dict[str, float]]

TREC_NAMES = {
    "P_5": "P@5", "P_10": "P@10", "P_20": "P@20", "Rprec": "R-precision", "map": "AP", "map_cut_10": "AP@10",
    "map_cut_50": "AP@50", "map_cut_100": "AP@100", "ndcg": "nDCG", "ndcg_cut_5": "nDCG@5", "ndcg_cut_10": "nDCG@10",
    "ndcg_cut_20": "nDCG@20", "ndcg_cut_100": "nDCG@100", "recall_5": "R@5", "recall_10": "R@10",
    "recall_100": "R@100", "recall_1000": "R@1000", "recip_rank": "MRR", "success_1": "hit@1", "success_5": "hit@5",
    "success_10": "hit@10",
}  # fmt: skip


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
        docs = (
            sorted(found, key=lambda doc, found=found: (found[doc], doc), reverse=True) if trec_order else list(found)
        )
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


def columns(path: Path) -> Iterator[list[str]]:
    with gzip.open(path, "rt") as lines:
        yield from (line.split() for line in lines)


@pytest.fixture(scope="module")
def trec(request: pytest.FixtureRequest) -> Trec:
    locate: Shared = request.getfixturevalue("shared")
    file = np.load(locate("golden/ir_pytrec_eval__robust03.npz"), allow_pickle=False)
    folder = locate("data/trec_robust03")
    qrels: Judged = {}
    for topic, _, doc, grade in columns(folder / "qrels.txt.gz"):
        if grade != "0":  # judged and not relevant: no metric here looks at it
            qrels.setdefault(topic, {})[doc] = float(grade)
    runs: dict[str, Judged] = {}
    for path in sorted((folder / "runs").glob("input.*.gz")):
        run = runs.setdefault(path.name.split(".")[1], {})
        for topic, _, doc, _, score, _ in columns(path):
            run.setdefault(topic, {})[doc] = float(score)
    golden = {name: file[f"run/{name}"] for name in runs}
    return Trec(file["topics"].tolist(), file["measures"].tolist(), golden, qrels, runs)


def test_trec_eval_on_real_runs_topic_by_topic(trec: Trec) -> None:
    """Topics whose positives are untied: equal. Tied positives: trec_eval's one order lies between worst and best.

    The stored runs hold 9 of the 17 systems of the golden file. Document ids break trec_eval's ties, so with its order
    written into the list every topic of every run is equal, tied or not.
    trec_eval is said to keep scores as 32-bit floats. These data cannot tell: only fub03IeOLKe3 has scores that differ
    in 64 and agree in 32 bits (eight pairs), and none of the three swaps that would follow moves a positive.
    """
    assert len(trec.runs) >= 9
    n_tied = 0
    for name, run in trec.runs.items():
        ranks = to_ranks(trec.qrels, run, trec.topics)
        ordered = to_ranks(trec.qrels, run, trec.topics, trec_order=True)
        tied = np.bincount(ranks.queries, ranks.tied, minlength=ranks.n_queries) > 0
        n_tied += int(tied.sum())
        for trec_name, ours in TREC_NAMES.items():
            golden = trec.golden[name][:, trec.measures.index(trec_name)]
            values = per_query(ours, ranks, short_lists="as is")
            what = f"{name} {trec_name}"
            np.testing.assert_allclose(values.expected[~tied], golden[~tied], atol=1e-12, rtol=0, err_msg=what)
            assert_inside(values, golden, what)
            exact = per_query(ours, ordered, short_lists="as is")
            np.testing.assert_allclose(exact.expected, golden, atol=1e-12, rtol=0, err_msg=what)
    assert n_tied > 300


def test_trec_eval_means(trec: Trec, shared: Shared) -> None:
    means = json.loads(shared("golden/ir_pytrec_eval__robust03_means.json").read_text())
    ranks = to_ranks(trec.qrels, trec.runs["humR03dc"], trec.topics)
    for trec_name, ours in TREC_NAMES.items():
        found = aggregate(ours, per_query(ours, ranks, short_lists="as is").expected)
        assert found == pytest.approx(means["humR03dc"][trec_name], abs=1e-12)


def test_short_runs_are_refused_by_default(trec: Trec) -> None:
    """trec_eval scores a run of ten documents at depth 100 without a word."""
    ranks = to_ranks(trec.qrels, trec.runs["NLPR03vb10"], trec.topics)
    with pytest.raises(ValueError, match="needs 100 ranked items, more than its list of 10 items"):
        per_query("R@100", ranks)


# ---- eleven tiny cases on which three libraries disagree ----

TINY_NAMES = {
    "map": "AP", "Rprec": "R-precision", "recip_rank": "MRR", "P_1": "P@1", "P_3": "P@3", "recall_1": "R@1",
    "recall_3": "R@3", "recall_10": "R@10", "ndcg": "nDCG", "ndcg_cut_1": "nDCG@1", "ndcg_cut_3": "nDCG@3",
    "ndcg_cut_10": "nDCG@10", "map_cut_3": "AP@3", "map_cut_10": "AP@10", "success_1": "hit@1", "success_3": "hit@3",
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny(request: pytest.FixtureRequest) -> dict[str, Any]:
    locate: Shared = request.getfixturevalue("shared")
    return json.loads(locate("golden/ir_adversarial.json").read_text())  # type: ignore[no-any-return]


def test_trec_eval_on_adversarial_cases(tiny: dict[str, Any]) -> None:
    """Equal with trec_eval's tie order, inside worst and best without. ``query_missing_from_run`` and
    ``no_relevant_judged`` hold queries on which we differ by decision: see the next two tests."""
    assert len(tiny) == 11
    for case, stored in tiny.items():
        qrels, run, golden = stored["qrels"], stored["run"], stored["pytrec_eval"]
        queries = [query for query in golden if any(grade > 0 for grade in qrels[query].values())]
        for trec_name, ours in TINY_NAMES.items():
            expected = np.array([golden[query][trec_name] for query in queries])
            what = f"{case} {trec_name}"
            ordered = per_query(ours, to_ranks(qrels, run, queries, trec_order=True), short_lists="as is")
            np.testing.assert_allclose(ordered.expected, expected, atol=1e-9, err_msg=what)
            assert_inside(per_query(ours, to_ranks(qrels, run, queries), short_lists="as is"), expected, what)


def test_difference_queries_absent_from_a_run_count_as_zero_and_are_not_dropped(tiny: dict[str, Any]) -> None:
    """trec_eval drops q2 (mean AP 1.0); ir_measures, ranx and we score it 0 (mean AP 0.5)."""
    stored = tiny["query_missing_from_run"]
    values = per_query("AP", to_ranks(stored["qrels"], stored["run"], ["q1", "q2"]), short_lists="as is")
    assert list(stored["pytrec_eval"]) == ["q1"]
    assert aggregate("AP", values.expected) == stored["ir_measures"]["AP"]["mean"] == stored["ranx"]["map"] == 0.5


def test_difference_queries_without_positives_have_no_value_instead_of_zero(tiny: dict[str, Any]) -> None:
    """trec_eval, ir_measures and ranx average a 0 in (0.25); we leave q1 out, count it, and print 0.5."""
    stored = tiny["no_relevant_judged"]
    values = per_query("AP", to_ranks(stored["qrels"], stored["run"], ["q1", "q2"]))
    assert np.isnan(values.expected[0])
    assert values.n_missing == 1
    assert stored["pytrec_eval"]["q1"]["map"] == 0.0
    assert (aggregate("AP", values.expected), stored["ir_measures"]["AP"]["mean"]) == (0.5, 0.25)


def test_difference_ties_are_neither_the_best_nor_the_worst_case(tiny: dict[str, Any]) -> None:
    """On four equal scores AP is 0.5 for trec_eval (by id), 0.83 for ranx (by input order); the mean of the six orders
    is 0.6806 and both libraries lie within the printed range."""
    stored = tiny["ties"]
    values = per_query("AP", to_ranks(stored["qrels"], stored["run"], ["q1"]))
    assert values.expected[0] == pytest.approx(49 / 72)
    for golden in (stored["pytrec_eval"]["q1"]["map"], stored["ranx"]["map"]):
        assert values.worst[0] <= golden <= values.best[0]


# ---- INQUIRE ----


@pytest.fixture(scope="module")
def inquire(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    locate: Shared = request.getfixturevalue("shared")
    return json.loads(locate("golden/metrics_inquire.json").read_text())  # type: ignore[no-any-return]


def inquire_ranks(case: dict[str, Any], *, append_missing: bool = False) -> Ranks:
    """The list of a case; positives outside it are further gallery items, or its tail as INQUIRE's nDCG has it."""
    n, missing = len(case["y"]), case["count_pos"] - sum(case["y"])
    positives = [*np.flatnonzero(case["y"]), *range(n, n + missing)]
    relevance = Relevance.from_pairs([0] * len(positives), positives, n_queries=1, n_gallery=n + missing + 60)
    tail = missing if append_missing else 0
    return ranks_from_lists([(range(n + tail), [*case["p"], *[-100.0] * tail])], relevance)


def test_inquire_divides_ap_by_the_smaller_of_positives_and_cutoff(inquire: list[dict[str, Any]]) -> None:
    checked = 0
    for case in (case for case in inquire if "ties" not in case):
        n, ranks = len(case["y"]), inquire_ranks(case)
        golden = {
            f"P@{n}": case["precision"], f"R@{n}": case["recall"], f"AP(norm=min)@{n}": case["ap"],
            f"nDCG@{n}": case["ndcg"], "MRR": case["mrr"],
            **{f"AP(norm=min)@{k}": value for k, value in case["ap_at"].items()},
            **{f"nDCG@{k}": value for k, value in case["ndcg_at"].items() if int(k) <= n},
        }  # fmt: skip
        for name, value in golden.items():
            assert per_query(name, ranks, short_lists="as is").expected[0] == pytest.approx(value, abs=1e-12), name
            checked += 1
    assert checked > 100
    case = inquire[3]
    assert per_query("AP@37", inquire_ranks(case)).expected[0] < case["ap"] - 0.1  # 58 positives, 37 places


def test_difference_inquire_ranks_missing_positives_right_behind_a_short_list(inquire: list[dict[str, Any]]) -> None:
    """Its nDCG appends every positive that was not retrieved at score -100, so a list without any hit gets 0.69 at a
    cutoff beyond its end; we score it 0. Appending them as well, ties counted, gives its number."""
    beyond = 0
    for case in (case for case in inquire if "ties" not in case):
        for k, value in case["ndcg_at"].items():
            if int(k) > len(case["y"]):
                extended = per_query(f"nDCG@{k}", inquire_ranks(case, append_missing=True), short_lists="as is")
                assert extended.expected[0] == pytest.approx(value, abs=1e-12)
                assert per_query(f"nDCG@{k}", inquire_ranks(case), short_lists="as is").expected[0] <= value
                beyond += 1
    assert beyond >= 10
    assert inquire[2]["ndcg_at"]["50"] == pytest.approx(0.690170)
    assert per_query("nDCG@50", inquire_ranks(inquire[2]), short_lists="as is").expected[0] == 0.0


def test_difference_inquire_takes_a_tie_group_at_once(inquire: list[dict[str, Any]]) -> None:
    """nDCG averages over the order of ties, as ours; AP takes the precision at the end of each group (scikit-learn),
    which here is the worst order; MRR takes one order."""
    case = inquire[12]
    assert case["ties"]
    ranks = inquire_ranks(case)
    assert per_query("nDCG@6", ranks).expected[0] == pytest.approx(case["ndcg"], abs=1e-12)
    average = per_query("AP(norm=min)@6", ranks)
    assert average.worst[0] == pytest.approx(case["ap"], abs=1e-12)
    assert average.expected[0] > case["ap"] + 0.05
    assert_inside(per_query("MRR", ranks, short_lists="as is"), np.array([case["mrr"]]), "MRR")


# ---- image-text retrieval code ----

CASES = ["rand_1to1_30", "rand_5to1_12", "heavy_ties_1to1_20", "heavy_ties_5to1_8", "constant_1to1_10",
         "constant_row_dup_col_15", "k_larger_than_gallery_4", "clip_coco_500", "clip_flickr_100x5"]  # fmt: skip


class Captioned(NamedTuple):
    t2i: Ranks
    i2t: Ranks
    golden: dict[str, Any]
    dbsn: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def captioned(request: pytest.FixtureRequest) -> dict[str, Captioned]:
    locate: Shared = request.getfixturevalue("shared")
    golden = json.loads(locate("golden/metrics_retrieval.json").read_text())
    arrays = np.load(locate("golden/metrics_retrieval.npz"), allow_pickle=False)
    vectors = {
        "clip_coco_500": np.load(locate("data/pairs_modality_gap/clip.npz"), allow_pickle=False),
        "clip_flickr_100x5": np.load(locate("data/clip_flickr8k_100x5/embeddings.npz"), allow_pickle=False),
    }
    found = {}
    for case in CASES:
        pair = vectors.get(case)
        # The golden ranks are cosines; the stored COCO vectors have lengths 0.9994 to 1.0006 and their plain dot
        # products move 3 of 500 text-to-image ranks by one.
        scores = arrays[f"{case}/S"] if pair is None else unit_vectors(pair["text"]) @ unit_vectors(pair["image"]).T
        image = arrays[f"{case}/text_image"]
        relevance = Relevance.from_pairs(
            np.arange(len(image)), image, n_queries=len(image), n_gallery=scores.shape[1]
        )  # fmt: skip
        dbsn = {way: arrays[f"{case}/dbsn_{way}_ranks"] for way in ("t2i", "i2t")}
        found[case] = Captioned(
            ranks_from_scores(scores, relevance), ranks_from_scores(scores.T, relevance.T), golden[case], dbsn
        )
    return found


def assert_mean_inside(name: str, ranks: Ranks, golden: float, what: str, tolerance: float = 1e-6) -> None:
    """Equal without ties (worst = best), inside the range with them."""
    values = per_query(name, ranks)
    ends = sorted([aggregate(name, values.worst), aggregate(name, values.best)])
    assert ends[0] - tolerance <= golden <= ends[1] + tolerance, what


@pytest.mark.parametrize("case", CASES)
def test_clip_benchmark_text_recall_is_hit_and_its_true_recall_is_ours(
    captioned: dict[str, Captioned], case: str
) -> None:
    t2i, i2t, golden, _ = captioned[case]
    checked = 0
    for key, value in golden.items():
        if key.startswith("clip_benchmark/"):
            what, k = key.removeprefix("clip_benchmark/").split("@")
            name = f"R@{k}" if "true" in what else f"hit@{k}"
            assert_mean_inside(name, t2i if what.startswith(("t2i", "image")) else i2t, value, f"{case} {key}")
            checked += 1
    assert checked >= 4
    for k, value in golden["genecis_recall_single"].items():
        assert_mean_inside(f"hit@{k}", t2i, value, f"{case} genecis@{k}")


def test_difference_text_recall_of_clip_benchmark_is_not_recall(captioned: dict[str, Captioned]) -> None:
    """Five captions an image: "any caption in the top 1" is 0.93, the recall at 1 cannot exceed 0.2 and is 0.186."""
    i2t, golden = captioned["clip_flickr_100x5"].i2t, captioned["clip_flickr_100x5"].golden
    hit, recall = (aggregate(name, per_query(name, i2t).expected) for name in ("hit@1", "R@1"))
    assert hit == pytest.approx(golden["clip_benchmark/text_retrieval_recall@1"], abs=1e-6)
    assert recall == pytest.approx(golden["clip_benchmark/i2t_true_recall@1"], abs=1e-6)
    assert (round(hit, 3), round(recall, 3)) == (0.93, 0.186)


@pytest.mark.parametrize("case", CASES)
def test_ranks_of_dbsn_and_open_clip(captioned: dict[str, Captioned], case: str) -> None:
    """DBSN's ranks count from 0, query by query; open_clip's mean rank counts from 1."""
    t2i, i2t, golden, dbsn = captioned[case]
    for ranks, stored in ((t2i, dbsn["t2i"]), (i2t, dbsn["i2t"])):
        values = per_query("MeanR", ranks)
        assert (values.best - 1 <= stored).all()
        assert (stored <= values.worst - 1).all()
    for way, ranks in (("text_to_image", t2i), ("image_to_text", i2t)):
        if "open_clip_get_clip_metrics" in golden:
            stored = golden["open_clip_get_clip_metrics"]
            assert_mean_inside("MeanR", ranks, stored[f"{way}_mean_rank"], case)
            for k in (1, 5, 10):
                assert_mean_inside(f"hit@{k}", ranks, stored[f"{way}_R@{k}"], case)


@pytest.mark.parametrize("case", CASES)
def test_qb_norm_gives_a_tied_pair_its_expected_rank(captioned: dict[str, Captioned], case: str) -> None:
    """qb-norm averages the ranks of tied items, which for one positive is the expectation; printed to 0.1."""
    t2i, _, golden, _ = captioned[case]
    found = aggregate("MeanR", per_query("MeanR", t2i).expected)
    assert golden["qbnorm_t2v"]["MeanR"] == pytest.approx(found, abs=0.0501)


def test_difference_median_ranks_are_not_rounded_down(captioned: dict[str, Captioned]) -> None:
    """DBSN and open_clip print floor(median) of ranks from 0, plus 1; an even number of queries shows it."""
    _, i2t, golden, dbsn = captioned["rand_1to1_30"]
    median = aggregate("MedR", per_query("MedR", i2t).expected)
    assert median == np.median(dbsn["i2t"]) + 1 == golden["qbnorm_v2t"]["MedR"] == 12.5
    assert golden["dbsn_i2t"]["MedR"] == golden["open_clip_get_clip_metrics"]["image_to_text_median_rank"] == 12.0


def test_difference_a_cutoff_beyond_the_gallery_is_an_error_not_a_full_score(captioned: dict[str, Captioned]) -> None:
    """DBSN reports R@5 = 100 for a gallery of four."""
    t2i, _, golden, _ = captioned["k_larger_than_gallery_4"]
    assert golden["dbsn_t2i"]["R5"] == 100.0
    with pytest.raises(ValueError, match="needs 5 ranked items, more than the gallery of 4"):
        per_query("hit@5", t2i)


def test_difference_a_constant_scorer_gets_chance(captioned: dict[str, Captioned]) -> None:
    """qb-norm's averaged rank of 5.5 gives R@1 = 0; expected values give 0.1 and 0.5 of ten items."""
    t2i, _, golden, _ = captioned["constant_1to1_10"]
    assert golden["qbnorm_t2v"]["R1"] == 0.0
    assert [aggregate(name, per_query(name, t2i).expected) for name in ("hit@1", "hit@5")] == pytest.approx([0.1, 0.5])
