"""Certificates of real runs: one change at a time, its cause named, its first layer as the files themselves say."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from workbench import encoders
from workbench.diagnostics.reproducibility import Certificate
from workbench.evaluate import evaluate
from workbench.evaluate.writing import _write_embeddings
from workbench.runs import Run, certify, read_parquet, write_parquet
from workbench.types import Embeddings

N_IMAGES, PER_IMAGE = 10, 3
FAST: dict[str, Any] = {"n_resamples": 100, "repairs": [], "keep_embeddings": True, "batch_size": 8}
COLOURS = ("red", "green", "blue", "yellow", "black")
LONG = "a photo with a large {0} circle on the left and a small {1} square on the right"


# ------------------------------------------------------------------------------------------------------ the data


def write_data(folder: Path) -> Path:
    """Ten pictures of 96 x 80 pixels and three captions of each."""
    folder.mkdir(parents=True)
    rows = []
    for number in range(N_IMAGES):
        one, two = COLOURS[number % 5], COLOURS[(number * 2 + 1 + number // 5) % 5]
        image = Image.new("RGB", (96, 80), "white")
        draw = ImageDraw.Draw(image)
        draw.ellipse((5 + number, 8, 45 + number, 48), fill=one)
        draw.rectangle((60, 45 - number, 85, 70 - number), fill=two)
        image.save(folder / f"p{number:02d}.png")
        texts = (f"a {one} circle and a {two} square", LONG.format(one, two), f"{one} circle, {two} square, {number}")
        rows += [(f"p{number:02d}.png", text, f"c{number:02d}-{k}") for k, text in enumerate(texts)]
    write_captions(folder, rows)
    return folder


def write_captions(folder: Path, rows: list[tuple[str, str, str]]) -> None:
    with (folder / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "caption", "caption_id"))
        writer.writerows(rows)


def read_captions(folder: Path) -> list[tuple[str, str, str]]:
    with (folder / "captions.csv").open(encoding="utf-8") as file:
        return [(row["image"], row["caption"], row["caption_id"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "shapes")


@pytest.fixture(scope="module")
def base(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_of(data, tmp_path_factory.mktemp("base"))


@pytest.fixture
def changed_data(data: Path, tmp_path: Path) -> Path:
    """A copy of the data that a test may change; the folder has the same name."""
    return Path(shutil.copytree(data, tmp_path / "data" / data.name))


def run_of(folder: Path, out: Path, encoder: Any = "", **parameters: Any) -> Run:
    return evaluate(f"folder:{folder}", encoder, out=out, **{**FAST, **parameters})


# ----------------------------------------------------------------------------- what the files say, without the package


def table(run: Run, name: str) -> pd.DataFrame:
    return pd.read_parquet(run.path / name)


def vectors(run: Run) -> pd.DataFrame:
    from safetensors.numpy import load_file

    items = table(run, "layers/items.parquet")
    kept = load_file(run.path / "layers" / "embeddings.safetensors")
    stacked = np.concatenate([kept[name] for name in dict.fromkeys(items["modality"])])
    return pd.DataFrame(stacked, index=pd.MultiIndex.from_frame(items[["modality", "id"]]))


def lists(run: Run) -> pd.DataFrame:
    parts = [
        table(run, path.relative_to(run.path).as_posix()).assign(direction=path.stem)
        for path in sorted((run.path / "layers").glob("neighbours_*"))
    ]
    return pd.concat(parts).astype({"query_id": str, "item_id": str})


def truly_moved(first: Run, second: Run) -> list[str]:
    """The layers whose stored files differ, common ids only; ids keep their meaning in all cases of this file."""
    moved = []
    items = [table(run, "layers/items.parquet") for run in (first, second)]
    told = [list(one[["modality", "id", "content_sha256"]].itertuples(index=False, name=None)) for one in items]
    if told[0] != told[1]:
        moved.append("items")
    truth = [
        table(run, "layers/relevance.parquet").astype({"query_id": str, "item_id": str}) for run in (first, second)
    ]
    if {*truth[0].itertuples(index=False, name=None)} != {*truth[1].itertuples(index=False, name=None)}:
        moved.append("truth")
    inputs = [one.set_index(["modality", "id"])["input_sha256"].sort_index() for one in items]
    if not inputs[0].equals(inputs[1]):
        moved.append("inputs")
    arrays = [vectors(run).sort_index() for run in (first, second)]
    if not arrays[0].equals(arrays[1]):
        moved.append("embeddings")
    kept = [lists(run) for run in (first, second)]
    joined = kept[0].merge(kept[1], on=["direction", "query_id", "item_id"])
    if (joined["score_x"] != joined["score_y"]).any():
        moved.append("scores")
    orders = [one.sort_values(["direction", "query_id", "rank"])[["direction", "query_id", "item_id"]] for one in kept]
    if orders[0].to_numpy().tolist() != orders[1].to_numpy().tolist():
        moved.append("ranks")
    queries = [
        table(run, "per_query.parquet").set_index(["direction", "query_id"]).sort_index() for run in (first, second)
    ]
    metrics = [name for name in queries[0] if "@" in name or name in ("MRR", "MedR", "MeanR")]
    if not queries[0][metrics].equals(queries[1][metrics]):
        moved.append("per-query")
    aggregates = [json.loads((run.path / "metrics.json").read_text()) for run in (first, second)]
    if aggregates[0] != aggregates[1]:
        moved.append("aggregate")
    return moved


def assert_as_the_files_say(found: Certificate, first: Run, second: Run) -> list[str]:
    """The certificate's layers equal those of :func:`truly_moved`, which come back."""
    moved = truly_moved(first, second)
    assert [layer.layer for layer in found.layers if layer.status == "differs"] == moved
    assert found.first_observed == (moved[0] if moved else "")
    assert found.dies_out_after == (moved[-1] if moved else "")
    assert {layer.status for layer in found.layers if layer.layer not in moved} <= {"same"}
    return moved


def declared(found: Certificate) -> set[str]:
    """Names of the declared facts; somebody may commit to this checkout between two runs."""
    return {one.name for one in found.declared} - {"git_revision"}


# ----------------------------------------------------------------------------------------------- encoders, changed


class Changed:
    """tiny-clip with one thing changed; everything else is passed through."""

    name = "tiny-clip"

    def __init__(self) -> None:
        self._inner: Any = encoders.load("tiny-clip")

    def prepare(self, modality: str, items: Any) -> np.ndarray:
        return np.asarray(self._inner.prepare(modality, items))

    def forward(self, modality: str, array: np.ndarray) -> np.ndarray:
        return np.asarray(self._inner.forward(modality, array))

    def encode_image(self, images: Any) -> np.ndarray:
        return self.forward("image", self.prepare("image", images))

    def encode_text(self, texts: Any) -> np.ndarray:
        return self.forward("text", self.prepare("text", texts))

    def describe(self) -> dict[str, Any]:
        return dict(self._inner.describe())


class Filter(Changed):
    """Pictures are resized by another filter before the model's own preprocessing, which then leaves the size."""

    def prepare(self, modality: str, items: Any) -> np.ndarray:
        if modality == "image":
            items = [image.resize((64, 64), Image.Resampling.BOX) for image in items]
        return super().prepare(modality, items)

    def describe(self) -> dict[str, Any]:
        facts = super().describe()
        return {**facts, "preprocess": {**facts["preprocess"], "interpolation": "box"}}


class Short(Changed):
    """Texts are cut after eight tokens; the end token stays the largest id, as the model needs it."""

    def prepare(self, modality: str, items: Any) -> np.ndarray:
        array = super().prepare(modality, items)
        if modality == "text":
            longer = array[:, 8:].any(axis=1)
            array[longer, 7] = array.max(axis=1)[longer]
            array[:, 8:] = 0
        return array

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "context_length": 8}


class Trained(Changed):
    """Another checkpoint: one weight of each tower moved a little."""

    def __init__(self, size: float = 1e-3) -> None:
        super().__init__()
        import torch

        self._size = size
        with torch.no_grad():
            self._inner._model.visual.conv1.weight.view(-1)[0] += size
            self._inner._model.text_projection.view(-1)[0] += size

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "weights_sha256": f"perturbed by {self._size}"}


# ------------------------------------------------------------------------------------------------ the single changes


def test_null_case_is_identical_and_lists_what_legitimately_differs(
    base: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    again = run_of(data, tmp_path)
    found = certify(base, again)
    assert assert_as_the_files_say(found, base, again) == []
    assert found.identical
    assert declared(found) == set()
    assert {layer.status for layer in found.layers} == {"same"}
    assert found.files == ()
    legitimate = {one.name for one in found.legitimate}
    assert {"seconds.loading and encoding", "peak_memory_bytes"} & legitimate
    assert "Identical in all 8 layers" in found.verdict


@pytest.mark.parametrize("precision", ["bf16", pytest.param("fp16", marks=pytest.mark.slow)])
def test_precision(base: Run, data: Path, tmp_path: Path, precision: str) -> None:
    other = run_of(data, tmp_path, precision=precision)
    found = certify(base, other)
    moved = assert_as_the_files_say(found, base, other)
    assert moved[:2] == ["embeddings", "scores"]
    assert found.causes[0] == "precision"
    assert {"parameters.precision", "encoder.precision"} == declared(found)
    pair = [vectors(run).to_numpy(float) for run in (base, other)]
    cosines = np.clip(
        (pair[0] * pair[1]).sum(1) / np.prod([np.linalg.norm(one, axis=1) for one in pair], axis=0), -1, 1
    )
    expected = np.degrees(np.arccos(cosines))
    layer = found.layer("embeddings")
    assert layer.largest == pytest.approx(expected.max(), rel=1e-4)
    assert layer.mean == pytest.approx(expected.mean(), rel=1e-4)
    assert layer.n_compared == len(expected) == N_IMAGES * (PER_IMAGE + 1)


def test_precision_without_kept_vectors_counts_but_cannot_measure(data: Path, tmp_path: Path) -> None:
    runs = [run_of(data, tmp_path, precision=one, keep_embeddings=False) for one in ("fp32", "bf16")]
    layer = certify(*runs).layer("embeddings")
    assert (layer.status, layer.n_changed, layer.n_compared) == ("differs", 40, 40)
    assert np.isnan(layer.largest)
    assert "keep_embeddings=true" in layer.text


def test_batch_size(base: Run, data: Path, tmp_path: Path) -> None:
    """Whether the last bits depend on the batch is up to the machine: the files decide, the cause is named if so."""
    other = run_of(data, tmp_path, batch_size=7)
    found = certify(base, other)
    moved = assert_as_the_files_say(found, base, other)
    assert declared(found) == {"parameters.batch_size"}
    assert moved == [] or moved[0] == "embeddings"
    assert "batch size" in (found.causes if moved else found.verdict)


def test_threads(base: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.threads import thread_count

    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WORKBENCH_THREADS", str(thread_count() + 1))
    other = run_of(data, tmp_path)
    found = certify(base, other)
    moved = assert_as_the_files_say(found, base, other)
    assert declared(found) == {"hardware.threads"}
    assert moved == [] or moved[0] == "embeddings"
    assert "threads" in (found.causes if moved else found.verdict)
    assert found.identical == (not moved)


@pytest.mark.parametrize(
    ("encoder", "cause", "fact", "layer"),
    [
        (Filter, "resize filter", "encoder.preprocess.interpolation", "inputs"),
        (Short, "context length", "encoder.context_length", "inputs"),
        (Trained, "checkpoint", "encoder.weights_sha256", "embeddings"),
    ],
)
def test_encoder_with_one_thing_changed(
    base: Run, data: Path, tmp_path: Path, encoder: Callable[[], Any], cause: str, fact: str, layer: str
) -> None:
    other = run_of(data, tmp_path, encoder())
    found = certify(base, other)
    assert assert_as_the_files_say(found, base, other)[0] == layer
    assert declared(found) == {fact}
    assert found.causes[0] == cause
    assert cause in found.verdict


def test_truncation_touches_the_long_texts_only(base: Run, data: Path, tmp_path: Path) -> None:
    layer = certify(base, run_of(data, tmp_path, Short())).layer("inputs")
    assert layer.n_compared == N_IMAGES * (PER_IMAGE + 1)
    assert N_IMAGES <= layer.n_changed < N_IMAGES * PER_IMAGE + 1
    assert "image" not in layer.text


def test_text_template(base: Run, data: Path, tmp_path: Path) -> None:
    other = run_of(data, tmp_path, text_template="a drawing of {}")
    found = certify(base, other)
    assert assert_as_the_files_say(found, base, other)[0] == "inputs"
    assert found.causes[0] == "text template"
    assert found.layer("inputs").n_changed == N_IMAGES * PER_IMAGE


def test_one_caption(base: Run, changed_data: Path, tmp_path: Path) -> None:
    rows = read_captions(changed_data)
    rows[4] = (rows[4][0], "two blue squares", rows[4][2])
    write_captions(changed_data, rows)
    other = run_of(changed_data, tmp_path)
    found = certify(base, other)
    assert assert_as_the_files_say(found, base, other)[:4] == ["items", "inputs", "embeddings", "scores"]
    assert "data" in found.causes
    assert [found.layer(name).n_changed for name in ("items", "inputs", "embeddings")] == [1, 1, 1]
    assert rows[4][2] in found.layer("items").text
    assert "edited" in found.layer("items").text


def test_one_byte_that_keeps_the_pixels(base: Run, changed_data: Path, tmp_path: Path) -> None:
    path, info = changed_data / "p03.png", PngInfo()
    info.add_text("Comment", "x")
    Image.open(path).save(path, pnginfo=info)
    other = run_of(changed_data, tmp_path)
    found = certify(base, other)
    assert assert_as_the_files_say(found, base, other) == ["items"]
    assert "data" in found.causes
    assert found.dies_out_after == "items"
    assert "p03.png" in found.verdict
    assert "dies out after items" in found.verdict


def test_one_pixel(base: Run, changed_data: Path, tmp_path: Path) -> None:
    path = changed_data / "p03.png"
    image = Image.open(path)
    image.putpixel((48, 40), (255, 0, 255))
    image.save(path)
    other = run_of(changed_data, tmp_path)
    found = certify(base, other)
    assert assert_as_the_files_say(found, base, other)[:3] == ["items", "inputs", "embeddings"]
    assert "data" in found.causes
    assert found.layer("embeddings").n_changed == 1
    assert "p03.png" in found.layer("embeddings").text


def test_item_order(base: Run, changed_data: Path, tmp_path: Path) -> None:
    write_captions(changed_data, read_captions(changed_data)[::-1])
    other = run_of(changed_data, tmp_path)
    found = certify(base, other)
    assert assert_as_the_files_say(found, base, other)[0] == "items"
    assert "data" in found.causes
    assert "another place in the order" in found.layer("items").text
    assert found.layer("truth").status == "same"


def test_one_relevance_line(data: Path, tmp_path: Path) -> None:
    lines = [f"{caption} 0 {image} 1\n" for image, _, caption in read_captions(data)]
    runs = []
    for name, kept in (("all.qrels", lines), ("fewer.qrels", lines[:5] + lines[6:])):
        (tmp_path / name).write_text("".join(kept))
        runs.append(run_of(data, tmp_path / "runs", qrels=str(tmp_path / name)))
    found = certify(*runs)
    moved = assert_as_the_files_say(found, *runs)
    assert moved[0] == "truth"
    assert not {"items", "inputs", "embeddings", "scores", "ranks"} & set(moved)
    assert {"parameters.qrels"} <= declared(found)
    assert set(found.causes) == {"judgements", "data"}
    assert found.layer("truth").n_changed == 1
    assert lines[5].split()[0] in found.layer("truth").text


def test_resamples_and_seed_touch_the_intervals_only(base: Run, data: Path, tmp_path: Path) -> None:
    for name, value, cause in (("n_resamples", 120, "resamples"), ("seed", 3, "seed")):
        other = run_of(data, tmp_path, **{name: value})
        found = certify(base, other)
        assert assert_as_the_files_say(found, base, other) == ["aggregate"], name
        assert found.causes[0] == cause
        assert found.layer("aggregate").largest == 0
        assert "another interval" in found.layer("aggregate").text


def test_a_declared_difference_that_moves_nothing(base: Run, data: Path, tmp_path: Path) -> None:
    other = run_of(data, tmp_path, memory_mb=64)
    found = certify(base, other)
    assert assert_as_the_files_say(found, base, other) == []
    assert found.identical
    assert found.causes == ()
    assert "declared, nothing moved: report settings" in found.verdict


def test_observed_without_declaration(base: Run, data: Path, tmp_path: Path) -> None:
    """A checkpoint that lies about its weights."""
    liar = Trained(2e-3)
    liar.describe = liar._inner.describe  # type: ignore[method-assign]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
        other = run_of(data, tmp_path, liar)
    found = certify(base, other)
    assert assert_as_the_files_say(found, base, other)[0] == "embeddings"
    assert found.causes == ()
    assert "Nothing declared explains it" in found.verdict


# ----------------------------------------------------------------------- ready-made vectors and ranked lists: no torch


def world(n_images: int = 12, n_texts: int = 30, dim: int = 8) -> dict[str, Any]:
    rng = np.random.default_rng(4)
    image = rng.normal(size=(n_images, dim)).astype(np.float32)
    own = np.arange(n_texts) % n_images
    text = (image[own] + 0.8 * rng.normal(size=(n_texts, dim))).astype(np.float32)
    ids = {"image_id": [f"i{k:02d}" for k in range(n_images)], "text_id": [f"t{k:02d}" for k in range(n_texts)]}
    return {"image": image, "text": text, "text_image": own, **{name: np.array(value) for name, value in ids.items()}}


def run_vectors(folder: Path, arrays: dict[str, Any], **parameters: Any) -> Run:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "vectors.npz", **arrays)
    return evaluate(f"embeddings:{folder / 'vectors.npz'}", out=folder / "runs", **{**FAST, **parameters})


def test_one_vector_of_ready_made_ones(tmp_path: Path) -> None:
    arrays = world()
    first = run_vectors(tmp_path / "a", arrays)
    turned = arrays["image"].copy()
    turned[3, :2] = turned[3, 1], -turned[3, 0]
    second = run_vectors(tmp_path / "b", {**arrays, "image": turned})
    found = certify(first, second)
    assert found.layer("items").status == "same"
    assert found.layer("inputs").status == "not comparable"
    assert found.first_observed == "embeddings"
    assert found.causes == ("data",)
    layer, one, two = found.layer("embeddings"), arrays["image"][3].astype(float), turned[3].astype(float)
    assert (layer.n_compared, layer.n_changed) == (42, 1)
    assert layer.largest == pytest.approx(np.degrees(np.arccos(one @ two / (one @ one))), rel=1e-6)
    assert layer.mean == pytest.approx(layer.largest / 42)
    assert "i03" in layer.text


def test_renamed_images_are_found_again_by_their_vectors(tmp_path: Path) -> None:
    arrays = world()
    names = np.array([f"z{99 - k}" for k in range(12)])
    found = certify(run_vectors(tmp_path / "a", arrays), run_vectors(tmp_path / "b", {**arrays, "image_id": names}))
    assert found.first_observed == found.dies_out_after == "items"
    assert found.layer("items").n_changed == 12
    assert "12 images renamed ('i00 -> z99'" in found.layer("items").text
    assert found.layer("truth").n_compared == 30


def test_tie_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pairs of images with one vector each; a search that orders equal scores by descending id."""
    from workbench.evaluate import writing
    from workbench.search import nearest

    arrays = world()
    arrays["image"][7], arrays["image"][9] = arrays["image"][2], arrays["image"][4]
    first = run_vectors(tmp_path / "a", arrays)
    ascending = nearest.id_order
    monkeypatch.setattr(nearest, "id_order", lambda ids, n: n - 1 - ascending(ids, n))
    monkeypatch.setattr(writing, "TIE_RULE", "lists order equal scores by descending item id")
    second = run_vectors(tmp_path / "b", arrays)
    found = certify(first, second)
    assert assert_below_items(first, second) == ["ranks"]
    assert declared(found) == {"protocol.ties"}
    assert found.causes == ("tie order",)
    assert found.first_observed == found.dies_out_after == "ranks"
    assert found.layer("ranks").mean == 0  # the same items in another order


def assert_below_items(first: Run, second: Run) -> list[str]:
    found = certify(first, second)
    moved = [name for name in truly_moved(first, second) if name != "items"]
    assert [layer.layer for layer in found.layers[1:] if layer.status == "differs"] == moved
    return moved


def test_tied_items_renamed_move_ranks_but_no_score(tmp_path: Path) -> None:
    """The two images of one vector exchange their places in the alphabet: only the tie rule can tell them apart."""
    arrays = world()
    arrays["image"] = np.concatenate([arrays["image"], arrays["image"][2:3]])
    ids = [f"i{k:02d}" for k in range(13)]
    runs = [
        run_vectors(tmp_path / str(k), {**arrays, "image_id": np.array(names)})
        for k, names in enumerate((ids, ["j" if name == "i02" else name for name in ids]))
    ]
    found = certify(*runs)
    assert found.first_observed == "items"
    assert "1 image renamed ('i02 -> j')" in found.layer("items").text
    assert found.layer("scores").status == "same"
    assert found.layer("ranks").status == "differs"
    assert found.layer("per-query").status == "same"


def test_gallery_grew(tmp_path: Path) -> None:
    arrays = world()
    rng = np.random.default_rng(9)
    more = {
        **arrays,
        "image": np.concatenate([arrays["image"], rng.normal(size=(5, 8)).astype(np.float32)]),
        "image_id": np.concatenate([arrays["image_id"], [f"new{k}" for k in range(5)]]),
    }
    found = certify(run_vectors(tmp_path / "a", arrays), run_vectors(tmp_path / "b", more))
    assert found.first_observed == "items"
    assert "5 images added ('new0', 'new1', 'new2' and 2 more)" in found.layer("items").text
    assert [found.layer(name).status for name in ("truth", "embeddings", "scores")] == ["same"] * 3
    assert found.layer("embeddings").n_compared == 42
    assert found.layer("ranks").status == "differs"


def test_nothing_in_common(tmp_path: Path) -> None:
    arrays, other = world(), world()
    other.update(image_id=np.array([f"x{k}" for k in range(12)]), text_id=np.array([f"y{k}" for k in range(30)]))
    other["image"], other["text"] = other["image"] + 1, other["text"] + 1
    found = certify(run_vectors(tmp_path / "a", arrays), run_vectors(tmp_path / "b", other))
    assert found.first_observed == "items"
    assert {layer.status for layer in found.layers[1:]} == {"not comparable"}
    assert "no image and no text in common" in found.layer("aggregate").text
    assert "cannot all be compared" in found.verdict
    assert not found.identical


def test_one_item_and_no_truth(tmp_path: Path) -> None:
    """One image, two texts, nothing right: every metric is NaN, and NaN equals NaN."""
    arrays = {
        "image": np.ones((1, 3), np.float32),
        "text": np.eye(3, dtype=np.float32)[:2] + 0.5,
        "text_image": np.array([-1, -1]),
    }
    parameters = {"k": 1, "depth": 1, "metrics": ["hit@1", "MRR"]}
    runs = [run_vectors(tmp_path / one, arrays, **parameters) for one in "ab"]
    assert runs[0].metrics["t2i/hit@1"]["value"] is None
    found = certify(*runs)
    assert found.identical
    assert found.layer("per-query").n_compared == 3
    assert found.layer("truth").n_compared == 0


def run_lists(folder: Path, lines: list[str], **parameters: Any) -> Run:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lists.trec").write_text("".join(lines))
    (folder / "truth.qrels").write_text("q1 0 d1 1\nq2 0 d3 1\nq3 0 d9 1\n")
    wanted = {**FAST, "keep_embeddings": False, "short_lists": "as is", "metrics": ["hit@1", "MRR"], **parameters}
    qrels = str(folder / "truth.qrels")
    return evaluate(f"run:{folder / 'lists.trec'}", out=folder / "runs", qrels=qrels, **wanted)


LINES = ["q1 Q0 d1 1 3.0 s\n", "q1 Q0 d2 2 2.0 s\n", "q2 Q0 d2 1 3.0 s\n", "q2 Q0 d3 2 1.0 s\n", "q3 Q0 d1 1 1.0 s\n"]


def test_ranked_lists_only(tmp_path: Path) -> None:
    first, again = (run_lists(tmp_path / one, LINES) for one in "ab")
    found = certify(first, again)
    assert found.identical
    assert [layer.status for layer in found.layers] == ["same", "same", *["not comparable"] * 2, *["same"] * 4]
    assert "ranked lists only" in found.layer("embeddings").text
    lowered = run_lists(tmp_path / "c", [*LINES[:3], "q2 Q0 d3 2 0.5 s\n", LINES[4]])
    found = certify(first, lowered)
    assert (found.first_observed, found.dies_out_after, found.causes) == ("scores", "scores", ("data",))
    assert (found.layer("scores").n_compared, found.layer("scores").n_changed, found.layer("scores").largest) == (
        5,
        1,
        0.5,
    )
    shorter = run_lists(tmp_path / "d", [*LINES[:3], LINES[4]])
    found = certify(first, shorter)
    assert (found.first_observed, found.dies_out_after) == ("ranks", "aggregate")
    assert found.layer("ranks").largest == 0.5
    assert found.layer("ranks").mean == pytest.approx(0.5 / 3)


def test_lists_against_vectors_is_said(tmp_path: Path) -> None:
    found = certify(run_vectors(tmp_path / "a", world()), run_lists(tmp_path / "b", LINES))
    assert found.notes == ("Two kinds of run: vectors and lists.",)
    assert found.layer("scores").status == "not comparable"


def test_withheld_contents_are_not_compared(tmp_path: Path) -> None:
    arrays = {**world(), "caption": np.array([f"text number {k}" for k in range(30)])}
    parameters: dict[str, Any] = {"share": "no-content", "keep_embeddings": False}
    first = run_vectors(tmp_path / "a", arrays, **parameters)
    columns = table(first, "layers/items.parquet")
    assert set(columns["vector_digest"]) == {""}
    arrays["caption"][5] = "something else"
    found = certify(first, run_vectors(tmp_path / "b", arrays, **parameters))
    assert found.layer("items").status == "same"
    assert "withheld" in found.layer("items").text


def test_damaged_and_mixed_folders_are_refused(tmp_path: Path) -> None:
    first = run_vectors(tmp_path / "a", world())
    smaller = run_vectors(tmp_path / "b", world(n_images=9))
    name = "layers/embeddings.safetensors"
    shutil.copy(smaller.path / name, first.path / name)
    with pytest.raises(ValueError, match=r"of shape \(9, 8\); expected one row per item"):
        certify(first, smaller)
    (first.path / name).write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="is damaged"):
        certify(first.path, smaller.path)
    (first.path / name).unlink()
    assert certify(first.path, smaller.path).layer("embeddings").n_compared > 0
    with pytest.raises(FileNotFoundError, match="no run folder"):
        certify(tmp_path, smaller.path)


def change_columns(run: Run, name: str, edit: Callable[[dict[str, list[Any]]], Any]) -> None:
    columns = {key: list(values) for key, values in read_parquet(run.path / name).items()}
    edit(columns)
    write_parquet(run.path / name, columns)


LISTS = "layers/neighbours_t2i.parquet"


@pytest.mark.parametrize(
    ("name", "edit", "said"),
    [
        (LISTS, lambda of: of["rank"].__setitem__(slice(0, 2), [2, 1]), "out of order"),
        (LISTS, lambda of: of["item_id"].__setitem__(1, of["item_id"][0]), "an item twice"),
        (LISTS, lambda of: of["score"].__setitem__(3, float("nan")), "expected a finite number"),
        ("per_query.parquet", lambda of: of["query_id"].__setitem__(1, of["query_id"][0]), "expected each once"),
        ("layers/relevance.parquet", lambda of: [of[one].append(of[one][0]) for one in of], "judged twice"),
        ("layers/items.parquet", lambda of: of["vector_digest"].__setitem__(4, None), "has nothing in row 4"),
        ("layers/items.parquet", lambda of: of.update(vector_digest=[1] * len(of["id"])), "holds int64; expected text"),
        ("layers/items.parquet", lambda of: of["id"].__setitem__(2, None), "'id' has nothing in row 2"),
    ],
)  # fmt: skip
def test_what_a_file_cannot_say_is_refused_and_not_compared(
    tmp_path: Path, name: str, edit: Callable[[dict[str, list[Any]]], Any], said: str
) -> None:
    run = run_vectors(tmp_path / "a", world())
    copy = Run(shutil.copytree(run.path, tmp_path / "copy"))
    change_columns(copy, name, edit)
    with pytest.raises(ValueError, match=said):
        certify(run.path, copy.path)


@pytest.mark.parametrize("depth", ["100", None, 1.5])
def test_a_depth_that_is_no_number_is_an_error_with_its_name(tmp_path: Path, depth: Any) -> None:
    run = run_vectors(tmp_path / "a", world())
    run.manifest["parameters"]["depth"] = depth
    with pytest.raises(ValueError, match=r"manifest\.json: the parameter depth is"):
        certify(run, run)


def test_a_file_of_one_run_only_is_said(tmp_path: Path) -> None:
    run = run_vectors(tmp_path / "a", world())
    without = run_vectors(tmp_path / "b", world(), keep_embeddings=False)
    assert certify(without, run).notes == (f"Only {run.path.name} has layers/embeddings.safetensors.",)
    assert certify(run, run).notes == ()


def test_two_sides_of_one_name_are_refused_before_one_overwrites_the_other(tmp_path: Path) -> None:
    side = Embeddings(np.eye(3, 2), ("a", "b", "c"), "image")
    prepared = SimpleNamespace(images=side, texts=Embeddings(np.eye(2), ("q", "r"), "image"))
    with pytest.raises(ValueError, match="both sides are of the modality 'image'"):
        _write_embeddings(tmp_path, prepared, keep=True)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
