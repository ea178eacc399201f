"""The notebooks run where users run them: under bare papermill, and cell by cell under nbval."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worlds import write_vectors
from workbench.shipped import find


def tiny_copy(folder: Path) -> Path:
    """The audit notebook with smaller defaults, as a user would edit it."""
    notebook = json.loads(find("notebooks/reports/audit.ipynb").read_text(encoding="utf-8"))
    source = write_vectors(folder / "vectors.npz", n_images=20)
    for cell in notebook["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            text = "".join(cell["source"])
            assert 'dataset = "scenes"' in text
            assert "n_resamples = 1000" in text
            text = text.replace('dataset = "scenes"', f"dataset = {source!r}")
            cell["source"] = text.replace("n_resamples = 1000", "n_resamples = 200").splitlines(keepends=True)
    path = folder / "audit.ipynb"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return path


def test_bare_papermill_refuses_a_misspelt_parameter(tmp_path: Path) -> None:
    import papermill

    with pytest.raises(papermill.PapermillExecutionError, match="unknown parameter 'sede'; did you mean 'seed'"):
        papermill.execute_notebook(
            str(find("notebooks/reports/audit.ipynb")), str(tmp_path / "out.ipynb"), {"sede": 3},
            kernel_name="python3", cwd=str(tmp_path), progress_bar=False,
        )  # fmt: skip
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_every_cell_runs_under_nbval(tmp_path: Path) -> None:
    path = tiny_copy(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-p", "no:cacheprovider", path.name],
        cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False,
        env={**os.environ, "PYTEST_ADDOPTS": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "metrics.json").exists()
