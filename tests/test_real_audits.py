"""Whole audits of real collections beside the checkout: photographs, emoji in 23 languages, abstracts, lists."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.own_encoders import Lsa, MobileNetCca, features_by_pixels
from workbench import datasets, report
from workbench.evaluate import evaluate
from workbench.html import loaded_resources
from workbench.runs import Run

Shared = Callable[[str], Path]
LANGUAGES = 23


def drawn(run: Run) -> str:
    report.draw("audit", run.path, progress=False)
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert loaded_resources(page) == []
    assert "Traceback" not in page
    return page


def finding(run: Run, name: str) -> str:
    return next(one.verdict for one in run.findings if one.name == name)


def photos(shared: Shared, out: Path) -> Run:
    """290 photographs and their captions as CLIP vectors; every photograph of a caption's class is right."""
    source = f"embeddings:{shared('data/clip_photos_290/embeddings.npz')}"
    return evaluate(source, out=out, slices=["label"], smallest_group=10, n_resamples=300)


def flickr(shared: Shared, out: Path) -> Run:
    """300 photographs never seen by a user's own encoder, which was fitted on the other 700."""
    folder, kept = shared("data/flickr8k_1000"), out / "flickr"
    stored = np.load(folder / "mobilenet_features.npz", allow_pickle=False)
    names, features = stored["files"].tolist(), stored["mobilenet_v2_1.0_224_quant"]
    with (folder / "captions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    place = {name: row for row, name in enumerate(names)}
    train = [row for row in rows if place[row["image"]] < 700]
    images = features[[place[row["image"]] for row in train]]
    known = features_by_pixels([folder / "images" / name for name in names], features)
    encoder = MobileNetCca(known, (images, [row["caption"] for row in train]), min_df=3)
    kept.mkdir()
    for name in names[700:]:
        shutil.copy(folder / "images" / name, kept / name)
    with (kept / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["image", "caption"])
        writer.writeheader()
        writer.writerows(row for row in rows if place[row["image"]] >= 700)
    return evaluate(f"folder:{kept}", encoder, out=out, n_resamples=300)


def cranfield(shared: Shared, out: Path) -> Run:
    """225 questions over 1,400 abstracts with graded judgements, read by latent semantic analysis."""
    source = f"cranfield:{shared('data/cranfield')}"
    corpus = [text for text in datasets.load(source).images.content if text.strip()]
    encoder = Lsa(corpus, 200, stop_words="english")
    return evaluate(source, encoder, out=out, n_resamples=300)


def emoji(shared: Shared, out: Path) -> Run:
    """Emoji and their names in 23 languages: half of them teach a small encoder, the other half is scored."""
    source, kept = shared("data/emoji_noto"), out / "emoji"
    stored = np.load(source / "mobilenet_features.npz", allow_pickle=False)
    features = dict(zip(stored["files"].tolist(), stored["mobilenet_v2_1.0_224_quant"], strict=True))
    with gzip.open(source / "annotations.jsonl.gz", "rt", encoding="utf-8") as file:
        entries = [entry for entry in map(json.loads, file) if entry["file"] in features and not entry["skin_tone"]]
    names = [(entry["file"], name, language) for entry in entries for language, name in entry["name"].items()]
    train, test = (
        [row for row in names if (list(features).index(row[0]) % 2 == 0) is wanted] for wanted in (True, False)
    )
    known = features_by_pixels([source / "png72" / name for name in features], np.stack(list(features.values())))
    images = np.stack([features[name] for name, _, _ in train])
    encoder = MobileNetCca(
        known, (images, [text for _, text, _ in train]), analyzer="char_wb", ngram_range=(2, 4), min_df=3
    )
    kept.mkdir()
    for name in {row[0] for row in test}:
        shutil.copy(source / "png72" / name, kept / name)
    with (kept / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("image", "caption", "language"), *test])
    return evaluate(f"folder:{kept}", encoder, out=out, n_resamples=300)


def lists(shared: Shared, out: Path) -> Run:
    """A run that took part in TREC 2003, of a system that nobody has any more."""
    source = f"run:{shared('data/trec_robust03/runs/input.humR03dc.gz')}"
    judged = str(shared("data/trec_robust03/qrels.txt.gz"))
    metrics = ["hit@1", "hit@10", "P@10", "AP", "nDCG@10"]
    return evaluate(source, out=out, qrels=judged, metrics=metrics, short_lists="as is", depth=50, n_resamples=300)


def test_photographs_by_label(shared: Shared, tmp_path: Path) -> None:
    run = photos(shared, tmp_path)
    found = run.results["slices t2i label"]
    assert len(found.groups) == 15  # 14 classes, and "(none)" for 41 photographs without one
    assert run.metrics["t2i/R@10"]["value"] < run.metrics["t2i/hit@10"]["value"]  # many right photographs each
    page = drawn(run)
    assert "label" in page
    assert "too small" in page or "(none)" in page


@pytest.mark.slow
def test_photographs_with_an_own_encoder(shared: Shared, tmp_path: Path) -> None:
    run = flickr(shared, tmp_path)
    assert run.metrics["t2i/hit@10"]["n"] == 1500
    assert run.metrics["t2i/hit@10"]["value"] > 5 * run.metrics["t2i/hit@10"]["chance"]
    assert "mobilenet + lsa by cca" in drawn(run)


@pytest.mark.slow
def test_abstracts(shared: Shared, tmp_path: Path) -> None:
    run = cranfield(shared, tmp_path)
    assert run.results["counts"].images == 1400
    assert {name.split("/")[0] for name in run.metrics} == {"q2d"}
    assert 0.3 < run.metrics["q2d/nDCG@10"]["value"] < 0.6
    drawn(run)


@pytest.mark.slow
def test_emoji_in_many_languages(shared: Shared, tmp_path: Path) -> None:
    run = emoji(shared, tmp_path)
    assert len(run.results["slices t2i language"].groups) == LANGUAGES
    drawn(run)


def test_lists_of_a_system_long_gone(shared: Shared, tmp_path: Path) -> None:
    run = lists(shared, tmp_path)
    means = json.loads(shared("golden/ir_pytrec_eval__robust03_means.json").read_text())["humR03dc"]
    entry = run.metrics["q2d/AP"]
    assert entry["worst"] - 1e-12 <= means["map"] <= entry["best"] + 1e-12
    assert finding(run, "q2d/hubness") == "not measurable"
    drawn(run)
