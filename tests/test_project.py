"""The files of the project agree: dependency lists, lock, cleared notebooks, licence, no machine facts."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {"matplotlib": "matplotlib-base", "torch": "pytorch", "open-clip-torch": "open-clip-torch"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements() -> dict[str, str]:
    """Name -> lower bound of every dependency, the development ones included."""
    stated = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    pairs = (re.fullmatch(r"([A-Za-z0-9_.-]+)>=([0-9.]+)", line) for line in stated)
    return {normal(match[1]): match[2] for match in pairs if match}


def test_every_requirement_has_a_lower_bound() -> None:
    assert len(requirements()) == len(PROJECT["dependencies"]) + len(PROJECT["optional-dependencies"]["dev"])


def conda() -> dict[str, str]:
    lines = (ROOT / "environment.yml").read_text().splitlines()
    found = (re.match(r"  - ([a-z0-9_.-]+) >=([0-9.]+)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def test_conda_environment_agrees_with_pyproject() -> None:
    wanted = {CONDA_NAMES.get(name, name): bound for name, bound in requirements().items()}
    assert {name: bound for name, bound in conda().items() if name != "python"} == wanted
    text = (ROOT / "environment.yml").read_text()
    assert "--editable ." in text
    assert re.search(r"pytorch >=[0-9.]+ cpu\*", text), "environment.yml must ask for a CPU build"
    assert conda()["python"] == PROJECT["requires-python"].removeprefix(">=")


def test_lock_holds_every_requirement_at_an_allowed_version() -> None:
    pins = dict(re.findall(r"^([a-z0-9_.-]+)==([0-9.a-z]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))

    def version(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in re.findall(r"\d+", text)[:3])

    for name, bound in requirements().items():
        assert name in pins, f"{name} is not locked; run `make lock`"
        assert version(pins[name]) >= version(bound), f"{name} {pins[name]} is locked below {bound}"


NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_cleared_and_thin(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert set(notebook["metadata"]) <= {"kernelspec", "language_info"}
    tagged = [cell for cell in code if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == (1 if "reports" in path.parts else len(tagged))
    for cell in code:
        kept = "keep_output" in cell["metadata"].get("tags", [])
        assert (not cell["outputs"] and cell["execution_count"] is None) or kept
        if "nbval-check-output" in cell["metadata"].get("tags", []):
            assert cell["outputs"], "a checked cell without stored output checks nothing"
        lines = "".join(cell["source"]).splitlines()
        if "reports" in path.parts and cell not in tagged:
            assert len(lines) <= 12
            assert not any(re.match(r"(def|class) |!|.*filterwarnings", line) for line in lines)


def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_no_machine_paths_in_text_files() -> None:
    pattern = re.compile(r"(?<![\w.])/(?:work|farm|root|tmp/w|home)/[\w./-]+")
    for path in tracked():
        if path.suffix in {".py", ".md", ".yml", ".toml", ".cff", ".ipynb", ".json", ".lock", ""} and path.is_file():
            found = [hit for hit in pattern.findall(path.read_text(encoding="utf-8")) if "/home/ada" not in hit]
            assert not found, f"{path.name} names {found[0]}"


def test_small_files_only_and_licence() -> None:
    assert all(path.stat().st_size < 8_000_000 for path in tracked() if path.is_file())
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "Apache-2.0"
    assert (ROOT / "workbench" / "py.typed").exists()


def test_no_module_is_ignored() -> None:
    """A folder named like one that .gitignore names would pass every test here and be missing from a clone."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = [
        "git",
        "-C",
        str(ROOT),
        "ls-files",
        "--others",
        "--ignored",
        "--exclude-standard",
        "-z",
        "workbench",
        "tests",
    ]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    assert [name for name in listed if name.endswith(".py")] == []
