"""The lessons: they run from top to bottom, offline and fast, and a number that is stated and wrong stops them."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from workbench.shipped import find

LESSONS = sorted(find("notebooks/learn").glob("*.ipynb"))
Cells = list[dict[str, Any]]


def read(path: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def code_cells(path: Path) -> Cells:
    return [cell for cell in read(path)["cells"] if cell["cell_type"] == "code"]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def run(notebook: Path, folder: Path, parameters: dict[str, Any] | None = None) -> Cells:
    """The executed code cells; the folder it runs in is empty, so that nothing on this machine can help it."""
    import papermill

    done = papermill.execute_notebook(
        str(notebook), str(folder / "done.ipynb"), parameters or {}, kernel_name="python3", cwd=str(folder),
        progress_bar=False, execution_timeout=120,
    )  # fmt: skip
    return [cell for cell in done["cells"] if cell["cell_type"] == "code"]


def test_there_are_lessons() -> None:
    assert [path.name for path in LESSONS] == sorted(
        path.name for path in LESSONS if re.match(r"\d\d_\w+\.", path.name)
    )
    assert LESSONS


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_stored_without_outputs_and_in_short_cells(path: Path) -> None:
    notebook = read(path)
    cells = notebook["cells"]
    assert [cell["id"] for cell in cells] == [f"c{place:02d}" for place in range(1, len(cells) + 1)]
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    tagged = [cell for cell in code_cells(path) if cell["metadata"].get("tags") == ["parameters"]]
    assert tagged == code_cells(path)[:1]
    for cell in code_cells(path):
        assert (cell["outputs"], cell["execution_count"]) == ([], None)
        assert len(cell["source"]) <= 12, source(cell)
        assert max(map(len, source(cell).splitlines())) <= 120, source(cell)
        assert not re.search(r"^\s*(def |class |print\(|!|%)|filterwarnings|https?:", source(cell), re.MULTILINE), (
            source(cell)
        )


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_imports_are_of_this_package_and_numpy(path: Path) -> None:
    found = re.findall(r"^\s*(?:from|import) (\w+)", "\n".join(map(source, code_cells(path))), re.MULTILINE)
    assert set(found) <= {"numpy", "matplotlib", "workbench"}


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_runs_within_a_minute_and_shows_things(path: Path, tmp_path: Path) -> None:
    start = time.perf_counter()
    cells = run(path, tmp_path)
    assert time.perf_counter() - start < 60
    kinds = [kind for cell in cells for output in cell["outputs"] for kind in output.get("data", {})]
    assert kinds.count("text/html") >= 5
    assert "image/png" in str(cells)
    streams = [output for cell in cells for output in cell["outputs"] if output["output_type"] in ("stream", "error")]
    assert not streams
    assert [file.name for file in tmp_path.iterdir()] == ["done.ipynb"]


@pytest.mark.slow
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_holds_for_other_seeds_and_sizes(path: Path, tmp_path: Path) -> None:
    for number, parameters in enumerate(({"seed": 7}, {"seed": 3, "n_images": 200})):
        folder = tmp_path / str(number)
        folder.mkdir()
        run(path, folder, parameters)


def without_drawing(notebook: dict[str, Any]) -> dict[str, Any]:
    """The cells that the questions and early assertions need: no figures, and not the part with a trained model."""
    left_out = re.compile(r"plots\.(figure|panels)\(|\btongues\b")
    kept = [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and not left_out.search(source(cell))]
    return {**notebook, "cells": kept}


def broken(path: Path, folder: Path, right: str, wrong: str) -> Path:
    text = json.dumps(without_drawing(read(path)))
    assert text.count(json.dumps(right)[1:-1]) == 1, f"{right} must stand in one cell, once"
    copy = folder / path.name
    copy.write_text(text.replace(json.dumps(right)[1:-1], json.dumps(wrong)[1:-1]), encoding="utf-8")
    return copy


@pytest.mark.parametrize(
    ("lesson", "right", "wrong"),
    [
        (0, 'map_10["ranx"].value, 3) == 0.181', 'map_10["ranx"].value, 3) == 0.182'),
        (0, "assert shares[0] == 1.0", "assert shares[0] == 0.99"),
        (1, "assert (plane.occurrence == counts[3]).all()", "assert (plane.occurrence == counts[2]).all()"),
        (1, "world = hubby_world(n_gallery=n_images, seed=seed)", "world = hubby_world(hub_strength=0.01)"),
        (1, "bank_shift=shifts[place[1]]", "bank_shift=0"),
        (3, "assert round(1 / (1 + 6), 3) == 0.143", "assert round(1 / (1 + 6), 3) == 0.144"),
        (3, "true = truth(world)", "true = world.relevance"),
        (4, "shifted = world.gallery + arrow", "shifted = world.gallery * 1.1"),
    ],
)
def test_a_wrong_number_stops_the_lesson(lesson: int, right: str, wrong: str, tmp_path: Path) -> None:
    import papermill

    with pytest.raises(papermill.PapermillExecutionError, match="AssertionError"):
        run(broken(LESSONS[lesson], tmp_path, right, wrong), tmp_path)


ANSWERS = [
    ["0.225", "0", "0.5208", '"hit"'],
    ["50", "0.913", "2", "1.193", "0"],
    ["0.6415", "0.06", "0.822", "9", "1"],
    ["55", "0.143", "1", "0.375", '"R"'],
    ["0.05", "1.414", "0.25", "1", "0.5"],
]


def answered(lesson: int, answers: list[str], folder: Path) -> list[str]:
    notebook = without_drawing(read(LESSONS[lesson]))
    fields = [cell for cell in notebook["cells"] if source(cell).startswith("mine = None")]
    assert len(fields) == len(answers)
    for cell, answer in zip(fields, answers, strict=True):
        cell["source"] = source(cell).replace("mine = None", f"mine = {answer}", 1)
    path = folder / LESSONS[lesson].name
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return [str(cell["outputs"][0]["data"]["text/plain"]) for cell in run(path, folder) if source(cell)[:4] == "mine"]


@pytest.mark.parametrize("lesson", range(len(LESSONS)))
def test_right_answers_are_taken(lesson: int, tmp_path: Path) -> None:
    assert answered(lesson, ANSWERS[lesson], tmp_path) == ["'right'"] * len(ANSWERS[lesson])


def test_an_open_answer_is_no_error_and_a_wrong_one_gets_a_hint(tmp_path: Path) -> None:
    import papermill

    with pytest.raises(papermill.PapermillExecutionError, match="how large can a share of five be"):
        answered(0, ["None", "None", "None", '"R"'], tmp_path)
    assert "not answered yet" in (tmp_path / "done.ipynb").read_text(encoding="utf-8")
