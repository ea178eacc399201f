"""The whole computation: run folders, determinism, planted defects found, clean worlds quiet, failures kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.worlds import paired_vectors, write_vectors
from workbench.evaluate import audit_schema, evaluate, evaluate_into
from workbench.evaluate.instrument import shuffled_truth
from workbench.evaluate.scores import score
from workbench.failures import EvaluationFailed
from workbench.metrics import parse_metric
from workbench.runs import Run
from workbench.types import Ranks, Relevance

FAST = {"n_resamples": 200}
SAME_BYTES = ("metrics.json", "findings.json", "results.json", "per_query.parquet", "run_t2i.trec", "run_i2t.trec")


class ColourEncoder:
    """A user's own encoder, twelve lines: the mean colour of a picture, the colour words of a text."""

    name = "colours"

    def encode_image(self, images: list[Image.Image]) -> np.ndarray:
        return np.array([np.asarray(image, float).mean((0, 1)) for image in images]) + 1

    def encode_text(self, texts: list[str]) -> np.ndarray:
        words = ("red", "green", "blue")
        return np.array([[255.0 * (word in text) for word in words] for text in texts]) + 1


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_vectors(tmp_path_factory.mktemp("data") / "vectors.npz")


@pytest.fixture(scope="module")
def run(vectors: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return evaluate(vectors, out=tmp_path_factory.mktemp("runs"), keep_embeddings=True, **FAST)


def test_folder_holds_what_is_promised(run: Run) -> None:
    found = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()}
    layers = {"items.parquet", "relevance.parquet", "embeddings.json", "embeddings.safetensors",
              "neighbours_t2i.parquet", "neighbours_i2t.parquet"}  # fmt: skip
    assert found == {*SAME_BYTES, "manifest.json", *(f"layers/{name}" for name in layers)}
    for path in run.path.rglob("*.json"):
        assert json.loads(path.read_text())["schema"] == 1


def test_names_are_legal_on_windows(run: Run) -> None:
    for path in [run.path, *run.path.rglob("*")]:
        assert not set(path.name) & set('<>:"/\\|?*')
        assert path.name == path.name.rstrip(". ")
        assert path.stem.upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT1"}


def test_metrics_equal_a_dense_computation(run: Run) -> None:
    world = paired_vectors()
    scores = world["text"].astype(float) @ world["image"].T.astype(float)
    own = scores[np.arange(len(scores)), world["text_image"]]
    ranks = 1 + (scores > own[:, None]).sum(axis=1)
    assert run.metrics["t2i/hit@1"]["value"] == pytest.approx((ranks == 1).mean(), abs=1e-12)
    assert run.metrics["t2i/MeanR"]["value"] == pytest.approx(ranks.mean(), abs=1e-12)
    assert run.metrics["t2i/MRR"]["value"] == pytest.approx((1 / ranks).mean(), abs=1e-12)
    assert run.metrics["t2i/hit@1"]["n"] == 180
    assert run.metrics["t2i/hit@1"]["clusters"] == 60
    best = np.array([(1 + (scores.T[i] > scores.T[i, 3 * i : 3 * i + 3].max()).sum()) for i in range(60)])
    assert run.metrics["i2t/hit@5"]["value"] == pytest.approx((best <= 5).mean(), abs=1e-12)


def test_per_query_table_gives_the_aggregate(run: Run) -> None:
    table = run.per_query
    mine = np.array([name == "t2i" for name in table["direction"]])
    assert np.asarray(table["nDCG@10"], float)[mine].mean() == pytest.approx(run.metrics["t2i/nDCG@10"]["value"])
    assert np.asarray(table["best_place"], float)[mine].mean() == pytest.approx(run.metrics["t2i/MeanR"]["value"])
    assert mine.sum() == 180
    assert (~mine).sum() == 60


def test_trec_file_is_the_neighbour_list(run: Run) -> None:
    lines = [line.split() for line in (run.path / "run_t2i.trec").read_text().splitlines()]
    lists = run.neighbours("t2i")
    assert [line[2] for line in lines] == lists["item_id"]
    assert [float(line[4]) for line in lines] == lists["score"].tolist()
    assert {len(line) for line in lines} == {6}


def test_same_input_same_bytes(run: Run, vectors: str, tmp_path: Path) -> None:
    again = evaluate(vectors, out=tmp_path, memory_mb=16, **FAST)
    assert again.path.name == run.path.name
    for name in (*SAME_BYTES, "layers/items.parquet", "layers/neighbours_i2t.parquet", "layers/embeddings.json"):
        assert (again.path / name).read_bytes() == (run.path / name).read_bytes(), name
    other = evaluate(vectors, out=tmp_path, seed=1, **FAST)
    assert other.path.name != run.path.name
    assert (other.path / "metrics.json").read_bytes() != (run.path / "metrics.json").read_bytes()


def test_second_run_takes_another_folder(vectors: str, tmp_path: Path) -> None:
    first, second = (evaluate(vectors, out=tmp_path, n_images=12, **FAST) for _ in range(2))
    assert second.path.name == f"{first.path.name}-2"


def test_results_come_back_as_they_were(run: Run) -> None:
    assert run.results["scores t2i"].flat()["t2i/hit@1"] == run.metrics["t2i/hit@1"]["value"]
    assert run.results["hubness t2i"].occurrence.sum() == 10 * 180
    assert run.results["counts"].images == 60


def verdicts(run: Run) -> dict[str, str]:
    return {finding.name: finding.verdict for finding in run.findings}


def test_clean_world_is_quiet(run: Run) -> None:
    found = verdicts(run)
    assert {found[name] for name in ("t2i/hit@1", "i2t/hit@1", "t2i/ties", "instrument", "data/unreadable")} == {"ok"}
    assert found["t2i/hubness"] in ("ok", "look")
    assert found["duplicates/image_exact"] == "ok"


def test_planted_hub_is_found_and_repaired(tmp_path: Path) -> None:
    source = write_vectors(tmp_path / "hub.npz", n_images=120, hub=1.0, noise=1.2)
    found = evaluate(source, out=tmp_path / "runs", **FAST)
    hubness = found.results["hubness t2i"]
    assert hubness.worst(1)[0][0] == 3
    assert verdicts(found)["t2i/hubness"] in ("look", "problem")
    gains = found.results["repairs"].flat()
    assert gains["t2i/hit@1 gain(inverted softmax)"] > 0


def test_wrong_pairing_is_a_problem(tmp_path: Path) -> None:
    world = paired_vectors()
    world["text_image"] = np.random.default_rng(5).permutation(world["text_image"])
    np.savez(tmp_path / "wrong.npz", **world)
    found = evaluate(f"embeddings:{tmp_path / 'wrong.npz'}", out=tmp_path, **FAST)
    headline = next(one for one in found.findings if one.name == "t2i/hit@1")
    assert headline.verdict == "problem"
    assert "Not told from chance" in headline.advice
    assert found.findings[0].verdict == "problem"


def test_constant_vectors_score_exactly_chance(tmp_path: Path) -> None:
    world = paired_vectors(n_images=40)
    world["image"][:] = world["image"][0]
    np.savez(tmp_path / "dead.npz", **world)
    found = evaluate(f"embeddings:{tmp_path / 'dead.npz'}", out=tmp_path, **FAST)
    for name, entry in found.metrics.items():
        if name.startswith("t2i"):
            assert entry["value"] == pytest.approx(entry["chance"], abs=1e-12), name
    assert found.metrics["t2i/hit@1"]["value"] == pytest.approx(1 / 40)
    assert found.metrics["t2i/hit@1"]["best"] == 1
    assert found.metrics["t2i/hit@1"]["worst"] == 0
    assert verdicts(found)["t2i/hubness"] == "not measurable"
    assert verdicts(found)["t2i/ties"] == "problem"


def test_gallery_smaller_than_the_cutoffs(tmp_path: Path) -> None:
    source = write_vectors(tmp_path / "few.npz", n_images=4)
    found = evaluate(source, out=tmp_path, **FAST)
    assert found.metrics["t2i/hit@5"]["value"] is None
    assert found.metrics["t2i/hit@1"]["value"] is not None
    assert "hubness t2i" not in found.results
    assert verdicts(found)["t2i/hubness"] == "not measurable"


def test_lists_are_long_enough_for_the_hubness_asked_for(vectors: str, tmp_path: Path) -> None:
    found = evaluate(vectors, out=tmp_path, n_images=30, k=25, depth=5, **FAST)
    assert found.results["hubness t2i"].occurrence.sum() == 25 * 90


def test_one_image(tmp_path: Path) -> None:
    source = write_vectors(tmp_path / "one.npz", n_images=1)
    found = evaluate(source, out=tmp_path, **FAST)
    assert found.metrics["t2i/hit@1"]["value"] == 1
    assert found.results["repairs"].outcomes == ()
    assert verdicts(found)["gap/separation"] == "not measurable"
    assert "at least 2 clusters" in found.results["repairs"].caption()


def test_own_encoder_object(tmp_path: Path) -> None:
    rows = ["image,caption"]
    for row, (name, colour) in enumerate([("red", (200, 0, 0)), ("green", (0, 180, 0)), ("blue", (0, 0, 220))] * 2):
        Image.new("RGB", (5 + row, 4), colour).save(tmp_path / f"{row}.png")
        rows.append(f"{row}.png,something {name}")
    (tmp_path / "captions.csv").write_text("\n".join(rows))
    found = evaluate(f"folder:{tmp_path}", ColourEncoder(), out=tmp_path / "runs", **FAST)
    assert found.metrics["t2i/hit@1"]["value"] == pytest.approx(0.5)  # two pictures of each colour, tied
    assert found.metrics["t2i/hit@1"]["best"] == 1
    assert found.manifest["encoder"]["name"] == "colours"
    assert "red" in " ".join(card.text for card in found.results["examples data"].cards)


def test_unreadable_image(tmp_path: Path) -> None:
    for row in range(5):
        Image.new("RGB", (4, 4), (40 * row, 0, 90)).save(tmp_path / f"{row}.png")
    (tmp_path / "2.png").write_bytes(b"no picture")
    (tmp_path / "captions.csv").write_text("image,caption\n" + "\n".join(f"{row}.png,c{row} blue" for row in range(5)))
    with pytest.raises(ValueError, match=r"2\.png"):
        evaluate(f"folder:{tmp_path}", ColourEncoder(), out=tmp_path / "runs", **FAST)
    found = evaluate(f"folder:{tmp_path}", ColourEncoder(), out=tmp_path / "runs", bad_images="record", **FAST)
    finding = next(one for one in found.findings if one.name == "data/unreadable")
    assert finding.verdict == "look"
    assert "2.png" in finding.advice
    assert found.results["counts"].images == 4


def test_paths_and_names_stay_at_home(vectors: str, tmp_path: Path) -> None:
    import getpass
    import socket

    found = evaluate(vectors, out=tmp_path, n_images=15, **FAST)
    text = "".join(path.read_text(errors="replace") for path in found.path.rglob("*.json"))
    assert str(Path(vectors.partition(":")[2]).parent) not in text
    assert f"embeddings:.../{Path(vectors).name}" in text
    assert socket.gethostname() not in text
    if len(getpass.getuser()) > 4:
        assert getpass.getuser() not in text


def test_failure_keeps_what_there_was(vectors: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the sky fell")

    monkeypatch.setattr("workbench.evaluate.analysis.modality_gap", broken)
    with pytest.raises(EvaluationFailed, match="stopped while diagnosing: RuntimeError: the sky fell") as caught:
        evaluate_into(tmp_path, audit_schema().defaults | {"dataset": vectors} | FAST)
    assert caught.value.folder.name.endswith(".failed")
    assert json.loads((caught.value.folder / "failure.json").read_text())["stage"] == "diagnosing"
    assert not list(tmp_path.glob("*.partial"))


def test_encoder_and_vectors_contradict(vectors: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="brings its own vectors, so encoder must stay empty"):
        evaluate(vectors, "tiny-clip", out=tmp_path)
    with pytest.raises(ValueError, match="unknown parameter 'sed'; did you mean 'seed'"):
        evaluate(vectors, out=tmp_path, sed=3)
    with pytest.raises(ValueError, match="an encoder needs name, encode_image"):
        evaluate("scenes", object(), out=tmp_path, n_images=10)
    assert not list(tmp_path.iterdir())


def test_vectors_need_no_torch(vectors: str, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'torchvision', 'open_clip'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
        "from workbench.evaluate import evaluate\n"
        f"run = evaluate({vectors!r}, out={str(tmp_path)!r}, n_resamples=200, n_images=20)\n"
        "print(run.metrics['t2i/hit@1']['n'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "60"


def test_real_clip_vectors(shared: Any, tmp_path: Path) -> None:
    found = evaluate(f"embeddings:{shared('data/clip_flickr8k_100x5/embeddings.npz')}", out=tmp_path, **FAST)
    assert round(found.metrics["t2i/hit@1"]["value"], 3) == 0.832
    assert round(found.metrics["t2i/hit@10"]["value"], 3) == 0.998


def test_random_networks_read_as_chance(shared: Any, tmp_path: Path) -> None:
    with np.load(shared("data/pairs_modality_gap/clip_random_init.npz"), allow_pickle=False) as file:
        sides = [np.asarray(file[name], np.float32) for name in sorted(file.files)[:2]]
    np.savez(tmp_path / "random.npz", image=sides[0][:300], text=sides[1][:300])
    found = evaluate(f"embeddings:{tmp_path / 'random.npz'}", out=tmp_path, **FAST)
    assert verdicts(found)["t2i/hit@1"] == "problem"


def test_shuffled_truth_keeps_only_how_many() -> None:
    relevance = Relevance.from_pairs([0, 0, 1, 3, 3], [4, 1, 1, 0, 2], [1, 2, 1, 1, 0], n_queries=4, n_gallery=5)
    shuffled = shuffled_truth(relevance, seed=3)
    assert shuffled.positives_per_query.tolist() == relevance.positives_per_query.tolist()
    drawn = np.bincount(np.concatenate([shuffled_truth(relevance, seed=seed).row(1)[0] for seed in range(500)]))
    assert drawn.min() > 60  # every item is drawn about 100 times


def test_shared_positives_do_not_trip_the_instrument(tmp_path: Path) -> None:
    """Six classes of 40: all queries of a class have the same positives, so one renaming would move them together."""
    world = paired_vectors(n_images=240, captions=2)
    world["label"] = np.array([f"class {row % 6}" for row in range(240)])
    np.savez(tmp_path / "classes.npz", **world)
    found = [evaluate(f"embeddings:{tmp_path / 'classes.npz'}", out=tmp_path, seed=seed, **FAST) for seed in range(3)]
    assert [verdicts(run)["instrument"] for run in found] == ["ok"] * 3


def test_score_counts_queries_without_positives() -> None:
    ranks = Ranks([0, 1, 1, 2], [0, 1], [1, 1], [0, 2], [0, 0], [4, 4, 4], 4)  # type: ignore[arg-type]
    scores, _ = score("t2i", ranks, np.arange(3), ["hit@1", "hit@9"], seed=0, n_resamples=100)
    assert scores.value[0] == 0.5
    assert scores.n[0] == 2
    assert np.isnan(scores.value[1])
    assert any("hit@9: not measurable, the gallery has only 4 items" in note for note in scores.notes)
    assert str(parse_metric("hit@1")) == scores.metrics[0]


def test_bank_from_another_split(tmp_path: Path) -> None:
    found = evaluate("scenes", out=tmp_path, n_images=30, bank="val", scenes_languages=["en"], **FAST)
    outcomes = found.results["repairs"].outcomes
    assert {one.provenance for one in outcomes} == {"inductive (val)"}
    assert {one.n_bank for one in outcomes} == {149, 30}
    assert "t2i: 1 bank queries that are also scored were left out" in found.results["repairs"].caption()
    assert outcomes[0].before == found.metrics["t2i/hit@1"]["value"]  # the whole gallery, as in the headline
    assert "disjoint from what is scored" in found.manifest["protocol"]["repairs"]


def test_bank_that_holds_the_scored_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"30 images of the bank split 'test' are also in the scored split"):
        evaluate("scenes", out=tmp_path, n_images=30, bank="test", **FAST)


def test_halves_do_not_depend_on_the_order_of_items(vectors: str, run: Run, tmp_path: Path) -> None:
    with np.load(vectors.partition(":")[2]) as file:
        world = {name: file[name] for name in file.files}
    order = np.random.default_rng(1).permutation(60)
    width = len(str(59))
    shuffled = {
        "image": world["image"][order], "image_id": np.array([f"image-{i:0{width}d}" for i in order]),
        "text": world["text"], "text_image": np.argsort(order)[world["text_image"]], "caption": world["caption"],
    }  # fmt: skip
    np.savez(tmp_path / "vectors.npz", **shuffled)
    again = evaluate(f"embeddings:{tmp_path / 'vectors.npz'}", out=tmp_path, **FAST)
    assert again.metrics["t2i/hit@1"]["value"] == run.metrics["t2i/hit@1"]["value"]
    assert again.metrics["t2i/MeanR"]["value"] == pytest.approx(run.metrics["t2i/MeanR"]["value"], abs=1e-12)


def test_instrument_rarely_cries_wolf_and_sees_a_broken_meter() -> None:
    from workbench.evaluate.instrument import LEVEL, Check, Instrument, shuffled_check

    alarms = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        places = rng.integers(0, 1000, size=1000)
        rows = np.arange(1001)
        ranks = Ranks(rows, np.zeros(1000), np.ones(1000), places, np.zeros(1000), np.full(1000, 1000), 1000)  # type: ignore[arg-type]
        scores, _ = score("t2i", ranks, np.arange(1000), ["hit@10"], seed=seed, n_resamples=1000, level=LEVEL)
        alarms += not shuffled_check(scores).passed
    assert alarms <= 1
    (finding,) = Instrument((Check("t2i/hit@10 with shuffled truth = chance", 0.01, 0.3, 0.28, 0.32),)).findings()
    assert finding.verdict == "problem"
    assert "shuffled truth" in finding.advice


def test_order_of_metrics_changes_no_verdict(vectors: str, run: Run, tmp_path: Path) -> None:
    found = evaluate(vectors, out=tmp_path, metrics=["MedR", "MeanR", "hit@1", "hit@5"], **FAST)
    assert verdicts(found)["t2i/hit@1"] == "ok"
    assert not any(name.endswith(("MedR", "MeanR")) for name in verdicts(found))
    assert found.results["repairs"].outcomes[0].metric == "hit@1"


class RestlessText(ColourEncoder):
    """An encoder whose text vectors depend on their place in the batch."""

    name = "restless"

    def encode_text(self, texts: list[str]) -> np.ndarray:
        return super().encode_text(texts) + 40.0 * np.arange(len(texts))[:, None] * [1, 0, 0]


def test_batch_probe_looks_at_both_sides(tmp_path: Path) -> None:
    for row in range(4):
        Image.new("RGB", (4, 4), (40 * row, 9, 90)).save(tmp_path / f"{row}.png")
    (tmp_path / "captions.csv").write_text("image,caption\n" + "\n".join(f"{row}.png,c{row} blue" for row in range(4)))
    found = evaluate(f"folder:{tmp_path}", RestlessText(), out=tmp_path / "runs", **FAST)
    assert verdicts(found)["encoder/batch invariance"] == "look"
