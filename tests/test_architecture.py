"""The structure as promised: layers with arrows one way, light imports, small files, names legal everywhere."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "workbench"
LAYERS = [
    {"types", "failures", "files", "shipped", "threads"},
    {"metrics", "statistics", "search", "compose", "fusion", "codec", "machine", "meter", "parameters"},
    {"normalize"},
    {"datasets"},
    {"encoders"},
    {"adapt", "diagnostics"},
    {"studies"},
    {"plots"},
    {"html"},
    {"judging"},
    {"evaluate", "runs"},
    {"listing", "report"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
SAME_ROW = {("evaluate", "runs")}
HEAVY = {
    "torch",
    "torchvision",
    "open_clip",
    "matplotlib",
    "sklearn",
    "umap",
    "papermill",
    "nbconvert",
    "PIL",
    "pyarrow",
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    """The first folder or the module below the package; "" for the package's own __init__."""
    inside = path.relative_to(PACKAGE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem.replace("__init__", "")


def module_level_imports(path: Path) -> list[str]:
    """Dotted names imported when the module is imported, those under ``if TYPE_CHECKING`` left out."""
    names = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names += [f"{module}.{alias.name}" for alias in node.names] if module == "workbench" else [module]
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    mine = part_of(path)
    if not mine:
        return
    for name in module_level_imports(path):
        if name.startswith("workbench."):
            other = name.split(".")[1]
            if other == mine or (mine, other) in SAME_ROW or other not in LEVEL:
                continue
            assert LEVEL[other] < LEVEL[mine], f"{path.name} ({mine}) imports {other}, which is not below it"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    heavy = {name.split(".")[0] for name in module_level_imports(path)} & HEAVY
    assert not heavy, f"{path.name} imports {heavy} at module level"


def test_every_part_has_a_layer() -> None:
    assert {part_of(path) for path in MODULES} - {""} == set(LEVEL)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_are_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 450, f"{path.name} is {text.count(chr(10))} lines: is it still one idea?"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert length <= 50, f"{path.name}:{node.lineno} {node.name} has a body of {length} lines"


def test_no_pickle_no_eval_no_print() -> None:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                assert name != "print", f"{path.name}:{node.lineno} prints"
                assert not (isinstance(node.func, ast.Name) and name in ("eval", "exec")), f"{path.name}:{node.lineno}"
                for keyword in node.keywords:
                    value = getattr(keyword.value, "value", None)
                    assert (keyword.arg, value) not in (("allow_pickle", True), ("weights_only", False)), path.name
            if isinstance(node, ast.Import):
                assert "pickle" not in [alias.name for alias in node.names], path.name


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def test_computing_leaves_torch_alone() -> None:
    code = (
        "import sys, workbench, workbench.metrics, workbench.statistics, workbench.search, workbench.normalize,"
        " workbench.datasets, workbench.diagnostics.hubness, workbench.evaluate, workbench.cli\n"
        "heavy = {'torch', 'open_clip', 'matplotlib', 'papermill', 'umap', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    found = run_python(code)
    assert found.returncode == 0, found.stderr


def test_import_is_fast() -> None:
    code = "import time; t = time.perf_counter(); import workbench; print(time.perf_counter() - t)"
    fastest = min(float(run_python(code).stdout) for _ in range(3))
    assert fastest < 0.3


def test_architecture_rules_can_fail(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("import torch\nfrom workbench import cli\nfrom workbench.report import start\n")
    assert module_level_imports(bad) == ["torch", "workbench.cli", "workbench.report"]
