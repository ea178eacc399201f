"""Exported files are read by the tools they are made for, and these tools measure what we measured."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from workbench.evaluate import evaluate
from workbench.runs import Run
from workbench.runs.exchange import Answers, Numbers, answers_of, export_run, import_files, read_source

N_IMAGES, N_TEXTS, DIM = 12, 31, 6
METRICS = [
    f"{name}@{k}" for name in ("hit", "R", "P", "RR", "AP", "AP(norm=min)", "nDCG") for k in (1, 5, 10)
] + ["MRR"]  # fmt: skip
DIRECTIONS = ("t2i", "i2t")


def arrays(*, tied: bool) -> dict[str, np.ndarray]:
    """Every image has texts; labels give a text more than one right image. Whole numbers make ties."""
    rng = np.random.default_rng(11)
    draw = (lambda size: rng.integers(0, 3, size)) if tied else (lambda size: rng.normal(size=size))
    return {
        "image": draw((N_IMAGES, DIM)).astype(np.float32),
        "text": draw((N_TEXTS, DIM)).astype(np.float32),
        "text_image": np.arange(N_TEXTS) % N_IMAGES,
        "label": np.array([f"l{n % 8}" for n in range(N_IMAGES)]),
        "image_id": np.array([f"image {n} ü%" for n in range(N_IMAGES)]),
        "text_id": np.array([f"text {n}" for n in range(N_TEXTS)]),
    }


def made(folder: Path, *, tied: bool) -> Run:
    np.savez(folder / "v.npz", **arrays(tied=tied))
    source = f"embeddings:{folder / 'v.npz'}"
    return evaluate(source, out=folder, similarity="dot", metrics=METRICS, n_resamples=100, repairs=[], k=3)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made(tmp_path_factory.mktemp("clear"), tied=False)


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made(tmp_path_factory.mktemp("tied"), tied=True)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_the_worlds_are_what_they_should_be(run: Run, tied: Run) -> None:
    assert all(entry["worst"] == pytest.approx(entry["best"], abs=1e-12) for entry in run.metrics.values())
    assert any(entry["best"] - entry["worst"] > 0.05 for entry in tied.metrics.values())
    assert run.metrics["t2i/hit@5"]["value"] != run.metrics["t2i/R@5"]["value"]
    assert run.metrics["t2i/AP@1"]["value"] != run.metrics["t2i/AP(norm=min)@1"]["value"]


# --- ir_measures -----------------------------------------------------------------------------------------------------

IR_MEASURES = {"hit": "Success", "R": "R", "P": "P", "RR": "RR", "AP": "AP", "nDCG": "nDCG"}


def measured(folder: Path, direction: str, lines: Any = None) -> dict[str, float]:
    """What ir_measures reads in the files and makes of them, under our names."""
    import ir_measures

    wanted = {
        f"{ours}@{k}": ir_measures.parse_measure(f"{theirs}@{k}")
        for ours, theirs in IR_MEASURES.items()
        for k in (1, 5, 10)
    }
    qrels = ir_measures.read_trec_qrels(str(folder / f"qrels_{direction}.txt"))
    scored = ir_measures.read_trec_run(lines or str(folder / f"run_{direction}.trec"))
    found = ir_measures.calc_aggregate(list(wanted.values()), qrels, scored)
    return {name: found[measure] for name, measure in wanted.items()}


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_ir_measures_reads_what_it_is_given_and_agrees(run: Run, direction: str, tmp_path: Path) -> None:
    pytest.importorskip("ir_measures")
    export_run(run, "trec", tmp_path, header="beside")
    for name, value in measured(tmp_path, direction).items():
        assert value == pytest.approx(run.metrics[f"{direction}/{name}"]["value"], abs=1e-6), name


def test_ir_measures_agrees_below_a_header_too(run: Run, tmp_path: Path) -> None:
    """It knows no comments, so whoever keeps the header on top drops the lines that begin with #."""
    pytest.importorskip("ir_measures")
    export_run(run, "trec", tmp_path)
    with pytest.raises(ValueError, match="unpack"):
        measured(tmp_path, "t2i")

    class Uncommented:
        def __init__(self, path: Path) -> None:
            self.lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]

        def read(self) -> str:
            return "\n".join(self.lines)

        def __iter__(self) -> Iterator[str]:
            return iter(self.lines)

    found = measured(tmp_path, "t2i", Uncommented(tmp_path / "run_t2i.trec"))
    assert found["nDCG@10"] == pytest.approx(run.metrics["t2i/nDCG@10"]["value"], abs=1e-6)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_ir_measures_stays_between_worst_and_best_where_scores_are_equal(
    tied: Run, direction: str, tmp_path: Path
) -> None:
    pytest.importorskip("ir_measures")
    export_run(tied, "trec", tmp_path, header="beside")
    for name, value in measured(tmp_path, direction).items():
        entry = tied.metrics[f"{direction}/{name}"]
        assert entry["worst"] - 1e-6 <= value <= entry["best"] + 1e-6, name


# --- mteb ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def mteb() -> Any:
    return pytest.importorskip("mteb")


def test_mteb_reads_the_task_results(mteb: Any, run: Run, tmp_path: Path) -> None:
    from mteb.results import TaskResult

    export_run(run, "mteb", tmp_path)
    for direction in DIRECTIONS:
        (path,) = tmp_path.glob(f"results/*/*/*{direction.upper()}Retrieval.json")
        result = TaskResult.from_disk(path)
        assert result.get_score() == run.metrics[f"{direction}/nDCG@10"]["value"]
        assert (
            result.get_score(getter=lambda scores: scores["hit_rate_at_5"])
            == run.metrics[f"{direction}/hit@5"]["value"]
        )
        (numbers,) = read_source(path)
        result.to_disk(tmp_path / "theirs.json")
        (again,) = read_source(tmp_path / "theirs.json", direction)
        assert isinstance(numbers, Numbers)
        assert isinstance(again, Numbers)
        assert again.values == pytest.approx(numbers.values, abs=1e-6)


def test_mteb_loads_the_folder_of_results(mteb: Any, run: Run, tmp_path: Path) -> None:
    export_run(run, "mteb", tmp_path)
    loaded = mteb.ResultCache(tmp_path).load_results(include_remote=False, validate_and_filter=False)
    (model,) = loaded.model_results
    assert model.model_name == "ready-made vectors"
    assert {one.task_name for one in model.task_results} == {"vT2IRetrieval", "vI2TRetrieval"}


def test_mteb_scores_the_predictions_as_we_do(mteb: Any, run: Run, tmp_path: Path) -> None:
    from mteb._evaluators.retrieval_metrics import calculate_retrieval_scores

    export_run(run, "mteb", tmp_path)
    for answers in answers_of(run):
        (path,) = tmp_path.glob(f"predictions/*{answers.name.upper()}Retrieval_predictions.json")
        lists = json.loads(path.read_text())["default"]["test"]
        truth = {query: {item: int(grade) for item, grade in known.items()} for query, known in answers.right.items()}
        found = calculate_retrieval_scores(lists, truth, [1, 5, 10])
        theirs = {
            "nDCG": (found.ndcg, "NDCG"), "AP": (found.map, "MAP"), "R": (found.recall, "Recall"),
            "P": (found.precision, "P"), "RR": (found.mrr, "MRR"), "hit": (found.hit_rate, "HitRate"),
        }  # fmt: skip
        for ours, (values, name) in theirs.items():
            for k in (1, 5, 10):
                expected = run.metrics[f"{answers.name}/{ours}@{k}"]["value"]
                assert values[f"{name}@{k}"] == pytest.approx(expected, abs=1e-5), (answers.name, ours, k)


def test_predictions_that_mteb_writes_are_read(mteb: Any, run: Run, tmp_path: Path) -> None:
    from mteb.abstasks.abstask import AbsTask

    (answers, _) = answers_of(run)
    shuffled = {query: dict(sorted(found.items())) for query, found in answers.results.items()}
    model = SimpleNamespace(mteb_model_meta=SimpleNamespace(name="org/model", revision="abc"))
    task = SimpleNamespace(
        metadata=SimpleNamespace(name="OursT2IRetrieval"), prediction_file_name="OursT2IRetrieval_predictions.json"
    )
    task._predictions_path = lambda folder: AbsTask._predictions_path(task, folder)
    AbsTask._save_task_predictions(task, shuffled, model, tmp_path, hf_split="test", hf_subset="default")
    (back,) = read_source(tmp_path / "OursT2IRetrieval_predictions.json")
    assert isinstance(back, Answers)
    assert back.results == answers.results
    assert back.tag == "org/model"


# --- CLIP_benchmark --------------------------------------------------------------------------------------------------


def restated_build(path: Path, output: Path) -> None:
    """What ``clip_benchmark build`` (1.6.2) reads of a file, said again here for where it is not installed: the keys of
    ``metrics`` beside all other keys, and model and pretrained joined by a blank."""
    content = json.loads(path.read_text())
    row = {**content.pop("metrics"), **content, "model_fullname": content["model"] + " " + content["pretrained"]}
    with output.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)


def built(path: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli = pytest.importorskip("clip_benchmark.cli")
    monkeypatch.setattr(sys, "argv", ["clip_benchmark", "build", str(path), "--output", str(output)])
    cli.main()


@pytest.mark.parametrize("builder", ["installed", "restated"])
def test_clip_benchmark_builds_its_table(
    builder: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = export_run(run, "clip-benchmark", tmp_path / "out").paths
    if builder == "installed":
        built(path, tmp_path / "table.csv", monkeypatch)
    else:
        restated_build(path, tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    expected = {
        f"{name}_retrieval_recall@{k}": run.metrics[f"{direction}/hit@{k}"]["value"]
        for direction, name in (("t2i", "image"), ("i2t", "text")) for k in (1, 5, 10)
    }  # fmt: skip
    assert {name: float(row[name]) for name in expected} == expected
    assert (row["dataset"], row["task"], row["model_fullname"].strip()) == (
        "v",
        "zeroshot_retrieval",
        "ready-made vectors",
    )


def test_clip_benchmark_measures_the_same(run: Run) -> None:
    """Its own evaluation, on our vectors with the one right image that it knows of each text."""
    theirs = pytest.importorskip("clip_benchmark.metrics.zeroshot_retrieval")
    torch = pytest.importorskip("torch")
    given = arrays(tied=False)
    found = clip_world(theirs, torch, given)
    given.pop("label")
    np.savez(run.path.parent / "one.npz", **given)
    source = f"embeddings:{run.path.parent / 'one.npz'}"
    ours = evaluate(source, out=run.path.parent, metrics=["hit@1", "hit@5"], n_resamples=100, repairs=[], k=3)
    for name, value in found.items():
        direction = {"image": "t2i", "text": "i2t"}[name.split("_")[0]]
        assert value == pytest.approx(ours.metrics[f"{direction}/hit@{name.split('@')[1]}"]["value"], abs=1e-6), name


def clip_world(theirs: Any, torch: Any, given: dict[str, np.ndarray]) -> dict[str, float]:
    """CLIP_benchmark's metrics of a model that looks its vectors up by number."""
    texts = [[int(t) for t in np.flatnonzero(given["text_image"] == i)] for i in range(N_IMAGES)]
    loader = [
        (torch.tensor([[i] for i in part]), [texts[i] for i in part]) for part in (range(0, 6), range(6, N_IMAGES))
    ]
    model = SimpleNamespace(
        encode_image=lambda images: torch.tensor(given["image"])[images[:, 0]],
        encode_text=lambda numbers: torch.tensor(given["text"])[numbers],
    )
    return theirs.evaluate(model, loader, torch.tensor, "cpu", amp=False, recall_k_list=[1, 5])  # type: ignore[no-any-return]


# --- sentence-transformers -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluator() -> Any:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    return pytest.importorskip("sentence_transformers.sentence_transformer.evaluation").InformationRetrievalEvaluator


@pytest.fixture(params=DIRECTIONS)
def theirs(request: pytest.FixtureRequest, evaluator: Any, run: Run, tmp_path: Path) -> tuple[Run, str, Path]:
    """The folder that their evaluator writes for one direction of our run, on the same vectors."""
    import torch

    given, direction = arrays(tied=False), request.param
    (answers,) = [one for one in answers_of(run) if one.name == direction]
    vectors = {
        side: dict(zip(given[f"{side}_id"].tolist(), torch.tensor(given[side], dtype=torch.float64), strict=True))
        for side in ("image", "text")
    }
    asked, gallery = ("text", "image") if direction == "t2i" else ("image", "text")
    model = SimpleNamespace(
        similarity_fn_name="dot",
        similarity=lambda a, b: a @ b.T,
        encode_query=lambda names, **_: torch.stack([vectors[asked][name] for name in names]),
        encode_document=lambda names, **_: torch.stack([vectors[gallery][name] for name in names]),
        model_card_data=SimpleNamespace(set_evaluation_metrics=lambda *_, **__: None),
    )
    names = {side: {name: name for name in given[f"{side}_id"].tolist()} for side in ("image", "text")}
    right = {query: set(known) for query, known in answers.right.items()}
    ks = [1, 5, 10]
    evaluator(
        names[asked], names[gallery], right, mrr_at_k=ks, ndcg_at_k=ks, accuracy_at_k=ks, precision_recall_at_k=ks,
        map_at_k=ks, name=direction, write_predictions=True,
    )(model, output_path=str(tmp_path / "theirs"))  # fmt: skip
    return run, direction, tmp_path / "theirs"


def test_predictions_that_sentence_transformers_writes_are_read(theirs: tuple[Run, str, Path]) -> None:
    run, direction, folder = theirs
    (path,) = folder.glob("*.jsonl")
    (found,) = read_source(path)
    (answers,) = [one for one in answers_of(run) if one.name == direction]
    assert isinstance(found, Answers)
    assert list(found.results) == list(answers.results)
    for query, expected in answers.results.items():
        assert list(found.results[query]) == list(expected)[:10]
        assert list(found.results[query].values()) == pytest.approx(list(expected.values())[:10], abs=1e-12)


def test_results_of_sentence_transformers_are_ours(theirs: tuple[Run, str, Path], tmp_path: Path) -> None:
    run, direction, folder = theirs
    (path,) = folder.glob("*_results.csv")
    (found,) = read_source(path, direction)
    assert isinstance(found, Numbers)
    assert not found.left_out
    assert found.values == pytest.approx({name: run.metrics[name]["value"] for name in found.values}, abs=1e-9)
    assert {name.partition("/")[2] for name in found.values} == set(METRICS) - {"MRR", "AP@1", "AP@5", "AP@10"}
    ours = export_run(run, "sentence-transformers", tmp_path / "ours")
    (own,) = [one for one in ours.paths if one.name == path.name]
    assert set(own.read_text().splitlines()[0].split(",")) == set(path.read_text().splitlines()[0].split(","))
    assert {one.name for one in folder.iterdir()} <= {one.name for one in ours.paths}


def test_imported_predictions_are_audited(theirs: tuple[Run, str, Path], tmp_path: Path) -> None:
    run, direction, folder = theirs
    (path,) = folder.glob("*.jsonl")
    imported = import_files([path], tmp_path / "in", qrels=run.path)
    size = {"t2i": N_IMAGES, "i2t": N_TEXTS}[direction]
    again = evaluate(
        f"run:{imported.paths[0]}", out=tmp_path, qrels=str(imported.paths[2]), gallery_size=size, n_resamples=100, k=3,
        metrics=["hit@5", "AP@10", "nDCG@10"],
    )  # fmt: skip
    for name, entry in again.metrics.items():
        assert entry["value"] == pytest.approx(run.metrics[f"{direction}/{name.partition('/')[2]}"]["value"], abs=1e-9)
