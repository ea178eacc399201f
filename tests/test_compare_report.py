"""The comparison report: executed once, the same from the folder alone, every figure also as PDF beside its numbers."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.worlds import write_vectors
from workbench import html, plots, report
from workbench.cli import main
from workbench.evaluate import evaluate
from workbench.html.display import DRAWINGS
from workbench.plots import comparison
from workbench.plots.vector import pdf
from workbench.runs import Run


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of each of two systems, through the command line; the runs are then taken away."""
    folder = tmp_path_factory.mktemp("compare")
    for name, noise in (("old", 1.6), ("new", 1.0)):
        for seed in range(2):
            source = write_vectors(folder / f"{name}-seed{seed}.npz", n_images=30, noise=noise + 0.05 * seed)
            evaluate(source, out=folder / "runs", n_resamples=100, repairs=[])
    runs = sorted(map(str, (folder / "runs").iterdir()), reverse=True)
    (folder / "p.json").write_text(
        '[{"metric": "hit@1", "direction": "t2i", "at least": 0.2, "reason": "<b>rule</b>"}]'
    )
    (folder / "old.csv").write_text("system,source,t2i/hit@1\n<script>alert(1)</script>,Smith,60\n")
    done = CliRunner().invoke(
        main,
        ["compare", *runs, "--out", str(folder / "out"), "--over", "seed", "--names", "clip", "-p", "n_resamples=200",
         "-p", f"policy={folder / 'p.json'}", "-p", f"published={folder / 'old.csv'}"],
        catch_exceptions=False,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    page = Path(done.stdout.strip())
    assert page.name == "report.html"
    shutil.rmtree(folder / "runs")
    (folder / "p.json").unlink()
    return page.parent


def test_the_page_answers_the_question_and_loads_nothing(drawn: Path) -> None:
    page = (drawn / "report.html").read_text(encoding="utf-8")
    assert html.loaded_resources(page) == []
    for words in ("Is the gain real?", "Which places could each system hold?", "the gain is real", "better / alike"):
        assert words in page
    for finding in Run(drawn).findings:
        assert html.display.escape(finding.name) in page
    assert "<script>alert" not in page
    assert "Traceback" not in page
    assert not re.search(r">\s*[+-]?nan\b", page)


def test_drawing_needs_the_folder_alone(drawn: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(drawn, moved)
    for name in ("report.html", "report.ipynb"):
        (moved / name).unlink()
    (moved / "figures" / "stale.pdf").write_bytes(b"old")
    report.draw("compare", moved, progress=False)
    for path in drawn.rglob("*"):
        if path.is_file():
            assert (moved / path.relative_to(drawn)).read_bytes() == path.read_bytes(), path.name
    assert not (moved / "figures" / "stale.pdf").exists()
    with pytest.raises(ValueError, match="run of the compare report, not of audit"):
        report.draw("audit", moved, progress=False)


def test_every_figure_is_a_pdf_beside_its_numbers(drawn: Path) -> None:
    names = {path.stem for path in (drawn / "figures").glob("*.pdf")}
    assert names == {path.stem for path in (drawn / "figures").glob("*.csv")}
    page = (drawn / "report.html").read_text(encoding="utf-8")
    assert len(names) == page.count('<figure class="wb wb-figure">')
    assert {"differences-first", "outcomes-second", "places-first", "seeds"} <= names
    for name in names:
        content = (drawn / "figures" / f"{name}.pdf").read_bytes()
        assert content.startswith(b"%PDF")
        assert b"/FontFile2" in content  # TrueType, embedded
        assert b"/Type3" not in content
        assert b"CreationDate" not in content
    rows = list(csv.DictReader((drawn / "figures" / "differences-first.csv").open()))
    gains = [one for one in Run(drawn).results["gains"] if one.metric == "t2i/hit@1"]
    assert [float(row["difference"]) for row in rows] == [100 * one.difference for one in gains]
    notebook = json.loads((drawn / "report.ipynb").read_text(encoding="utf-8"))
    assert DRAWINGS not in json.dumps(notebook)


def test_figures_are_no_evidence_and_change_no_digest(drawn: Path) -> None:
    assert not [name for name in Run(drawn).manifest["files"] if name.startswith("figures/")]


def test_start_in_a_kernel_and_the_report_of_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = evaluate(write_vectors(tmp_path / "one.npz", n_images=12), out=tmp_path, n_resamples=100, repairs=[])
    monkeypatch.chdir(tmp_path)
    namespace = {**report.schema_of("compare").defaults, "runs": [run.path.name], "n_resamples": 100}
    shown = report.start("compare", namespace)
    assert shown.first == "t2i"
    calls = [shown.findings, shown.protocol, shown.table, shown.seeds, shown.factors, shown.courses, shown.policy,
             shown.certificates, shown.files, shown.summary]  # fmt: skip
    assert all(call()._repr_html_() for call in calls)
    for call in (shown.gains, shown.differences, shown.outcomes, shown.changed, shown.places):
        assert all(call(direction).text for direction in (shown.first, shown.second, ""))
    assert "There is one run" in shown.gains("t2i").text


def test_a_figure_brings_its_vector_form_and_full_numbers() -> None:
    fig, ax = plots.figure()
    ax.plot([1, 2], [3, 4])
    table = {"name": ["=cmd", "b"], "value": [1 / 3, float("nan")]}
    shown = html.figure(fig, alt="two points", caption="Read it.", table=table)
    (drawing,) = shown.drawings
    assert drawing["csv"] == f"name,value\n'=cmd,{1 / 3!r}\nb,\n"
    assert html.together([shown, html.table(table, caption="x")]).drawings == (drawing,)
    assert html.table(table, caption="x")._repr_mimebundle_() == {}
    assert shown._repr_mimebundle_() == {DRAWINGS: [drawing]}
    assert pdf(fig) == pdf(fig)


def test_plots_draw_what_they_are_given() -> None:
    ax = comparison.outcomes(["a", "b"], [3, 0], [90, 97], [7, 3])
    widths = [patch.get_width() for patch in ax.patches]
    assert widths == [3, 0, -7, -3]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a (90 alike)", "b (97 alike)"]
    ticks = [label.get_text() for label in ax.get_xticklabels()]
    assert not any(text.startswith(("-", "−")) for text in ticks)
    ax = comparison.course(
        [1, 2, 3], ["1", "2", "3"], [10, 30, 20], [5, 25, 15], [15, 35, 25], [40, 20, 30], chosen=0, best=1,
        unit="hit@1 (%)", field="step",
    )  # fmt: skip
    marked = {text.get_text(): text.xy for text in ax.texts}
    assert marked == {"the test would choose": (2, 30), "validation chose": (1, 10)}
    ax = comparison.places(["a", "b", "c"], [1, 1, 3], [2, 2, 3], [2, 1, 3])
    (dots,) = ax.lines
    assert dots.get_xdata().tolist() == [2, 1, 3]
    assert dots.get_ydata().tolist() == [2, 1, 0]
