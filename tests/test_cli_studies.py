"""`workbench studies` and `workbench cite S06` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from workbench import html
from workbench.cli import main
from workbench.shipped import find
from workbench.studies import STUDIES, read_ledger


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("studies")
    done = run("studies", "run", "S38", "S11", "--size", "tiny", "--seeds", "3", "-q", "--out", str(out))
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(out / "ledger.html")
    return out


def test_the_page_is_whole_and_loads_nothing(folder: Path) -> None:
    page = (folder / "ledger.html").read_text(encoding="utf-8")
    assert html.loaded_resources(page) == []
    for key in ("S11", "S38"):
        assert STUDIES[key].card.link in page
        anchor = html.anchor(f"{key} {STUDIES[key].card.title}")
        assert f'href="#{anchor}"' in page
        assert f'id="{anchor}"' in page
    manifest, results = read_ledger(folder / "ledger.json")
    assert manifest["size"] == "tiny"
    assert [one.card.key for one in results] == ["S11", "S38"]


def test_finished_seeds_are_taken_from_the_folder(folder: Path) -> None:
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("seed-*.json")}
    done = run("studies", "run", "S11", "--size", "tiny", "--seeds", "3", "-q", "--out", str(folder / "again"))
    assert done.exit_code == 0
    again = run("studies", "run", "S38", "S11", "--size", "tiny", "--seeds", "3", "-q", "--out", str(folder))
    assert again.exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("seed-*.json") if "again" not in path.parts} == kept


def test_list_and_show_read_a_ledger(folder: Path) -> None:
    path = str(folder / "ledger.json")
    listed = run("studies", "list", "--ledger", path)
    assert [line[:3] for line in listed.stdout.splitlines()] == ["S11", "S38"]
    shown = run("studies", "show", "S11", "--ledger", path)
    assert "verdict:" in shown.stdout
    assert STUDIES["S11"].card.claim in shown.stdout
    missing = run("studies", "show", "S06", "--ledger", path)
    assert missing.exit_code == 2
    assert "`workbench studies run S06` measures it" in missing.stderr


def test_other_code_is_said(folder: Path, tmp_path: Path) -> None:
    content = json.loads((folder / "ledger.json").read_text(encoding="utf-8"))
    content["studies"]["S11"][0]["code"] = "0" * 64
    path = tmp_path / "ledger.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    lines = run("studies", "list", "--ledger", str(path)).stdout.splitlines()
    assert [line.endswith("(measured with other code)") for line in lines] == [True, False]


def test_the_shipped_ledger_has_every_study() -> None:
    manifest, results = read_ledger(find("data/ledger.json"))
    assert {one.card.key for one in results} == set(STUDIES)
    assert all(len(one.seeds) >= 5 for one in results)
    assert manifest["size"] in ("small", "full")
    listed = run("studies", "list")
    assert listed.exit_code == 0
    assert len(listed.stdout.splitlines()) == len(results)


def test_a_hostile_ledger_stays_text(folder: Path, tmp_path: Path) -> None:
    from workbench.report.ledger import page

    content = json.loads((folder / "ledger.json").read_text(encoding="utf-8"))
    for entries in content["studies"].values():
        entries[0]["card"]["title"] = "<script>alert(1)</script> *a* $x$"
        entries[0]["card"]["claim"] = "<img src=x onerror=alert(1)>"
        entries[0]["data"] = "</h2><b>"
    path = tmp_path / "ledger.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    manifest, results = read_ledger(path)
    drawn = page(results, manifest)
    assert "<script" not in drawn
    assert "<img src=x" not in drawn


def test_cite_a_paper() -> None:
    done = run("cite", "S06")
    assert done.exit_code == 0
    assert "@misc{wang2023balance," in done.stdout
    assert "@software{workbench," in done.stdout
