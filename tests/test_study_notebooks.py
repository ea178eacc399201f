"""The notebooks of studies: every study is told in one, every cell is clean, and each runs under bare papermill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from workbench import html
from workbench.report.studies import Lab, families, schema_of, start
from workbench.studies import STUDIES

FAMILIES = families()


def cells(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return found


def source(path: Path) -> str:
    return "\n".join("".join(cell["source"]) for cell in cells(path))


@pytest.mark.parametrize("key", STUDIES)
def test_every_study_is_told_in_the_notebook_of_its_family(key: str) -> None:
    text = source(FAMILIES[STUDIES[key].family])
    assert f"## {key} " in text
    for shown in ("card", "arms", "verdict"):
        assert f'lab.{shown}("{key}")' in text


@pytest.mark.parametrize("family", FAMILIES)
def test_stored_without_outputs_and_formulas_can_be_drawn(family: str) -> None:
    import nbformat

    code = [cell for cell in cells(FAMILIES[family]) if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert code[0]["metadata"]["tags"] == ["parameters"]
    assert set(schema_of(family).defaults) == {"paper", "seeds", "size", "dataset"}
    page = html.render(nbformat.read(FAMILIES[family], as_version=4), title=family)
    assert "<math" in page


def test_a_notebook_shows_what_was_asked_for() -> None:
    lab = start("measuring", {"paper": "S11", "seeds": 2, "size": "tiny", "dataset": ""})
    assert lab.result("S27") is None
    assert "was not asked for" in lab.arms("S27").text
    assert lab.card("S11").text.startswith("paper: Edward Vendrow")
    with pytest.raises(ValueError, match="no study of 'S99'"):
        Lab(paper="S99")
    with pytest.raises(ValueError, match="size"):
        start("measuring", {"paper": "", "seeds": 0, "size": "huge", "dataset": ""})


def test_arms_and_verdict_are_drawn_and_seeds_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lab = Lab(paper="S38", seeds=2, size="tiny")
    assert "condition" in lab.arms("S38").body
    assert "Could it fail?" in lab.verdict("S38").text
    assert len(list((tmp_path / "runs" / "studies" / "seeds" / "S38").rglob("seed-*.json"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_runs_under_bare_papermill(family: str, tmp_path: Path) -> None:
    import papermill

    done = tmp_path / "done.ipynb"
    papermill.execute_notebook(
        str(FAMILIES[family]), str(done), {"size": "tiny"}, kernel_name="python3", cwd=str(tmp_path),
        progress_bar=False, execution_timeout=300,
    )  # fmt: skip
    assert html.export(done, tmp_path / "done.html", title=family) > 10_000
