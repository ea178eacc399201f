"""Export then import gives the original back, in every format; what cannot be trusted is refused with its place."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from click.testing import CliRunner

from workbench import datasets
from workbench.cli import main
from workbench.evaluate import evaluate
from workbench.evaluate.comparison.published import read_published
from workbench.runs import Run
from workbench.runs.exchange import (
    FORMATS,
    Answers,
    Numbers,
    answers_of,
    export_run,
    import_files,
    judged_by,
    read_source,
    trec,
)
from workbench.runs.exchange.trec import ir_metadata, read_header, read_judgements

N_IMAGES, N_TEXTS, DIM = 11, 17, 4
METRICS = ["hit@1", "hit@5", "R@1", "R@5", "P@5", "RR@10", "MRR", "MedR", "MeanR", "AP@10", "AP(norm=min)@5", "nDCG@10"]
FAST = {"n_resamples": 100, "repairs": [], "k": 3, "metrics": METRICS}
LISTS = ("trec", "mteb", "sentence-transformers")
IDS = {
    "plain": ([f"i{n}" for n in range(N_IMAGES)], [f"t{n}" for n in range(N_TEXTS)]),
    "unicode and blanks": (
        ["a b", "雪", "é/ü", "#hash", "x\u00a0y", "tab\there", "🐈", "A", "a", "ä", "\ufeffmark"],
        [f"an {n}th caption, «{n}»" for n in range(N_TEXTS)],
    ),
    "percent": (
        ["a b", "a%20b", "50%", "%25", "50%25", "%", "c", "%20", "%41", "A", "é%"],
        [f"{n} %20{'%' * n}" for n in range(N_TEXTS)],
    ),
}


def vectors() -> dict[str, np.ndarray]:
    """Small whole numbers, so that many scores are equal; one image has no text of its own."""
    rng = np.random.default_rng(3)
    return {
        "image": rng.integers(0, 3, (N_IMAGES, DIM)).astype(np.float32),
        "text": rng.integers(0, 3, (N_TEXTS, DIM)).astype(np.float32),
        "text_image": rng.integers(0, N_IMAGES - 1, N_TEXTS),
    }


def made(folder: Path, ids: str, **parameters: Any) -> Run:
    image_id, text_id = IDS[ids]
    np.savez(folder / "vectors.npz", image_id=image_id, text_id=text_id, **vectors())
    source = f"embeddings:{folder / 'vectors.npz'}"
    return evaluate(source, out=folder / "runs", similarity="dot", **{**FAST, **parameters})


@pytest.fixture(scope="module", params=list(IDS))
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made(tmp_path_factory.mktemp("run"), request.param)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made(tmp_path_factory.mktemp("plain"), "plain")


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str, str], Path]:
    def write(name: str, content: str) -> Path:
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return path

    return write


def listed(answers: Answers) -> dict[str, list[tuple[str, float]]]:
    """Lists in their order, and queries without one left out."""
    return {query: list(found.items()) for query, found in answers.results.items() if found}


def of_direction(paths: tuple[Path, ...], direction: str) -> Path:
    """The file of lists of one direction."""
    pattern = (
        rf"(run_{direction}\.trec|{direction.upper()}Retrieval_predictions\.json|{direction}_predictions_.*jsonl)$"
    )
    (found,) = [path for path in paths if re.search(pattern, str(path))]
    return found


# --- what is exported ------------------------------------------------------------------------------------------------


def test_answers_equal_a_slow_loop(run: Run) -> None:
    found = {one.name: one for one in answers_of(run)}
    arrays, (image_id, text_id) = (
        vectors(),
        next(ids for ids in IDS.values() if set(ids[1]) == set(found["t2i"].results)),
    )
    for text, name in enumerate(text_id):
        scores = {image_id[i]: float(arrays["text"][text] @ arrays["image"][i]) for i in range(N_IMAGES)}
        expected = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))
        assert list(found["t2i"].results[name].items()) == expected
        assert found["t2i"].right[name] == {image_id[arrays["text_image"][text]]: 1.0}
    for image, name in enumerate(image_id):
        own = np.flatnonzero(arrays["text_image"] == image)
        assert found["i2t"].right.get(name, {}) == {text_id[t]: 1.0 for t in own}
        assert len(found["i2t"].results[name]) == N_TEXTS
    ties = sum(len(set(scores.values())) < len(scores) for scores in found["t2i"].results.values())
    assert ties > N_TEXTS / 2, "the world must have ties"


@pytest.mark.parametrize("to", LISTS)
def test_lists_come_back(run: Run, to: str, tmp_path: Path) -> None:
    written = export_run(run, to, tmp_path)
    for original in answers_of(run):
        (back,) = read_source(of_direction(written.paths, original.name))
        assert isinstance(back, Answers)
        assert back.results == original.results
        assert listed(back) == listed(original)
        judged = judged_by(back, read_judgements(run.path, back.results))
        assert judged.right == original.right
        assert listed(judged) == listed(original)


def test_trec_judgements_come_back(run: Run, tmp_path: Path) -> None:
    export_run(run, "trec", tmp_path)
    for original in answers_of(run):
        (back,) = read_source(tmp_path / f"run_{original.name}.trec")
        judged = judged_by(back, read_judgements(tmp_path / f"qrels_{original.name}.txt"))
        assert judged.right == original.right


@pytest.mark.parametrize("to", LISTS)
@pytest.mark.parametrize("direction", ["t2i", "i2t"])
def test_every_metric_comes_back_from_a_new_evaluation(run: Run, to: str, direction: str, tmp_path: Path) -> None:
    written = export_run(run, to, tmp_path / "out")
    source = of_direction(written.paths, direction)
    imported = import_files([source], tmp_path / "in", qrels=run.path)
    (command,) = imported.commands
    lists, judgements = imported.paths[0], imported.paths[2]
    assert f"dataset=run:{lists}" in command
    assert f"qrels={judgements}" in command
    size = {"t2i": N_IMAGES, "i2t": N_TEXTS}[direction]
    again = evaluate(
        f"run:{lists}",
        out=tmp_path / "runs",
        qrels=str(judgements),
        gallery_size=size,
        **{**FAST, "short_lists": "as is"},
    )
    for name in METRICS:
        before, after = run.metrics[f"{direction}/{name}"], again.metrics[f"q2d/{name}"]
        assert [before[part] for part in ("value", "worst", "best", "n")] == pytest.approx(
            [after[part] for part in ("value", "worst", "best", "n")], abs=1e-12
        ), name
    (original,) = [one for one in answers_of(run) if one.name == direction]
    if not any("%" in name for query, item, _ in original.rows() for name in (query, item)):
        assert set(again.per_query["query_id"]) >= original.right.keys(), "judged ids are spelt as before"
        assert set(map(unquote, again.per_query["query_id"])) == original.results.keys()


def test_scores_keep_all_their_digits(tmp_path: Path) -> None:
    scores = {"a": 1 / 3, "b": 1 / 3 - 2**-54, "c": 1e-300, "d": -0.1, "e": -1e22, "f": 5e-324}
    (tmp_path / "x.json").write_text(json.dumps({"q": scores}))
    (first,) = read_source(tmp_path / "x.json")
    assert isinstance(first, Answers)
    assert first.results["q"] == scores
    (tmp_path / "x.trec").write_bytes(trec.run_bytes(first, encoded=True))
    (second,) = read_source(tmp_path / "x.trec")
    assert isinstance(second, Answers)
    assert list(second.results["q"].items()) == sorted(scores.items(), key=lambda pair: -pair[1])


def test_any_ids_pair_up_again(tmp_path: Path) -> None:
    rng, letters = (
        np.random.default_rng(5),
        ["a", "b", " ", "%", "2", "0", "5", "#", "é", "\t", "\u00a0", "\ufeff", "\n"],
    )
    for world in range(60):
        names = ["".join(rng.choice(letters, rng.integers(1, 5))) for _ in range(12)]
        queries, items = list(dict.fromkeys(names[:5])), list(dict.fromkeys(names[5:]))
        results = {
            query: {item: float(score) for item, score in zip(items, rng.normal(size=9), strict=False)}
            for query in queries
        }
        right = {query: {items[int(rng.integers(len(items)))]: 1.0} for query in queries}
        (tmp_path / f"{world}.json").write_text(json.dumps(results))
        rows = (json.dumps({"query": q, "item": d, "grade": 1}) for q, found in right.items() for d in found)
        (tmp_path / f"{world}.jsonl").write_text("\n".join(rows))
        imported = import_files([tmp_path / f"{world}.json"], tmp_path, qrels=tmp_path / f"{world}.jsonl")
        loaded = datasets.load(f"run:{imported.paths[0]}", qrels=str(imported.paths[2]))
        assert loaded.lists is not None
        assert len(loaded.texts) == len(queries)
        assert len(loaded.images) == len(items)
        for place, query in enumerate(queries):
            found, scores = loaded.lists.row(loaded.texts.ids.index(loaded.texts.ids[place]))
            assert sorted(scores.tolist()) == sorted(results[query].values())
            (row,) = np.flatnonzero(loaded.relevance.queries == place)
            right_score = results[query][next(iter(right[query]))]
            assert scores[found.tolist().index(loaded.relevance.items[row])] == right_score


# --- queries without an answer ---------------------------------------------------------------------------------------

SHORT = "q1 Q0 d1 1 3 theirs\nq1 Q0 d2 2 2 theirs\nq3 Q0 d3 1 2 theirs\nq3 Q0 d1 2 2 theirs\n"
TRUTH = "q1 0 d2 1\nq2 0 d1 2\nq3 0 d3 1\nq4 0 d9 1\n"


@pytest.fixture
def short(file: Callable[[str, str], Path], tmp_path: Path) -> Run:
    """Lists of two lengths, and two judged queries without one."""
    lists, truth = file("lists.trec", SHORT), file("truth.txt", TRUTH)
    return evaluate(
        f"run:{lists}",
        out=tmp_path / "runs",
        qrels=str(truth),
        short_lists="as is",
        gallery_size=20,
        **{**FAST, "metrics": ["hit@1", "AP@10"]},
    )


@pytest.mark.parametrize("to", LISTS)
def test_empty_lists_stay_empty(short: Run, to: str, tmp_path: Path) -> None:
    (original,) = answers_of(short)
    assert {query: len(found) for query, found in original.results.items()} == {"q1": 2, "q2": 0, "q3": 2, "q4": 0}
    assert original.right["q2"] == {"d1": 2.0}
    written = export_run(short, to, tmp_path / "out")
    source = of_direction(written.paths, "q2d")
    (back,) = read_source(source)
    assert isinstance(back, Answers)
    if to == "trec":
        assert listed(back) == listed(original)
        assert "2 queries without an answer" in " ".join(written.notes)
    else:
        assert back.results == original.results
    imported = import_files([source], tmp_path / "in", qrels=short.path)
    assert "2 judged queries have no list and score 0: q2, q4" in " ".join(imported.notes)
    again = evaluate(
        f"run:{imported.paths[0]}", out=tmp_path / "again", qrels=str(imported.paths[2]), short_lists="as is",
        gallery_size=20, **{**FAST, "metrics": ["hit@1", "AP@10"]},
    )  # fmt: skip
    for name, entry in short.metrics.items():
        assert again.metrics[name]["value"] == entry["value"], name
        assert again.metrics[name]["n"] == 4


def test_short_lists_measured_by_hand(short: Run) -> None:
    assert short.metrics["q2d/hit@1"]["value"] == (0 + 0 + 0.5 + 0) / 4
    assert short.metrics["q2d/AP@10"]["value"] == (0.5 + 0 + 0.75 + 0) / 4


# --- the header ------------------------------------------------------------------------------------------------------


def test_header_is_yaml_of_the_manifest(run: Run, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    export_run(run, "trec", tmp_path)
    lines = read_header(tmp_path / "run_t2i.trec")
    assert lines[0] == "# ir_metadata.start"
    assert lines[-1] == "# ir_metadata.end"
    content = yaml.safe_load("\n".join(line.removeprefix("# ") for line in lines[1:-1]))
    assert content == ir_metadata(run, "t2i") | {"implementation": content["implementation"]}
    assert content["research goal"]["evaluation"]["reported measures"] == METRICS
    assert content["data"]["test collection"]["content hash"] == run.manifest["protocol"]["content hash"]
    assert content["platform"]["hardware"]["cpu"]["number of cores"] == run.manifest["hardware"]["cores"]
    assert content["implementation"]["source"]["commit"] == run.manifest["git_revision"]
    assert "similarity=dot" in content["implementation"]["executable"]["cmd"]


def test_header_names_nobody_and_no_place(plain: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = f"from {Path.home()}/clients/acme/x.npz"
    manifest = json.loads((plain.path / "manifest.json").read_text())
    manifest["card"]["source"] = secret
    manifest["card"]["name"] = "quote ' \" : # \u2028 \x7f 🐈 line\nbreak"
    manifest["parameters"] |= {"dataset": "folder:../acme corp/photos", "qrels": "/srv/acme/qrels.txt"}
    monkeypatch.setattr(plain, "manifest", manifest)
    written = export_run(plain, "trec", tmp_path, header="beside")
    text = next(path for path in written.paths if path.suffix == ".yaml").read_text(encoding="utf-8")
    assert "acme" not in text
    assert "clients" not in text
    assert f"{Path.home()}/" not in text
    assert "dataset=folder:photos" in text
    assert "qrels=qrels.txt" in text
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load(text)["data"]["test collection"]["name"] == manifest["card"]["name"]
    assert read_header(tmp_path / "run_t2i.trec") == ()


def test_foreign_header_is_skipped_and_kept(file: Callable[[str, str], Path], tmp_path: Path) -> None:
    header = "# ir_metadata.start\n# platform: {}\n#   weird: [unclosed\n# ir_metadata.end\n"
    imported = import_files([file("theirs.trec", header + SHORT)], tmp_path / "in")
    text = imported.paths[0].read_text()
    assert text.startswith(header)
    loaded = datasets.load(f"run:{imported.paths[0]}")
    assert loaded.lists is not None
    assert loaded.lists.depths.tolist() == [2, 2]
    (again,) = read_source(imported.paths[0])
    assert isinstance(again, Answers)
    assert again.header == tuple(header.splitlines())
    assert again.tag == "theirs"


def test_foreign_percent_signs_are_not_decoded(file: Callable[[str, str], Path]) -> None:
    (answers,) = read_source(file("theirs.trec", "q%201 Q0 d%25 1 2.0 theirs\n"))
    assert isinstance(answers, Answers)
    assert answers.results == {"q%201": {"d%25": 2.0}}
    (answers,) = read_source(file("ours.trec", "q%201 Q0 d%25 1 2.0 workbench\n"))
    assert isinstance(answers, Answers)
    assert answers.results == {"q 1": {"d%": 2.0}}


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_clip_benchmark_means_hit_at_k(plain: Run, tmp_path: Path) -> None:
    """An image without a caption would be a miss in CLIP_benchmark, so only the other direction is written."""
    written = export_run(plain, "clip-benchmark", tmp_path)
    content = json.loads(written.paths[0].read_text())
    assert list(content) == ["dataset", "model", "pretrained", "task", "metrics", "language"]
    assert content["task"] == "zeroshot_retrieval"
    expected = {f"image_retrieval_recall@{k}": plain.metrics[f"t2i/hit@{k}"]["value"] for k in (1, 5)}
    assert content["metrics"] == expected
    assert "i2t: 4 of 11 queries have no right item" in " ".join(written.notes)
    assert "t2i/hit@1" in " ".join(written.notes), "ties touch a right item"
    (back,) = read_source(written.paths[0])
    assert isinstance(back, Numbers)
    assert back.values == {f"t2i/hit@{k}": plain.metrics[f"t2i/hit@{k}"]["value"] for k in (1, 5)}


def test_clip_benchmark_has_both_directions_where_every_query_has_an_answer(tmp_path: Path) -> None:
    arrays = vectors() | {"text_image": np.arange(N_TEXTS) % N_IMAGES}
    np.savez(tmp_path / "v.npz", **arrays)
    run = evaluate(f"embeddings:{tmp_path / 'v.npz'}", out=tmp_path / "runs", **FAST)
    content = json.loads(export_run(run, "clip-benchmark", tmp_path / "out").paths[0].read_text())
    assert content["metrics"] == {
        f"{name}_retrieval_recall@{k}": run.metrics[f"{direction}/hit@{k}"]["value"]
        for direction, name in (("t2i", "image"), ("i2t", "text")) for k in (1, 5)
    }  # fmt: skip
    assert run.metrics["i2t/hit@5"]["value"] != run.metrics["i2t/R@5"]["value"], "the world must tell the two apart"


def test_mteb_task_result_comes_back(plain: Run, tmp_path: Path) -> None:
    written = export_run(plain, "mteb", tmp_path / "out")
    results = [path for path in written.paths if path.name.endswith("Retrieval.json")]
    assert len(results) == 2
    scores = json.loads(results[0].read_text())["scores"]["test"][0]
    expected = {"hit_rate_at_5": "hit@5", "recall_at_5": "R@5", "precision_at_5": "P@5", "mrr_at_10": "RR@10",
                "map_at_10": "AP@10", "ndcg_at_10": "nDCG@10", "main_score": "nDCG@10", "accuracy": "R@1"}  # fmt: skip
    assert {name: scores[name] for name in expected} == {
        name: plain.metrics[f"t2i/{ours}"]["value"] for name, ours in expected.items()
    }
    imported = import_files(results, tmp_path / "in")
    wanted = [f"{direction}/{name}" for direction in ("t2i", "i2t") for name in ("hit@5", "AP@10", "nDCG@10", "RR@10")]
    (row,), _ = read_published(imported.paths[0], wanted)
    assert row.values == {name: plain.metrics[name]["value"] for name in wanted}


def test_sentence_transformers_results_come_back(plain: Run, tmp_path: Path) -> None:
    written = export_run(plain, "sentence-transformers", tmp_path / "out")
    (table,) = [path for path in written.paths if path.name.endswith("t2i_results.csv")]
    imported = import_files([table], tmp_path / "in", direction="t2i")
    with imported.paths[0].open() as lines:
        (row,) = csv.DictReader(lines)
    names = ("hit@1", "hit@5", "P@5", "R@5", "RR@10", "AP(norm=min)@5", "nDCG@10")
    assert {name: float(row[f"t2i/{name}"]) for name in names} == {
        name: plain.metrics[f"t2i/{name}"]["value"] for name in names
    }
    assert "t2i/AP@10" not in row, "their MAP divides by min(k, positives), AP@10 by all positives"


def test_graded_truth_has_no_binary_ndcg(short: Run, tmp_path: Path) -> None:
    parameters = {**short.manifest["parameters"]}
    assert parameters["metrics"] == ["hit@1", "AP@10"]
    run = evaluate(
        f"run:{tmp_path / 'lists.trec'}", out=tmp_path / "r", qrels=str(tmp_path / "truth.txt"), short_lists="as is",
        gallery_size=20, **{**FAST, "metrics": ["hit@1", "nDCG@10"]},
    )  # fmt: skip
    written = export_run(run, "sentence-transformers", tmp_path / "out")
    (table,) = [path for path in written.paths if path.suffix == ".csv"]
    assert table.read_text().splitlines()[0] == "epoch,steps,score-Accuracy@1"


def test_parquet_is_the_table_with_a_page_on_it(plain: Run, tmp_path: Path) -> None:
    written = export_run(plain, "parquet", tmp_path)
    assert written.paths[0].read_bytes() == (plain.path / "per_query.parquet").read_bytes()
    page = written.paths[1].read_text()
    assert all(f"| `{name}` |" in page for name in plain.per_query)
    assert "mean fraction of a query's positives" in page


# --- what is refused -------------------------------------------------------------------------------------------------

NAN = "a finite number was expected: write it without quotes, or leave it out"
NO_LISTS = (
    "holds no ranked lists: numbers were expected 2 to 4 levels deep (subset, split, query, item); "
    "got none; give the predictions of a retrieval task"
)
TWICE = "twice; one score per item was expected: remove the repeated result"
JSON_NAN = "is not JSON: NaN is no JSON value; write null where a number is missing"
DIRECTION = "does not say what is asked for what; add --direction t2i or i2t"
BAD = {  # what is given -> name and content of the file, the message
    "an item twice": (
        "x.json",
        '{"q": {"d": 1, "d": 2}}',
        "x.json is not JSON: the key 'd' occurs twice in one object; keep one",
    ),
    "NaN": (
        "x.json",
        '{"q": {"d": NaN}}',
        f"x.json {JSON_NAN}",
    ),
    "too large a number": (
        "x.json",
        '{"q": {"d": 1e999}}',
        f"x.json: query 'q', item 'd' has the score 'inf'; {NAN}",
    ),
    "a huge integer": (
        "x.json",
        '{"q": {"d": 1' + "0" * 400 + "}}",
        f"x.json: query 'q', item 'd' has the score '1000000000000000000000000000000000000000'; {NAN}",
    ),
    "a score in quotes": (
        "x.json",
        '{"q": {"d": 1.5, "e": "2"}}',
        f"x.json: query 'q', item 'e' has the score '2'; {NAN}",
    ),
    "true": (
        "x.json",
        '{"q": {"d": true}}',
        f"x.json: query 'q', item 'd' has the score 'True'; {NAN}",
    ),
    "a list": (
        "x.json",
        "[1, 2]",
        "x.json: an object query -> item -> score was expected; got list",
    ),
    "half a list": (
        "x.json",
        '{"q": {"d": 1}, "r": 3}',
        "x.json: the list of query 'r' is no object item -> score",
    ),
    "no lists": (
        "x.json",
        '{"q": {}}',
        f"x.json {NO_LISTS}",
    ),
    "labels": (
        "x.json",
        '{"default": {"test": [0, 1]}}',
        f"x.json: query 'default', item 'test' has the score '[0, 1]'; {NAN}",
    ),
    "too deep": (
        "x.json",
        '{"a":' * 9 + "1" + "}" * 9,
        f"x.json {NO_LISTS}",
    ),
    "far too deep": (
        "x.json",
        "[" * 100_000,
        "x.json is nested too deeply to be read; flatten it",
    ),
    "an empty id": (
        "x.json",
        '{"q": {"": 1}}',
        "x.json: ids have 1 to 4,096 characters; got an empty one; is it another kind of file?",
    ),
    "half a character": (
        "x.json",
        '{"q": {"\\ud800": 1}}',
        "x.json: the id '\\ud800' is no valid Unicode; write the file again as UTF-8",
    ),
    "a query twice": (
        "x.jsonl",
        '{"query_id": "q", "results": []}\n' * 2,
        "x.jsonl: query 'q' has two lines; one list per query was expected: keep one",
    ),
    "an item twice in a line": (
        "x.jsonl",
        '{"query_id": "q", "results": [{"corpus_id": "d", "score": 1}, {"corpus_id": "d", "score": 1}]}',
        f"x.jsonl: the list of query 'q' holds item 'd' {TWICE}",
    ),
    "NaN in a line": (
        "x.jsonl",
        '{"query_id": "q", "results": [{"corpus_id": "d", "score": NaN}]}',
        f"x.jsonl line 1 {JSON_NAN}",
    ),
    "no score": (
        "x.jsonl",
        '{"query_id": "q", "results": [{"corpus_id": "d"}]}',
        "x.jsonl line 1: a result is no object with corpus_id and score; got \"{'corpus_id': 'd'}\"",
    ),
    "another kind of line": (
        "x.jsonl",
        '{"text": "a cat"}',
        "x.jsonl line 1 has ['text']; an object with query_id and a list of results was expected",
    ),
    "an id that is no text": (
        "x.jsonl",
        '{"query_id": 1.5, "results": []}',
        "x.jsonl line 1 has the id '1.5'; a string or a whole number was expected",
    ),
    "an item twice in a run": (
        "x.trec",
        "q Q0 d 1 2 t\nq Q0 d 2 1 t\n",
        "x.trec: 1 results in 1 lists repeat an item; remove them, or audit the file as it is "
        "(dataset=run:FILE keeps the best score and says so)",
    ),
    "an item twice once decoded": (
        "x.trec",
        "q Q0 a%41 1 2 workbench\nq Q0 aA 2 1 workbench\n",
        f"x.trec: the list of query 'q' holds item 'aA' {TWICE}",
    ),
    "NaN in a run": (
        "x.trec",
        "q Q0 d 1 nan t\n",
        "x.trec line 1: the score is 'nan', which is no finite number; the fourth field is a whole "
        "number, the fifth a finite one (a TREC run has six per line: query Q0 item rank score tag)",
    ),
    "another task": (
        "x.json",
        '{"dataset": "d", "model": "m", "task": "linear_probe", "metrics": {}}',
        "x.json is of the task 'linear_probe'; only zeroshot_retrieval can be read",
    ),
    "no metric of ours": (
        "x.json",
        '{"dataset": "d", "model": "m", "task": "zeroshot_retrieval", "metrics": {"acc1": 0.5}}',
        "x.json has no metric that means the same as one of ours; it has acc1",
    ),
    "scores that are no list": (
        "x.json",
        '{"task_name": "XT2IRetrieval", "scores": {"test": {"ndcg_at_10": 0.5}}}',
        "x.json is no mteb TaskResult: task_name and scores (split -> list) were expected",
    ),
    "a recall of NaN": (
        "x.json",
        '{"dataset": "d", "model": "m", "task": "zeroshot_retrieval", "metrics": {"image_retrieval_recall@5": null}}',
        f"x.json: image_retrieval_recall@5 has the score 'None'; {NAN}",
    ),
    "a task without direction": (
        "x.json",
        '{"task_name": "SciFact", "scores": {"test": [{"ndcg_at_10": 0.5}]}}',
        f"x.json: the task 'SciFact' {DIRECTION}",
    ),
    "a CSV without direction": (
        "x.csv",
        "epoch,steps,cosine-NDCG@10\n-1,-1,0.5\n",
        f"x.csv {DIRECTION}",
    ),
}


@pytest.mark.parametrize("case", list(BAD))
def test_what_is_refused(case: str, file: Callable[[str, str], Path], tmp_path: Path) -> None:
    name, content, message = BAD[case]
    result = CliRunner().invoke(main, ["import", str(file(name, content)), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert result.stderr == f"error: {message}\n"
    assert not (tmp_path / "out").exists()


def test_large_files_are_refused_unread(tmp_path: Path) -> None:
    for name in ("x.json", "x.jsonl", "x.trec"):
        with (tmp_path / name).open("wb") as large:
            large.truncate(2**29 + 1)
        with pytest.raises(ValueError, match=f"{name} has 536,870,913 bytes; at most 536,870,912 are read"):
            read_source(tmp_path / name)


def test_judgements_of_other_queries_are_refused(file: Callable[[str, str], Path], tmp_path: Path) -> None:
    lists, truth = file("a.trec", SHORT), file("b.txt", "x 0 d1 1\n")
    with pytest.raises(
        ValueError, match=r"none of the 2 queries in a is judged in b.txt: the lists have \['q1', 'q3'\]"
    ):
        import_files([lists], tmp_path / "in", qrels=truth)


def test_only_endings_leave_the_name(file: Callable[[str, str], Path], tmp_path: Path) -> None:
    """TREC's own archives are called input.SYSTEM.gz."""
    names = ["input.one", "input.two", "a.b.trec", "c.run"]
    imported = import_files([file(name, SHORT) for name in names], tmp_path / "in")
    made = [path.name for path in imported.paths if path.suffix == ".trec"]
    assert made == ["input.one.trec", "input.two.trec", "a.b.trec", "c.trec"]


def test_what_does_not_match_is_said(file: Callable[[str, str], Path], tmp_path: Path) -> None:
    imported = import_files(
        [file("a.trec", SHORT)], tmp_path / "in", qrels=file("b.txt", "q1 0 d1 1\nq1 0 d8 0\nq7 0 d2 1\n")
    )
    assert imported.notes == (
        "a: 1 judged queries have no list and score 0: q7.",
        "a: 1 lists belong to queries that b.txt does not judge: they are in no mean: q3.",
        "a: 1 of 3 items judged in b.txt are in no list: d8.",
    )


def test_several_subsets_are_several_systems(file: Callable[[str, str], Path], tmp_path: Path) -> None:
    content = {
        "mteb_model_meta": {"model_name": "m"},
        "en": {"test": {"q": {"d": 1.0}}},
        "de": {"test": {"q": {"d": 2}}},
    }
    imported = import_files([file("T_predictions.json", json.dumps(content))], tmp_path / "in")
    assert [path.name for path in imported.paths if path.suffix == ".trec"] == ["T-en-test.trec", "T-de-test.trec"]
    assert (tmp_path / "in" / "T-de-test.trec").read_text() == "q Q0 d 1 2.0 m\n"


# --- the command line ------------------------------------------------------------------------------------------------


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(one) for one in arguments])


@pytest.mark.parametrize("to", list(FORMATS))
def test_export_prints_files_and_overwrites_nothing(plain: Run, to: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = invoke("export", plain.path, "--to", to, "--out", out)
    assert first.exit_code == 0, first.stderr
    paths = [Path(line) for line in first.stdout.splitlines()]
    assert sorted(paths) == sorted(path for path in out.rglob("*") if path.is_file())
    paths[0].write_text("mine")
    again = invoke("export", plain.path, "--to", to, "--out", out)
    assert again.exit_code == 2
    assert "exists; choose another --out, or pass --overwrite" in again.stderr
    assert paths[0].read_text() == "mine"
    assert invoke("export", plain.path, "--to", to, "--out", out, "--overwrite").exit_code == 0
    assert paths[0].read_text(errors="replace") != "mine"


def test_what_was_withheld_stays_withheld(tmp_path: Path) -> None:
    run = made(tmp_path, "unicode and blanks", share="no-content")
    secrets = {name for side in IDS["unicode and blanks"] for name in side if len(name) > 3}
    for to in FORMATS:
        for path in export_run(run, to, tmp_path / to).paths:
            text = unquote(path.read_bytes().decode("utf-8", "replace"))
            assert not [name for name in secrets if name in text], path.name


def test_an_edited_manifest_is_an_error_not_a_traceback(plain: Run, tmp_path: Path) -> None:
    shutil.copytree(plain.path, tmp_path / "run")
    manifest = json.loads((plain.path / "manifest.json").read_text())
    del manifest["hardware"]
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest))
    result = invoke("export", tmp_path / "run", "--to", "trec", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr == "error: run lacks 'hardware', which trec needs: files were edited; evaluate again\n"


def test_export_leaves_the_run_as_it_was(plain: Run, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in plain.path.rglob("*") if path.is_file()}
    for to in FORMATS:
        export_run(plain, to, tmp_path / to)
    assert {path: path.read_bytes() for path in plain.path.rglob("*") if path.is_file()} == before


def test_import_prints_the_command_that_works(plain: Run, tmp_path: Path) -> None:
    export_run(plain, "mteb", tmp_path / "out")
    (source,) = (tmp_path / "out" / "predictions").glob("*T2I*")
    result = invoke("import", source, "--qrels", plain.path, "--out", tmp_path / "a folder")
    assert result.exit_code == 0, result.stderr
    import shlex

    words = shlex.split(result.stdout)
    assert words[:3] == ["workbench", "report", "audit"]
    done = invoke("evaluate", "-q", *words[3:], "-p", "n_resamples=100", "-p", "k=3", "--out", tmp_path / "runs")
    assert done.exit_code == 0, done.stderr
    assert Run(done.stdout.strip()).metrics["q2d/hit@5"]["value"] == plain.metrics["t2i/hit@5"]["value"]
    again = invoke("import", source, "--qrels", plain.path, "--out", tmp_path / "a folder")
    assert again.exit_code == 2
    assert "exists; choose another --out" in again.stderr


def test_two_sources_of_one_name_are_refused(file: Callable[[str, str], Path], tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    first = file("a.trec", SHORT)
    (tmp_path / "b" / "a.trec").write_text(SHORT)
    result = invoke("import", first, tmp_path / "b" / "a.trec", "--out", tmp_path / "in")
    assert result.exit_code == 2
    assert "two of the sources are called 'a'; import them into two folders" in result.stderr
    assert not (tmp_path / "in").exists()


@pytest.mark.parametrize("command", ["export", "import"])
def test_help_teaches(command: str) -> None:
    text = invoke(command, "--help").stdout
    assert text.count(f"workbench {command} ") >= 4


def test_bad_options(plain: Run, tmp_path: Path) -> None:
    assert "--direction" in invoke("import", plain.path / "x.trec", "--direction", "text").stderr
    missing = invoke("import", tmp_path / "no.trec")
    assert missing.exit_code == 2
    assert "does not exist; give the path of a file" in missing.stderr
    assert "is no run folder" in invoke("export", tmp_path, "--to", "trec").stderr


@pytest.mark.parametrize("name", ["layers/relevance.parquet", "layers/items.parquet"])
@pytest.mark.parametrize("to", ["trec", "mteb", "sentence-transformers"])
def test_a_link_out_of_the_folder_is_not_exported(plain: Run, tmp_path: Path, name: str, to: str) -> None:
    folder = Path(shutil.copytree(plain.path, tmp_path / plain.path.name))
    (folder / name).rename(tmp_path / "elsewhere.parquet")
    (folder / name).symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(ValueError, match="lies outside of the run folder"):
        export_run(Run(folder), to, tmp_path / "out")
    assert not (tmp_path / "out").exists()
