"""Reports: the notebook drawn from a run folder, one offline HTML file, the same by every route, failures kept."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.worlds import write_vectors
from workbench import html, report
from workbench.cli import main
from workbench.evaluate import evaluate
from workbench.failures import ReportFailed
from workbench.parameters import ParameterError
from workbench.runs import Run


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run on the built-in data with the built-in model, report included, through the command line."""
    out = tmp_path_factory.mktemp("runs")
    arguments = ["report", "audit", "-p", "n_images=48", "-p", "n_resamples=200", "--out", str(out)]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (folder,) = out.iterdir()
    assert str(folder / "report.html") in done.stdout
    return folder


@pytest.fixture(scope="module")
def page(scenes: Path) -> str:
    return (scenes / "report.html").read_text(encoding="utf-8")


def test_page_loads_nothing(page: str) -> None:
    assert html.loaded_resources(page) == []
    assert not re.search(r"<script[^>]+src=|<link[^>]+href=[\"']http|url\(\s*[\"']?http", page)


def test_page_says_everything(page: str, scenes: Path) -> None:
    for finding in Run(scenes).findings:
        assert finding.name in page
    value = Run(scenes).metrics["t2i/hit@1"]["value"]
    assert f"{100 * value:.2f}" in page
    for heading in ("What was found", "What must be said beside the numbers", "Would a repair help?"):
        assert heading in page
    assert "Traceback" not in page


def test_cautions_stand_beside_the_intervals(scenes: Path) -> None:
    found = report.load_report(scenes).cautions()
    assert "close to 0 or 1 for 48 clusters" in repr(found)
    assert "i2t/hit@10" in repr(found)


def test_every_picture_has_words(page: str) -> None:
    pictures = re.findall(r"<img [^>]*>", page)
    assert len(pictures) > 20
    assert all(re.search(r'alt="[^"]{3,}"', tag) for tag in pictures)
    figures = re.findall(r'<figure class="wb wb-figure">.*?</figure>', page, re.DOTALL)
    assert len(figures) >= 7
    assert all("Data behind this figure" in figure and "<table" in figure for figure in figures)


def test_code_is_folded_and_contents_listed(page: str) -> None:
    assert page.count("<summary") > 20
    assert "<nav" in page
    text = re.sub(r"<[^>]+>", "", page)
    assert 'audit = workbench.report.start("audit", globals())' in text.replace("&quot;", '"')


def test_notebook_keeps_no_place_and_no_time(scenes: Path) -> None:
    text = (scenes / "report.ipynb").read_text(encoding="utf-8")
    assert str(scenes.parent) not in text
    assert ".partial" not in text
    assert "papermill" not in json.loads(text)["metadata"]
    assert not re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d", text)


def test_two_routes_one_result(scenes: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        main, ["evaluate", "-p", "n_images=48", "-p", "n_resamples=200", "--out", str(tmp_path)], catch_exceptions=False
    )
    folder = Path(done.stdout.strip())
    assert folder.name == scenes.name
    for name in ("metrics.json", "findings.json", "results.json", "layers/items.parquet", "layers/embeddings.json"):
        assert (folder / name).read_bytes() == (scenes / name).read_bytes(), name
    assert not (folder / "report.html").exists()
    assert Run(folder).manifest["vectors"] == {"from cache": 288, "encoded now": 0}
    before = (folder / "metrics.json").read_bytes()
    report.report("audit", {**report.schema_of("audit").defaults, "run": str(folder)}, out=tmp_path)
    assert (folder / "report.html").read_bytes() == (scenes / "report.html").read_bytes()
    assert (folder / "report.ipynb").read_bytes() == (scenes / "report.ipynb").read_bytes()
    assert (folder / "metrics.json").read_bytes() == before


def test_drawing_needs_neither_data_nor_model(tmp_path: Path) -> None:
    source = write_vectors(tmp_path / "vectors.npz", n_images=30)
    run = evaluate(source, out=tmp_path, n_resamples=200)
    (tmp_path / "vectors.npz").unlink()
    moved = tmp_path / "elsewhere"
    shutil.move(run.path, moved)
    assert report.draw("audit", moved, progress=False) > 100_000
    assert "not measurable" in (moved / "report.html").read_text(encoding="utf-8")


def test_hostile_captions_stay_text(tmp_path: Path) -> None:
    import numpy as np

    from tests.worlds import paired_vectors

    world = paired_vectors(n_images=20)
    world["caption"] = np.array(["<script>alert(1)</script>", "שלום <b>עולם</b>", "名前" * 60] * 20)
    np.savez(tmp_path / "evil.npz", **world)
    run = evaluate(f"embeddings:{tmp_path / 'evil.npz'}", out=tmp_path, n_resamples=200)
    report.draw("audit", run.path, progress=False)
    text = (run.path / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert 'dir="auto"' in text


def test_failed_drawing_is_kept(tmp_path: Path) -> None:
    source = write_vectors(tmp_path / "vectors.npz", n_images=12)
    run = evaluate(source, out=tmp_path, n_resamples=200)
    (run.path / "results.json").write_text('{"schema": 99}')
    with pytest.raises(ReportFailed, match="schema 99, this version reads 1") as caught:
        report.draw("audit", run.path, progress=False)
    assert (run.path / "report.failed.ipynb").exists()
    assert "audit = workbench.report.start" in str(caught.value)
    assert not (run.path / "report.html").exists()


def test_start_checks_in_the_kernel() -> None:
    namespace = {**report.schema_of("audit").defaults, "datset": "scenes"}
    with pytest.raises(ParameterError, match="unknown parameter 'datset'; did you mean 'dataset'"):
        report.start("audit", namespace)
    with pytest.raises(ValueError, match="no report is called 'audti'"):
        report.schema_of("audti")
