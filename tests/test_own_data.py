"""Other people's data through the whole audit: judgements, ranked lists, text collections, columns, no truth at all."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from tests.worlds import paired_vectors
from workbench import report
from workbench.evaluate import evaluate
from workbench.metrics import parse_metric, per_query
from workbench.runs import Run
from workbench.types import Relevance

FAST = {"n_resamples": 200}


def verdicts(run: Run) -> dict[str, str]:
    return {finding.name: finding.verdict for finding in run.findings}


def vectors(path: Path, **changes: Any) -> str:
    world = {**paired_vectors(n_images=40), **changes}
    np.savez(path, **{name: value for name, value in world.items() if value is not None})
    return f"embeddings:{path}"


class WordCounts:
    """A user's own encoder of texts: which of the known words a text holds."""

    name = "word counts"

    def __init__(self, texts: Sequence[str]) -> None:
        self.words = sorted({word for text in texts for word in text.lower().split()})

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        rows = [[float(word in text.lower().split()) for word in self.words] for text in texts]
        return np.array(rows) + 1e-3

    def encode_image(self, images: Sequence[Any]) -> np.ndarray:
        raise NotImplementedError("these are texts")


# --- nothing known to be right ---------------------------------------------------------------------------------------


def test_without_any_truth_there_is_still_a_report(tmp_path: Path) -> None:
    source = vectors(tmp_path / "none.npz", text_image=np.full(120, -1))
    run = evaluate(source, out=tmp_path, **FAST)
    found = verdicts(run)
    assert found["data/relevance"] == found["t2i/hit@1"] == found["i2t/ties"] == "not measurable"
    assert "qrels=FILE" in next(one.advice for one in run.findings if one.name == "t2i/hit@1")
    assert {entry["value"] for entry in run.metrics.values()} == {None}
    assert run.results["hubness t2i"].occurrence.sum() == 120 * 10
    assert found["instrument"] == "ok"
    report.draw("audit", run.path, progress=False)
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "Traceback" not in page
    assert "none stated between texts and images" in page


# --- judgements that replace the pairs -------------------------------------------------------------------------------


def test_graded_judgements_replace_the_pairs(tmp_path: Path) -> None:
    ids = {"image_id": np.array([f"i{n}" for n in range(40)]), "text_id": np.array([f"t{n}" for n in range(120)])}
    source = vectors(tmp_path / "world.npz", **ids)
    rng = np.random.default_rng(3)
    judged = {(f"t{q}", f"i{g}"): int(grade) for q in range(0, 120, 2) for g, grade in
              zip(rng.choice(40, size=6, replace=False).tolist(), rng.integers(0, 4, size=6), strict=True)}  # fmt: skip
    judged = {pair: grade * (pair[0] != "t0") for pair, grade in judged.items()}  # t0: judged, nothing right
    lines = [f"{query} 0 {item} {grade}\n" for (query, item), grade in judged.items()]
    (tmp_path / "world.qrels").write_text("".join(lines))
    run = evaluate(source, out=tmp_path, qrels=str(tmp_path / "world.qrels"), **FAST)

    world = paired_vectors(n_images=40)
    scores = world["text"].astype(float) @ world["image"].astype(float).T
    gains = []
    for query in range(0, 120, 2):
        grades = np.array([max(judged.get((f"t{query}", f"i{item}"), 0), 0) for item in range(40)], float)
        if grades.any():
            discount = 1 / np.log2(np.arange(2, 12))
            order = np.argsort(-scores[query])
            gains.append((grades[order][:10] * discount).sum() / (np.sort(grades)[::-1][:10] * discount).sum())
    assert run.metrics["t2i/nDCG@10"]["value"] == pytest.approx(np.mean(gains), abs=1e-12)
    assert run.metrics["t2i/nDCG@10"]["n"] == len(gains) < 60
    assert run.metrics["t2i/nDCG@10"]["clusters"] <= 40


# --- columns joined by id --------------------------------------------------------------------------------------------


def test_columns_are_joined_by_id(tmp_path: Path) -> None:
    source = vectors(tmp_path / "world.npz")
    rows = [f"text-{n:03d},{'ab'[n % 2]}" for n in range(120)] + [f"image-{n:02d},{'xyz'[n % 3]}" for n in range(40)]
    (tmp_path / "columns.csv").write_text("id,kind\n" + "\n".join(rows))
    run = evaluate(source, out=tmp_path, metadata=str(tmp_path / "columns.csv"), **FAST)
    mine = [kind for kind, direction in zip(run.per_query["text:kind"], run.per_query["direction"], strict=True)
            if direction == "t2i"]  # fmt: skip
    assert mine == ["a", "b"] * 60
    (tmp_path / "columns.csv").write_text("id,kind\ntext-000,a\nnobody,b")
    with pytest.raises(ValueError, match=r"1 of 2 ids are in neither side of the data, the first are \['nobody'\]"):
        evaluate(source, out=tmp_path, metadata=str(tmp_path / "columns.csv"), **FAST)
    (tmp_path / "columns.csv").write_text("id,kind\ntext-000,a\ntext-000,b")
    with pytest.raises(ValueError, match="two rows with the id 'text-000'"):
        evaluate(source, out=tmp_path, metadata=str(tmp_path / "columns.csv"), **FAST)


# --- a system known by its lists -------------------------------------------------------------------------------------

LISTS = """\
q1 Q0 d3 1 9.5 sys
q1 Q0 d1 2 7 sys
q1 Q0 d2 3 7 sys
q2 Q0 d9 1 3 sys
q2 Q0 d3 2 2 sys
q2 Q0 d8 3 1 sys
q3 Q0 d7 1 1 sys
q3 Q0 d6 2 0.5 sys
q3 Q0 d3 3 0.1 sys
q5 Q0 d3 1 1 sys
q5 Q0 d2 2 0.5 sys
q5 Q0 d1 3 0.1 sys
"""
QRELS = "q1 0 d1 1\nq1 0 d4 2\nq2 0 d3 1\nq3 0 d5 1\nq4 0 d1 1\n"


@pytest.fixture
def listed(tmp_path: Path) -> Callable[..., Run]:
    def audit(**parameters: Any) -> Run:
        (tmp_path / "lists.trec").write_text(LISTS)
        (tmp_path / "truth.qrels").write_text(QRELS)
        chosen = {"qrels": str(tmp_path / "truth.qrels"), "k": 3, "depth": 3, "metrics": ["hit@1", "hit@2", "R@2"]}
        return evaluate(f"run:{tmp_path / 'lists.trec'}", out=tmp_path, **FAST, **{**chosen, **parameters})

    return audit


def test_lists_alone(listed: Callable[..., Run]) -> None:
    """q1: d1 tied with d2 in places 2 and 3; q2: second place; q3: not found; q4: no list; q5: not judged."""
    run = listed(short_lists="as is")
    assert run.metrics["q2d/hit@1"]["value"] == 0
    assert run.metrics["q2d/hit@2"]["value"] == pytest.approx((0.5 + 1 + 0 + 0) / 4)
    assert (run.metrics["q2d/hit@2"]["worst"], run.metrics["q2d/hit@2"]["best"]) == (1 / 4, 2 / 4)
    assert run.metrics["q2d/R@2"]["value"] == pytest.approx((0.25 + 1 + 0 + 0) / 4)
    assert run.metrics["q2d/hit@1"]["chance"] is None
    assert verdicts(run)["q2d/hit@1"] == verdicts(run)["q2d/hubness"] == "not measurable"
    assert verdicts(run)["gap/separation"] == verdicts(run)["duplicates/items"] == "not measurable"
    assert run.results["hubness q2d"].occurrence.sum() == 4 * 3
    assert "of unknown size" in run.manifest["protocol"]["gallery"]
    report.draw("audit", run.path, progress=False)
    assert "Traceback" not in (run.path / "report.html").read_text(encoding="utf-8")


def test_repeated_results_are_counted(tmp_path: Path) -> None:
    (tmp_path / "twice.trec").write_text(LISTS + "q5 Q0 d3 4 0.05 sys\n")
    (tmp_path / "truth.qrels").write_text(QRELS)
    how = {"k": 3, "metrics": ["hit@1"], "qrels": str(tmp_path / "truth.qrels")}
    run = evaluate(f"run:{tmp_path / 'twice.trec'}", out=tmp_path, **how, **FAST)
    found = next(one for one in run.findings if one.name == "lists/repeated results")
    assert (found.verdict, found.value) == ("look", 1 / 13)
    assert "q4" in next(one.advice for one in run.findings if one.name == "data/relevance")


def test_short_lists_are_refused_or_counted(listed: Callable[..., Run]) -> None:
    run = listed(metrics=["hit@3", "hit@4", "MedR"])
    assert run.metrics["q2d/hit@3"]["value"] == 2 / 4  # q4 has no list: it found nothing
    assert run.metrics["q2d/hit@4"]["value"] is None
    notes = " ".join(run.results["scores q2d"].notes)
    assert "q2d/hit@4: not measurable, needs 4 ranked items, more than its list of 3 items" in notes
    assert "q2d/MedR: not measurable" in notes


def test_a_stated_gallery_gives_chance(listed: Callable[..., Run]) -> None:
    run = listed(short_lists="as is", gallery_size=1000)
    assert run.metrics["q2d/hit@1"]["chance"] == pytest.approx(np.mean([2, 1, 1, 1]) / 1000)
    assert run.results["hubness q2d"].n_gallery == 1000
    with pytest.raises(ValueError, match="gallery_size=4, but the lists and judgements name 9 different items"):
        listed(gallery_size=4)


def test_lists_without_judgements(listed: Callable[..., Run]) -> None:
    run = listed(qrels="")
    assert verdicts(run)["data/relevance"] == "not measurable"
    assert run.results["hubness q2d"].occurrence.max() == 4


AS_TREC_EVAL = {
    "map": "AP", "P_10": "P@10", "ndcg_cut_10": "nDCG@10", "recip_rank": "MRR", "Rprec": "R-precision",
    "recall_100": "R@100", "success_1": "hit@1",
}  # fmt: skip


def tied_topics(path: Path) -> set[str]:
    """Topics in which any two results have the same score."""
    with gzip.open(path, "rt") as file:
        seen = Counter((line.split()[0], float(line.split()[4])) for line in file)
    return {topic for (topic, _), times in seen.items() if times > 1}


@pytest.mark.parametrize("system", ["humR03dc", "NLPR03vb10", pytest.param("*", marks=pytest.mark.slow)])
def test_real_lists_equal_trec_eval(system: str, shared: Callable[[str], Path], tmp_path: Path) -> None:
    """Topic by topic where no scores are tied; everywhere the mean lies between the worst and the best tie order."""
    golden = np.load(shared("golden/ir_pytrec_eval__robust03.npz"), allow_pickle=False)
    names, topics = golden["measures"].tolist(), golden["topics"].tolist()
    wanted = {name: ours for name, ours in AS_TREC_EVAL.items() if name in names}
    assert len(wanted) >= 6
    found = sorted(shared("data/trec_robust03").glob(f"runs/input.{system}.gz"))
    assert found
    for path in found:
        how = {"metrics": list(wanted.values()), "short_lists": "as is", "n_resamples": 100}
        run = evaluate(f"run:{path}", out=tmp_path, qrels=str(shared("data/trec_robust03/qrels.txt.gz")), **how)
        exact = golden[f"run/{path.name.split('.')[1]}"]
        untied = [topic not in tied_topics(path) for topic in topics]
        place = {topic: row for row, topic in enumerate(run.per_query["query_id"])}
        for name, ours in wanted.items():
            values = np.asarray(run.per_query[ours], float)[[place[topic] for topic in topics]]
            theirs = exact[:, names.index(name)]
            np.testing.assert_allclose(
                values[untied], theirs[untied], atol=1e-12, rtol=0, err_msg=f"{path.name} {ours}"
            )
            entry = run.metrics[f"q2d/{ours}"]
            assert entry["worst"] - 1e-12 <= theirs.mean() <= entry["best"] + 1e-12, f"{path.name} {ours}"


# --- texts that look for texts ---------------------------------------------------------------------------------------


def test_documents_and_queries(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    documents = {"d1": "boundary layer flow", "d2": "heat transfer in a wing", "d3": "a cat sat", "d4": "wing flutter"}
    queries = {"q1": "heat of a wing", "q2": "cat", "q3": "flow in the boundary layer"}
    rows = [json.dumps({"_id": name, "title": "", "text": text}) for name, text in documents.items()]
    (tmp_path / "corpus.jsonl").write_text("\n".join(rows))
    rows = [json.dumps({"_id": name, "text": text}) for name, text in queries.items()]
    (tmp_path / "queries.jsonl").write_text("\n".join(rows))
    (tmp_path / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq1\td2\t2\nq1\td4\t1\nq2\td3\t1\nq3\td1\t1"
    )
    encoder = WordCounts([*documents.values(), *queries.values()])
    run = evaluate(f"beir:{tmp_path}", encoder, out=tmp_path / "runs", metrics=["hit@1", "nDCG@3"], k=2, **FAST)
    assert set(run.metrics) == {"q2d/hit@1", "q2d/nDCG@3"}
    assert run.metrics["q2d/hit@1"]["value"] == 1
    assert run.results["counts"].rows()[0] == ("documents", "4")
    assert (run.path / "run_q2d.trec").read_text().splitlines()[0].split()[:4] == ["q1", "Q0", "d2", "1"]
    report.draw("audit", run.path, progress=False)
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "Traceback" not in page
    assert "heat of a wing" in page


def test_no_effect_is_said(tmp_path: Path) -> None:
    source = vectors(tmp_path / "world.npz")
    with pytest.raises(
        ValueError, match=r"text_template='a photo of \{\}' has no effect: no encoder runs on ready-made"
    ):
        evaluate(source, out=tmp_path, text_template="a photo of {}", **FAST)
    with pytest.raises(ValueError, match="gallery_size belongs to dataset=run:"):
        evaluate(source, out=tmp_path, gallery_size=70, **FAST)


def test_metric_reference_is_the_kernel() -> None:
    """The planted lists by hand: two positives, one in a tie of two, one missing."""
    from workbench.metrics import ranks_from_lists

    relevance = Relevance.from_pairs([0, 0], [1, 4], [1, 2], n_queries=1, n_gallery=9)
    ranks = ranks_from_lists([([3, 1, 2], [9.5, 7, 7])], relevance)
    assert per_query(parse_metric("hit@2"), ranks, short_lists="as is").expected.tolist() == [0.5]


# --- names and sizes -------------------------------------------------------------------------------------------------


class FirstPixels:
    """A user's own encoder that looks at eight pixels, and at the number in a text."""

    name = "first pixels"

    def encode_image(self, images: Sequence[Any]) -> np.ndarray:
        return np.array([np.asarray(image, float).ravel()[:24] + 1 for image in images])

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        numbers = [
            int("".join(letter for letter in text if letter.isascii() and letter.isdigit()) or 0) for text in texts
        ]
        return np.array([[(number * step) % 251 + 1.0 for step in range(1, 25)] for number in numbers])


def write_folder(path: Path, names: Sequence[str], captions: Sequence[tuple[str, str]]) -> str:
    path.mkdir()
    rng = np.random.default_rng(0)
    for name in names:
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path / name)
    with (path / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *captions])
    return f"folder:{path}"


def test_strange_names_come_through(tmp_path: Path) -> None:
    names = [
        "ß" * 120 + ".png", "a b  c.png", "%20 100%.png", "'quoted\" & <tag>.png", "日本語 – ملف.png", "-.png",
        "e\u0301.png", "CON.png", "#1?.png", "new\nline.png",
    ]  # fmt: skip
    captions = [(name, text) for row, name in enumerate(names) for text in (f"n {row}", "ж" * 4000 + f" {row}")]
    run = evaluate(write_folder(tmp_path / "data", names, captions), FirstPixels(), out=tmp_path, **FAST)
    ids = [
        name for name, way in zip(run.per_query["query_id"], run.per_query["direction"], strict=True) if way == "i2t"
    ]
    assert ids == names
    listed = {unquote(line.split()[0]) for line in (run.path / "run_i2t.trec").read_text("utf-8").splitlines()}
    assert listed == set(names)
    assert len(run.path.name) < 150
    report.draw("audit", run.path, progress=False)
    assert "Traceback" not in (run.path / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_hundred_thousand_captions(tmp_path: Path) -> None:
    names = [f"{row}.png" for row in range(200)]
    captions = [(names[row % 200], f"w{row % 997}") for row in range(100_000)]
    run = evaluate(write_folder(tmp_path / "data", names, captions), FirstPixels(), out=tmp_path, **FAST)
    assert run.metrics["t2i/hit@1"]["n"] == 100_000
    assert run.manifest["peak_memory_bytes"] < 2.5e9
    report.draw("audit", run.path, progress=False)
    assert (run.path / "report.html").stat().st_size < 10e6
